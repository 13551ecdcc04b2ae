// Maxima and means of windows, and of the parts of an image that adaptive pooling takes.
//
// Formula   PyTorch's: a maximum ignores padding and NaN wins it; a mean divides by the window clipped to the padded image,
//           or to the image itself
// Tile      a thread has eight channels of one output; rows are summed one by one, which keeps the error small
// Roofline  memory's; windows that overlap find their inputs in the caches

KERNEL(pool, THREADS, 2)(const __grid_constant__ Pool a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_y = on_16_bytes(a.y, a.y_stride);
    each_eight<THREADS>(outputs(a.window), a.c, [&](int pixel, int c, int count) {
        const int ow = pixel % a.window.out_width, line = pixel / a.window.out_width, oh = line % a.window.out_height;
        const T* image = a.x + line / a.window.out_height * a.window.height * a.window.width * a.x_stride + c;
        const Span rows = rows_of(a.window, a.adaptive, oh), cols = cols_of(a.window, a.adaptive, ow);
        float result[8];
        const bool max = a.mode == PoolMode::Max;
#pragma unroll
        for (int i = 0; i < 8; ++i) result[i] = max ? -INFINITE : 0.f;
        for (int ih = rows.from; ih < rows.to; ih += rows.step) {
            float sums[8] = {};
            for (int iw = cols.from; iw < cols.to; iw += cols.step) {
                float v[8];
                load8(v, image + (ih * a.window.width + iw) * a.x_stride, count, wide);
#pragma unroll
                for (int i = 0; i < 8; ++i) {
                    if (max) result[i] = larger(result[i], v[i]);
                    sums[i] += v[i];
                }
            }
#pragma unroll
            for (int i = 0; i < 8; ++i)
                if (!max) result[i] += sums[i];
        }
        if (!max && rows.to > rows.from && cols.to > cols.from) {
            const float share = share_of(a.mode, rows, cols);
#pragma unroll
            for (int i = 0; i < 8; ++i) result[i] /= share;
        }
        store8(a.y + pixel * a.y_stride + c, result, count, wide_y);
    });
}
