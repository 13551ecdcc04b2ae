// Losses and their gradients, by PyTorch's definitions with the mean as reduction.
//
// Formula   cross entropy of logits [rows][classes] and targets [rows][3], two classes and the share of the first, with
//           smoothing e and class weights w:
//             (1 - e) sum(share w (log sum - z)) / W + e / classes sum over all classes(w (log sum - z)) / R
//           W the sum of the targets' weights, R that too where there are weights, else the rows
//           of single values: the formulas of archc-base's ValueLoss
// Layout    outputs stored, dense; targets float32
// Tile      cross entropy: a warp a row, W by every block; others: a thread a value. Each block leaves its sums, loss_end
//           adds them in order and in float64
// Roofline  memory's; it is small beside a network

DEV float weight_of(const Loss& a, int c) { return !a.weights ? 1.f : c >= 0 && c < a.classes ? a.weights[c] : 0.f; }

// The sum of the targets' weights; all threads of a block must ask.
DEV float total_of(const Loss& a, float* shared) {
    const int tid = threadIdx.y * 32 + threadIdx.x;
    float sum = 0.f;
    for (int row = tid; row < a.rows; row += THREADS) {
        const float* target = a.targets + row * 3;
        sum += target[2] * weight_of(a, (int)target[0]) + (1.f - target[2]) * weight_of(a, (int)target[1]);
    }
    sum = warp_sum(sum);
    if (threadIdx.x == 0) shared[threadIdx.y] = sum;
    __syncthreads();
    sum = 0.f;
    for (int i = 0; i < THREADS / 32; ++i) sum += shared[i];
    __syncthreads();
    return sum;
}

// The logarithm of the sum of e^z over a row, for all lanes of a warp.
DEV float log_sum(const Loss& a, const T* z) {
    float top = -INFINITE, sum = 0.f;
    for (int c = threadIdx.x; c < a.classes; c += 32) top = larger(top, to_float(z[c]));
    top = warp_all(top, [](float a, float b) { return larger(a, b); });
    for (int c = threadIdx.x; c < a.classes; c += 32) sum += expf(to_float(z[c]) - top);
    return top + logf(warp_sum(sum));
}

KERNEL(cross_entropy, THREADS, 2)(const __grid_constant__ Loss a) {
    follow();
    SHARED(float, shared, [THREADS / 32][2]);
    const int row = blockIdx.x * (THREADS / 32) + threadIdx.y;
    float own = 0.f, smooth = 0.f;
    if (row < a.rows) {
        const T* z = a.z + row * a.classes;
        const float* target = a.targets + row * 3;
        const float log = log_sum(a, z);
        const int first = (int)target[0], second = (int)target[1];
        own = target[2] * weight_of(a, first) * (log - to_float(z[first]));
        if (target[2] != 1.f) own += (1.f - target[2]) * weight_of(a, second) * (log - to_float(z[second]));
        if (a.smoothing > 0.f) {
            for (int c = threadIdx.x; c < a.classes; c += 32) smooth += weight_of(a, c) * (log - to_float(z[c]));
            smooth = warp_sum(smooth);
        }
    }
    if (threadIdx.x == 0) {
        shared[threadIdx.y][0] = own;
        shared[threadIdx.y][1] = smooth;
    }
    __syncthreads();
    if (threadIdx.y != 0 || threadIdx.x > 1) return;
    float sum = 0.f;
    for (int i = 0; i < THREADS / 32; ++i) sum += shared[i][threadIdx.x];
    a.partials[blockIdx.x * 2 + threadIdx.x] = sum;
}

KERNEL(cross_entropy_data, THREADS, 2)(const __grid_constant__ Loss a) {
    follow();
    SHARED(float, shared, [THREADS / 32]);
    const float total = total_of(a, shared), rows = a.weights ? total : (float)a.rows;
    const int row = blockIdx.x * (THREADS / 32) + threadIdx.y;
    if (row >= a.rows) return;
    const T* z = a.z + row * a.classes;
    const float* target = a.targets + row * 3;
    const float log = log_sum(a, z), share = target[2];
    const int first = (int)target[0], second = (int)target[1];
    const float own = share * weight_of(a, first) + (1.f - share) * weight_of(a, second);
    float all = 0.f;
    for (int c = threadIdx.x; c < a.classes; c += 32) all += weight_of(a, c);
    all = warp_sum(all);
    for (int c = threadIdx.x; c < a.classes; c += 32) {
        const float p = expf(to_float(z[c]) - log), weight = weight_of(a, c);
        const float given = (c == first ? share : 0.f) + (c == second ? 1.f - share : 0.f);
        const float hard = (1.f - a.smoothing) / total * (p * own - given * weight);
        put(a.dz[row * a.classes + c], hard + a.smoothing / a.classes / rows * (p * all - weight));
    }
}

KERNEL(value_loss, THREADS, 2)(const __grid_constant__ Loss a) {
    follow();
    SHARED(float, shared, [THREADS / 32]);
    const int total = a.rows * a.classes, tid = threadIdx.y * 32 + threadIdx.x;
    float sum = 0.f, slope;
    for (int at = blockIdx.x * THREADS + tid; at < total; at += gridDim.x * THREADS) sum += value_of(a.kind, a.parameter, to_float(a.z[at]), a.targets[at], slope);
    sum = warp_sum(sum);
    if (threadIdx.x == 0) shared[threadIdx.y] = sum;
    __syncthreads();
    if (tid != 0) return;
    sum = 0.f;
    for (int i = 0; i < THREADS / 32; ++i) sum += shared[i];
    a.partials[blockIdx.x * 2] = sum;
    a.partials[blockIdx.x * 2 + 1] = 0.f;
}

KERNEL(value_loss_data, THREADS, 2)(const __grid_constant__ Loss a) {
    follow();
    const int total = a.rows * a.classes;
    const float share = 1.f / total;
    for (int at = blockIdx.x * THREADS + threadIdx.y * 32 + threadIdx.x; at < total; at += gridDim.x * THREADS) {
        float slope;
        value_of(a.kind, a.parameter, to_float(a.z[at]), a.targets[at], slope);
        put(a.dz[at], slope * share);
    }
}

// One block.
KERNEL(loss_end, THREADS, 2)(const __grid_constant__ LossEnd e) {
    follow();
    const Loss& a = e.loss;
    SHARED(float, shared, [THREADS / 32]);
    const float total = a.kind == LossKind::CrossEntropy ? total_of(a, shared) : 1.f;
    if (threadIdx.x != 0 || threadIdx.y != 0) return;
    double own = 0.0, smooth = 0.0;
    for (int part = 0; part < e.parts; ++part) {
        own += a.partials[part * 2];
        smooth += a.partials[part * 2 + 1];
    }
    if (a.kind == LossKind::CrossEntropy) {
        const double rows = a.weights ? total : a.rows;
        *e.y = (float)((1.0 - a.smoothing) * own / total + a.smoothing / a.classes * smooth / rows);
    } else {
        *e.y = (float)(own / ((double)a.rows * a.classes));
    }
}
