class StochasticDepth(nn.Module):
    """In training, samples are zeroed with probability p and the others divided by 1 - p."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        return x * F.dropout(x.new_ones([x.shape[0]] + [1] * (x.dim() - 1)), self.p, True)
