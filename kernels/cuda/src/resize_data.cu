// The gradient of a resampling: each input gathers from the outputs that it is part of.
//
// Formula   dx[i] = sum over outputs o of d[o] times the weight of i in o, as resize.cu has it
// Tile      a thread has eight channels of one input; outputs that may read it are a few neighbours, and at the edges, where
//           reads are clamped, those beyond
// Roofline  memory's

// How much input `i` counts in output `o`.
DEV float share_of(ResizeMode mode, int i, int o, double ratio, int from, int to) {
    const Taps taps = taps_of(mode, o, ratio, from, to);
    float share = 0.f;
#pragma unroll
    for (int k = 0; k < 4; ++k)
        if (k < taps.count && taps.at[k] == i) share += taps.weight[k];
    return share;
}

// Outputs that may read input `i`: those whose source is less than three away, and all beyond an edge.
DEV void readers(int i, double ratio, int from, int to, int& first, int& last) {
    first = i == 0 ? 0 : max(0, (int)floor((i - 3.0) / ratio - 1.0));
    last = i == from - 1 ? to - 1 : min(to - 1, (int)ceil((i + 3.0) / ratio + 1.0));
}

KERNEL(resize_data, THREADS, 2)(const __grid_constant__ Resize a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_y = on_16_bytes(a.y, a.y_stride);
    each_eight<THREADS>(a.n * a.height * a.width, a.c, [&](int pixel, int c, int count) {
        const int w = pixel % a.width, line = pixel / a.width, h = line % a.height;
        const T* image = a.x + line / a.height * a.out_height * a.out_width * a.x_stride + c;
        int top, bottom, left, right;
        readers(h, a.ratio_h, a.height, a.out_height, top, bottom);
        readers(w, a.ratio_w, a.width, a.out_width, left, right);
        float sums[8] = {};
        for (int p = top; p <= bottom; ++p) {
            const float down = share_of(a.mode, h, p, a.ratio_h, a.height, a.out_height);
            if (down == 0.f) continue;
            for (int q = left; q <= right; ++q) {
                const float share = down * share_of(a.mode, w, q, a.ratio_w, a.width, a.out_width);
                if (share == 0.f) continue;
                float d[8];
                load8(d, image + (p * a.out_width + q) * a.x_stride, count, wide);
#pragma unroll
                for (int i = 0; i < 8; ++i) sums[i] = fmaf(d[i], share, sums[i]);
            }
        }
        store8(a.y + pixel * a.y_stride + c, sums, count, wide_y);
    });
}
