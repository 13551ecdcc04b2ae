// The gradient of a convolution's weights: a product whose depth is the pixels of the batch. Linear maps are the plain
// case of it.
//
// Formula   dw[k, c, tap] = sum over pixels m of dy[m, k] * x[pixel(m, tap), c]
// Layout    images NHWC, with a free pixel stride; columns of the product count [tap][c padded to whole loads]
// Tile      BM channels of dy x BN columns a block, cut into WARPS_M x WARPS_N warps; DEPTH pixels a step, STAGES steps in
//           flight by cp.async. A row in shared memory is a pixel, so that both sides are read transposed (ldmatrix.trans)
// Math      bf16, f16: mma.sync; f32: fused multiply-adds, 8 x 4 sums a thread
// Splits    gridDim.y blocks share a tile, each with its pixels; every one leaves its sums, and conv_weight_end adds them
//           in order: same bits each run
// Roofline  the tensor cores' where both sides have many channels; columns of a block keep their tap, so that a step
//           only moves its pixels

#if MATH == IS_f32
const int DEPTH = 16;
#else
const int DEPTH = 32, WM = BM / WARPS_M, WN = BN / WARPS_N, MI = WM / 16, NJ = WN / 8;
#endif
const int THREADS = WARPS_M * WARPS_N * 32;
const int PIECE = 16 / (int)sizeof(T), PARTS = PIECE / VEC;
const int A_ROW = BM * (int)sizeof(T), B_ROW = BN * (int)sizeof(T), STAGE_BYTES = DEPTH * (A_ROW + B_ROW);
const int A_PIECES = BM / PIECE, B_PIECES = BN / PIECE, A_APART = THREADS / A_PIECES, B_APART = THREADS / B_PIECES;
static_assert(THREADS % A_PIECES == 0 && THREADS % B_PIECES == 0, "a thread keeps its column");
static_assert(DEPTH % A_APART == 0 && DEPTH % B_APART == 0, "every thread loads as much");

DEV int swizzled(int row, int piece, int bytes) { return row * bytes + ((piece ^ (row & 7)) << 4); }

// Some neighbouring numbers; `count` of them are there.
DEV void load_part(u8* to, const T* from, int count) {
    if (VEC * sizeof(T) >= 4) {
        copy_async<VEC * sizeof(T) < 4 ? 4 : VEC * (int)sizeof(T)>(to, from, count * (int)sizeof(T));
    } else {
        T value;
        put(value, 0.f);
        if (count > 0) value = *from;
        *(T*)to = value;
    }
}

// A tap and a channel: where it lies from the first pixel of a window.
struct Column { int ih, iw, c, count; };

KERNEL(conv_weight, THREADS, THREADS == 256 ? 2 : 3)(const __grid_constant__ ConvWeight a) {
    DYNAMIC_SHARED(shared);
    const int tid = threadIdx.x;
    const int wide = (a.c + VEC - 1) / VEC * VEC, columns = a.window.r * a.window.s * wide;
    const int tiles_m = (a.k + BM - 1) / BM, tiles_n = (columns + BN - 1) / BN;
    int rest = blockIdx.x;
    const int m0 = rest % tiles_m * BM;
    rest /= tiles_m;
    const int n0 = rest % tiles_n * BN, group = rest / tiles_n;
    const int out_pixels = a.window.out_height * a.window.out_width, pixels = a.window.n * out_pixels;
    const int first = blockIdx.y * a.per, last = first + a.per < pixels ? first + a.per : pixels;
    const T* x = a.x + group * a.c;
    const T* dy = a.dy + group * a.k;

    const int a_row = tid / A_PIECES, a_piece = tid % A_PIECES, b_row = tid / B_PIECES, b_piece = tid % B_PIECES;
    Column column[PARTS];
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
        const int at = n0 + b_piece * PIECE + part * VEC, tap = at / wide, r = tap / a.window.s;
        Column& own = column[part];
        own.ih = r * a.window.dilation_h - a.window.pad_top;
        own.iw = (tap - r * a.window.s) * a.window.dilation_w - a.window.pad_left;
        own.c = at - tap * wide;
        own.count = at >= columns ? 0 : a.c - own.c < VEC ? a.c - own.c : VEC;
    }
    // the pixel of each row of a step that this thread loads, and how a step moves it
    const int LOADS = DEPTH / B_APART;
    int image[LOADS], oh[LOADS], ow[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; ++i) {
        const int m = first + b_row + i * B_APART, inside = m % out_pixels;
        image[i] = m / out_pixels;
        oh[i] = inside / a.window.out_width;
        ow[i] = inside % a.window.out_width;
    }
    const int by_image = DEPTH / out_pixels, by_row = DEPTH % out_pixels / a.window.out_width, by_pixel = DEPTH % out_pixels % a.window.out_width;

    int loaded = first;
    auto load = [&](int stage) {
        u8* to = shared + stage * STAGE_BYTES;
#pragma unroll
        for (int i = 0; i < DEPTH / A_APART; ++i) {
            const int row = a_row + i * A_APART, m = loaded + row;
#pragma unroll
            for (int part = 0; part < PARTS; ++part) {
                const int k = m0 + a_piece * PIECE + part * VEC, left = m < last ? a.k - k : 0;
                const int count = left < 0 ? 0 : left < VEC ? left : VEC;
                load_part(to + swizzled(row, a_piece, A_ROW) + part * VEC * (int)sizeof(T), count ? dy + m * a.dy_stride + k : dy, count);
            }
        }
        u8* right = to + DEPTH * A_ROW;
#pragma unroll
        for (int i = 0; i < LOADS; ++i) {
            const int row = b_row + i * B_APART;
#pragma unroll
            for (int part = 0; part < PARTS; ++part) {
                const Column& own = column[part];
                const int ih = oh[i] * a.window.stride_h + own.ih, iw = ow[i] * a.window.stride_w + own.iw;
                const bool inside = loaded + row < last && (u32)ih < (u32)a.window.height && (u32)iw < (u32)a.window.width;
                const int count = inside ? own.count : 0;
                const T* from = count ? x + (((image[i] * a.window.height + ih) * a.window.width + iw) * a.x_stride + own.c) : x;
                load_part(right + swizzled(row, b_piece, B_ROW) + part * VEC * (int)sizeof(T), from, count);
            }
            ow[i] += by_pixel;
            int carry = ow[i] >= a.window.out_width;
            ow[i] -= carry ? a.window.out_width : 0;
            oh[i] += by_row + carry;
            carry = oh[i] >= a.window.out_height;
            oh[i] -= carry ? a.window.out_height : 0;
            image[i] += by_image + carry;
        }
        loaded += DEPTH;
    };

    follow();
    const int steps = last > first ? (last - first + DEPTH - 1) / DEPTH : 0;
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) {
        if (stage < steps) load(stage);
        copy_commit();
    }
#if MATH == IS_f32
    float sums[8][4] = {};
    const int row = tid / 16 * 8, col = tid % 16 * 4;
#else
    float sums[MI][NJ][4] = {};
    const int lane = tid & 31, warp = tid >> 5;
    const int wm = warp % WARPS_M * WM, wn = warp / WARPS_M * WN;
#endif
    for (int step = 0, stage = 0; step < steps; ++step) {
        copy_wait<STAGES - 2 + BUG(COPY_WAIT)>();
        if (!BUG(NO_BARRIER)) __syncthreads();
        const u8* left = shared + stage * STAGE_BYTES;
        const u8* right = left + DEPTH * A_ROW;
#if MATH == IS_f32
#pragma unroll 4
        for (int at = 0; at < DEPTH; ++at) {
            float ls[8];
            const float4 low = *(const float4*)(left + swizzled(at, row / 4, A_ROW)), high = *(const float4*)(left + swizzled(at, row / 4 + 1, A_ROW));
            ls[0] = low.x, ls[1] = low.y, ls[2] = low.z, ls[3] = low.w, ls[4] = high.x, ls[5] = high.y, ls[6] = high.z, ls[7] = high.w;
            const float4 r = *(const float4*)(right + swizzled(at, col / 4, B_ROW));
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                sums[i][0] = fmaf(ls[i], r.x, sums[i][0]);
                sums[i][1] = fmaf(ls[i], r.y, sums[i][1]);
                sums[i][2] = fmaf(ls[i], r.z, sums[i][2]);
                sums[i][3] = fmaf(ls[i], r.w, sums[i][3]);
            }
        }
#else
#pragma unroll
        for (int at = 0; at < DEPTH; at += 16) {
            u32 fragments[MI + NJ / 2][4];
            const void* rows[MI + NJ / 2];
#pragma unroll
            for (int i = 0; i < MI; ++i)
                rows[i] = left + swizzled(at + (lane & 7) + (lane >> 4) * 8, (wm + i * 16) / 8 + (lane >> 3 & 1), A_ROW);
#pragma unroll
            for (int j = 0; j < NJ / 2; ++j)
                rows[MI + j] = right + swizzled(at + (lane & 15), (wn + j * 16) / 8 + (lane >> 4), B_ROW);
            load_matrices_transposed(fragments, rows);
            u32(&l)[MI][4] = *(u32(*)[MI][4])fragments;
            u32(&r)[NJ / 2][4] = *(u32(*)[NJ / 2][4])(fragments + MI);
#if MATH == IS_bf16
            mma_bf16<MI, NJ>(sums, l, r);
#else
            mma_f16<MI, NJ>(sums, l, r);
#endif
        }
#endif
        const int ahead = stage + STAGES - 1 < STAGES ? stage + STAGES - 1 : stage - 1;
        if (step + STAGES - 1 < steps) load(ahead);
        copy_commit();
        stage = stage + 1 < STAGES ? stage + 1 : 0;
    }
    copy_wait<0>();

    float* to = a.partials + (u64)(blockIdx.y * a.groups + group) * a.k * columns;
    auto store = [&](int m, int n, float value) {
        if (m0 + m < a.k && n0 + n < columns) to[(m0 + m) * columns + n0 + n] = value;
    };
#if MATH == IS_f32
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) store(row + i, col + j, sums[i][j]);
#else
#pragma unroll
    for (int i = 0; i < MI; ++i)
#pragma unroll
        for (int j = 0; j < NJ; ++j)
#pragma unroll
            for (int q = 0; q < 4; ++q) store(wm + i * 16 + (lane >> 2) + (q >> 1) * 8, wn + j * 8 + (lane & 3) * 2 + (q & 1), sums[i][j][q]);
#endif
}
