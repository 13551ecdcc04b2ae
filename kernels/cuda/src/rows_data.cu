// Gradients of what works on rows: layer norm, softmax and its logarithm, division by the norm.
//
// Formula   layer_norm_data   rstd (g - mean(g) - n mean(g n)), g = d weight, n the normalised x; about zero without mean(g)
//           softmax_data      y (d - sum(d y))
//           log_softmax_data  d - e^y sum(d)
//           normalize_data    (d - x sum(d x) / norm^2) / norm, the norm being at least eps
//           row_moments       mean and rstd of each row, float32, for normed_sums of columns.cu
// Tile      a warp a row, which is read again from the caches for each pass
// Roofline  memory's: one read of each operand and one write

const int ROWS = THREADS / 32;

// Calls f with eight columns at a time: of d, of what is seen, the first, how many there are.
template <class F> DEV void each8(const RowsData& a, int row, F f) {
    const bool wide = on_16_bytes(a.io.d, a.io.d_stride), wide_seen = on_16_bytes(a.io.seen, a.io.seen_stride);
    for (int col = threadIdx.x * 8; col < a.io.cols; col += 256) {
        const int count = a.io.cols - col < 8 ? a.io.cols - col : 8;
        float d[8] = {}, seen[8];
        if (a.io.d) load8(d, a.io.d + row * a.io.d_stride + col, count, wide);
        load8(seen, a.io.seen + row * a.io.seen_stride + col, count, wide_seen);
        f(d, seen, col, count);
    }
}

DEV void store_row(const RowsData& a, int row, const float (&v)[8], int col, int count) {
    store8(a.io.dx + row * a.io.dx_stride + col, v, count, on_16_bytes(a.io.dx, a.io.dx_stride));
}

// Mean and 1 / standard deviation of what is seen.
DEV void moments_of(const RowsData& a, int row, float& mean, float& rstd) {
    float sum = 0.f, squares = 0.f;
    each8(a, row, [&](float(&)[8], float(&x)[8], int, int) {
#pragma unroll
        for (int i = 0; i < 8; ++i) sum += x[i];
    });
    mean = a.about_zero ? 0.f : warp_sum(sum) / a.io.cols;
    const float centre = mean;
    each8(a, row, [&](float(&)[8], float(&x)[8], int, int count) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const float apart = i < count ? x[i] - centre : 0.f;
            squares = fmaf(apart, apart, squares);
        }
    });
    rstd = 1.f / sqrtf(warp_sum(squares) / a.io.cols + a.eps);
}

KERNEL(row_moments, THREADS, 2)(const __grid_constant__ RowsData a) {
    follow();
    const int row = blockIdx.x * ROWS + threadIdx.y;
    if (row >= a.io.rows) return;
    float mean, rstd;
    moments_of(a, row, mean, rstd);
    if (threadIdx.x == 0) {
        a.moments[row * 2] = mean;
        a.moments[row * 2 + 1] = rstd;
    }
}

KERNEL(layer_norm_data, THREADS, 2)(const __grid_constant__ RowsData a) {
    follow();
    const int row = blockIdx.x * ROWS + threadIdx.y;
    if (row >= a.io.rows) return;
    float mean, rstd, sum = 0.f, product = 0.f;
    moments_of(a, row, mean, rstd);
    each8(a, row, [&](float(&d)[8], float(&x)[8], int col, int count) {
        float weight[8];
        load8(weight, a.weight + col, count, false);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const float g = d[i] * weight[i];
            sum += g;
            product = fmaf(g, (x[i] - mean) * rstd, product);
        }
    });
    sum = a.about_zero ? 0.f : warp_sum(sum) / a.io.cols;
    product = warp_sum(product) / a.io.cols;
    each8(a, row, [&](float(&d)[8], float(&x)[8], int col, int count) {
        float weight[8];
        load8(weight, a.weight + col, count, false);
#pragma unroll
        for (int i = 0; i < 8; ++i) d[i] = rstd * (d[i] * weight[i] - fmaf((x[i] - mean) * rstd, product, sum));
        store_row(a, row, d, col, count);
    });
}

KERNEL(softmax_data, THREADS, 2)(const __grid_constant__ RowsData a) {
    follow();
    const int row = blockIdx.x * ROWS + threadIdx.y;
    if (row >= a.io.rows) return;
    float dot = 0.f;
    each8(a, row, [&](float(&d)[8], float(&y)[8], int, int) {
#pragma unroll
        for (int i = 0; i < 8; ++i) dot = fmaf(d[i], y[i], dot);
    });
    dot = warp_sum(dot);
    each8(a, row, [&](float(&d)[8], float(&y)[8], int col, int count) {
#pragma unroll
        for (int i = 0; i < 8; ++i) d[i] = y[i] * (d[i] - dot);
        store_row(a, row, d, col, count);
    });
}

KERNEL(log_softmax_data, THREADS, 2)(const __grid_constant__ RowsData a) {
    follow();
    const int row = blockIdx.x * ROWS + threadIdx.y;
    if (row >= a.io.rows) return;
    float sum = 0.f;
    each8(a, row, [&](float(&d)[8], float(&)[8], int, int) {
#pragma unroll
        for (int i = 0; i < 8; ++i) sum += d[i];
    });
    sum = warp_sum(sum);
    each8(a, row, [&](float(&d)[8], float(&y)[8], int col, int count) {
#pragma unroll
        for (int i = 0; i < 8; ++i) d[i] -= expf(y[i]) * sum;
        store_row(a, row, d, col, count);
    });
}

KERNEL(normalize_data, THREADS, 2)(const __grid_constant__ RowsData a) {
    follow();
    const int row = blockIdx.x * ROWS + threadIdx.y;
    if (row >= a.io.rows) return;
    float squares = 0.f, dot = 0.f;
    each8(a, row, [&](float(&d)[8], float(&x)[8], int, int) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            squares = fmaf(x[i], x[i], squares);
            dot = fmaf(x[i], d[i], dot);
        }
    });
    const float norm = sqrtf(warp_sum(squares));
    dot = warp_sum(dot);
    // below eps the divisor is a constant
    const float by = norm > a.eps ? 1.f / norm : 1.f / a.eps, share = norm > a.eps ? dot / norm / norm : 0.f;
    each8(a, row, [&](float(&d)[8], float(&x)[8], int col, int count) {
#pragma unroll
        for (int i = 0; i < 8; ++i) d[i] = by * (d[i] - x[i] * share);
        store_row(a, row, d, col, count);
    });
}
