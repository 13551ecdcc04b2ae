// What every kernel shares: loads and stores of eight channels, the epilogue, sums.

// Whether vectors of 16 bytes may be read from there on, at multiples of these strides.
template <class E> DEV bool on_16_bytes(const E* p, int stride, int other = 0, int third = 0) {
    return (((u64)p | (u64)((stride | other | third) * (int)sizeof(E))) & 15) == 0;
}

// The first `count` of eight neighbours, zeros for the others; `wide` where the address is on 16 bytes.
template <class E> DEV void load8(float (&v)[8], const E* p, int count, bool wide) {
    if (wide && count >= 8) {
        uint4 raw[sizeof(E) / 2];
#pragma unroll
        for (int i = 0; i < (int)sizeof(E) / 2; ++i) raw[i] = ((const uint4*)p)[i];
        const E* some = (const E*)raw;
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = to_float(some[i]);
    } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = i < count ? to_float(p[i]) : 0.f;
    }
}
// Eight 16-bit numbers.
template <class E> DEV void widen(float (&v)[8], const uint4& raw) {
    static_assert(sizeof(E) == 2, "eight in 16 bytes");
    const E* some = (const E*)&raw;
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = to_float(some[i]);
}
template <class E> DEV void store8(E* p, const float (&v)[8], int count, bool wide) {
    if (wide && count >= 8) {
        uint4 raw[sizeof(E) / 2];
        E* some = (E*)raw;
#pragma unroll
        for (int i = 0; i < 8; ++i) put(some[i], v[i]);
#pragma unroll
        for (int i = 0; i < (int)sizeof(E) / 2; ++i) ((uint4*)p)[i] = raw[i];
    } else {
#pragma unroll
        for (int i = 0; i < 8; ++i)
            if (i < count) put(p[i], v[i]);
    }
}
// Adds eight neighbours, or multiplies by them.
template <class E> DEV void add8(float (&v)[8], const E* p, int count, bool wide) {
    float other[8];
    load8(other, p, count, wide);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] += other[i];
}
template <class E> DEV void multiply8(float (&v)[8], const E* p, int count, bool wide) {
    float other[8];
    load8(other, p, count, wide);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] *= other[i];
}

// Calls f(row, first column, columns) for eight neighbouring columns, or those that are left, of each row in turn, by all
// threads of a grid.
template <int THREADS, class F> DEV void each_eight(int rows, int cols, F f) {
    const int vectors = (cols + 7) / 8, total = rows * vectors;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        const int col = at % vectors * 8;
        f(at / vectors, col, cols - col < 8 ? cols - col : 8);
    }
}

// Pixels of all images that a window reads, and that it makes.
DEV int inputs(const Window& w) { return w.n * w.height * w.width; }
DEV int outputs(const Window& w) { return w.n * w.out_height * w.out_width; }

// Asks for `rows` rows of so many bytes, `stride` apart, by all threads of a block: at a small batch most of a kernel's time is
// the way of its weights from memory, which can begin while the kernel before ends.
DEV void fetch_rows_ahead(const void* first, int rows, u64 stride, int bytes, int thread, int threads) {
    const int LINE = 128, lines = (bytes + LINE - 1) / LINE;
    for (int at = thread; at < rows * lines; at += threads)
        fetch_ahead((const u8*)first + at / lines * stride + at % lines * LINE);
}

// ---- strides, reductions

DEV int product(const int (&shape)[RANK], int rank) {
    int result = 1;
    for (int axis = 0; axis < rank; ++axis) result *= shape[axis];
    return result;
}

// Where element `at`, in row-major order, of a tensor of these strides lies.
DEV int offset(int at, int rank, const int (&shape)[RANK], const int (&strides)[RANK]) {
    int result = 0;
    for (int axis = rank - 1; axis > 0; --axis) {
        result += at % shape[axis] * strides[axis];
        at /= shape[axis];
    }
    return rank > 0 ? result + at * strides[0] : 0;
}

// All lanes' values joined, in the same order every time; all lanes must ask.
template <class F> DEV float warp_all(float v, F join) {
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) v = join(v, __shfl_xor_sync(~0u, v, apart));
    return v;
}
DEV float warp_sum(float v) {
    return warp_all(v, [](float a, float b) { return a + b; });
}

// ---- what follows a sum: after(before(sum + bias[k]) * gate[n, k] + residual)

// Whether residual and gate may be read in vectors, at channels that are multiples of eight.
DEV bool wide_epilogue(const Epilogue& e) {
    return on_16_bytes(e.residual, e.residual_image, e.residual_row, e.residual_pixel) && on_16_bytes(e.gate, e.gate_stride);
}

// Both activations with `between` between them, in one place: their code is most of a small kernel.
template <int N, class F> DEV void activate_twice(float (&v)[N], const Act& before, const Act& after, F between) {
#pragma unroll 1
    for (int stage = 0; stage < 2; ++stage) {
        activate(v, stage ? after : before);
        if (!stage) between();
    }
}

// Of `count` neighbouring channels from `channel` on; `residual` puts theirs into eight numbers.
template <class F>
DEV void finish_with(float (&v)[8], const Epilogue& e, int image, int channel, int count, bool wide, F residual) {
    if (e.bias) add8(v, e.bias + channel, count, ((u64)(e.bias + channel) & 15) == 0);
    activate_twice(v, e.before, e.after, [&] {
        if (e.gate) multiply8(v, e.gate + image * e.gate_stride + channel, count, wide);
        if (e.residual) {
            float other[8];
            residual(other);
#pragma unroll
            for (int i = 0; i < 8; ++i) v[i] += other[i];
        }
    });
}
DEV void finish(float (&v)[8], const Epilogue& e, int image, int residual_at, int channel, int count, bool wide) {
    finish_with(v, e, image, channel, count, wide, [&](float(&other)[8]) {
        load8(other, e.residual + residual_at + channel, count, wide);
    });
}

// ---- sums over the pixels of an image, which means are made of

// Adds up a column of PART pixels from pixel m on, of which those before `end` exist, each image's for itself.
template <class F> DEV void add_up(const Sums& s, int m, int end, int pixels, int channel, F value) {
    const int last = min(m + Sums::PART, end);
    for (int image = m / pixels, from = m; from < last; ++image) {
        const int to = min(last, (image + 1) * pixels);
        float sum = 0.f;
#pragma unroll 4
        for (int at = from; at < to; ++at) sum += value(at - m);
        s.at[(image * s.parts + m / Sums::PART - image * pixels / Sums::PART) * s.stride + channel] = sum;
        from = to;
    }
}
