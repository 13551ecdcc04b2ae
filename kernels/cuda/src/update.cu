// Optimizers, PyTorch's rules: one launch over everything that is learned (for each rule where they differ, as where layers
// unfrozen later), which lies in a row as its gradients and moments do.
//
// Formula   that of kernels/cpu/src/grad/update.rs. Gradients count times `scale`, and times most / (norm + 1e-6) where
//           that is below 1 (PyTorch's clip_grad_norm_); the average of all states follows in the same pass
// Layout    float32 throughout, whatever values are stored in; a factor of the rate for each LINE numbers, which belong to
//           one tensor
// Tile      a thread has one number
// Roofline  memory's: every number is read and written once

KERNEL(update, THREADS, 2)(const __grid_constant__ Update a) {
    follow();
    float scale = (float)a.scale;
    if (a.norm) {
        const double share = a.most / (*a.norm * a.scale + 1e-6);
        scale = (float)(a.scale * (share < 1.0 ? share : 1.0));
    }
    for (int at = a.from + blockIdx.x * THREADS + threadIdx.x; at < a.to; at += gridDim.x * THREADS) {
        float w = a.states[at];
        if (at < a.learned) {
            const float factor = a.factors ? a.factors[at / Update::LINE] : 1.f;
            const float rate = (float)(a.rate * factor), decay = (float)a.decay, g = a.gradients[at] * scale;
            if (a.sums) a.gradients[at] = 0.f;
            if (a.rule == UpdateRule::Sgd) {
                float d = g + decay * w;
                if (a.moving) {
                    // the first gradient is the momentum as it is
                    const float m = a.begins ? d : a.keep * a.first[at] + a.take * d;
                    a.first[at] = m;
                    d = a.nesterov ? d + a.keep * m : m;
                }
                w -= rate * d;
            } else if (a.rule == UpdateRule::Adam) {
                const float d = g + (a.decoupled ? 0.f : decay * w);
                const float m = a.first[at] + a.take * (d - a.first[at]), v = a.keep_second * a.second[at] + (1.f - a.keep_second) * d * d;
                a.first[at] = m;
                a.second[at] = v;
                float most = v;
                if (a.amsgrad) {
                    most = a.third[at] > v ? a.third[at] : v;
                    a.third[at] = most;
                }
                const float shrink = a.decoupled ? (float)(1.0 - a.rate * factor * a.decay) : 1.f;
                w = w * shrink - (float)(a.corrected * factor) * m / (sqrtf(most) * a.root + a.eps);
            } else if (a.rule == UpdateRule::RmsProp) {
                const float d = g + decay * w, v = a.keep * a.first[at] + (1.f - a.keep) * d * d;
                a.first[at] = v;
                float square = v;
                if (a.centered) {
                    const float mean = a.second[at] + (1.f - a.keep) * (d - a.second[at]);
                    a.second[at] = mean;
                    square -= mean * mean;
                }
                float step = d / (sqrtf(square) + a.eps);
                if (a.moving) {
                    float* moved = a.centered ? a.third : a.second;
                    step += a.momentum * moved[at];
                    moved[at] = step;
                }
                w -= rate * step;
            } else {
                w = NO_NUMBER;
            }
            a.states[at] = w;
        }
        if (a.average) a.average[at] = a.kept_average * a.average[at] + (1.f - a.kept_average) * w;
    }
}

// The sum of squares of each block's share.
KERNEL(squares, THREADS, 2)(const __grid_constant__ Norm a) {
    follow();
    SHARED(double, shared, [THREADS]);
    double sum = 0.0;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < a.len; at += gridDim.x * THREADS) sum += (double)a.x[at] * a.x[at];
    shared[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 1; i < THREADS; ++i) sum += shared[i];
    a.partials[blockIdx.x] = sum;
}

// One thread.
KERNEL(norm_of, 32, 2)(const __grid_constant__ Norm a) {
    follow();
    if (threadIdx.x != 0) return;
    double sum = 0.0;
    for (int part = 0; part < a.parts; ++part) sum += a.partials[part];
    *a.norm = sqrt(sum);
}

KERNEL(accumulate, THREADS, 2)(const __grid_constant__ Accumulate a) {
    follow();
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < a.len; at += gridDim.x * THREADS) a.y[at] += a.x[at];
}
