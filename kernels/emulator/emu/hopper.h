// wgmma: products of what lies in shared memory, done when they are waited for.
#pragma once

namespace emu {
void wgmma(float* sums, int columns, u64 a, u64 b, float (*value)(u16));
void wgmma_wait(unsigned keep);
inline float bf16_number(u16 bits) { return __uint_as_float((u32)bits << 16); }
}

DEV void fence_for_wgmma() {}
DEV void wgmma_begin() {}
DEV void wgmma_commit() {
    emu::Fiber* fiber = emu::cur;
    if (fiber->n_wgmma_groups == emu::Fiber::MOST_GROUPS) emu::fail("more than %u groups of wgmma", emu::Fiber::MOST_GROUPS);
    fiber->wgmma_ends[fiber->n_wgmma_groups++] = fiber->n_wgmmas;
}
template <int KEEP> DEV void wgmma_wait() { emu::wgmma_wait(KEEP); }
DEV u64 wgmma_side(const void* p) {
    return (u64)(emu::shared_offset(p) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}
template <int N> DEV void wgmma_bf16(float (&d)[N], u64 a, u64 b) { emu::wgmma(d, N * 2, a, b, emu::bf16_number); }
template <int N> DEV void wgmma_f16(float (&d)[N], u64 a, u64 b) { emu::wgmma(d, N * 2, a, b, emu::half_value); }
