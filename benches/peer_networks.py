"""Prepares a network of peers.py: `python peer_networks.py NAME FOLDER` writes NAME.onnx for the peers, NAME.arch and
NAME.safetensors for archc, an input of two images and PyTorch's output for it in float64."""

import pathlib
import sys
import warnings

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/reference"))

import article  # noqa: E402
import harness  # noqa: E402
import networks  # noqa: E402


class EditedResNet(article.HeadResNet):
    """edited_resnet50.arch by hand."""

    def __init__(self):
        super().__init__()
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            layer[-1].__class__ = article.SEBottleneck
            layer[-1].se = article.SE(layer[-1].bn3.num_features)


def main(name, folder):
    folder = pathlib.Path(folder)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 224, 224)
    spec = f"archc 1\nbase {name}\n"
    if name == "edited_resnet50":
        module, spec = EditedResNet().eval(), (HERE / "edited_resnet50.arch").read_text()
    else:
        module = networks.make(name)
    harness.fit(module, x)
    (folder / f"{name}.arch").write_text(spec)
    harness.save(module, folder / f"{name}.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (x,),
            str(folder / f"{name}.onnx"),
            input_names=["image"],
            output_names=["output"],
            dynamic_axes={"image": {0: "batch"}, "output": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    exact, own = harness.reference(module, x)
    np.save(folder / f"{name}.x.npy", x.numpy())
    np.save(folder / f"{name}.exact.npy", exact.numpy())
    (folder / f"{name}.done").write_text(f"{own}\n")
    print(f"{name}: prepared, PyTorch's own float32 error is {own:.1e}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
