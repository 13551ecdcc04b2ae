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

DEV float power(float x, float exponent) { return x != x && exponent != 0.f ? x : powf(x, exponent); }

const float SELU_SCALE = 1.05070098f, SELU_BELOW = 1.75809934f;

// The bits of 2 / pi, 32 a word, from the word before its point on.
DEV u32 two_over_pi(int word) {
    switch (word) {
    case 0: return 0;
    case 1: return 0xa2f9836e;
    case 2: return 0x4e441529;
    case 3: return 0xfc2757d1;
    case 4: return 0xf534ddc0;
    case 5: return 0xdb629599;
    case 6: return 0x3c439041;
    default: return 0xfe5163ab;
    }
}

// The sine of x plus so many quarter turns. CUDA's sinf keeps an array in local memory, which every kernel would pay for.
DEV float sine(float x, int quarters) {
    float r;
    if (fabsf(x) < 8192.f) {
        const float turns = rintf(x * 0.636619772f);
        r = fmaf(turns, -1.57079637f, x);
        r = fmaf(turns, 4.37113883e-8f, r);
        r = fmaf(turns, 1.71512489e-15f, r);
        quarters += (int)turns;
    } else {
        // Payne and Hanek 1983: of the 24 digits of x, a whole number m, times 2 / pi only those digits that a multiple of
        // four leaves, 62 of them behind the point
        const u32 bits = __float_as_uint(x), exponent = bits >> 23 & 255;
        if (exponent == 255) return NO_NUMBER;
        const u64 m = (bits & 0x7fffff) | 0x800000;
        const int from = (int)exponent - 120, word = from >> 5, part = from & 31;
        u64 window[3];
#pragma unroll
        for (int i = 0; i < 3; ++i)
            window[i] = (u32)((((u64)two_over_pi(word + i) << 32) | two_over_pi(word + i + 1)) >> (32 - part));
        const u64 fixed = (m * window[0] << 32) + m * window[1] + (m * window[2] >> 32);
        const long long rest = (long long)(fixed << 2);
        const int turns = (int)(fixed >> 62) + (rest < 0), sign = bits >> 31 ? -1 : 1;
        r = (float)rest * (sign * 8.51530396e-20f);
        quarters += sign * turns;
    }
    const float t = r * r;
    const float s = fmaf(r * t, fmaf(t, fmaf(t, -1.95152959e-4f, 8.33216087e-3f), -0.166666546f), r);
    const float c = fmaf(t, fmaf(t, fmaf(t, fmaf(t, 2.44324129e-5f, -1.38873099e-3f), 0.0416666456f), -0.5f), 1.f);
    const float y = quarters & 1 ? c : s;
    return quarters & 2 ? -y : y;
}

// NaN where either is.
DEV float larger(float a, float b) { return a > b || a != a ? a : b; }
DEV float smaller(float a, float b) { return a < b || a != a ? a : b; }
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
