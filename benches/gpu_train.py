"""Training steps of PyTorch on the same GPU, and the table of a race with archc's.

gpu_train.py OUT MODEL DTYPE BATCHES MODES    e.g. out.jsonl resnet50 bf16 64,128 eager,compile
gpu_train.py table FOLDER                     reads train_*.json of archc and torch_train.jsonl there

A step is forward, backward and SGD with momentum and weight decay, channels-last; bf16 is autocast over float32 weights.
Appends a JSON line a measurement to OUT as soon as it is made, so that a time limit costs only what is left.
"""
import glob
import json
import os
import sys
import time


def steps(net, x, y, dtype, mode):
    import torch

    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4, fused=x.is_cuda)
    loss = torch.nn.CrossEntropyLoss()

    def forward():
        with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == "bf16"):
            return loss(net(x), y)

    if mode == "compile":
        torch._dynamo.reset()
        forward = torch.compile(forward)

    def step():
        optimizer.zero_grad(set_to_none=True)
        forward().backward()
        optimizer.step()

    return step


def measure(step, device):
    """Milliseconds: min, median."""
    import torch

    for _ in range(5):
        step()
    if device == "cpu":
        start = time.perf_counter()
        step()
        took = (time.perf_counter() - start) * 1e3
        return took, took
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(20)]
    torch.cuda.synchronize()
    for before, after in events:
        before.record()
        step()
        after.record()
    torch.cuda.synchronize()
    times = sorted(before.elapsed_time(after) for before, after in events)
    return times[0], times[len(times) // 2]


def race(path, name, dtype, batches, modes):
    import torch
    import torchvision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # float32 means float32, as archc's does without --tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    for batch in map(int, batches.split(",")):
        for mode in modes.split(","):
            torch.manual_seed(0)
            start = time.time()
            try:
                net = getattr(torchvision.models, name)().train().to(device, memory_format=torch.channels_last)
                x = torch.randn(batch, 3, 224, 224, device=device).to(memory_format=torch.channels_last)
                y = torch.arange(batch, device=device) % 10
                low, median = measure(steps(net, x, y, dtype, mode), device)
            except Exception as error:
                print(f"torch {name} {dtype} batch {batch} {mode}: {error}", flush=True)
                continue
            line = {"model": name, "dtype": dtype, "batch": batch, "mode": mode, "min": low, "median": median}
            with open(path, "a") as file:
                file.write(json.dumps(line) + "\n")
            took = time.time() - start
            print(f"torch {name:10s} {dtype:4s} batch {batch:3d} {mode:8s} {median:9.3f} ms a step ({took:.0f} s)", flush=True)


def table(folder):
    torch, rows = {}, {}
    path = os.path.join(folder, "torch_train.jsonl")
    for line in open(path) if os.path.exists(path) else []:
        one = json.loads(line)
        torch[one["model"], one["dtype"], one["batch"], one["mode"]] = one["median"]
        rows[one["model"], one["dtype"], one["batch"]] = None
    for path in glob.glob(os.path.join(folder, "train_*.json")):
        try:
            one = json.load(open(path))
        except ValueError:
            continue
        name = os.path.basename(path)[len("train_"):].split(".")[0]
        rows[name, one["dtype"], one["batch"]] = one["median"]
    print(f"{'a training step':20s} {'dtype':5s} {'batch':>5s} {'archc ms':>10s} {'images/s':>9s} {'eager':>9s} {'compile':>9s} {'compile/archc':>13s}")
    for key in sorted(rows):
        own = rows[key]
        name, dtype, batch = key
        eager, best = torch.get((*key, "eager")), torch.get((*key, "compile"))
        ms = lambda value, width: f"{value:{width}.3f}" if value else " " * (width - 1) + "-"
        rate = f"{batch / own * 1e3:9.0f}" if own else " " * 8 + "-"
        ratio = f"{best / own:13.2f}" if best and own else " " * 12 + "-"
        print(f"{name:20s} {dtype:5s} {batch:5d} {ms(own, 10)} {rate} {ms(eager, 9)} {ms(best, 9)} {ratio}")


if sys.argv[1] == "table":
    table(sys.argv[2])
else:
    race(*sys.argv[1:])
