"""Compares the specs of tests/cases with what people write by hand in PyTorch for the same surgery.

    python tests/reference/cases.py [--archc target/release/archc] [CASE ..] [--write]

Weights are those that archc draws for the base; PyTorch's side does to them what the case's users do, loads the result
strictly, and runs it in float64. `--write` keeps its outputs, thinned out, in cases.safetensors, which tests/it/cases.rs
holds archc against.
"""

import pathlib
import re
import sys

import timm.layers
import torch
import torchvision.models as zoo
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import feature_extraction
from torchvision.ops import FeaturePyramidNetwork

import harness

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Values of an output that are kept.
KEPT = 512


def pattern(shape):
    """The input of every case: a hash of the position, between -1 and 1."""
    at = torch.arange(torch.Size(shape).numel(), dtype=torch.int64)
    return (((at * 2654435761) % 2**32).double() / 2**31 - 1).float().reshape(shape)


CASES = {}


def case(shape, file=None, base=None):
    def add(function):
        CASES[function.__name__] = (function, shape, file, base)
        return function

    return add


def fitted(net, state):
    """The network with this state, every key of it."""
    harness.load(net, state)
    return net.eval()


@case((2, 1, 64, 64))
def grey_stem(base, new):
    net = zoo.resnet18(num_classes=10)
    net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    stem = base["conv1.weight"].sum(1, keepdim=True)
    return fitted(net, {**base, **head(new, "fc"), "conv1.weight": stem})


@case((2, 4, 64, 64))
def four_bands(base, new):
    net = zoo.resnet18(num_classes=10)
    net.conv1 = nn.Conv2d(4, 64, 7, 2, 3, bias=False)
    stem = base["conv1.weight"]
    return fitted(net, {**base, **head(new, "fc"), "conv1.weight": torch.cat([stem, stem.mean(1, keepdim=True)], 1)})


@case((2, 12, 64, 64))
def twelve_bands(base, new):
    net = zoo.mobilenet_v2(num_classes=10)
    net.features[0][0] = nn.Conv2d(12, 32, 3, 2, 1, bias=False)
    stem = base["features.0.0.weight"].repeat(1, 4, 1, 1) * (3 / 12)
    return fitted(net, {**base, **head(new, "classifier.1"), "features.0.0.weight": stem})


@case((2, 3, 64, 64))
def some_classes(base, new):
    weight, bias = (torch.cat([base[f"fc.{name}"][[281, 207]], new[f"fc.{name}"][2:]]) for name in ["weight", "bias"])
    return fitted(zoo.resnet18(num_classes=3), {**base, "fc.weight": weight, "fc.bias": bias})


@case((2, 3, 32, 32))
def kernel_size(base, new):
    net = zoo.resnet18(num_classes=10)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return fitted(net, {**base, **head(new, "fc"), "conv1.weight": base["conv1.weight"][:, :, 2:5, 2:5]})


@case((2, 3, 64, 64))
def group_norm(base, _):
    net = zoo.resnet18(norm_layer=lambda width: nn.GroupNorm(32, width))
    return fitted(net, {key: value for key, value in base.items() if not re.search("running_|num_batches", key)})


@case((2, 3, 64, 64))
def silu(base, _):
    net = fitted(zoo.resnet50(), base)
    for module in net.modules():
        if hasattr(module, "relu"):
            module.relu = nn.SiLU()
    return net


@case((2, 3, 64, 64))
def large_fov(base, new):
    fc6, fc7, score = nn.Conv2d(512, 1024, 7, padding=3), nn.Conv2d(1024, 1024, 1), nn.Conv2d(1024, 5, 1)
    net = nn.Sequential(zoo.vgg11().features, fc6, nn.ReLU(), fc7, nn.ReLU(), score)
    harness.load(net[0], {key.removeprefix("features."): v for key, v in base.items() if key.startswith("features.")})
    state = {
        "weight": base["classifier.0.weight"][:1024].reshape(1024, 512, 7, 7),
        "bias": base["classifier.0.bias"][:1024],
    }
    harness.load(fc6, state)
    state = {"weight": base["classifier.3.weight"][:1024, :1024, None, None], "bias": base["classifier.3.bias"][:1024]}
    harness.load(fc7, state)
    harness.load(score, {name: new[f"tail.score.{name}"] for name in ["weight", "bias"]})
    return net.eval()


def moco_file(state):
    wrapped = {f"module.encoder_q.{key}": value for key, value in state.items() if not key.startswith("fc.")}
    other = {key.replace("encoder_q", "encoder_k"): value + 1 for key, value in wrapped.items()}
    more = {"module.queue": torch.zeros(128, 16), "module.encoder_q.fc.0.weight": torch.zeros(512, 512)}
    return {**wrapped, **other, **more}


RESNET = "base resnet18 { input [N, 3, 64, 64]; weights random(seed = 1) }"


@case((2, 3, 64, 64), file=("moco", moco_file), base=RESNET)
def moco(base, new):
    return fitted(zoo.resnet18(num_classes=10), {**base, **head(new, "fc")})


def wrapped_file(state):
    ema = {f"state_dict_ema.module.{key}": value for key, value in state.items()}
    return {**ema, **{f"state_dict.{key}": value + 1 for key, value in state.items()}}


@case((2, 3, 64, 64), file=("wrapped", wrapped_file), base=RESNET)
def wrapped_keys(base, new):
    return moco(base, new)


def mm_file(state):
    return {f"head.{key}" if key.startswith("fc.") else f"backbone.{key}": value for key, value in state.items()}


@case((2, 3, 64, 64), file=("mm", mm_file), base=RESNET)
def mm_keys(base, _):
    return fitted(zoo.resnet18(), base)


@case((2, 3, 96, 160))
def swin_size(base, new):
    return fitted(zoo.swin_t(num_classes=10), {**base, **head(new, "head")})


def vit(size, classes=10):
    return zoo.VisionTransformer(size, 16, 2, 4, 64, 128, num_classes=classes)


def same_file(state):
    return state


@case((2, 3, 96, 128), file=("vit", same_file), base="base vit(16, 64, 2, 4, 128) { weights random(seed = 1) }")
def vit_size(base, new):
    table = timm.layers.resample_abs_pos_embed(base["encoder.pos_embedding"], (6, 8), num_prefix_tokens=1)

    class Oblong(zoo.VisionTransformer):
        def _process_input(self, x):
            return self.conv_proj(x).flatten(2).transpose(1, 2)

    net = Oblong(224, 16, 2, 4, 64, 128, num_classes=10)
    net.encoder.pos_embedding = nn.Parameter(table)
    return fitted(net, {**base, **head(new, "heads.head"), "encoder.pos_embedding": table})


def split_file(state):
    out = {}
    for key, value in state.items():
        if "in_proj_" in key:
            for name, part in zip(["query", "key", "value"], value.chunk(3)):
                out[key.replace("in_proj_", f"{name}.")] = part
        else:
            out[key] = value
    return out


@case((2, 3, 224, 224), file=("split", split_file), base="base vit(16, 64, 2, 4, 128) { weights random(seed = 1) }")
def split_qkv(base, new):
    return fitted(vit(224), {**base, **head(new, "heads.head")})


def scales_file(state):
    return {re.sub(r"(.*)\.layer_scale", r"\1.gamma", key): v.flatten() if "scale" in key else v for key, v in state.items()}


SCALES = "base convnext([1, 1, 1, 1], [16, 32, 64, 128], 0.0, 230) { input [N, 3, 64, 64]; weights random(seed = 1) }"


@case((2, 3, 64, 64), file=("scales", scales_file), base=SCALES)
def layer_scale(base, new):
    stages = [zoo.convnext.CNBlockConfig(width, after, 1) for width, after in [(16, 32), (32, 64), (64, 128), (128, None)]]
    return fitted(zoo.ConvNeXt(stages, num_classes=10), {**base, **head(new, "classifier.2")})


def clip_file(state):
    out = dict(state)
    out["proj"] = out.pop("heads.head.weight").T
    out["proj_bias"] = out.pop("heads.head.bias")
    return out


CLIP = "base vit(16, 64, 2, 4, 128, classes = 32) { weights random(seed = 1) }"


@case((2, 3, 224, 224), file=("clip", clip_file), base=CLIP)
def clip_proj(base, _):
    return fitted(vit(224, 32), base)


class CoordAtt(nn.Module):
    """Hou et al.'s module, by the names of archc's block."""

    def __init__(self, width, reduction=32):
        super().__init__()
        inner = max(8, width // reduction)
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 1), nn.BatchNorm2d(inner)
        self.conv_h, self.conv_w = nn.Conv2d(inner, width, 1), nn.Conv2d(inner, width, 1)

    def forward(self, x):
        h, w = x.shape[2:]
        both = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)
        rows, cols = nn.functional.hardswish(self.bn1(self.conv1(both))).split([h, w], 2)
        return x * self.conv_h(rows).sigmoid() * self.conv_w(cols.transpose(2, 3)).sigmoid()


@case((2, 3, 64, 64))
def coordinate_attention(base, new):
    net = fitted(zoo.mobilenet_v2(num_classes=10), {**base, **head(new, "classifier.1")})
    for block in net.features[2:18]:
        attend = CoordAtt(block.conv[1][0].out_channels)
        at = f"features.{list(net.features).index(block)}.conv.coordinate_attention."
        harness.load(attend, {key.removeprefix(at): value for key, value in new.items() if key.startswith(at)})
        block.conv[1] = nn.Sequential(block.conv[1], attend.eval())
    return net


@case((2, 3, 32, 32))
def cifar(base, new):
    net = zoo.resnet18(num_classes=10)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return fitted(net, {**base, **head(new, "fc"), "conv1.weight": new["conv1.weight"]})


@case((2, 3, 64, 64))
def new_classifier(base, new):
    return moco(base, new)


class Outputs(nn.Module):
    """A network whose outputs are what a function makes of its input."""

    def __init__(self, run, *parts):
        super().__init__()
        self.parts, self.run = nn.ModuleList(parts), run

    def forward(self, *inputs):
        return self.run(*inputs)


@case((2, 3, 64, 64))
def pyramid(base, new):
    names = [f"layer{at}" for at in range(1, 5)]
    body = feature_extraction.create_feature_extractor(fitted(zoo.resnet18(), base), names)
    fpn = FeaturePyramidNetwork([64, 128, 256, 512], 32)
    harness.load(fpn, {key.removeprefix("fpn."): value for key, value in new.items() if key.startswith("fpn.")})
    levels = lambda x: dict(zip(["output", "p3", "p4", "p5"], fpn(body(x)).values()))
    return Outputs(levels, body, fpn.eval())


@case((2, 3, 64, 64))
def two_heads(base, new):
    net = zoo.segmentation.fcn_resnet50(weights_backbone=None, aux_loss=True)
    heads = {key: value for key, value in new.items() if "classifier" in key}
    body = {f"backbone.{key}": value for key, value in base.items() if not key.startswith("fc.")}
    fitted(net, {**body, **heads})

    def heads_alone(x):
        maps = net.backbone(x)
        return {"output": net.classifier(maps["out"]), "aux_classifier": net.aux_classifier(maps["aux"])}

    return Outputs(heads_alone, net)


@case((2, 3, 64, 64))
def output_stride(base, _):
    net = zoo.resnet50(replace_stride_with_dilation=[False, False, True])
    return feature_extraction.create_feature_extractor(fitted(net, base), {"layer4": "output"})


@case({"image": (2, 3, 64, 64), "meta": (2, 14)})
def picture_and_table(base, new):
    net = fitted(zoo.resnet18(), base)
    row, net.fc = nn.Linear(14, 64), nn.Identity()
    fc = nn.Linear(576, 10)
    harness.load(row, {name: new[f"row.{name}"] for name in ["weight", "bias"]})
    harness.load(fc, {name: new[f"fc.{name}"] for name in ["weight", "bias"]})
    return Outputs(lambda image, meta: fc(torch.cat([net(image), row(meta).relu()], 1)), net, row, fc)


class BlurPool(nn.Module):
    """antialiased-cnns' filter of four pixels."""

    def forward(self, x):
        row = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype)
        kernel = (row[:, None] * row / 64).expand(x.shape[1], 1, 4, 4)
        return nn.functional.conv2d(nn.functional.pad(x, (1, 2, 1, 2), "reflect"), kernel, stride=2, groups=x.shape[1])


@case((2, 3, 64, 64))
def blur_pool(base, new):
    net = moco(base, new)
    net.maxpool = nn.Sequential(nn.MaxPool2d(3, 1, 1), BlurPool())
    return net


@case((2, 3, 224, 224))
def prompts(base, new):
    net = fitted(vit(224), {**base, **head(new, "heads.head")})
    tokens = new["encoder.prompts"]

    def run(x):
        x = net._process_input(x)
        x = torch.cat([net.class_token.expand(len(x), -1, -1), x], 1) + net.encoder.pos_embedding
        x = torch.cat([x, tokens.to(x).expand(len(x), -1, -1)], 1)
        return net.heads(net.encoder.ln(net.encoder.layers(x))[:, 0])

    return Outputs(run, net)


def head(new, name):
    """The tensors of a layer that the spec makes anew."""
    return {key: value for key, value in new.items() if key.startswith(f"{name}.")}


def thinned(value):
    """At most `KEPT` values of a tensor, evenly spaced."""
    flat = value.flatten()
    return flat[:: -(-len(flat) // KEPT)].float().contiguous()


def compare(bench, name, kept):
    function, shape, file, base_text = CASES[name]
    text = (ROOT / "tests/cases" / f"{name}.arch").read_text()
    base_text = base_text or next(line for line in text.splitlines() if line.startswith("base "))
    if base_text.split("{")[0].split()[1] in ("resnet18", "mobilenet_v2", "vgg11"):
        # the base as its file has it: for pictures of three channels
        base_text = re.sub(r"input \[N, \d+,", "input [N, 3,", base_text)
    base = bench.export(bench.spec(f"{name}_base", base_text))
    if file:
        save_file({k: v.contiguous() for k, v in file[1](base).items()}, bench.folder / f"{file[0]}.safetensors")
    spec = bench.spec(name, text)
    new = bench.export(spec)
    net = function(base, new)
    x = {name: pattern(shape) for name, shape in (shape if isinstance(shape, dict) else {"image": shape}).items()}
    single = outputs(net(*x.values()))
    exact = outputs(net.double()(*(one.double() for one in x.values())))
    got = bench.outputs(spec, x)
    kept.update({f"{name}.{output}": thinned(value) for output, value in exact.items()})
    if got.keys() != exact.keys():
        raise harness.Failure(f"outputs {list(got)} instead of {list(exact)}")
    errors = [harness.relative(got[output], value) for output, value in exact.items()]
    own = [harness.relative(single[output], value) for output, value in exact.items()]
    return len(new), max(errors), max(own)


def outputs(result):
    return result if isinstance(result, dict) else {"output": result}


@torch.no_grad()
def main():
    write = "--write" in sys.argv
    sys.argv = [one for one in sys.argv if one != "--write"]
    options = harness.arguments(__doc__)
    bench = harness.Bench(options)
    table = harness.Table()
    target = ROOT / "tests/reference/cases.safetensors"
    kept = load_file(target) if target.exists() else {}
    for name in options.names or CASES:
        table.row(name, "archc", lambda: compare(bench, name, kept))
    if write:
        save_file(kept, target)
    sys.exit(1 if table.failed else 0)


if __name__ == "__main__":
    main()
