// Backward of what repeats and of what reduces: sums over what was repeated, repetitions of what was summed.
//
// Formula   spread        y = x scale, x repeated where its strides are 0
//           spread_rows   the same where rows of an image take one row of x, which global pooling's gradient is
//           max_data      d for what is as large as the maximum y, shared where several are
//           sum_to     sums of d, or of d x, over the inner axes for each index of the outer ones
//           gather        row r of the result is the row of the table that index r names; no number where it names none
//           gather_data   row t of the result is the sum of the rows of d whose index is t
// Layout    any strides; results of sum_to dense over the outer axes
// Tile      spread: a thread has one value; spread_rows: eight columns of a row; max_data: a warp a maximum; sum_to: 32
//           neighbouring results x 8 threads, or a warp a result where what is summed lies densely; gather, gather_data: a
//           thread a column of a row
// Splits    sum_to of few results cuts the inner axes into gridDim.y parts, which sum_to_end adds in order
// Roofline  memory's

KERNEL(spread, THREADS, 2)(const __grid_constant__ Spread a) {
    follow();
    const int total = product(a.shape, a.rank);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS)
        put(a.y[offset(at, a.rank, a.shape, a.y_strides)], a.scale * to_float(a.x[offset(at, a.rank, a.shape, a.x_strides)]));
}

KERNEL(spread_rows, THREADS, 2)(const __grid_constant__ SpreadRows a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_y = on_16_bytes(a.y, a.y_stride);
    each_eight<THREADS>(a.rows, a.cols, [&](int row, int col, int count) {
        float v[8];
        load8(v, a.x + row / a.rows_each * a.x_stride + col, count, wide);
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] *= a.scale;
        store8(a.y + row * a.y_stride + col, v, count, wide_y);
    });
}

KERNEL(max_data, THREADS, 2)(const __grid_constant__ MaxData a) {
    follow();
    const int outputs = product(a.outer_shape, a.outer_rank), inner = product(a.inner_shape, a.inner_rank);
    const int out = blockIdx.x * 8 + threadIdx.y;
    if (out >= outputs) return;
    const T* x = a.x + offset(out, a.outer_rank, a.outer_shape, a.x_outer);
    T* dx = a.dx + offset(out, a.outer_rank, a.outer_shape, a.dx_outer);
    const float top = to_float(a.y[out]);
    float count = 0.f;
    for (int i = threadIdx.x; i < inner; i += 32) count += to_float(x[offset(i, a.inner_rank, a.inner_shape, a.x_inner)]) == top ? 1.f : 0.f;
    const float share = to_float(a.d[out]) / warp_sum(count);
    for (int i = threadIdx.x; i < inner; i += 32) {
        const bool is_top = to_float(x[offset(i, a.inner_rank, a.inner_shape, a.x_inner)]) == top;
        put(dx[offset(i, a.inner_rank, a.inner_shape, a.dx_inner)], is_top ? share : 0.f);
    }
}

// Of every `step`th inner index from `from` on.
DEV float sum_of(const SumTo& a, int out, int from, int to, int step) {
    const T* d = a.d + offset(out, a.outer_rank, a.outer_shape, a.d_outer);
    const T* x = a.x ? a.x + offset(out, a.outer_rank, a.outer_shape, a.x_outer) : 0;
    float sum = 0.f;
#pragma unroll 2
    for (int i = from; i < to; i += step) {
        const float value = to_float(d[offset(i, a.inner_rank, a.inner_shape, a.d_inner)]);
        const float by = x ? to_float(x[offset(i, a.inner_rank, a.inner_shape, a.x_inner)]) : 1.f;
        sum = fmaf(value, by, sum);
    }
    return sum;
}

KERNEL(sum_to, THREADS, 2)(const __grid_constant__ SumTo a) {
    follow();
    SHARED(float, partial, [8][32]);
    const int outputs = product(a.outer_shape, a.outer_rank), inner = product(a.inner_shape, a.inner_rank);
    const int out = blockIdx.x * 32 + threadIdx.x, first = blockIdx.y * a.per, last = min(inner, first + a.per);
    if (out < outputs) partial[threadIdx.y][threadIdx.x] = sum_of(a, out, first + threadIdx.y, last, 8);
    __syncthreads();
    if (threadIdx.y != 0 || out >= outputs) return;
    float result = partial[0][threadIdx.x];
#pragma unroll
    for (int i = 1; i < 8; ++i) result += partial[i][threadIdx.x];
    a.partials[blockIdx.y * outputs + out] = result;
}

KERNEL(sum_to_rows, THREADS, 2)(const __grid_constant__ SumTo a) {
    follow();
    const int outputs = product(a.outer_shape, a.outer_rank), inner = product(a.inner_shape, a.inner_rank);
    const int out = blockIdx.x * 8 + threadIdx.y, first = blockIdx.y * a.per, last = min(inner, first + a.per);
    if (out >= outputs) return;
    const float result = warp_sum(sum_of(a, out, first + threadIdx.x, last, 32));
    if (threadIdx.x == 0) a.partials[blockIdx.y * outputs + out] = result;
}

KERNEL(sum_to_end, THREADS, 2)(const __grid_constant__ SumToEnd a) {
    follow();
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < a.outputs; at += gridDim.x * THREADS) {
        float sum = 0.f;
        for (int part = 0; part < a.parts; ++part) sum += a.partials[part * a.outputs + at];
        if (a.y) put(a.y[at], sum);
        else a.floats[at] = sum;
    }
}

// d is the table here.
KERNEL(gather, THREADS, 2)(const __grid_constant__ Gather a) {
    follow();
    const int total = a.rows * a.cols;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        const float index = to_float(a.index[at / a.cols]);
        const bool inside = index >= 0.f && index < (float)a.table;
        put(a.y[at], inside ? to_float(a.d[(int)index * a.cols + at % a.cols]) : __uint_as_float(0x7fc00000));
    }
}

KERNEL(gather_data, THREADS, 2)(const __grid_constant__ Gather a) {
    follow();
    const int total = a.table * a.cols;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        const int to = at / a.cols, col = at % a.cols;
        float sum = 0.f;
        for (int row = 0; row < a.rows; ++row) {
            const float index = to_float(a.index[row]);
            if (index >= 0.f && (int)index == to) sum += to_float(a.d[row * a.cols + col]);
        }
        put(a.y[at], sum);
    }
}
