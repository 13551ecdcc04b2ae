"""Exports networks as ONNX and compares ONNX Runtime, and OpenVINO where it is there, with archc.

    python tests/reference/to_onnx.py --ops [--opset 13,17,20,23]    every op of the samples that backends are tested on
    python tests/reference/to_onnx.py [NETWORK ..]                   the smallest member of each family of the zoo, and the examples
    python tests/reference/to_onnx.py --pictures                     networks that prepare pictures themselves

Each file passes `onnx.checker.check_model(full_check=True)` and runs with batches of 1 and 3. The largest difference, where the largest
value of an output is 1, is at most 1e-4 (1e-2 of a picture that is resized: 8-bit pixels are rounded twice there). Results go to
onnx.json. The file is not called onnx.py, which would be the package to whoever imports it from here.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from safetensors.numpy import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 1e-4
FAMILIES = """squeezenet1_1 shufflenet_v2_x0_5 mnasnet0_5 mobilenet_v3_small mobilenet_v2 ghostnet_050 repghostnet_050 regnet_x_400mf regnet_y_400mf
efficientnet_b0 tf_efficientnet_lite0 googlenet densenet121 resnet18 resnet50 repvgg_a0 convnext_atto efficientnet_v2_s inception_v3 swin_t
swin_v2_t maxvit_t vit_b_16 alexnet vgg11 lraspp_mobilenet_v3_large deeplabv3_mobilenet_v3_large mixnet_s skresnet18 sequencer2d_s""".split()


class Failure(Exception):
    pass


def call(archc, *arguments):
    done = subprocess.run([archc, *map(str, arguments)], capture_output=True, text=True, timeout=1800)
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise Failure(f"archc {arguments[0]} exits {done.returncode}: " + " | ".join(lines[:4])[:300])
    return done.stdout


def relative(wanted, got):
    if wanted.shape != got.shape:
        raise Failure(f"{got.shape} instead of {wanted.shape}")
    if (numpy.isnan(wanted) != numpy.isnan(got)).any():
        return float("inf")
    scale = numpy.nanmax(numpy.abs(wanted)) if wanted.size else 0
    return float(numpy.nanmax(numpy.abs(wanted - got)) / max(scale, 1e-30)) if wanted.size else 0.0


def run_openvino(path, inputs):
    import openvino

    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    model = core.compile_model(core.read_model(str(path)), "CPU")
    names = [output.get_any_name() for output in model.outputs]
    results = model(dict(inputs))
    return {name: results[at] for at, name in enumerate(names)}


def compare(archc, spec, folder, options=(), engines=("onnxruntime",), batches=(1, 3), positive=False, weights=()):
    """Exports a spec; the largest difference by engine."""
    path = folder / (spec.stem + ".onnx")
    call(archc, "export", spec, "--to", "onnx", "--out", path, *weights, *options)
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = {}
    for batch in batches:
        random = numpy.random.default_rng(batch)
        shapes = {value.name: [batch if axis == "N" else axis for axis in value.shape] for value in session.get_inputs()}
        inputs = {name: random.standard_normal(shape).astype(numpy.float32) for name, shape in shapes.items()}
        save_file(inputs, folder / "x.safetensors")
        call(archc, "run", spec, *weights, "--device", "cpu", "--exact", "--batch", batch, "--input", folder / "x.safetensors", "--output", folder / "y.safetensors")
        wanted = load_file(folder / "y.safetensors")
        for engine in engines:
            if engine == "onnxruntime":
                names = [value.name for value in session.get_outputs()]
                got = dict(zip(names, session.run(names, inputs)))
            else:
                got = run_openvino(path, inputs)
            for name, value in wanted.items():
                error = relative(value, got[name])
                worst[engine] = max(worst.get(engine, 0.0), error)
                if not error <= LIMIT:
                    raise Failure(f"{engine}, batch {batch}: `{name}` is off by {error:.1e}")
    return worst


def samples():
    """The calls that every backend is tested on, as specs."""
    text = (ROOT / "src/exec/testing.rs").read_text()
    table = text[text.index("pub const SAMPLES") : text.index("/// Networks of a sample")]
    joins = "add mul sub div maximum minimum concat matmul gather linear_with conv2d_with attention lstm_scan".split()
    for op, operands in re.findall(r'\("(.*?)", &\[(.*?)\]\),', table):
        operands = re.findall(r'"(.*?)"', operands)
        inputs, values = [], []
        for at, operand in enumerate(operands):
            sizes = operand.lstrip("p+")[1:-1]
            if operand.startswith("p"):
                values.append(f"p{at}: parameter([{sizes}], init = normal(0.5))")
                name = f"p{at}"
            else:
                inputs.append(f"input v{at}: [N, {sizes}]")
                name = f"v{at}"
            operands[at] = f"({name} -> exp)" if operand.startswith("+") else name
        name, _, arguments = op.partition("(")
        arguments = arguments[:-1] if arguments else ""
        if not inputs:
            inputs = ["input zero: [N, 1]"]
        if name in joins and len(operands) > 1:
            if re.match(r"[-\d]", arguments):
                continue
            step = f"{name}({', '.join(operands)}{', ' + arguments if arguments else ''})"
        elif not operands:
            step = f"c: {op}"
        else:
            step = f"{operands[0]} -> {op}"
        if name == "gather":
            values = ["p0: parameter([5, 3], init = normal(0.5))", "p1: constant([2, 0, 4, 1])"]
            step = "gather(p0, p1)"
        if "always" in op:
            continue
        yield op, inputs, values, step


def spec_of(folder, at, inputs, values, step):
    body = "\n    ".join([*inputs, *values])
    is_constant = not re.search(r"\bv\d", step)
    sample = next(match[1] for line in inputs if (match := re.match(r"input (\w+)", line)))
    # what no sample goes into is added to one of them
    result = f"let y = {step}\n    {sample} -> flatten -> mean(1, keep = true) -> z: mul(0.0)" if is_constant else step
    if is_constant:
        step = step.removeprefix("c: ")
        result = f"let y = {step}\n    let flat = y -> reshape(1, -1)\n    let one = {sample} -> reshape(-1) -> mean(1, keep = true)\n    one * 0.5 + flat"
    path = folder / f"op{at}.arch"
    path.write_text(f"archc 1\nnetwork t() {{\n    {body}\n    {result}\n}}\nbase t\n")
    return path


def ops(options):
    failed, passed = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for at, (op, inputs, values, step) in enumerate(samples()):
            if options.names and not any(op.startswith(name) for name in options.names):
                continue
            spec = spec_of(folder, at, inputs, values, step)
            for opset in options.opset:
                try:
                    compare(options.archc, spec, folder, ["--opset", opset], options.engines)
                    passed += 1
                except Exception as failure:
                    failed.append(f"{op} at {opset}: {str(failure)[:400]}")
                    print(failed[-1], spec.read_text().splitlines()[2:-2], flush=True)
    print(f"{passed} passed, {len(failed)} failed")
    return not failed


def networks(options):
    path = pathlib.Path(__file__).with_name("onnx.json")
    table = json.loads(path.read_text()) if path.exists() else {}
    table.setdefault("networks", {})
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for network in options.names or FAMILIES:
            if network.endswith(".arch"):
                spec = pathlib.Path(network).resolve()
            else:
                spec = folder / f"{network}.arch"
                spec.write_text(f"archc 1\nbase {network}\n")
            try:
                worst = compare(options.archc, spec, folder, options.options, options.engines)
                table["networks"][spec.stem] = {engine: float(f"{error:.1e}") for engine, error in worst.items()}
                print(spec.stem, table["networks"][spec.stem], flush=True)
            except Exception as failure:
                good = False
                print(f"{spec.stem}: {str(failure)[:600]}", flush=True)
            for file in folder.glob("*.onnx*"):
                file.unlink()
            if not options.options:
                path.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    return good


def pictures(options):
    """Pictures of several sizes, prepared by archc and inside of the network."""
    from PIL import Image

    text = """archc 1
network t() {
    input image: [N, %d, 40, 48]
    identity
}
base t { preprocess { %s } }
"""
    cases = [(3, "resize = 52, interpolation = bilinear, mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225]"), (3, "resize = 45, interpolation = bicubic"), (3, "resize = (70, 44)"), (3, ""), (1, "resize = 50, mean = 0.5, std = 0.25"), (3, "resize = 30")]
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for at, (channels, lines) in enumerate(cases):
            spec = folder / f"case{at}.arch"
            spec.write_text(text % (channels, lines))
            path = folder / f"case{at}.onnx"
            call(options.archc, "export", spec, "--to", "onnx", "--out", path, "--with-preprocess")
            onnx.checker.check_model(str(path), full_check=True)
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            for size in [(97, 131), (131, 97), (40, 48), (48, 40), (64, 64), (33, 39), (200, 301)]:
                random = numpy.random.default_rng(size[0])
                small = random.integers(0, 256, (size[0] // 6 + 2, size[1] // 6 + 2, 3), dtype=numpy.uint8)
                picture = Image.fromarray(small).resize((size[1], size[0]), Image.BICUBIC)
                picture.save(folder / "p.png")
                call(options.archc, "run", spec, "--device", "cpu", "--input", folder / "p.png", "--output", folder / "y.safetensors")
                wanted = load_file(folder / "y.safetensors")["output"]
                (got,) = session.run(None, {"image": numpy.asarray(picture)[None]})
                if wanted.shape != got.shape:
                    raise Failure(f"{got.shape} instead of {wanted.shape}")
                error = relative(wanted, got)
                print(at, lines, size, f"{error:.1e}", flush=True)
                good &= error <= 1e-2
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--archc", default=str(ROOT / "target/debug/archc"))
    parser.add_argument("--ops", action="store_true")
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--opset", default="13,17,20,23", type=lambda text: [int(one) for one in text.split(",")])
    parser.add_argument("--engines", default="onnxruntime,openvino", type=lambda text: text.split(","))
    parser.add_argument("--options", default="", type=str.split, help="more options of `archc export`: --options='--fold'")
    options = parser.parse_args()
    good = ops(options) if options.ops else pictures(options) if options.pictures else networks(options)
    sys.exit(0 if good else 1)


main()
