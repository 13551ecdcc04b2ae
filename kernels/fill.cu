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

KERNEL(fill, THREADS, 2)(const Args a) {
    const int total = product(a.shape, a.rank);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        int rest = at, to = 0;
        for (int axis = a.rank - 1; axis >= 0; --axis) {
            to += rest % a.shape[axis] * a.y_strides[axis];
            rest /= a.shape[axis];
        }
        put(a.y[to], a.value);
    }
}
