// What an output of a resampling reads along one axis: for resize.cu, and for its gradient.

// Inputs and their weights along one axis.
struct Taps { int count, at[4]; float weight[4]; };

DEV Taps taps_of(ResizeMode mode, int i, double ratio, int from, int to) {
    Taps taps = {1, {0, 0, 0, 0}, {NO_NUMBER, 0.f, 0.f, 0.f}};
    const double source = ratio * (i + 0.5) - 0.5;
    if (mode == ResizeMode::Nearest) {
        int at = from == to ? i : (int)floorf((float)i * (float)ratio);
        taps.at[0] = min(at, from - 1);
        taps.weight[0] = 1.f;
    } else if (mode == ResizeMode::Bilinear) {
        double inside = source > 0.0 ? source : 0.0;
        int low = min((int)inside, from - 1);
        float t = (float)(inside - low);
        taps.count = 2;
        taps.at[0] = low;
        taps.at[1] = min(low + 1, from - 1);
        taps.weight[0] = 1.f - t;
        taps.weight[1] = t;
    } else if (mode == ResizeMode::Bicubic) {
        const float A = -0.75f;
        const double floored = floor(source);
        const float t = (float)(source - floored);
        taps.count = 4;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            taps.at[k] = max(0, min((int)floored + k - 1, from - 1));
            float d = fabsf(t - (float)(k - 1));
            taps.weight[k] = d <= 1.f ? ((A + 2.f) * d - (A + 3.f)) * d * d + 1.f
                                      : ((A * d - 5.f * A) * d + 8.f * A) * d - 4.f * A;
        }
    }
    return taps;
}
