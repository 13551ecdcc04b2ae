// Resampling of images: nearest, bilinear, bicubic, as PyTorch's `interpolate` with `align_corners = false`.
//
// Formula   output i lies at (i + 1/2) ratio - 1/2 of the input; nearest takes floor(i ratio), in float32 as PyTorch does;
//           bicubic is cubic convolution with A = -3/4
// Tile      a thread has eight channels of one output
// Roofline  memory's

KERNEL(resize, THREADS, 2)(const __grid_constant__ Resize a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_y = on_16_bytes(a.y, a.y_stride);
    each_eight<THREADS>(a.n * a.out_height * a.out_width, a.c, [&](int pixel, int c, int count) {
        const int ow = pixel % a.out_width, line = pixel / a.out_width;
        const T* image = a.x + line / a.out_height * a.height * a.width * a.x_stride + c;
        const Taps rows = taps_of(a.mode, line % a.out_height, a.ratio_h, a.height, a.out_height);
        const Taps cols = taps_of(a.mode, ow, a.ratio_w, a.width, a.out_width);
        float result[8] = {};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i >= rows.count) break;
            float sums[8] = {};
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                if (j >= cols.count) break;
                float v[8];
                load8(v, image + (rows.at[i] * a.width + cols.at[j]) * a.x_stride, count, wide);
#pragma unroll
                for (int q = 0; q < 8; ++q) sums[q] = fmaf(v[q], cols.weight[j], sums[q]);
            }
#pragma unroll
            for (int q = 0; q < 8; ++q) result[q] = fmaf(sums[q], rows.weight[i], result[q]);
        }
        store8(a.y + pixel * a.y_stride + c, result, count, wide_y);
    });
}
