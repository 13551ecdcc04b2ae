"""Races archc against ONNX Runtime, OpenVINO and rten, in one interleaved run.

    python benches/peers.py [NETWORK ..] --batch 1 32 --threads 2 [--rten] [--dtype bf16] [--out benches/results/NAME]
    python benches/peers.py --cold

Needs torch, torchvision, onnx, safetensors, onnxruntime and openvino; `--rten` builds benches/rten with cargo. Networks get
random weights whose batch-norm statistics fit the activations; they are exported once, into a cache folder (`--prepare`
does only that). Each network and batch is a race: archc, ONNX Runtime, OpenVINO, rten, archc, .. in bursts with a warm-up
each, as long as `--seconds` allows. A peer waits stopped while another runs. Latencies are the median over the bursts of
a burst's median, and the least of all; the ratio is the best peer's median over archc's, so higher is better. Outputs are
compared with PyTorch's in float64 by the relative L2 norm.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import peer_engines

# Cores that other processes may use during a round.
OTHERS = 0.08
ROOT = pathlib.Path(__file__).resolve().parents[1]
NETWORKS = [
    "resnet18",
    "resnet50",
    "vgg16",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "edited_resnet50",
]


def main():
    options = arguments()
    options.cache.mkdir(parents=True, exist_ok=True)
    if options.rten or options.cold:
        peer_engines.build_rten(options.cache)
    for name in options.names:
        if not (options.cache / f"{name}.done").exists():
            # in a process of its own, so that PyTorch's threads and memory are gone when the race begins
            subprocess.run([sys.executable, ROOT / "benches/peer_networks.py", name, options.cache], check=True)
    if options.prepare:
        return
    results = cold(options) if options.cold else races(options)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        path = options.out.with_suffix(".json")
        whole = json.loads(path.read_text()) if path.exists() else {}
        whole.setdefault("results", []).extend(results)
        whole["machine"] = machine()
        path.write_text(json.dumps(whole, indent=1) + "\n")
        options.out.with_suffix(".md").write_text(markdown(whole))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NETWORK", help=" ".join(NETWORKS))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="bf16: only archc and OpenVINO have it")
    parser.add_argument("--rten", action="store_true", help="rten too")
    parser.add_argument("--seconds", type=float, default=40, help="of a race, loading not counted")
    parser.add_argument("--burst", type=float, default=0.7, help="seconds; 3 runs at least")
    parser.add_argument("--archc", default=str(ROOT / "target/release/archc"))
    parser.add_argument("--archc-options", default="", help="more options for archc, in one string")
    cache = pathlib.Path(tempfile.gettempdir()) / "archc-peers"
    parser.add_argument("--cache", type=pathlib.Path, default=cache)
    parser.add_argument("--out", type=pathlib.Path, help="adds to FILE.json and writes FILE.md")
    parser.add_argument("--prepare", action="store_true", help="only export and build")
    parser.add_argument("--cold", action="store_true", help="cold processes: start to first output, resnet50, batch 1")
    parser.add_argument("--runs", type=int, default=20, help="of --cold")
    options = parser.parse_args()
    options.names = options.names or (["resnet50"] if options.cold else NETWORKS)
    return options


def races(options):
    results = []
    for name in options.names:
        for batch in options.batch:
            results.append(race(options, name, batch))
            print(markdown({"results": results[-1:]}, head=len(results) == 1), end="", flush=True)
    return results


def race(options, name, batch):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="archc-race-"))
    engines = peer_engines.start(options, name, batch, folder)
    exact = peer_engines.floats(options.cache / f"{name}.exact.npy")
    errors = {engine.name: relative(engine.output(), exact) for engine in engines}
    bursts = {engine.name: [] for engine in engines}
    cores, others = [], []
    start, last = time.monotonic(), 0.0
    while not cores or time.monotonic() - start + last < options.seconds:
        began, busy = time.monotonic(), cpu_of_others(engines)
        for engine in engines:
            engine.resume()
            bursts[engine.name].append(engine.burst(options.burst, 0.15 * options.burst))
            engine.pause()
        last = time.monotonic() - began
        others.append((cpu_of_others(engines) - busy) / last)
        cores.append([ns for ns in engines[0].core_to_core if ns])
    # a round is dropped for what other processes took of the cores, never for its times
    quiet = [at for at, share in enumerate(others) if share <= OTHERS] or list(range(len(others)))
    bursts = {engine: [found[at] for at in quiet] for engine, found in bursts.items()}
    cores = [ns for at in quiet for ns in cores[at]]
    versions = {engine.name: engine.version for engine in engines}
    for engine in engines:
        engine.stop()
    figures = {
        engine: {
            "median_ms": statistics.median(statistics.median(burst) for burst in found),
            "min_ms": min(min(burst) for burst in found),
            "bursts": [statistics.median(burst) for burst in found],
            "runs": sum(map(len, found)),
            "error": errors[engine],
        }
        for engine, found in bursts.items()
    }
    best = min((engine for engine in figures if engine != "archc"), key=lambda engine: figures[engine]["median_ms"])
    return {
        "network": name,
        "batch": batch,
        "threads": options.threads,
        "dtype": options.dtype,
        "rounds": len(quiet),
        "rounds_disturbed": len(others) - len(quiet),
        "cores_taken_by_others": max(others[at] for at in quiet),
        "core_to_core_ns": [min(cores, default=None), max(cores, default=None)],
        "engines": figures,
        "best_peer": best,
        "ratio": figures[best]["median_ms"] / figures["archc"]["median_ms"],
        "versions": versions,
    }


def cpu_of_others(engines):
    """Seconds that processes other than ours have used the cores so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    first = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()
    user, nice, system, _, _, irq, softirq = map(int, first[1:8])
    ours = sum(os.times()[:4])
    for engine in engines:
        if engine.child:
            fields = pathlib.Path(f"/proc/{engine.child.pid}/stat").read_text().rpartition(")")[2].split()
            ours += (int(fields[11]) + int(fields[12])) / ticks
    return (user + nice + system + irq + softirq) / ticks - ours


def relative(got, exact):
    """The relative L2 norm of the error, over the images whose exact output is known."""
    got = got.reshape(-1, exact.shape[1])[: len(exact)].astype("float64")
    exact = exact[: len(got)]
    return float(((got - exact) ** 2).sum() ** 0.5 / (exact**2).sum() ** 0.5)


def cold(options):
    """Start to end of a process that runs resnet50 once on noise: medians, and peak memory as the system counts it."""
    name = options.names[0]
    env = {**os.environ, "RTEN_NUM_THREADS": str(options.threads)}
    commands = {
        "archc": [*peer_engines.archc_command(options, "run", name), "--batch", "1"],
        "rten": [str(peer_engines.rten_binary(options.cache)), str(options.cache / f"{name}.onnx"), "once"],
    }
    taken = {engine: [] for engine in commands}
    for _ in range(options.runs + 1):
        for engine, command in commands.items():
            start = time.perf_counter()
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
            _, status, usage = os.wait4(child.pid, 0)
            taken[engine].append((1e3 * (time.perf_counter() - start), usage.ru_maxrss / 1024))
            child.returncode = status
            if status:
                raise SystemExit(f"{engine} failed: {' '.join(command)}")
    # the first of each only warms the page cache
    figures = {
        engine: {
            "median_ms": statistics.median(ms for ms, _ in found[1:]),
            "min_ms": min(ms for ms, _ in found[1:]),
            "peak_mib": max(mib for _, mib in found[1:]),
            "runs": len(found) - 1,
        }
        for engine, found in taken.items()
    }
    for engine, one in figures.items():
        print(f"{engine}: median {one['median_ms']:.0f} ms, min {one['min_ms']:.0f}, peak {one['peak_mib']:.0f} MiB")
    return [{"network": name, "cold": True, "threads": options.threads, "engines": figures}]


def machine():
    model = "unknown"
    if os.path.exists("/proc/cpuinfo"):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        keys = ("model name", "cpu family", "model")
        model = ", ".join(f"{key} {found[key]}" for key in keys if key in found)
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system()}


def markdown(whole, head=True):
    """Milliseconds, median (min); the error behind them."""
    text = ""
    races = [one for one in whole["results"] if not one.get("cold")]
    columns = ["archc", "onnxruntime", "openvino", "rten"]
    if races and head:
        if "machine" in whole:
            text += f"{whole['machine']['cpu']}, {whole['machine']['cores']} cores. "
        text += "Milliseconds: median (least), relative error. "
        text += ", ".join(f"{engine} {version}" for engine, version in races[0]["versions"].items()) + "\n\n"
        text += f"| network | batch | threads | dtype | {' | '.join(columns)} | ratio | core to core ns |\n"
        text += "|" + "---|" * (len(columns) + 6) + "\n"
    for one in races:
        cells = []
        for engine in columns:
            figures = one["engines"].get(engine)
            cells.append(cell(figures) if figures else "")
        row = [one["network"], one["batch"], one["threads"], one["dtype"], *cells, f"**{one['ratio']:.2f}**"]
        low, high = one["core_to_core_ns"]
        row.append(f"{low:.0f} to {high:.0f}" if low else "")
        if one["cores_taken_by_others"] > OTHERS:
            row[-1] += f" (disturbed: others took {one['cores_taken_by_others']:.1f} cores)"
        text += "| " + " | ".join(map(str, row)) + " |\n"
    for one in whole["results"]:
        if one.get("cold"):
            text += f"\nCold process to first output, {one['network']}, batch 1, {one['threads']} threads:\n\n"
            text += "| engine | median ms | least ms | peak MiB |\n|---|---|---|---|\n"
            for engine, figures in one["engines"].items():
                row = (engine, f"{figures['median_ms']:.0f}", f"{figures['min_ms']:.0f}", f"{figures['peak_mib']:.0f}")
                text += "| " + " | ".join(row) + " |\n"
    return text


def cell(figures):
    median, least = figures["median_ms"], figures["min_ms"]
    digits = 3 - len(str(int(median)))
    digits = max(digits, 0)
    return f"{median:.{digits}f} ({least:.{digits}f}) {figures['error']:.0e}"


if __name__ == "__main__":
    main()
