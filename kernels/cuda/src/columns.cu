// Sums over the rows of a matrix: what batch statistics and the gradients of biases, norms and slopes are made of.
//
// Formula   sums            d
//           statistics      v - first, (v - first)^2 of the row's v: a mean far from 0 costs no digits
//           norm_sums       d (x - mean), d; with `relu` d counts where the norm's result is positive
//           normed_sums     d (x - mean) rstd, d; mean and rstd of the row (layer norm) or of its group (group norm)
//           slope_sums      d min(x, 0)
//           column_end adds what the blocks left, in order and in float64, and makes the results of it
// Tile      a block has up to 256 columns, eight a thread, and some of the rows; threads of a column are joined in shared
//           memory
// Roofline  memory's: one read of each operand

// Calls f(row, sums) for this thread's rows, which adds to its K sums of eight columns; leaves the block's.
template <int K, class F> DEV void columns(const Columns& a, F f) {
    SHARED(float, joined, [THREADS * 8]);
    const int across = blockDim.x, beside = blockDim.y;
    const int c = (blockIdx.x * across + threadIdx.x) * 8, count = a.cols - c < 8 ? a.cols - c : 8;
    const int first = blockIdx.y * a.per, last = first + a.per < a.rows ? first + a.per : a.rows;
    float sums[K][8] = {};
    if (count > 0) f(c, count, first + (int)threadIdx.y, last, beside, sums);
#pragma unroll
    for (int kind = 0; kind < K; ++kind) {
#pragma unroll
        for (int i = 0; i < 8; ++i) joined[(threadIdx.y * across + threadIdx.x) * 8 + i] = sums[kind][i];
        __syncthreads();
        if (threadIdx.y == 0 && count > 0) {
            for (int other = 1; other < beside; ++other)
#pragma unroll
                for (int i = 0; i < 8; ++i) sums[kind][i] += joined[(other * across + threadIdx.x) * 8 + i];
            float* to = a.partials + (u64)(blockIdx.y * K + kind) * a.cols + c;
#pragma unroll
            for (int i = 0; i < 8; ++i)
                if (i < count) to[i] = sums[kind][i];
        }
        __syncthreads();
    }
}

KERNEL(sums, THREADS, 2)(const __grid_constant__ Columns a) {
    follow();
    const bool wide = on_16_bytes(a.d, a.d_stride);
    columns<1>(a, [&](int c, int count, int from, int to, int step, float(&sums)[1][8]) {
#pragma unroll 4
        for (int row = from; row < to; row += step) {
            float d[8];
            load8(d, a.d + row * a.d_stride + c, count, wide);
#pragma unroll
            for (int i = 0; i < 8; ++i) sums[0][i] += d[i];
        }
    });
}

KERNEL(statistics, THREADS, 2)(const __grid_constant__ Columns a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride);
    columns<2>(a, [&](int c, int count, int from, int to, int step, float(&sums)[2][8]) {
        float first[8];
        load8(first, a.x + c, count, wide);
#pragma unroll 4
        for (int row = from; row < to; row += step) {
            float v[8];
            load8(v, a.x + row * a.x_stride + c, count, wide);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                const float apart = v[i] - first[i];
                sums[0][i] += apart;
                sums[1][i] = fmaf(apart, apart, sums[1][i]);
            }
        }
    });
}

KERNEL(norm_sums, THREADS, 2)(const __grid_constant__ Columns a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_d = on_16_bytes(a.d, a.d_stride);
    columns<2>(a, [&](int c, int count, int from, int to, int step, float(&sums)[2][8]) {
        float mean[8], scale[8], shift[8];
        line_of(scale, shift, a.stats, a.weight, a.bias, a.cols, c, count, a.eps);
        load8(mean, a.stats + c, count, false);
#pragma unroll 2
        for (int row = from; row < to; row += step) {
            float d[8], v[8];
            load8(d, a.d + row * a.d_stride + c, count, wide_d);
            load8(v, a.x + row * a.x_stride + c, count, wide);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                if (a.relu && !(fmaf(v[i], scale[i], shift[i]) > 0.f)) d[i] = 0.f;
                sums[0][i] = fmaf(d[i], v[i] - mean[i], sums[0][i]);
                sums[1][i] += d[i];
            }
        }
    });
}

KERNEL(normed_sums, THREADS, 2)(const __grid_constant__ Columns a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_d = on_16_bytes(a.d, a.d_stride);
    columns<2>(a, [&](int c, int count, int from, int to, int step, float(&sums)[2][8]) {
        for (int row = from; row < to; row += step) {
            float d[8], v[8];
            load8(d, a.d + row * a.d_stride + c, count, wide_d);
            load8(v, a.x + row * a.x_stride + c, count, wide);
            const float* moments = a.moments + row / a.rows_each * a.groups * 2;
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                if (i >= count) break;
                const float* own = moments + (c + i) / a.size * 2;
                sums[0][i] = fmaf(d[i], (v[i] - own[0]) * own[1], sums[0][i]);
                sums[1][i] += d[i];
            }
        }
    });
}

KERNEL(slope_sums, THREADS, 2)(const __grid_constant__ Columns a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_d = on_16_bytes(a.d, a.d_stride);
    columns<1>(a, [&](int c, int count, int from, int to, int step, float(&sums)[1][8]) {
#pragma unroll 2
        for (int row = from; row < to; row += step) {
            float d[8], v[8];
            load8(d, a.d + row * a.d_stride + c, count, wide_d);
            load8(v, a.x + row * a.x_stride + c, count, wide);
#pragma unroll
            for (int i = 0; i < 8; ++i) sums[0][i] = fmaf(d[i], v[i] < 0.f ? v[i] : 0.f, sums[0][i]);
        }
    });
}

// 32 columns x 8 threads, each of which adds every eighth part.
KERNEL(column_end, THREADS, 2)(const __grid_constant__ ColumnEnd a) {
    follow();
    SHARED(double, joined, [2][8][32]);
    const int col = blockIdx.x * 32 + threadIdx.x;
    if (col < a.cols) {
        for (int kind = 0; kind < a.kinds; ++kind) {
            double sum = 0.0;
#pragma unroll 4
            for (int part = threadIdx.y; part < a.parts; part += 8) sum += a.partials[(u64)(part * a.kinds + kind) * a.cols + col];
            joined[kind][threadIdx.y][threadIdx.x] = sum;
        }
    }
    __syncthreads();
    if (threadIdx.y != 0 || col >= a.cols) return;
    double first = 0.0, second = 0.0;
    for (int i = 0; i < 8; ++i) {
        first += joined[0][i][threadIdx.x];
        if (a.kinds > 1) second += joined[1][i][threadIdx.x];
    }
    if (a.mode == ColumnMode::Statistics) {
        const double shift = first / a.rows, variance = second / a.rows - shift * shift;
        first = to_float(a.x[col]) + shift;
        second = variance > 0.0 ? variance : 0.0;
    } else if (a.mode == ColumnMode::Norm) {
        first *= rstd_of(a.stats[a.cols + col], a.eps);
    }
    a.y[col] = (float)first;
    if (a.kinds > 1) a.y[a.cols + col] = (float)second;
}

// One slope for all columns: one block.
KERNEL(slope_end, THREADS, 2)(const __grid_constant__ ColumnEnd a) {
    follow();
    SHARED(double, joined, [THREADS]);
    double sum = 0.0;
    for (int at = threadIdx.x; at < a.parts * a.cols; at += THREADS) sum += a.partials[at];
    joined[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 1; i < THREADS; ++i) sum += joined[i];
    a.y[0] = (float)sum;
}

// running += momentum (stats - running), the variance unbiased.
KERNEL(running, THREADS, 2)(const __grid_constant__ Running a) {
    follow();
    const int c = blockIdx.x * THREADS + threadIdx.x;
    if (c >= a.channels) return;
    a.mean[c] = (1.f - a.momentum) * a.mean[c] + a.momentum * a.stats[c];
    a.variance[c] = (1.f - a.momentum) * a.variance[c] + a.momentum * (a.stats[a.channels + c] * a.unbiased);
}
