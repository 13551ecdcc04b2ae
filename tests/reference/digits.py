"""The digits of examples/digits.arch and examples/digits_full.arch by PyTorch: the same weights, pictures and recipes.

    python tests/reference/digits.py [head] [full] [--data FOLDER] [--threads 2]

Prints an epoch a line: training loss, validation accuracy, seconds. The head alone learns on batches of a frozen network
in eval mode, as `freeze all except classifier` does; PyTorch computes it again in every epoch.
"""

import argparse
import math
import pathlib
import time

import timm
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision import datasets, transforms
from torchvision.transforms import InterpolationMode

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
# epochs, epochs of warm-up, the factor of the pretrained layers' rate (0: frozen), the optimizer
RECIPES = {
    "head": (12, 1.0, 0.0, lambda groups: torch.optim.AdamW(groups, lr=0.005)),
    "full": (4, 0.5, 0.5, lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)),
}


def network():
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state = {key: value.float() for key, value in load_file(EXAMPLES / "models/efficientnet_lite0.safetensors").items()}
    counters = {key: value for key, value in net.state_dict().items() if key.endswith("num_batches_tracked")}
    net.load_state_dict({**counters, **state})
    torch.manual_seed(0)
    net.classifier = nn.Linear(net.classifier.in_features, 10)
    return net


def rate(progress, step, warmup, epochs):
    """archc's `cosine`: a linear warm-up, whose last step has the whole rate, then half a period of the cosine."""
    if progress + step < warmup:
        return (progress + step) / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (epochs - warmup)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--data", default=str(EXAMPLES / "digits"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    prepare = transforms.Compose([
        transforms.Resize(256, InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ])
    folder = lambda part: datasets.ImageFolder(str(pathlib.Path(options.data) / part), prepare)
    for name in options.names or RECIPES:
        epochs, warmup, factor, make = RECIPES[name]
        net = network().to(memory_format=torch.channels_last)
        rest = [p for key, p in net.named_parameters() if not key.startswith("classifier")]
        groups = [{"params": list(net.classifier.parameters())}]
        if factor:
            groups.append({"params": rest})
        optimizer = make(groups)
        for p in rest:
            p.requires_grad_(factor > 0)
        base = optimizer.defaults["lr"]
        train = torch.utils.data.DataLoader(folder("train"), options.batch, shuffle=True)
        val = torch.utils.data.DataLoader(folder("val"), options.batch)
        best, whole = 0.0, time.perf_counter()
        for epoch in range(epochs):
            start, sum_ = time.perf_counter(), 0.0
            net.train(factor > 0)
            for at, (image, label) in enumerate(train):
                now = rate(epoch + at / len(train), 1 / len(train), warmup, epochs)
                for group, own in zip(optimizer.param_groups, (1.0, factor)):
                    group["lr"] = base * now * own
                loss = nn.functional.cross_entropy(net(image), label, label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                sum_ += loss.item() * len(label)
            net.eval()
            with torch.no_grad():
                right = sum((net(image).argmax(1) == label).sum().item() for image, label in val)
            accuracy = right / len(val.dataset)
            best = max(best, accuracy)
            print(f"{name} epoch {epoch + 1}/{epochs}: loss {sum_ / len(train.dataset):.4f}, accuracy {accuracy:.2%}, "
                  f"{time.perf_counter() - start:.1f} s", flush=True)
        print(f"{name}: best accuracy {best:.2%}, {time.perf_counter() - whole:.1f} s in all", flush=True)


if __name__ == "__main__":
    main()
