"""Checks conv_igemm and attention on a GPU against PyTorch, and times them.

Needs PyTorch with CUDA and nvcc, and the kernels as a compiler takes them:

    cargo run -p archc-cuda --example sources -- target/kernels && python3 benches/gpu_layouts.py target/kernels [seconds]

After so many seconds (60) no further timing begins; the checks come first and always run. The structs come from the same
text, so that this page cannot disagree with the kernels; with `structs` in place of seconds their sizes are all it says.
"""
import ctypes, os, re, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor

KERNELS = sys.argv[1]


def structs(file):
    """The structs that the kernels of a file take, as ctypes."""
    text = open(os.path.join(KERNELS, file + ".cu")).read()
    found = {"int": ctypes.c_int32, "u32": ctypes.c_uint32, "float": ctypes.c_float, "double": ctypes.c_double}
    found.update((name, ctypes.c_int32) for name in re.findall(r"^enum class (\w+) : int", text, re.M))
    for name, body, size in re.findall(r"^struct (\w+) \{\n((?:    .*\n)*)\};\nstatic_assert\(sizeof\(\w+\) == (\d+)", text, re.M):
        fields = []
        for kind, pointer, field, count in re.findall(r"^    (?:const )?(\w+)(\*?) (\w+)(?:\[(\d+)\])?;", body, re.M):
            kind = ctypes.c_uint64 if pointer else found[kind]
            fields.append((field, kind * int(count) if count else kind))
        found[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
        assert ctypes.sizeof(found[name]) == int(size), name
    return found


S = {**structs("conv_igemm"), **structs("attention")}
if sys.argv[2:] == ["structs"]:
    print("\n".join("%s %d" % (name, ctypes.sizeof(kind)) for name, kind in S.items()))
    sys.exit()

import torch
import torch.nn.functional as F

START = time.monotonic()
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 60
WORK = tempfile.mkdtemp()
ARCH = "sm_%d%d" % torch.cuda.get_device_capability()
if ARCH in ("sm_90", "sm_100"):
    ARCH += "a"
TYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32, "tf32": torch.float32}
TOLERANCE = {"bf16": 4e-3, "f16": 5e-4, "f32": 2e-6, "tf32": 5e-4}
TILES = {"large": (128, 128, 2, 4), "narrow": (128, 64, 2, 2), "small": (64, 64, 2, 2),
         "hopper_large": (128, 128, 8, 1), "hopper_narrow": (128, 64, 8, 1)}

cuda = ctypes.CDLL("libcuda.so.1")
torch.zeros(1, device="cuda")


def ok(code):
    assert code == 0, "CUDA error %d" % code


def build(job):
    file, defines = job
    out = os.path.join(WORK, file + "".join("_%s" % v for v in defines.values()) + ".cubin")
    flags = ["-D%s=%s" % pair for pair in defines.items()]
    command = ["nvcc", "-std=c++17", "-cubin", "-arch=" + ARCH, *flags, "-o", out, os.path.join(KERNELS, file + ".cu")]
    subprocess.run(command, check=True)
    return out


def load(path, kernel, shared):
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    ok(cuda.cuModuleLoad(ctypes.byref(module), path.encode()))
    ok(cuda.cuModuleGetFunction(ctypes.byref(function), module, kernel.encode()))
    ok(cuda.cuFuncSetAttribute(function, 8, shared))
    return function


def launch(function, grid, block, shared, args):
    pointers = (ctypes.c_void_p * 1)(ctypes.addressof(args))
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    ok(cuda.cuLaunchKernel(function, *grid, *block, shared, stream, pointers, None))


def time_of(run, count=50):
    for _ in range(5):
        run()
    start, end = torch.cuda.Event(True), torch.cuda.Event(True)
    start.record()
    for _ in range(count):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / count * 1e3


def error(got, want):
    got = got.to(want.dtype)
    return ((got - want).norm() / want.norm()).item()


def conv_variant(dtype, tile, vec, stages=4, row=64):
    bm, bn, wm, wn = TILES[tile]
    defines = {"DTYPE": dtype, "BM": bm, "BN": bn, "WARPS_M": wm, "WARPS_N": wn, "VEC": vec, "STAGES": stages, "ROW": row}
    if tile.startswith("hopper"):
        defines.update({"STAGES": 3, "ROW": 128, "HOPPER": 1})
    return "conv_igemm", defines


def conv(cubins, dtype, tile, splits, n, h, c, k, r, stride, residual, timed, stages=4, row_bytes=64):
    if tile.startswith("hopper"):
        stages, row_bytes = 3, 128
    if timed and time.monotonic() - START > SECONDS:
        return True
    kind = TYPES[dtype]
    vec = 16 // kind.itemsize
    pixel = c
    if c < 8:
        vec, pixel = 4, 4
    pad, oh = r // 2, (h + 2 * (r // 2) - r) // stride + 1
    x = torch.randn(n, h, h, c, device="cuda").to(kind)
    w = (torch.randn(k, c, r, r, device="cuda") * (c * r * r) ** -0.5).to(kind)
    bias = torch.randn(k, device="cuda")
    more = torch.randn(n, oh, oh, k, device="cuda").to(kind)
    spaced = torch.full((n, h, h, pixel), float("nan"), device="cuda").to(kind)
    spaced[..., :c] = x
    wide = -(-c // vec) * vec
    row = -(-(r * r * wide) // (16 // kind.itemsize)) * (16 // kind.itemsize)
    packed = torch.zeros(k, row, device="cuda", dtype=kind)
    packed[:, : r * r * wide].view(k, r * r, wide)[:, :, :c] = w.permute(0, 2, 3, 1).reshape(k, r * r, c)
    y = torch.full((n, oh, oh, k), float("nan"), device="cuda").to(kind)
    bm, bn, wm, wn = TILES[tile]
    tiles = (-(-n * oh * oh // bm), -(-k // bn))
    partials = torch.empty(max(1, splits * tiles[0] * tiles[1] * bm * bn), device="cuda")
    counters = torch.zeros(tiles[0] * tiles[1], device="cuda", dtype=torch.int32)
    a = S["Conv"](
        x=spaced.data_ptr(), w=packed.data_ptr(), y=y.data_ptr(), partials=partials.data_ptr(), counters=counters.data_ptr(),
        window=S["Window"](n=n, height=h, width=h, out_height=oh, out_width=oh, r=r, s=r, stride_h=stride, stride_w=stride,
                           pad_top=pad, pad_left=pad, pad_bottom=pad, pad_right=pad, dilation_h=1, dilation_w=1),
        c=c, k=k, groups=1, x_image=h * h * pixel, x_row=h * pixel, x_pixel=pixel,
        y_image=oh * oh * k, y_row=oh * k, y_pixel=k, w_stride=row, splits=splits)
    e = a.epilogue
    e.bias, e.after.code = bias.data_ptr(), 1
    if residual:
        e.residual, e.residual_image, e.residual_row, e.residual_pixel = more.data_ptr(), oh * oh * k, oh * k, k
    shared = stages * (bm + bn) * row_bytes
    function = load(cubins[str(conv_variant(dtype, tile, vec, stages, row_bytes))], "conv_igemm", shared)
    run = lambda: launch(function, (tiles[0] * tiles[1], splits, 1), (wm * wn * 32, 1, 1), shared, a)
    run()
    torch.cuda.synchronize()
    # large ones in float32, whose own error is then allowed for
    exact = torch.float32 if timed else torch.float64
    torch.backends.cudnn.allow_tf32 = False
    want = F.conv2d(x.permute(0, 3, 1, 2).to(exact), w.to(exact), bias.to(exact), stride, pad).permute(0, 2, 3, 1)
    want = F.relu(want + more.to(exact) if residual else want)
    off = error(y, want)
    allowed = max(TOLERANCE[dtype], 1e-5 if timed else 0)
    text = "conv %-4s %-6s %d x %3d split %d  %3dx%dx%dx%d -> %d %dx%d/%d: off by %.1e" % (dtype, tile, stages, row_bytes, splits, n, h, h, c, k, r, r, stride, off)
    if timed:
        torch.backends.cudnn.allow_tf32 = dtype == "tf32"
        torch.backends.cudnn.benchmark = True
        own = time_of(run)
        nchw = x.permute(0, 3, 1, 2)
        weights, b = w.to(memory_format=torch.channels_last), bias.to(kind)
        theirs = time_of(lambda: F.conv2d(nchw, weights, b, stride, pad))
        flops = 2 * n * oh * oh * k * c * r * r
        moved = (x.numel() + w.numel() + y.numel() * (2 if residual else 1)) * kind.itemsize
        text += "  %8.1f us %6.1f TFLOP/s %6.0f GB/s   cuDNN, bias alone %8.1f us" % (own, flops / own / 1e6, moved / own / 1e3, theirs)
    print(text, "" if off < allowed else "WRONG", flush=True)
    return off < allowed


def attention(cubins, dtype, n, heads, dim, tokens, timed):
    if timed and time.monotonic() - START > SECONDS:
        return True
    kind = TYPES[dtype]
    q, k, v = (torch.randn(n, tokens, heads * dim, device="cuda").to(kind) for _ in range(3))
    y = torch.full_like(q, float("nan"))
    row = heads * dim
    a = S["Attention"](q=q.data_ptr(), k=k.data_ptr(), v=v.data_ptr(), y=y.data_ptr(), n=n, heads=heads, dim=dim,
                       value_dim=dim, queries=tokens, keys=tokens, q_stride=row, k_stride=row, v_stride=row, y_stride=row,
                       q_images=n, k_images=n, v_images=n, scale=dim ** -0.5)
    wide = next(d for d in (32, 64, 128) if d >= dim)
    shared = ((64 + 64) * (wide + 4) + 64 * 32) * 4 if dtype == "f32" else 2 * 2 * 64 * (wide + 8) * 2
    function = load(cubins[str(("attention", {"DTYPE": dtype, "DIM": wide}))], "attention", shared)
    run = lambda: launch(function, (-(-tokens // 64) * heads * n, 1, 1), (128, 1, 1), shared, a)
    run()
    torch.cuda.synchronize()
    split = lambda t: t.view(n, tokens, heads, dim).transpose(1, 2)
    want = F.scaled_dot_product_attention(*(split(t).double() for t in (q, k, v))).transpose(1, 2).reshape(n, tokens, -1)
    off = error(y, want)
    text = "attention %-4s %dx%d heads of %d, %d tokens: off by %.1e" % (dtype, n, heads, dim, tokens, off)
    if timed:
        theirs = time_of(lambda: F.scaled_dot_product_attention(split(q), split(k), split(v)))
        text += "  %8.1f us   PyTorch %8.1f us" % (time_of(run), theirs)
    good = off < 2 * TOLERANCE[dtype]
    print(text, "" if good else "WRONG", flush=True)
    return good


def tiles(dtype):
    """The tiles that there are on this device."""
    hopper = ARCH == "sm_90a" and dtype in ("bf16", "f16")
    return [tile for tile in TILES if hopper or not tile.startswith("hopper")]


def main():
    print(torch.cuda.get_device_name(), ARCH, "PyTorch", torch.__version__, flush=True)
    jobs = [conv_variant(dtype, tile, 16 // TYPES[dtype].itemsize) for dtype in TYPES for tile in tiles(dtype)]
    jobs += [conv_variant(dtype, tile, 4) for dtype in ("bf16", "f16") for tile in tiles(dtype) if "narrow" in tile]
    jobs += [conv_variant("bf16", tile, 8, *shape) for tile in ("large", "narrow") for shape in ((3, 128), (3, 64))]
    jobs += [("attention", {"DTYPE": dtype, "DIM": 64}) for dtype in ("bf16", "f16", "f32")]
    with ThreadPoolExecutor(16) as pool:
        cubins = dict(zip(map(str, jobs), pool.map(build, jobs)))
    print("compiled", len(cubins), flush=True)
    good = True
    for dtype in TYPES:
        for tile in tiles(dtype):
            good &= conv(cubins, dtype, tile, 1, 2, 14, 64, 96, 3, 1, True, False)
            good &= conv(cubins, dtype, tile, 3, 1, 9, 72, 136, 3, 2, False, False)
    for dtype in ("bf16", "f16", "f32"):
        good &= attention(cubins, dtype, 2, 3, 64, 197, False)
    for dtype, n in (("bf16", 256), ("f16", 256), ("tf32", 64), ("f32", 64)):
        if dtype in ("bf16", "f16"):
            for tile in tiles(dtype):
                if "narrow" in tile:
                    good &= conv(cubins, dtype, tile, 1, n, 224, 3, 64, 7, 2, False, True)
        for tile in tiles(dtype):
            if tile == "small":
                continue
            good &= conv(cubins, dtype, tile, 1, n, 56, 64, 64, 3, 1, False, True)
            good &= conv(cubins, dtype, tile, 1, n, 56, 64, 256, 1, 1, True, True)
            good &= conv(cubins, dtype, tile, 1, n, 28, 128, 128, 3, 1, False, True)
            good &= conv(cubins, dtype, tile, 1, n, 14, 256, 256, 3, 1, False, True)
            good &= conv(cubins, dtype, tile, 1, n, 14, 1024, 256, 1, 1, False, True)
    for shape in ((3, 128), (3, 64)):
        for tile in ("large", "narrow"):
            good &= conv(cubins, "bf16", tile, 1, 256, 56, 64, 64, 3, 1, False, True, *shape)
            good &= conv(cubins, "bf16", tile, 1, 256, 56, 64, 256, 1, 1, True, True, *shape)
            good &= conv(cubins, "bf16", tile, 1, 256, 14, 256, 256, 3, 1, False, True, *shape)
    for splits in (1, 4, 8):
        good &= conv(cubins, "bf16", "small", splits, 1, 14, 256, 256, 3, 1, False, True)
        good &= conv(cubins, "bf16", "small", splits, 1, 7, 512, 512, 3, 1, False, True)
    good &= attention(cubins, "bf16", 32, 12, 64, 197, True)
    print("all right" if good else "something is WRONG")
    sys.exit(not good)


main()
