"""What blocks of zoo/blocks.arch give in timm and PyTorch: writes blocks.safetensors for the specs of blocks/, as branches.py
does. Of `sequences` there are gradients too, `CASE/g/KEY` and `CASE/g/INPUT`, of the sum of all outputs times `CASE/f/OUTPUT`.

    python tests/reference/blocks.py
"""

import pathlib
from functools import partial

import torch
from safetensors.torch import save_file
from timm.layers import AttentionPoolLatent, LayerNorm, SwiGLU, SwiGLUPacked
from timm.layers.activations import QuickGELU
from timm.layers.grn import GlobalResponseNorm
from torch import nn

from branches import TENSORS, case

HERE = pathlib.Path(__file__).parent


class Transformers(nn.Module):
    """Blocks of tokens, each beside a layer that makes what it takes."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 12)
        self.activation = QuickGELU()
        self.split = SwiGLU(12, 20)
        self.packed = SwiGLUPacked(12, 40)
        norm = partial(LayerNorm, eps=1e-6)
        self.pool = AttentionPoolLatent(12, num_heads=3, mlp_ratio=20 / 12, norm_layer=norm)

    def forward(self, x):
        x = self.fc(x)
        blocks = ["activation", "split", "packed", "pool"]
        return {"output": x, **{name: getattr(self, name)(x) for name in blocks}}


class Responses(nn.Module):
    """The norm of responses, in both layouts."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 1)
        self.first = GlobalResponseNorm(6, channels_last=False)
        self.last = GlobalResponseNorm(6)

    def forward(self, x):
        x = self.conv(x)
        last = x.permute(0, 2, 3, 1)
        return {"output": last, "first": self.first(x), "last": self.last(last)}


class GeM(nn.Module):
    """Radenovic et al. 2018, "Fine-tuning CNN Image Retrieval with No Human Annotation", equation 3."""

    def __init__(self, eps=1e-6):
        super().__init__()
        self.p = nn.Parameter(torch.ones(1))
        self.eps = eps

    def forward(self, x):
        powers = x.clamp(min=self.eps).pow(self.p)
        return nn.functional.adaptive_avg_pool2d(powers, 1).pow(1 / self.p)


class Pools(nn.Module):
    """Blocks of maps."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(5, 12, 1)
        self.sharp = GeM()

    def forward(self, x):
        x = self.conv(x)
        return {"output": x, "sharp": self.sharp(x)}


class Sequences(nn.Module):
    """LSTMs of one and of two layers, in one direction and in both, with projections and without biases."""

    FORMS = {
        "plain": {"hidden_size": 5},
        "deep": {"hidden_size": 7, "num_layers": 2},
        "both": {"hidden_size": 3, "num_layers": 2, "bidirectional": True},
        "bare": {"hidden_size": 6, "bias": False, "bidirectional": True},
        "projected": {"hidden_size": 9, "proj_size": 4},
        "both_projected": {"hidden_size": 5, "num_layers": 2, "proj_size": 3, "bidirectional": True},
    }

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(7, 11)
        for name, form in Sequences.FORMS.items():
            self.add_module(name, nn.LSTM(11, batch_first=True, **form))
        self.rows = nn.LSTM(11, 4, batch_first=True, bidirectional=True)

    def forward(self, x):
        x = self.fc(x)
        tokens = x[:, 0]
        found = {name: getattr(self, name)(tokens)[0] for name in Sequences.FORMS}
        # rows of a map are sequences of their own
        rows = self.rows(x.flatten(0, 1))[0].unflatten(0, x.shape[:2])
        return {"output": x, "tokens": tokens, **found, "rows": rows}


def gradients(name, net, x):
    """Of the sum of all outputs times numbers, by input and weights; the outputs' own case is kept already."""
    x = x.double().requires_grad_(True)
    total = 0
    for output, value in net(x).items():
        factor = torch.empty(value.shape).uniform_(-1, 1)
        TENSORS[f"{name}/f/{output}"] = factor
        total = total + (value * factor.double()).sum()
    leaves = {"image": x, **dict(net.named_parameters())}
    for key, found in zip(leaves, torch.autograd.grad(total, list(leaves.values()))):
        TENSORS[f"{name}/g/{key}"] = found.float().contiguous()


def scattered(net):
    """Tensors that are no constants, so that none is without effect."""
    for p in net.parameters():
        nn.init.uniform_(p, -0.8, 0.8)
    return net


def main():
    torch.manual_seed(0)
    case("transformers", scattered(Transformers()), image=torch.randn(2, 9, 12))
    case("responses", scattered(Responses()), image=torch.randn(2, 3, 7, 5))
    pools = scattered(Pools())
    nn.init.constant_(pools.sharp.p, 2.5)
    case("pools", pools, image=torch.randn(2, 5, 9, 8))
    sequences, map_of_tokens = scattered(Sequences()), torch.randn(3, 2, 5, 7)
    case("sequences", sequences, image=map_of_tokens)
    gradients("sequences", sequences, map_of_tokens)
    save_file(dict(sorted(TENSORS.items())), HERE / "blocks.safetensors")


if __name__ == "__main__":
    main()
