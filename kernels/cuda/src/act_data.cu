// Gradients of functions of one value.
//
// Formula   act_data    dx = d f', from the result where f' is a function of it, else from what f was given
//           prelu_data  dx = x > 0 ? d : slope d; d may be x, which makes it prelu itself
// Tile      a thread has eight neighbouring columns of a row
// Ceiling   memory's

template <class F> DEV void each(float (&d)[8], const float (&seen)[8], F slope) {
#pragma unroll
    for (int i = 0; i < 8; ++i) d[i] *= slope(seen[i]);
}
// What is masked is 0, whatever d is.
template <class F> DEV void keep(float (&d)[8], const float (&seen)[8], F inside) {
#pragma unroll
    for (int i = 0; i < 8; ++i) d[i] = inside(seen[i]) ? d[i] : 0.f;
}

// Multiplies `d` by the gradient where the function's result, or its operand, is `seen`.
DEV void bend(float (&d)[8], const float (&seen)[8], const Act& act) {
    const float a = act.a, b = act.b;
    switch (act.code) {
    case ActCode::None: break;
    case ActCode::Relu: keep(d, seen, [](float y) { return y > 0.f; }); break;
    case ActCode::Clamp: keep(d, seen, [=](float y) { return y > a && y < b; }); break;
    // of the operand where the result is no function with an inverse
    case ActCode::Elu: each(d, seen, [=](float y) { return y > 0.f ? 1.f : a >= 0.f ? y + a : a * expf(y); }); break;
    case ActCode::LeakyRelu: each(d, seen, [=](float y) { return y > 0.f ? 1.f : a; }); break;
    case ActCode::Gelu: each(d, seen, [](float x) { return fmaf(x, 0.398942280f * expf(-0.5f * x * x), 0.5f * erfc_of(-0.707106781f * x)); }); break;
    case ActCode::GeluTanh:
        each(d, seen, [](float x) {
            const float square = x * x, t = tanhf(0.797884561f * fmaf(0.044715f * square, x, x));
            const float slope = 0.797884561f * fmaf(3.f * 0.044715f, square, 1.f);
            return fmaf(0.5f, t, 0.5f) + 0.5f * x * (1.f - t * t) * slope;
        });
        break;
    case ActCode::Silu:
        each(d, seen, [](float x) {
            const float s = sigmoid(x);
            return s * fmaf(x, 1.f - s, 1.f);
        });
        break;
    case ActCode::Sigmoid: each(d, seen, [](float y) { return y * (1.f - y); }); break;
    case ActCode::Tanh: each(d, seen, [](float y) { return 1.f - y * y; }); break;
    case ActCode::HardSwish: each(d, seen, [](float x) { return x <= -3.f ? 0.f : x >= 3.f ? 1.f : fmaf(2.f, x, 3.f) * (1.f / 6.f); }); break;
    case ActCode::HardSigmoid: each(d, seen, [](float y) { return y > 0.f && y < 1.f ? 1.f / 6.f : 0.f; }); break;
    case ActCode::Softplus: each(d, seen, [](float y) { return -expm1f(-y); }); break;
    case ActCode::Mish:
        each(d, seen, [](float x) {
            const float t = tanhf(softplus(x));
            return fmaf(x * sigmoid(x), 1.f - t * t, t);
        });
        break;
    case ActCode::Exp: each(d, seen, [](float y) { return y; }); break;
    // ActCode::Linear
    default: each(d, seen, [=](float) { return a; });
    }
}

KERNEL(act_data, THREADS, 2)(const __grid_constant__ ActData a) {
    follow();
    const int vectors = (a.cols + 7) / 8, total = a.rows * vectors;
    const bool wide = on_16_bytes(a.d, a.d_dist), wide_seen = on_16_bytes(a.seen, a.seen_dist), wide_dx = on_16_bytes(a.dx, a.dx_dist);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        const int row = at / vectors, col = at % vectors * 8, count = a.cols - col < 8 ? a.cols - col : 8;
        float d[8], seen[8];
        load8(d, a.d + row * a.d_dist + col, count, wide);
        load8(seen, a.seen + row * a.seen_dist + col, count, wide_seen);
        bend(d, seen, a.act);
        store8(a.dx + row * a.dx_dist + col, d, count, wide_dx);
    }
}

KERNEL(prelu_data, THREADS, 2)(const __grid_constant__ ActData a) {
    follow();
    const int vectors = (a.cols + 7) / 8, total = a.rows * vectors;
    const bool wide = on_16_bytes(a.d, a.d_dist), wide_seen = on_16_bytes(a.seen, a.seen_dist), wide_dx = on_16_bytes(a.dx, a.dx_dist);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        const int row = at / vectors, col = at % vectors * 8, count = a.cols - col < 8 ? a.cols - col : 8;
        float d[8], seen[8];
        load8(d, a.d + row * a.d_dist + col, count, wide);
        load8(seen, a.seen + row * a.seen_dist + col, count, wide_seen);
#pragma unroll
        for (int i = 0; i < 8; ++i)
            if (i < count && !(seen[i] > 0.f)) d[i] *= a.slope[(col + i) * a.slope_col];
        store8(a.dx + row * a.dx_dist + col, d, count, wide_dx);
    }
}
