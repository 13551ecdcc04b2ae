// What every kernel shares: loads and stores of eight channels, activations, the epilogue, sums.

// Whether vectors of 16 bytes may be read from there on, at multiples of these distances.
template <class E> DEV bool on_16_bytes(const E* p, int dist, int other = 0, int third = 0) {
    return (((u64)p | (u64)((dist | other | third) * (int)sizeof(E))) & 15) == 0;
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

// Asks for `rows` rows of so many bytes, `dist` apart, by all threads of a block: at a small batch most of a kernel's time is
// the way of its weights from memory, which can begin while the kernel before ends.
DEV void fetch_rows_ahead(const void* first, int rows, u64 dist, int bytes, int thread, int threads) {
    const int LINE = 128, lines = (bytes + LINE - 1) / LINE;
    for (int at = thread; at < rows * lines; at += threads)
        fetch_ahead((const u8*)first + at / lines * dist + at % lines * LINE);
}

// ---- strides, reductions

#define INFINITE __uint_as_float(0x7f800000)

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

// NaN where either is.
DEV float larger(float a, float b) { return a > b || a != a ? a : b; }

// All lanes' values joined, in the same order every time; all lanes must ask.
template <class F> DEV float warp_all(float v, F join) {
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) v = join(v, __shfl_xor_sync(~0u, v, apart));
    return v;
}
DEV float warp_sum(float v) {
    return warp_all(v, [](float a, float b) { return a + b; });
}

// ---- activations, as PyTorch defines them

DEV float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }
DEV float softplus(float x) { return x > 20.f ? x : log1pf(expf(x)); }
// NaN stays, and `hi` wins where it is below `lo`.
DEV float clamp(float x, float lo, float hi) {
    x = x < lo ? lo : x;
    return x > hi ? hi : x;
}

// 1 - erf(x), for numbers that are stored in 16 bits: off by 1.5e-7 (Abramowitz and Stegun 7.1.26), a third of erfcf's work.
DEV float erfc_of_16_bits(float x) {
    const float t = about_one_over(fmaf(0.3275911f, fabsf(x), 1.f));
    const float series = t * fmaf(t, fmaf(t, fmaf(t, fmaf(t, 1.061405429f, -1.453152027f), 1.421413741f), -0.284496736f), 0.254829592f);
    const float tail = series * power_of_two(-1.44269504f * x * x);
    return x < 0.f ? 2.f - tail : tail;
}
DEV float erfc_of(float x) { return sizeof(T) == 2 ? erfc_of_16_bits(x) : erfcf(x); }

template <int N, class F> DEV void each(float (&v)[N], F f) {
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = f(v[i]);
}

template <int N> DEV void activate(float (&v)[N], const Act& act) {
    const float a = act.a, b = act.b;
    switch (act.code) {
    case ActCode::None: break;
    case ActCode::Relu: each(v, [](float x) { return x < 0.f ? 0.f : x; }); break;
    case ActCode::Clamp: each(v, [=](float x) { return clamp(x, a, b); }); break;
    case ActCode::Elu: each(v, [=](float x) { return x > 0.f ? x : a * expm1f(x); }); break;
    case ActCode::LeakyRelu: each(v, [=](float x) { return x > 0.f ? x : a * x; }); break;
    case ActCode::Gelu: each(v, [](float x) { return 0.5f * x * erfc_of(-0.707106781f * x); }); break;
    case ActCode::GeluTanh: each(v, [](float x) { return 0.5f * x * (1.f + tanhf(0.797884561f * (x + 0.044715f * x * x * x))); }); break;
    case ActCode::Silu: each(v, [](float x) { return x * sigmoid(x); }); break;
    case ActCode::Sigmoid: each(v, [](float x) { return sigmoid(x); }); break;
    case ActCode::Tanh: each(v, [](float x) { return tanhf(x); }); break;
    case ActCode::HardSwish: each(v, [](float x) { return x * clamp(x + 3.f, 0.f, 6.f) * (1.f / 6.f); }); break;
    case ActCode::HardSigmoid: each(v, [](float x) { return clamp(x + 3.f, 0.f, 6.f) * (1.f / 6.f); }); break;
    case ActCode::Softplus: each(v, [](float x) { return softplus(x); }); break;
    case ActCode::Mish: each(v, [](float x) { return x * tanhf(softplus(x)); }); break;
    case ActCode::Exp: each(v, [](float x) { return expf(x); }); break;
    // ActCode::Linear
    default: each(v, [=](float x) { return a * x + b; });
    }
}

// ---- what follows a sum: after(before(sum + bias[k]) * gate[n, k] + residual)

// Whether residual and gate may be read in vectors, at channels that are multiples of eight.
DEV bool wide_epilogue(const Epilogue& e) {
    return on_16_bytes(e.residual, e.residual_image, e.residual_row, e.residual_pixel) && on_16_bytes(e.gate, e.gate_dist);
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
    if (e.bias) {
        float bias[8];
        load8(bias, e.bias + channel, count, ((u64)(e.bias + channel) & 15) == 0);
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] += bias[i];
    }
    activate_twice(v, e.before, e.after, [&] {
        float other[8];
        if (e.gate) {
            load8(other, e.gate + image * e.gate_dist + channel, count, wide);
#pragma unroll
            for (int i = 0; i < 8; ++i) v[i] *= other[i];
        }
        if (e.residual) {
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
        s.at[(image * s.parts + m / Sums::PART - image * pixels / Sums::PART) * s.dist + channel] = sum;
        from = to;
    }
}
