// Convolution as a matrix product whose left side is gathered on the fly ("implicit GEMM"); 1 x 1 and linear maps are the
// plain case of it.
//
// Formula   y[m, k] = epilogue(sum over taps t and channels c of x[pixel(m, t), c] * w[k, t, c]), m counts n, oh, ow
// Layout    images NHWC with free strides; weights [k][t][c padded to whole loads], rows on 16 bytes, so that a step of
//           the product is ROW bytes of a row of either side
// Tile      BM pixels x BN channels a block, cut into WARPS_M x WARPS_N warps; STAGES steps in flight by cp.async into
//           shared memory whose 16-byte pieces are xor-swizzled (no bank conflicts for copies, ldmatrix and float4 reads)
// Math      bf16, f16, tf32: ldmatrix and mma.sync; with -DHOPPER bf16 and f16 by wgmma, which reads both sides from
//           shared memory; f32: fused multiply-adds on 4 x 8 lanes a warp
// Loads     VEC channels at once: 16 bytes where addresses allow, 8 for a stem of few channels, else single ones; channel
//           tails are cut by cp.async's source size, so that gaps are never read
// Gate      with -DGATED a 1 x 1 convolution multiplies what it reads by a factor for each channel of each image, on the way to
//           shared memory: by registers, and so without the copies that run beside products
// Split-K   gridDim.y blocks share a tile; each leaves its sums, the last to arrive adds them in order (same bits each
//           run) and does the epilogue
// Sums      where they are wanted, a warp adds up the columns of its slabs of 16 pixels, each a part with one writer
// Roofline  the tensor cores' for deep products; memory's for 1 x 1 of few channels, hence 16-byte stores and residual
//           loads through a transposition in shared memory

const int THREADS = WARPS_M * WARPS_N * 32;
// A multiprocessor should hold so many; multiply-adds keep more at hand than fragments. Those of sm_86, sm_89 and sm_120 have
// shared memory for one large one alone.
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200)
const int LARGE_BLOCKS = 1;
#else
const int LARGE_BLOCKS = MATH == IS_f32 ? 1 : 2;
#endif
const int BLOCKS = THREADS == 256 ? LARGE_BLOCKS : 3;
const int WM = BM / WARPS_M, WN = BN / WARPS_N, MI = WM / 16, NJ = WN / 8;
const int PIECES = ROW / 16;
const int PIECE = 16 / (int)sizeof(T), STEP = ROW / (int)sizeof(T);
const int A_BYTES = BM * ROW, STAGE_BYTES = (BM + BN) * ROW;
const int A_LOADS = BM * PIECES / THREADS, B_LOADS = BN * PIECES / THREADS, ROWS_APART = THREADS / PIECES;
// Beyond so many tiles a device has other work while weights come.
const int FEW_TILES = 256;
// rows of a warp's slab in the epilogue, padded against bank conflicts
const int SLAB_ROW = WN + 8;
static_assert(BM * PIECES % THREADS == 0 && BN * PIECES % THREADS == 0, "every thread loads as much");
static_assert(ROW == 64 || ROW == 128, "what the swizzle is for");
static_assert(PIECE % VEC == 0 && WN % 16 == 0 && WM % 16 == 0, "tiles in whole fragments");
static_assert(WARPS_M * WARPS_N * 16 * SLAB_ROW * 4 <= STAGES * STAGE_BYTES, "slabs fit where the stages were");

// Where piece `piece` of row `row` lies.
DEV int swizzled(int row, int piece) {
    return row * ROW + ((piece ^ (ROW == 64 ? row >> 1 & 3 : row & 7)) << 4);
}

struct Pixel {
    int at, ih, iw;
#ifdef GATED
    const T* scale;
#endif
};

// Follows one piece of the depth from step to step.
struct Depth {
    int r, s, c, padded;
    DEV_MEMBER Depth(const Conv& a, int k) {
        padded = (a.c + VEC - 1) / VEC * VEC;
        int tap = k / padded;
        c = k - tap * padded;
        r = a.window.s ? tap / a.window.s : 0;
        s = tap - r * a.window.s;
    }
    DEV_MEMBER void advance(const Conv& a, int by) {
        c += by;
        while (c >= padded) {
            c -= padded;
            if (++s == a.window.s) {
                s = 0;
                ++r;
            }
        }
    }
};

#ifdef GATED
// VEC channels of a pixel, of which `left` exist, times their factors.
DEV void load_gated(u8* to, const T* from, const T* scale, int left, bool wide) {
    uint4 raw = make_uint4(0, 0, 0, 0);
    T* values = (T*)&raw;
    if (VEC == PIECE && left >= VEC && wide) {
        raw = *(const uint4*)from;
        const uint4 factors = *(const uint4*)scale;
#pragma unroll
        for (int i = 0; i < VEC; ++i) put(values[i], to_float(values[i]) * to_float(((const T*)&factors)[i]));
    } else {
#pragma unroll
        for (int i = 0; i < VEC; ++i)
            if (i < left) put(values[i], to_float(from[i]) * to_float(scale[i]));
    }
    if (VEC == PIECE) {
        *(uint4*)to = raw;
    } else {
#pragma unroll
        for (int i = 0; i < VEC; ++i) ((T*)to)[i] = values[i];
    }
}
#endif

// A piece of the left side: VEC channels at a time.
DEV void load_piece(u8* to, const T* x, const Conv& a, const Pixel& pixel, Depth depth) {
#pragma unroll
    for (int part = 0; part < PIECE; part += VEC) {
        int ih = pixel.ih + depth.r * a.window.dilation_h, iw = pixel.iw + depth.s * a.window.dilation_w;
        bool inside = depth.r < a.window.r && (u32)ih < (u32)a.window.height && (u32)iw < (u32)a.window.width;
        const T* from = inside ? x + (pixel.at + ih * a.x_row + iw * a.x_pixel + depth.c) : x;
#ifdef GATED
        load_gated(to + part * sizeof(T), from, pixel.scale + depth.c, inside ? a.c - depth.c : 0, on_16_bytes(a.scale, a.scale_stride));
#else
        if (VEC * sizeof(T) >= 4) {
            int left = a.c - depth.c;
            copy_async<VEC * sizeof(T) < 4 ? 4 : VEC * (int)sizeof(T)>(
                to + part * sizeof(T), from, inside ? (left < VEC ? left : VEC) * (int)sizeof(T) : 0);
        } else {
            T value;
            put(value, 0.f);
            if (inside) value = *from;
            *(T*)(to + part * sizeof(T)) = value;
        }
#endif
        if (part + VEC < PIECE) depth.advance(a, VEC);
    }
}

// Products of one step. A warp's sums are MI x NJ tiles of 16 x 8; which number of a tile a lane holds depends on the math.
DEV void multiply(float (&sums)[MI][NJ][4], const u8* a, const u8* b, int lane, int wm, int wn) {
#if defined(HOPPER)
    // A warpgroup has 64 rows, of which each warp gets the sums of 16, as tiles of mma.sync would lie.
    static_assert(ROW == 128 && WM == 16 && WARPS_M % 4 == 0 && WARPS_N == 1, "the shape of a warpgroup");
    float(&all)[NJ * 4] = *(float(*)[NJ * 4])sums;
    wgmma_begin();
#pragma unroll
    for (int at = 0; at < ROW; at += 32) {
        const u64 left = wgmma_side(a + wm / 64 * 64 * ROW + at), right = wgmma_side(b + at);
#if MATH == IS_bf16
        wgmma_bf16(all, left, right, 1);
#else
        wgmma_f16(all, left, right, 1);
#endif
    }
    wgmma_commit();
#elif MATH == IS_f32
    // unrolled, it would take twice the registers
#pragma unroll 1
    for (int piece = 0; piece < PIECES; ++piece) {
        float4 right[NJ];
#pragma unroll
        for (int j = 0; j < NJ; ++j) right[j] = *(const float4*)(b + swizzled(wn + j * 8 + (lane & 7), piece));
#pragma unroll
        for (int i = 0; i < MI * 4; ++i) {
            float4 left = *(const float4*)(a + swizzled(wm + i * 4 + (lane >> 3), piece));
#pragma unroll
            for (int j = 0; j < NJ; ++j) {
                float& sum = sums[i >> 2][j][i & 3];
                sum = fmaf(left.x, right[j].x, sum);
                sum = fmaf(left.y, right[j].y, sum);
                sum = fmaf(left.z, right[j].z, sum);
                sum = fmaf(left.w, right[j].w, sum);
            }
        }
    }
#else
    // more at once would not leave registers for BLOCKS blocks
#pragma unroll 2
    for (int half = 0; half < PIECES; half += 2) {
        u32 fragments[MI + NJ / 2][4];
        const void* rows[MI + NJ / 2];
#pragma unroll
        for (int i = 0; i < MI; ++i) rows[i] = a + swizzled(wm + i * 16 + (lane & 15), half + (lane >> 4));
#pragma unroll
        for (int j = 0; j < NJ / 2; ++j)
            rows[MI + j] = b + swizzled(wn + j * 16 + (lane & 7) + (lane >> 4) * 8, half + (lane >> 3 & 1));
        load_matrices(fragments, rows);
        u32(&left)[MI][4] = *(u32(*)[MI][4])fragments;
        u32(&right)[NJ / 2][4] = *(u32(*)[NJ / 2][4])(fragments + MI);
#if MATH == IS_tf32
#pragma unroll
        for (int i = 0; i < MI + NJ / 2; ++i)
#pragma unroll
            for (int q = 0; q < 4; ++q) fragments[i][q] = tf32_bits(__uint_as_float(fragments[i][q]));
        mma_tf32<MI, NJ>(sums, left, right);
#elif MATH == IS_bf16
        mma_bf16<MI, NJ>(sums, left, right);
#else
        mma_f16<MI, NJ>(sums, left, right);
#endif
    }
#endif
}

// Row and column, within a 16 x 8 tile, of a lane's number `q`.
DEV int tile_row(int lane, int q) { return MATH == IS_f32 ? q * 4 + (lane >> 3) : (lane >> 2) + (q >> 1) * 8; }
DEV int tile_col(int lane, int q) { return MATH == IS_f32 ? lane & 7 : (lane & 3) * 2 + (q & 1); }

KERNEL(conv_igemm, THREADS, BLOCKS)(const Conv a) {
    DYNAMIC_SHARED(shared);
    const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const int wm = warp % WARPS_M * WM, wn = warp / WARPS_M * WN;
    // blocks that read the same pixels follow one another, so that only the first reads them from memory
    const int tile = blockIdx.x, tiles = gridDim.x, tiles_n = (a.k + BN - 1) / BN, tiles_beside = tiles_n * a.groups;
    const int beside = tile % tiles_beside, group = beside / tiles_n;
    const int m0 = tile / tiles_beside * BM, n0 = (beside - group * tiles_n) * BN;
    const int out_pixels = a.window.out_height * a.window.out_width, pixels = a.window.n * out_pixels;
    const T* x = a.x + group * a.c;
    const T* w = a.w + (group * a.k + n0) * a.w_stride;

    const int steps = (a.w_stride + STEP - 1) / STEP, per = (steps + a.splits - 1) / a.splits;
    const int first = blockIdx.y * per, last = first + per < steps ? first + per : steps;

    const int load_row = tid / PIECES, load_piece_at = tid % PIECES;
    Pixel pixel[A_LOADS];
#pragma unroll
    for (int i = 0; i < A_LOADS; ++i) {
        int m = m0 + load_row + i * ROWS_APART;
        int image = m / out_pixels, at = m - image * out_pixels, oh = at / a.window.out_width;
        pixel[i].at = image * a.x_image;
        // outside of any image
        pixel[i].ih = m < pixels ? oh * a.window.stride_h - a.window.pad_top : -(1 << 30);
        pixel[i].iw = (at - oh * a.window.out_width) * a.window.stride_w - a.window.pad_left;
#ifdef GATED
        pixel[i].scale = a.scale + image * a.scale_stride;
#endif
    }
    int k = first * STEP + load_piece_at * PIECE;
    Depth depth(a, k);
    auto load = [&](int stage) {
        u8* to = shared + stage * STAGE_BYTES;
#pragma unroll
        for (int i = 0; i < A_LOADS; ++i)
            load_piece(to + swizzled(load_row + i * ROWS_APART, load_piece_at), x, a, pixel[i], depth);
#pragma unroll
        for (int i = 0; i < B_LOADS; ++i) {
            int row = load_row + i * ROWS_APART;
            bool inside = n0 + row < a.k && k < a.w_stride;
            copy_async<16>(to + A_BYTES + swizzled(row, load_piece_at), inside ? w + row * a.w_stride + k : w, inside ? 16 : 0);
        }
        k += STEP;
        depth.advance(a, STEP);
    };

    float sums[MI][NJ][4] = {};
    float(&flat)[MI * NJ * 4] = *(float(*)[MI * NJ * 4])sums;
    if (gridDim.x <= FEW_TILES && first < last)
        fetch_rows_ahead(w + first * STEP, min(BN, a.k - n0), (u64)a.w_stride * sizeof(T),
                         (min(last * STEP, a.w_stride) - first * STEP) * (int)sizeof(T), tid, THREADS);
    follow();
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) {
        if (first + stage < last) load(stage);
        copy_commit();
    }
    for (int step = first, stage = 0; step < last; ++step) {
        copy_wait<STAGES - 2 + BUG(COPY_WAIT)>();
#ifdef HOPPER
        if (!BUG(NO_FENCE)) fence_for_wgmma();
#endif
        if (!BUG(NO_BARRIER)) __syncthreads();
        const u8* from = shared + stage * STAGE_BYTES;
#ifdef HOPPER
        multiply(sums, from, from + A_BYTES, lane, wm, wn);
#endif
        int ahead = stage + STAGES - 1 < STAGES ? stage + STAGES - 1 : stage - 1;
        if (step + STAGES - 1 < last) load(ahead);
        copy_commit();
#ifdef HOPPER
        // the loads of a later step run beside the products
        if (!BUG(WGMMA_WAIT)) wgmma_wait<0>();
#else
        multiply(sums, from, from + A_BYTES, lane, wm, wn);
#endif
        stage = stage + 1 < STAGES ? stage + 1 : 0;
    }
    copy_wait<0>();
    __syncthreads();

    if (a.splits > 1) {
        float* own = a.partials + (u64)tile * BM * BN + tid;
        const u64 apart = (u64)tiles * BM * BN;
#pragma unroll
        for (int i = 0; i < MI * NJ * 4; ++i) own[blockIdx.y * apart + i * THREADS] = flat[i];
        __threadfence();
        __syncthreads();
        u32* arrived = (u32*)shared;
        if (tid == 0) *arrived = atomicAdd(a.counters + tile, 1u);
        __syncthreads();
        if (*arrived != (u32)a.splits - 1) return;
        __threadfence();
        if (tid == 0) a.counters[tile] = 0;
#pragma unroll
        for (int i = 0; i < MI * NJ * 4; ++i) flat[i] = 0.f;
        // many loads in flight before the first is needed: one after the other they cost more than the products
#pragma unroll 1
        for (int split = 0; split < a.splits; ++split) {
            float part[MI * NJ * 4];
#pragma unroll
            for (int i = 0; i < MI * NJ * 4; ++i) part[i] = load_coherent(own + split * apart + i * THREADS);
#pragma unroll
            for (int i = 0; i < MI * NJ * 4; ++i) flat[i] += part[i];
        }
        // `arrived` lies where a slab comes
        __syncthreads();
    }

    // 16 rows at a time through shared memory: a lane then has eight neighbouring channels of a pixel
    float* slab = (float*)shared + warp * 16 * SLAB_ROW;
    const int channel0 = group * a.k;
    const bool wide_y = on_16_bytes(a.y + channel0, a.y_image, a.y_row, a.y_pixel);
    const bool wide_e = wide_epilogue(a.epilogue) && channel0 * (int)sizeof(T) % 16 == 0;
#pragma unroll 1
    for (int at_slab = 0; at_slab < MI; ++at_slab) {
        // the loop does not unroll, and registers have no index
#pragma unroll
        for (int i = 0; i < MI; ++i)
            if (i == at_slab) {
#pragma unroll
                for (int j = 0; j < NJ; ++j)
#pragma unroll
                    for (int q = 0; q < 4; ++q) slab[tile_row(lane, q) * SLAB_ROW + j * 8 + tile_col(lane, q)] = sums[i][j][q];
            }
        __syncwarp();
#pragma unroll 1
        for (int at = lane; at < 16 * NJ; at += 32) {
            int row = at / NJ, n = n0 + wn + at % NJ * 8, m = m0 + wm + at_slab * 16 + row;
            if (m >= pixels || n >= a.k) continue;
            int count = a.k - n < 8 ? a.k - n : 8;
            float v[8];
            load8(v, slab + row * SLAB_ROW + at % NJ * 8, 8, true);
            int image = m / out_pixels, rest = m - image * out_pixels, oh = rest / a.window.out_width, ow = rest - oh * a.window.out_width;
            const Epilogue& e = a.epilogue;
            int residual_at = image * e.residual_image + oh * e.residual_row + ow * e.residual_pixel;
            finish(v, e, image, residual_at, channel0 + n, count, wide_e);
            if (a.y) store8(a.y + (image * a.y_image + oh * a.y_row + ow * a.y_pixel + channel0 + n), v, count, wide_y);
            if (a.sums.at) store8(slab + row * SLAB_ROW + at % NJ * 8, v, 8, true);
        }
        __syncwarp();
        if (a.sums.at) {
#pragma unroll 1
            for (int col = lane; col < WN; col += 32)
                if (n0 + wn + col < a.k)
                    add_up(a.sums, m0 + wm + at_slab * 16, pixels, out_pixels, channel0 + n0 + wn + col,
                           [&](int row) { return slab[row * SLAB_ROW + col]; });
            __syncwarp();
        }
    }
}
