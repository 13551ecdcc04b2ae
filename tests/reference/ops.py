"""Golden values of every op: writes ops.safetensors (float32 tensors) and ops.json (what they are), and the derivatives of
what is differentiable: ops_grad.safetensors.

    python tests/reference/ops.py                            writes the files
    python tests/reference/ops.py --archc target/debug/archc runs the cases with one batched input through the command line

The inputs are float32 values; PyTorch computes with them in float64, and the result is stored in float32. Indices are
stored as float32 too. ops.json is a list of cases:

- case: name; its tensors are `CASE/..`
- op, positional, args: as one would write it, `op(positional .., name = value ..)`
- inputs: operands in order; batchless: those of them whose first axis is not the batch
- params: parameters of the layer, by the key after its path ("" where the path is the key)
- output (several parts: outputs)

The derivatives are those of the sum of the outputs times `CASE/factor`, by each input and parameter, `CASE/d.KEY`, by
PyTorch's autograd in float64.
"""

import argparse
import json
import pathlib
import tempfile

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
CASES, TENSORS, DERIVATIVES = [], {}, {}
generator = torch.Generator().manual_seed(0)
# apart, so that derivatives change no value
factors = torch.Generator().manual_seed(1)


def r(*shape, low=-2.0, high=2.0):
    """Uniform noise, exact in float32."""
    x = torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low
    return x.float().double()


def case(op, compute, inputs, params=None, args=None, positional=None, batchless=()):
    """`compute(*inputs, **params)` gives the output; dots in keys become underscores there."""
    params = params or {}
    inputs = [x.float().double() for x in inputs]
    name = f"{op}/{sum(c['op'] == op for c in CASES)}"
    out = compute(*inputs, **{k.replace(".", "_"): v for k, v in params.items()})
    row = {"case": name, "op": op, "positional": positional or [], "args": args or {}}

    def keep(key, value):
        TENSORS[f"{name}/{key}"] = value.double().float().contiguous().clone()
        return key

    row["inputs"] = [keep("abcdef"[i] if len(inputs) > 1 else "x", x) for i, x in enumerate(inputs)]
    row["batchless"] = [row["inputs"][i] for i in batchless]
    row["params"] = [keep(key, value) for key, value in params.items()]
    if isinstance(out, (list, tuple)):
        row["outputs"] = [keep(f"out{i}", y) for i, y in enumerate(out)]
    else:
        row["output"] = keep("out", out)
    CASES.append(row)
    if "output" in row:
        derive(name, compute, dict(zip(row["inputs"], inputs)), params)


def derive(name, compute, inputs, params):
    """Keeps the derivatives of a case, where it has some."""
    given = {key: value.detach().clone() for key, value in (inputs | params).items()}
    leaves = {key: value.requires_grad_(True) for key, value in given.items() if not key.startswith("running")}
    out = compute(*(given[key] for key in inputs), **{key.replace(".", "_"): given[key] for key in params})
    if not out.requires_grad:
        return
    factor = (torch.rand(out.shape, generator=factors, dtype=torch.float64) * 2 - 1).float().double()
    found = torch.autograd.grad((out * factor).sum(), list(leaves.values()), allow_unused=True)
    DERIVATIVES[f"{name}/factor"] = factor.float().contiguous()
    for key, value in zip(leaves, found):
        if value is not None:
            DERIVATIVES[f"{name}/d.{key}"] = value.float().contiguous()


def pair(v):
    return tuple(v) if isinstance(v, (list, tuple)) else (v, v)


# ---- layers with weights ----


def same_pads(x, kernel, stride, dilation):
    """TensorFlow's padding: the odd pixel goes right and below."""
    pads = []
    for axis in (1, 0):
        size = x.shape[2 + axis]
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        total = max((-(-size // stride[axis]) - 1) * stride[axis] + reach - size, 0)
        pads += [total // 2, total - total // 2]
    return pads


def conv2d(x, out, **args):
    kernel, stride, dilation = pair(args["kernel"]), pair(args.get("stride", 1)), pair(args.get("dilation", 1))
    groups, padding = args.get("groups", 1), args.get("padding", 0)
    params = {"weight": r(out, x.shape[1] // groups, *kernel, low=-1, high=1)}
    if args.get("bias", True):
        params["bias"] = r(out)

    def compute(x, weight, bias=None):
        if padding == "same":
            x = F.pad(x, same_pads(x, kernel, stride, dilation))
        return F.conv2d(x, weight, bias, stride, 0 if padding == "same" else pair(padding), dilation, groups)

    case("conv2d", compute, [x], params, {"out": out, **args})


def conv_transpose2d(x, out, **args):
    kernel, groups = pair(args["kernel"]), args.get("groups", 1)
    params = {"weight": r(x.shape[1], out // groups, *kernel, low=-1, high=1)}
    if args.get("bias", True):
        params["bias"] = r(out)
    rest = {k: args[k] for k in ("stride", "padding", "output_padding", "dilation") if k in args}
    rest = {k: pair(v) for k, v in rest.items()}
    compute = lambda x, weight, bias=None: F.conv_transpose2d(x, weight, bias, groups=groups, **rest)
    case("conv_transpose2d", compute, [x], params, {"out": out, **args})


def convolutions():
    conv2d(r(2, 3, 7, 9), 5, kernel=3)
    conv2d(r(1, 3, 8, 7), 5, kernel=[3, 3], stride=[2, 1], padding=[1, 1])
    conv2d(r(1, 4, 5, 6), 7, kernel=1, bias=False)
    conv2d(r(1, 3, 9, 11), 4, kernel=1, stride=2, bias=False)
    conv2d(r(1, 6, 7, 5), 9, kernel=3, padding=1, groups=3)
    conv2d(r(2, 5, 6, 7), 5, kernel=3, padding=1, groups=5, bias=False)  # depthwise
    conv2d(r(1, 6, 11, 10), 6, kernel=5, stride=2, padding=2, groups=6)
    conv2d(r(1, 3, 6, 7), 6, kernel=3, padding=1, groups=3)  # depthwise, two outputs a channel
    conv2d(r(1, 2, 12, 11), 3, kernel=3, padding=2, dilation=2)
    conv2d(r(1, 2, 13, 14), 3, kernel=[3, 2], dilation=[3, 2], stride=[1, 2])
    conv2d(r(1, 3, 8, 9), 4, kernel=[1, 7], padding=[0, 3], bias=False)
    conv2d(r(1, 3, 9, 8), 4, kernel=[7, 1], padding=[3, 0], bias=False)
    conv2d(r(1, 2, 19, 21), 3, kernel=11, stride=4, padding=2)
    conv2d(r(2, 3, 8, 8), 4, kernel=4, stride=4)
    conv2d(r(1, 2, 3, 3), 3, kernel=3, padding=3)  # windows that see only padding
    conv2d(r(1, 3, 8, 7), 4, kernel=3, stride=2, padding="same", bias=False)
    conv2d(r(1, 4, 9, 8), 4, kernel=5, stride=2, padding="same", groups=4, bias=False)
    conv2d(r(1, 3, 7, 6), 4, kernel=[3, 4], padding="same", dilation=2)
    conv2d(r(1, 17, 5, 5), 18, kernel=3, padding=1, bias=False)
    conv2d(r(3, 8, 1, 1), 5, kernel=1)

    conv_transpose2d(r(2, 4, 3, 5), 3, kernel=3, stride=2)
    conv_transpose2d(r(1, 4, 5, 4), 6, kernel=2, stride=2)
    conv_transpose2d(r(1, 4, 4, 3), 6, kernel=3, stride=2, padding=1, output_padding=1, groups=2)
    conv_transpose2d(r(1, 3, 4, 5), 2, kernel=[3, 2], stride=[1, 2], padding=[1, 0], dilation=[2, 1], bias=False)
    conv_transpose2d(r(1, 6, 3, 3), 6, kernel=4, stride=3, padding=1, output_padding=[2, 0], groups=6)
    conv_transpose2d(r(1, 2, 5, 4), 3, kernel=1)


def linears_and_norms():
    for shape, out, bias in [((3, 7), 5, True), ((2, 3, 6), 4, True), ((2, 3, 2, 5), 7, False), ((1, 33), 9, True)]:
        params = {"weight": r(out, shape[-1], low=-1, high=1), **({"bias": r(out)} if bias else {})}
        case("linear", F.linear, [r(*shape)], params, {"out": out, **({} if bias else {"bias": False})})

    for c, eps in [(5, None), (3, 0.001), (7, 0.5)]:
        params = {"weight": r(c), "bias": r(c), "running_mean": r(c), "running_var": r(c, low=0.01, high=3)}
        norm = lambda x, weight, bias, running_mean, running_var, eps=eps: F.batch_norm(
            x, running_mean, running_var, weight, bias, eps=eps or 1e-5
        )
        case("batch_norm2d", norm, [r(2, c, 3, 5)], params, {"eps": eps} if eps else {})

    for shape, eps in [((3, 7), None), ((2, 3, 6), 1e-6), ((2, 3, 2, 5), 0.1)]:
        c = shape[-1]
        norm = lambda x, weight, bias, c=c, eps=eps: F.layer_norm(x, [c], weight, bias, eps or 1e-5)
        case("layer_norm", norm, [r(*shape)], {"weight": r(c), "bias": r(c)}, {"eps": eps} if eps else {})
        shape = (2, c, 3, 4)
        norm2d = lambda x, weight, bias, norm=norm: norm(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
        case("layer_norm2d", norm2d, [r(*shape)], {"weight": r(c), "bias": r(c)}, {"eps": eps} if eps else {})
    # a large mean: the variance must not be taken as E[x^2] - E[x]^2 in float32
    params = {"weight": r(9), "bias": r(9)}
    case("layer_norm", lambda x, weight, bias: F.layer_norm(x, [9], weight, bias), [r(2, 9) + 1000], params)

    for groups, eps in [(2, None), (1, 1e-3), (6, None), (3, None)]:
        norm = lambda x, weight, bias, g=groups, eps=eps: F.group_norm(x, g, weight, bias, eps or 1e-5)
        args = {"groups": groups, **({"eps": eps} if eps else {})}
        case("group_norm", norm, [r(2, 6, 3, 5)], {"weight": r(6), "bias": r(6)}, args)


# ---- without weights ----


def activations():
    wide = torch.cat([r(2, 3, 1, 5, low=-30, high=30), r(2, 3, 1, 5, low=-4, high=4), r(2, 3, 1, 5, low=-0.1, high=0.1)], 2)
    wide[0, :2, 1, :3] = torch.tensor([[0.0, -3.0, 3.0], [6.0, 1.0, -1.0]])
    plain = {
        "relu": F.relu, "relu6": F.relu6, "elu": F.elu, "leaky_relu": F.leaky_relu, "gelu": F.gelu, "silu": F.silu,
        "sigmoid": torch.sigmoid, "tanh": torch.tanh, "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid,
        "softplus": F.softplus, "mish": F.mish, "softmax": lambda x: F.softmax(x, -1),
        "log_softmax": lambda x: F.log_softmax(x, -1), "identity": lambda x: x, "dropout": lambda x: x,
        "dropout2d": lambda x: x,
    }  # fmt: skip
    for op, compute in plain.items():
        case(op, compute, [wide])
    case("elu", lambda x: F.elu(x, 0.3), [wide], args={"alpha": 0.3})
    case("leaky_relu", lambda x: F.leaky_relu(x, 0.2), [wide], args={"slope": 0.2})
    case("gelu", lambda x: F.gelu(x, approximate="tanh"), [wide], args={"approximate": "tanh"})
    case("stochastic_depth", lambda x: x, [r(2, 3, 2, 2)], args={"p": 0.2})
    case("dropout", lambda x: x, [r(3, 7)], args={"p": 0.3})
    case("exp", torch.exp, [r(2, 5)])
    case("prelu", lambda x, weight: F.prelu(x, weight), [r(2, 3, 4, 5)], {"weight": r(1)})
    case("prelu", lambda x, weight: F.prelu(x, weight), [r(2, 3, 4, 5)], {"weight": r(3)}, {"parameters": 3})
    case("prelu", lambda x, weight: F.prelu(x, weight), [r(3, 5)], {"weight": r(5)}, {"parameters": 5})
    for op, compute in (("softmax", F.softmax), ("log_softmax", F.log_softmax)):
        for shape, axis in [((2, 5, 3, 4), 1), ((2, 5, 3, 4), 2), ((3, 11), -1), ((2, 3, 7), -2)]:
            run = lambda x, axis=axis, compute=compute: compute(x, axis)
            case(op, run, [r(*shape, low=-9, high=9)], args={"axis": axis})
        case(op, lambda x, compute=compute: compute(x, -1), [r(2, 6) * 40 + 100])  # overflows without the maximum
    case("clamp", lambda x: x.clamp(-0.5, 0.7), [r(2, 3, 4, 5)], args={"min": -0.5, "max": 0.7})
    case("clamp", lambda x: x.clamp(min=0.25), [r(2, 7)], args={"min": 0.25})
    case("clamp", lambda x: x.clamp(max=-0.25), [r(2, 7)], args={"max": -0.25})
    zeros = r(2, 3, 4)
    zeros[0, :, 1] = 0
    zeros[1, 2] = 0
    case("normalize", lambda x: F.normalize(x, dim=1), [zeros], args={"axis": 1})
    case("normalize", lambda x: F.normalize(x, dim=-1), [zeros], args={"axis": -1})


def pools():
    def pool(op, shape, kernel, **args):
        compute = F.max_pool2d if op == "max_pool2d" else F.avg_pool2d
        run = lambda x: compute(x, pair(kernel), **{k: pair(v) if type(v) is not bool else v for k, v in args.items()})
        case(op, run, [r(*shape)], args={"kernel": kernel, **args})

    for op in ("max_pool2d", "avg_pool2d"):
        pool(op, (2, 3, 7, 9), 2)
        pool(op, (1, 3, 7, 8), 3, stride=2, padding=1)
        pool(op, (1, 2, 8, 7), 3, stride=2, ceil_mode=True)
        pool(op, (1, 2, 6, 6), 3, stride=2, padding=1, ceil_mode=True)
        pool(op, (1, 2, 7, 10), [3, 2], stride=[2, 3], padding=[1, 0])
        pool(op, (1, 2, 5, 5), 2, stride=3, ceil_mode=True)
        pool(op, (1, 2, 7, 7), 3, stride=1, padding=1, ceil_mode=True)
        pool(op, (1, 2, 5, 6), 3, stride=2)
    pool("max_pool2d", (1, 3, 9, 10), 3, stride=2, padding=1, dilation=2)
    pool("max_pool2d", (1, 2, 10, 9), [2, 3], dilation=[3, 2], stride=1, ceil_mode=True)
    pool("avg_pool2d", (1, 3, 7, 8), 3, stride=2, padding=1, count_include_pad=False)
    pool("avg_pool2d", (1, 2, 6, 6), 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)
    pool("avg_pool2d", (1, 2, 5, 5), 3, stride=3, padding=1, ceil_mode=True)

    for op, compute in (("adaptive_avg_pool2d", F.adaptive_avg_pool2d), ("adaptive_max_pool2d", F.adaptive_max_pool2d)):
        for shape, size in [((2, 3, 7, 9), 1), ((1, 2, 7, 11), [3, 5]), ((1, 2, 3, 5), 7), ((1, 2, 9, 6), [4, 6])]:
            run = lambda x, size=size, compute=compute: compute(x, pair(size))
            case(op, run, [r(*shape)], args={"size": size})
    case("global_avg_pool2d", lambda x: x.mean((2, 3)), [r(2, 5, 3, 7)])
    case("global_max_pool2d", lambda x: x.amax((2, 3)), [r(2, 5, 3, 7)])
    for op in ("mean", "amax"):
        for shape, axis, keep in [((2, 5, 3, 4), 1, True), ((2, 5, 3, 4), 3, False), ((2, 5, 6), -1, True), ((3, 7), 1, False)]:
            run = lambda x, op=op, axis=axis, keep=keep: getattr(x, op)(axis, keepdim=keep)
            case(op, run, [r(*shape)], args={"axis": axis, **({"keep": True} if keep else {})})
        case(op, lambda x, op=op: getattr(x, op)((2, 3)), [r(2, 3, 4, 5)], args={"axis": [2, 3]})


def layout():
    case("flatten", lambda x: x.flatten(1), [r(2, 3, 4, 5)])
    case("flatten", lambda x: x.flatten(1), [r(2, 3, 1)])
    case("reshape", lambda x: x.reshape(2, 6, 4), [r(2, 3, 8)], positional=[6, 4])
    case("reshape", lambda x: x.reshape(2, 3, -1), [r(2, 3, 4, 5)], positional=[3, -1])
    case("reshape", lambda x: x.reshape(1, 2, 3, 2, 3, 5), [r(1, 6, 6, 5)], positional=[2, 3, 2, 3, 5])
    case("reshape", lambda x: x.reshape(4, -1), [r(2, 6)], positional=[4, -1], batchless=[0])
    for axes, shape in [([0, 2, 1], (2, 3, 5)), ([0, 2, 3, 1], (2, 3, 4, 5)), ([0, 1, 3, 2, 4, 5], (1, 2, 3, 4, 2, 3))]:
        case("permute", lambda x, axes=axes: x.permute(axes), [r(*shape)], positional=axes)
    case("permute", lambda x: x.permute(2, 0, 1), [r(2, 3, 4)], positional=[2, 0, 1], batchless=[0])
    case("chunk", lambda x: x.chunk(2, 1), [r(2, 6, 3, 2)], args={"parts": 2})
    case("chunk", lambda x: x.chunk(3, -1), [r(2, 2, 9)], args={"parts": 3, "axis": -1})
    x = r(1, 5, 6, 4)
    case("slice", lambda x: x[:, 1:4], [x], positional=[1, 1, 4])
    case("slice", lambda x: x[:, :, -4:-1], [x], positional=[2, -4, -1])
    case("slice", lambda x: x[..., :3], [x], positional=[-1, 0, 3])
    case("slice", lambda x: x[:, -2:5], [x], positional=[1, -2, 5])
    case("slice", lambda x: x[3:6], [r(9)], positional=[0, 3, 6], batchless=[0])
    case("pad", lambda x: F.pad(x, (1, 2)), [r(2, 3, 4)], positional=[1, 2])
    case("pad", lambda x: F.pad(x, (1, 0, 2, 3)), [r(2, 3, 4, 5)], positional=[1, 0, 2, 3])
    case("pad", lambda x: F.pad(x, (0, 0, 0, 1, 0, 2)), [r(2, 3, 4, 5)], positional=[0, 0, 0, 1, 0, 2])
    case("roll", lambda x: x.roll((-3, -3), (1, 2)), [r(2, 7, 5, 2)], args={"shift": -3, "axes": [1, 2]})
    case("roll", lambda x: x.roll(2, 2), [r(2, 3, 5)], args={"shift": 2, "axes": [2]})
    case("roll", lambda x: x.roll((9, 9), (1, 2)), [r(1, 4, 7)], args={"shift": 9, "axes": [1, 2]})
    for shape, groups in [((2, 6, 2, 3), 2), ((1, 12, 3, 2), 3)]:
        run = lambda x, g=groups: x.unflatten(1, (g, -1)).transpose(1, 2).flatten(1, 2)
        case("channel_shuffle", run, [r(*shape)], positional=[groups])
    case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), [r(2, 8, 3, 2)], positional=[2])
    case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 3), [r(1, 9, 2, 3)], positional=[3])
    for mode in ("nearest", "bilinear", "bicubic"):
        named = {} if mode == "nearest" else {"mode": mode}
        corners = {} if mode == "nearest" else {"align_corners": False}
        for shape, how in [
            ((2, 3, 4, 5), {"scale": 2}),
            ((1, 2, 4, 6), {"size": [7, 5]}),
            ((1, 2, 5, 3), {"size": 9}),
            ((1, 2, 9, 8), {"size": [4, 3]}),
            ((1, 2, 1, 1), {"size": [3, 4]}),
            ((1, 2, 3, 4), {"scale": 3}),
        ]:
            target = {"scale_factor": how["scale"]} if "scale" in how else {"size": pair(how["size"])}
            run = lambda x, target=target, mode=mode, corners=corners: F.interpolate(x, mode=mode, **corners, **target)
            case("upsample", run, [r(*shape)], args={**how, **named})


def windows():
    """Swin's and MaxViT's tables, from torchvision's own modules."""
    from torchvision.models.maxvit import _get_relative_position_index
    from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

    for window in (2, 4):
        v1 = ShiftedWindowAttention(4, [window] * 2, [0, 0], 2)
        case("window_index", lambda v1=v1: v1.relative_position_index, [], args={"window": window})
    for window in (2, 3):
        index = _get_relative_position_index(window, window)
        case("window_index", lambda i=index: i, [], args={"window": window, "flat": False})
    for window in (2, 7):
        v2 = ShiftedWindowAttentionV2(4, [window] * 2, [0, 0], 2)
        case("window_coords", lambda v2=v2: v2.relative_coords_table, [], args={"window": window})
    for height, width, window, shift in [(6, 4, 2, 1), (6, 6, 3, 2), (8, 4, 4, 2)]:
        args = {"height": height, "width": width, "window": window, "shift": shift}
        case("window_mask", lambda a=tuple(args.values()): window_mask(*a), [], args=args)


def window_mask(height, width, window, shift):
    """[windows, 1, tokens, tokens]: -100 where two tokens meet only because of the roll; as torchvision's swin has it."""
    mask = torch.zeros(height, width)

    def cuts(length):
        # an axis of a single window is not rolled
        return (slice(0, -window), slice(-window, -shift), slice(-shift, None)) if length > window else (slice(None),)

    for i, rows in enumerate(cuts(height)):
        for j, columns in enumerate(cuts(width)):
            mask[rows, columns] = 3 * i + j
    mask = mask.view(height // window, window, width // window, window).permute(0, 2, 1, 3).reshape(-1, window * window)
    apart = mask.unsqueeze(1) != mask.unsqueeze(2)
    return (apart * -100.0).unsqueeze(1)


def joins():
    left = lambda x, like: x.reshape(x.shape + (1,) * (like.dim() - x.dim()))
    ops = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b}
    for op, f in ops.items():
        case(op, f, [r(2, 3, 4, 5), r(2, 3, 4, 5)])
        case(op, lambda a, b, f=f: f(a, left(b, a)), [r(2, 3, 4, 5), r(2, 3)])  # axes pair from the left
        case(op, lambda a, b, f=f: f(left(a, b), b), [r(2, 3), r(2, 3, 4)])
        case(op, f, [r(2, 3, 4, 5), r(2, 1, 4, 1)])
        case(op, f, [r(2, 3, 5), r(5)], batchless=[1])  # and from the right
        case(op, f, [r(2, 2, 3, 4, 4), r(2, 1, 4, 4)], batchless=[1])
        case(op, f, [r(3, 1, 1), r(2, 3, 4, 5)], batchless=[0])
        case(op, f, [r(4, 3), r(3)], batchless=[0, 1])
        case(op, lambda a, f=f: f(a, 0.3), [r(2, 3, 4)], args={"number": 0.3})
    case("concat", lambda *xs: torch.cat(xs, 1), [r(2, 3, 4, 5), r(2, 1, 4, 5), r(2, 5, 4, 5)])
    case("concat", lambda *xs: torch.cat(xs, -1), [r(2, 3, 4), r(2, 3, 2)], args={"axis": -1})
    case("concat", lambda a, b: torch.cat([a.expand(3, 1, 4), b], 1), [r(1, 1, 4), r(3, 5, 4)], batchless=[0])
    case("concat", lambda *xs: torch.cat(xs, 0), [r(3), r(2), r(4)], args={"axis": 0}, batchless=[0, 1, 2])
    case("matmul", torch.matmul, [r(2, 3, 5), r(2, 5, 4)])
    case("matmul", torch.matmul, [r(2, 3, 5, 4), r(2, 3, 4, 5)])
    case("matmul", torch.matmul, [r(1, 3, 2, 5, 3), r(1, 3, 2, 3, 5)])
    case("matmul", torch.matmul, [r(2, 3, 5), r(5, 4)], batchless=[1])
    case("matmul", torch.matmul, [r(3, 5), r(5, 4)], batchless=[0, 1])
    index = torch.tensor([4, 0, 3, 3, 1, 2], dtype=torch.float64)
    pick = lambda table, index: table[index.long()]
    case("gather", pick, [r(5, 3), index], batchless=[0, 1])
    case("gather", pick, [r(5, 2), index.reshape(2, 3)], batchless=[0, 1])


# ---- later than the others, whose values follow from their order ----


def borders():
    def pad(x, sizes, mode):
        case("pad", lambda x: F.pad(x, sizes, mode), [x], positional=list(sizes), args={"mode": mode})

    pad(r(2, 3, 5, 4), (1, 2, 2, 1), "reflect")
    pad(r(1, 3, 4), (3, 0), "reflect")
    pad(r(2, 3, 2, 3), (1, 4, 3, 0), "replicate")
    pad(r(2, 3, 4, 5), (5, 1, 0, 2), "circular")


def plain_ops():
    """From a generator of their own, so that they do not depend on the cases before."""
    own = torch.Generator().manual_seed(2)

    def u(*shape, low=-2.0, high=2.0):
        return (torch.rand(shape, generator=own, dtype=torch.float64) * (high - low) + low).float().double()

    # with what is beyond an op's domain, at its edge, and far out
    edges = torch.cat([u(2, 3, 5), u(2, 3, 4, low=-40, high=40)], 2)
    edges[0, 0, :3] = torch.tensor([0.0, -1.0, 1.0])
    above = torch.cat([u(2, 3, 5, low=0.01, high=2), u(2, 3, 2, low=1, high=900)], 2)
    plain = {
        "abs": torch.abs, "neg": torch.neg, "sin": torch.sin, "cos": torch.cos, "softsign": F.softsign,
        "log_sigmoid": F.logsigmoid, "celu": F.celu, "selu": F.selu, "hardtanh": F.hardtanh,
    }  # fmt: skip
    for op, compute in plain.items():
        case(op, compute, [edges])
    case("celu", lambda x: F.celu(x, 0.3), [edges], args={"alpha": 0.3})
    case("celu", lambda x: F.celu(x, -1.7), [u(3, 7)], args={"alpha": -1.7})
    case("hardtanh", lambda x: F.hardtanh(x, 0.25, 0.75), [edges], args={"min": 0.25, "max": 0.75})
    for op in ("sqrt", "rsqrt", "log"):
        case(op, getattr(torch, op), [above])
    for exponent in (3, 2.5, -1.0, -0.5, 0.5, 0, 1, 2, -2.25, 7):
        case("pow", lambda x, e=exponent: x.pow(e), [above], args={"exponent": exponent})
    for exponent in (3, 4, -3):
        case("pow", lambda x, e=exponent: x.pow(e), [u(2, 3, 5)], args={"exponent": exponent})
    for shape, axis in [((2, 6, 3, 5), 1), ((2, 3, 10), -1)]:
        case("glu", lambda x, axis=axis: F.glu(x, axis), [u(*shape)], args={"axis": axis})

    case("pad", lambda x: F.pad(x, (1, 2, 0, 3), value=-0.75), [u(2, 3, 4)], positional=[1, 2, 0, 3], args={"value": -0.75})

    for shape, axis in [((7, 5), 1), ((2, 5, 4), 1), ((2, 4, 5), 2), ((3, 4, 6), -1)]:
        c = shape[axis]
        stats = {"running_mean": u(c), "running_var": u(c, low=0.1)}
        swap = lambda x, axis=axis: x if axis == 1 else x.transpose(1, 2)
        run = lambda x, running_mean, running_var, weight=None, bias=None, swap=swap: swap(
            F.batch_norm(swap(x), running_mean, running_var, weight, bias)
        )
        args = {"axis": axis} if axis != 1 else {}
        case("batch_norm1d", run, [u(*shape)], {"weight": u(c), "bias": u(c), **stats}, args)
    case("batch_norm1d", run, [u(3, 4, 6)], {"running_mean": u(6), "running_var": u(6, low=0.1)}, {"axis": -1, "affine": False})
    run = lambda x, running_mean, running_var: F.batch_norm(x, running_mean, running_var)
    case("batch_norm2d", run, [u(2, 5, 3, 4)], {"running_mean": u(5), "running_var": u(5, low=0.1)}, {"affine": False})

    def over(compute, axis):
        return lambda x, **params: compute(x.transpose(axis, -1), [x.shape[axis]], **params).transpose(axis, -1)

    layer, rms = lambda x, shape, **p: F.layer_norm(x, shape, **p), lambda x, shape, **p: F.rms_norm(x, shape, eps=2**-23, **p)
    case("layer_norm", over(layer, -1), [u(2, 3, 9)], args={"affine": False})
    case("layer_norm", over(layer, 1), [u(2, 6, 5)], {"weight": u(6), "bias": u(6)}, {"axis": 1})
    case("layer_norm2d", over(layer, 1), [u(2, 6, 5)], {"weight": u(6), "bias": u(6)})
    case("layer_norm2d", over(layer, 1), [u(2, 6, 2, 3, 2)], args={"affine": False})
    for shape in [(3, 7), (2, 3, 33), (2, 3, 2, 5)]:
        case("rms_norm", over(rms, -1), [u(*shape)], {"weight": u(shape[-1])})
    case("rms_norm", over(rms, 1), [u(2, 6, 3, 5)], {"weight": u(6)}, {"axis": 1})
    case("rms_norm", lambda x: F.rms_norm(x, [9], eps=0.1), [u(2, 9)], args={"eps": 0.1, "affine": False})
    case("group_norm", lambda x: F.group_norm(x, 2), [u(2, 6, 5)], args={"groups": 2, "affine": False})
    case("instance_norm2d", lambda x: F.instance_norm(x), [u(2, 5, 3, 7)])
    run = lambda x, weight, bias: F.instance_norm(x, weight=weight, bias=bias, eps=1e-3)
    case("instance_norm2d", run, [u(2, 18, 5, 3)], {"weight": u(18), "bias": u(18)}, {"eps": 1e-3, "affine": True})

    norm = lambda x, axis, keepdim: torch.linalg.vector_norm(x, dim=axis, keepdim=keepdim)
    for op, compute in (("sum", torch.sum), ("vector_norm", norm), ("var", torch.var)):
        for shape, axis, keep in [((2, 5, 3, 4), 1, True), ((2, 5, 3, 7), [2, 3], True), ((2, 5, 7), -1, False)]:
            run = lambda x, compute=compute, axis=axis, keep=keep: compute(x, axis, keepdim=keep)
            case(op, run, [u(*shape)], args={"axis": axis, **({"keep": True} if keep else {})})
    biased = lambda x: x.var(1, correction=0)
    case("var", biased, [u(2, 5, 3)], args={"axis": 1, "unbiased": False})
    # nearly all of the values is their mean
    case("var", biased, [u(2, 9) + 300], args={"axis": 1, "unbiased": False})
    zero = u(2, 3, 4)
    zero[0, 1] = 0
    case("vector_norm", lambda x: torch.linalg.vector_norm(x, dim=2), [zero], args={"axis": 2})

    for first, second in [((2, 3, 4, 5), (2, 3, 4, 5)), ((2, 3, 4, 5), (2, 3)), ((2, 3), (2, 3, 4, 5))]:
        wide = lambda x: x.reshape(*x.shape, *[1] * (4 - x.dim()))
        a, b = u(*first), u(*second, low=0.2, high=3) * (u(*second).sign())
        case("div", lambda a, b: wide(a) / wide(b), [a, b])
        case("maximum", lambda a, b: torch.maximum(wide(a), wide(b)), [a, b])
        case("minimum", lambda a, b: torch.minimum(wide(a), wide(b)), [a, b])
    equal = u(2, 7)
    case("maximum", torch.maximum, [equal, torch.where(u(2, 7) > 0, equal, u(2, 7))])
    case("minimum", torch.minimum, [equal, torch.where(u(2, 7) > 0, equal, u(2, 7))])
    case("div", lambda x: x / 3, [u(2, 5)], args={"number": 3.0})
    case("div", lambda x: 0.75 / x, [u(2, 5, low=0.2)], args={"number": 0.75, "swapped": True})
    case("div", lambda a, b: a / b, [u(2, 3, 4, low=0.5), u(3, 1, low=0.5)], batchless=[1])


def attention():
    """Of heads side by side, by the function of PyTorch that has them as an axis of their own."""
    def compute(q, k, v, mask=None, heads=1, scale=None):
        apart = lambda x: x.unflatten(-1, (heads, -1)).transpose(-2, -3) if heads > 1 else x
        mixed = F.scaled_dot_product_attention(apart(q), apart(k), apart(v), mask, scale=scale)
        return mixed.transpose(-2, -3).flatten(-2) if heads > 1 else mixed

    for before, queries, keys, dim, value_dim, mask, args in [
        ((2,), 5, 7, 3, 3, None, {}),
        ((2, 3), 5, 4, 5, 2, None, {"scale": 0.3}),
        ((2,), 9, 9, 12, 12, None, {"heads": 3}),
        ((1, 4), 5, 6, 14, 6, (4, 1, 5, 6), {"heads": 2}),
        ((2,), 3, 5, 4, 4, (2, 2, 3, 5), {"heads": 2}),
        ((3,), 1, 1, 33, 70, (1, 1), {}),
    ]:
        ins = [r(*before, queries, dim), r(*before, keys, dim), r(*before, keys, value_dim)]
        ins += [r(*mask)] if mask else []
        run = lambda *ins, args=args: compute(*ins, **args)
        # a mask of the batch has it as its first axis
        batchless = [3] if mask and mask[0] != before[0] else []
        case("attention", run, ins, args=args, batchless=batchless)

    for x, out, rows in [(r(2, 5), 7, None), (r(2, 3, 5), 6, [2, 5]), (r(1, 9), 4, [0, 4])]:
        first, last = rows or (0, out)
        run = lambda x, w, b, first=first, last=last: F.linear(x, w[first:last], b[first:last])
        case("linear_with", run, [x, r(out, x.shape[-1]), r(out)], args={"rows": rows} if rows else {}, batchless=[1, 2])


def windows_and_lines():
    for x, out, args in [
        (r(2, 3, 9), 5, {"kernel": 3}),
        (r(1, 6, 13), 4, {"kernel": 4, "stride": 2, "padding": 3, "dilation": 2, "groups": 2}),
        (r(2, 5, 1), 3, {"kernel": 1, "bias": False}),
    ]:
        params = {"weight": r(out, x.shape[1] // args.get("groups", 1), args["kernel"], low=-1, high=1)}
        if args.get("bias", True):
            params["bias"] = r(out)
        rest = {k: args[k] for k in ("stride", "padding", "dilation", "groups") if k in args}
        run = lambda x, weight, bias=None, rest=rest: F.conv1d(x, weight, bias, **rest)
        case("conv1d", run, [x], params, {"out": out, **args})

    for x, args in [
        (r(2, 3, 5, 7), {"kernel": 3}),
        (r(1, 2, 9, 8), {"kernel": [2, 3], "stride": [3, 1], "padding": [1, 2], "dilation": [2, 1]}),
        (r(1, 4, 8, 12), {"kernel": 4, "stride": 4}),
    ]:
        window = [pair(args.get(k, v)) for k, v in (("kernel", 1), ("dilation", 1), ("padding", 0), ("stride", 1))]
        case("unfold", lambda x, window=window: F.unfold(x, *window), [x], args=args)
        columns = F.unfold(x, *window)
        size = list(x.shape[2:])
        run = lambda x, size=size, window=window: F.fold(x, size, *window)
        case("fold", run, [r(*columns.shape)], args={"size": size, **args})


def without_batch():
    """Images and lines that have no batch, from a generator of their own."""
    own = torch.Generator().manual_seed(3)

    def u(*shape, low=-2.0, high=2.0):
        return (torch.rand(shape, generator=own, dtype=torch.float64) * (high - low) + low).float().double()

    def fixed(op, compute, shape, params=None, args=None, positional=None):
        case(op, compute, [u(*shape)], params, args, positional, batchless=[0])

    for shape, out, args in [
        ((3, 7, 9), 5, {"kernel": 3}),
        ((1, 4, 8, 7), 6, {"kernel": [3, 2], "stride": [2, 1], "padding": [1, 0], "groups": 2}),
        ((2, 5, 6, 7), 5, {"kernel": 3, "padding": 1, "dilation": 2, "groups": 5, "bias": False}),
        ((5, 1, 1), 3, {"kernel": 1}),
    ]:
        params = {"weight": u(out, shape[-3] // args.get("groups", 1), *pair(args["kernel"]), low=-1, high=1)}
        params |= {"bias": u(out)} if args.get("bias", True) else {}
        rest = {k: args[k] for k in ("stride", "padding", "dilation", "groups") if k in args}
        run = lambda x, weight, bias=None, rest=rest: F.conv2d(x, weight, bias, **rest)
        fixed("conv2d", run, shape, params, {"out": out, **args})
    for shape, out, args in [
        ((3, 9), 5, {"kernel": 3, "stride": 2, "padding": 1}),
        ((2, 6, 13), 4, {"kernel": 4, "dilation": 2, "groups": 2, "bias": False}),
    ]:
        params = {"weight": u(out, shape[-2] // args.get("groups", 1), args["kernel"], low=-1, high=1)}
        params |= {"bias": u(out)} if args.get("bias", True) else {}
        rest = {k: args[k] for k in ("stride", "padding", "dilation", "groups") if k in args}
        run = lambda x, weight, bias=None, rest=rest: F.conv1d(x, weight, bias, **rest)
        fixed("conv1d", run, shape, params, {"out": out, **args})
    for shape, out, args in [
        ((4, 3, 5), 3, {"kernel": 3, "stride": 2}),
        ((2, 4, 4, 3), 6, {"kernel": [3, 2], "stride": 2, "padding": [1, 0], "output_padding": [1, 0], "groups": 2}),
    ]:
        params = {"weight": u(shape[-3], out // args.get("groups", 1), *pair(args["kernel"]), low=-1, high=1), "bias": u(out)}
        rest = {k: args[k] for k in ("stride", "padding", "output_padding", "groups") if k in args}
        run = lambda x, weight, bias, rest=rest: F.conv_transpose2d(x, weight, bias, **rest)
        fixed("conv_transpose2d", run, shape, params, {"out": out, **args})

    for op, compute in (("max_pool2d", F.max_pool2d), ("avg_pool2d", F.avg_pool2d)):
        for shape, args in [((3, 7, 9), {"kernel": 3, "stride": 2, "padding": 1}), ((2, 3, 7, 6), {"kernel": [2, 3]})]:
            rest = {k: pair(v) for k, v in args.items() if k != "kernel"}
            run = lambda x, args=args, rest=rest, compute=compute: compute(x, pair(args["kernel"]), **rest)
            fixed(op, run, shape, args=args)
    fixed("max_pool2d", lambda x: F.max_pool2d(x, 2, ceil_mode=True, dilation=2), (3, 7, 8),
          args={"kernel": 2, "dilation": 2, "ceil_mode": True})
    for op, compute in (("adaptive_avg_pool2d", F.adaptive_avg_pool2d), ("adaptive_max_pool2d", F.adaptive_max_pool2d)):
        for shape, size in [((3, 7, 11), [3, 5]), ((5, 7, 9), 1), ((2, 3, 5, 4), 3), ((2, 3, 5, 4), 1)]:
            fixed(op, lambda x, size=size, compute=compute: compute(x, pair(size)), shape, args={"size": size})
    for shape in [(5, 3, 7), (2, 5, 3, 7)]:
        fixed("global_avg_pool2d", lambda x: x.mean((-2, -1)), shape)
        fixed("global_max_pool2d", lambda x: x.amax((-2, -1)), shape)

    # interpolate has no form without a first axis
    def resized(x, **how):
        return F.interpolate(x.reshape(-1, *x.shape[-3:]), **how).reshape(*x.shape[:-2], *how["size"])

    for shape, size, mode in [((2, 4, 5), [7, 3], "nearest"), ((3, 7, 9), [16, 11], "bicubic"), ((1, 3, 5, 4), [3, 9], "bilinear")]:
        corners = {} if mode == "nearest" else {"align_corners": False}
        run = lambda x, size=size, mode=mode, corners=corners: resized(x, size=size, mode=mode, **corners)
        fixed("upsample", run, shape, args={"size": size, "mode": mode})
    fixed("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), (12, 3, 5), positional=[2])
    fixed("pixel_shuffle", lambda x: F.pixel_shuffle(x, 3), (2, 9, 2, 3), positional=[3])
    for shape, args in [((3, 5, 7), {"kernel": 3}), ((2, 3, 8, 9), {"kernel": [2, 3], "stride": [3, 2], "padding": [1, 0]})]:
        window = [pair(args.get(k, v)) for k, v in (("kernel", 1), ("dilation", 1), ("padding", 0), ("stride", 1))]
        fixed("unfold", lambda x, window=window: F.unfold(x, *window), shape, args=args)
        columns, size = F.unfold(u(*shape), *window), list(shape[-2:])
        fixed("fold", lambda x, size=size, window=window: F.fold(x, size, *window), columns.shape, args={"size": size, **args})


def recurrent():
    """The recurrence by PyTorch's LSTM, whose input is the gates themselves."""
    own = torch.Generator().manual_seed(4)

    def u(*shape, low=-2.0, high=2.0):
        return (torch.rand(shape, generator=own, dtype=torch.float64) * (high - low) + low).float().double()

    def one(gates, weight, reverse):
        hidden, flat = weight.shape[1], gates.reshape(-1, *gates.shape[-2:])
        state = torch.zeros(1, flat.shape[0], hidden, dtype=flat.dtype)
        given = [torch.eye(4 * hidden, dtype=flat.dtype), weight]
        flat = flat.flip(1) if reverse else flat
        found = torch.lstm(flat, (state, state), given, False, 1, 0.0, False, False, True)[0]
        found = found.flip(1) if reverse else found
        return found.reshape(*gates.shape[:-1], hidden)

    def scan(*pairs, reverse=False):
        halves = [one(gates, weight, reverse or at == 1) for at, (gates, weight) in enumerate(zip(pairs[::2], pairs[1::2]))]
        return torch.cat(halves, -1)

    for before, steps, hidden, args in [
        ((2,), 5, 3, {}), ((3,), 1, 5, {}), ((2, 3), 4, 9, {"reverse": True}), ((1, 2, 3), 7, 17, {}), ((3,), 33, 1, {}),
    ]:
        given = [u(*before, steps, 4 * hidden), u(4 * hidden, hidden, low=-1, high=1)]
        case("lstm_scan", lambda g, w, args=args: scan(g, w, **args), given, args=args, batchless=[1])
    for before, steps, hidden in [((2,), 5, 7), ((2, 3), 4, 5)]:
        given = [v for _ in range(2) for v in (u(*before, steps, 4 * hidden), u(4 * hidden, hidden, low=-1, high=1))]
        case("lstm_scan", scan, given, batchless=[1, 3])
    for before, steps, hidden in [((), 6, 5), ((3,), 5, 2)]:
        given = [u(*before, steps, 4 * hidden), u(4 * hidden, hidden, low=-1, high=1)]
        case("lstm_scan", scan, given, batchless=[0, 1])


def resampled_and_written():
    """Antialiased resampling and constants, from a generator of their own."""
    own = torch.Generator().manual_seed(3)
    u = lambda *shape: (torch.rand(shape, generator=own, dtype=torch.float64) * 4 - 2).float().double()
    for mode in ("bilinear", "bicubic"):
        for shape, how in [
            ((2, 3, 9, 11), {"size": [4, 5]}),
            ((1, 2, 13, 7), {"size": [3, 10]}),
            ((1, 2, 5, 6), {"scale": 0.4}),
            ((2, 1, 7, 10), {"scale": 0.3}),
            ((1, 3, 3, 4), {"scale": 2.5}),
            ((1, 2, 8, 8), {"size": 8}),
            ((1, 2, 17, 1), {"size": [1, 3]}),
        ]:
            target = {"scale_factor": how["scale"]} if "scale" in how else {"size": pair(how["size"])}
            run = lambda x, target=target, mode=mode: F.interpolate(x, mode=mode, antialias=True, **target)
            case("upsample", run, [u(*shape)], args={**how, "mode": mode, "antialias": True})
    for values in ([1, 0.5, -3], [[1, 2], [3, 4], [5, 1e-3]], [[[0.1]], [[-2.5e6]]]):
        case("constant", lambda v=values: torch.tensor(v), [], args={"values": values})


def powers():
    """Of a number to the power of x; and to the power of 0, which is 1 of anything, with derivative 0."""
    odd = torch.tensor([[0.0, float("nan"), -0.0, float("inf"), -3.0]], dtype=torch.float64)
    case("pow", lambda x: x.pow(0), [torch.cat([odd, r(2, 5)])], args={"exponent": 0})
    for base in (2, 0.3, 1, 17.5):
        case("exp", lambda x, base=base: torch.pow(base, x), [r(2, 3, 5, low=-6, high=6)], args={"base": base})


def convolutions_with_weights_of_the_network():
    for x, weight, args in [
        (r(2, 5, 6, 7), r(9, 5, 3, 3), {"padding": 1}),
        (r(1, 6, 7, 5), r(9, 2, 2, 3), {"stride": [2, 1], "groups": 3, "dilation": [1, 2]}),
    ]:
        run = lambda x, w, b, args=args: F.conv2d(x, w, b, **args)
        case("conv2d_with", run, [x, weight, r(9)], args=args, batchless=[1, 2])
    case("conv2d_with", lambda x, w: F.conv2d(x, w, stride=(3, 2)), [r(3, 2, 9, 7), r(4, 2, 3, 1)], args={"stride": [3, 2]}, batchless=[1])


# ---- through the command line ----


def text(value):
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(text, value))}]" if isinstance(value, list) else str(value)


def written(row):
    """The case as archc source: the first argument by position, the rest by name."""
    named = list(row["args"].items())
    arguments = [text(v) for v in row["positional"]]
    for i, (name, value) in enumerate(named):
        first = not arguments and i == 0 and name in ("out", "kernel", "heads", "groups", "size", "axis", "p", "parts")
        arguments.append(text(value) if first else f"{name} = {text(value)}")
    return f"{row['op']}({', '.join(arguments)})" if arguments else row["op"]


def through(archc):
    import harness

    with tempfile.TemporaryDirectory() as folder:
        options = argparse.Namespace(archc=archc, run="", keep=folder)
        bench = harness.Bench(options)
        failed = tried = 0
        for row in CASES:
            if len(row["inputs"]) != 1 or row["batchless"] or "outputs" in row or row["args"].get("number"):
                continue
            tried += 1
            name, x, out = row["case"], TENSORS[row["case"] + "/x"], TENSORS[row["case"] + "/out"]
            sizes = ", ".join(map(str, x.shape[1:]))
            network = f"network t {{\n    input image: [N, {sizes}]\n    m: {written(row)}\n}}\n"
            spec = bench.spec(name.replace("/", "_"), f"archc 1\n{network}base t\n")
            weights = spec.with_suffix(".w.safetensors")
            save_file({f"m.{k}": TENSORS[f"{name}/{k}"] for k in row["params"]}, weights)
            try:
                error = harness.relative(bench.run(spec, x, weights if row["params"] else None), out.double())
                if not error <= 2e-6:
                    raise harness.Failure(f"relative error {error:.1e}")
            except harness.Failure as e:
                failed += 1
                print(f"{name:24} {written(row)}\n    {e}", flush=True)
        print(f"{tried} cases through {archc}, {failed} failed")
    raise SystemExit(1 if failed else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archc", help="run the cases through this binary instead of writing the files")
    archc = parser.parse_args().archc
    for family in (convolutions, linears_and_norms, activations, pools, layout, windows, joins,
                   borders, plain_ops, attention, windows_and_lines, without_batch, recurrent, resampled_and_written,
                   powers, convolutions_with_weights_of_the_network):
        family()
    if archc:
        through(archc)
    save_file(dict(sorted(TENSORS.items())), HERE / "ops.safetensors")
    save_file(dict(sorted(DERIVATIVES.items())), HERE / "ops_grad.safetensors")
    (HERE / "ops.json").write_text("[\n" + ",\n".join(map(json.dumps, CASES)) + "\n]\n")
    print(len(CASES), "cases,", len({c["op"] for c in CASES}), "ops")


if __name__ == "__main__":
    main()
