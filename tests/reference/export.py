"""Exports networks to PyTorch with archc, runs them there, and compares with archc.

    python tests/reference/export.py [--archc target/release/archc] [--folder DIR] [NAME ..]
    python tests/reference/export.py --all      every network of the zoo, the examples and the suite, the smallest first

NAME is a network of the zoo or a spec (.arch). Weights are random, the same in both: the safetensors file beside the module
is loaded strictly. Outputs agree to 1e-5 of the largest value. Some go through torch.export and, with the eager backend,
torch.compile, too. The table is export.json. `--ops` runs the golden cases of ops.json, `--train` steps of training.
"""

import argparse
import importlib.util
import inspect
import json
import keyword
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests/reference/export.json"
LIMIT = 1e-5
# what is captured, too: one of each kind of module
CAPTURED = ["squeezenet1_1", "mobilenet_v3_small", "resnet18", "vit_tiny_patch16_224", "regnet_y_400mf", "shufflenet_v2_x0_5"]


class Failure(Exception):
    pass


def call(archc, *arguments, timeout=1800):
    done = subprocess.run([archc, *map(str, arguments)], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise Failure(" | ".join(line.strip() for line in done.stderr.splitlines() if line.strip())[:400])
    return done.stdout


def module(path):
    """The network of a file: the last class in it, its inputs' names and shapes."""
    spec = importlib.util.spec_from_file_location("exported_" + re.sub(r"\W", "_", path.stem), path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    classes = [c for c in vars(loaded).values() if inspect.isclass(c) and issubclass(c, torch.nn.Module) and c.__module__ == spec.name]
    network = classes[-1]
    net = network()
    net.load_state_dict(loaded.load_weights(str(path.with_suffix(".safetensors"))), strict=True)
    names = [name for name in inspect.signature(network.forward).parameters if name != "self"]
    # words of Python that are names in archc
    names = [name[:-1] if keyword.iskeyword(name[:-1]) else name for name in names]
    head = network.__doc__.rsplit(" to ", 1)[0]
    shapes = [[int(n) for n in re.findall(r"\d+", shape)] for shape in re.findall(r"\[N([, \d]*)\]", head)]
    return net.eval(), dict(zip(names, shapes[: len(names)]))


def inputs(shapes, batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn((batch, *shape), generator=generator) for name, shape in shapes.items()}


def difference(ours, theirs):
    """The largest difference of any output, relative to the largest value of that output."""
    worst = 0.0
    for name, value in theirs.items():
        other = ours[name]
        if other.shape != value.shape:
            raise Failure(f"{name} is {list(value.shape)} in archc, {list(other.shape)} in PyTorch")
        if not torch.isfinite(value).all():
            raise Failure(f"{name} is not finite")
        worst = max(worst, ((other - value).abs().max() / value.abs().max().clamp(min=1e-30)).item())
    return worst


def compare(options, name, spec):
    folder = pathlib.Path(options.folder)
    out = folder / (re.sub(r"\W", "_", name) + ".py")
    call(options.archc, "export", spec, "--to", "pytorch", "--output", out)
    net, shapes = module(out)
    x = inputs(shapes, 2)
    source, target = out.with_suffix(".x.safetensors"), out.with_suffix(".y.safetensors")
    save_file(x, source)
    weights = out.with_suffix(".safetensors")
    call(options.archc, "run", spec, "--weights", weights, "--input", source, "--output", target)
    theirs = load_file(target)
    with torch.no_grad():
        y = net(*x.values())
    ours = y if isinstance(y, dict) else {"output": y}
    error = difference(ours, theirs)
    if error > LIMIT:
        raise Failure(f"the outputs differ by {error:.1e}")
    lines = len([line for line in out.read_text().splitlines() if line.strip()])
    captured = []
    if name in CAPTURED or options.capture:
        with torch.no_grad():
            program = torch.export.export(net, tuple(x.values()))
            z = program.module()(*x.values())
            compiled = torch.compile(net, backend="eager", fullgraph=True)(*x.values())
        for other in (z, compiled):
            again = difference(other if isinstance(other, dict) else {"output": other}, ours)
            if again > LIMIT:
                raise Failure(f"what was captured differs by {again:.1e}")
        captured = ["export", "compile"]
    for file in (source, target, weights):
        file.unlink()
    return {"name": name, "error": float(f"{error:.1e}"), "lines": lines} | ({"captured": captured} if captured else {})


def literal(value):
    """A number, word or list as the language writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return str(value)


OPERANDS = ["add", "mul", "sub", "div", "maximum", "minimum", "concat", "matmul", "gather", "linear_with", "conv2d_with", "attention", "lstm_scan"]


def ops(options):
    """Every golden case of ops.json that is a network: what is exported gives PyTorch's own values."""
    cases = json.loads((ROOT / "tests/reference/ops.json").read_text())
    golden = load_file(ROOT / "tests/reference/ops.safetensors")
    folder, tried, failed, left = pathlib.Path(options.folder), set(), [], 0
    for case in cases:
        name, values = case["case"], {}
        batched = [x for x in case["inputs"] if x not in case["batchless"]]
        if not isinstance(case.get("output"), str) or not batched or case["op"] == "chunk":
            left += 1
            continue
        tensor = lambda key: golden[f"{name}/{key}"]
        lines, state = [], {}
        for x in case["inputs"]:
            shape = list(tensor(x).shape)
            if x in batched:
                lines.append(f"input {x}: [N, {', '.join(map(str, shape[1:]))}]" if len(shape) > 1 else f"input {x}: [N]")
            else:
                lines.append(f"{x}: buffer({literal(shape)})")
                state[x] = tensor(x)
        args = [literal(v) for v in case["positional"]] + [f"{k} = {literal(v)}" for k, v in case["args"].items()]
        if case["op"] in OPERANDS:
            lines.append(f"y: {case['op']}({', '.join(case['inputs'] + args)})")
        else:
            lines.append(f"({case['inputs'][0]}) -> y: {case['op']}({', '.join(args)})" if args else f"({case['inputs'][0]}) -> y: {case['op']}")
        state |= {f"y.{x}": tensor(x) for x in case["params"]}
        spec, out = folder / "op.arch", folder / "op.py"
        spec.write_text("network n {\n    " + "\n    ".join(lines) + "\n}\nbase n {}\n")
        try:
            given = []
            if state:
                save_file({k: v.contiguous() for k, v in state.items()}, folder / "given.safetensors")
                given = ["--weights", folder / "given.safetensors"]
            call(options.archc, "export", spec, "--to", "pytorch", "--output", out, *given)
            net, _ = module(out)
            with torch.no_grad():
                y = net(*[tensor(x).float() for x in batched])
            wanted = tensor(case["output"])
            error = ((y - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30)).item()
            # in float32, against values of float64 that some cases make hard to reach
            if y.shape != wanted.shape or not error <= 10 * LIMIT:
                raise Failure(f"{list(y.shape)} for {list(wanted.shape)}, the difference is {error:.1e}")
            tried.add(case["op"])
        except Exception as error:
            failed.append(name)
            print(f"{name}: {str(error)[:300]}\n    {'; '.join(lines)}", flush=True)
    print(f"{len(cases) - left - len(failed)} of {len(cases) - left} cases of {len(tried)} ops; {left} are no networks")
    return len(failed)


def train(options):
    """Steps in PyTorch against the losses of train_small.json, which archc's trainer is held to."""
    here, folder = ROOT / "tests/reference", pathlib.Path(options.folder)
    data = load_file(here / "train_small.safetensors")
    goldens = json.loads((here / "train_small.json").read_text())
    spec = folder / "small.arch"
    cases = {
        "sgd": (lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=1e-3), 6),
        # frozen until the second epoch has ended
        "adam thaw": (lambda p: torch.optim.Adam(p, 0.01), 2),
    }
    failed = 0
    for name, (make, steps) in cases.items():
        golden = goldens[name]
        spec.write_text((here / "train_small.arch").read_text() + golden.get("freeze", "") + "\n")
        call(options.archc, "export", spec, "--to", "pytorch", "--output", folder / "small.py")
        net, _ = module(folder / "small.py")
        net = net.double().train()
        optimizer = make([p for p in net.parameters() if p.requires_grad])
        worst = 0.0
        for step in range(steps):
            part = slice(step * 6, (step + 1) * 6)
            loss = torch.nn.functional.cross_entropy(net(data["image"][part].double()), data["label"][part].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            worst = max(worst, abs(loss.item() / golden["losses"][step] - 1))
        failed += worst > 1e-5
        print(f"{name}: {steps} steps, the losses differ by {worst:.1e} at most")
    return failed


def zoo(archc):
    """The networks of the zoo, the smallest first."""
    sizes = json.loads((ROOT / "tests/reference/zoo.json").read_text())
    entries = sizes if isinstance(sizes, list) else sizes.get("networks", sizes)
    pairs = [(e["name"], e) for e in entries] if isinstance(entries, list) else list(entries.items())
    return [name for name, entry in sorted(pairs, key=lambda pair: (pair[1]["macs"], pair[0]))]


def family(name):
    return re.match(r"[a-z]+", name)[0]


def examples():
    specs = sorted((ROOT / "examples").glob("*.arch"))
    specs += sorted((ROOT / "tests/reference/branches").glob("*.arch")) + sorted((ROOT / "tests/reference/blocks").glob("*.arch"))
    return [path for path in specs]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--archc", default=str(ROOT / "target/debug/archc"))
    parser.add_argument("--folder", help="keep what is written in this folder")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--capture", action="store_true", help="every network through torch.export and torch.compile")
    parser.add_argument("--ops", action="store_true", help="the golden cases of ops.json")
    parser.add_argument("--train", action="store_true", help="steps of training, against train_small.json")
    parser.add_argument("--until", type=float, default=1e12, help="stop after so many seconds")
    options = parser.parse_args()
    temporary = tempfile.TemporaryDirectory()
    options.folder = options.folder or temporary.name
    pathlib.Path(options.folder).mkdir(parents=True, exist_ok=True)
    if options.ops or options.train:
        sys.exit((ops(options) if options.ops else 0) + (train(options) if options.train else 0) > 0)
    names = list(options.names)
    if options.all:
        networks = zoo(options.archc)
        first = {}
        for name in networks:
            first.setdefault(family(name), name)
        smallest = list(first.values())
        names += smallest + [str(path.relative_to(ROOT)) for path in examples()]
        names += [name for name in networks if name not in smallest]
    table = {entry["name"]: entry for entry in json.loads(TABLE.read_text())} if TABLE.exists() else {}
    start, tried, failed = time.monotonic(), 0, 0
    for name in names:
        if time.monotonic() - start > options.until:
            break
        tried += 1
        if name.endswith(".arch"):
            spec = ROOT / name
        else:
            spec = pathlib.Path(options.folder) / f"{name}.arch"
            spec.write_text(f"base {name}\n")
        try:
            entry = compare(options, name, spec)
            print(f"{name}: {entry['error']:.1e}, {entry['lines']} lines", flush=True)
        except Exception as error:
            failed += 1
            text = f"{type(error).__name__}: {error}" if not isinstance(error, Failure) else str(error)
            entry = {"name": name, "failed": text.splitlines()[0][:200]}
            print(f"{name}: {text[:600]}", flush=True)
        table[name] = entry
    if options.all or options.names:
        entries = [table[name] for name in sorted(table)]
        TABLE.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n")
    print(f"{tried - failed} of {tried}, {len(names) - tried} not tried")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
