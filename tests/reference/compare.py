"""Compares archc's networks with torchvision's and timm's, output by output, in float64.

    python tests/reference/compare.py [--archc target/release/archc] [NETWORK ..]

Twice for each network: with weights that archc initialises and exports (PyTorch loads them with all keys matching), and
with PyTorch's, whose batch-norm statistics fit the activations (archc loads them through `weights "file"`).
"""

import json
import pathlib

import harness
import networks


def main():
    options = harness.arguments(__doc__)
    table = harness.Table()
    for name in options.names or networks.NETWORKS:
        bench = harness.Bench(options)  # one a network, so that the weights of all of them are never on the disk at once
        x = networks.noise(name, options.batch, size=options.size)
        module = networks.make(name)
        if options.weights != "torch":
            table.row(name, "archc", lambda: archc_weights(bench, name, module, x))
        if options.weights != "archc":
            error = table.row(name, "torch", lambda: torch_weights(bench, name, x))
            if options.record and error is not None:
                record(name, error)
    table.finish()


def record(name, error):
    path = pathlib.Path(__file__).with_name("zoo.json")
    rows = json.loads(path.read_text())
    rows[name]["error"] = float(f"{error:.1e}")
    networks.write(path, rows)


def archc_weights(bench, name, module, x):
    spec = bench.spec(f"{networks.file_name(name)}.random", bench.base(name, x, "weights random(seed = 0)"))
    state = bench.export(spec)
    keys = harness.load(module, state)
    exact, own = harness.references(module, x)
    got = bench.outputs(spec, {"image": x}, weights=spec.with_suffix(".export.safetensors"))
    return keys, harness.farthest(got, exact), own


def torch_weights(bench, name, x):
    module = harness.fit(networks.make(name), x)
    file = networks.file_name(name)
    spec = bench.spec(f"{file}.file", bench.base(name, x, f'weights "{file}.safetensors"'))
    harness.save(module, bench.folder / f"{file}.safetensors")
    exact, own = harness.references(module, x)
    return len(module.state_dict()), harness.farthest(bench.outputs(spec, {"image": x}), exact), own


if __name__ == "__main__":
    main()
