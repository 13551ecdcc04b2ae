"""The table of a run of gpu.sh: archc's device time beside PyTorch's, and the ratio to torch.compile.

gpu_table.py FOLDER    reads archc_*.json and torch.jsonl there, prints the table, and writes it as table.txt
"""
import glob
import json
import os
import sys


def main():
    folder = sys.argv[1]
    rows, torch, beside = {}, {}, False
    path = os.path.join(folder, "torch.jsonl")
    for line in open(path) if os.path.exists(path) else []:
        one = json.loads(line)
        beside |= one.get("beside", False)
        torch[one["model"], one["dtype"], one["batch"], one["mode"]] = one["median"]
        rows[one["model"], one["dtype"], one["batch"]] = None
    for path in glob.glob(os.path.join(folder, "archc_*.json")):
        try:
            one = json.load(open(path))
        except ValueError:
            continue
        name = os.path.basename(path)[len("archc_"):].rsplit(".", 3)[0]
        times = one.get("device_ms") or one["latency_ms"]
        rows[name, one["dtype"], one["batch"]] = times["median"]
    lines = [f"{'model':20s} {'dtype':5s} {'batch':>5s} {'archc ms':>10s} {'images/s':>9s} {'eager':>9s} {'graph':>9s} {'compile':>9s} {'compile/archc':>13s} {'graph/archc':>11s}"]
    for key in sorted(rows):
        own = rows[key]
        name, dtype, batch = key
        eager, graph, best = (torch.get((*key, mode)) for mode in ("eager", "graph", "compile"))
        ms = lambda value, width=9: f"{value:{width}.3f}" if value else " " * (width - 1) + "-"
        ratio = lambda peer, width: f"{peer / own:{width}.2f}" if peer and own else " " * (width - 1) + "-"
        rate = f"{batch / own * 1e3:9.0f}" if own else " " * 8 + "-"
        lines.append(f"{name:20s} {dtype:5s} {batch:5d} {ms(own, 10)} {rate} {ms(eager)} {ms(graph)} {ms(best)} {ratio(best, 13)} {ratio(graph, 11)}")
    if beside:
        lines.append("compile: tuned while other work was on the GPU, timed alone; gpu.sh --compile tunes alone as well")
    text = "\n".join(lines) + "\n"
    open(os.path.join(folder, "table.txt"), "w").write(text)
    print(text, end="")


main()
