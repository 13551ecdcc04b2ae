// Products of two values, for each matrix of a batch of any strides.
//
// Formula   y[i, j] = scale * sum over k of a[i, k] * b[k, j]
// Layout    rows of a are dense; of b the rows [k][n] or, transposed, [n][k]
// Tile      64 x 64 outputs a block, 4 x 4 a thread, 16 of the depth at a time through shared memory, in float32
// Ceiling   the fused multiply-adds'; attention has a kernel of its own, so that this one is rare
#include "common.cuh"

const int THREADS = 256, SIDE = 64, STEP = 16;

struct Args {
    const T *a, *b;
    T* y;
    int m, n, k, a_dist, b_dist, y_dist, transposed;
    float scale;
    int rank;
    int shape[RANK], a_strides[RANK], b_strides[RANK], y_strides[RANK];
    int reserved;
};

KERNEL(matmul, THREADS, 2)(const Args p) {
    SHARED(float, left, [STEP][SIDE + 4]);
    SHARED(float, right, [STEP][SIDE + 4]);
    const int tiles_n = (p.n + SIDE - 1) / SIDE, tiles_m = (p.m + SIDE - 1) / SIDE;
    int rest = blockIdx.x;
    const int n0 = rest % tiles_n * SIDE;
    rest /= tiles_n;
    const int m0 = rest % tiles_m * SIDE;
    rest /= tiles_m;
    const T *a = p.a, *b = p.b;
    T* y = p.y;
    for (int axis = p.rank - 1; axis >= 0; --axis) {
        int i = rest % p.shape[axis];
        rest /= p.shape[axis];
        a += i * p.a_strides[axis];
        b += i * p.b_strides[axis];
        y += i * p.y_strides[axis];
    }
    const int tid = threadIdx.x, row = tid / 16, col = tid % 16;
    float sums[4][4] = {};
    for (int k0 = 0; k0 < p.k; k0 += STEP) {
#pragma unroll
        for (int i = tid; i < SIDE * STEP; i += THREADS) {
            int r = i / STEP, k = i % STEP;
            bool inside = m0 + r < p.m && k0 + k < p.k;
            left[k][r] = inside ? to_float(a[(m0 + r) * p.a_dist + k0 + k]) : 0.f;
        }
#pragma unroll
        for (int i = tid; i < SIDE * STEP; i += THREADS) {
            // neighbouring threads along the dense axis
            int c = p.transposed ? i / STEP : i % SIDE, k = p.transposed ? i % STEP : i / SIDE;
            bool inside = n0 + c < p.n && k0 + k < p.k;
            int at = p.transposed ? (n0 + c) * p.b_dist + k0 + k : (k0 + k) * p.b_dist + n0 + c;
            right[k][c] = inside ? to_float(b[at]) : 0.f;
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
            int r = m0 + row * 4 + i, c = n0 + col * 4 + j;
            if (r < p.m && c < p.n) put(y[r * p.y_dist + c], sums[i][j] * p.scale);
        }
}
