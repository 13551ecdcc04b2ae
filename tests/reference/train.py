"""Compares 20 training steps of archc with PyTorch's: same weights, same batches, no randomness.

    python tests/reference/train.py [--train target/release/deps/train-HASH] [NAME ..]

The measure is PyTorch in float64. Every loss agrees to 1e-3 (relative), and so does every learned tensor and running
statistic at the end (relative L2 norm), or to ten times what PyTorch's own float32 differs by where that is larger: a bias
that begins at 0 is all rounding for the first steps.
"""

import argparse
import os
import pathlib
import subprocess
import tempfile

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import resnet

from article import Autoencoder, se_resnet
import harness

LIMIT = 1e-3


def freeze_all_but(module, *kept):
    """archc's `freeze all except`: no gradient, and batch norms keep their running statistics."""
    for name, part in module.named_modules():
        if not any(name == k or name.startswith(k + ".") for k in kept):
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad_(False)
            if isinstance(part, nn.BatchNorm2d):
                part.eval()


# name: the spec, the module, the optimizer, the loss, size
CASES = {
    "resnet18": (
        """base resnet18(classes = 10) { weights random(seed = 0) }
        train { data folder("none"); loss cross_entropy; optimizer sgd(lr = 1e-4, momentum = 0.9, weight_decay = 1e-4) }""",
        lambda: resnet.resnet18(num_classes=10),
        [],
        lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, weight_decay=1e-4),
        lambda y, x, t: nn.functional.cross_entropy(y, t),
        224,
    ),
    "se_resnet50": (
        """base resnet50 { weights random(seed = 0) }
        insert se(reduction = 16) at layer1[2], layer2[3], layer3[5], layer4[2]
        replace fc with linear(10)
        freeze all except layer4, fc
        train { data folder("none"); loss cross_entropy(label_smoothing = 0.1); optimizer adamw(lr = 1e-5) }""",
        se_resnet,
        ["layer4", "fc"],
        lambda p: torch.optim.AdamW(p, lr=1e-5),
        lambda y, x, t: nn.functional.cross_entropy(y, t, label_smoothing=0.1),
        224,
    ),
    "autoencoder": (
        """base resnet18 { weights random(seed = 0); input [N, 3, 31, 31] }
        cut after avgpool
        append {
            flatten
            fc: linear(4608)
            reshape(512, 3, 3)
            up: seq {
                conv_transpose2d(256, kernel = 3, stride = 2); relu
                conv_transpose2d(128, kernel = 3, stride = 2); relu
                conv_transpose2d(3, kernel = 3, stride = 2); sigmoid
            }
        } as decoder
        train { data folder("none"); loss mse(target = image); optimizer sgd(lr = 0.01, momentum = 0.9) }""",
        Autoencoder,
        [],
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
        lambda y, x, t: nn.functional.mse_loss(y, x),
        31,
    ),
}  # fmt: skip


def batches(count, batch, size):
    """Images of a few blobs, so that there is something to learn, and their classes."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 10, (count * batch,), generator=generator)
    means = torch.randn(10, 3, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(means[label], size=(size, size), mode="bilinear")
    image = (smooth + 0.5 * torch.randn(count * batch, 3, size, size, generator=generator)).sigmoid()
    return image.contiguous(), label


def torch_steps(module, kept, optimizer, loss, image, label, batch, steps):
    module.train()
    if kept:
        freeze_all_but(module, *kept)
    optimizer = optimizer([p for p in module.parameters() if p.requires_grad])
    losses = []
    for at in range(steps):
        x, t = image[at * batch : (at + 1) * batch], label[at * batch : (at + 1) * batch]
        optimizer.zero_grad()
        value = loss(module(x), x, t)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--train", required=True, help="the binary of benches/train.rs")
    parser.add_argument("--archc", default=harness.default_archc())
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    failed = False
    for name in options.names or CASES:
        spec_text, make, kept, optimizer, loss, size = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            spec, data, out = folder / "spec.arch", folder / "batches.safetensors", folder / "out.safetensors"
            spec.write_text("archc 1\n" + spec_text + "\n")
            weights = folder / "weights.safetensors"
            subprocess.run([options.archc, "export", spec, "--to", "safetensors", "--output", weights], check=True)
            image, label = batches(options.steps, options.batch, size)
            save_file({"image": image, "label": label.float()}, data)
            before = load_file(weights)
            call = [options.train, spec, data, options.batch, "--steps", options.steps, "--out", out]
            done = subprocess.run([str(part) for part in call], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            got = [float(line.split()[1]) for line in done.stdout.splitlines()]
            runs = []
            for kind in torch.float64, torch.float32:
                module = make()
                harness.load(module, before)
                losses = torch_steps(module.to(kind), kept, optimizer, loss, image.to(kind), label, options.batch, options.steps)
                runs.append((losses, {key: value.double() for key, value in module.state_dict().items()}))
            (want, exact), (own, single) = runs
            after = load_file(out)

            def far(a, b):
                return (a.double() - b).norm().item() / max(b.norm().item(), 1e-12)

            errors = {key: (far(value, exact[key]), far(single[key], exact[key])) for key, value in after.items()}
            worst = max(errors, key=lambda key: errors[key][0] / max(LIMIT, 10 * errors[key][1]))
            flat = lambda tensors: torch.cat([tensors[key].double().flatten() for key in after])
            apart = [max(abs(a - b) / abs(b) - 10 * abs(c - b) / abs(b), 0) if abs(a - b) > LIMIT * abs(b) else abs(a - b) / abs(b)
                     for a, b, c in zip(got, want, own)]
            unchanged = all(torch.equal(exact[k].float(), before[k]) for k in before if k not in after and "num_batches" not in k)
            fine = max(apart) <= LIMIT and errors[worst][0] <= max(LIMIT, 10 * errors[worst][1]) and unchanged
            failed |= not fine
            print(f"{name}: losses {want[0]:.5f} .. {want[-1]:.5f}, apart {max(apart):.1e} at most; {len(after)} tensors together apart "
                  f"{far(flat(after), flat(exact)):.1e} (PyTorch's float32 {far(flat(single), flat(exact)):.1e}), the worst, {worst}, "
                  f"{errors[worst][0]:.1e} ({errors[worst][1]:.1e}); {'agrees' if fine else 'DIFFERS'}", flush=True)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
