// Gradients of functions of one value.
//
// Formula   dx = d f', from the result where f' is a function of it, else from what f was given; with slopes
//           dx = x > 0 ? d : slope d
// Tile      a thread has eight neighbouring columns of a row
// Roofline  memory's

KERNEL(act_data, THREADS, 2)(const __grid_constant__ ActData a) {
    follow();
    const Backward& io = a.io;
    const bool wide = on_16_bytes(io.d, io.d_stride), wide_seen = on_16_bytes(io.seen, io.seen_stride), wide_dx = on_16_bytes(io.dx, io.dx_stride);
    each_eight<THREADS>(io.rows, io.cols, [&](int row, int col, int count) {
        float d[8], seen[8];
        load8(d, io.d + row * io.d_stride + col, count, wide);
        load8(seen, io.seen + row * io.seen_stride + col, count, wide_seen);
        if (a.slope) {
#pragma unroll
            for (int i = 0; i < 8; ++i)
                if (i < count && !(seen[i] > 0.f)) d[i] *= a.slope[(col + i) * a.slope_col];
        } else {
            chain(d, seen, a.act);
        }
        store8(io.dx + row * io.dx_stride + col, d, count, wide_dx);
    });
}
