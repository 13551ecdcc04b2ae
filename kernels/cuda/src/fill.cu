// One number everywhere.
//
// Tile      a thread has one value
// Ceiling   memory's; it writes the borders of padded images, which are small
#include "common.cuh"

const int THREADS = 256;

struct Args {
    T* y;
    int rank;
    float value;
    int shape[RANK], y_strides[RANK];
};

KERNEL(fill, THREADS, 2)(const __grid_constant__ Args a) {
    follow();
    const int total = product(a.shape, a.rank);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        put(a.y[offset(at, a.rank, a.shape, a.y_strides)], a.value);
    }
}
