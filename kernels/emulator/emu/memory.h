// Asynchronous copies, named barriers, and how numbers are stored.
#pragma once

// Copies `valid` of `BYTES` bytes to shared memory, and zeros for the others; `valid` may be 0.
template <int BYTES> DEV void copy_async(void* to, const void* from, int valid) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
    if (((uintptr_t)to | (valid ? (uintptr_t)from : 0)) % BYTES) emu::fail("cp.async of %d bytes: not aligned", BYTES);
    emu::copy_async(to, from, BYTES, valid);
}
DEV void copy_commit() { emu::copy_commit(); }
template <int KEEP> DEV void copy_wait() { emu::copy_wait(KEEP); }
DEV void named_barrier(int id, int threads) { emu::block_barrier(id, threads); }
DEV float load_coherent(const float* p) { return *p; }

DEV u32 bf16_bits(float f) {
    u32 x = __float_as_uint(f);
    if ((x & 0x7fffffff) > 0x7f800000) return 0x7fff;
    return (x + 0x7fff + (x >> 16 & 1)) >> 16;
}
namespace emu {
u16 half_bits(float f);
}
DEV u32 f16_bits(float f) { return emu::half_bits(f); }
DEV float f16_value(u16 bits) { return emu::half_value(bits); }
DEV float power_of_two(float x) { return exp2f(x); }
DEV float about_one_over(float x) { return 1.f / x; }
DEV u32 tf32_bits(float f) { return (__float_as_uint(f) + 0x1000) & ~0x1fffu; }
