// A batch norm as a line, from the batch's statistics: for batch_norm.cu, and for the sums of columns.cu.

DEV float rstd_of(float variance, float eps) { return 1.f / sqrtf(variance + eps); }

// The norm of eight columns as a line: scale x + shift.
DEV void line_of(float (&scale)[8], float (&shift)[8], const float* stats, const float* weight, const float* bias, int cols, int c, int count, float eps) {
    float mean[8], variance[8];
    load8(mean, stats + c, count, false);
    load8(variance, stats + cols + c, count, false);
    load8(scale, weight + c, count, false);
    load8(shift, bias + c, count, false);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        scale[i] *= rstd_of(variance[i], eps);
        shift[i] -= mean[i] * scale[i];
    }
}
