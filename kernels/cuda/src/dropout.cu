// Dropout: zeros with probability p, the others scaled up.
//
// Formula   y = unit(philox(seed, stream, number)) < p ? 0 : x / (1 - p), the bits of src/philox.rs; the number of a value
//           says which values fall together (single ones, channels, samples; those of all samples where they are drawn alike)
// Roofline  memory's

struct Words { u32 word[4]; };

// Philox 4x32-10 (Salmon et al., SC11).
DEV Words philox(u32 block, const u32 (&seed)[2], const u32 (&stream)[2]) {
    Words w = {{block, 0, stream[0], stream[1]}};
    u32 key[2] = {seed[0], seed[1]};
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        u32 high0 = __umulhi(0xD2511F53u, w.word[0]), low0 = 0xD2511F53u * w.word[0];
        u32 high1 = __umulhi(0xCD9E8D57u, w.word[2]), low1 = 0xCD9E8D57u * w.word[2];
        w = {{high1 ^ w.word[1] ^ key[0], low1, high0 ^ w.word[3] ^ key[1], low0}};
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    return w;
}

KERNEL(dropout, THREADS, 2)(const __grid_constant__ Dropout a) {
    follow();
    const bool wide = on_16_bytes(a.x, a.x_stride), wide_y = on_16_bytes(a.y, a.y_stride);
    const float scale = 1.f / (1.f - a.p);
    u32 seed[2] = {a.seed[0], a.seed[1]}, stream[2] = {a.stream[0], a.stream[1]};
    if (a.clock) {
        auto half = [&](int at) { return (u32)a.clock[at] | (u32)a.clock[at + 1] << 16; };
        seed[0] = half(0);
        seed[1] = half(2);
        // a step's numbers lie far from any other's
        const u64 step = ((u64)half(6) << 32 | half(4)) * 0x9e3779b97f4a7c15ull;
        stream[0] ^= (u32)step;
        stream[1] ^= (u32)(step >> 32);
    }
    each_eight<THREADS>(a.rows, a.cols, [&](int row, int col, int count) {
        float v[8];
        load8(v, a.x + row * a.x_stride + col, count, wide);
        u32 block = ~0u;
        Words words = {};
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            u32 number = (u32)(row % a.period / a.rows_each) * (u32)a.index_row + (u32)(col + i) * (u32)a.index_col;
            if (number / 4 != block) {
                block = number / 4;
                words = philox(block, seed, stream);
            }
            u32 select = number & 3;
            u32 word = select == 0 ? words.word[0] : select == 1 ? words.word[1] : select == 2 ? words.word[2] : words.word[3];
            v[i] = (float)(word >> 8) * (1.f / 16777216.f) < a.p ? 0.f : v[i] * scale;
        }
        store8(a.y + row * a.y_stride + col, v, count, wide_y);
    });
}
