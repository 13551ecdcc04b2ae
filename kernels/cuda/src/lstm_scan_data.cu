// The backward pass of an LSTM's recurrence, through its steps from the last one that it took to the first.
//
// Formula   dh = dy[t] + weight^T ds[t + 1]; do = dh tanh(c[t]); dc = dc[t + 1] f[t + 1] + dh o (1 - tanh(c[t])^2);
//           ds = (dc g i (1 - i), dc c[t - 1] f (1 - f), dc i (1 - g^2), do o (1 - o)), the gates' functions of the sums
// Layout    weights [part][unit][k] as PyTorch has them; c[t] lies where the first part of ds[t] comes; ds of the step that was
//           before, dh and dc of a block in shared memory, float32
// Tile      a block takes SEQUENCES sequences, or one where there are few, through all steps; a thread has the same units of each all the time
// Roofline  the latency of the steps, one after another: products of 4 hidden terms

template <int S> DEV void back(const LstmScanData& a, u8* memory) {
    typedef Beside<S> Own;
    const int hidden = a.hidden;
    const Sequences<S> own(blockIdx.x * S, a.sequences, a.steps, a.inner, a.reverse != 0);
    Own *after = (Own*)memory, *dh = after + 4 * hidden, *dc = dh + hidden;
    for (int unit = threadIdx.x; unit < hidden; unit += blockDim.x) {
#pragma unroll
        for (int s = 0; s < S; ++s) {
            dc[unit].v[s] = 0.f;
            float c = 0.f;
            for (int at = 0; at < a.steps && own.exists[s]; ++at) {
                const T* sums = a.sums + own.row(s, at) * a.sums_stride + unit;
                const float i = sigmoid(to_float(sums[0])), f = sigmoid(to_float(sums[hidden]));
                c = fmaf(i, tanhf(to_float(sums[2 * hidden])), f * c);
                put(a.dx[own.row(s, at) * a.dx_stride + unit], c);
            }
        }
    }
    for (int at = a.steps - 1; at >= 0; --at) {
        for (int unit = threadIdx.x; unit < hidden; unit += blockDim.x) {
            Own sum;
#pragma unroll
            for (int s = 0; s < S; ++s)
                sum.v[s] = own.exists[s] ? to_float(a.d[own.row(s, at) * a.d_stride + unit]) : 0.f;
            if (at + 1 < a.steps) {
#pragma unroll 4
                for (int k = 0; k < 4 * hidden; ++k) {
                    const float by = to_float(a.weight[k * hidden + unit]);
                    const Own ds = after[k];
#pragma unroll
                    for (int s = 0; s < S; ++s) sum.v[s] = fmaf(ds.v[s], by, sum.v[s]);
                }
            }
            dh[unit] = sum;
        }
        __syncthreads();
        for (int unit = threadIdx.x; unit < hidden; unit += blockDim.x) {
#pragma unroll
            for (int s = 0; s < S; ++s) {
                if (!own.exists[s]) {
#pragma unroll
                    for (int part = 0; part < 4; ++part) after[part * hidden + unit].v[s] = 0.f;
                    continue;
                }
                const T* sums = a.sums + own.row(s, at) * a.sums_stride + unit;
                T* dx = a.dx + own.row(s, at) * a.dx_stride + unit;
                const float i = sigmoid(to_float(sums[0])), f = sigmoid(to_float(sums[hidden]));
                const float g = tanhf(to_float(sums[2 * hidden])), o = sigmoid(to_float(sums[3 * hidden]));
                const float c = tanhf(to_float(dx[0])), d = dh[unit].v[s];
                const float old = at > 0 ? to_float(a.dx[own.row(s, at - 1) * a.dx_stride + unit]) : 0.f;
                const float cell = fmaf(d * o, 1.f - c * c, dc[unit].v[s]);
                dc[unit].v[s] = cell * f;
                const float ds[4] = {cell * g * i * (1.f - i), cell * old * f * (1.f - f), cell * i * (1.f - g * g), d * c * o * (1.f - o)};
#pragma unroll
                for (int part = 0; part < 4; ++part) {
                    after[part * hidden + unit].v[s] = ds[part];
                    put(dx[part * hidden], ds[part]);
                }
            }
        }
        __syncthreads();
    }
}

KERNEL(lstm_scan_data, THREADS, 2)(const __grid_constant__ LstmScanData a) {
    follow();
    DYNAMIC_SHARED(memory);
    if (a.each == 1)
        back<1>(a, memory);
    else
        back<SEQUENCES>(a, memory);
}
