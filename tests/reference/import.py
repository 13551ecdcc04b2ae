"""Exports networks of torchvision and timm, imports them with archc, and compares with PyTorch.

    python tests/reference/import.py [--archc target/release/archc] [--folder DIR] [NAME ..]
    python tests/reference/import.py --timm names.txt    all of torchvision's, and these of timm
    python tests/reference/import.py --small             writes the small files in import/ that the tests read

Weights are random, and so that every tensor shows: what PyTorch fills with a constant (norms, layer scales, tables) is
drawn too. The file is exported with a batch of 1 or 2, turn about; the comparison runs with a batch of 3. Keys must be those of the `state_dict`,
both ways, but for constants that were folded, and a tensor of several keys has one of them; outputs agree to 1e-4 of the largest value. The table is import.json.
"""

import argparse
import copy
import json
import pathlib
import subprocess
import sys
import warnings

import torch

ROOT = pathlib.Path(__file__).resolve().parent
LIMIT = 1e-4
SEGMENTATION = ["deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50", "deeplabv3_resnet101", "fcn_resnet50", "fcn_resnet101", "lraspp_mobilenet_v3_large"]


def torchvision_names():
    from torchvision import models

    return [name for name in models.list_models(module=models)] + SEGMENTATION


def make(name):
    """A network, and the size of its input."""
    torch.manual_seed(0)
    if name.startswith("timm/"):
        import timm

        model = timm.create_model(name[5:], pretrained=False)
        return model.eval(), tuple(model.pretrained_cfg["input_size"])
    from torchvision import models

    if name in SEGMENTATION:
        return models.get_model(name, weights=None, weights_backbone=None).eval(), (3, 97, 129)
    arguments = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = models.get_model(name, weights=None, **arguments).eval()
    return model, (3, 299, 299) if name == "inception_v3" else (3, 224, 224)


def draw(model):
    """Numbers in every tensor, none of them what PyTorch starts with."""
    generator = torch.Generator().manual_seed(1)
    normal = lambda tensor: torch.randn(tensor.shape, generator=generator)
    uniform = lambda tensor: torch.rand(tensor.shape, generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = parameter.float().std() if parameter.numel() > 1 else torch.tensor(0.0)
            if spread > 1e-3:
                continue
            mean = parameter.float().mean()
            if parameter.dim() <= 1 or abs(mean) > 1e-7:
                # scales near 1, biases near 0
                parameter.copy_(0.75 + 0.5 * uniform(parameter) if abs(mean) > 1e-7 else 0.1 * normal(parameter))
            else:
                parameter.copy_(0.02 * normal(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.1 * normal(buffer))
            elif name.endswith("running_var"):
                buffer.copy_(0.75 + 0.5 * uniform(buffer))


def export(name, folder, batch):
    """Writes NAME.pt2, NAME.json with the keys, and NAME.x.npy, NAME.y.npy."""
    import numpy

    model, size = make(name)
    draw(model)
    stem = folder / name.replace("/", "_")
    generator = torch.Generator().manual_seed(2)
    x = torch.randn((3, *size), generator=generator)
    # some keep what they computed, and would export that in the place of their parameters
    other = copy.deepcopy(model)
    with torch.no_grad():
        y = other(x)
        program = torch.export.export(model, (x[:batch].clone(),))
    if isinstance(y, dict):
        y = next(iter(y.values()))
    torch.export.save(program, str(stem) + ".pt2")
    numpy.save(str(stem) + ".x.npy", x.numpy())
    numpy.save(str(stem) + ".y.npy", y.numpy())
    keys = {key: list(value.shape) for key, value in model.state_dict().items()}
    pathlib.Path(str(stem) + ".json").write_text(json.dumps(keys))
    # modules that lie at several paths have a key at each
    names = {}
    for key, value in other.state_dict().items():
        names.setdefault((value.data_ptr(), value.shape, value.stride()) if value.numel() else key, []).append(key)
    pathlib.Path(str(stem) + ".same.json").write_text(json.dumps([keys for keys in names.values() if len(keys) > 1]))


def small_networks():
    """Networks of a few layers, each for what it needs of the importer; the first of a pair is what is imported."""
    from torch import nn
    import torch.nn.functional as F

    class Block(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(channels)
            self.drop = nn.Dropout(0.1)
            self.relu = nn.ReLU(inplace=True)
            self.register_buffer("scale", torch.linspace(0.5, 1.5, channels), persistent=False)

        def forward(self, x):
            y = self.relu(self.drop(self.bn(self.conv(x))))
            a, b = y.chunk(2, 1)
            return self.relu(x + torch.cat([b, a], 1) * self.scale.view(1, -1, 1, 1))

    class Blocks(nn.Module):
        """In-place ops, a shared activation, a constant of its own in every block."""

        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(Block(6), Block(6))
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            x = self.layers(x)
            batch, channels, height, width = x.shape
            return self.fc(x.view(batch, channels, height * width).mean(2))

    class Windows(nn.Module):
        """Shifted windows folded into the batch, with a mask and a table of relative positions."""

        def __init__(self, dim=8, heads=2, window=3, shift=1):
            super().__init__()
            self.heads, self.window, self.shift = heads, window, shift
            self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
            self.norm = nn.LayerNorm(dim)
            self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.5)
            grid = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
            relative = grid[:, :, None] - grid[:, None, :] + window - 1
            self.register_buffer("index", relative[0] * (2 * window - 1) + relative[1])

        def forward(self, x):
            batch, height, width, channels = x.shape
            size, shift = self.window, self.shift
            y = torch.roll(self.norm(x), (-shift, -shift), (1, 2))
            y = y.view(batch, height // size, size, width // size, size, channels).permute(0, 1, 3, 2, 4, 5)
            y = y.reshape(-1, size * size, channels)
            regions = x.new_zeros((height, width))
            for n, rows in enumerate([slice(0, -size), slice(-size, -shift), slice(-shift, None)]):
                for m, columns in enumerate([slice(0, -size), slice(-size, -shift), slice(-shift, None)]):
                    regions[rows, columns] = 3 * n + m
            regions = regions.view(height // size, size, width // size, size).permute(0, 2, 1, 3).reshape(-1, size * size)
            mask = regions.unsqueeze(1) - regions.unsqueeze(2)
            mask = mask.masked_fill(mask != 0, -100.0).masked_fill(mask == 0, 0.0)
            q, k, v = self.qkv(y).reshape(-1, size * size, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
            bias = self.table[self.index.view(-1)].view(size * size, size * size, -1).permute(2, 0, 1)
            scores = q @ k.transpose(-2, -1) * (channels // self.heads) ** -0.5 + bias.unsqueeze(0)
            scores = scores.view(batch, -1, self.heads, size * size, size * size) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.heads, size * size, size * size).softmax(-1)
            y = self.proj((scores @ v).transpose(1, 2).reshape(-1, size * size, channels))
            y = y.view(batch, height // size, width // size, size, size, channels).permute(0, 1, 3, 2, 4, 5)
            return x + torch.roll(y.reshape(batch, height, width, channels), (shift, shift), (1, 2))

    class Heads(nn.Module):
        """`nn.MultiheadAttention` with the batch second, a class token, positions, layer scale."""

        def __init__(self, dim=12, tokens=10):
            super().__init__()
            self.patch = nn.Conv2d(3, dim, 3, 3)
            self.token = nn.Parameter(torch.randn(1, 1, dim))
            self.positions = nn.Parameter(torch.randn(1, tokens, dim))
            self.norm, self.attention = nn.LayerNorm(dim), nn.MultiheadAttention(dim, 3)
            self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(0.0), nn.Linear(2 * dim, dim))
            self.gamma = nn.Parameter(torch.rand(dim))
            self.head = nn.Linear(dim, 5)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
            y = self.norm(x).transpose(0, 1)
            x = x + self.attention(y, y, y, need_weights=False)[0].transpose(0, 1)
            x = x + self.gamma * self.mlp(x)
            return self.head(x[:, 0])

    class Shared(nn.Module):
        """Modules that run twice, one of them made of several layers."""

        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1))
            self.act = nn.Tanh()

        def forward(self, x):
            x = self.act(self.stem(x))
            x = x + self.body(x)
            return self.act(x + self.body(x))

    class Standardised(nn.Module):
        """A convolution whose weight is standardised, and learned all the same."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 4, 3, 3))
            self.gain = nn.Parameter(torch.rand(6))
            self.bias = nn.Parameter(torch.randn(6))

        def forward(self, x):
            weight = F.batch_norm(self.weight.reshape(1, 6, -1), None, None, self.gain * 0.3, training=True, momentum=0.0, eps=1e-4)
            return F.conv2d(x, weight.reshape_as(self.weight), self.bias, padding=1)

    class Positions(nn.Module):
        """Rotary positions: frequencies, sines and cosines that depend on nothing but sizes."""

        def __init__(self, dim=8):
            super().__init__()
            self.q, self.k, self.v = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)

        def forward(self, x):
            batch, tokens, dim = x.shape
            frequencies = 1.0 / 100.0 ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
            angles = torch.arange(tokens)[:, None] * frequencies[None, :]
            sine, cosine = angles.sin().repeat_interleave(2, -1), angles.cos().repeat_interleave(2, -1)
            turn = lambda x: torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
            q, k = (y * cosine + turn(y) * sine for y in (self.q(x), self.k(x)))
            return F.scaled_dot_product_attention(q, k, self.v(x))

    class Ends(nn.Module):
        """Two outputs in a dictionary, and sizes that are asked for."""

        def __init__(self):
            super().__init__()
            self.down, self.up = nn.Conv2d(3, 4, 3, 2, 1), nn.ConvTranspose2d(4, 3, 2, 2)
            self.unused = nn.Linear(2, 2)

        def forward(self, x):
            y = F.max_pool2d(self.down(x), 3, 2, 1, ceil_mode=True)
            wide = F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)
            return {"out": wide, "aux": F.pad(self.up(y), (1, 2, 0, 1), mode="reflect")}

    class Mixed(nn.Module):
        """What cannot be imported: it mixes samples."""

        def forward(self, x):
            return x - x.mean(0, keepdim=True)

    class Unknown(nn.Module):
        """What cannot be imported: ops that the language has not, one of them twice."""

        def forward(self, x):
            return torch.linalg.det(x.cosh().cosh()).digamma()

    return {
        "blocks": (Blocks(), (6, 5, 7), 2),
        "dynamic": (Blocks(), (6, 5, 7), 0),
        "windows": (Windows(), (6, 9, 8), 1),
        "windows2": (Windows(), (6, 9, 8), 2),
        "heads": (Heads(), (3, 9, 9), 2),
        "heads1": (Heads(), (3, 9, 9), 1),
        "shared": (Shared(), (3, 5, 4), 2),
        "standardised": (Standardised(), (4, 6, 5), 2),
        "positions": (Positions(), (7, 8), 1),
        "ends": (Ends(), (3, 11, 9), 2),
        "mixed": (Mixed(), (4,), 2),
        "unknown": (Unknown(), (3, 3), 2),
    }


def edited_networks():
    """Small networks of torchvision's own residual blocks, which the tests edit and train."""
    from functools import partial
    from torch import nn
    from torchvision.models import convnext, efficientnet, mobilenetv2, regnet, resnet

    def net(stem, *blocks, last, act=nn.ReLU):
        parts = [nn.Sequential(nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), act()), nn.Sequential(*blocks)]
        model = nn.Sequential()
        for name, part in zip(("stem", "body"), parts):
            model.add_module(name, part)
        model.add_module("pool", nn.AdaptiveAvgPool2d(1))
        model.add_module("flatten", nn.Flatten())
        model.add_module("fc", nn.Linear(last, 5))
        return model

    down = nn.Sequential(nn.Conv2d(8, 12, 1, 2, bias=False), nn.BatchNorm2d(12))
    Basic, Bottle = resnet.BasicBlock, resnet.Bottleneck
    Mobile = mobilenetv2.InvertedResidual
    Reg = partial(regnet.ResBottleneckBlock, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU, group_width=4)
    Next = partial(convnext.CNBlock, layer_scale=0.5, stochastic_depth_prob=0.0)
    config = partial(efficientnet.MBConvConfig, 4, 3)
    Mb = partial(efficientnet.MBConv, stochastic_depth_prob=0.1, norm_layer=nn.BatchNorm2d)
    return {
        "basic": net(8, Basic(8, 8), Basic(8, 12, 2, down), Basic(12, 12), last=12),
        "bottleneck": net(8, Bottle(8, 2), Bottle(8, 2), Bottle(8, 2), last=8),
        "inverted": net(8, Mobile(8, 8, 1, 2), Mobile(8, 8, 1, 3), Mobile(8, 8, 1, 3), last=8, act=nn.ReLU6),
        "regnet": net(8, Reg(8, 12, 2, bottleneck_multiplier=1.0, se_ratio=None), Reg(12, 12, 1, bottleneck_multiplier=1.0, se_ratio=None), last=12),
        "convnext": net(8, Next(8), Next(8), Next(8), last=8, act=nn.GELU),
        "mbconv": net(8, Mb(config(1, 8, 8, 1)), Mb(config(1, 8, 8, 1)), last=8, act=nn.SiLU),
    }


def small_edited():
    """Writes import/NAME.pt2 of these, with their outputs."""
    from safetensors.torch import load_file, save_file

    torch.manual_seed(5)
    tensors = load_file(str(ROOT / "import.safetensors"))
    for name, model in edited_networks().items():
        model = model.eval()
        draw(model)
        x = torch.randn(3, 3, 21, 18)
        with torch.no_grad():
            program = torch.export.export(model, (x[:2].clone(),))
            tensors[f"{name}.x"], tensors[f"{name}.y.output"] = x, model(x)
        path = ROOT / "import" / f"{name}.pt2"
        torch.export.save(program, str(path))
        slim(path)
    save_file(tensors, str(ROOT / "import.safetensors"))


def small():
    """Writes import/NAME.pt2, and import.safetensors: what goes in, and what comes out with a batch of 3."""
    from safetensors.torch import save_file

    tensors = {}
    torch.manual_seed(3)
    torch.backends.mha.set_fastpath_enabled(False)
    (ROOT / "import").mkdir(exist_ok=True)
    for name, (model, size, batch) in small_networks().items():
        model = model.eval()
        draw(model)
        x = torch.randn(3, *size)
        shapes = ({0: torch.export.Dim("batch")},) if batch == 0 else None
        program = torch.export.export(model, (x[: batch or 2].clone(),), dynamic_shapes=shapes)
        path = ROOT / "import" / f"{name}.pt2"
        torch.export.save(program, str(path))
        slim(path)
        with torch.no_grad():
            y = model(x)
        tensors[f"{name}.x"] = x
        for key, value in y.items() if isinstance(y, dict) else [("output", y)]:
            tensors[f"{name}.y.{key}"] = value.contiguous()
    save_file(tensors, str(ROOT / "import.safetensors"))
    small_edited()


def slim(path):
    """Takes out of a file what nobody reads and what names this machine: stack traces, the example input."""
    import zipfile

    with zipfile.ZipFile(path) as old:
        entries = [(entry.filename, old.read(entry)) for entry in old.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name, content in entries:
            if name.endswith("models/model.json"):
                program = json.loads(content)
                for node in program["graph_module"]["graph"]["nodes"]:
                    node["metadata"] = {key: value for key, value in node["metadata"].items() if key == "nn_module_stack"}
                content = json.dumps(program, separators=(",", ":")).encode()
            if "sample_inputs" not in name:
                new.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)


def compare(name, folder, archc):
    """Imports NAME.pt2 and runs it with a batch of 3: a row of the table."""
    import numpy
    import re
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    stem = folder / name.replace("/", "_")
    if not pathlib.Path(f"{stem}.pt2").exists():
        export(name, folder, 1 + len(name) % 2)
    file = lambda ending: pathlib.Path(f"{stem}.{ending}")

    def call(*arguments):
        done = subprocess.run([archc, *map(str, arguments)], capture_output=True, text=True, timeout=3600)
        if done.returncode != 0:
            raise RuntimeError(" | ".join(line for line in done.stderr.splitlines() if line.strip())[:600])

    call("import", file("pt2"), "--out", file("arch"))
    text = file("arch").read_text()
    network = re.search(r"^network (\w+)", text, re.M)[1]
    layer = re.search(r"^ +input (?:(\w+): )?\[", text, re.M)
    spec = file("spec.arch")
    spec.write_text(f'use "{file("arch").name}"\nbase {network} {{ weights "{file("safetensors").name}" }}\n')
    save_file({layer[1] or "image": torch.from_numpy(numpy.load(file("x.npy")))}, file("x.safetensors"))
    call("run", spec, "--input", file("x.safetensors"), "--output", file("y.safetensors"), "--exact")
    got, wanted = load_file(file("y.safetensors"))["output"].double(), torch.from_numpy(numpy.load(file("y.npy"))).double()
    error = ((got - wanted).abs().max() / wanted.abs().max()).item()
    state = json.loads(file("json").read_text())
    with safe_open(file("safetensors"), "pt") as tensors:
        ours = {key: list(tensors.get_slice(key).get_shape()) for key in tensors.keys()}
    same = json.loads(file("same.json").read_text()) if file("same.json").exists() else []
    others = {key: keys for keys in same for key in keys}
    missing = [key for key in state if all(ours.get(one) != state[key] for one in others.get(key, [key]))]
    # constants that were folded are nobody's keys
    constants = [key for key in ours if key not in state]
    row = {"lines": len(text.splitlines()), "tensors": len(state), "missing": missing, "constants": len(constants), "error": error}
    for ending in ("arch", "safetensors", "spec.arch", "x.safetensors", "y.safetensors"):
        file(ending).unlink()
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these; those of timm begin with timm/")
    parser.add_argument("--archc", default=str(ROOT.parents[1] / "target/release/archc"))
    parser.add_argument("--folder", default="/tmp/archc-import", help="where the exported files are kept")
    parser.add_argument("--export", action="store_true", help="export, and compare nothing")
    parser.add_argument("--small", action="store_true", help="write the small files of the tests")
    parser.add_argument("--timm", help="a file with names of timm, one a line")
    options = parser.parse_args()
    if options.small:
        return small()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    folder = pathlib.Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = options.names
    if not names:
        names = torchvision_names()
        if options.timm:
            names += [f"timm/{name}" for name in pathlib.Path(options.timm).read_text().split()]
    table, path = {}, ROOT / "import.json"
    if path.exists():
        table = json.loads(path.read_text())
    failed = 0
    for at, name in enumerate(names):
        try:
            if options.export:
                export(name, folder, 1 + at % 2)
                continue
            row = compare(name, folder, options.archc)
            good = not row["missing"] and row["error"] <= LIMIT
        except Exception as error:
            row, good = {"failed": f"{type(error).__name__}: {error}"[:600]}, False
        failed += not good
        print("good" if good else "BAD ", name, row, flush=True)
        if not options.export:
            table[name] = row
            path.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    print(f"{len(names) - failed} of {len(names)}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
