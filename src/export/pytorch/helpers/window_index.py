def window_index(height: int, width: int) -> Tensor:
    """For every two pixels of a window the row of a table of relative positions, [pixels, pixels]."""
    y = torch.arange(height).repeat_interleave(width)
    x = torch.arange(width).repeat(height)
    rows = y[:, None] - y[None, :] + height - 1
    return rows * (2 * width - 1) + x[:, None] - x[None, :] + width - 1
