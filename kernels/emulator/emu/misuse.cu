// Kernels with mistakes in them, which the emulator must report.

struct Args { u32* word; };

KERNEL(unmet_barrier, 64, 1)(const Args) {
    if (threadIdx.x < 32) named_barrier(1, 64);
}

KERNEL(divergent, 32, 1)(const Args a) {
    u32 own = threadIdx.x;
    if (own & 1) own = __shfl_xor_sync(~0u, own, 2);
    else __syncwarp();
    if (own == 99) *a.word = own;
}

KERNEL(misaligned, 32, 1)(const Args a) {
    DYNAMIC_SHARED(shared);
    copy_async<16>(shared + 8, a.word, 16);
    copy_commit();
    copy_wait<0>();
}

KERNEL(unwaited, 32, 1)(const Args a) {
    DYNAMIC_SHARED(shared);
    copy_async<4>(shared + threadIdx.x * 4, a.word, 4);
    copy_commit();
}

KERNEL(beyond_shared, 32, 1)(const Args a) {
    DYNAMIC_SHARED(shared);
    ((u32*)shared)[threadIdx.x] = *a.word;
}

KERNEL(spinning, 32, 1)(const Args a) {
    while (atomicAdd(a.word, 0u) == 0) __nanosleep(20);
}
