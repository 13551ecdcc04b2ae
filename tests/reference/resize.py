"""Tables of positions resized by timm, for the test of src/weights/resize.rs: writes resize.safetensors.

Keys are `KIND/MODE/TOKENS/HxW/HxW/in` and `/out`. Needs torch, timm and safetensors.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table, resize_rel_pos_bias_table_levit

torch.manual_seed(0)
WIDTH = 2
tensors = {}


def add(name, table, resized):
    tensors[f"{name}/in"], tensors[f"{name}/out"] = table.contiguous(), resized.contiguous()


for mode in ["bicubic", "bilinear"]:
    for tokens, old, new in [
        (1, (14, 14), (16, 16)),
        (1, (14, 14), (7, 7)),
        (0, (3, 3), (8, 5)),
        (5, (7, 7), (5, 9)),
        (2, (4, 9), (4, 5)),
        (1, (1, 1), (3, 2)),
        (0, (11, 11), (1, 1)),
    ]:
        table = torch.randn(1, tokens + old[0] * old[1], WIDTH)
        resized = resample_abs_pos_embed(
            table, list(new), old_size=list(old), num_prefix_tokens=tokens, interpolation=mode, antialias=True
        )
        name = f"positions/{mode}/{tokens}/{old[0]}x{old[1]}/{new[0]}x{new[1]}"
        add(name, table, resized)
    for old, new in [(7, 12), (12, 7), (7, 8), (8, 24), (1, 3), (3, 1)]:
        sides = 2 * old - 1, 2 * new - 1
        table, shape = torch.randn(sides[0] ** 2, WIDTH), (sides[1] ** 2, WIDTH)
        if mode == "bilinear":
            resized = resize_rel_pos_bias_table(table, (new, new), shape)
        else:
            resized = resize_rel_pos_bias_table_levit(table, shape)
        add(f"offsets/{mode}/0/{sides[0]}x{sides[0]}/{sides[1]}x{sides[1]}", table, resized)

save_file(tensors, Path(__file__).with_suffix(".safetensors"))
