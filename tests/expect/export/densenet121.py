"""`densenet121` as a module of PyTorch, written by archc from densenet121.arch.

Its tensors have the keys of the safetensors file:

    net = Densenet121()
    net.load_state_dict(load_weights("net.safetensors"))
    net.eval()
"""

import json
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def load_weights(file: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, as `load_state_dict` takes them."""
    with open(file, "rb") as data:
        header = json.loads(data.read(int.from_bytes(data.read(8), "little")))
        values = bytearray(data.read())
    header.pop("__metadata__", None)
    dtypes = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
    tensors = {}
    for key, entry in header.items():
        dtype, shape, (start, end) = dtypes[entry["dtype"]], entry["shape"], entry["data_offsets"]
        count = (end - start) // dtype.itemsize
        tensors[key] = torch.frombuffer(values, dtype=dtype, count=count, offset=start).reshape(shape)
    return tensors


def preprocess(picture) -> Tensor:
    """A picture of PIL as the network takes it, [1, 3, 224, 224]."""
    from torchvision.transforms import v2

    picture = picture.convert("RGB")
    if picture.size != (224, 224):
        picture = v2.Resize(256, v2.InterpolationMode.BILINEAR)(picture)
        picture = v2.CenterCrop((224, 224))(picture)
    image = v2.ToDtype(torch.float32, scale=True)(v2.ToImage()(picture))
    return v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])(image)[None]


class DenseLayer(nn.Sequential):
    """`features.denseblock1.denselayer1` and 57 others: [N, 64, 56, 56] to [N, 32, 56, 56]."""

    def __init__(self, num_features: int) -> None:
        super().__init__(OrderedDict([
            ("norm1", nn.BatchNorm2d(num_features)),
            ("relu1", nn.ReLU()),
            ("conv1", nn.Conv2d(num_features, 128, 1, bias=False)),
            ("norm2", nn.BatchNorm2d(128)),
            ("relu2", nn.ReLU()),
            ("conv2", nn.Conv2d(128, 32, 3, padding=1, bias=False)),
        ]))


class Denseblock(nn.Module):
    """`features.denseblock1`: [N, 64, 56, 56] to [N, 256, 56, 56]."""

    def __init__(self) -> None:
        super().__init__()
        self.denselayer1 = DenseLayer(64)
        self.denselayer2 = DenseLayer(96)
        self.denselayer3 = DenseLayer(128)
        self.denselayer4 = DenseLayer(160)
        self.denselayer5 = DenseLayer(192)
        self.denselayer6 = DenseLayer(224)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, 7):
            y = getattr(self, f"denselayer{i}")(x)
            x = torch.cat((x, y), 1)
        return x


class Transition(nn.Sequential):
    """`features.transition1` and 2 others: [N, 256, 56, 56] to [N, 128, 28, 28]."""

    def __init__(self, num_features: int) -> None:
        super().__init__(OrderedDict([
            ("norm", nn.BatchNorm2d(num_features)),
            ("relu", nn.ReLU()),
            ("conv", nn.Conv2d(num_features, num_features // 2, 1, bias=False)),
            ("pool", nn.AvgPool2d(2)),
        ]))


class Denseblock2(nn.Module):
    """`features.denseblock2`: [N, 128, 28, 28] to [N, 512, 28, 28]."""

    def __init__(self) -> None:
        super().__init__()
        self.denselayer1 = DenseLayer(128)
        self.denselayer2 = DenseLayer(160)
        self.denselayer3 = DenseLayer(192)
        self.denselayer4 = DenseLayer(224)
        self.denselayer5 = DenseLayer(256)
        self.denselayer6 = DenseLayer(288)
        self.denselayer7 = DenseLayer(320)
        self.denselayer8 = DenseLayer(352)
        self.denselayer9 = DenseLayer(384)
        self.denselayer10 = DenseLayer(416)
        self.denselayer11 = DenseLayer(448)
        self.denselayer12 = DenseLayer(480)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, 13):
            y = getattr(self, f"denselayer{i}")(x)
            x = torch.cat((x, y), 1)
        return x


class Denseblock3(nn.Module):
    """`features.denseblock3`: [N, 256, 14, 14] to [N, 1024, 14, 14]."""

    def __init__(self) -> None:
        super().__init__()
        self.denselayer1 = DenseLayer(256)
        self.denselayer2 = DenseLayer(288)
        self.denselayer3 = DenseLayer(320)
        self.denselayer4 = DenseLayer(352)
        self.denselayer5 = DenseLayer(384)
        self.denselayer6 = DenseLayer(416)
        self.denselayer7 = DenseLayer(448)
        self.denselayer8 = DenseLayer(480)
        self.denselayer9 = DenseLayer(512)
        self.denselayer10 = DenseLayer(544)
        self.denselayer11 = DenseLayer(576)
        self.denselayer12 = DenseLayer(608)
        self.denselayer13 = DenseLayer(640)
        self.denselayer14 = DenseLayer(672)
        self.denselayer15 = DenseLayer(704)
        self.denselayer16 = DenseLayer(736)
        self.denselayer17 = DenseLayer(768)
        self.denselayer18 = DenseLayer(800)
        self.denselayer19 = DenseLayer(832)
        self.denselayer20 = DenseLayer(864)
        self.denselayer21 = DenseLayer(896)
        self.denselayer22 = DenseLayer(928)
        self.denselayer23 = DenseLayer(960)
        self.denselayer24 = DenseLayer(992)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, 25):
            y = getattr(self, f"denselayer{i}")(x)
            x = torch.cat((x, y), 1)
        return x


class Denseblock4(nn.Module):
    """`features.denseblock4`: [N, 512, 7, 7] to [N, 1024, 7, 7]."""

    def __init__(self) -> None:
        super().__init__()
        self.denselayer1 = DenseLayer(512)
        self.denselayer2 = DenseLayer(544)
        self.denselayer3 = DenseLayer(576)
        self.denselayer4 = DenseLayer(608)
        self.denselayer5 = DenseLayer(640)
        self.denselayer6 = DenseLayer(672)
        self.denselayer7 = DenseLayer(704)
        self.denselayer8 = DenseLayer(736)
        self.denselayer9 = DenseLayer(768)
        self.denselayer10 = DenseLayer(800)
        self.denselayer11 = DenseLayer(832)
        self.denselayer12 = DenseLayer(864)
        self.denselayer13 = DenseLayer(896)
        self.denselayer14 = DenseLayer(928)
        self.denselayer15 = DenseLayer(960)
        self.denselayer16 = DenseLayer(992)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, 17):
            y = getattr(self, f"denselayer{i}")(x)
            x = torch.cat((x, y), 1)
        return x


class Densenet121(nn.Module):
    """densenet121: [N, 3, 224, 224] to [N, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(OrderedDict([
            ("conv0", nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)),
            ("norm0", nn.BatchNorm2d(64)),
            ("relu0", nn.ReLU()),
            ("pool0", nn.MaxPool2d(3, stride=2, padding=1)),
            ("denseblock1", Denseblock()),
            ("transition1", Transition(256)),
            ("denseblock2", Denseblock2()),
            ("transition2", Transition(512)),
            ("denseblock3", Denseblock3()),
            ("transition3", Transition(1024)),
            ("denseblock4", Denseblock4()),
            ("norm5", nn.BatchNorm2d(1024)),
        ]))
        self.classifier = nn.Linear(1024, 1000)

    def forward(self, image: Tensor) -> Tensor:
        x = self.features(image)  # [N, 1024, 7, 7]
        x = F.relu(x)  # [N, 1024, 7, 7]
        x = x.mean((-2, -1))  # [N, 1024]
        x = self.classifier(x)  # [N, 1000]
        return x
