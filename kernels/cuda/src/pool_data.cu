// Gradients of pooling: each input gathers from the windows that see it, so that nothing is added twice at once.
//
// Formula   a mean's gradient is shared by all of its window; a maximum's goes to the first value that is as large, row
//           by row, as in PyTorch: found by going through the window again
// Tile      a thread has eight channels of one input
// Roofline  memory's; windows overlap in the caches

// The first and the last window that may see input `i`.
DEV void seen_by(int i, int size, int out, int kernel, int stride, int before, int dilation, int adaptive, int& first, int& last) {
    if (adaptive) {
        first = (int)((u64)i * out / size);
        last = (int)(((u64)(i + 1) * out - 1) / size);
    } else {
        const int begin = i + before - (kernel - 1) * dilation;
        first = begin <= 0 ? 0 : (begin + stride - 1) / stride;
        last = (i + before) / stride;
    }
    last = min(last, out - 1);
}

KERNEL(pool_data, THREADS, 2)(const __grid_constant__ PoolData a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_d = on_16_bytes(a.d, a.d_stride), wide_dx = on_16_bytes(a.dx, a.dx_stride);
    each_eight<THREADS>(inputs(a.window), a.c, [&](int pixel, int c, int count) {
        const int w = pixel % a.window.width, line = pixel / a.window.width, h = line % a.window.height, image = line / a.window.height;
        const T* x = a.x + image * a.window.height * a.window.width * a.x_stride + c;
        int top, bottom, left, right;
        seen_by(h, a.window.height, a.window.out_height, a.window.r, a.window.stride_h, a.window.pad_top, a.window.dilation_h, a.adaptive, top, bottom);
        seen_by(w, a.window.width, a.window.out_width, a.window.s, a.window.stride_w, a.window.pad_left, a.window.dilation_w, a.adaptive, left, right);
        float sums[8] = {}, own[8];
        load8(own, x + (h * a.window.width + w) * a.x_stride, count, wide);
        for (int p = top; p <= bottom; ++p) {
            const Span rows = rows_of(a.window, a.adaptive, p);
            if (h < rows.from || h >= rows.to || (h - rows.from) % rows.step != 0) continue;
            for (int q = left; q <= right; ++q) {
                const Span cols = cols_of(a.window, a.adaptive, q);
                if (w < cols.from || w >= cols.to || (w - cols.from) % cols.step != 0) continue;
                float d[8];
                load8(d, a.d + ((image * a.window.out_height + p) * a.window.out_width + q) * a.d_stride + c, count, wide_d);
                if (a.mode == PoolMode::Max) {
                    for (int ih = rows.from; ih < rows.to; ih += rows.step)
                        for (int iw = cols.from; iw < cols.to; iw += cols.step) {
                            const bool before = ih < h || (ih == h && iw < w);
                            float v[8];
                            load8(v, x + (ih * a.window.width + iw) * a.x_stride, count, wide);
#pragma unroll
                            for (int i = 0; i < 8; ++i)
                                if (v[i] > own[i] || (before && v[i] == own[i])) d[i] = 0.f;
                        }
                } else {
                    const float share = share_of(a.mode, rows, cols);
#pragma unroll
                    for (int i = 0; i < 8; ++i) d[i] /= share;
                }
#pragma unroll
                for (int i = 0; i < 8; ++i) sums[i] += d[i];
            }
        }
        store8(a.dx + pixel * a.dx_stride + c, sums, count, wide_dx);
    });
}
