// Functions of float32, which formulas call.

#define INFINITE __uint_as_float(0x7f800000)
#define NO_NUMBER __uint_as_float(0x7fffffff)

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

// NaN where either is.
DEV float larger(float a, float b) { return a > b || a != a ? a : b; }
// 1 or -1 as x is above or below 0, else x itself.
DEV float sign(float x) { return x > 0.f ? 1.f : x < 0.f ? -1.f : x; }
DEV float choose(bool condition, float a, float b) { return condition ? a : b; }

template <int N, class F> DEV void each(float (&v)[N], F f) {
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = f(v[i]);
}
template <class F> DEV void each(float (&v)[8], const float (&seen)[8], F f) {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = f(v[i], seen[i]);
}
