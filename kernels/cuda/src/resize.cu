// Resampling of images: nearest, bilinear, bicubic, as PyTorch's `interpolate` with `align_corners = false`.
//
// Formula   output i lies at (i + 1/2) ratio - 1/2 of the input; nearest takes floor(i ratio), in float32 as PyTorch does;
//           bicubic is cubic convolution with A = -3/4
// Tile      a thread has eight channels of one output
// Ceiling   memory's

// Inputs and their weights along one axis.
struct Taps { int count, at[4]; float weight[4]; };

DEV Taps taps_of(ResizeMode mode, int i, double ratio, int from, int to) {
    Taps taps = {1, {0, 0, 0, 0}, {1.f, 0.f, 0.f, 0.f}};
    const double source = ratio * (i + 0.5) - 0.5;
    if (mode == ResizeMode::Nearest) {
        int at = from == to ? i : (int)floorf((float)i * (float)ratio);
        taps.at[0] = min(at, from - 1);
    } else if (mode == ResizeMode::Bilinear) {
        double inside = source > 0.0 ? source : 0.0;
        int low = min((int)inside, from - 1);
        float t = (float)(inside - low);
        taps.count = 2;
        taps.at[0] = low;
        taps.at[1] = min(low + 1, from - 1);
        taps.weight[0] = 1.f - t;
        taps.weight[1] = t;
    } else {
        const float A = -0.75f;
        const double floored = floor(source);
        const float t = (float)(source - floored);
        taps.count = 4;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            taps.at[k] = max(0, min((int)floored + k - 1, from - 1));
            float d = fabsf(t - (float)(k - 1));
            taps.weight[k] = d <= 1.f ? ((A + 2.f) * d - (A + 3.f)) * d * d + 1.f
                                      : ((A * d - 5.f * A) * d + 8.f * A) * d - 4.f * A;
        }
    }
    return taps;
}

KERNEL(resize, THREADS, 2)(const __grid_constant__ Resize a) {
    follow();
    const int vectors = (a.c + 7) / 8, total = a.n * a.out_height * a.out_width * vectors;
    const bool wide = on_16_bytes(a.x, a.x_dist), wide_y = on_16_bytes(a.y, a.y_dist);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        const int c = at % vectors * 8, pixel = at / vectors, count = a.c - c < 8 ? a.c - c : 8;
        const int ow = pixel % a.out_width, line = pixel / a.out_width;
        const T* image = a.x + line / a.out_height * a.height * a.width * a.x_dist + c;
        const Taps rows = taps_of(a.mode, line % a.out_height, a.ratio_h, a.height, a.out_height);
        const Taps cols = taps_of(a.mode, ow, a.ratio_w, a.width, a.out_width);
        float result[8] = {};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i >= rows.count) break;
            float sums[8] = {};
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                if (j >= cols.count) break;
                float v[8];
                load8(v, image + (rows.at[i] * a.width + cols.at[j]) * a.x_dist, count, wide);
#pragma unroll
                for (int q = 0; q < 8; ++q) sums[q] = fmaf(v[q], cols.weight[j], sums[q]);
            }
#pragma unroll
            for (int q = 0; q < 8; ++q) result[q] = fmaf(sums[q], rows.weight[i], result[q]);
        }
        store8(a.y + pixel * a.y_dist + c, result, count, wide_y);
    }
}
