// Backward of convolutions with one filter a channel.
//
// Formula   dx[i, c] = epilogue(sum over the windows p and taps t that see i of dy[p, c] * w[t, c])
//           dw[t, c] = sum over p of dy[p, c] * x[p stride + t dilation - pad, c]
// Layout    images NHWC with free strides; weights [r][s][c]
// Tile      depthwise_data: a thread has eight channels of one pixel of dx. depthwise_weight: a block has up to 256
//           channels, a row of taps and some lines of dy; a thread keeps eight channels of up to TAPS taps, and sums of
//           threads are added in shared memory, those of blocks by weight_end
// Roofline  memory's; rows of taps read dy once each, from the second cache

const int TAPS = 5;

// x is dy here, y is dx.
KERNEL(depthwise_data, THREADS, 2)(const __grid_constant__ Depthwise a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_y = on_16_bytes(a.y, a.y_stride), wide_w = on_16_bytes(a.w, a.c);
    const bool wide_e = wide_epilogue(a.epilogue);
    each_eight<THREADS>(outputs(a.window), a.c, [&](int pixel, int c, int count) {
        const int iw = pixel % a.window.out_width, line = pixel / a.window.out_width, ih = line % a.window.out_height, image = line / a.window.out_height;
        float sums[8] = {};
        for (int r = 0; r < a.window.r; ++r) {
            const int down = ih + a.window.pad_top - r * a.window.dilation_h, p = down / a.window.stride_h;
            if (down < 0 || down % a.window.stride_h != 0 || p >= a.window.height) continue;
            for (int s = 0; s < a.window.s; ++s) {
                const int right = iw + a.window.pad_left - s * a.window.dilation_w, q = right / a.window.stride_w;
                if (right < 0 || right % a.window.stride_w != 0 || q >= a.window.width) continue;
                float weights[8], v[8];
                load8(weights, a.w + (r * a.window.s + s) * a.c + c, count, wide_w);
                load8(v, a.x + ((image * a.window.height + p) * a.window.width + q) * a.x_stride + c, count, wide);
#pragma unroll
                for (int i = 0; i < 8; ++i) sums[i] = fmaf(v[i], weights[i], sums[i]);
            }
        }
        const Epilogue& e = a.epilogue;
        finish(sums, e, image, image * e.residual_image + ih * e.residual_row + iw * e.residual_pixel, c, count, wide_e);
        store8(a.y + pixel * a.y_stride + c, sums, count, wide_y);
    });
}

KERNEL(depthwise_weight, THREADS, 2)(const __grid_constant__ ConvWeight a) {
    follow();
    SHARED(float, joined, [THREADS * 8]);
    const int across = blockDim.x, beside = blockDim.y, channels = a.groups;
    const int c = (blockIdx.x * across + threadIdx.x) * 8, count = channels - c < 8 ? channels - c : 8, r = blockIdx.y;
    const int lines = a.window.n * a.window.out_height, first = blockIdx.z * a.per, last = first + a.per < lines ? first + a.per : lines;
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_dy = on_16_bytes(a.dy, a.dy_stride);
    float* to = a.partials + ((u64)blockIdx.z * a.window.r + r) * a.window.s * channels;
    for (int s0 = 0; s0 < a.window.s; s0 += TAPS) {
        float sums[TAPS][8] = {};
        if (count > 0) {
            for (int at = threadIdx.y; at < (last - first) * a.window.out_width; at += beside) {
                const int line = first + at / a.window.out_width, q = at % a.window.out_width, p = line % a.window.out_height;
                const int ih = p * a.window.stride_h - a.window.pad_top + r * a.window.dilation_h;
                if ((u32)ih >= (u32)a.window.height) continue;
                float d[8];
                load8(d, a.dy + (line * a.window.out_width + q) * a.dy_stride + c, count, wide_dy);
                const T* row = a.x + (line / a.window.out_height * a.window.height + ih) * a.window.width * a.x_stride + c;
#pragma unroll
                for (int t = 0; t < TAPS; ++t) {
                    const int iw = q * a.window.stride_w - a.window.pad_left + (s0 + t) * a.window.dilation_w;
                    if (s0 + t >= a.window.s || (u32)iw >= (u32)a.window.width) continue;
                    float v[8];
                    load8(v, row + iw * a.x_stride, count, wide);
#pragma unroll
                    for (int i = 0; i < 8; ++i) sums[t][i] = fmaf(v[i], d[i], sums[t][i]);
                }
            }
        }
#pragma unroll
        for (int t = 0; t < TAPS; ++t) {
            if (s0 + t >= a.window.s) break;
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
