// Convolution on Hopper, where TMA gathers the left side: conv_igemm's product by other means (sm_90a).
//
// Formula   y[m, k] = epilogue(sum over taps t and channels c of x[pixel(m, t), c] * w[k, t, c]), m counts n, oh, ow
// Layout    as conv_igemm; a step of the product is 64 channels of one tap, channels beyond the last count as zeros
// Copies    one thread issues all: pixels by a tensor map of windows ("im2col", strides and dilation in the map and the
//           coordinates), of rows where each output has one pixel; weights by a map [k][tap][c]. Boxes land in rows of 128
//           bytes, swizzled as wgmma reads them
// Tile      BM pixels x BN channels. Two warpgroups multiply, a third copies and leaves them its registers. A ring of
//           STAGES steps: `full` counts the bytes that have come, `empty` the warps that are done
// Turns     with TURNS 2 each warpgroup has a tile of its own, so that one stores while the other multiplies (short
//           depths); with TURNS 1 both share a larger tile, which takes less of the second cache's rate (long depths)
// Order     a block a multiprocessor, which takes every gridDim.x-th tile; tiles of the same pixels are neighbours, so that
//           pixels come from memory once and weights stay in the second cache. Copies run ahead into the next tiles
// Sums      as conv_igemm
// Roofline  deep products: the second cache, (1 / BM + 1 / BN) bytes an operation, then the tensor cores; 1 x 1 of few
//           channels: memory, hence residuals that are fetched a slab ahead
// Measured  nothing yet: written without a GPU, proved on the emulator

// 64 pixels x BN channels are one wgmma's
const int MI = BM / 64 * TURNS / 2;
const int STEP = 64;
const int A_BYTES = BM * ROW, STAGE_BYTES = (BM + BN) * ROW;
// a warp's slabs of SLAB columns, sums of 16 pixels on their way to y
const int SLABS = BN / SLAB, FETCHES = SLAB / 16;
static_assert(MATH == IS_bf16 || MATH == IS_f16, "what wgmma multiplies");
static_assert((TURNS == 1 || TURNS == 2) && MI >= 1 && BN % SLAB == 0 && BM <= 256 && BN <= 256, "boxes and warpgroups");
static_assert(MI * BN <= 256, "sums in registers");

struct Tile {
    int m0, n0;
    DEV_MEMBER Tile(const ConvTma& a, int tile) {
        const int beside = (a.k + BN - 1) / BN;
        m0 = tile / beside * BM;
        n0 = tile % beside * BN;
    }
};

// A place in the ring, and whether the ring was gone through an odd number of times.
struct Place {
    int stage;
    u32 turn;
    DEV_MEMBER void advance() {
        if (++stage == STAGES) {
            stage = 0;
            turn ^= 1;
        }
    }
    DEV_MEMBER void skip(int steps) {
        stage += steps;
        turn ^= stage / STAGES & 1;
        stage %= STAGES;
    }
};

DEV void bring(const ConvTma& a, u8* shared, u64* full, u64* empty, int tiles) {
    const int out_pixels = a.window.out_height * a.window.out_width, steps = a.window.r * a.window.s * a.steps_c;
    auto bring_weights = [&](int stage, int c, int tap, int n0) {
        barrier_arrive_expect(full + stage, BUG(FEW_BYTES) ? A_BYTES : STAGE_BYTES);
        copy_box(shared + stage * STAGE_BYTES + A_BYTES, &a.w, full + stage, c * STEP, tap, n0);
    };
    // weights are nobody's to write: the first need not wait for the kernel before
    int early = (int)blockIdx.x < tiles ? min(steps, STAGES) : 0;
#pragma unroll 1
    for (int step = 0; step < early; ++step)
        bring_weights(step, step % a.steps_c, step / a.steps_c, Tile(a, blockIdx.x).n0);
    follow();
    Place place = {0, 0};
#pragma unroll 1
    for (int at = blockIdx.x; at < tiles; at += gridDim.x) {
        const Tile tile(a, at);
        const int image = tile.m0 / out_pixels, rest = tile.m0 - image * out_pixels, oh = rest / a.window.out_width;
        const int ih = oh * a.window.stride_h - a.window.pad_top, iw = (rest - oh * a.window.out_width) * a.window.stride_w - a.window.pad_left;
#pragma unroll 1
        for (int r = 0, tap = 0; r < a.window.r; ++r)
#pragma unroll 1
            for (int s = 0; s < a.window.s; ++s, ++tap)
#pragma unroll 1
                for (int c = 0; c < a.steps_c; ++c, --early) {
                    if (early <= 0) {
                        if (!BUG(EARLY_COPY)) barrier_wait(empty + place.stage, place.turn ^ 1);
                        bring_weights(place.stage, c, tap, tile.n0);
                    }
                    u8* to = shared + place.stage * STAGE_BYTES;
                    if (a.windows)
                        copy_windows(to, &a.x, full + place.stage, c * STEP, iw, ih, image, s * a.window.dilation_w, r * a.window.dilation_h);
                    else
                        copy_box(to, &a.x, full + place.stage, c * STEP, tile.m0);
                    place.advance();
                }
    }
}

// Sums of one tile by one warpgroup, whose rows of a stage begin at `rows`; `next` learns when its steps have come.
DEV void multiply(float (&sums)[MI][BN / 2], const u8* shared, u64* full, u64* empty, u64* next, Place& place, int rows, int steps,
                  int lane) {
    int before = 0;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
        if (!BUG(FULL_WAIT)) barrier_wait(full + place.stage, place.turn ^ BUG(PARITY));
        const u8* stage = shared + place.stage * STAGE_BYTES;
        wgmma_begin();
#pragma unroll
        for (int at = 0; at < ROW; at += 32)
#pragma unroll
            for (int i = 0; i < MI; ++i) {
                const u64 left = wgmma_side(stage + (rows + i * 64) * ROW + at), right = wgmma_side(stage + A_BYTES + at);
#if MATH == IS_bf16
                wgmma_bf16(sums[i], left, right, step | at);
#else
                wgmma_f16(sums[i], left, right, step | at);
#endif
            }
        wgmma_commit();
        // the step before is done, and its stage is free
        wgmma_wait<1>();
        if (step > 0 && lane == 0 && !BUG(NO_RELEASE)) barrier_arrive(empty + before);
        before = place.stage;
        place.advance();
    }
    if (TURNS == 2 && lane == 0) barrier_arrive(next);
    wgmma_wait<0>();
    if (lane == 0) barrier_arrive(empty + before);
}

// Where a pixel of y, and of the residual, begins.
struct Spot {
    int y, residual, image;
    DEV_MEMBER Spot(const ConvTma& a, int m) {
        const Epilogue& e = a.epilogue;
        y = m * a.y_pixel;
        residual = m * e.residual_pixel;
        image = 0;
        if (!a.plain || e.gate) {
            const int out_pixels = a.window.out_height * a.window.out_width;
            image = m / out_pixels;
            if (!a.plain) {
                const int rest = m - image * out_pixels, oh = rest / a.window.out_width, ow = rest - oh * a.window.out_width;
                y = image * a.y_image + oh * a.y_row + ow * a.y_pixel;
                residual = image * e.residual_image + oh * e.residual_row + ow * e.residual_pixel;
            }
        }
    }
};

// A warp's 16 pixels x SLAB channels at a time through shared memory: a lane then has eight neighbouring channels of a
// few pixels. `row0` is the first pixel of the warp's first slab.
DEV void store(const float (&sums)[MI][BN / 2], const ConvTma& a, float* slab, int row0, int n0, int lane) {
    const Epilogue& e = a.epilogue;
    const bool wide_y = on_16_bytes(a.y, a.y_image, a.y_row, a.y_pixel), wide_e = wide_epilogue(e);
    const int row = lane >> 3, piece = lane & 7;
    // residuals on their way, those of the next pixels first
    uint4 ahead[FETCHES] = {};
    auto fetch = [&](int at, int q) {
        const int m = row0 + at / SLABS * 64 + row + q * 4, n = n0 + at % SLABS * SLAB + piece * 8;
        if (e.residual && wide_e && at < MI * SLABS && m < a.pixels && n + 8 <= a.k)
            ahead[FETCHES - 1] = *(const uint4*)(e.residual + Spot(a, m).residual + n);
    };
    auto shift = [&] {
#pragma unroll
        for (int i = 1; i < FETCHES; ++i) ahead[i - 1] = ahead[i];
    };
#pragma unroll
    for (int q = 0; q < FETCHES; ++q) {
        shift();
        fetch(0, q);
    }
#pragma unroll 1
    for (int at = 0; at < MI * SLABS; ++at) {
        // the loop does not unroll, and registers have no index
#pragma unroll
        for (int i = 0; i < MI * SLABS; ++i)
            if (i == at) {
#pragma unroll
                for (int j = 0; j < SLAB / 8; ++j)
#pragma unroll
                    for (int h = 0; h < 2; ++h) {
                        const float* pair = sums[i / SLABS] + (i % SLABS * (SLAB / 8) + j) * 4 + h * 2;
                        const int to = (lane >> 2) + h * 8;
                        // pieces of eight are xor-ed with the row against bank conflicts
                        *(float2*)(slab + to * SLAB + (j ^ (to & 7)) * 8 + (lane & 3) * 2) = make_float2(pair[0], pair[1]);
                    }
            }
        __syncwarp();
        const int n = n0 + at % SLABS * SLAB + piece * 8;
#pragma unroll 1
        for (int q = 0; q < FETCHES; ++q) {
            const int from = row + q * 4, m = row0 + at / SLABS * 64 + from;
            const uint4 own = ahead[0];
            shift();
            fetch(at + 1, q);
            if (m >= a.pixels || n >= a.k) continue;
            const int count = a.k - n < 8 ? a.k - n : 8;
            float v[8];
            load8(v, slab + from * SLAB + (piece ^ (from & 7)) * 8, 8, true);
            const Spot spot(a, m);
            finish_with(v, e, spot.image, n, count, wide_e, [&](float(&other)[8]) {
                if (wide_e && count == 8)
                    widen<T>(other, own);
                else
                    load8(other, e.residual + spot.residual + n, count, false);
            });
            if (a.y) store8(a.y + spot.y + n, v, count, wide_y);
            if (a.sums.at) store8(slab + from * SLAB + (piece ^ (from & 7)) * 8, v, 8, true);
        }
        __syncwarp();
        if (a.sums.at) {
            const int first = n0 + at % SLABS * SLAB;
#pragma unroll 1
            for (int col = lane; col < SLAB; col += 32)
                if (first + col < a.k)
                    add_up(a.sums, row0 + at / SLABS * 64, a.pixels, a.window.out_height * a.window.out_width, first + col,
                           [&](int row) { return slab[row * SLAB + ((col >> 3) ^ (row & 7)) * 8 + (col & 7)]; });
            __syncwarp();
        }
    }
}

KERNEL(conv_tma, THREADS, 1)(const __grid_constant__ ConvTma a) {
    DYNAMIC_SHARED(shared);
    u64* full = (u64*)(shared + STAGES * STAGE_BYTES + WARPS * 16 * SLAB * 4);
    u64 *empty = full + STAGES, *turns = empty + STAGES;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = warp >> 2;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; ++stage) {
            barrier_init(full + stage, 1);
            barrier_init(empty + stage, WARPS / TURNS);
        }
        for (int i = 0; i < 2; ++i) barrier_init(turns + i, 4);
        if (!BUG(NO_FENCE)) fence_barriers();
    }
    __syncthreads();
    const int tiles = ((a.pixels + BM - 1) / BM) * ((a.k + BN - 1) / BN);
    if (group == 2) {
        fewer_registers<56>();
        if (threadIdx.x == WARPS * 32) bring(a, shared, full, empty, tiles);
    } else {
        more_registers<224>();
        follow();
        float* slab = (float*)(shared + STAGES * STAGE_BYTES) + warp * 16 * SLAB;
        const int rows = TURNS == 2 ? 0 : group * MI * 64, steps = a.window.r * a.window.s * a.steps_c;
        Place place = {0, 0};
        if (TURNS == 2 && group == 1) place.skip(steps);
        u32 waits = group ^ 1;
#pragma unroll 1
        for (int at = blockIdx.x + (TURNS == 2 ? group * gridDim.x : 0); at < tiles; at += TURNS * gridDim.x) {
            const Tile tile(a, at);
            float sums[MI][BN / 2];
            // a barrier tells one phase from the next, not from the one after: who waits for a later lap than the ring is
            // in would go on at once
            if (TURNS == 2 && !BUG(NO_TURNS)) barrier_wait(turns + group, waits);
            waits ^= 1;
            multiply(sums, shared, full, empty, turns + (group ^ 1), place, rows, steps, lane);
            store(sums, a, slab, tile.m0 + rows + (warp & 3) * 16, tile.n0, lane);
            if (TURNS == 2) place.skip(steps);
        }
    }
}
