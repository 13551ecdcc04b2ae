// Attention of heads of any length, without the matrix of scores in memory.
//
// Formula   as attention.cu's
// Layout    as attention.cu's
// Tile      16 queries and SLAB columns of values a block, 4 queries a warp; dim passes through shared memory SLAB columns
//           at a time, so that its length does not matter. Blocks of other columns compute the same scores again
// Math      float32 multiply-adds, a lane a key and then a lane two columns
// Roofline  far from it: for heads that no usual network has
// Measured  not yet

const int ROWS = 4, KEYS = 32, PITCH = SLAB + 1;

// `rows` of `valid` rows that exist, SLAB columns of which `cols` do, as float32 to shared memory.
DEV void load_slab(float* to, const T* from, int stride, int rows, int valid, int cols) {
    for (int i = threadIdx.x; i < rows * SLAB; i += THREADS) {
        int row = i / SLAB, col = i % SLAB;
        to[row * PITCH + col] = row < valid && col < cols ? to_float(from[row * stride + col]) : 0.f;
    }
}

KERNEL(long_attention, THREADS, 2)(const __grid_constant__ Attention a) {
    follow();
    SHARED(float, q, [QUERIES * PITCH]);
    SHARED(float, k, [KEYS * PITCH]);
    SHARED(float, v, [KEYS * PITCH]);
    SHARED(float, weights, [QUERIES * KEYS]);
    const int tiles = (a.queries + QUERIES - 1) / QUERIES, slabs = (a.value_dim + SLAB - 1) / SLAB;
    const int tile = blockIdx.x % tiles, slab = blockIdx.x / tiles % slabs, pair = blockIdx.x / tiles / slabs;
    const int head = pair % a.heads, image = pair / a.heads, first = tile * QUERIES;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, value_at = head * a.value_dim + slab * SLAB;
    const int cols = a.value_dim - slab * SLAB;
    const T* queries = a.q + (image % a.q_images * a.queries + first) * a.q_stride + head * a.dim;
    const T* keys = a.k + image % a.k_images * a.keys * a.k_stride + head * a.dim;
    const T* values = a.v + image % a.v_images * a.keys * a.v_stride + value_at;
    const T* mask = mask_of(a, image, head);
    float most[ROWS], sum[ROWS] = {}, result[ROWS][SLAB / 32] = {};
#pragma unroll
    for (int i = 0; i < ROWS; ++i) most[i] = -INFINITE;
    for (int key0 = 0; key0 < a.keys; key0 += KEYS) {
        float scores[ROWS] = {};
        for (int d0 = 0; d0 < a.dim; d0 += SLAB) {
            __syncthreads();
            load_slab(q, queries + d0, a.q_stride, QUERIES, a.queries - first, a.dim - d0);
            load_slab(k, keys + key0 * a.k_stride + d0, a.k_stride, KEYS, a.keys - key0, a.dim - d0);
            if (d0 == 0) load_slab(v, values + key0 * a.v_stride, a.v_stride, KEYS, a.keys - key0, cols);
            __syncthreads();
#pragma unroll 4
            for (int d = 0; d < SLAB; ++d)
#pragma unroll
                for (int i = 0; i < ROWS; ++i) scores[i] = fmaf(q[(warp * ROWS + i) * PITCH + d], k[lane * PITCH + d], scores[i]);
        }
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            const int query = first + warp * ROWS + i, key = key0 + lane;
            float score = key < a.keys ? scores[i] * a.scale : -INFINITE;
            if (mask && query < a.queries && key < a.keys) score += to_float(mask[query * a.mask_query + key * a.mask_key]);
            const float top = larger(most[i], warp_all(score, [](float a, float b) { return larger(a, b); }));
            const float weight = expf(score - base_of(top)), less = expf(most[i] - base_of(top));
            most[i] = top;
            sum[i] = sum[i] * less + warp_sum(weight);
#pragma unroll
            for (int d = 0; d < SLAB / 32; ++d) result[i][d] *= less;
            weights[(warp * ROWS + i) * KEYS + lane] = weight;
        }
        __syncwarp();
        for (int key = 0; key < KEYS; ++key)
#pragma unroll
            for (int i = 0; i < ROWS; ++i)
#pragma unroll
                for (int d = 0; d < SLAB / 32; ++d)
                    result[i][d] = fmaf(weights[(warp * ROWS + i) * KEYS + key], v[key * PITCH + d * 32 + lane], result[i][d]);
    }
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
        for (int d = 0; d < SLAB / 32; ++d) {
            const int query = first + warp * ROWS + i, col = d * 32 + lane;
            if (query < a.queries && col < cols)
                put(a.y[(image * a.queries + query) * a.y_stride + value_at + col], result[i][d] / sum[i]);
        }
}
