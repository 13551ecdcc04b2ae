// Windows, and the parts of an image that adaptive pooling takes, along one axis: for pool.cu, and for its gradient.

// What a window covers along one axis: `from`, `from + step`, .. below `to`, and its length with padding.
struct Span { int from, to, step, length; };

DEV Span window(int at, int size, int kernel, int stride, int before, int after, int dilation) {
    int start = at * stride - before, end = start + (kernel - 1) * dilation + 1;
    end = min(end, size + after);
    Span span = {start, min(end, size), dilation, end - start};
    if (start < 0) span.from += (-start + dilation - 1) / dilation * dilation;
    return span;
}

DEV Span part(int at, int size, int parts) {
    Span span = {(int)((u64)at * size / parts), (int)(((u64)(at + 1) * size + parts - 1) / parts), 1, 0};
    span.length = span.to - span.from;
    return span;
}

// The rows and the columns of the image that make output pixel (p, q).
DEV Span rows_of(const Window& w, int adaptive, int p) {
    return adaptive ? part(p, w.height, w.out_height) : window(p, w.height, w.r, w.stride_h, w.pad_top, w.pad_bottom, w.dilation_h);
}
DEV Span cols_of(const Window& w, int adaptive, int q) {
    return adaptive ? part(q, w.width, w.out_width) : window(q, w.width, w.s, w.stride_w, w.pad_left, w.pad_right, w.dilation_w);
}

// What the values of a window that has some inside the image are divided by.
DEV float share_of(PoolMode mode, const Span& rows, const Span& cols) {
    switch (mode) {
    case PoolMode::Max: return 1.f;
    case PoolMode::Mean: return (float)(rows.length * cols.length);
    case PoolMode::MeanInside: return (float)((rows.to - rows.from) * (cols.to - cols.from));
    }
    return NO_NUMBER;
}
