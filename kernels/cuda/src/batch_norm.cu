// Batch norm by the statistics of the batch, and the gradient of x.
//
// Formula   y = after(before((x - mean) rstd weight + bias) + residual)
//           dx = weight rstd (d - sum(d) / M - (x - mean) rstd^2 sum(d (x - mean)) / M), with `relu` d counting where the
//           norm's result is positive: the same instructions say so as in norm_sums of columns.cu
// Tile      a thread keeps eight columns and what they need in registers, and goes down the rows
// Roofline  memory's: each operand is read once

KERNEL(batch_norm, THREADS, 2)(const __grid_constant__ BatchNorm a) {
    follow();
    const int c = (blockIdx.x * blockDim.x + threadIdx.x) * 8, count = a.cols - c < 8 ? a.cols - c : 8;
    if (count <= 0) return;
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_y = on_16_bytes(a.y, a.y_stride), wide_r = on_16_bytes(a.residual, a.residual_stride);
    float scale[8], shift[8];
    line_of(scale, shift, a.stats, a.weight, a.bias, a.cols, c, count, a.eps);
    const int step = gridDim.y * blockDim.y;
    for (int row = blockIdx.y * blockDim.y + threadIdx.y; row < a.rows; row += step) {
        float v[8];
        load8(v, a.x + row * a.x_stride + c, count, wide);
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = fmaf(v[i], scale[i], shift[i]);
        activate_twice(v, a.before, a.after, [&] {
            if (a.residual) add8(v, a.residual + row * a.residual_stride + c, count, wide_r);
        });
        store8(a.y + row * a.y_stride + c, v, count, wide_y);
    }
}

KERNEL(batch_norm_data, THREADS, 2)(const __grid_constant__ BatchNormData a) {
    follow();
    const int c = (blockIdx.x * blockDim.x + threadIdx.x) * 8, count = a.cols - c < 8 ? a.cols - c : 8;
    if (count <= 0) return;
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_d = on_16_bytes(a.d, a.d_stride), wide_dx = on_16_bytes(a.dx, a.dx_stride);
    float scale[8], shift[8], mean[8], steep[8], flat[8];
    line_of(scale, shift, a.stats, a.weight, a.bias, a.cols, c, count, a.eps);
    load8(mean, a.stats + c, count, false);
    load8(flat, a.stats + a.cols + c, count, false);
    load8(steep, a.sums + c, count, false);
    const float share = 1.f / a.rows;
#pragma unroll
    for (int i = 0; i < 8; ++i) steep[i] *= share * rstd_of(flat[i], a.eps);
    load8(flat, a.sums + a.cols + c, count, false);
#pragma unroll
    for (int i = 0; i < 8; ++i) flat[i] *= share;
    const int step = gridDim.y * blockDim.y;
    for (int row = blockIdx.y * blockDim.y + threadIdx.y; row < a.rows; row += step) {
        float d[8], v[8];
        load8(d, a.d + row * a.d_stride + c, count, wide_d);
        load8(v, a.x + row * a.x_stride + c, count, wide);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            if (a.relu && !(fmaf(v[i], scale[i], shift[i]) > 0.f)) d[i] = 0.f;
            d[i] = scale[i] * (d[i] - fmaf(v[i] - mean[i], steep[i], flat[i]));
        }
        store8(a.dx + row * a.dx_stride + c, d, count, wide_dx);
    }
}
