// Warp collectives: shuffles, votes, ldmatrix, mma. Fragment layouts are those of the PTX ISA.
#pragma once

namespace emu {

struct Shuffle { u64 value; int from; };
inline void shuffle(const void* const* in, void* const* out, unsigned mask) {
    u64 values[32] = {};
    for (int lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1) {
            int from = ((const Shuffle*)in[lane])->from;
            if (!(mask >> from & 1)) fail("a shuffle reads lane %d, which is not in its mask %08x", from, mask);
            values[lane] = ((const Shuffle*)in[from])->value;
        }
    for (int lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1) *(u64*)out[lane] = values[lane];
}
template <class T> T shuffle_from(const char* op, unsigned mask, T value, int from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves up to 8 bytes");
    Shuffle in = {0, from};
    u64 out = 0;
    memcpy(&in.value, &value, sizeof value);
    collective(op, mask, &in, &out, shuffle);
    memcpy(&value, &out, sizeof value);
    return value;
}
inline void ballot(const void* const* in, void* const* out, unsigned mask) {
    u32 votes = 0;
    for (int lane = 0; lane < 32; ++lane)
        if ((mask >> lane & 1) && *(const int*)in[lane]) votes |= 1u << lane;
    for (int lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1) *(u32*)out[lane] = votes;
}
inline void nothing(const void* const*, void* const*, unsigned) {}

// Matrices of 8 rows of 16 bytes, four to a row of `N`; lane i of a quarter brings the address of row i.
template <int N> void load_matrices(const void* const* in, void* const* out, unsigned) {
    for (int q = 0; q < N; ++q)
        for (int matrix = 0; matrix < 4; ++matrix)
            for (int lane = 0; lane < 32; ++lane) {
                const u8* row = (*(const u8* const (*)[N])in[matrix * 8 + (lane >> 2)])[q];
                memcpy((u32*)out[lane] + q * 4 + matrix, row + (lane & 3) * 4, 4);
            }
}
template <int N> void load_matrices_transposed(const void* const* in, void* const* out, unsigned) {
    for (int q = 0; q < N; ++q)
        for (int matrix = 0; matrix < 4; ++matrix)
            for (int lane = 0; lane < 32; ++lane) {
                auto row = [&](int i) { return (const u16*)(*(const u8* const (*)[N])in[matrix * 8 + i])[q]; };
                int first = (lane & 3) * 2;
                ((u32*)out[lane])[q * 4 + matrix] = (u32)row(first)[lane >> 2] | (u32)row(first + 1)[lane >> 2] << 16;
            }
}

float half_value(u16 bits);
struct Bf16Element {
    static const int PER = 2;
    static float value(u32 word, int i) { return __uint_as_float((word >> 16 * i) << 16); }
};
struct F16Element {
    static const int PER = 2;
    static float value(u32 word, int i) { return half_value((u16)(word >> 16 * i)); }
};
struct Tf32Element {
    static const int PER = 1;
    // the tensor cores read the upper 19 bits
    static float value(u32 word, int) { return __uint_as_float(word & ~0x1fffu); }
};

template <int NJ> struct MmaIn { const u32 (*a)[4]; const u32 (*b)[4]; };
// MI x NJ products of 16 x 8, whose depth is 32 bytes: a row-major, b column-major.
template <class E, int MI, int NJ> void multiply(const void* const* in, void* const* out, unsigned) {
    const int DEPTH = 8 * E::PER;
    static thread_local float a[MI * 16][DEPTH], b[DEPTH][NJ * 8];
    for (int lane = 0; lane < 32; ++lane) {
        const MmaIn<NJ>* own = (const MmaIn<NJ>*)in[lane];
        int group = lane >> 2, first = (lane & 3) * E::PER;
        for (int e = 0; e < E::PER; ++e) {
            for (int m = 0; m < MI; ++m)
                for (int i = 0; i < 4; ++i)
                    a[m * 16 + group + (i & 1) * 8][first + e + (i >> 1) * 4 * E::PER] = E::value(own->a[m][i], e);
            for (int j = 0; j < NJ; ++j)
                for (int h = 0; h < 2; ++h)
                    b[first + e + h * 4 * E::PER][j * 8 + group] = E::value(own->b[j >> 1][(j & 1) * 2 + h], e);
        }
    }
    for (int r = 0; r < MI * 16; ++r) {
        float sums[NJ * 8] = {};
        for (int k = 0; k < DEPTH; ++k)
            for (int n = 0; n < NJ * 8; ++n) sums[n] += a[r][k] * b[k][n];
        for (int n = 0; n < NJ * 8; ++n) {
            float* own = (float*)out[(r & 7) * 4 + (n & 7) / 2];
            own[((r >> 4) * NJ + (n >> 3)) * 4 + (r >> 3 & 1) * 2 + (n & 1)] += sums[n];
        }
    }
}
template <class E, int MI, int NJ>
void warp_multiply(const char* op, float (&d)[MI][NJ][4], const u32 (&a)[MI][4], const u32 (&b)[NJ / 2][4]) {
    MmaIn<NJ> in = {a, b};
    collective(op, ~0u, &in, d, multiply<E, MI, NJ>);
}

}

template <class T> static inline T __shfl_sync(unsigned mask, T v, int from) {
    return emu::shuffle_from("__shfl_sync", mask, v, from & 31);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int bits) {
    return emu::shuffle_from("__shfl_xor_sync", mask, v, (int)emu::cur->lane ^ bits);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, int by) {
    int lane = emu::cur->lane;
    return emu::shuffle_from("__shfl_down_sync", mask, v, lane + by < 32 ? lane + by : lane);
}
static inline u32 __ballot_sync(unsigned mask, int vote) {
    u32 votes;
    emu::collective("__ballot_sync", mask, &vote, &votes, emu::ballot);
    return votes;
}
static inline int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
static inline void __syncwarp(unsigned mask = ~0u) {
    emu::collective("__syncwarp", mask, nullptr, nullptr, emu::nothing);
}

// ---- the functions that common.cuh makes of PTX
template <int N> DEV void load_matrices(u32 (&fragments)[N][4], const void* const (&rows)[N]) {
    for (auto row : rows) if ((uintptr_t)row & 15) emu::fail("ldmatrix: a row that is not on 16 bytes");
    emu::collective("ldmatrix", ~0u, rows, fragments, emu::load_matrices<N>);
}
template <int N> DEV void load_matrices_transposed(u32 (&fragments)[N][4], const void* const (&rows)[N]) {
    for (auto row : rows) if ((uintptr_t)row & 15) emu::fail("ldmatrix: a row that is not on 16 bytes");
    emu::collective("ldmatrix.trans", ~0u, rows, fragments, emu::load_matrices_transposed<N>);
}
template <int MI, int NJ>
DEV void mma_bf16(float (&d)[MI][NJ][4], const u32 (&a)[MI][4], const u32 (&b)[NJ / 2][4]) {
    emu::warp_multiply<emu::Bf16Element>("mma.bf16", d, a, b);
}
template <int MI, int NJ>
DEV void mma_f16(float (&d)[MI][NJ][4], const u32 (&a)[MI][4], const u32 (&b)[NJ / 2][4]) {
    emu::warp_multiply<emu::F16Element>("mma.f16", d, a, b);
}
template <int MI, int NJ>
DEV void mma_tf32(float (&d)[MI][NJ][4], const u32 (&a)[MI][4], const u32 (&b)[NJ / 2][4]) {
    emu::warp_multiply<emu::Tf32Element>("mma.tf32", d, a, b);
}
