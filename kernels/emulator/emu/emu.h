// What a kernel sees of the emulated GPU. The .cu files are compiled as C++17 with this header in front of them.
//
// A fiber runs each CUDA thread, one block at a time on an operating system thread. Asynchronous copies happen at their
// wait and not before, so that a missing wait reads poison; warp collectives and barriers check who takes part; when no
// thread can go on, each one's state is reported. The order in which threads run follows a seed.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEV static inline
#define DEV_MEMBER inline
#define KERNEL(name, threads, blocks) \
    static const unsigned name##_threads = threads; \
    static void name
// One array of a block, the same for all its threads, poisoned when the block starts.
#define SHARED(type, name, dims) \
    typedef type name##_array dims; \
    name##_array& name = *(name##_array*)emu::shared_array(__LINE__, sizeof(name##_array), #name)
#define DYNAMIC_SHARED(name) u8* name = emu::dynamic_shared()
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__
#define threadIdx (emu::cur->thread)
#define blockIdx (emu::geometry.block)
#define blockDim (emu::geometry.block_dim)
#define gridDim (emu::geometry.grid_dim)

struct uint3 { unsigned x, y, z; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
// How TMA reads a tensor: a `Map` here.
struct alignas(64) TensorMap { u64 words[16]; };
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emu {

struct Warp;

// An asynchronous copy: `valid` bytes from `from`, zeros up to `bytes`.
struct Copy { void* to; const void* from; unsigned bytes, valid; };

// A wgmma that has not been waited for.
struct Wgmma { float* sums; u64 a, b; int columns; float (*value)(u16); bool add; };

struct Fiber {
    void* stack_pointer;
    u8* stack;
    uint3 thread;
    unsigned index, lane;
    Warp* warp;
    // What it waits for; null where it can run.
    bool (*ready)(Fiber*);
    const void* waits_on;
    u64 waits_for;
    const char* doing;
    bool done;
    // Copies and where their committed groups end.
    static const unsigned MOST_COPIES = 1024, MOST_GROUPS = 64, MOST_WGMMAS = 64;
    // Grows with every fence between what this thread wrote to shared memory and the tensor cores.
    u32 fences;
    Copy copies[MOST_COPIES];
    unsigned n_copies, n_groups, group_ends[MOST_GROUPS];
    Wgmma wgmmas[MOST_WGMMAS];
    unsigned wgmma_keep, n_wgmmas, n_wgmma_groups, wgmma_ends[MOST_GROUPS];
};

struct Geometry { uint3 block, block_dim, grid_dim; };

extern __thread Fiber* cur;
extern __thread Geometry geometry;

u8* dynamic_shared();
void* shared_array(unsigned line, size_t bytes, const char* name);
// Where a pointer lies in the block's shared memory.
u32 shared_offset(const void* pointer);
u8* shared_at(u32 offset, unsigned bytes, const char* who);
void block_barrier(unsigned id, unsigned count);
// Lets others run; reports a livelock after very many calls.
void spin();
// Lanes of `mask` meet; the last to come runs `meet` over what all brought.
typedef void (*Meet)(const void* const* in, void* const* out, unsigned mask);
void collective(const char* op, unsigned mask, const void* in, void* out, Meet meet);
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...);
void copy_async(void* to, const void* from, unsigned bytes, unsigned valid);
void copy_commit();
void copy_wait(unsigned keep);
void wait_for(const char* doing, bool (*ready)(Fiber*), const void* on, u64 value);

struct Entry {
    const char* name;
    void (*run)(void* const* args);
    size_t args_bytes;
    unsigned threads;
};
template <class A> struct Call {
    template <void (*kernel)(A)> static void run(void* const* args) { kernel(*(const A*)args[0]); }
};
template <class A> constexpr size_t args_bytes(void (*)(A)) { return sizeof(A); }
template <class A> Call<A> call_of(void (*)(A));

}
#define EMU_ENTRY(space, kernel) \
    {#kernel, decltype(emu::call_of(space::kernel))::run<space::kernel>, emu::args_bytes(space::kernel), space::kernel##_threads}

// ---- intrinsics
static inline float __uint_as_float(u32 x) { float f; memcpy(&f, &x, 4); return f; }
static inline u32 __float_as_uint(float f) { u32 x; memcpy(&x, &f, 4); return x; }
static inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
static inline u32 __umulhi(u32 a, u32 b) { return (u32)((u64)a * b >> 32); }
static inline int min(int a, int b) { return b < a ? b : a; }
static inline int max(int a, int b) { return a < b ? b : a; }
static inline void __syncthreads() { emu::block_barrier(0, 0); }
static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __nanosleep(unsigned) { emu::spin(); }
static inline u32 atomicAdd(u32* p, u32 v) { emu::spin(); return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }

#include "warp.h"
#include "memory.h"
#include "hopper.h"
