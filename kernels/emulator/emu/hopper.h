// wgmma: products of what lies in shared memory, done when they are waited for. TMA: boxes that land when no
// thread can go on without them, and barriers that count them.
#pragma once

namespace emu {
void wgmma(float* sums, int columns, u64 a, u64 b, float (*value)(u16), bool add);
void wgmma_wait(unsigned keep);
inline float bf16_number(u16 bits) { return __uint_as_float((u32)bits << 16); }

void barrier_init(u64* barrier, u32 arrivals);
void fence_barriers();
// One arrival, and bytes that are to come.
void barrier_arrive(u64* barrier, u32 bytes);
void barrier_wait(u64* barrier, u32 parity);
// Channels `at[0]` on, of rows or windows from `at[1..]` on; `shift` moves windows to one of their taps.
struct Box { void* to; const TensorMap* map; u64* barrier; int at[4], shift[2]; unsigned rank; bool windows; };
void copy_box(const Box& box);
}

DEV void fence_for_wgmma() { emu::cur->fences++; }
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
template <int N> DEV void wgmma_bf16(float (&d)[N], u64 a, u64 b, int add) { emu::wgmma(d, N * 2, a, b, emu::bf16_number, add); }
template <int N> DEV void wgmma_f16(float (&d)[N], u64 a, u64 b, int add) { emu::wgmma(d, N * 2, a, b, emu::half_value, add); }

DEV void barrier_init(u64* barrier, int arrivals) { emu::barrier_init(barrier, arrivals); }
DEV void fence_barriers() { emu::fence_barriers(); }
DEV void barrier_arrive(u64* barrier) { emu::barrier_arrive(barrier, 0); }
DEV void barrier_arrive_expect(u64* barrier, int bytes) { emu::barrier_arrive(barrier, bytes); }
DEV void barrier_wait(u64* barrier, u32 parity) { emu::barrier_wait(barrier, parity); }
DEV void copy_box(void* to, const TensorMap* map, u64* barrier, int c, int row) {
    emu::copy_box({to, map, barrier, {c, row}, {}, 2, false});
}
DEV void copy_box(void* to, const TensorMap* map, u64* barrier, int c, int row, int matrix) {
    emu::copy_box({to, map, barrier, {c, row, matrix}, {}, 3, false});
}
DEV void copy_windows(void* to, const TensorMap* map, u64* barrier, int c, int w, int h, int n, int right, int down) {
    emu::copy_box({to, map, barrier, {c, w, h, n}, {right, down}, 4, true});
}
template <int COUNT> DEV void fewer_registers() {}
template <int COUNT> DEV void more_registers() {}
// Kernels run one after another here.
DEV void follow() {}
// What is asked for must be there.
DEV void fetch_ahead(const void* p) { (void)*(const volatile u8*)p; }
