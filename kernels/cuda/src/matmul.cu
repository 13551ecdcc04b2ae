// Products of two values, for each matrix of a batch of any strides.
//
// Formula   y[i, j] = scale * sum over k of a[i, k] * b[k, j]
// Layout    rows of a are dense; of b the rows [k][n] or, transposed, [n][k]
// Tile      64 x 64 outputs a block, a step of the depth at a time through shared memory
// Math      bf16, f16: mma.sync, 16 x 32 outputs a warp; f32: fused multiply-adds, 4 x 4 outputs a thread
// Roofline  the reads of single elements; attention has a kernel of its own, so that this one is rare

#if MATH == IS_f32
const int STEP = 16;
#else
const int STEP = 32, PITCH = STEP + 8;
#endif

// A block's matrices, and its first row and column.
struct Tile { const T *a, *b; T* y; int m0, n0; };

DEV Tile tile_of(const Matmul& p) {
    Tile t;
    const int tiles_n = (p.n + SIDE - 1) / SIDE, tiles_m = (p.m + SIDE - 1) / SIDE;
    int rest = blockIdx.x;
    t.n0 = rest % tiles_n * SIDE;
    rest /= tiles_n;
    t.m0 = rest % tiles_m * SIDE;
    rest /= tiles_m;
    t.a = p.a;
    t.b = p.b;
    t.y = p.y;
    for (int axis = p.rank - 1; axis >= 0; --axis) {
        int i = rest % p.shape[axis];
        rest /= p.shape[axis];
        t.a += i * p.a_strides[axis];
        t.b += i * p.b_strides[axis];
        t.y += i * p.y_strides[axis];
    }
    return t;
}

// The element of a at row `r` of the tile, of b at its column `c`; 0 beyond them.
DEV T left_of(const Matmul& p, const Tile& t, int r, int k) {
    T zero;
    put(zero, 0.f);
    return t.m0 + r < p.m && k < p.k ? t.a[(t.m0 + r) * p.a_stride + k] : zero;
}
DEV T right_of(const Matmul& p, const Tile& t, int c, int k) {
    T zero;
    put(zero, 0.f);
    int at = p.transposed ? (t.n0 + c) * p.b_stride + k : k * p.b_stride + t.n0 + c;
    return t.n0 + c < p.n && k < p.k ? t.b[at] : zero;
}

#if MATH == IS_f32
KERNEL(matmul, THREADS, 2)(const __grid_constant__ Matmul p) {
    follow();
    SHARED(float, left, [STEP][SIDE + 4]);
    SHARED(float, right, [STEP][SIDE + 4]);
    const Tile t = tile_of(p);
    const int tid = threadIdx.x, row = tid / 16, col = tid % 16;
    float sums[4][4] = {};
    for (int k0 = 0; k0 < p.k; k0 += STEP) {
#pragma unroll
        for (int i = tid; i < SIDE * STEP; i += THREADS) {
            int r = i / STEP, k = i % STEP;
            left[k][r] = left_of(p, t, r, k0 + k);
        }
#pragma unroll
        for (int i = tid; i < SIDE * STEP; i += THREADS) {
            // neighbouring threads along the dense axis
            int c = p.transposed ? i / STEP : i % SIDE, k = p.transposed ? i % STEP : i / SIDE;
            right[k][c] = right_of(p, t, c, k0 + k);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < STEP; ++k) {
            const float4 l = *(const float4*)&left[k][row * 4], r = *(const float4*)&right[k][col * 4];
            const float ls[4] = {l.x, l.y, l.z, l.w}, rs[4] = {r.x, r.y, r.z, r.w};
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(ls[i], rs[j], sums[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            int r = t.m0 + row * 4 + i, c = t.n0 + col * 4 + j;
            if (r < p.m && c < p.n) put(t.y[r * p.y_stride + c], sums[i][j] * p.scale);
        }
}
#else
KERNEL(matmul, THREADS, 2)(const __grid_constant__ Matmul p) {
    follow();
    SHARED(T, left, [SIDE][PITCH]);
    SHARED(T, right, [SIDE][PITCH]);
    const Tile t = tile_of(p);
    const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, wm = warp % 4 * 16, wn = warp / 4 * 32;
    float sums[1][4][4] = {};
    for (int k0 = 0; k0 < p.k; k0 += STEP) {
#pragma unroll
        for (int i = tid; i < SIDE * STEP; i += THREADS) left[i / STEP][i % STEP] = left_of(p, t, i / STEP, k0 + i % STEP);
#pragma unroll
        for (int i = tid; i < SIDE * STEP; i += THREADS) {
            // neighbouring threads along the dense axis
            int c = p.transposed ? i / STEP : i % SIDE, k = p.transposed ? i % STEP : i / SIDE;
            right[c][k] = right_of(p, t, c, k0 + k);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < STEP; k += 16) {
            u32 fragments[3][4];
            const void* rows[3];
            rows[0] = &left[wm + (lane & 15)][k + (lane >> 4) * 8];
#pragma unroll
            for (int j = 0; j < 2; ++j)
                rows[1 + j] = &right[wn + j * 16 + (lane & 7) + (lane >> 4) * 8][k + (lane >> 3 & 1) * 8];
            load_matrices(fragments, rows);
#if MATH == IS_bf16
            mma_bf16<1, 4>(sums, *(u32(*)[1][4])fragments, *(u32(*)[2][4])(fragments + 1));
#else
            mma_f16<1, 4>(sums, *(u32(*)[1][4])fragments, *(u32(*)[2][4])(fragments + 1));
#endif
        }
        __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            int r = t.m0 + wm + (lane >> 2) + (q >> 1) * 8, c = t.n0 + wn + j * 8 + (lane & 3) * 2 + (q & 1);
            if (r < p.m && c < p.n) put(t.y[r * p.y_stride + c], sums[0][j][q] * p.scale);
        }
}
#endif
