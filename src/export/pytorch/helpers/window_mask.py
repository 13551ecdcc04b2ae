def window_mask(size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """[windows, 1, pixels, pixels]: -100 where two pixels were no neighbours before the image was rolled, else 0."""
    strips = []
    for n, w, s in zip(size, window, shift):
        at = torch.arange(n)
        strips.append((at >= n - w).long() + (at >= n - s).long() if n > w else 0 * at)
    region = 3 * strips[0][:, None] + strips[1][None, :]
    rows, columns = size[0] // window[0], size[1] // window[1]
    region = region.reshape(rows, window[0], columns, window[1]).transpose(1, 2)
    region = region.reshape(rows * columns, window[0] * window[1])
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, -100.0)[:, None]
