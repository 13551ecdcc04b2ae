"""torch.compile for several networks beside other work, then timed one by one.

gpu_tune.py OUT FOLDER SECONDS NET:BATCH ..

Starts gpu_torch.py for the named ones in their order, TUNERS at a time; those that are ready wait and take nobody's place.
When all are, or SECONDS are over, and there is a FOLDER/idle, which says that nothing else runs on the GPU, the others are
ended and the clock runs for one after another.
"""
import os
import signal
import subprocess
import sys
import time

TUNERS = 3
# for one network and batch once it is ready
SECONDS_EACH = 20


def end(process):
    """With what it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def main():
    out, folder, seconds, *jobs = sys.argv[1:]
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gpu_torch.py")
    there = lambda name: os.path.exists(os.path.join(folder, name))
    ready = lambda job: there("ready." + job.replace(":", "."))
    begun, left, until = {}, list(jobs), time.monotonic() + float(seconds)
    tuning = lambda: [job for job, process in begun.items() if process.poll() is None and not ready(job)]
    try:
        while time.monotonic() < until and (left or tuning()) or not there("idle"):
            if left and len(tuning()) < TUNERS and time.monotonic() < until:
                job = left.pop(0)
                net, batch = job.split(":")
                command = ["python3", own, out, net, "bf16", batch, "compile", "--hold", folder]
                environment = {"TORCHINDUCTOR_COMPILE_THREADS": "4", **os.environ}
                begun[job] = subprocess.Popen(command, start_new_session=True, env=environment)
            time.sleep(0.1)
        for job in tuning():
            end(begun[job])
        waiting = [job for job in begun if ready(job)]
        print(f"{len(waiting)} of {len(jobs)} are ready", flush=True)
        open(os.path.join(folder, "go"), "w").close()
        for job in waiting:
            try:
                begun[job].wait(SECONDS_EACH)
            except subprocess.TimeoutExpired:
                print(f"torch {job}: no time within {SECONDS_EACH} s", flush=True)
    finally:
        for process in begun.values():
            end(process)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
main()
