class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of [N, C, ..]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
