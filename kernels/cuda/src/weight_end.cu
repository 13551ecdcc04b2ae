// Adds what the splits of a weight's gradient left, in their order, and turns it into the weights' own layout.
//
// Formula   dw[k, c, tap] = sum over splits of partials[split][..]; a convolution's lie [k][tap][c padded], those of one
//           filter a channel [tap][k]
// Tile      a thread has one sum; it goes through the partial sums as they lie
// Roofline  memory's

KERNEL(weight_end, THREADS, 2)(const __grid_constant__ WeightEnd a) {
    follow();
    const int each = a.depthwise ? a.taps * a.k : a.k * a.taps * a.wide;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < each; at += gridDim.x * THREADS) {
        int k, c = 0, tap;
        if (a.depthwise) {
            k = at % a.k;
            tap = at / a.k;
        } else {
            c = at % a.wide;
            tap = at / a.wide % a.taps;
            k = at / a.wide / a.taps;
            if (c >= a.c) continue;
        }
        float sum = 0.f;
#pragma unroll 4
        for (int split = 0; split < a.splits; ++split) sum += a.partials[(u64)split * each + at];
        a.dw[(k * a.c + c) * a.taps + tap] = sum;
    }
}
