"""Writes zoo.json: what is known of every zoo network from torchvision and timm.

    python tests/reference/zoo.py [NETWORK ..]

- parameters: trainable parameters of the module.
- keys, keys_sha256: count and hash of the `key shape` lines (see networks.listing; keys/NAME.txt has them for a few).
- macs: multiply-adds of convolutions, linears and matrix products for one picture, counted while PyTorch runs.
- published_params, published_gmacs: torchvision's own figures for its IMAGENET1K_V1 weights (with auxiliary heads).
- preprocess: the transforms of those weights.
- error: what `compare.py --weights torch --record` found, the relative L2 error of archc's output in float32 on the CPU against
  PyTorch's in float64.
"""

import hashlib
import json
import pathlib
import sys

import timm
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import networks

HERE = pathlib.Path(__file__).parent
# One of each family that spells its keys its own way.
LISTED = """resnet18 resnet50 vgg11_bn alexnet squeezenet1_1 densenet121 mobilenet_v2 mobilenet_v3_small mnasnet1_0
efficientnet_b0 efficientnet_v2_s googlenet inception_v3 shufflenet_v2_x1_0 regnet_y_400mf
convnext_tiny vit_b_16 swin_t swin_v2_t maxvit_t tf_efficientnet_lite0
tf_efficientnetv2_b0 mobilenetv3_small_050 mobilenetv4_hybrid_medium seresnext26t_32x4d regnety_002 timm_vgg11_bn ghostnetv2_100
repvgg_a0 lraspp_mobilenet_v3_large eva02_tiny_patch14_224 vit_tiny_patch16_dinov3_qkvb legacy_seresnet18 ecaresnet26t
maxvit_pico_rw_256 test_vit_relpos""".split()


def blurred(x):
    """timm's BlurPool2d by means of two pixels, as the zoo has it."""
    x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 2, stride=1)
    return F.avg_pool2d(x, 2, stride=2)


def looked_up(bias):
    """The bias of timm's RelPosBiasTf without the products with ones by which it looks it up in its table."""
    return lambda: torch.empty(1, bias.num_heads, bias.window_area, bias.window_area)


def macs(name, module):
    torch.backends.mha.set_fastpath_enabled(False)
    for bias in [m for m in module.modules() if isinstance(m, timm.layers.RelPosBiasTf)]:
        bias.get_bias = looked_up(bias)
    module.requires_grad_(False)  # the counter follows gradients otherwise, and finds none of a bare parameter
    for blur in [m for m in module.modules() if isinstance(m, timm.layers.BlurPool2d)]:
        blur.forward = blurred
    x = networks.noise(name).to("meta")
    with torch.device("meta"), FlopCounterMode(display=False) as counter:  # what is made on the way has no values, either
        module(x)
    return counter.get_total_flops() // 2


def facts(name):
    with torch.device("meta"):  # shapes without values
        module = networks.make(name)
    lines = networks.listing(module.state_dict())
    if name in LISTED:
        (HERE / "keys").mkdir(exist_ok=True)
        (HERE / "keys" / f"{name}.txt").write_text(lines)
    row = {
        "parameters": sum(p.numel() for p in module.parameters()),
        "keys": lines.count("\n"),
        "keys_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "macs": macs(name, module),
        "preprocess": networks.preprocess(name),
    }
    if name in networks.TORCHVISION + networks.SEGMENTATION:
        meta = networks.published(name).meta
        row["published_params"] = meta["num_params"]
        row["published_gmacs"] = meta["_ops"]
    return row


def main():
    path = HERE / "zoo.json"
    table = json.loads(path.read_text()) if path.exists() else {}
    for name in sys.argv[1:] or networks.NETWORKS:
        measured = {key: value for key, value in table.get(name, {}).items() if key == "error"}
        table[name] = facts(name) | measured
        print(name, table[name]["parameters"], table[name]["macs"] / 1e9, table[name].get("published_gmacs"), flush=True)
    networks.write(path, table)


if __name__ == "__main__":
    main()
