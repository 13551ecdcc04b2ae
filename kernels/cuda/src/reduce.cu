// Means, sums and maxima over axes.
//
// Layout    any strides; results dense in the order of the outer axes
// Tile      reduce_columns: 32 neighbouring results x 8 threads each, for images whose channels stay (global pooling);
//           reduce_rows: a warp a result, where what is reduced lies densely
// Roofline  memory's where there are results enough to fill the device

DEV float join(ReduceOp op, float a, float b) {
    switch (op) {
    case ReduceOp::Mean:
    case ReduceOp::Sum: return a + b;
    case ReduceOp::Max: return larger(a, b);
    }
    return NO_NUMBER;
}

// Of every `step`th inner index from `from` on.
DEV float part(const Reduce& a, const T* x, int from, int step, int inner) {
    float result = a.op == ReduceOp::Max ? -INFINITE : 0.f;
    for (int i = from; i < inner; i += step)
        result = join(a.op, result, to_float(x[offset(i, a.inner_rank, a.inner_shape, a.inner_strides)]));
    return result;
}

KERNEL(reduce_columns, THREADS, 2)(const __grid_constant__ Reduce a) {
    follow();
    SHARED(float, partial, [8][32]);
    const int outputs = product(a.outer_shape, a.outer_rank), inner = product(a.inner_shape, a.inner_rank);
    const int out = blockIdx.x * 32 + threadIdx.x;
    if (out < outputs) {
        const T* x = a.x + offset(out, a.outer_rank, a.outer_shape, a.outer_strides);
        partial[threadIdx.y][threadIdx.x] = part(a, x, threadIdx.y, 8, inner);
    }
    __syncthreads();
    if (threadIdx.y != 0 || out >= outputs) return;
    float result = partial[0][threadIdx.x];
#pragma unroll
    for (int i = 1; i < 8; ++i) result = join(a.op, result, partial[i][threadIdx.x]);
    put(a.y[out], a.op == ReduceOp::Mean ? result / inner : result);
}

KERNEL(reduce_rows, THREADS, 2)(const __grid_constant__ Reduce a) {
    follow();
    const int outputs = product(a.outer_shape, a.outer_rank), inner = product(a.inner_shape, a.inner_rank);
    const int out = blockIdx.x * 8 + threadIdx.y;
    if (out >= outputs) return;
    const T* x = a.x + offset(out, a.outer_rank, a.outer_shape, a.outer_strides);
    const ReduceOp op = a.op;
    float result = warp_all(part(a, x, threadIdx.x, 32, inner), [=](float a, float b) { return join(op, a, b); });
    if (threadIdx.x == 0) put(a.y[out], op == ReduceOp::Mean ? result / inner : result);
}
