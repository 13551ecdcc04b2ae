// The scheduler: fibers, barriers, collectives, asynchronous copies, launches.
#include "emu.h"

#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emu {

__thread Fiber* cur;
__thread Geometry geometry;

static const size_t STACK = 128 << 10, PAGE = 4096;
static const unsigned MOST_THREADS = 1024, MOST_SHARED = 227 << 10, BARRIERS = 16;

struct Meeting {
    const char* op;
    unsigned mask, arrived;
    const void* in[32];
    void* out[32];
    u32 generation;
};
struct Warp { Meeting meetings[4]; unsigned alive; };
struct Barrier { unsigned arrived, count; u32 generation; };
struct Array { unsigned line; size_t at, bytes; };
// A barrier that one thread initialised and TMA does not know of.
struct Unfenced { const u64* barrier; unsigned thread; };

// What an operating system thread keeps between blocks.
struct Run {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    // The order in which fibers are asked, and where each stands in it.
    std::vector<unsigned> order, place;
    Barrier barriers[BARRIERS];
    unsigned alive = 0;
    // Shared memory ends at a page that cannot be touched.
    u8* pages = nullptr;
    size_t pages_bytes = 0;
    u8* shared = nullptr;
    size_t shared_bytes = 0, static_bytes = 0, dynamic_bytes = 0;
    std::vector<Array> arrays;
    std::vector<Box> boxes;
    std::vector<Unfenced> unfenced;
    // For each 16 bytes of dynamic shared memory that cp.async wrote: the thread, and its count of fences then.
    std::vector<u64> writers;
    u8* stacks = nullptr;
    void* host = nullptr;
    const Entry* entry = nullptr;
    void* const* args = nullptr;
    std::string error;
    u64 random = 1, spins = 0;
    u8* signal_stack = nullptr;
#if !defined(__x86_64__)
    ucontext_t host_context;
    std::vector<ucontext_t> contexts;
#endif
    ~Run() {
        if (pages) munmap(pages, pages_bytes);
        if (stacks) munmap(stacks, STACK * MOST_THREADS);
        if (signal_stack) {
            stack_t off = {};
            off.ss_flags = SS_DISABLE;
            sigaltstack(&off, nullptr);
            free(signal_stack);
        }
    }
};
static thread_local Run* run;

// ---- fibers
#if defined(__x86_64__)
extern "C" void emu_switch(void** save, void* to);
asm(R"(
.text
.globl emu_switch
.type emu_switch,@function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch,.-emu_switch
)");
#endif

// To another fiber, or to the host where there is none.
static void switch_to(Fiber* from, Fiber* to) {
    cur = to;
#if defined(__x86_64__)
    emu_switch(from ? &from->stack_pointer : &run->host, to ? to->stack_pointer : run->host);
#else
    swapcontext(from ? &run->contexts[from->index] : &run->host_context, to ? &run->contexts[to->index] : &run->host_context);
#endif
}

[[noreturn]] static void stop(const char* what) {
    char where[128] = "";
    uint3 b = geometry.block;
    if (cur) {
        uint3 t = cur->thread;
        snprintf(where, sizeof where, "block (%u, %u, %u), thread (%u, %u, %u): ", b.x, b.y, b.z, t.x, t.y, t.z);
    }
    run->error = std::string(where) + what;
    switch_to(cur, nullptr);
    abort();
}

void fail(const char* format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    stop(text);
}

static u64 next_random() {
    run->random = run->random * 6364136223846793005ull + 1442695040888963407ull;
    return run->random >> 33;
}

static void land(const Box& box);

// The next that can run; boxes land, in any order, only when nobody can go on without them.
static Fiber* next_ready(unsigned from) {
    unsigned n = run->fibers.size();
    while (true) {
        for (unsigned i = 1; i <= n; ++i) {
            unsigned at = from + i < n ? from + i : from + i - n;
            Fiber* fiber = &run->fibers[run->order[at]];
            if (!fiber->done && (!fiber->ready || fiber->ready(fiber))) return fiber;
        }
        if (run->boxes.empty()) return nullptr;
        size_t which = next_random() % run->boxes.size();
        Box box = run->boxes[which];
        run->boxes.erase(run->boxes.begin() + which);
        land(box);
    }
}

static std::string deadlock() {
    std::string text = "no thread can go on:";
    int shown = 0;
    for (auto& fiber : run->fibers)
        if (!fiber.done && shown < 8 && (fiber.lane == 0 || shown < 2)) {
            text += " thread " + std::to_string(fiber.index) + " waits at " + fiber.doing + ";";
            shown++;
        }
    return text;
}

void wait_for(const char* doing, bool (*ready)(Fiber*), const void* on, u64 value) {
    Fiber* fiber = cur;
    fiber->ready = ready;
    fiber->waits_on = on;
    fiber->waits_for = value;
    fiber->doing = doing;
    if (!ready(fiber)) {
        Fiber* next = next_ready(run->place[fiber->index]);
        if (!next) fail("deadlock: %s", deadlock().c_str());
        if (next != fiber) switch_to(fiber, next);
    }
    fiber->ready = nullptr;
    fiber->doing = "running";
}

void spin() {
    if (++run->spins > 1u << 22) fail("livelock: one block spins; %s", deadlock().c_str());
    if (run->spins % 16) return;
    Fiber* fiber = cur;
    Fiber* next = next_ready(run->place[fiber->index]);
    if (next && next != fiber) switch_to(fiber, next);
}

// ---- barriers and collectives
static bool generation_passed(Fiber* fiber) { return *(const u32*)fiber->waits_on != fiber->waits_for; }

void block_barrier(unsigned id, unsigned count) {
    if (id >= BARRIERS) fail("barrier %u: there are %u", id, BARRIERS);
    if (count % 32 || count > run->fibers.size()) fail("barrier %u: for %u threads", id, count);
    Barrier& barrier = run->barriers[id];
    if (barrier.arrived && barrier.count != count) fail("barrier %u: threads disagree on how many they are", id);
    barrier.count = count;
    if (++barrier.arrived == (count ? count : run->alive)) {
        barrier.arrived = 0;
        barrier.generation++;
        return;
    }
    wait_for(id ? "a named barrier" : "__syncthreads", generation_passed, &barrier.generation, barrier.generation);
}

void collective(const char* op, unsigned mask, const void* in, void* out, Meet meet) {
    Fiber* fiber = cur;
    Warp* warp = fiber->warp;
    unsigned own = 1u << fiber->lane;
    if (!(mask & own)) fail("%s: lane %u is not in the mask %08x", op, fiber->lane, mask);
    if (mask & ~warp->alive) fail("%s: the mask %08x names lanes that have returned (alive: %08x)", op, mask, warp->alive);
    Meeting* meeting = nullptr;
    for (auto& other : warp->meetings)
        if (other.arrived && other.op == op && other.mask == mask) meeting = &other;
    if (!meeting)
        for (auto& other : warp->meetings) {
            if (other.arrived && (other.mask & mask))
                fail("lanes of a warp diverge: %s (mask %08x) while lanes %08x are at %s", op, mask, other.arrived, other.op);
            if (!other.arrived && !meeting) meeting = &other;
        }
    if (!meeting) fail("more than four collectives of one warp at a time");
    meeting->op = op;
    meeting->mask = mask;
    meeting->arrived |= own;
    meeting->in[fiber->lane] = in;
    meeting->out[fiber->lane] = out;
    if (meeting->arrived == mask) {
        meet(meeting->in, meeting->out, mask);
        meeting->arrived = 0;
        meeting->generation++;
        return;
    }
    wait_for(op, generation_passed, &meeting->generation, meeting->generation);
}

// ---- shared memory
u8* dynamic_shared() { return run->shared + (run->shared_bytes - run->dynamic_bytes); }

u32 shared_offset(const void* pointer) { return (u32)((const u8*)pointer - dynamic_shared()); }

u8* shared_at(u32 offset, unsigned bytes, const char* who) {
    if (offset + (u64)bytes > run->dynamic_bytes) fail("%s: byte %u of %zu of shared memory", who, offset, run->dynamic_bytes);
    return dynamic_shared() + offset;
}

// Arrays lie before the dynamic part, the first to be named last, so that the first ends at a guard where there is no
// dynamic part.
void* shared_array(unsigned line, size_t bytes, const char* name) {
    for (auto& array : run->arrays)
        if (array.line == line) return run->shared + array.at;
    size_t room = (bytes + 15) & ~(size_t)15;
    run->static_bytes += room;
    if (run->static_bytes > 48 << 10) fail("arrays in shared memory exceed 48 KiB at `%s`", name);
    size_t at = run->shared_bytes - run->dynamic_bytes - run->static_bytes;
    run->arrays.push_back({line, at, bytes});
    return run->shared + at;
}

static void map_shared(size_t dynamic) {
    size_t rounded = (dynamic + 15) & ~(size_t)15, bytes = ((48 << 10) + rounded + PAGE - 1) & ~(PAGE - 1);
    if (run->pages && run->pages_bytes == bytes + PAGE && run->dynamic_bytes == rounded) return;
    if (run->pages) munmap(run->pages, run->pages_bytes);
    run->pages = (u8*)mmap(nullptr, bytes + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (run->pages == MAP_FAILED) abort();
    run->pages_bytes = bytes + PAGE;
    mprotect(run->pages + bytes, PAGE, PROT_NONE);
    run->shared = run->pages;
    run->shared_bytes = bytes;
    run->dynamic_bytes = rounded;
}

// ---- asynchronous copies
void copy_async(void* to, const void* from, unsigned bytes, unsigned valid) {
    Fiber* fiber = cur;
    if (valid > bytes) fail("cp.async: %u of %u bytes", valid, bytes);
    if (fiber->n_copies == Fiber::MOST_COPIES) fail("more than %u copies in flight", Fiber::MOST_COPIES);
    fiber->copies[fiber->n_copies++] = {to, from, bytes, valid};
}
void copy_commit() {
    Fiber* fiber = cur;
    if (fiber->n_groups == Fiber::MOST_GROUPS) fail("more than %u groups of copies in flight", Fiber::MOST_GROUPS);
    fiber->group_ends[fiber->n_groups++] = fiber->n_copies;
}
void copy_wait(unsigned keep) {
    Fiber* fiber = cur;
    if (fiber->n_groups <= keep) return;
    unsigned groups = fiber->n_groups - keep, copies = fiber->group_ends[groups - 1];
    for (unsigned i = 0; i < copies; ++i) {
        const Copy& copy = fiber->copies[i];
        memcpy(copy.to, copy.from, copy.valid);
        memset((u8*)copy.to + copy.valid, 0, copy.bytes - copy.valid);
        size_t piece = (size_t)((u8*)copy.to - dynamic_shared()) / 16;
        if (piece < run->writers.size()) run->writers[piece] = (u64)fiber->fences << 32 | (fiber->index + 1);
    }
    memmove(fiber->copies, fiber->copies + copies, sizeof(Copy) * (fiber->n_copies - copies));
    fiber->n_copies -= copies;
    for (unsigned i = groups; i < fiber->n_groups; ++i) fiber->group_ends[i - groups] = fiber->group_ends[i] - copies;
    fiber->n_groups -= groups;
}

// ---- barriers of TMA, in the 64 bits of shared memory that they have
// arrivals still to come : 16, of a phase : 16, bytes still to come : 24 (signed), parity of the phase : 1, `MARK` : 7
static const u64 MARK = 0x35;
struct Count { u32 pending, arrivals; int bytes; u32 parity; };

static Count count_of(const u64* barrier) {
    u64 word = *barrier;
    if (word >> 57 != MARK) fail("an mbarrier that was not initialised");
    return {(u32)(word & 0xffff), (u32)(word >> 16 & 0xffff), (int)((u32)(word >> 32) << 8) >> 8, (u32)(word >> 56 & 1)};
}
static void set_count(u64* barrier, Count count) {
    if (count.bytes >= 1 << 20 || count.bytes <= -(1 << 20)) fail("an mbarrier waits for %d bytes", count.bytes);
    if (!count.pending && !count.bytes) {
        count.pending = count.arrivals;
        count.parity ^= 1;
    }
    *barrier = count.pending | (u64)count.arrivals << 16 | (u64)((u32)count.bytes & 0xffffff) << 32 | (u64)count.parity << 56 | MARK << 57;
}
void barrier_init(u64* barrier, u32 arrivals) {
    if ((uintptr_t)barrier & 7) fail("an mbarrier that is not on 8 bytes");
    set_count(barrier, {arrivals, arrivals, 0, 0});
    run->unfenced.push_back({barrier, cur->index});
}
void fence_barriers() {
    auto& all = run->unfenced;
    for (size_t i = all.size(); i-- > 0;)
        if (all[i].thread == cur->index) all.erase(all.begin() + i);
}
void barrier_arrive(u64* barrier, u32 bytes) {
    Count count = count_of(barrier);
    if (!count.pending) fail("an mbarrier sees more arrivals than it was made for");
    count.pending--;
    count.bytes += (int)bytes;
    set_count(barrier, count);
}
static bool phase_over(Fiber* fiber) { return count_of((const u64*)fiber->waits_on).parity != fiber->waits_for; }
void barrier_wait(u64* barrier, u32 parity) {
    if (parity > 1) fail("an mbarrier's phase has parity 0 or 1, not %u", parity);
    count_of(barrier);
    wait_for("an mbarrier", phase_over, barrier, parity);
}

// ---- TMA
// A tensor of 16-bit elements, and how it is read; in the order of words that src/map.rs writes.
struct Map {
    u64 mark, address, dims[4], strides[3];
    u32 rank, windows, rows[2], steps[2];
    int lower[2], upper[2];
};
static_assert(sizeof(Map) <= sizeof(TensorMap), "a map is as large as the driver's");

static const Map& map_of(const Box& box) {
    const Map& map = *(const Map*)box.map;
    if (map.mark != 0x70616d) fail("a copy by something that is no tensor map");
    if (map.rank != box.rank || (map.windows != 0) != box.windows) fail("a copy by a tensor map of another kind");
    return map;
}
static unsigned rows_of(const Map& map) { return map.windows ? map.rows[0] : map.rows[0] * map.rows[1]; }

void copy_box(const Box& box) {
    const Map& map = map_of(box);
    if ((uintptr_t)box.map & 63) fail("a tensor map that is not on 64 bytes");
    u32 to = shared_offset(box.to);
    if (to & 127) fail("a box that is not on 128 bytes");
    count_of(box.barrier);
    for (auto& one : run->unfenced)
        if (one.barrier == box.barrier) fail("TMA does not know an mbarrier: no fence after it was initialised");
    if (box.windows) {
        if ((unsigned)box.shift[0] > 255 || (unsigned)box.shift[1] > 255) fail("a tap beyond 255");
        for (int i = 0; i < 2; ++i) {
            int last = (int)map.dims[i + 1] - 1 + map.upper[i];
            if (box.at[i + 1] < map.lower[i] || box.at[i + 1] > last) fail("windows begin outside of their corners");
        }
    }
    // from now on it may be written at any time
    unsigned bytes = rows_of(map) * 128;
    memset(shared_at(to, bytes, "a box"), 0xff, bytes);
    run->boxes.push_back(box);
}

static void land(const Box& box) {
    const Map& map = map_of(box);
    const unsigned rows = rows_of(map);
    const u32 to = shared_offset(box.to);
    long at[4] = {box.at[0], box.at[1], box.at[2], box.at[3]};
    for (unsigned row = 0; row < rows; ++row) {
        long place[4] = {0, at[1], at[2], at[3]};
        if (box.windows) {
            place[1] += box.shift[0];
            place[2] += box.shift[1];
        } else {
            place[1] += row % map.rows[0];
            place[2] += row / map.rows[0];
        }
        bool inside = true;
        const u8* from = (const u8*)map.address;
        for (unsigned axis = 1; axis < map.rank; ++axis) {
            inside = inside && place[axis] >= 0 && place[axis] < (long)map.dims[axis];
            from += place[axis] * (long)map.strides[axis - 1];
        }
        for (unsigned piece = 0; piece < 8; ++piece) {
            u16 values[8] = {};
            for (int i = 0; i < 8; ++i) {
                long c = at[0] + piece * 8 + i;
                if (inside && c >= 0 && c < (long)map.dims[0]) memcpy(values + i, from + c * 2, 2);
            }
            u32 linear = to + row * 128 + piece * 16, swizzled = linear ^ ((linear >> 7 & 7) << 4);
            memcpy(shared_at(swizzled, 16, "a box"), values, 16);
            run->writers[swizzled / 16] = 0;
        }
        if (!box.windows) continue;
        // the next window, of the next row, of the next image
        if ((at[1] += map.steps[0]) <= (long)map.dims[1] - 1 + map.upper[0]) continue;
        at[1] = map.lower[0];
        if ((at[2] += map.steps[1]) <= (long)map.dims[2] - 1 + map.upper[1]) continue;
        at[2] = map.lower[1];
        at[3]++;
    }
    Count count = count_of(box.barrier);
    count.bytes -= (int)(rows * 128);
    set_count(box.barrier, count);
}

// ---- wgmma
void wgmma(float* sums, int columns, u64 a, u64 b, float (*value)(u16), bool add) {
    Fiber* fiber = cur;
    if (fiber->n_wgmmas == Fiber::MOST_WGMMAS) fail("more than %u wgmma in flight", Fiber::MOST_WGMMAS);
    fiber->wgmmas[fiber->n_wgmmas++] = {sums, a, b, columns, value, add};
}

// The 16 elements of row `row` of a side: rows of 128 bytes in atoms of 8, swizzled by their address.
template <class F> static void elements(const Wgmma& product, u64 side, unsigned row, F put) {
    u32 at = (u32)(side & 0x3fff) << 4, apart = (u32)(side >> 32 & 0x3fff) << 4;
    for (unsigned half = 0; half < 2; ++half) {
        u32 linear = at + (row >> 3) * apart + (row & 7) * 128 + half * 16;
        u32 swizzled = linear ^ ((linear >> 7 & 7) << 4);
        const u16* values = (const u16*)shared_at(swizzled, 16, "wgmma");
        u64 writer = run->writers[swizzled / 16];
        if (writer && run->fibers[(u32)writer - 1].fences == writer >> 32)
            fail("wgmma reads what thread %u wrote without a fence", (u32)writer - 1);
        for (unsigned k = 0; k < 8; ++k) put(half * 8 + k, product.value(values[k]));
    }
}

// Each warp computes 16 of the 64 rows of the products that its lanes wait for; `in` are the fibers.
static void do_wgmmas(const void* const* in, void* const*, unsigned) {
    Fiber* first = (Fiber*)in[0];
    unsigned keep = first->wgmma_keep, groups = first->n_wgmma_groups - keep;
    unsigned count = first->wgmma_ends[groups - 1], row0 = (first->index >> 5 & 3) * 16;
    static thread_local float a[16][16], b[16][256];
    for (unsigned i = 0; i < count; ++i) {
        const Wgmma product = first->wgmmas[i];
        for (int lane = 1; lane < 32; ++lane) {
            const Wgmma& other = ((Fiber*)in[lane])->wgmmas[i];
            if (other.a != product.a || other.b != product.b || other.columns != product.columns || other.add != product.add)
                fail("wgmma: lanes disagree on what to multiply");
        }
        for (int r = 0; r < 16; ++r) elements(product, product.a, row0 + r, [&](int k, float v) { a[r][k] = v; });
        for (int c = 0; c < product.columns; ++c) elements(product, product.b, c, [&](int k, float v) { b[k][c] = v; });
        for (int r = 0; r < 16; ++r) {
            float sums[256] = {};
            for (int k = 0; k < 16; ++k)
                for (int c = 0; c < product.columns; ++c) sums[c] += a[r][k] * b[k][c];
            for (int c = 0; c < product.columns; ++c) {
                float* own = ((Fiber*)in[(r & 7) * 4 + (c & 7) / 2])->wgmmas[i].sums;
                float& sum = own[(c >> 3) * 4 + (r >> 3) * 2 + (c & 1)];
                sum = product.add ? sum + sums[c] : sums[c];
            }
        }
    }
    for (int lane = 0; lane < 32; ++lane) {
        Fiber* fiber = (Fiber*)in[lane];
        memmove(fiber->wgmmas, fiber->wgmmas + count, sizeof(Wgmma) * (fiber->n_wgmmas - count));
        fiber->n_wgmmas -= count;
        for (unsigned i = groups; i < fiber->n_wgmma_groups; ++i) fiber->wgmma_ends[i - groups] = fiber->wgmma_ends[i] - count;
        fiber->n_wgmma_groups = keep;
    }
}

void wgmma_wait(unsigned keep) {
    if (cur->n_wgmma_groups <= keep) return;
    cur->wgmma_keep = keep;
    collective("wgmma.wait_group", ~0u, cur, nullptr, do_wgmmas);
}

// ---- float16
u16 half_bits(float f) {
    u32 x = __float_as_uint(f), sign = x >> 16 & 0x8000, magnitude = x & 0x7fffffff;
    if (magnitude > 0x7f800000) return 0x7fff;
    if (magnitude >= 0x477ff000) return sign | 0x7c00;
    if (magnitude < 0x38800000) {
        // subnormal: adding 1/2 in a float of the right exponent rounds to even
        float shifted = __uint_as_float(magnitude) + 0.5f;
        return sign | (u16)(__float_as_uint(shifted) - 0x3f000000);
    }
    return sign | (u16)((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
}
struct HalfValues {
    float values[1 << 16];
    HalfValues() {
        for (u32 bits = 0; bits < 1 << 16; ++bits) {
            u32 exponent = bits >> 10 & 31, fraction = bits & 1023;
            float value = exponent == 31 ? (fraction ? NAN : INFINITY)
                        : exponent       ? ldexpf(1024 + fraction, (int)exponent - 25)
                                         : ldexpf(fraction, -24);
            values[bits] = bits >> 15 ? -value : value;
        }
    }
};
static const HalfValues half_values;
float half_value(u16 bits) { return half_values.values[bits]; }

// ---- faults: an access beyond an allocation touches its guard page
static struct sigaction before_segv, before_bus;
static void on_fault(int signal, siginfo_t* info, void* context) {
    if (run && cur) {
        char text[96];
        snprintf(text, sizeof text, "access out of bounds, at address %p", info->si_addr);
        stop(text);
    }
    struct sigaction& before = signal == SIGSEGV ? before_segv : before_bus;
    if (before.sa_flags & SA_SIGINFO) return before.sa_sigaction(signal, info, context);
    sigaction(signal, &before, nullptr);
}
static void catch_faults() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        // the handler leaves by switching fibers, never by returning
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigaction(SIGSEGV, &action, &before_segv);
        sigaction(SIGBUS, &action, &before_bus);
    });
    if (run->signal_stack) return;
    const size_t bytes = 64 << 10;
    run->signal_stack = (u8*)malloc(bytes);
    stack_t stack = {};
    stack.ss_sp = run->signal_stack;
    stack.ss_size = bytes;
    sigaltstack(&stack, nullptr);
}

// ---- launches
static void fiber_main() {
    run->entry->run(run->args);
    Fiber* fiber = cur;
    if (fiber->n_wgmmas) fail("returns before its wgmma are waited for");
    if (fiber->n_copies) fail("returns before its copies are waited for");
    fiber->done = true;
    fiber->warp->alive &= ~(1u << fiber->lane);
    run->alive--;
    // those who have returned count as arrived
    Barrier& barrier = run->barriers[0];
    if (run->alive && barrier.arrived == run->alive) {
        barrier.arrived = 0;
        barrier.generation++;
    }
    if (!run->alive && !run->boxes.empty()) fail("returns before its boxes have landed");
    Fiber* next = run->alive ? next_ready(run->place[fiber->index]) : nullptr;
    if (run->alive && !next) fail("deadlock: %s", deadlock().c_str());
    switch_to(fiber, next);
    abort();
}

// Warps in an order of the seed's, lanes of each turned and perhaps reversed.
static void shuffle_threads(unsigned threads, u64 seed) {
    unsigned warps = (threads + 31) / 32;
    run->random = seed * 0x9e3779b97f4a7c15ull + 1;
    std::vector<unsigned> order(warps);
    for (unsigned i = 0; i < warps; ++i) order[i] = i;
    for (unsigned i = warps; seed && i > 1; --i) std::swap(order[i - 1], order[next_random() % i]);
    unsigned at = 0;
    for (unsigned warp : order) {
        unsigned lanes = warp * 32 + 32 <= threads ? 32 : threads - warp * 32;
        unsigned turn = seed ? next_random() % lanes : 0;
        bool reversed = seed && (next_random() & 1);
        for (unsigned i = 0; i < lanes; ++i) {
            unsigned lane = (i + turn) % lanes;
            if (reversed) lane = lanes - 1 - lane;
            run->order[at] = warp * 32 + lane;
            run->place[warp * 32 + lane] = at++;
        }
        run->warps[warp].alive = lanes == 32 ? ~0u : (1u << lanes) - 1;
    }
}

static void run_block(unsigned threads, u64 seed) {
    if (run->fibers.size() != threads) {
        run->fibers.assign(threads, Fiber());
        run->order.resize(threads);
        run->place.resize(threads);
    }
    run->warps.assign((threads + 31) / 32, Warp());
    memset(run->barriers, 0, sizeof run->barriers);
    run->alive = threads;
    run->spins = 0;
    run->arrays.clear();
    run->boxes.clear();
    run->unfenced.clear();
    run->writers.assign(run->dynamic_bytes / 16, 0);
    run->static_bytes = 0;
    // not a number in every type
    memset(run->shared, 0xff, run->shared_bytes);
    shuffle_threads(threads, seed);
#if !defined(__x86_64__)
    run->contexts.resize(threads);
#endif
    for (unsigned i = 0; i < threads; ++i) {
        Fiber& fiber = run->fibers[i];
        fiber.index = i;
        fiber.lane = i & 31;
        fiber.warp = &run->warps[i >> 5];
        fiber.done = false;
        fiber.ready = nullptr;
        fiber.doing = "running";
        fiber.fences = 0;
        fiber.n_copies = fiber.n_groups = fiber.n_wgmmas = fiber.n_wgmma_groups = 0;
        fiber.stack = run->stacks + i * STACK;
        uint3 dim = geometry.block_dim;
        fiber.thread = {i % dim.x, i / dim.x % dim.y, i / (dim.x * dim.y)};
#if defined(__x86_64__)
        // tops of stacks at different places of a page, or all would share one set of the cache
        void** top = (void**)(fiber.stack + STACK - 64 - (i * 320 & 0x3fc0));
        for (int j = 0; j < 8; ++j) top[j] = nullptr;
        top[6] = (void*)fiber_main;
        fiber.stack_pointer = top;
#else
        getcontext(&run->contexts[i]);
        run->contexts[i].uc_stack.ss_sp = fiber.stack;
        run->contexts[i].uc_stack.ss_size = STACK;
        run->contexts[i].uc_link = nullptr;
        makecontext(&run->contexts[i], fiber_main, 0);
#endif
    }
    switch_to(nullptr, &run->fibers[run->order[0]]);
    cur = nullptr;
}

struct Variant { const char* name; const Entry* entries; unsigned count; };
extern const Variant variants[];
extern const unsigned n_variants;

static const Entry* find(const char* variant, const char* kernel) {
    for (unsigned i = 0; i < n_variants; ++i)
        if (!strcmp(variants[i].name, variant))
            for (unsigned j = 0; j < variants[i].count; ++j)
                if (!strcmp(variants[i].entries[j].name, kernel)) return &variants[i].entries[j];
    return nullptr;
}

}

extern "C" size_t emu_args_bytes(const char* variant, const char* kernel) {
    const emu::Entry* entry = emu::find(variant, kernel);
    return entry ? entry->args_bytes : 0;
}

// Runs the blocks [from, to) of a launch; 0, or -1 and what went wrong in `error`.
extern "C" int emu_launch(const char* variant, const char* kernel, const unsigned* grid, const unsigned* block,
                          size_t shared, void* const* args, u64 from, u64 to, u64 seed, char* error, size_t error_bytes) {
    using namespace emu;
    static thread_local Run own;
    run = &own;
    run->error.clear();
    auto refuse = [&](const char* what) { snprintf(error, error_bytes, "%s: %s", kernel, what); return -1; };
    const Entry* entry = find(variant, kernel);
    if (!entry) return refuse("no such kernel");
    unsigned threads = block[0] * block[1] * block[2];
    if (!threads || threads > MOST_THREADS || threads > entry->threads) return refuse("too many threads for its launch bounds");
    if (shared > MOST_SHARED) return refuse("too much shared memory");
    if (!grid[0] || !grid[1] || !grid[2] || grid[1] > 65535 || grid[2] > 65535) return refuse("no such grid");
    if (!run->stacks) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        run->stacks = (u8*)mmap(nullptr, STACK * MOST_THREADS, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (run->stacks == MAP_FAILED) abort();
    }
    map_shared(shared);
    catch_faults();
    run->entry = entry;
    run->args = args;
    geometry.block_dim = {block[0], block[1], block[2]};
    geometry.grid_dim = {grid[0], grid[1], grid[2]};
    for (u64 b = from; b < to && run->error.empty(); ++b) {
        geometry.block = {(unsigned)(b % grid[0]), (unsigned)(b / grid[0] % grid[1]), (unsigned)(b / grid[0] / grid[1])};
        run_block(threads, seed ? seed + b : 0);
    }
    if (run->error.empty()) return 0;
    return refuse(run->error.c_str());
}
