// The gradient of what a group norm reads, and the moments of its groups.
//
// Formula   dx = rstd (g - mean(g) - n mean(g n)), g = d weight, n the normalised x, means over the group of the image
// Tile      a block has one group of one image and passes over it, the second time from the caches
// Roofline  memory's while a group fits the second cache

KERNEL(group_moments, THREADS, 2)(const __grid_constant__ GroupNormData a) {
    follow();
    SHARED(float, partial, [THREADS / 32]);
    const int channels = a.c / a.groups, image = blockIdx.x / a.groups, c0 = blockIdx.x % a.groups * channels;
    float mean, rstd;
    moments_of(a.x + image * a.pixels * a.x_stride + c0, a.x_stride, channels, a.pixels * channels, a.eps, partial, mean, rstd);
    if (threadIdx.x != 0) return;
    a.moments[blockIdx.x * 2] = mean;
    a.moments[blockIdx.x * 2 + 1] = rstd;
}

KERNEL(group_norm_data, THREADS, 2)(const __grid_constant__ GroupNormData a) {
    follow();
    SHARED(float, partial, [THREADS / 32]);
    const int channels = a.c / a.groups, image = blockIdx.x / a.groups, c0 = blockIdx.x % a.groups * channels;
    const int first = image * a.pixels, total = a.pixels * channels;
    const float mean = a.moments[blockIdx.x * 2], rstd = a.moments[blockIdx.x * 2 + 1];
    float sum = 0.f, product = 0.f;
    for (int i = threadIdx.x; i < total; i += THREADS) {
        const int pixel = first + i / channels, c = c0 + i % channels;
        const float g = to_float(a.d[pixel * a.d_stride + c]) * a.weight[c];
        sum += g;
        product = fmaf(g, (to_float(a.x[pixel * a.x_stride + c]) - mean) * rstd, product);
    }
    sum = block_sum(sum, partial) / total;
    product = block_sum(product, partial) / total;
    for (int i = threadIdx.x; i < total; i += THREADS) {
        const int pixel = first + i / channels, c = c0 + i % channels;
        const float g = to_float(a.d[pixel * a.d_stride + c]) * a.weight[c];
        const float n = (to_float(a.x[pixel * a.x_stride + c]) - mean) * rstd;
        put(a.dx[pixel * a.dx_stride + c], rstd * (g - fmaf(n, product, sum)));
    }
}
