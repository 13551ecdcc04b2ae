"""Writes what PyTorch makes of a small network in training: tests/reference/train_small.{json,safetensors}.

    python tests/reference/train_small.py [--archc target/release/archc]

A test of archc's own (tests/it/trainer.rs) takes the same batches, an epoch each, and compares every loss, and the norms of
all tensors at the end.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

import harness

HERE = pathlib.Path(__file__).parent
BATCH, STEPS = 6, 6


class SE(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, channels // 4), nn.Linear(channels // 4, channels)

    def forward(self, x):
        return x * self.fc2(self.fc1(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None]


class Norm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.dw, self.bn2 = nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8, momentum=0.3)
        self.conv2, self.bn3 = nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.se, self.conv3, self.norm, self.fc = SE(8), nn.Conv2d(8, 12, 1), Norm(12), nn.Linear(12, 5)

    def forward(self, x):
        x = F.silu(self.bn2(self.dw(self.bn1(self.conv1(x)).relu())))
        x = F.max_pool2d((self.bn3(self.conv2(x)) + x).relu(), 2)
        return self.fc(self.norm(F.gelu(self.conv3(self.se(x)))).mean((2, 3)))


# the `train` block's lines, then the same in PyTorch; `clip` and `accumulate` are the trainer's own
CASES = {
    "sgd": ("optimizer sgd(lr = 0.1, momentum = 0.9, weight_decay = 1e-3)", {}, lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=1e-3)),
    "nesterov": ("optimizer sgd(lr = 0.1, momentum = 0.9, nesterov = true)", {}, lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True)),
    "adam": ("optimizer adam(lr = 0.01, weight_decay = 1e-2, amsgrad = true)", {}, lambda p: torch.optim.Adam(p, 0.01, weight_decay=1e-2, amsgrad=True)),
    "adamw": ("optimizer adamw(lr = 0.01)", {}, lambda p: torch.optim.AdamW(p, 0.01)),
    "rmsprop": ("optimizer rmsprop(lr = 0.003, momentum = 0.5, centered = true)", {}, lambda p: torch.optim.RMSprop(p, 0.003, momentum=0.5, centered=True)),
    "clip": ("optimizer sgd(lr = 0.1)", {"clip": 0.5}, lambda p: torch.optim.SGD(p, 0.1)),
    "accumulate": ("optimizer sgd(lr = 0.1)", {"accumulate": 2}, lambda p: torch.optim.SGD(p, 0.1)),
    "adam thaw": ("optimizer adam(lr = 0.01); epochs 6; unfreeze dw, bn2, conv2 after 2; unfreeze conv1, bn1 after 4",
                  {"freeze": "freeze all except bn3, se, conv3, norm, fc", "thaw": [[2, ["dw", "bn2", "conv2"]], [4, ["conv1", "bn1"]]]}, lambda p: torch.optim.Adam(p, 0.01)),
    "sgd thaw": ("optimizer sgd(lr = 0.1, momentum = 0.9); epochs 6; unfreeze se, conv3, norm after 1; unfreeze ** except fc, se, conv3, norm after 3",
                 {"freeze": "freeze all except fc", "thaw": [[1, ["se", "conv3", "norm"]], [3, [""]]]}, lambda p: torch.optim.SGD(p, 0.1, 0.9)),
    "bce": ("optimizer sgd(lr = 0.1); loss bce_with_logits", {}, lambda p: torch.optim.SGD(p, 0.1)),
    "mse": ("optimizer sgd(lr = 0.1); loss mse", {}, lambda p: torch.optim.SGD(p, 0.1)),
    "l1": ("optimizer sgd(lr = 0.1); loss l1", {}, lambda p: torch.optim.SGD(p, 0.1)),
    "huber": ("optimizer sgd(lr = 0.1); loss huber(delta = 0.5)", {}, lambda p: torch.optim.SGD(p, 0.1)),
    "smoothing": ("optimizer sgd(lr = 0.1); loss cross_entropy(label_smoothing = 0.2)", {"class_weights": [1.0, 2.0, 0.5, 1.5, 1.0]}, lambda p: torch.optim.SGD(p, 0.1)),
}  # fmt: skip

# of outputs and numbers, where it is not cross entropy
LOSSES = {
    "bce_with_logits": F.binary_cross_entropy_with_logits,
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "huber(delta = 0.5)": lambda y, t: F.huber_loss(y, t, delta=0.5),
}


def learns(module, names):
    """Nothing but these parts, batch norms of others as in eval mode."""
    for name, part in module.named_modules():
        own = any(n in ("", name) or name.startswith(n + ".") for n in names)
        for parameter in part.parameters(recurse=False):
            parameter.requires_grad_(own)
        if isinstance(part, nn.BatchNorm2d):
            part.train(own)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archc", default=harness.default_archc())
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(5)
    image = torch.randn(STEPS * BATCH, 3, 16, 16, generator=generator)
    label = torch.randint(0, 5, (STEPS * BATCH,), generator=generator)
    values = torch.rand(STEPS * BATCH, 5, generator=generator)
    save_file({"image": image, "label": label.float(), "values": values}, HERE / "train_small.safetensors")
    with tempfile.TemporaryDirectory() as folder:
        weights = pathlib.Path(folder) / "weights.safetensors"
        subprocess.run([options.archc, "export", HERE / "train_small.arch", "--to", "safetensors", "--output", weights], check=True)
        state = load_file(weights)
    results = {}
    for name, (lines, extra, make) in CASES.items():
        module = Small()
        harness.load(module, state)
        module = module.double().train()
        optimizer = make(module.parameters())
        weight = torch.tensor(extra["class_weights"]).double() if "class_weights" in extra else None
        smoothing = 0.2 if "smoothing" in lines else 0.0
        numbers = next((LOSSES[loss] for loss in LOSSES if f"loss {loss}" in lines), None)
        learned = extra["freeze"].split("except ")[1].split(", ") if "freeze" in extra else [""]
        learns(module, learned)
        every, losses = extra.get("accumulate", 1), []
        for step in range(STEPS):
            part = slice(step * BATCH, (step + 1) * BATCH)
            for epoch, names in extra.get("thaw", []):
                if step == epoch:
                    learned += names
                    learns(module, learned)
            y = module(image[part].double())
            if numbers:
                value = numbers(y, values[part].double())
            else:
                value = F.cross_entropy(y, label[part], weight=weight, label_smoothing=smoothing)
            (value / every).backward()
            losses.append(value.item())
            if (step + 1) % every == 0:
                if "clip" in extra:
                    nn.utils.clip_grad_norm_(module.parameters(), extra["clip"])
                optimizer.step()
                optimizer.zero_grad()
        norms = {key: value.norm().item() for key, value in module.state_dict().items() if value.is_floating_point()}
        extra.pop("thaw", None)
        results[name] = {"lines": lines, **extra, "losses": losses, "norms": norms}
    (HERE / "train_small.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
