"""What compare.py and article.py share: calling archc, preparing weights, comparing outputs with PyTorch in float64.

The promise: relative L2 error of archc's float32 output against PyTorch's float64 is at most 1e-4, or ten times the error
of PyTorch's own float32 where that is larger.
"""

import collections
import argparse
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile

import torch
from safetensors.torch import load_file, save_file

from networks import COMPUTED, outputs

LIMIT = 1e-4

# What scales a residual branch in the end, a norm or a layer scale, by its key.
LAST_NORM = re.compile(
    r"(bn3|blocks\.\d+\.\d+\.bn2|pw_proj\.bn|dw_end\.bn|conv3\.bn|conv_(kxk|1x1)\.bn|block\.\d+\.1)\.weight$"
    r"|layer_scale\.gamma$"
)


class Failure(Exception):
    """archc did not do its part; the text says what it printed."""


def arguments(text):
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--archc", default=default_archc(), help="the binary (default: target/release or target/debug)")
    parser.add_argument("--run", default="", help="more options for `archc run`, in one string: --run='--device cuda'")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--weights", choices=["both", "archc", "torch"], default="both", help="whose weights to use")
    parser.add_argument("--record", action="store_true", help="write the errors with PyTorch's weights into zoo.json")
    parser.add_argument("--zoo", help="take the networks from the files of this folder, not from those in the binary")
    parser.add_argument("--size", type=int, help="of pictures, where a network takes others than its own")
    parser.add_argument("--keep", help="keep specs, weights and outputs in this folder")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of PyTorch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.backends.mha.set_fastpath_enabled(False)
    return options


def default_archc():
    root = pathlib.Path(__file__).resolve().parents[2]
    found = [p for p in (root / "target/release/archc", root / "target/debug/archc") if p.exists()]
    return str(found[0]) if found else shutil.which("archc") or "archc"


class Bench:
    """A folder with specs in it, and archc."""

    def __init__(self, options):
        self.archc = options.archc
        self.extra = shlex.split(options.run)
        self.zoo = pathlib.Path(options.zoo).resolve() if options.zoo else None
        self.temporary = None if options.keep else tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(options.keep or self.temporary.name)
        self.folder.mkdir(parents=True, exist_ok=True)

    def base(self, network, x, lines):
        """A spec that is only a base, for pictures like `x`."""
        declares = re.compile(rf"^network {re.match(r'[a-z0-9_]+', network)[0]}\b", re.M)
        files = sorted(self.zoo.glob("*.arch")) if self.zoo else []
        used = [f'use "{path}"\n' for path in files if declares.search(path.read_text())]
        return f"archc 1\n{''.join(used)}base {network} {{ input [N, {', '.join(map(str, x.shape[1:]))}]; {lines} }}\n"

    def spec(self, name, text):
        path = self.folder / f"{name}.arch"
        path.write_text(text)
        return path

    def call(self, *arguments):
        done = subprocess.run([self.archc, *map(str, arguments)], capture_output=True, text=True, timeout=900)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise Failure(f"exit {done.returncode}: " + " | ".join(lines[:4])[:300])

    def export(self, spec):
        path = spec.with_suffix(".export.safetensors")
        self.call("export", spec, "--to", "safetensors", "--output", path)
        return load_file(path)

    def run(self, spec, x, weights=None):
        return self.outputs(spec, {"image": x}, weights)["output"]

    def outputs(self, spec, inputs, weights=None):
        source, target = spec.with_suffix(".x.safetensors"), spec.with_suffix(".y.safetensors")
        save_file({name: x.contiguous() for name, x in inputs.items()}, source)
        given = ["--weights", weights] if weights else []
        self.call("run", spec, *given, "--input", source, "--output", target, *self.extra)
        return load_file(target)


def load(module, state):
    """Loads archc's export strictly; only what archc computes may be missing. Returns how many keys matched."""
    # a safetensors file has no version; torchvision's MNASNet asks for one and takes no default
    state = collections.OrderedDict(state)
    state._metadata = collections.OrderedDict({"": {"version": 2}})
    missing, unexpected = module.load_state_dict(state, strict=False)
    missing = [k for k in missing if not k.endswith(COMPUTED)]
    if missing or unexpected:
        raise Failure(f"keys: missing {missing[:4]} ({len(missing)}), unexpected {unexpected[:4]} ({len(unexpected)})")
    return len(state)


def save(module, path):
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, path)


def fit(module, x, seed=1):
    """Random scales and shifts, and batch-norm statistics that fit the activations, so that no layer is a no-op."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        with torch.no_grad():
            scales = ("layer_scale", "gamma", "gamma_1", "gamma_2", "weight")
            if name.endswith(scales) and (p.dim() == 1 or "layer_scale" in name):
                p.uniform_(0.6, 1.4, generator=generator)
                if LAST_NORM.search(name):
                    p.mul_(0.2)  # as in trained ResNets: a random deep one of full scale magnifies every rounding
            elif not p.any():  # what starts at zero: biases, a ViT's class token
                p.normal_(0, 0.1, generator=generator)
            elif name.endswith("bias_table"):
                p.normal_(0, 0.5, generator=generator)
            elif p.dim() == 2 and p.std() * p.shape[1] ** 0.5 < 0.5:  # so that attention is to some places more than to others
                p.mul_(1 / (p.std() * p.shape[1] ** 0.5))
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    training = module.training  # some run further heads where the module, not its parts, is in training
    module.eval()
    module.training = training
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # the mean over all passes
        m.train()
    with torch.no_grad():
        for _ in range(2 if norms else 0):
            module(torch.randn(x.shape, generator=generator))
    module.eval()
    module.training = training
    return module


def reference(module, x):
    """PyTorch's output in float64, and the relative error of its own float32."""
    with torch.no_grad():
        single = module(x)
        exact = module.double()(x.double())
        module.float()
    return exact, relative(single, exact)


def references(module, x):
    """The same of every output, by name; the error is the largest."""
    with torch.no_grad():
        single = outputs(module(x))
        exact = outputs(module.double()(x.double()))
        module.float()
    return exact, farthest(single, exact)


def farthest(got, exact):
    return max(relative(got[name], value) for name, value in exact.items())


def relative(got, exact):
    if got.shape != exact.shape:
        raise Failure(f"shape {list(got.shape)} instead of {list(exact.shape)}")
    return ((got.double() - exact).norm() / exact.norm().clamp(min=1e-12)).item()


class Table:
    """Prints a row a comparison and remembers whether all held."""

    def __init__(self):
        self.failed = []
        print(f"{'network':22} {'weights':8} {'keys':>5} {'archc':>9} {'torch f32':>9}  verdict", flush=True)

    def row(self, name, whose, compare):
        """The error, where it is within the promise."""
        try:
            keys, error, own = compare()
            held = error <= max(LIMIT, 10 * own)
            print(f"{name:22} {whose:8} {keys:5} {error:9.1e} {own:9.1e}  {'ok' if held else 'TOO FAR'}", flush=True)
            if held:
                return error
        except (Failure, subprocess.TimeoutExpired, OSError, KeyError) as e:
            held = False
            print(f"{name:22} {whose:8} FAILED {e}", flush=True)
        if not held:
            self.failed.append((name, whose))

    def finish(self):
        print(f"{len(self.failed)} failed" + "".join(f"\n  {n} ({w})" for n, w in self.failed))
        raise SystemExit(1 if self.failed else 0)
