// The device: storage types, and the instructions of the tensor cores and of asynchronous copies.
//
// Nothing is included, so that NVRTC needs no search path. PTX stands in this file alone: the emulator
// (-DEMULATOR, kernels/emulator/emu) has functions of the same names.

#ifndef EMULATOR
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// How TMA reads a tensor: the driver's secret.
struct __align__(64) TensorMap { u64 words[16]; };

#define DEV __device__ __forceinline__
#define DEV_MEMBER __device__ __forceinline__
// `blocks` of so many threads should fit a multiprocessor at once.
#define KERNEL(name, threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks) name
#define SHARED(type, name, dims) __shared__ __align__(16) type name dims
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) u8 name[]

DEV u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// ---- sm_80: asynchronous copies, ldmatrix, mma.sync

// Copies `valid` of `BYTES` bytes to shared memory, and zeros for the others; `valid` may be 0.
template <int BYTES> DEV void copy_async(void* to, const void* from, int valid) {
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from), "n"(BYTES), "r"(valid) : "memory");
}
DEV void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int KEEP> DEV void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(KEEP) : "memory"); }
DEV void named_barrier(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
// Not from the first cache, which does not see what other multiprocessors have written.
DEV float load_coherent(const float* p) {
    float value;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(value) : "l"(p) : "memory");
    return value;
}

// Fragments of N x 4 matrices of 8 rows of 16 bytes; lane i of a quarter of the warp brings row i of its matrix.
template <int N> DEV void load_matrices(u32 (&fragments)[N][4], const void* const (&rows)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(fragments[i][0]), "=r"(fragments[i][1]), "=r"(fragments[i][2]), "=r"(fragments[i][3])
                     : "r"(shared_address(rows[i]))
                     : "memory");
}
template <int N> DEV void load_matrices_transposed(u32 (&fragments)[N][4], const void* const (&rows)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(fragments[i][0]), "=r"(fragments[i][1]), "=r"(fragments[i][2]), "=r"(fragments[i][3])
                     : "r"(shared_address(rows[i]))
                     : "memory");
}

// d += a b for MI x NJ tiles of 16 x 8, whose depth is 32 bytes.
#define MMA(name, instruction)                                                                                        \
    template <int MI, int NJ>                                                                                         \
    DEV void name(float (&d)[MI][NJ][4], const u32 (&a)[MI][4], const u32 (&b)[NJ / 2][4]) {                          \
        _Pragma("unroll") for (int i = 0; i < MI; ++i) _Pragma("unroll") for (int j = 0; j < NJ; ++j)                 \
            asm volatile(instruction " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                         \
                         : "+f"(d[i][j][0]), "+f"(d[i][j][1]), "+f"(d[i][j][2]), "+f"(d[i][j][3])                     \
                         : "r"(a[i][0]), "r"(a[i][1]), "r"(a[i][2]), "r"(a[i][3]), "r"(b[j >> 1][(j & 1) * 2]),       \
                           "r"(b[j >> 1][(j & 1) * 2 + 1]));                                                          \
    }
MMA(mma_bf16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32")
MMA(mma_f16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
MMA(mma_tf32, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32")
#undef MMA

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// ---- sm_90a: wgmma. Both sides lie in shared memory, rows of 128 bytes whose 16-byte pieces are xor-ed with the row.

// What was written by ordinary stores and copies becomes visible to the tensor cores.
DEV void fence_for_wgmma() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
DEV void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEV void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int KEEP> DEV void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(KEEP) : "memory"); }
// Of rows of 128 bytes in atoms of 8, swizzled.
DEV u64 wgmma_side(const void* p) {
    return (u64)((shared_address(p) & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

#define SUMS_8(d, i)                                                                                                \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS_32(d, i) SUMS_8(d, i), SUMS_8(d, i + 8), SUMS_8(d, i + 16), SUMS_8(d, i + 24)
#define REGISTERS_32 \
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define REGISTERS_64 \
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
        "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define REGISTERS_128 REGISTERS_64 "," \
        "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79," \
        "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95," \
        "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111," \
        "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
// d = a b, or d += a b where `add`, of 64 x 64, 128 or 256, depth 16, by the four warps of a warpgroup.
#define WGMMA(name, type)                                                                                           \
    DEV void name(float (&d)[32], u64 a, u64 b, int add) {                                                          \
        asm volatile("{.reg .pred p; setp.ne.b32 p, %34, 0;"                                                        \
                     "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" REGISTERS_32                  \
                     "}, %32, %33, p, 1, 1, 0, 0;}"                                                                 \
                     : SUMS_32(d, 0) : "l"(a), "l"(b), "r"(add));                                                   \
    }                                                                                                               \
    DEV void name(float (&d)[64], u64 a, u64 b, int add) {                                                          \
        asm volatile("{.reg .pred p; setp.ne.b32 p, %66, 0;"                                                        \
                     "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {" REGISTERS_64                 \
                     "}, %64, %65, p, 1, 1, 0, 0;}"                                                                 \
                     : SUMS_32(d, 0), SUMS_32(d, 32) : "l"(a), "l"(b), "r"(add));                                   \
    }                                                                                                               \
    DEV void name(float (&d)[128], u64 a, u64 b, int add) {                                                         \
        asm volatile("{.reg .pred p; setp.ne.b32 p, %130, 0;"                                                       \
                     "wgmma.mma_async.sync.aligned.m64n256k16.f32." type "." type " {" REGISTERS_128                \
                     "}, %128, %129, p, 1, 1, 0, 0;}"                                                               \
                     : SUMS_32(d, 0), SUMS_32(d, 32), SUMS_32(d, 64), SUMS_32(d, 96) : "l"(a), "l"(b), "r"(add));   \
    }
WGMMA(wgmma_bf16, "bf16")
WGMMA(wgmma_f16, "f16")
#undef WGMMA

// Registers of each thread of this warpgroup from here on: fewer, so that others may have more.
template <int COUNT> DEV void fewer_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)); }
template <int COUNT> DEV void more_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)); }

// ---- sm_90: barriers in shared memory that count arrivals and bytes, and TMA

DEV void barrier_init(u64* barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// Makes barriers that this thread initialised visible to TMA.
DEV void fence_barriers() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
DEV void barrier_arrive(u64* barrier) {
    asm volatile("{.reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0];}" ::"r"(shared_address(barrier)) : "memory");
}
// One arrival, and so many bytes that copies will bring.
DEV void barrier_arrive_expect(u64* barrier, int bytes) {
    asm volatile("{.reg .b64 state; mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;}" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}
// Until the phase of that parity is over; the phase before the first counts as one of parity 1.
DEV void barrier_wait(u64* barrier, u32 parity) {
    u32 over;
    do {
        asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                     : "=r"(over)
                     : "r"(shared_address(barrier)), "r"(parity)
                     : "memory");
    } while (!over);
}

// Boxes of 64 channels from `c` on; the barrier counts their bytes.
DEV void copy_box(void* to, const TensorMap* map, u64* barrier, int c, int row) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
                     shared_address(to)),
                 "l"(map), "r"(shared_address(barrier)), "r"(c), "r"(row)
                 : "memory");
}
DEV void copy_box(void* to, const TensorMap* map, u64* barrier, int c, int row, int matrix) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(
                     shared_address(to)),
                 "l"(map), "r"(shared_address(barrier)), "r"(c), "r"(row), "r"(matrix)
                 : "memory");
}
// Of windows whose first one begins at (w, h) of image n: in each the tap that lies `right` and `down` of its first.
DEV void copy_windows(void* to, const TensorMap* map, u64* barrier, int c, int w, int h, int n, int right, int down) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(
                     shared_address(to)),
                 "l"(map), "r"(shared_address(barrier)), "r"(c), "r"(w), "r"(h), "r"(n), "h"((u16)right), "h"((u16)down)
                 : "memory");
}
#endif

// Lets the next kernel of the queue take its place, then waits until the one before is done with memory. Every kernel
// does so before it touches what another one writes or reads, so that an order of two is one of all.
DEV void follow() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Asks for the line of `p` in the second cache. Only of what no kernel before writes is that of use before follow().
DEV void fetch_ahead(const void* p) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
#endif
}

DEV u32 bf16_bits(float f) {
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(f));
    return bits;
}
DEV u32 f16_bits(float f) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(f));
    return bits;
}
DEV float f16_value(u16 bits) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(bits));
    return f;
}
// 2 to the x, to some 2 units of the last place; 0 far below.
DEV float power_of_two(float x) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}
// 1 / x, to a unit of the last place.
DEV float about_one_over(float x) {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}
DEV u32 tf32_bits(float f) {
    u32 bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(f));
    return bits;
}
#endif

// Faults that tests plant, to see that they are caught: -DFAULT=COPY_WAIT plants that one.
#define FAULT_COPY_WAIT 1
#define FAULT_NO_BARRIER 2
#define FAULT_BOUNDS 3
#define FAULT_WGMMA_WAIT 4
#define FAULT_FULL_WAIT 5
#define FAULT_PARITY 6
#define FAULT_FEW_BYTES 7
#define FAULT_NO_RELEASE 8
#define FAULT_EARLY_COPY 9
#define FAULT_NO_FENCE 10
#define FAULT_NO_TURNS 11
#ifdef FAULT
#define BUG(name) (PASTE(FAULT_, FAULT) == FAULT_##name)
#else
#define BUG(name) 0
#endif

// ---- storage types

struct bf16 { u16 bits; };
struct f16 { u16 bits; };
typedef float f32;
typedef float tf32;

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define IS_f32 0
#define IS_tf32 1
#define IS_bf16 2
#define IS_f16 3
// What the variant multiplies in, to compare with IS_*.
#define MATH PASTE(IS_, DTYPE)

typedef DTYPE T;

DEV float to_float(float v) { return v; }
DEV float to_float(bf16 v) { return __uint_as_float((u32)v.bits << 16); }
DEV float to_float(f16 v) { return f16_value(v.bits); }
DEV void put(float& to, float v) { to = v; }
DEV void put(bf16& to, float v) { to.bits = (u16)bf16_bits(v); }
DEV void put(f16& to, float v) { to.bits = (u16)f16_bits(v); }

// Where a field of a struct lies; NVRTC has no offsetof.
#ifdef __CUDACC_RTC__
#define OFFSET(type, field) __INTADDR__(&((type*)0)->field)
#else
#define OFFSET(type, field) __builtin_offsetof(type, field)
#endif
