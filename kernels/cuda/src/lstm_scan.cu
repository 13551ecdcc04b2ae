// The recurrence of LSTMs over the steps of sequences.
//
// Formula   sums = gates[t] + weight h[t - 1], in parts i, f, g, o; c[t] = sigmoid(f) c[t - 1] + sigmoid(i) tanh(g);
//           h[t] = sigmoid(o) tanh(c[t]); h and c are 0 before the first step
// Layout    weights [k][unit][part]; h of two steps and c of a block in shared memory, float32
// Tile      a block takes SEQUENCES sequences of one direction, or one where there are few, through all steps; a thread has the four sums of a unit of each
// Roofline  the latency of the steps, one after another: products of hidden terms, whose weights come from the first cache
//           while they fit it

template <int S> DEV void scan(const LstmScan& a, u8* memory) {
    typedef Beside<S> Own;
    const int direction = blockIdx.y, hidden = a.hidden;
    const Sequences<S> own(blockIdx.x * S, a.sequences, a.steps, a.inner, direction == 1 || a.reverse);
    const T *gates = a.gates[direction], *weight = a.weight[direction];
    const int gates_stride = a.gates_stride[direction];
    Own *states = (Own*)memory, *cells = states + 2 * hidden;
    for (int i = threadIdx.x; i < hidden; i += blockDim.x)
#pragma unroll
        for (int s = 0; s < S; ++s) cells[i].v[s] = 0.f;
    for (int at = 0; at < a.steps; ++at) {
        const Own* before = states + (at & 1) * hidden;
        Own* after = states + (~at & 1) * hidden;
        for (int unit = threadIdx.x; unit < hidden; unit += blockDim.x) {
            float sums[S][4];
#pragma unroll
            for (int s = 0; s < S; ++s)
#pragma unroll
                for (int part = 0; part < 4; ++part)
                    sums[s][part] = own.exists[s] ? to_float(gates[own.row(s, at) * gates_stride + part * hidden + unit]) : 0.f;
            if (at > 0) {
#pragma unroll 4
                for (int k = 0; k < hidden; ++k) {
                    const Parts by = ((const Parts*)weight)[k * hidden + unit];
                    const Own h = before[k];
#pragma unroll
                    for (int s = 0; s < S; ++s)
#pragma unroll
                        for (int part = 0; part < 4; ++part) sums[s][part] = fmaf(h.v[s], to_float(by.v[part]), sums[s][part]);
                }
            }
#pragma unroll
            for (int s = 0; s < S; ++s) {
                const float kept = sigmoid(sums[s][1]) * cells[unit].v[s];
                const float c = fmaf(sigmoid(sums[s][0]), tanhf(sums[s][2]), kept), h = sigmoid(sums[s][3]) * tanhf(c);
                cells[unit].v[s] = c;
                after[unit].v[s] = h;
                if (own.exists[s]) put(a.y[own.row(s, at) * a.y_stride + direction * hidden + unit], h);
            }
        }
        __syncthreads();
    }
}

KERNEL(lstm_scan, THREADS, 2)(const __grid_constant__ LstmScan a) {
    follow();
    DYNAMIC_SHARED(memory);
    if (a.each == 1)
        scan<1>(a, memory);
    else
        scan<SEQUENCES>(a, memory);
}
