// A linear map of a few rows.
//
// Formula   y[row, out] = epilogue(sum over i of x[row, i] * w[out, i]), each row an image of one pixel
// Layout    weights [out][w_stride], rows on 16 bytes
// Tile      a warp computes one output of all rows: it reads a row of weights once, 16 bytes a lane
// Roofline  memory's: every weight is read once

KERNEL(linear_rows, WARPS * 32, 2)(const __grid_constant__ LinearRows a) {
    const int lane = threadIdx.x & 31, out = blockIdx.x * WARPS + (threadIdx.x >> 5);
    if (out < a.outputs) fetch_rows_ahead(a.w + out * a.w_stride, 1, 0, a.inputs * (int)sizeof(T), lane, 32);
    follow();
    if (out >= a.outputs) return;
    const T* w = a.w + out * a.w_stride;
    const bool wide = on_16_bytes(a.x, a.x_stride);
    float sums[LinearRows::MOST] = {};
    // two loads of weights in flight
#pragma unroll 2
    for (int i = lane * 8; i < a.inputs; i += 256) {
        float weights[8];
        int count = a.inputs - i;
        load8(weights, w + i, count, true);
#pragma unroll
        for (int row = 0; row < LinearRows::MOST; ++row) {
            if (row >= a.rows) break;
            float v[8];
            load8(v, a.x + row * a.x_stride + i, count, wide);
#pragma unroll
            for (int j = 0; j < 8; ++j) sums[row] = fmaf(v[j], weights[j], sums[row]);
        }
    }
#pragma unroll
    for (int row = 0; row < LinearRows::MOST; ++row)
        if (row < a.rows) sums[row] = warp_sum(sums[row]);
    // lane `row` finishes that row
    float own = 0.f;
#pragma unroll
    for (int row = 0; row < LinearRows::MOST; ++row)
        if (lane == row) own = sums[row];
    if (lane < a.rows) {
        float v[8] = {own};
        finish(v, a.epilogue, lane, lane * a.epilogue.residual_image, out, 1, false);
        put(a.y[lane * a.y_stride + out], v[0]);
    }
}
