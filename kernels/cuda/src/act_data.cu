// Gradients of functions of one value.
//
// Formula   act_data    dx = d f', from the result where f' is a function of it, else from what f was given
//           prelu_data  dx = x > 0 ? d : slope d; d may be x, which makes it prelu itself
// Tile      a thread has eight neighbouring columns of a row
// Ceiling   memory's

KERNEL(act_data, THREADS, 2)(const __grid_constant__ ActData a) {
    follow();
    const int vectors = (a.cols + 7) / 8, total = a.rows * vectors;
    const bool wide = on_16_bytes(a.d, a.d_dist), wide_seen = on_16_bytes(a.seen, a.seen_dist), wide_dx = on_16_bytes(a.dx, a.dx_dist);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        const int row = at / vectors, col = at % vectors * 8, count = a.cols - col < 8 ? a.cols - col : 8;
        float d[8], seen[8];
        load8(d, a.d + row * a.d_dist + col, count, wide);
        load8(seen, a.seen + row * a.seen_dist + col, count, wide_seen);
        chain(d, seen, a.act);
        store8(a.dx + row * a.dx_dist + col, d, count, wide_dx);
    }
}

KERNEL(prelu_data, THREADS, 2)(const __grid_constant__ ActData a) {
    follow();
    const int vectors = (a.cols + 7) / 8, total = a.rows * vectors;
    const bool wide = on_16_bytes(a.d, a.d_dist), wide_seen = on_16_bytes(a.seen, a.seen_dist), wide_dx = on_16_bytes(a.dx, a.dx_dist);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        const int row = at / vectors, col = at % vectors * 8, count = a.cols - col < 8 ? a.cols - col : 8;
        float d[8], seen[8];
        load8(d, a.d + row * a.d_dist + col, count, wide);
        load8(seen, a.seen + row * a.seen_dist + col, count, wide_seen);
#pragma unroll
        for (int i = 0; i < 8; ++i)
            if (i < count && !(seen[i] > 0.f)) d[i] *= a.slope[(col + i) * a.slope_col];
        store8(a.dx + row * a.dx_dist + col, d, count, wide_dx);
    }
}
