// The same numbers elsewhere: any strides, any order of axes, from one storage type to another.
//
// Layout    axes from y's outermost to its innermost
// Tile      copy: a thread has one value. Where x is dense along the last axis but one and y along the last, copy_tiles
//           takes 32 x 32 values through shared memory, so that both sides are read and written in whole lines; copy_few
//           gives a thread all of the last axis where that is short (the channels of an image)
// Roofline  memory's

typedef TO U;

KERNEL(copy, THREADS, 2)(const __grid_constant__ Copy_ a) {
    follow();
    const int total = product(a.shape, a.rank);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        put(a.y[offset(at, a.rank, a.shape, a.y_strides)], to_float(a.x[offset(at, a.rank, a.shape, a.x_strides)]));
    }
}

KERNEL(copy_few, THREADS, 2)(const __grid_constant__ Copy_ a) {
    follow();
    const int last = a.rank - 1, total = product(a.shape, last);
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        const T* x = a.x + offset(at, last, a.shape, a.x_strides);
        U* y = a.y + offset(at, last, a.shape, a.y_strides);
        for (int i = 0; i < a.shape[last]; ++i) put(y[i * a.y_strides[last]], to_float(x[i * a.x_strides[last]]));
        // whoever reads on finds nothing that counts
        for (int i = 0; i < a.zeros; ++i) put(y[(a.shape[last] + i) * a.y_strides[last]], 0.f);
    }
}

KERNEL(copy_tiles, THREADS, 2)(const __grid_constant__ Copy_ a) {
    follow();
    SHARED(float, tile, [SIDE][SIDE + 1]);
    const int last = a.rank - 1, second = a.rank - 2, width = a.shape[last], height = a.shape[second];
    const int tiles = (width + SIDE - 1) / SIDE;
    int rest = blockIdx.x;
    const int col0 = rest % tiles * SIDE;
    rest /= tiles;
    const int high = (height + SIDE - 1) / SIDE, row0 = rest % high * SIDE;
    rest /= high;
    int from = 0, to = 0;
    for (int axis = second - 1; axis >= 0; --axis) {
        int i = rest % a.shape[axis];
        rest /= a.shape[axis];
        from += i * a.x_strides[axis];
        to += i * a.y_strides[axis];
    }
    const int x = threadIdx.x, y = threadIdx.y;
#pragma unroll
    for (int i = y; i < SIDE; i += THREADS / SIDE) {
        int row = row0 + x, col = col0 + i;
        if (row < height && col < width)
            tile[i][x] = to_float(a.x[from + row * a.x_strides[second] + col * a.x_strides[last]]);
    }
    __syncthreads();
#pragma unroll
    for (int i = y; i < SIDE; i += THREADS / SIDE) {
        int row = row0 + i, col = col0 + x;
        if (row < height && col < width)
            put(a.y[to + row * a.y_strides[second] + col * a.y_strides[last]], tile[x][i]);
    }
}
