// One number everywhere.
//
// Tile      a thread has one value
// Roofline  memory's; it writes the borders of padded images, which are small

KERNEL(fill, THREADS, 2)(const __grid_constant__ Fill a) {
    follow();
    const int total = product(a.shape, a.rank);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        put(a.y[offset(at, a.rank, a.shape, a.y_strides)], a.value);
    }
}
