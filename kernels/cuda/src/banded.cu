// Images whose two axes are each multiplied by a banded matrix: antialiased resampling, and by the transposed matrices its
// gradient.
//
// Formula   y[p, q] = sum over i of rows[p, i] times the sum over j of columns[q, j] x[i, j]
// Tile      a thread has eight channels of one output, which it gathers from a rectangle of inputs
// Roofline  memory's; an image that shrinks is read 4 times (a triangle) or 16 times (the cubic), from a cache

// What an output is made of along one axis: inputs in a row.
struct Inputs { int first, count; const float* weights; };

DEV Inputs inputs_of(const u32* runs, const float* weights, int at) {
    const u32 from = runs[2 * at + 1], end = runs[2 * at + 3];
    return {(int)runs[2 * at], (int)(end - from), weights + from};
}

KERNEL(banded, THREADS, 2)(const __grid_constant__ Banded a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_y = on_16_bytes(a.y, a.y_stride);
    each_eight<THREADS>(a.n * a.out_height * a.out_width, a.c, [&](int pixel, int c, int count) {
        const int line = pixel / a.out_width;
        const Inputs rows = inputs_of(a.rows, a.row_weights, line % a.out_height);
        const Inputs cols = inputs_of(a.columns, a.column_weights, pixel % a.out_width);
        const int image = line / a.out_height * a.height;
        float result[8] = {};
        for (int i = 0; i < rows.count; ++i) {
            const T* from = a.x + ((image + rows.first + i) * a.width + cols.first) * a.x_stride + c;
            float sums[8] = {};
            for (int j = 0; j < cols.count; ++j) {
                float v[8];
                load8(v, from + j * a.x_stride, count, wide);
                const float weight = cols.weights[j];
#pragma unroll
                for (int q = 0; q < 8; ++q) sums[q] = fmaf(v[q], weight, sums[q]);
            }
            const float weight = rows.weights[i];
#pragma unroll
            for (int q = 0; q < 8; ++q) result[q] = fmaf(sums[q], weight, result[q]);
        }
        store8(a.y + pixel * a.y_stride + c, result, count, wide_y);
    });
}
