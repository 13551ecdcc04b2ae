"""`swin_t` as a module of PyTorch, written by archc from swin_t.arch.

Its tensors have the keys of the safetensors file:

    net = SwinT()
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
        picture = v2.Resize(232, v2.InterpolationMode.BICUBIC)(picture)
        picture = v2.CenterCrop((224, 224))(picture)
    image = v2.ToDtype(torch.float32, scale=True)(v2.ToImage()(picture))
    return v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])(image)[None]


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


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask=None, dropout=0.0, scale=None) -> Tensor:
    """Scaled dot-product attention of heads that lie side by side in the last axis."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(-3, -2) for x in (q, k, v))
    x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)
    return x.transpose(-3, -2).flatten(-2)


def window_index(height: int, width: int) -> Tensor:
    """For every two pixels of a window the row of a table of relative positions, [pixels, pixels]."""
    y = torch.arange(height).repeat_interleave(width)
    x = torch.arange(width).repeat(height)
    rows = y[:, None] - y[None, :] + height - 1
    return rows * (2 * width - 1) + x[:, None] - x[None, :] + width - 1


def window_mask(size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """[windows, 1, pixels, pixels]: -100 where two pixels were no neighbours before the image was rolled, else 0."""
    strips = []
    for n, w, s in zip(size, window, shift):
        at = torch.arange(n)
        strips.append((at >= n - w).long() + (at >= n - s).long() if n > w else 0 * at)
    region = 3 * strips[0][:, None] + strips[1][None, :]
    rows, columns = size[0] // window[0], size[1] // window[1]
    region = region.reshape(rows, window[0], columns, window[1]).transpose(1, 2)
    region = region.reshape(rows * columns, window[0] * window[1])
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, -100.0)[:, None]


class WindowAttention(nn.Module):
    """`features[1][0].attn` and 6 others: [N, 56, 56, 96] to [N, 56, 56, 96]."""

    def __init__(self, size: int, size_2: int, size_3: int) -> None:
        super().__init__()
        self.size = size
        self.size_2 = size_2
        self.size_3 = size_3
        self.relative_position_bias_table = nn.Parameter(0.02 * torch.randn(169, size))
        self.register_buffer("relative_position_index", window_index(7, 7).flatten())
        self.qkv = nn.Linear(32 * size, 96 * size)
        self.proj = nn.Linear(32 * size, 32 * size)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relative_position_bias_table[self.relative_position_index]
        y = y.reshape(49, 49, self.size)
        y = y.permute(2, 0, 1)
        x = x.reshape(-1, self.size_2, 7, self.size_2, 7, 32 * self.size)
        x = x.permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, self.size_3, 49, 32 * self.size)
        x = self.qkv(x)
        q, k, v = x.chunk(3, -1)
        x = attention(q, k, v, heads=self.size, mask=y)
        x = self.proj(x)
        x = x.reshape(-1, self.size_2, self.size_2, 7, 7, 32 * self.size)
        x = x.permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, 7 * self.size_2, 7 * self.size_2, 32 * self.size)
        return x


class SwinBlock(nn.Module):
    """`features[1][0]` and 6 others: [N, 56, 56, 96] to [N, 56, 56, 96]."""

    def __init__(self, normalized_shape: int, size_2: int, size_3: int, p: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(normalized_shape)
        self.attn = WindowAttention(normalized_shape // 32, size_2, size_3)
        self.stochastic_depth = StochasticDepth(p)
        self.norm2 = nn.LayerNorm(normalized_shape)
        self.mlp = nn.Sequential(
            nn.Linear(normalized_shape, 4 * normalized_shape),
            nn.GELU(),
            nn.Dropout(0.0),
            nn.Linear(4 * normalized_shape, normalized_shape),
            nn.Dropout(0.0),
        )
        self.stochastic_depth_1 = StochasticDepth(p)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        y = self.attn(y)
        y = self.stochastic_depth(y)
        y = y + x
        x = self.norm2(y)
        x = self.mlp(x)
        x = self.stochastic_depth_1(x)
        x = x + y
        return x


class WindowAttention2(nn.Module):
    """`features[1][1].attn` and 4 others: [N, 56, 56, 96] to [N, 56, 56, 96]."""

    def __init__(self, size: int, window_mask_size: tuple[int, int], size_2: int, size_3: int) -> None:
        super().__init__()
        self.size = size
        self.size_2 = size_2
        self.size_3 = size_3
        self.relative_position_bias_table = nn.Parameter(0.02 * torch.randn(169, size))
        self.register_buffer("relative_position_index", window_index(7, 7).flatten())
        self.qkv = nn.Linear(32 * size, 96 * size)
        self.register_buffer("window_mask", window_mask(window_mask_size, (7, 7), (3, 3)), persistent=False)
        self.proj = nn.Linear(32 * size, 32 * size)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relative_position_bias_table[self.relative_position_index]
        y = y.reshape(49, 49, self.size)
        y = y.permute(2, 0, 1)
        x = torch.roll(x, (-3, -3,), (1, 2,))
        x = x.reshape(-1, self.size_2, 7, self.size_2, 7, 32 * self.size)
        x = x.permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, self.size_3, 49, 32 * self.size)
        x = self.qkv(x)
        q, k, v = x.chunk(3, -1)
        y = y + self.window_mask
        x = attention(q, k, v, heads=self.size, mask=y)
        x = self.proj(x)
        x = x.reshape(-1, self.size_2, self.size_2, 7, 7, 32 * self.size)
        x = x.permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, 7 * self.size_2, 7 * self.size_2, 32 * self.size)
        x = torch.roll(x, (3, 3,), (1, 2,))
        return x


class SwinBlock2(nn.Module):
    """`features[1][1]` and 4 others: [N, 56, 56, 96] to [N, 56, 56, 96]."""

    def __init__(
        self,
        normalized_shape: int,
        window_mask_size: tuple[int, int],
        size_2: int,
        size_3: int,
        p: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(normalized_shape)
        self.attn = WindowAttention2(normalized_shape // 32, window_mask_size, size_2, size_3)
        self.stochastic_depth = StochasticDepth(p)
        self.norm2 = nn.LayerNorm(normalized_shape)
        self.mlp = nn.Sequential(
            nn.Linear(normalized_shape, 4 * normalized_shape),
            nn.GELU(),
            nn.Dropout(0.0),
            nn.Linear(4 * normalized_shape, normalized_shape),
            nn.Dropout(0.0),
        )
        self.stochastic_depth_1 = StochasticDepth(p)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        y = self.attn(y)
        y = self.stochastic_depth(y)
        y = y + x
        x = self.norm2(y)
        x = self.mlp(x)
        x = self.stochastic_depth_1(x)
        x = x + y
        return x


class MergeQuads(nn.Sequential):
    """`features[2].merge_quads` and 2 others: [N, 56, 56, 96] to [N, 28, 28, 384]."""

    def __init__(self, size: int, reshape_size: int) -> None:
        super().__init__(OrderedDict([
            ("reshape", Apply(lambda x: x.reshape(-1, size, 2, size, 2, reshape_size))),
            ("permute", Apply(lambda x: x.permute(0, 1, 3, 4, 2, 5))),
            ("reshape_1", Apply(lambda x: x.reshape(-1, size, size, 4 * reshape_size))),
        ]))


class PatchMerging(nn.Sequential):
    """`features[2]` and 2 others: [N, 56, 56, 96] to [N, 28, 28, 192]."""

    def __init__(self, size: int, reshape_size: int) -> None:
        super().__init__(OrderedDict([
            ("merge_quads", MergeQuads(size, reshape_size)),
            ("norm", nn.LayerNorm(4 * reshape_size)),
            ("reduction", nn.Linear(4 * reshape_size, 2 * reshape_size, bias=False)),
        ]))


class SwinT(nn.Module):
    """swin_t: [N, 3, 224, 224] to [N, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(
                nn.Conv2d(3, 96, 4, stride=4),
                Apply(lambda x: x.permute(0, 2, 3, 1)),
                nn.LayerNorm(96),
            ),
            nn.Sequential(SwinBlock(96, 8, 64, 0.0), SwinBlock2(96, (56, 56), 8, 64, 0.018181818181818184)),
            PatchMerging(28, 96),
            nn.Sequential(
                SwinBlock(192, 4, 16, 0.03636363636363637),
                SwinBlock2(192, (28, 28), 4, 16, 0.05454545454545456),
            ),
            PatchMerging(14, 192),
            nn.Sequential(
                SwinBlock(384, 2, 4, 0.07272727272727274),
                SwinBlock2(384, (14, 14), 2, 4, 0.09090909090909091),
                SwinBlock(384, 2, 4, 0.10909090909090911),
                SwinBlock2(384, (14, 14), 2, 4, 0.1272727272727273),
                SwinBlock(384, 2, 4, 0.14545454545454548),
                SwinBlock2(384, (14, 14), 2, 4, 0.16363636363636364),
            ),
            PatchMerging(7, 384),
            nn.Sequential(SwinBlock(768, 1, 1, 0.18181818181818182), SwinBlock(768, 1, 1, 0.2)),
        )
        self.norm = nn.LayerNorm(768)
        self.head = nn.Linear(768, 1000)

    def forward(self, image: Tensor) -> Tensor:
        x = self.features(image)  # [N, 7, 7, 768]
        x = self.norm(x)  # [N, 7, 7, 768]
        x = x.permute(0, 3, 1, 2)  # [N, 768, 7, 7]
        x = F.adaptive_avg_pool2d(x, 1)  # [N, 768, 1, 1]
        x = torch.flatten(x, 1)  # [N, 768]
        x = self.head(x)  # [N, 1000]
        return x
