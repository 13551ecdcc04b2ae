// Attention of several heads, without the matrix of scores in memory.
//
// Formula   y[i] = sum over j of softmax over j of (q[i] k[j] scale) * v[j], in each head of each image; the softmax goes
//           along with the keys (Milakov and Gimelshein 2018; Dao et al. 2022): the sums so far are scaled down when a
//           larger score comes
// Layout    rows of q and y [n, queries], of k and v [n, keys], columns [heads, dim], free distances; DIM is dim rounded up
// Tile      64 queries a block, 16 a warp; keys and values pass through shared memory, KEYS at a time
// Math      bf16, f16: mma.sync, the weights of a tile stay in registers as the left side of the second product;
//           f32: fused multiply-adds, a lane a key and then a lane a column
// Ceiling   the tensor cores', behind the exponentials for small heads
#include "common.cuh"

struct Args {
    const T *q, *k, *v;
    T* y;
    int n, heads, dim, queries, keys, q_dist, k_dist, v_dist, y_dist;
    float scale;
};

const int THREADS = 128, QUERIES = 64;
#if MATH == IS_f32 || MATH == IS_tf32
const int KEYS = 32, PITCH = DIM + 4;
#else
const int KEYS = 64, PITCH = DIM + 8;
#endif
const int ROW_PIECES = DIM * (int)sizeof(T) / 16, PIECE = 16 / (int)sizeof(T);

// `rows` of `valid` rows that exist, DIM columns of which `dim` do, to shared memory.
DEV void load_rows(T* to, const T* from, int dist, int rows, int valid, int dim, bool wide) {
    for (int i = threadIdx.x; i < rows * ROW_PIECES; i += THREADS) {
        int row = i / ROW_PIECES, col = i % ROW_PIECES * PIECE, left = row < valid ? dim - col : 0;
        T* at = to + row * PITCH + col;
        if (wide) {
            int count = left < 0 ? 0 : left < PIECE ? left : PIECE;
            copy_async<16>(at, count ? from + row * dist + col : from, count * (int)sizeof(T));
        } else {
#pragma unroll
            for (int j = 0; j < PIECE; ++j) {
                put(at[j], 0.f);
                if (j < left) at[j] = from[row * dist + col + j];
            }
        }
    }
}

#if MATH == IS_f32 || MATH == IS_tf32
KERNEL(attention, THREADS, 2)(const __grid_constant__ Args a) {
    DYNAMIC_SHARED(shared);
    T* q = (T*)shared;
    T* k = q + QUERIES * PITCH;
    T* v = k + KEYS * PITCH;
    const int tiles = (a.queries + QUERIES - 1) / QUERIES, tile = blockIdx.x % tiles, pair = blockIdx.x / tiles;
    const int head = pair % a.heads, image = pair / a.heads, first = tile * QUERIES;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, at = head * a.dim;
    // weights [16][KEYS] of each warp
    float* weights = (float*)(v + KEYS * PITCH) + warp * 16 * KEYS;
    const bool wide = on_16_bytes(a.q + at, a.q_dist) && on_16_bytes(a.k + at, a.k_dist) && on_16_bytes(a.v + at, a.v_dist);
    const T* keys = a.k + image * a.keys * a.k_dist + at;
    const T* values = a.v + image * a.keys * a.v_dist + at;
    load_rows(q, a.q + (image * a.queries + first) * a.q_dist + at, a.q_dist, QUERIES, a.queries - first, a.dim, wide);
    float most[16], sum[16], result[16][DIM / 32];
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        most[i] = -INFINITE;
        sum[i] = 0.f;
#pragma unroll
        for (int d = 0; d < DIM / 32; ++d) result[i][d] = 0.f;
    }
    for (int key0 = 0; key0 < a.keys; key0 += KEYS) {
        __syncthreads();
        load_rows(k, keys + key0 * a.k_dist, a.k_dist, KEYS, a.keys - key0, a.dim, wide);
        load_rows(v, values + key0 * a.v_dist, a.v_dist, KEYS, a.keys - key0, a.dim, wide);
        copy_commit();
        copy_wait<0>();
        __syncthreads();
        float scores[16] = {};
#pragma unroll 2
        for (int d = 0; d < DIM; d += 4) {
            const float4 right = *(const float4*)(k + lane * PITCH + d);
#pragma unroll
            for (int i = 0; i < 16; ++i) {
                const float4 left = *(const float4*)(q + (warp * 16 + i) * PITCH + d);
                scores[i] = fmaf(left.x, right.x, scores[i]);
                scores[i] = fmaf(left.y, right.y, scores[i]);
                scores[i] = fmaf(left.z, right.z, scores[i]);
                scores[i] = fmaf(left.w, right.w, scores[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < 16; ++i) {
            float score = key0 + lane < a.keys ? scores[i] * a.scale : -INFINITE;
            float top = larger(most[i], warp_all(score, [](float a, float b) { return larger(a, b); }));
            float weight = expf(score - top), less = expf(most[i] - top);
            most[i] = top;
            sum[i] = sum[i] * less + warp_sum(weight);
#pragma unroll
            for (int d = 0; d < DIM / 32; ++d) result[i][d] *= less;
            weights[i * KEYS + lane] = weight;
        }
        __syncwarp();
#pragma unroll 2
        for (int key = 0; key < KEYS; ++key) {
            float column[DIM / 32];
#pragma unroll
            for (int d = 0; d < DIM / 32; ++d) column[d] = v[key * PITCH + d * 32 + lane];
#pragma unroll
            for (int i = 0; i < 16; ++i)
#pragma unroll
                for (int d = 0; d < DIM / 32; ++d) result[i][d] = fmaf(weights[i * KEYS + key], column[d], result[i][d]);
        }
        __syncwarp();
    }
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        int query = first + warp * 16 + i;
#pragma unroll
        for (int d = 0; d < DIM / 32; ++d)
            if (query < a.queries && d * 32 + lane < a.dim)
                a.y[(image * a.queries + query) * a.y_dist + at + d * 32 + lane] = result[i][d] / sum[i];
    }
}
#else

DEV u32 pack(float low, float high) {
    T a, b;
    put(a, low);
    put(b, high);
    return (u32)a.bits | (u32)b.bits << 16;
}

template <int MI, int NJ> DEV void mma(float (&d)[MI][NJ][4], const u32 (&a)[MI][4], const u32 (&b)[NJ / 2][4]) {
#if MATH == IS_bf16
    mma_bf16<MI, NJ>(d, a, b);
#else
    mma_f16<MI, NJ>(d, a, b);
#endif
}

KERNEL(attention, THREADS, 2)(const __grid_constant__ Args a) {
    DYNAMIC_SHARED(shared);
    T* q = (T*)shared;
    T* k = q + QUERIES * PITCH;
    T* v = k + KEYS * PITCH;
    const int tiles = (a.queries + QUERIES - 1) / QUERIES, tile = blockIdx.x % tiles, pair = blockIdx.x / tiles;
    const int head = pair % a.heads, image = pair / a.heads, first = tile * QUERIES;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, at = head * a.dim;
    const bool wide = on_16_bytes(a.q + at, a.q_dist) && on_16_bytes(a.k + at, a.k_dist) && on_16_bytes(a.v + at, a.v_dist);
    const T* keys = a.k + image * a.keys * a.k_dist + at;
    const T* values = a.v + image * a.keys * a.v_dist + at;
    load_rows(q, a.q + (image * a.queries + first) * a.q_dist + at, a.q_dist, QUERIES, a.queries - first, a.dim, wide);
    // rows lane / 4 and lane / 4 + 8 of the warp's 16
    float most[2] = {-INFINITE, -INFINITE}, sum[2] = {}, result[1][DIM / 8][4] = {};
    for (int key0 = 0; key0 < a.keys; key0 += KEYS) {
        __syncthreads();
        load_rows(k, keys + key0 * a.k_dist, a.k_dist, KEYS, a.keys - key0, a.dim, wide);
        load_rows(v, values + key0 * a.v_dist, a.v_dist, KEYS, a.keys - key0, a.dim, wide);
        copy_commit();
        copy_wait<0>();
        __syncthreads();
        float scores[1][KEYS / 8][4] = {};
#pragma unroll
        for (int d = 0; d < DIM; d += 16) {
            u32 fragments[1 + KEYS / 16][4];
            const void* rows[1 + KEYS / 16];
            rows[0] = q + (warp * 16 + (lane & 15)) * PITCH + d + (lane >> 4) * 8;
#pragma unroll
            for (int j = 0; j < KEYS / 16; ++j)
                rows[1 + j] = k + (j * 16 + (lane & 7) + (lane >> 4) * 8) * PITCH + d + (lane >> 3 & 1) * 8;
            load_matrices(fragments, rows);
            mma<1, KEYS / 8>(scores, *(u32(*)[1][4])fragments, *(u32(*)[KEYS / 16][4])(fragments + 1));
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            float top = most[h];
#pragma unroll
            for (int j = 0; j < KEYS / 8; ++j)
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    float& score = scores[0][j][h * 2 + e];
                    score = key0 + j * 8 + (lane & 3) * 2 + e < a.keys ? score * a.scale : -INFINITE;
                    top = larger(top, score);
                }
            top = larger(top, __shfl_xor_sync(~0u, top, 1));
            top = larger(top, __shfl_xor_sync(~0u, top, 2));
            float own = 0.f, less = expf(most[h] - top);
            most[h] = top;
#pragma unroll
            for (int j = 0; j < KEYS / 8; ++j)
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    float& score = scores[0][j][h * 2 + e];
                    score = expf(score - top);
                    own += score;
                }
            own += __shfl_xor_sync(~0u, own, 1);
            own += __shfl_xor_sync(~0u, own, 2);
            sum[h] = sum[h] * less + own;
#pragma unroll
            for (int j = 0; j < DIM / 8; ++j) {
                result[0][j][h * 2] *= less;
                result[0][j][h * 2 + 1] *= less;
            }
        }
#pragma unroll
        for (int key = 0; key < KEYS; key += 16) {
            // two neighbouring tiles of sums are a left side of depth 16 as they are
            u32 weights[1][4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float* pair_of = scores[0][key / 8 + (i >> 1)] + (i & 1) * 2;
                weights[0][i] = pack(pair_of[0], pair_of[1]);
            }
            u32 right[DIM / 16][4];
            const void* rows[DIM / 16];
#pragma unroll
            for (int j = 0; j < DIM / 16; ++j)
                rows[j] = v + (key + (lane & 7) + (lane >> 3 & 1) * 8) * PITCH + j * 16 + (lane >> 4) * 8;
            load_matrices_transposed(right, rows);
            mma<1, DIM / 8>(result, weights, right);
        }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        int query = first + warp * 16 + (lane >> 2) + h * 8;
        if (query >= a.queries) continue;
        T* row = a.y + (image * a.queries + query) * a.y_dist + at;
#pragma unroll
        for (int j = 0; j < DIM / 8; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                int col = j * 8 + (lane & 3) * 2 + e;
                if (col < a.dim) put(row[col], result[0][j][h * 2 + e] / sum[h]);
            }
    }
}
#endif
