"""PyTorch on the same GPU: eager channels-last, a CUDA graph of it, torch.compile(max-autotune).

gpu_torch.py OUT MODELS DTYPES BATCHES MODES [--seconds N] [--hold FOLDER]
    e.g. out.jsonl resnet50,vit_b_16 bf16 32,256 eager,graph,compile

Appends a JSON line a measurement to OUT as soon as it is made, so that a time limit costs only what is left; after N seconds
nothing new is begun. With --hold everything is made ready, FOLDER/ready.MODEL.BATCH is written, and the clock runs only when
there is a FOLDER/go, for one process at a time: tuning takes minutes, which others can use.
"""
import argparse
import fcntl
import json
import os
import time

import torch
import torchvision
from torch import nn

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


class SqueezeExcite(nn.Module):
    def __init__(self, block, reduction=16):
        super().__init__()
        self.block = block
        features = block.conv3.out_channels
        self.fc1 = nn.Linear(features, features // reduction)
        self.fc2 = nn.Linear(features // reduction, features)

    def forward(self, x):
        block = self.block
        out = block.relu(block.bn1(block.conv1(x)))
        out = block.relu(block.bn2(block.conv2(out)))
        out = block.bn3(block.conv3(out))
        gate = torch.sigmoid(self.fc2(torch.relu(self.fc1(out.mean((2, 3))))))
        out = out * gate[:, :, None, None]
        identity = x if block.downsample is None else block.downsample(x)
        return block.relu(out + identity)


def model(name):
    if name != "se_resnet50":
        return getattr(torchvision.models, name)()
    net = torchvision.models.resnet50(num_classes=10)
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        stage[-1] = SqueezeExcite(stage[-1])
    return net


def measure(run, device):
    """Milliseconds: min, median."""
    for _ in range(5):
        run()
    if device == "cpu":
        times = []
        for _ in range(3):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        return min(times), sorted(times)[1]
    pair = lambda: (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
    before, after = pair()
    before.record()
    run()
    after.record()
    torch.cuda.synchronize()
    # a second, and ten at least
    count = int(min(50, max(10, 1000 / max(before.elapsed_time(after), 1e-3))))
    events = [pair() for _ in range(count)]
    torch.cuda.synchronize()
    for before, after in events:
        before.record()
        run()
        after.record()
    torch.cuda.synchronize()
    times = sorted(before.elapsed_time(after) for before, after in events)
    return times[0], times[len(times) // 2]


def graphed(net, x):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            net(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        net(x)
    return graph.replay


def compiled(net, x):
    import torch._inductor.config as inductor

    inductor.freezing = True
    torch._dynamo.reset()
    fast = torch.compile(net, mode="max-autotune", fullgraph=True)
    for _ in range(3):
        fast(x)
    return lambda: fast(x)


class Held:
    """The turn of this process, once all are ready."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name

    def __enter__(self):
        open(os.path.join(self.folder, "ready." + self.name), "w").close()
        while not os.path.exists(os.path.join(self.folder, "go")):
            time.sleep(0.1)
        self.lock = open(os.path.join(self.folder, "lock"), "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.lock.close()


def one(args, net, name, dtype, batch, mode, device):
    start = time.time()
    x = torch.randn(batch, 3, 224, 224, device=device, dtype=DTYPES[dtype])
    x = x.to(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            run = {"eager": lambda: lambda: net(x), "graph": lambda: graphed(net, x), "compile": lambda: compiled(net, x)}[mode]()
            if args.hold:
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
                with Held(args.hold, f"{name}.{batch}"):
                    low, median = measure(run, device)
            else:
                low, median = measure(run, device)
    except Exception as error:
        print(f"torch {name} {dtype} batch {batch} {mode}: {error}", flush=True)
        return
    line = {"model": name, "dtype": dtype, "batch": batch, "mode": mode, "min": low, "median": median}
    if args.hold:
        # tuned while others used the GPU
        line["beside"] = True
    with open(args.out, "a") as file:
        file.write(json.dumps(line) + "\n")
    took = time.time() - start
    print(f"torch {name:18s} {dtype:4s} batch {batch:3d} {mode:8s} {median:9.3f} ms ({took:.0f} s)", flush=True)


def main():
    parser = argparse.ArgumentParser()
    for name in ("out", "models", "dtypes", "batches", "modes"):
        parser.add_argument(name)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--hold")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # float32 means float32, as archc's does without --tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    for dtype in args.dtypes.split(","):
        for name in args.models.split(","):
            net = model(name).eval().to(device, memory_format=torch.channels_last, dtype=DTYPES[dtype])
            for batch in map(int, args.batches.split(",")):
                for mode in args.modes.split(","):
                    late = time.monotonic() - START > args.seconds
                    if not late and (device == "cuda" or mode == "eager"):
                        one(args, net, name, dtype, batch, mode, device)


START = time.monotonic()
main()
