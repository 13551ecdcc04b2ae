"""`resnet50` as a module of PyTorch, written by archc from resnet50.arch.

Its tensors have the keys of the safetensors file:

    net = Resnet50()
    net.load_state_dict(load_weights("net.safetensors"))
    net.eval()
"""

import json

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


class Bottleneck(nn.Module):
    """`layer1[0]` and 3 others: [N, 64, 56, 56] to [N, 256, 56, 56]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv3 = nn.Conv2d(out_channels, 4 * out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * out_channels)
        self.downsample = nn.Sequential(
            nn.Conv2d(in_channels, 4 * out_channels, 1, stride=stride, bias=False),
            nn.BatchNorm2d(4 * out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        y = self.bn1(y)
        y = F.relu(y)
        y = self.conv2(y)
        y = self.bn2(y)
        y = F.relu(y)
        y = self.conv3(y)
        y = self.bn3(y)
        x = self.downsample(x)
        y = y + x
        y = F.relu(y)
        return y


class Bottleneck2(nn.Module):
    """`layer1[1]` and 10 others: [N, 256, 56, 56] to [N, 256, 56, 56]."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels // 4, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels // 4)
        self.conv2 = nn.Conv2d(in_channels // 4, in_channels // 4, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(in_channels // 4)
        self.conv3 = nn.Conv2d(in_channels // 4, in_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(in_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        y = self.bn1(y)
        y = F.relu(y)
        y = self.conv2(y)
        y = self.bn2(y)
        y = F.relu(y)
        y = self.conv3(y)
        y = self.bn3(y)
        y = y + x
        y = F.relu(y)
        return y


class Se(nn.Module):
    """`layer3[5].se`: [N, 1024, 14, 14] to [N, 1024, 14, 14].

    resnet50.arch:5: insert se(reduction = 16) at layer3[5]
    """

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(1024, 64)
        self.fc2 = nn.Linear(64, 1024)

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean((-2, -1))  # [N, 1024]
        y = self.fc1(y)  # [N, 64]
        y = F.relu(y)  # [N, 64]
        y = self.fc2(y)  # [N, 1024]
        y = torch.sigmoid(y)  # [N, 1024]
        x = x * y[..., None, None]  # [N, 1024, 14, 14]
        return x


class Bottleneck3(nn.Module):
    """`layer3[5]`: [N, 1024, 14, 14] to [N, 1024, 14, 14]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1024, 256, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(256)
        self.conv2 = nn.Conv2d(256, 256, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(256)
        self.conv3 = nn.Conv2d(256, 1024, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(1024)
        self.se = Se()  # resnet50.arch:5: insert se(reduction = 16) at layer3[5]

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)  # [N, 256, 14, 14]
        y = self.bn1(y)  # [N, 256, 14, 14]
        y = F.relu(y)  # [N, 256, 14, 14]
        y = self.conv2(y)  # [N, 256, 14, 14]
        y = self.bn2(y)  # [N, 256, 14, 14]
        y = F.relu(y)  # [N, 256, 14, 14]
        y = self.conv3(y)  # [N, 1024, 14, 14]
        y = self.bn3(y)  # [N, 1024, 14, 14]
        y = self.se(y)  # [N, 1024, 14, 14]
        y = y + x  # [N, 1024, 14, 14]
        y = F.relu(y)  # [N, 1024, 14, 14]
        return y


class Resnet50(nn.Module):
    """resnet50: [N, 3, 224, 224] to [N, 10]."""

    # no gradient, and nothing in them changes in training
    frozen = ("conv1", "bn1", "layer1")

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Bottleneck(64, 64, stride=1), *(Bottleneck2(256) for _ in range(2)))
        self.layer2 = nn.Sequential(Bottleneck(256, 128), *(Bottleneck2(512) for _ in range(3)))
        self.layer3 = nn.Sequential(
            Bottleneck(512, 256),
            *(Bottleneck2(1024) for _ in range(4)),
            Bottleneck3(),
        )
        self.layer4 = nn.Sequential(Bottleneck(1024, 512), *(Bottleneck2(2048) for _ in range(2)))
        self.fc = nn.Linear(2048, 10)  # resnet50.arch:6: replace fc with linear(10)
        for name, parameter in self.named_parameters():
            if self.is_frozen(name):
                parameter.requires_grad_(False)
        self.train()

    def is_frozen(self, name: str) -> bool:
        """Whether a module, or a tensor, is one of those that are frozen, or lies inside one."""
        return any(name == path or name.startswith(path + ".") for path in self.frozen)

    def train(self, mode: bool = True):
        super().train(mode)
        for name, module in self.named_modules():
            if self.is_frozen(name):
                module.training = False
        return self

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv1(image)  # [N, 64, 112, 112]
        x = self.bn1(x)  # [N, 64, 112, 112]
        x = F.relu(x)  # [N, 64, 112, 112]
        x = F.max_pool2d(x, 3, stride=2, padding=1)  # [N, 64, 56, 56]
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        x = F.adaptive_avg_pool2d(x, 1)  # [N, 2048, 1, 1]
        x = torch.flatten(x, 1)  # [N, 2048]
        x = self.fc(x)  # [N, 10]
        return x
