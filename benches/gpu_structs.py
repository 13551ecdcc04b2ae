"""The structs that kernels take, of kernels/cuda/src/args.rs, as ctypes."""
import ctypes
import os
import re

KERNELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "kernels", "cuda", "src")
PLAIN = {"u64": ctypes.c_uint64, "i32": ctypes.c_int32, "f32": ctypes.c_float, "f64": ctypes.c_double}


class TensorMap(ctypes.Structure):
    """How the copy engine reads a tensor: made by the driver."""
    _fields_ = [("words", ctypes.c_uint64 * 16)]


def structs():
    found = {"TensorMap": TensorMap}
    text = open(os.path.join(KERNELS, "args.rs")).read()
    text = re.sub(r"///.*", "", text)
    for name, body in re.findall(r"args! \{\s*(\w+) \{(.*?)\}\s*\}", text, re.S):
        fields = []
        for field, kind in re.findall(r"(\w+): ([\w\[\]; ]+?),", body):
            if re.match(r"\[(\w+); RANK\]", kind):
                kind = PLAIN[re.match(r"\[(\w+);", kind)[1]] * 8
            elif re.match(r"\[u32; 2\]", kind):
                kind = ctypes.c_uint32 * 2
            else:
                kind = PLAIN.get(kind) or found[kind]
            fields.append((field, kind))
        found[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
    return found


if __name__ == "__main__":
    for name, struct in structs().items():
        print(name, ctypes.sizeof(struct))
