// Functions of single values and of pairs.
//
// Formula   map        y = after(before(prelu(x * scale[col] + shift[col])) + residual)
//           binary     y = after(before(a op b) + residual), b repeated along rows, columns or images
//           broadcast  the same for operands of any strides
// Tile      a thread has eight neighbouring columns of a row; broadcast: one value
// Roofline  memory's

// As activate_twice, of any function.
template <int N, class F> DEV void activate_any_twice(float (&v)[N], const Act& before, const Act& after, F between) {
#pragma unroll 1
    for (int stage = 0; stage < 2; ++stage) {
        activate_any(v, stage ? after : before);
        if (!stage) between();
    }
}

KERNEL(map, THREADS, 2)(const __grid_constant__ Map a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_y = on_16_bytes(a.y, a.y_stride);
    const bool wide_r = on_16_bytes(a.residual, a.residual_stride);
    each_eight<THREADS>(a.rows, a.cols, [&](int row, int col, int left) {
        const int count = BUG(BOUNDS) ? 8 : left;
        float v[8];
        load8(v, a.x + row * a.x_stride + col, count, wide);
        if (a.scale) multiply8(v, a.scale + col, count, ((u64)a.scale & 15) == 0);
        if (a.shift) add8(v, a.shift + col, count, ((u64)a.shift & 15) == 0);
        if (a.slope) {
#pragma unroll
            for (int i = 0; i < 8; ++i)
                if (i < count && !(v[i] > 0.f)) v[i] *= a.slope[(col + i) * a.slope_col];
        }
        activate_any_twice(v, a.before, a.after, [&] {
            if (a.residual) add8(v, a.residual + row * a.residual_stride + col, count, wide_r);
        });
        store8(a.y + row * a.y_stride + col, v, count, wide_y);
    });
}

KERNEL(binary, THREADS, 2)(const __grid_constant__ Binary a) {
    follow();
    const bool wide = on_16_bytes(a.a, a.a_stride), wide_y = on_16_bytes(a.y, a.y_stride);
    const bool wide_r = on_16_bytes(a.residual, a.residual_stride), wide_b = on_16_bytes(a.b, a.b_outer, a.b_row);
    each_eight<THREADS>(a.rows, a.cols, [&](int row, int col, int count) {
        float v[8], other[8];
        load8(v, a.a + row * a.a_stride + col, count, wide);
        const T* b = a.b + row / a.rows_each * a.b_outer + row % a.rows_each * a.b_row;
        if (a.b_col == 1) {
            load8(other, b + col, count, wide_b);
        } else {
#pragma unroll
            for (int i = 0; i < 8; ++i) other[i] = i < count ? to_float(b[(col + i) * a.b_col]) : 0.f;
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = combine(a.op, v[i], other[i]);
        activate_any_twice(v, a.before, a.after, [&] {
            if (a.residual) add8(v, a.residual + row * a.residual_stride + col, count, wide_r);
        });
        store8(a.y + row * a.y_stride + col, v, count, wide_y);
    });
}

KERNEL(broadcast, THREADS, 2)(const __grid_constant__ Broadcast a) {
    follow();
    const int total = product(a.shape, a.rank);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        const int first = offset(at, a.rank, a.shape, a.a_strides), second = offset(at, a.rank, a.shape, a.b_strides);
        const int to = offset(at, a.rank, a.shape, a.y_strides), more = offset(at, a.rank, a.shape, a.residual_strides);
        float v[1] = {combine(a.op, to_float(a.a[first]), to_float(a.b[second]))};
        activate_any_twice(v, a.before, a.after, [&] {
            if (a.residual) v[0] += to_float(a.residual[more]);
        });
        put(a.y[to], v[0]);
    }
}
