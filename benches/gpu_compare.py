"""Compares two safetensors files tensor by tensor: exit status 1 if the relative L2 distance of one exceeds the limit."""
import json
import struct
import sys

import numpy as np


def read(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, body = json.loads(file.read(length)), file.read()
    tensors = {}
    for name, one in header.items():
        if name != "__metadata__":
            assert one["dtype"] == "F32", one["dtype"]
            start, end = one["data_offsets"]
            tensors[name] = np.frombuffer(body[start:end], dtype="<f4").reshape(one["shape"]).astype(np.float64)
    return tensors


def main():
    label, want_path, got_path, limit = sys.argv[1:]
    want, got = read(want_path), read(got_path)
    failed = want.keys() != got.keys()
    for name in want.keys() & got.keys():
        distance = np.linalg.norm(want[name] - got[name]) / np.linalg.norm(want[name])
        ok = want[name].shape == got[name].shape and distance < float(limit)
        failed |= not ok
        print(f"{label:32s} {name:10s} {distance:.2e} (limit {limit}) {'ok' if ok else 'FAILED'}", flush=True)
    sys.exit(failed)


main()
