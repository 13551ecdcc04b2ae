"""The networks of zoo/ and the PyTorch modules that they must equal.

The weights are never downloaded: the modules are built with `weights=None`, so keys, shapes and arithmetic are compared,
and the values are random.
"""

import timm
import torch
import torchvision

TORCHVISION = """
resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d wide_resnet50_2
vgg11 vgg13 vgg16 vgg19 vgg11_bn vgg13_bn vgg16_bn vgg19_bn alexnet squeezenet1_0 squeezenet1_1
densenet121 densenet169 densenet201 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet1_0
efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_v2_s
googlenet inception_v3 shufflenet_v2_x1_0 regnet_x_400mf regnet_x_800mf regnet_y_400mf regnet_y_800mf
convnext_tiny convnext_small convnext_base vit_b_16 vit_b_32 swin_t swin_v2_t maxvit_t
""".split()

# By timm's names, with `timm_` before one that torchvision has too.
TIMM = """
tf_efficientnet_lite0
""".split()

NETWORKS = TORCHVISION + TIMM

# Buffers that archc computes: a file may hold them, and none must.
COMPUTED = ("num_batches_tracked", "relative_position_index", "relative_coords_table")


def make(name):
    """The PyTorch module of a zoo network, in evaluation mode, without auxiliary heads."""
    if name in TIMM:
        # timm has the eps of the published weights only where it loads them
        extra = {"bn_eps": 1e-3} if name == "fbnetc_100" else {}
        return timm.create_model(name.removeprefix("timm_"), pretrained=False, **extra).eval()
    extra = {}
    if name in ("googlenet", "inception_v3"):
        extra = {"aux_logits": False, "transform_input": False, "init_weights": False}
    return torchvision.models.get_model(name, weights=None, **extra).eval()


def preprocess(name):
    """What a picture goes through before the network, with transform_input's part in mean and std."""
    if name in TIMM:
        cfg = timm.models.get_pretrained_cfg(name.removeprefix("timm_"))
        crop = cfg.input_size[-1]
        return {
            "resize": int(crop / cfg.crop_pct),
            "crop": crop,
            "interpolation": cfg.interpolation,
            "mean": list(cfg.mean),
            "std": list(cfg.std),
        }
    t = published(name).transforms()
    mean, std = list(t.mean), list(t.std)
    if name in ("googlenet", "inception_v3"):
        # transform_input maps y = (x - mean) / std to (y * std + mean - 0.5) / 0.5
        mean, std = [0.5] * 3, [0.5] * 3
    return {
        "resize": t.resize_size[0],
        "crop": t.crop_size[0],
        "interpolation": t.interpolation.value,
        "mean": mean,
        "std": std,
    }


def published(name):
    """torchvision's IMAGENET1K_V1 weights of a network, for their metadata."""
    return torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]


def noise(name, batch=1, seed=0, size=None):
    """Seeded input of the size that a network declares, or of another."""
    size = size or preprocess(name)["crop"]
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def listing(state):
    """`key shape` lines of a state dict in order of key, without what archc computes."""
    keys = sorted(k for k in state if not k.endswith(COMPUTED))
    return "".join(f"{k} {'x'.join(map(str, state[k].shape)) or '1'}\n" for k in keys)
