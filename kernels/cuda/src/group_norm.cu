// Normalisation of groups of channels, each group of each image by its own mean and variance.
//
// Formula   (x - mean) / sqrt(variance + eps) * weight[c] + bias[c]
// Tile      a block has one group of one image and passes over it three times, the second and third from the caches
// Roofline  memory's while a group fits the second cache

KERNEL(group_norm, THREADS, 2)(const __grid_constant__ GroupNorm a) {
    follow();
    SHARED(float, partial, [THREADS / 32]);
    const int channels = a.c / a.groups, image = blockIdx.x / a.groups, c0 = blockIdx.x % a.groups * channels;
    const T* x = a.x + image * a.pixels * a.x_stride + c0;
    T* y = a.y + image * a.pixels * a.y_stride + c0;
    const int total = a.pixels * channels;
    float mean, rstd;
    moments_of(x, a.x_stride, channels, total, a.eps, partial, mean, rstd);
    for (int i = threadIdx.x; i < total; i += THREADS) {
        int pixel = i / channels, c = i % channels;
        float v = to_float(x[pixel * a.x_stride + c]);
        put(y[pixel * a.y_stride + c], (v - mean) * rstd * a.weight[c0 + c] + a.bias[c0 + c]);
    }
}
