"""The engines of peers.py: each loads a network once and then runs bursts when told.

ONNX Runtime and OpenVINO are workers in processes of their own (`python peer_engines.py WORKER ..`), so that no library's
threads disturb another's; rten is the program in rten/; archc is `archc bench`, whose loading is not timed either.
"""

import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent


def start(options, name, batch, folder):
    """The engines of a race; archc is the first. `folder` takes inputs and outputs."""
    x = floats(options.cache / f"{name}.x.npy")
    if batch > len(x):
        more = np.random.default_rng(1).standard_normal((batch - len(x), *x.shape[1:]), np.float32)
        x = np.concatenate([x, more])
    x = np.ascontiguousarray(x[:batch])
    np.save(folder / "x.npy", x)
    x.tofile(folder / "x.raw")
    model = options.cache / f"{name}.onnx"
    engines = [Archc(options, name, batch, folder)]
    if options.dtype == "f32":
        engines.append(Worker("onnxruntime", model, batch, options, folder))
    engines.append(Worker("openvino", model, batch, options, folder))
    if options.rten and options.dtype == "f32":
        engines.append(Rten(model, batch, options, folder))
    return engines


def floats(path):
    return np.load(path)


def archc_command(options, command, name):
    given = [options.archc, command, str(options.cache / f"{name}.arch"), "--dtype", options.dtype]
    given += ["--weights", str(options.cache / f"{name}.safetensors"), "--threads", str(options.threads)]
    return given + shlex.split(options.archc_options)


class Archc:
    """A process a burst: the weights are loaded and packed anew, which is not timed."""

    name = "archc"
    child = None

    def __init__(self, options, name, batch, folder):
        self.options, self.network, self.batch, self.folder = options, name, batch, folder
        self.core_to_core = []
        self.version = self.call(options.archc, "--version").split()[-1]

    def call(self, *command):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))}:\n{done.stderr}")
        return done.stdout

    def burst(self, seconds, warm_up):
        command = archc_command(self.options, "bench", self.network)
        command += ["--batch", self.batch, "--seconds", seconds, "--warm-up", warm_up, "--samples", "--json"]
        found = json.loads(self.call(*command))
        self.core_to_core = list(found["core_to_core_ns"].values())
        return found["samples_ms"]

    def output(self):
        command = archc_command(self.options, "run", self.network)
        target = self.folder / "archc.npy"
        self.call(*command, "--batch", self.batch, "--input", self.folder / "x.npy", "--output", target)
        return np.load(target)

    def resume(self):
        pass

    def pause(self):
        pass

    def stop(self):
        pass


class Process:
    """A peer that reads commands from its stdin and waits stopped in between."""

    def __init__(self, command, env=None):
        self.child = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        self.read()
        self.pause()

    def read(self):
        line = self.child.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended: {self.child.args}")
        return line.strip()

    def tell(self, line):
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()
        return self.read()

    def burst(self, seconds, warm_up):
        return json.loads(self.tell(f"burst {seconds} {warm_up}"))

    def resume(self):
        self.child.send_signal(signal.SIGCONT)

    def pause(self):
        self.child.send_signal(signal.SIGSTOP)

    def stop(self):
        self.resume()
        self.child.stdin.close()
        self.child.wait()


class Worker(Process):
    def __init__(self, name, model, batch, options, folder):
        self.name, self.folder = name, folder
        super().__init__([sys.executable, __file__, name, model, batch, options.threads, options.dtype])
        self.resume()
        self.version = self.tell("version")
        self.pause()

    def output(self):
        target = self.folder / f"{self.name}.npy"
        self.resume()
        self.tell(f"output {self.folder / 'x.npy'} {target}")
        self.pause()
        return np.load(target)


class Rten(Process):
    name = "rten"

    def __init__(self, model, batch, options, folder):
        self.folder = folder
        env = {**os.environ, "RTEN_NUM_THREADS": str(options.threads)}
        super().__init__([rten_binary(options.cache), model, batch], env)
        lock = (options.cache / "rten/Cargo.lock").read_text().split("[[package]]")
        found = next(part for part in lock if 'name = "rten"\n' in part)
        self.version = found.split('version = "')[1].split('"')[0]

    def output(self):
        target = self.folder / "rten.raw"
        self.resume()
        self.tell(f"output {self.folder / 'x.raw'} {target}")
        self.pause()
        return np.fromfile(target, np.float32)


def rten_binary(cache):
    return cache / "rten/target/release/rten-peer"


def build_rten(cache):
    folder = cache / "rten"
    (folder / "src").mkdir(parents=True, exist_ok=True)
    # copied only where it changed, so that cargo has nothing to do
    for source, target in (("Cargo.toml", folder / "Cargo.toml"), ("main.rs", folder / "src/main.rs")):
        source = HERE / "rten" / source
        if not target.exists() or target.read_bytes() != source.read_bytes():
            shutil.copy(source, target)
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=folder, check=True)


# ---- What follows runs in a worker's process. ----


def onnxruntime(model, batch, threads, dtype):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_free_dimension_override_by_name("batch", batch)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def bind(x):
        binding = session.io_binding()
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(x))
        binding.bind_output(session.get_outputs()[0].name)
        return lambda: session.run_with_iobinding(binding), lambda: binding.copy_outputs_to_cpu()[0]

    return bind, ort.__version__


def openvino(model, batch, threads, dtype):
    import openvino as ov

    core = ov.Core()
    network = core.read_model(model)
    network.reshape([batch, *list(network.input().get_partial_shape())[1:]])
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": {"f32": "f32", "bf16": "bf16"}[dtype],
    }
    request = core.compile_model(network, "CPU", hints).create_infer_request()

    def bind(x):
        request.set_input_tensor(ov.Tensor(x, shared_memory=True))
        return request.infer, lambda: np.array(request.get_output_tensor().data)

    return bind, ov.__version__.split("-")[0]


def repeat(seconds, least, once):
    begin, times = time.perf_counter(), []
    while len(times) < least or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        once()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def serve(engine, model, batch, threads, dtype):
    batch = int(batch)
    bind, version = {"onnxruntime": onnxruntime, "openvino": openvino}[engine](model, batch, int(threads), dtype)
    x = np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32)
    run, _ = bind(x)
    print("ready", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["burst", seconds, warm_up]:
                repeat(float(warm_up), 2, run)
                print(json.dumps(repeat(float(seconds), 3, run)), flush=True)
            case ["output", source, target]:
                own = np.load(source)
                once, read = bind(own)
                once()
                np.save(target, read())
                run, _ = bind(x)
                print("done", flush=True)
            case ["version"]:
                print(version, flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
