// The gate of squeeze-and-excitation, or the means of an image alone.
//
// Formula   y[n] = second(w2 first(w1 mean[n] + b1) + b2), mean[n, c] the sum of its parts / pixels; with one map
//           y = first(..), with none y = mean
// Layout    sums as convolutions leave them; weights [out][stride] stored, rows on 16 bytes; biases float32; y [n][y_stride]
// Tile      a block has `samples` samples and `chunk` channels of y; of two maps it computes the first whole, which is the
//           price of one launch for all. A row of weights is read by as many lanes as it has vectors, up to a warp
// Order     parts are added in strides and then those sums, lanes as a tree: the same every time
// Roofline  latency; for many samples the second cache, whence every block reads the weights
// Measured  nothing yet: written without a GPU, proved on the emulator

const int WARPS = THREADS / 32;
// rows whose loads are in flight together
const int ROWS = 4;

DEV int whole(int len) { return (len + 7) / 8 * 8; }

DEV int parts_of(const Excitation& a, int image) {
    if (!a.part) return a.sums.parts;
    return ((image + 1) * a.pixels - 1) / a.part - image * a.pixels / a.part + 1;
}

// Calls done(sample, channel, mean) for channels from..to, `from` a multiple of four, of the samples from `image0` on. The
// threads are spread over four channels each, and the rest of them over parts.
template <class F> DEV void each_mean(const Excitation& a, int image0, int samples, int from, int to, F done) {
    SHARED(float4, partial, [THREADS]);
    const int quads = (to - from + 3) / 4, total = samples * quads, width = min(total, THREADS), ways = THREADS / width;
    const int own = threadIdx.x % width, way = threadIdx.x / width;
#pragma unroll 1
    for (int start = 0; start < total; start += width) {
        const int at = start + own, sample = at / quads, channel = from + (at - sample * quads) * 4;
        const bool exists = at < total && way < ways;
        float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
        if (exists) {
            const int image = image0 + sample, parts = parts_of(a, image);
            const float* p = a.sums.at + image * a.sums.parts * a.sums.stride + channel;
#pragma unroll 8
            for (int part = way; part < parts; part += ways) {
                const float4 more = *(const float4*)(p + part * a.sums.stride);
                sum = make_float4(sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w);
            }
        }
        partial[threadIdx.x] = sum;
        if (!BUG(NO_BARRIER)) __syncthreads();
        if (exists && way == 0) {
#pragma unroll 4
            for (int other = 1; other < ways; ++other) {
                const float4 more = partial[other * width + own];
                sum = make_float4(sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w);
            }
            const float all[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
            for (int j = 0; j < 4; ++j)
                if (channel + j < to) done(sample, channel + j, all[j] / a.pixels);
        }
        __syncthreads();
    }
}

// Calls done(row, sample, sum) for rows from..to of a linear map of `samples` rows of x in shared memory, x_stride apart, with
// zeros up to a multiple of eight.
template <class F>
DEV void linear(const T* w, int stride, int cols, int from, int to, const float* x, int x_stride, int samples, F done) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int width = 1;
    while (width < 32 && width * 8 < cols) width *= 2;
    const int beside = 32 / width, at = lane % width, apart = WARPS * beside;
#pragma unroll 1
    for (int row0 = from + warp * beside + lane / width, turn = from; turn < to; row0 += ROWS * apart, turn += ROWS * apart) {
        float sums[ROWS][MOST_SAMPLES] = {};
#pragma unroll 1
        for (int i = at * 8; i < cols; i += width * 8) {
            float weights[ROWS][8];
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                const int row = row0 + r * apart;
                load8(weights[r], w + row * stride + i, row < to ? cols - i : 0, true);
            }
#pragma unroll
            for (int sample = 0; sample < MOST_SAMPLES; ++sample) {
                if (sample >= samples) break;
                float v[8];
                load8(v, x + sample * x_stride + i, 8, true);
#pragma unroll
                for (int r = 0; r < ROWS; ++r)
#pragma unroll
                    for (int j = 0; j < 8; ++j) sums[r][sample] = fmaf(v[j], weights[r][j], sums[r][sample]);
            }
        }
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
            for (int sample = 0; sample < MOST_SAMPLES; ++sample) {
                if (sample >= samples) break;
                float sum = sums[r][sample];
                for (int lanes = width / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
                if (at == 0 && row0 + r * apart < to) done(row0 + r * apart, sample, sum);
            }
    }
}

DEV float activated(float sum, const Act& act) {
    float v[1] = {sum};
    activate(v, act);
    return v[0];
}

KERNEL(excitation, THREADS, 1)(const __grid_constant__ Excitation a) {
    DYNAMIC_SHARED(shared);
    const int chunks = (a.k + a.chunk - 1) / a.chunk, group = blockIdx.x / chunks;
    const int image0 = group * a.samples, samples = min(a.samples, a.n - image0);
    const int from = blockIdx.x % chunks * a.chunk, to = min(from + a.chunk, a.k);
    if (a.maps && group == 0) {
        const T* w = a.maps == 1 ? a.w1 : a.w2;
        const int stride = a.maps == 1 ? a.w1_stride : a.w2_stride, cols = a.maps == 1 ? a.c : a.hidden;
        fetch_rows_ahead(w + from * stride, to - from, (u64)stride * sizeof(T), cols * (int)sizeof(T), threadIdx.x, THREADS);
        // the first of two maps is read by all blocks: each asks for a share
        if (a.maps == 2)
            fetch_rows_ahead(a.w1, a.hidden, (u64)a.w1_stride * sizeof(T), a.c * (int)sizeof(T),
                             blockIdx.x * THREADS + threadIdx.x, chunks * THREADS);
    }
    follow();
    T* y = a.y + image0 * a.y_stride;
    if (!a.maps) {
        each_mean(a, image0, samples, from, to, [&](int sample, int channel, float mean) { put(y[sample * a.y_stride + channel], mean); });
        return;
    }
    const int c_stride = whole(a.c), hidden_stride = whole(a.hidden);
    float* means = (float*)shared;
    float* hidden = means + a.samples * c_stride;
    for (int at = threadIdx.x; at < samples * 8; at += THREADS) {
        const int sample = at / 8, tail = at % 8;
        if (a.c + tail < c_stride) means[sample * c_stride + a.c + tail] = 0.f;
        if (a.hidden + tail < hidden_stride) hidden[sample * hidden_stride + a.hidden + tail] = 0.f;
    }
    each_mean(a, image0, samples, 0, a.c, [&](int sample, int channel, float mean) { means[sample * c_stride + channel] = mean; });
    auto leave = [&](int row, int sample, float sum) { put(y[sample * a.y_stride + row], sum); };
    if (a.maps == 1) {
        linear(a.w1, a.w1_stride, a.c, from, to, means, c_stride, samples, [&](int row, int sample, float sum) {
            leave(row, sample, activated(sum + (a.b1 ? a.b1[row] : 0.f), a.first));
        });
        return;
    }
    linear(a.w1, a.w1_stride, a.c, 0, a.hidden, means, c_stride, samples, [&](int row, int sample, float sum) {
        hidden[sample * hidden_stride + row] = activated(sum + (a.b1 ? a.b1[row] : 0.f), a.first);
    });
    __syncthreads();
    linear(a.w2, a.w2_stride, a.hidden, from, to, hidden, hidden_stride, samples, [&](int row, int sample, float sum) {
        leave(row, sample, activated(sum + (a.b2 ? a.b2[row] : 0.f), a.second));
    });
}
