def load_weights(file: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, as `load_state_dict` takes them."""
    with open(file, "rb") as data:
        header = json.loads(data.read(int.from_bytes(data.read(8), "little")))
        values = bytearray(data.read())
    header.pop("__metadata__", None)
    dtypes = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
    tensors = {}
    for key, entry in header.items():
        dtype, shape, (start, end) = dtypes[entry["dtype"]], entry["shape"], entry["data_offsets"]
        count = (end - start) // dtype.itemsize
        tensors[key] = torch.frombuffer(values, dtype=dtype, count=count, offset=start).reshape(shape)
    return tensors
