"""What edits give that make outputs and inputs, or dilate, in PyTorch: writes branches.safetensors for the specs of branches/.

    python tests/reference/branches.py                               writes the file
    python tests/reference/branches.py --archc target/release/archc  compares whole dilated networks instead

A case is called like its spec. `CASE/x/INPUT` are the inputs, `CASE/w/KEY` are the weights of the edited network, `CASE/y/OUTPUT` its
outputs, computed in float64 and stored in float32.
"""

import argparse
import pathlib
import tempfile

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

HERE = pathlib.Path(__file__).parent
TENSORS = {}


class Fcn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.fc = nn.Linear(16, 5)
        self.aux_classifier = FCNHead(16, 3)

    def forward(self, x):
        # the branch is taken at the convolution, before its activation
        x = self.conv2(self.conv1(x).relu())
        return {"output": self.fc(x.relu().mean((2, 3))), "aux_classifier": self.aux_classifier(x)}


class Fpn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.fpn = FeaturePyramidNetwork([8, 16, 24], 12, LastLevelMaxPool())

    def forward(self, x):
        levels = {}
        for name, conv in [("output", self.conv1), ("p1", self.conv2), ("p2", self.conv3)]:
            x = levels[name] = conv(x).relu()
        return self.fpn(levels)


class Blur(nn.Module):
    """The blur pooling of antialiased-cnns: a binomial filter a channel, over a reflected border."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        x = self.conv1(x).relu()
        blurs = {f"blur{size}": blur(x, size, stride) for size, stride in [(1, 2), (2, 2), (3, 2), (4, 2), (5, 1), (7, 3)]}
        return {"output": F.max_pool2d(x, 2), **blurs}


def blur(x, size, stride):
    row = torch.ones(1, dtype=x.dtype)
    for _ in range(size - 1):
        row = F.pad(row, (0, 1)) + F.pad(row, (1, 0))
    kernel = (row[:, None] * row[None, :] / row.sum() ** 2).expand(x.shape[1], 1, size, size)
    before, after = (size - 1) // 2, size // 2
    return F.conv2d(F.pad(x, (before, after, before, after), "reflect"), kernel, stride=stride, groups=x.shape[1])


class TwoInputs(nn.Module):
    """A picture's features beside those of a row of a table."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.linear = nn.Linear(14, 6)
        self.fc = nn.Linear(8 + 6, 5)

    def forward(self, image, meta):
        return self.fc(torch.cat([self.conv1(image).relu().mean((2, 3)), self.linear(meta).relu()], 1))


def dilated(strides_replaced):
    """torchvision's ResNet of bottlenecks, narrow, its last stages made by torchvision's own rule."""
    net = ResNet(Bottleneck, [1, 1, 1, 1])
    net.inplanes = 8
    net.conv1 = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
    net.bn1 = nn.BatchNorm2d(8)
    for stage, replaced in enumerate([False, *strides_replaced]):
        stride = 1 if stage == 0 else 2
        layer = net._make_layer(Bottleneck, 2 * (stage + 1), 2, stride=stride, dilate=replaced)
        setattr(net, f"layer{stage + 1}", layer)
    net.fc = nn.Linear(net.inplanes, 5)
    return net


def case(name, net, **inputs):
    inputs = {key: x.float() for key, x in inputs.items()}
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    with torch.no_grad():
        found = net.double().eval()(*(x.double() for x in inputs.values()))
    found = found if isinstance(found, dict) else {"output": found}
    for key, x in inputs.items():
        TENSORS[f"{name}/x/{key}"] = x.contiguous()
    for key, value in net.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            TENSORS[f"{name}/w/{key}"] = value.float().contiguous()
    for output, value in found.items():
        TENSORS[f"{name}/y/{output}"] = value.float().contiguous()
    print(name, {output: list(value.shape) for output, value in found.items()})


def whole(archc):
    """Dilated networks of the zoo, with archc's weights, against torchvision's and timm's."""
    import harness

    resnet = {8: [False, True, True], 16: [False, False, True]}
    cases = [(f"resnet50 to {n}", models.resnet50(replace_stride_with_dilation=r), "resnet50", n) for n, r in resnet.items()]
    for stride in (8, 16):
        other = timm.create_model("tf_efficientnet_lite0", output_stride=stride)
        cases.append((f"tf_efficientnet_lite0 to {stride}", other, "tf_efficientnet_lite0", stride))
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = harness.Bench(argparse.Namespace(archc=archc, run="--exact", keep=folder, zoo=None))
        for name, other, base, stride in cases:
            spec = bench.spec(f"{base}_{stride}", f"archc 1\nbase {base}\ndilate to {stride}\n")
            missing, unexpected = other.load_state_dict(bench.export(spec), strict=False)
            assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing), (missing, unexpected)
            x = torch.randn(1, 3, 224, 224)
            with torch.no_grad():
                wanted = other.double().eval()(x.double())
            error = harness.relative(bench.run(spec, x), wanted)
            failed += not error <= harness.LIMIT
            print(f"{name:32} relative error {error:.1e}", flush=True)
    raise SystemExit(1 if failed else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archc", help="the binary to compare, instead of writing the file")
    archc = parser.parse_args().archc
    if archc:
        whole(archc)
    torch.manual_seed(0)
    case("fcn_head", Fcn(), image=torch.randn(2, 3, 17, 14))
    case("fpn", Fpn(), image=torch.randn(2, 3, 34, 27))
    case("blur_pool", Blur(), image=torch.randn(2, 3, 11, 13))
    case("two_inputs", TwoInputs(), image=torch.randn(3, 3, 9, 8), meta=torch.randn(3, 14))
    case("dilate_8", dilated([False, True, True]), image=torch.randn(1, 3, 75, 64))
    case("dilate_16", dilated([False, False, True]), image=torch.randn(1, 3, 75, 64))
    save_file(dict(sorted(TENSORS.items())), HERE / "branches.safetensors")


if __name__ == "__main__":
    main()
