"""Exports networks by both of PyTorch's exporters of ONNX, imports them with archc, and compares with PyTorch.

    python tests/reference/from_onnx.py [NAME ..]    of torchvision and timm; writes onnx.json
    python tests/reference/from_onnx.py --small      writes the small files in onnx/ that the tests read

Networks, weights, inputs and the comparison are those of import.py.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys
import warnings

import numpy
import onnx
import torch

ROOT = pathlib.Path(__file__).resolve().parent
LIMIT = 1e-4
spec = importlib.util.spec_from_file_location("importing", ROOT / "import.py")
importing = importlib.util.module_from_spec(spec)
spec.loader.exec_module(importing)
NAMES = """resnet18 resnet50 mobilenet_v2 mobilenet_v3_small shufflenet_v2_x0_5 squeezenet1_1 mnasnet0_5 densenet121 googlenet inception_v3
efficientnet_b0 regnet_y_400mf alexnet vgg11_bn convnext_tiny vit_b_16 swin_t swin_v2_t maxvit_t lraspp_mobilenet_v3_large
timm/vit_tiny_patch16_224 timm/deit_tiny_distilled_patch16_224 timm/mixer_s32_224 timm/resmlp_12_224 timm/convnext_atto timm/ghostnet_050
timm/repvgg_a0 timm/tf_efficientnet_lite0 timm/levit_128s timm/xcit_nano_12_p16_224 timm/poolformer_s12 timm/mobilevit_xxs""".split()


def export(model, x, path, dynamo):
    if dynamo:
        batch = torch.export.Dim("batch")
        torch.onnx.export(model, (x,), str(path), dynamo=True, external_data=False, dynamic_shapes=({0: batch},), verbose=False)
    else:
        torch.onnx.export(model, (x,), str(path), dynamo=False, opset_version=17, input_names=["image"], dynamic_axes={"image": {0: "batch"}})


def slim(path):
    """Takes out of a file what nobody reads and what names this machine."""
    model = onnx.load(str(path))
    model.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        kept = [entry for entry in node.metadata_props if "stack_trace" not in entry.key and "fx_node" not in entry.key]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    onnx.save(model, str(path))


def small():
    """Writes `blocks`, the first of import.py's small networks, whose input and output import.safetensors has."""
    torch.manual_seed(3)
    torch.backends.mha.set_fastpath_enabled(False)
    (ROOT / "onnx").mkdir(exist_ok=True)
    model, size, _ = importing.small_networks()["blocks"]
    model = model.eval()
    importing.draw(model)
    x = torch.randn(3, *size)
    for kind in ("dynamo", "script"):
        path = ROOT / "onnx" / f"blocks-{kind}.onnx"
        export(model, x[:2].clone(), path, kind == "dynamo")
        slim(path)


def compare(name, folder, archc, dynamo):
    import re
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    model, size = importing.make(name)
    importing.draw(model)
    x = torch.randn((3, *size), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = model(x)
    wanted = next(iter(wanted.values())) if isinstance(wanted, dict) else wanted
    file = lambda ending: folder / f"net.{ending}"
    export(model, x[:2].clone(), file("onnx"), dynamo)

    def call(*arguments):
        done = subprocess.run([archc, *map(str, arguments)], capture_output=True, text=True, timeout=3600)
        if done.returncode != 0:
            raise RuntimeError(" | ".join(line for line in done.stderr.splitlines() if line.strip())[:900])

    call("import", file("onnx"), "--out", file("arch"))
    text = file("arch").read_text()
    network = re.search(r"^network (\w+)", text, re.M)[1]
    layer = re.search(r"^ +input (?:(\w+): )?\[", text, re.M)
    spec = file("spec.arch")
    spec.write_text(f'use "net.arch"\nbase {network} {{ weights "net.safetensors" }}\n')
    save_file({layer[1] or "image": x}, file("x.safetensors"))
    call("run", spec, "--input", file("x.safetensors"), "--output", file("y.safetensors"), "--exact", "--device", "cpu")
    got = load_file(file("y.safetensors"))["output"].double()
    error = ((got - wanted.double()).abs().max() / wanted.double().abs().max()).item()
    state = {key: list(value.shape) for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    with safe_open(file("safetensors"), "pt") as tensors:
        ours = {key: list(tensors.get_slice(key).get_shape()) for key in tensors.keys()}
    missing = [key for key in state if ours.get(key) != state[key]]
    row = {"lines": len(text.splitlines()), "tensors": len(state), "missing": len(missing), "error": float(f"{error:.1e}")}
    return row


def main():
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--archc", default=str(ROOT.parents[1] / "target/debug/archc"))
    parser.add_argument("--kinds", default="dynamo,script", type=lambda text: text.split(","))
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if options.small:
        return small()
    path = ROOT / "onnx.json"
    good = 0
    names = options.names or NAMES
    for name in names:
        for kind in options.kinds:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    row = compare(name, pathlib.Path(folder), options.archc, kind == "dynamo")
                    ok = row["error"] <= LIMIT
                except Exception as error:
                    row, ok = {"failed": f"{type(error).__name__}: {error}"[:900]}, False
            good += ok
            print("good" if ok else "BAD ", name, kind, row, flush=True)
            table = json.loads(path.read_text()) if path.exists() else {}
            table.setdefault("imported", {}).setdefault(name, {})[kind] = row
            path.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    print(f"{good} of {len(names) * len(options.kinds)}")
    return good < len(names) * len(options.kinds)


if __name__ == "__main__":
    sys.exit(main())
