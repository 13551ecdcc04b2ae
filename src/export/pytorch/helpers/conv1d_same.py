class Conv1dSame(nn.Conv1d):
    """A convolution of sequences that pads as TensorFlow does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, self.kernel_size, self.stride, self.dilation))
