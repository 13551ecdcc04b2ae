// Convolution with one filter a channel.
//
// Formula   y[n, oh, ow, c] = epilogue(sum over r, s of x[n, ih(r), iw(s), c] * w[r, s, c])
// Layout    images NHWC with free strides; weights [r][s][c]
// Tile      a thread has eight channels of STRIP neighbouring outputs of a row; of each row of the window it reads every
//           input once and keeps it for all outputs that need it
// Sums      where they are asked for, a block keeps to `beside` vectors of channels of one image, a strip a thread, and leaves
//           their sums as one part
// Roofline  memory's; neighbouring rows find their inputs in the caches

struct Place { int image, oh, ow, c; };

// The outputs `at`: channels vary fastest, so that neighbouring threads read neighbouring addresses.
DEV Place place_of(const Depthwise& a, int at) {
    const int vectors = (a.c + 7) / 8, strips = (a.window.out_width + STRIP - 1) / STRIP;
    Place p;
    p.c = at % vectors * 8;
    at /= vectors;
    p.ow = at % strips * STRIP;
    at /= strips;
    p.oh = at % a.window.out_height;
    p.image = at / a.window.out_height;
    return p;
}

DEV int work(const Depthwise& a) {
    return a.window.n * a.window.out_height * ((a.window.out_width + STRIP - 1) / STRIP) * ((a.c + 7) / 8);
}

// A block's place where sums are asked for.
struct Part {
    int image, group, part;
    DEV_MEMBER Part(const Depthwise& a) {
        const int groups = ((a.c + 7) / 8 + a.beside - 1) / a.beside;
        part = blockIdx.x % a.sums.parts;
        group = blockIdx.x / a.sums.parts % groups;
        image = blockIdx.x / a.sums.parts / groups;
    }
};

// Which outputs a thread has first; all there are where it has none.
DEV int first_of(const Depthwise& a) {
    if (!a.sums.at) return blockIdx.x * THREADS + threadIdx.x;
    const Part p(a);
    const int vectors = (a.c + 7) / 8, strips = a.window.out_height * ((a.window.out_width + STRIP - 1) / STRIP), deep = THREADS / a.beside;
    const int down = threadIdx.x / a.beside, strip = p.part * deep + down, vector = p.group * a.beside + threadIdx.x % a.beside;
    return down < deep && strip < strips && vector < vectors ? (p.image * strips + strip) * vectors + vector : work(a);
}

DEV void store_strip(const Depthwise& a, const Place& p, float (&sums)[STRIP][8], int count, float* own) {
    const bool wide_y = on_16_bytes(a.y, a.y_stride), wide_e = wide_epilogue(a.epilogue);
    const Epilogue& e = a.epilogue;
    const int left = a.window.out_width - p.ow < STRIP ? a.window.out_width - p.ow : STRIP;
    float total[8] = {};
#pragma unroll 1
    for (int i = 0; i < left; ++i) {
        float v[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) v[j] = sums[0][j];
        int ow = p.ow + i, residual_at = p.image * e.residual_image + p.oh * e.residual_row + ow * e.residual_pixel;
        finish(v, e, p.image, residual_at, p.c, count, wide_e);
        if (a.y) store8(a.y + ((p.image * a.window.out_height + p.oh) * a.window.out_width + ow) * a.y_stride + p.c, v, count, wide_y);
        // the next to the front: the loop does not unroll, and registers have no index
#pragma unroll
        for (int j = 0; j < 8; ++j) total[j] += v[j];
#pragma unroll
        for (int next = 1; next < STRIP; ++next)
#pragma unroll
            for (int j = 0; j < 8; ++j) sums[next - 1][j] = sums[next][j];
    }
    if (a.sums.at) store8(own, total, 8, true);
}

// The sums of a block's strips, of which each thread has left its own.
DEV void leave_sums(const Depthwise& a, const float (*own)[8]) {
    SHARED(float, joined, [THREADS]);
    if (!BUG(NO_BARRIER)) __syncthreads();
    const int columns = a.beside * 8, deep = THREADS / a.beside, ways = THREADS / columns;
    const int column = threadIdx.x % columns, way = threadIdx.x / columns;
    float sum = 0.f;
    if (way < ways)
        for (int down = way; down < deep; down += ways) sum += own[down * a.beside + column / 8][column % 8];
    joined[threadIdx.x] = sum;
    __syncthreads();
    if (way > 0) return;
    for (int other = 1; other < ways; ++other) sum += joined[other * columns + column];
    const Part p(a);
    const int channel = p.group * columns + column;
    if (channel < a.c) a.sums.at[(p.image * a.sums.parts + p.part) * a.sums.stride + channel] = sum;
}

// Calls sums_of(place, channels, sums) for each of a thread's strips, and stores them.
template <class F> DEV void each_strip(const Depthwise& a, F sums_of) {
    SHARED(float, own, [THREADS][8]);
    if (a.sums.at) {
        const float none[8] = {};
        store8(own[threadIdx.x], none, 8, true);
    }
    const int total = work(a), step = a.sums.at ? total : gridDim.x * THREADS;
    for (int at = first_of(a); at < total; at += step) {
        const Place p = place_of(a, at);
        const int count = a.c - p.c < 8 ? a.c - p.c : 8;
        float sums[STRIP][8] = {};
        sums_of(p, count, sums);
        store_strip(a, p, sums, count, own[threadIdx.x]);
    }
    if (a.sums.at) leave_sums(a, own);
}

// A window of K x K without dilation, moved by STRIDE, whose loops unroll.
template <int K, int STRIDE> DEV void strips(const Depthwise& a) {
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_w = on_16_bytes(a.w, a.c);
    each_strip(a, [&](const Place& p, int count, float(&sums)[STRIP][8]) {
        const int iw0 = p.ow * STRIDE - a.window.pad_left;
#pragma unroll 1
        for (int r = 0; r < K; ++r) {
            int ih = p.oh * STRIDE - a.window.pad_top + r;
            if ((u32)ih >= (u32)a.window.height) continue;
            float weights[K][8];
#pragma unroll
            for (int s = 0; s < K; ++s) load8(weights[s], a.w + (r * K + s) * a.c + p.c, count, wide_w);
            const T* row = a.x + (a.window.height * p.image + ih) * a.window.width * a.x_stride + p.c;
#pragma unroll
            for (int column = 0; column < (STRIP - 1) * STRIDE + K; ++column) {
                int iw = iw0 + column;
                if ((u32)iw >= (u32)a.window.width) continue;
                float v[8];
                load8(v, row + iw * a.x_stride, count, wide);
#pragma unroll
                for (int i = 0; i < STRIP; ++i) {
                    const int s = column - i * STRIDE;
                    if (s < 0 || s >= K) continue;
#pragma unroll
                    for (int j = 0; j < 8; ++j) sums[i][j] = fmaf(v[j], weights[s][j], sums[i][j]);
                }
            }
        }
    });
}

KERNEL(depthwise_3x3, THREADS, 2)(const __grid_constant__ Depthwise a) {
    follow();
    strips<3, 1>(a);
}

KERNEL(depthwise_3x3_by_2, THREADS, 2)(const __grid_constant__ Depthwise a) {
    follow();
    strips<3, 2>(a);
}

KERNEL(depthwise_5x5, THREADS, 2)(const __grid_constant__ Depthwise a) {
    follow();
    strips<5, 1>(a);
}

KERNEL(depthwise_5x5_by_2, THREADS, 2)(const __grid_constant__ Depthwise a) {
    follow();
    strips<5, 2>(a);
}

KERNEL(depthwise, THREADS, 2)(const __grid_constant__ Depthwise a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_w = on_16_bytes(a.w, a.c);
    each_strip(a, [&](const Place& p, int count, float(&sums)[STRIP][8]) {
        for (int r = 0; r < a.window.r; ++r) {
            int ih = p.oh * a.window.stride_h - a.window.pad_top + r * a.window.dilation_h;
            if ((u32)ih >= (u32)a.window.height) continue;
            const T* row = a.x + (a.window.height * p.image + ih) * a.window.width * a.x_stride + p.c;
            for (int s = 0; s < a.window.s; ++s) {
                float weights[8];
                load8(weights, a.w + (r * a.window.s + s) * a.c + p.c, count, wide_w);
#pragma unroll
                for (int i = 0; i < STRIP; ++i) {
                    int iw = (p.ow + i) * a.window.stride_w - a.window.pad_left + s * a.window.dilation_w;
                    if ((u32)iw >= (u32)a.window.width) continue;
                    float v[8];
                    load8(v, row + iw * a.x_stride, count, wide);
#pragma unroll
                    for (int j = 0; j < 8; ++j) sums[i][j] = fmaf(v[j], weights[j], sums[i][j]);
                }
            }
        }
    });
}
