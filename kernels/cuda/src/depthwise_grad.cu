// Backward of convolutions with one filter a channel.
//
// Formula   dx[i, c] = epilogue(sum over the windows p and taps t that see i of dy[p, c] * w[t, c])
//           dw[t, c] = sum over p of dy[p, c] * x[p stride + t dilation - pad, c]
// Layout    images NHWC with free distances; weights [r][s][c]
// Tile      depthwise_data: a thread has eight channels of one pixel of dx. depthwise_weight: a block has up to 256
//           channels, a row of taps and some lines of dy; a thread keeps eight channels of up to TAPS taps, and sums of
//           threads are added in shared memory, those of blocks by weight_end
// Ceiling   memory's; rows of taps read dy once each, from the second cache

const int TAPS = 5;

// x is dy here, y is dx.
KERNEL(depthwise_data, THREADS, 2)(const __grid_constant__ Depthwise a) {
    follow();
    const int vectors = (a.c + 7) / 8, total = a.n * a.out_height * a.out_width * vectors;
    const bool wide = on_16_bytes(a.x, a.x_dist), wide_y = on_16_bytes(a.y, a.y_dist), wide_w = on_16_bytes(a.w, a.c);
    const bool wide_e = wide_epilogue(a.epilogue);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        const int c = at % vectors * 8, pixel = at / vectors, count = a.c - c < 8 ? a.c - c : 8;
        const int iw = pixel % a.out_width, line = pixel / a.out_width, ih = line % a.out_height, image = line / a.out_height;
        float sums[8] = {};
        for (int r = 0; r < a.r; ++r) {
            const int down = ih + a.pad_h - r * a.dilation_h, p = down / a.stride_h;
            if (down < 0 || down % a.stride_h != 0 || p >= a.height) continue;
            for (int s = 0; s < a.s; ++s) {
                const int right = iw + a.pad_w - s * a.dilation_w, q = right / a.stride_w;
                if (right < 0 || right % a.stride_w != 0 || q >= a.width) continue;
                float weights[8], v[8];
                load8(weights, a.w + (r * a.s + s) * a.c + c, count, wide_w);
                load8(v, a.x + ((image * a.height + p) * a.width + q) * a.x_dist + c, count, wide);
#pragma unroll
                for (int i = 0; i < 8; ++i) sums[i] = fmaf(v[i], weights[i], sums[i]);
            }
        }
        const Epilogue& e = a.epilogue;
        finish(sums, e, image, image * e.residual_image + ih * e.residual_row + iw * e.residual_pixel, c, count, wide_e);
        store8(a.y + pixel * a.y_dist + c, sums, count, wide_y);
    }
}

KERNEL(depthwise_weight, THREADS, 2)(const __grid_constant__ ConvWeight a) {
    follow();
    SHARED(float, joined, [THREADS * 8]);
    const int across = blockDim.x, beside = blockDim.y, channels = a.groups;
    const int c = (blockIdx.x * across + threadIdx.x) * 8, count = channels - c < 8 ? channels - c : 8, r = blockIdx.y;
    const int lines = a.n * a.out_height, first = blockIdx.z * a.per, last = first + a.per < lines ? first + a.per : lines;
    const bool wide = on_16_bytes(a.x, a.x_dist), wide_dy = on_16_bytes(a.dy, a.dy_dist);
    float* to = a.partials + ((u64)blockIdx.z * a.r + r) * a.s * channels;
    for (int s0 = 0; s0 < a.s; s0 += TAPS) {
        float sums[TAPS][8] = {};
        if (count > 0) {
            for (int at = threadIdx.y; at < (last - first) * a.out_width; at += beside) {
                const int line = first + at / a.out_width, q = at % a.out_width, p = line % a.out_height;
                const int ih = p * a.stride_h - a.pad_h + r * a.dilation_h;
                if ((u32)ih >= (u32)a.height) continue;
                float d[8];
                load8(d, a.dy + (line * a.out_width + q) * a.dy_dist + c, count, wide_dy);
                const T* row = a.x + (line / a.out_height * a.height + ih) * a.width * a.x_dist + c;
#pragma unroll
                for (int t = 0; t < TAPS; ++t) {
                    const int iw = q * a.stride_w - a.pad_w + (s0 + t) * a.dilation_w;
                    if (s0 + t >= a.s || (u32)iw >= (u32)a.width) continue;
                    float v[8];
                    load8(v, row + iw * a.x_dist, count, wide);
#pragma unroll
                    for (int i = 0; i < 8; ++i) sums[t][i] = fmaf(v[i], d[i], sums[t][i]);
                }
            }
        }
#pragma unroll
        for (int t = 0; t < TAPS; ++t) {
            if (s0 + t >= a.s) break;
#pragma unroll
            for (int i = 0; i < 8; ++i) joined[(threadIdx.y * across + threadIdx.x) * 8 + i] = sums[t][i];
            __syncthreads();
            if (threadIdx.y == 0 && count > 0) {
                for (int other = 1; other < beside; ++other)
#pragma unroll
                    for (int i = 0; i < 8; ++i) sums[t][i] += joined[(other * across + threadIdx.x) * 8 + i];
#pragma unroll
                for (int i = 0; i < 8; ++i)
                    if (i < count) to[(s0 + t) * channels + c + i] = sums[t][i];
            }
            __syncthreads();
        }
    }
}
