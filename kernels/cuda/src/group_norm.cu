// Normalisation of groups of channels, each group of each image by its own mean and variance.
//
// Formula   (x - mean) / sqrt(variance + eps) * weight[c] + bias[c]
// Tile      a block has one group of one image and passes over it three times, the second and third from the caches
// Ceiling   memory's while a group fits the second cache

KERNEL(group_norm, THREADS, 2)(const __grid_constant__ GroupNorm a) {
    follow();
    SHARED(float, partial, [8]);
    const int channels = a.c / a.groups, image = blockIdx.x / a.groups, c0 = blockIdx.x % a.groups * channels;
    const T* x = a.x + image * a.pixels * a.x_dist + c0;
    T* y = a.y + image * a.pixels * a.y_dist + c0;
    const int total = a.pixels * channels;
    auto block_sum = [&](float own) {
        own = warp_sum(own);
        if ((threadIdx.x & 31) == 0) partial[threadIdx.x >> 5] = own;
        __syncthreads();
        float sum = 0.f;
        for (int warp = 0; warp < THREADS / 32; ++warp) sum += partial[warp];
        __syncthreads();
        return sum;
    };
    float sum = 0.f, squares = 0.f;
    for (int i = threadIdx.x; i < total; i += THREADS) sum += to_float(x[i / channels * a.x_dist + i % channels]);
    const float mean = block_sum(sum) / total;
    for (int i = threadIdx.x; i < total; i += THREADS) {
        float d = to_float(x[i / channels * a.x_dist + i % channels]) - mean;
        squares = fmaf(d, d, squares);
    }
    const float scale = 1.f / sqrtf(block_sum(squares) / total + a.eps);
    for (int i = threadIdx.x; i < total; i += THREADS) {
        int pixel = i / channels, c = i % channels;
        float v = to_float(x[pixel * a.x_dist + c]);
        put(y[pixel * a.y_dist + c], (v - mean) * scale * a.weight[c0 + c] + a.bias[c0 + c]);
    }
}
