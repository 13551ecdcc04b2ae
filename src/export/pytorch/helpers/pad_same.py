def pad_same(x: Tensor, kernel, stride, dilation) -> Tensor:
    """Zeros around an image as TensorFlow puts them: the odd pixel goes right and below."""
    axes = len(kernel)
    stride = (stride,) * axes if isinstance(stride, int) else stride
    dilation = (dilation,) * axes if isinstance(dilation, int) else dilation
    pads: list[int] = []
    for size, k, s, d in zip(x.shape[-axes:], kernel, stride, dilation):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads)
