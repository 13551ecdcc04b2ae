"""Training steps beside PyTorch's, in turns in one run: batch 8 at 224 x 224 on the CPU.

    python benches/train_peers.py --train target/release/deps/train-HASH [NAME ..] [--rounds 7] [--steps 3] [--threads 2]

Prints the median milliseconds of a step of each, PyTorch's time over archc's, and the peak memory of both processes.
PyTorch runs both as it comes and channels-last, and the faster of the two counts.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HEAD = "archc 1\n"
TRAIN = 'train { data folder("none"); loss cross_entropy; optimizer sgd(lr = 0.001, momentum = 0.9, weight_decay = 1e-4) }\n'
FROZEN = "replace fc with linear(1000)\nfreeze all except fc\n"
# name: the spec, torchvision's network, whether only the head learns
CASES = {
    "resnet18": (f"{HEAD}base resnet18 {{ weights random(seed = 0) }}\n{TRAIN}", "resnet18", False),
    "resnet50": (f"{HEAD}base resnet50 {{ weights random(seed = 0) }}\n{TRAIN}", "resnet50", False),
    # what the frozen prefix makes of a picture is known from the second epoch on; PyTorch computes it again
    "resnet18 head": (f"{HEAD}base resnet18 {{ weights random(seed = 0) }}\n{FROZEN}{TRAIN}", "resnet18", True),
    "resnet50 head": (f"{HEAD}base resnet50 {{ weights random(seed = 0) }}\n{FROZEN}{TRAIN}", "resnet50", True),
    "resnet18 head, cached": (f"{HEAD}base resnet18 {{ weights random(seed = 0) }}\n{FROZEN}{TRAIN}", "resnet18", True),
    "resnet50 head, cached": (f"{HEAD}base resnet50 {{ weights random(seed = 0) }}\n{FROZEN}{TRAIN}", "resnet50", True),
}


def worker(name, data, batch, last):
    """PyTorch: as many steps as each line says."""
    import torch
    import torchvision
    from safetensors.torch import load_file

    torch.set_num_threads(int(os.environ["THREADS"]))
    given = load_file(data)
    image, label = given["image"][:batch], given["label"][:batch].long()
    _, network, head = CASES[name]
    net = getattr(torchvision.models, network)().train()
    if head:
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        net.eval()
        net.fc.requires_grad_(True)
    if last:
        net, image = net.to(memory_format=torch.channels_last), image.to(memory_format=torch.channels_last)
    learned = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.001, momentum=0.9, weight_decay=1e-4)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(image), label).backward()
            optimizer.step()
            times.append((time.perf_counter() - start) * 1e3)
        print(" ".join(f"{t:.3f}" for t in times), flush=True)


class Peer:
    def __init__(self, command, threads):
        env = os.environ | {"THREADS": str(threads), "RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.times = []

    def steps(self, count, counts=True):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        times = [float(t) for t in self.process.stdout.readline().split()]
        self.times += times if counts else []

    def memory(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--train", help="the binary of benches/train.rs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options.worker[0], options.worker[1], options.batch, options.worker[2] == "last")
    import torch
    from safetensors.torch import save_file

    for name in options.names or CASES:
        with tempfile.TemporaryDirectory() as folder:
            spec, data = pathlib.Path(folder) / "spec.arch", pathlib.Path(folder) / "batches.safetensors"
            spec.write_text(CASES[name][0])
            generator = torch.Generator().manual_seed(0)
            image = torch.randn(options.batch, 3, 224, 224, generator=generator)
            save_file({"image": image, "label": torch.arange(options.batch).float()}, data)
            own = [options.train, str(spec), str(data), str(options.batch), "--serve"]
            own += ["--cached"] if "cached" in name else []
            torchs = [sys.executable, __file__, "--batch", str(options.batch), "--worker", name, str(data)]
            peers = {"archc": own, "torch": torchs + ["first"], "torch channels-last": torchs + ["last"]}
            peers = {name: Peer(command, options.threads) for name, command in peers.items()}
            for peer in peers.values():
                peer.steps(2, counts=False)
            for _ in range(options.rounds):
                for peer in peers.values():
                    peer.steps(options.steps)
            median = {name: statistics.median(peer.times) for name, peer in peers.items()}
            best = min(time for name, time in median.items() if name != "archc")
            parts = [f"{peer} {median[peer]:.4g} ms {peers[peer].memory():.0f} MiB" for peer in peers]
            print(f"{name}: {', '.join(parts)}; {best / median['archc']:.2f} times", flush=True)
            for peer in peers.values():
                peer.close()


if __name__ == "__main__":
    main()
