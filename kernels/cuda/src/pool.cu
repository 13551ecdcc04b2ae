// Maxima and means of windows, and of the parts of an image that adaptive pooling takes.
//
// Formula   PyTorch's: a maximum ignores padding and NaN wins it; a mean divides by the window clipped to the padded image,
//           or to the image itself
// Tile      a thread has eight channels of one output; rows are summed one by one, which keeps the error small
// Ceiling   memory's; windows that overlap find their inputs in the caches

KERNEL(pool, THREADS, 2)(const __grid_constant__ Pool a) {
    follow();
    const int vectors = (a.c + 7) / 8, total = a.n * a.out_height * a.out_width * vectors;
    const bool wide = on_16_bytes(a.x, a.x_dist), wide_y = on_16_bytes(a.y, a.y_dist);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        const int c = at % vectors * 8, pixel = at / vectors, count = a.c - c < 8 ? a.c - c : 8;
        const int ow = pixel % a.out_width, line = pixel / a.out_width, oh = line % a.out_height;
        const T* image = a.x + line / a.out_height * a.height * a.width * a.x_dist + c;
        const Span rows = a.adaptive ? part(oh, a.height, a.out_height)
                                     : window(oh, a.height, a.r, a.stride_h, a.pad_top, a.pad_bottom, a.dilation_h);
        const Span cols = a.adaptive ? part(ow, a.width, a.out_width)
                                     : window(ow, a.width, a.s, a.stride_w, a.pad_left, a.pad_right, a.dilation_w);
        float result[8];
        const bool max = a.mode == PoolMode::Max;
#pragma unroll
        for (int i = 0; i < 8; ++i) result[i] = max ? -INFINITE : 0.f;
        for (int ih = rows.from; ih < rows.to; ih += rows.step) {
            float sums[8] = {};
            for (int iw = cols.from; iw < cols.to; iw += cols.step) {
                float v[8];
                load8(v, image + (ih * a.width + iw) * a.x_dist, count, wide);
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
        store8(a.y + pixel * a.y_dist + c, result, count, wide_y);
    }
}
