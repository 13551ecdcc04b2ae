def window_coords(window: tuple[int, int], pretrained: tuple[int, int]) -> Tensor:
    """The relative positions of two pixels of a window on a logarithmic scale, [1, 2 h - 1, 2 w - 1, 2]."""
    steps = [8 * torch.arange(1 - n, n, dtype=torch.float64) / (of - 1) for n, of in zip(window, pretrained)]
    grid = torch.stack(torch.meshgrid(*steps, indexing="ij"), -1)[None]
    return (torch.sign(grid) * torch.log2(grid.abs() + 1) / 3).float()
