// Each row by itself: layer norm, division by the norm, softmax and its logarithm.
//
// Formula   layer_norm   (x - mean) / sqrt(variance + eps) * weight[col] + bias[col]; about zero the mean is taken as 0
//           normalize    x / max(sqrt(sum of x^2), eps)
//           softmax      e^(x - max) / sum of e^(x - max)
//           log_softmax  x - max - ln(sum of e^(x - max))
// Tile      a warp a row where rows are short, else a block a row; the row is read again for each pass, from the caches
// Roofline  memory's: one read and one write

// Several warps may share a row. All threads of a block must ask together.
struct Team {
    int index, size, warps;
    float* partial;

    // Each warp's value, brought together in the same order every time.
    template <class F> DEV_MEMBER float all(float own, F join) {
        own = warp_all(own, join);
        if (warps == 1) return own;
        if ((threadIdx.x & 31) == 0) partial[threadIdx.y] = own;
        if (!BUG(NO_BARRIER)) __syncthreads();
        float result = partial[0];
        for (int warp = 1; warp < warps; ++warp) result = join(result, partial[warp]);
        __syncthreads();
        return result;
    }
    DEV_MEMBER float sum(float own) { return all(own, [](float a, float b) { return a + b; }); }
    DEV_MEMBER float max(float own) { return all(own, [](float a, float b) { return larger(a, b); }); }
};

struct Row {
    const T* x;
    T* y;
    bool exists, wide, wide_y;
    int cols;

    // Calls f with eight columns at a time: their values, the first, how many there are.
    template <class F> DEV_MEMBER void each8(const Team& team, F f) const {
        if (!exists) return;
        for (int col = team.index * 8; col < cols; col += team.size * 8) {
            float v[8];
            int count = cols - col < 8 ? cols - col : 8;
            load8(v, x + col, count, wide);
            f(v, col, count);
        }
    }
};

// The row of a block of 32 x warps threads: short ones have a warp each.
DEV Row row_of(const Rows& a, Team& team, float* partial) {
    const bool shared = a.cols > 1024;
    const int warps = blockDim.y, row = shared ? blockIdx.x : blockIdx.x * warps + threadIdx.y;
    team.index = shared ? threadIdx.y * 32 + threadIdx.x : threadIdx.x;
    team.size = shared ? warps * 32 : 32;
    team.warps = shared ? warps : 1;
    team.partial = partial;
    Row r;
    r.x = a.x + row * a.x_stride;
    r.y = a.y + row * a.y_stride;
    r.exists = row < a.rows;
    r.wide = on_16_bytes(a.x, a.x_stride);
    r.wide_y = on_16_bytes(a.y, a.y_stride);
    r.cols = a.cols;
    return r;
}

KERNEL(layer_norm, THREADS, 2)(const __grid_constant__ Rows a) {
    follow();
    SHARED(float, partial, [8]);
    Team team;
    const Row row = row_of(a, team, partial);
    float sum = 0.f, squares = 0.f;
    row.each8(team, [&](float (&v)[8], int, int) {
        for (int i = 0; i < 8; ++i) sum += v[i];
    });
    const float mean = a.about_zero ? 0.f : team.sum(sum) / a.cols;
    row.each8(team, [&](float (&v)[8], int, int count) {
        for (int i = 0; i < 8; ++i) {
            float d = i < count ? v[i] - mean : 0.f;
            squares = fmaf(d, d, squares);
        }
    });
    const float scale = 1.f / sqrtf(team.sum(squares) / a.cols + a.eps);
    row.each8(team, [&](float (&v)[8], int col, int count) {
        float weight[8], bias[8];
        load8(weight, a.weight + col, count, ((u64)a.weight & 15) == 0);
        load8(bias, a.bias + col, count, ((u64)a.bias & 15) == 0);
        for (int i = 0; i < 8; ++i) v[i] = (v[i] - mean) * scale * weight[i] + bias[i];
        store8(row.y + col, v, count, row.wide_y);
    });
}

KERNEL(normalize, THREADS, 2)(const __grid_constant__ Rows a) {
    follow();
    SHARED(float, partial, [8]);
    Team team;
    const Row row = row_of(a, team, partial);
    float squares = 0.f;
    row.each8(team, [&](float (&v)[8], int, int) {
        for (int i = 0; i < 8; ++i) squares = fmaf(v[i], v[i], squares);
    });
    const float norm = sqrtf(team.sum(squares)), by = norm < a.eps ? a.eps : norm;
    row.each8(team, [&](float (&v)[8], int col, int count) {
        for (int i = 0; i < 8; ++i) v[i] /= by;
        store8(row.y + col, v, count, row.wide_y);
    });
}

// The largest of a row, and the sum of e^(x - largest).
DEV void exponents(const Row& row, Team& team, float& top, float& sum) {
    float own = -INFINITE, own_sum = 0.f;
    row.each8(team, [&](float (&v)[8], int, int count) {
        for (int i = 0; i < 8; ++i)
            if (i < count) own = larger(own, v[i]);
    });
    top = team.max(own);
    const float most = top;
    row.each8(team, [&](float (&v)[8], int, int count) {
        for (int i = 0; i < 8; ++i)
            if (i < count) own_sum += expf(v[i] - most);
    });
    sum = team.sum(own_sum);
}

KERNEL(softmax, THREADS, 2)(const __grid_constant__ Rows a) {
    follow();
    SHARED(float, partial, [8]);
    Team team;
    const Row row = row_of(a, team, partial);
    float top, sum;
    exponents(row, team, top, sum);
    const float by = 1.f / sum;
    row.each8(team, [&](float (&v)[8], int col, int count) {
        for (int i = 0; i < 8; ++i) v[i] = expf(v[i] - top) * by;
        store8(row.y + col, v, count, row.wide_y);
    });
}

KERNEL(log_softmax, THREADS, 2)(const __grid_constant__ Rows a) {
    follow();
    SHARED(float, partial, [8]);
    Team team;
    const Row row = row_of(a, team, partial);
    float top, sum;
    exponents(row, team, top, sum);
    const float log = logf(sum);
    row.each8(team, [&](float (&v)[8], int col, int count) {
        for (int i = 0; i < 8; ++i) v[i] = v[i] - top - log;
        store8(row.y + col, v, count, row.wide_y);
    });
}
