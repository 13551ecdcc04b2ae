class AlwaysDropout(nn.Module):
    """Dropout that draws at inference too, there one draw for the whole batch; the last `axes` share a draw."""

    def __init__(self, p: float, axes: int = 0) -> None:
        super().__init__()
        self.p = p
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0] if self.training else 1
        shape = [rows, *x.shape[1 : x.dim() - self.axes]] + [1] * self.axes
        return x * F.dropout(x.new_ones(shape), self.p, True)
