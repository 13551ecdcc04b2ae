// Groups of channels, each of which a block has to itself: for group_norm.cu, and for its gradient.

// The sum over the block, in the same order every time; all threads must ask.
DEV float block_sum(float own, float* partial) {
    own = warp_sum(own);
    if ((threadIdx.x & 31) == 0) partial[threadIdx.x >> 5] = own;
    __syncthreads();
    float sum = 0.f;
    for (int warp = 0; warp < THREADS / 32; ++warp) sum += partial[warp];
    __syncthreads();
    return sum;
}

// Mean and 1 / standard deviation of `total` values, `channels` of each pixel from `x` on.
DEV void moments_of(const T* x, int stride, int channels, int total, float eps, float* partial, float& mean, float& rstd) {
    float sum = 0.f, squares = 0.f;
    for (int i = threadIdx.x; i < total; i += THREADS) sum += to_float(x[i / channels * stride + i % channels]);
    mean = block_sum(sum, partial) / total;
    for (int i = threadIdx.x; i < total; i += THREADS) {
        const float apart = to_float(x[i / channels * stride + i % channels]) - mean;
        squares = fmaf(apart, apart, squares);
    }
    rstd = 1.f / sqrtf(block_sum(squares, partial) / total + eps);
}
