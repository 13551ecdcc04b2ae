// Attention of several heads, without the matrix of scores in memory.
//
// Formula   y[i] = sum over j of softmax over j of (q[i] k[j] scale + mask[i][j]) * v[j], in each head of each image; the
//           softmax goes along with the keys (Milakov and Gimelshein 2018; Dao et al. 2022): the sums so far are scaled
//           down when a larger score comes
// Layout    rows of q and y [n, queries], of k and v [n, keys], columns [heads, dim], of v and y [heads, value_dim], free
//           strides; DIM is the longer of both rounded up. The mask is read where its scores are, in registers
// Tile      64 queries a block, 16 a warp; keys and values pass through shared memory, the next KEYS while these are used
// Math      bf16, f16: mma.sync; queries, scores and results stay in registers, the weights of a tile as the left side of
//           the second product; powers of two, so that scaling and subtracting are one instruction; keys of a last tile
//           16 at a time. f32: fused multiply-adds, a lane a key and then a lane a column
// Roofline  the tensor cores', behind the exponentials for small heads
// Measured  32 images, 12 heads of 64, 197 rows on an H100: 67 us before tiles were fetched ahead, PyTorch 27 us; not yet
//           measured since

#if MATH == IS_f32 || MATH == IS_tf32
// queries of a warp: those of long heads leave no room
const int ROWS = DIM <= 128 ? 16 : 4, QUERIES = 4 * ROWS, KEYS = 32, PITCH = DIM + 4;
#else
const int QUERIES = 64, KEYS = DIM <= 128 ? 64 : 16, PITCH = DIM + 8;
#endif
const int ROW_PIECES = DIM * (int)sizeof(T) / 16, PIECE = 16 / (int)sizeof(T);

// `rows` of `valid` rows that exist, DIM columns of which `dim` do, to shared memory.
DEV void load_rows(T* to, const T* from, int stride, int rows, int valid, int dim, bool wide) {
    for (int i = threadIdx.x; i < rows * ROW_PIECES; i += THREADS) {
        int row = i / ROW_PIECES, col = i % ROW_PIECES * PIECE, left = row < valid ? dim - col : 0;
        T* at = to + row * PITCH + col;
        if (wide) {
            int count = left < 0 ? 0 : left < PIECE ? left : PIECE;
            copy_async<16>(at, count ? from + row * stride + col : from, count * (int)sizeof(T));
        } else {
#pragma unroll
            for (int j = 0; j < PIECE; ++j) {
                put(at[j], 0.f);
                if (j < left) at[j] = from[row * stride + col + j];
            }
        }
    }
}

#if MATH == IS_f32 || MATH == IS_tf32
KERNEL(attention, THREADS, 2)(const __grid_constant__ Attention a) {
    follow();
    DYNAMIC_SHARED(shared);
    T* q = (T*)shared;
    T* k = q + QUERIES * PITCH;
    T* v = k + KEYS * PITCH;
    const int tiles = (a.queries + QUERIES - 1) / QUERIES, tile = blockIdx.x % tiles, pair = blockIdx.x / tiles;
    const int head = pair % a.heads, image = pair / a.heads, first = tile * QUERIES;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, at = head * a.dim, value_at = head * a.value_dim;
    // weights [ROWS][KEYS] of each warp
    float* weights = (float*)(v + KEYS * PITCH) + warp * ROWS * KEYS;
    const bool wide = on_16_bytes(a.q + at, a.q_stride) && on_16_bytes(a.k + at, a.k_stride) && on_16_bytes(a.v + value_at, a.v_stride);
    const T* keys = a.k + image % a.k_images * a.keys * a.k_stride + at;
    const T* values = a.v + image % a.v_images * a.keys * a.v_stride + value_at;
    const T* mask = mask_of(a, image, head);
    load_rows(q, a.q + (image % a.q_images * a.queries + first) * a.q_stride + at, a.q_stride, QUERIES, a.queries - first, a.dim, wide);
    float most[ROWS], sum[ROWS], result[ROWS][DIM / 32];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        most[i] = -INFINITE;
        sum[i] = 0.f;
#pragma unroll
        for (int d = 0; d < DIM / 32; ++d) result[i][d] = 0.f;
    }
    for (int key0 = 0; key0 < a.keys; key0 += KEYS) {
        __syncthreads();
        load_rows(k, keys + key0 * a.k_stride, a.k_stride, KEYS, a.keys - key0, a.dim, wide);
        load_rows(v, values + key0 * a.v_stride, a.v_stride, KEYS, a.keys - key0, a.value_dim, wide);
        copy_commit();
        copy_wait<0>();
        __syncthreads();
        float scores[ROWS] = {};
#pragma unroll 2
        for (int d = 0; d < DIM; d += 4) {
            const float4 right = *(const float4*)(k + lane * PITCH + d);
#pragma unroll
            for (int i = 0; i < ROWS; ++i) {
                const float4 left = *(const float4*)(q + (warp * ROWS + i) * PITCH + d);
                scores[i] = fmaf(left.x, right.x, scores[i]);
                scores[i] = fmaf(left.y, right.y, scores[i]);
                scores[i] = fmaf(left.z, right.z, scores[i]);
                scores[i] = fmaf(left.w, right.w, scores[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            const int query = first + warp * ROWS + i, key = key0 + lane;
            float score = key < a.keys ? scores[i] * a.scale : -INFINITE;
            if (mask && query < a.queries && key < a.keys) score += to_float(mask[query * a.mask_query + key * a.mask_key]);
            float top = larger(most[i], warp_all(score, [](float a, float b) { return larger(a, b); }));
            float weight = expf(score - base_of(top)), less = expf(most[i] - base_of(top));
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
            for (int i = 0; i < ROWS; ++i)
#pragma unroll
                for (int d = 0; d < DIM / 32; ++d) result[i][d] = fmaf(weights[i * KEYS + key], column[d], result[i][d]);
        }
        __syncwarp();
    }
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        int query = first + warp * ROWS + i;
#pragma unroll
        for (int d = 0; d < DIM / 32; ++d)
            if (query < a.queries && d * 32 + lane < a.value_dim)
                a.y[(image * a.queries + query) * a.y_stride + value_at + d * 32 + lane] = result[i][d] / sum[i];
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

const float LOG2_E = 1.44269504f;
// columns of results that are multiplied at once
const int COLS = DIM < 64 ? DIM : 64, BUFFER = 2 * KEYS * PITCH;
const bool QUERIES_STAY = DIM <= 128;

// What 16 queries of a warp have come to; a lane has rows lane / 4 and lane / 4 + 8.
struct State {
    // the sums are of this lane's keys alone
    float most[2], sum[2], result[DIM / COLS][1][COLS / 8][4];
};

DEV const void* query_at(const T* q, int d, int lane) { return q + (lane & 15) * PITCH + d + (lane >> 4) * 8; }

// What is added to the scores of a lane: of its first query and the first key of a tile.
struct Added {
    // 0 for none
    const T* first;
    int query_stride, key_stride, queries_left;
};

DEV float added_at(const Added& added, int query, int key) {
    return query < added.queries_left ? to_float(added.first[query * added.query_stride + key * added.key_stride]) : 0.f;
}

// COUNT more keys, of which `valid` exist where ENDS; `scale` is that of powers of two.
template <int COUNT, bool ENDS>
DEV void attend(State& state, const u32 (&queries)[DIM / 16][1][4], const T* q, const T* k, const T* v, int valid, float scale,
                Added added, int lane) {
    float scores[1][COUNT / 8][4] = {};
#pragma unroll
    for (int d = 0; d < DIM; d += 16) {
        u32 right[COUNT / 16][4];
        const void* rows[COUNT / 16];
#pragma unroll
        for (int j = 0; j < COUNT / 16; ++j)
            rows[j] = k + (j * 16 + (lane & 7) + (lane >> 4) * 8) * PITCH + d + (lane >> 3 & 1) * 8;
        load_matrices(right, rows);
        if (QUERIES_STAY)
            mma<1, COUNT / 8>(scores, queries[d / 16], right);
        else {
            u32 left[1][4];
            const void* row[1] = {query_at(q, d, lane)};
            load_matrices(left, row);
            mma<1, COUNT / 8>(scores, left, right);
        }
    }
    if (added.first) {
#pragma unroll
        for (int j = 0; j < COUNT / 8; ++j)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int key = j * 8 + (lane & 3) * 2 + (i & 1);
                const float more = ENDS && key >= valid ? 0.f : added_at(added, i >> 1 << 3, key);
                scores[0][j][i] = fmaf(scores[0][j][i], scale, more * LOG2_E);
            }
        scale = 1.f;
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        float top = state.most[h];
#pragma unroll
        for (int j = 0; j < COUNT / 8; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                float& score = scores[0][j][h * 2 + e];
                if (ENDS && j * 8 + (lane & 3) * 2 + e >= valid) score = -INFINITE;
                top = larger(top, score);
            }
        top = larger(top, __shfl_xor_sync(~0u, top, 1));
        top = larger(top, __shfl_xor_sync(~0u, top, 2));
        const float less = power_of_two((state.most[h] - base_of(top)) * scale), from = -base_of(top) * scale;
        state.most[h] = top;
        float own = 0.f;
#pragma unroll
        for (int j = 0; j < COUNT / 8; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                float& score = scores[0][j][h * 2 + e];
                score = power_of_two(fmaf(score, scale, from));
                own += score;
            }
        state.sum[h] = fmaf(state.sum[h], less, own);
#pragma unroll
        for (int at = 0; at < DIM / COLS; ++at)
#pragma unroll
            for (int j = 0; j < COLS / 8; ++j) {
                state.result[at][0][j][h * 2] *= less;
                state.result[at][0][j][h * 2 + 1] *= less;
            }
    }
#pragma unroll
    for (int key = 0; key < COUNT; key += 16) {
        // two neighbouring tiles of sums are a left side of depth 16 as they are
        u32 weights[1][4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float* pair_of = scores[0][key / 8 + (i >> 1)] + (i & 1) * 2;
            weights[0][i] = pack(pair_of[0], pair_of[1]);
        }
#pragma unroll
        for (int at = 0; at < DIM / COLS; ++at) {
            u32 right[COLS / 16][4];
            const void* rows[COLS / 16];
#pragma unroll
            for (int j = 0; j < COLS / 16; ++j)
                rows[j] = v + (key + (lane & 7) + (lane >> 3 & 1) * 8) * PITCH + at * COLS + j * 16 + (lane >> 4) * 8;
            load_matrices_transposed(right, rows);
            mma<1, COLS / 8>(state.result[at], weights, right);
        }
    }
}

KERNEL(attention, THREADS, DIM <= 64 ? 3 : 2)(const __grid_constant__ Attention a) {
    follow();
    DYNAMIC_SHARED(shared);
    T* buffers = (T*)shared;
    // where queries stay in registers, they come by the buffer that is filled last
    T* q = buffers + (QUERIES_STAY ? BUFFER : 2 * BUFFER);
    const int tiles = (a.queries + QUERIES - 1) / QUERIES, tile = blockIdx.x % tiles, pair = blockIdx.x / tiles;
    const int head = pair % a.heads, image = pair / a.heads, first = tile * QUERIES;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, at = head * a.dim, value_at = head * a.value_dim;
    const bool wide = on_16_bytes(a.q + at, a.q_stride) && on_16_bytes(a.k + at, a.k_stride) && on_16_bytes(a.v + value_at, a.v_stride);
    const T* keys = a.k + image % a.k_images * a.keys * a.k_stride + at;
    const T* values = a.v + image % a.v_images * a.keys * a.v_stride + value_at;
    const T* mask = mask_of(a, image, head);
    auto load = [&](T* to, int key0) {
        const int left = a.keys - key0, rows = left < KEYS ? (left + 15) / 16 * 16 : KEYS;
        load_rows(to, keys + key0 * a.k_stride, a.k_stride, rows, left, a.dim, wide);
        load_rows(to + KEYS * PITCH, values + key0 * a.v_stride, a.v_stride, rows, left, a.value_dim, wide);
    };
    load_rows(q, a.q + (image % a.q_images * a.queries + first) * a.q_stride + at, a.q_stride, QUERIES, a.queries - first, a.dim, wide);
    load(buffers, 0);
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    q += warp * 16 * PITCH;
    u32 queries[DIM / 16][1][4] = {};
    if (QUERIES_STAY) {
#pragma unroll
        for (int d = 0; d < DIM; d += 16) {
            const void* row[1] = {query_at(q, d, lane)};
            load_matrices(queries[d / 16], row);
        }
        __syncthreads();
    }
    State state = {{-INFINITE, -INFINITE}, {}, {}};
    // exp(x) is 2 to the x / ln 2
    const float scale = a.scale * LOG2_E;
    const int query = first + warp * 16 + (lane >> 2);
    Added added = {mask ? mask + query * a.mask_query : 0, a.mask_query, a.mask_key, a.queries - query};
#pragma unroll 1
    for (int key0 = 0, buffer = 0; key0 < a.keys; key0 += KEYS, buffer ^= 1) {
        if (key0 + KEYS < a.keys) load(buffers + (buffer ^ 1) * BUFFER, key0 + KEYS);
        copy_commit();
        const T* k = buffers + buffer * BUFFER;
        const int left = a.keys - key0;
        if (left >= KEYS) {
            attend<KEYS, false>(state, queries, q, k, k + KEYS * PITCH, KEYS, scale, added, lane);
        } else {
#pragma unroll 1
            for (int skip = 0; skip < left; skip += 16) {
                attend<16, true>(state, queries, q, k + skip * PITCH, k + (KEYS + skip) * PITCH, left - skip, scale, added, lane);
                if (added.first) added.first += 16 * a.mask_key;
            }
        }
        if (added.first) added.first += KEYS * a.mask_key;
        copy_wait<BUG(COPY_WAIT)>();
        if (!BUG(NO_BARRIER)) __syncthreads();
    }
    const bool in_pairs = (((u64)a.y | (u64)((a.y_stride | a.value_dim) * (int)sizeof(T))) & 3) == 0;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        float sum = state.sum[h];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        const float share = 1.f / sum;
        const int row_of = query + h * 8;
        if (row_of >= a.queries) continue;
        T* row = a.y + (image * a.queries + row_of) * a.y_stride + value_at;
#pragma unroll
        for (int part = 0; part < DIM / COLS; ++part)
#pragma unroll
            for (int j = 0; j < COLS / 8; ++j) {
                const int col = part * COLS + j * 8 + (lane & 3) * 2;
                const float one = state.result[part][0][j][h * 2] * share, other = state.result[part][0][j][h * 2 + 1] * share;
                if (in_pairs) {
                    if (col < a.value_dim) *(u32*)(row + col) = pack(one, other);
                } else {
                    if (col < a.value_dim) put(row[col], one);
                    if (col + 1 < a.value_dim) put(row[col + 1], other);
                }
            }
    }
}
#endif
