"""Makes the checkpoints beside this file, for the tests of src/weights/pytorch.rs. Needs torch; run it here."""

import os
from collections import OrderedDict

import torch

torch.manual_seed(0)


def linear(out, ins, prefix="", first=0):
    """The tensors of a linear layer `fc` whose values count from `first`."""
    weight = torch.arange(out * ins, dtype=torch.float32).reshape(out, ins) + first
    return OrderedDict({f"{prefix}fc.weight": weight, f"{prefix}fc.bias": torch.zeros(out)})


def tensors():
    base = torch.arange(24, dtype=torch.float32)
    return OrderedDict(
        {
            "conv.weight": base.reshape(2, 3, 2, 2) / 4,
            "transposed": base[:6].reshape(2, 3).t(),  # strides (1, 3) on shared storage
            "slice": base[10:14],
            "bn.num_batches_tracked": torch.tensor(1234567),
            "half": torch.tensor([0.5, -2.0], dtype=torch.float16),
            "brain": torch.tensor([0.5, -2.0], dtype=torch.bfloat16),
            "double": torch.tensor([0.1], dtype=torch.float64),
            "flags": torch.tensor([True, False]),
            "empty": torch.zeros(0, 4),
            "parameter": torch.nn.Parameter(torch.ones(2)),
        }
    )


class Evil:
    def __reduce__(self):
        return (os.system, ("touch archc-was-here",))


torch.save(tensors(), "zip.pth")
torch.save(tensors(), "legacy.pth", _use_new_zipfile_serialization=False)
torch.save({"state_dict": tensors(), "epoch": 3, "optimizer": {"lr": 0.1}}, "wrapped.pth")
torch.save({"a": torch.ones(1).expand(100_000_000)}, "expand.pth")
torch.save({"a": torch.ones(1), "evil": Evil()}, "evil.pth")
torch.save({"a": torch.ones(2, dtype=torch.complex64)}, "complex.pth")
torch.save({"epoch": 3}, "empty.pth")
# a run of timm's scripts: weights, their average, and the state of an optimizer
state = {0: {"exp_avg": torch.zeros(2, 4)}, 1: {"exp_avg": torch.zeros(2)}}
run = {"epoch": 3, "state_dict": linear(2, 4), "optimizer": {"state": state}}
torch.save(run, "run.pth")
torch.save({**run, "state_dict_ema": linear(2, 4, first=100)}, "copies.pth")
# as DINO saves them: two networks, wrapped, with a head that is not wanted
head = {"module.head.weight": torch.zeros(3, 2)}
torch.save(
    {
        "student": {**linear(2, 4, "module.backbone."), **head},
        "teacher": {**linear(2, 4, "module.backbone.", first=100), **head},
        "epoch": 100,
    },
    "dino.pth",
)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 2)


torch.save(Net(), "module.pth")
