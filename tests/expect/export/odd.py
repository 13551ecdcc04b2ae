"""`odd` as a module of PyTorch, written by archc from odd.arch.

Its tensors have the keys of the safetensors file:

    net = Odd()
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


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class StochasticDepth(nn.Module):
    """In training, samples are zeroed with probability p and the others divided by 1 - p."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        return x * F.dropout(x.new_ones([x.shape[0]] + [1] * (x.dim() - 1)), self.p, True)


class AlwaysDropout(nn.Module):
    """Dropout that draws at inference too, there one draw for the whole batch; the last `axes` share a draw."""

    def __init__(self, p: float, axes: int = 0) -> None:
        super().__init__()
        self.p = p
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0] if self.training else 1
        shape = [rows, *x.shape[1 : x.dim() - self.axes]] + [1] * self.axes
        return x * F.dropout(x.new_ones(shape), self.p, True)


class Conv2dSame(nn.Conv2d):
    """A convolution that pads as TensorFlow does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, self.kernel_size, self.stride, self.dilation))


def pad_same(x: Tensor, kernel, stride, dilation) -> Tensor:
    """Zeros around an image as TensorFlow puts them: the odd pixel goes right and below."""
    axes = len(kernel)
    stride = (stride,) * axes if isinstance(stride, int) else stride
    dilation = (dilation,) * axes if isinstance(dilation, int) else dilation
    pads: list[int] = []
    for size, k, s, d in zip(x.shape[-axes:], kernel, stride, dilation):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads)


class Gate(nn.Module):
    """`0[0]` and another one: [N, 8, 10, 9] to [N, 8, 10, 9]."""

    def __init__(self, out_channels: int, number: float = 0.25) -> None:
        super().__init__()
        self.number = number
        self.squeeze = nn.Conv2d(8, out_channels, 1)
        self.expand = nn.Conv2d(out_channels, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.squeeze(x)
        y = F.relu(y)
        y = self.expand(y)  # [N, 8, 10, 9]
        y = torch.sigmoid(y)  # [N, 8, 10, 9]
        x = x * y  # [N, 8, 10, 9]
        x = x + self.number  # [N, 8, 10, 9]
        return x


class Odd(nn.Module):
    """odd: [N, 3, 20, 17], [N, 4] to [N, 3], [N, 8, 10, 9]."""

    # no gradient, and nothing in them changes in training
    frozen = ("class", "train")

    def __init__(self) -> None:
        super().__init__()
        self._modules["class"] = Conv2dSame(3, 8, 3, stride=2, bias=False)
        self._modules["train"] = nn.BatchNorm2d(8)
        self.add_module("0", nn.Sequential(
            Gate(2, number=0.5),
            Gate(4),
            nn.ReLU(),
            Apply(lambda x: x.permute(0, 2, 3, 1)),
            Apply(lambda x: x.permute(0, 3, 1, 2)),
        ))
        self._modules["q v"] = nn.Conv2d(8, 8, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.mlp = nn.Sequential(nn.Conv2d(8, 4, 1), nn.Hardswish(), nn.Conv2d(4, 8, 1))
        self.dropout = AlwaysDropout(0.1)
        self.a = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())
        self.pooled = nn.Sequential(Apply(lambda x: x.mean((-2, -1))), nn.Dropout(0.2))
        self.linear = nn.Linear(4, 8)
        self.inner = nn.Sequential(nn.Linear(12, 12), nn.GELU(approximate="tanh"), StochasticDepth(0.1))
        self.fc = nn.Linear(12, 3)  # odd.arch:34: replace fc with same(out = 3)
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

    def forward(self, image: Tensor, lambda_: Tensor) -> dict[str, Tensor]:
        x = self._modules["class"](image)  # [N, 8, 10, 9]
        x = self._modules["train"](x)  # [N, 8, 10, 9]
        x = getattr(self, "0")(x)  # [N, 8, 10, 9]
        x = self._modules["q v"](x)  # [N, 8, 10, 9]
        y = x * self.scale  # [N, 8, 10, 9]
        x = self.mlp(x)  # [N, 8, 10, 9]
        y = self.mlp(y)  # [N, 8, 10, 9]
        y = y + x  # [N, 8, 10, 9]
        y = self.dropout(y)  # [N, 8, 10, 9]
        y = self.a(y)  # [N, 8, 10, 9]
        x, z = y.chunk(2, 1)  # [N, 4, 10, 9]
        x = x + z  # [N, 4, 10, 9]
        x = self.pooled(x)  # [N, 4]
        z = self.linear(lambda_)  # [N, 8]
        x = torch.cat((x, z), 1)  # [N, 12]
        z = self.inner(x)  # [N, 12]
        z = z + x  # [N, 12]
        z = self.fc(z)  # [N, 3]
        return {"output": z, "early": y}
