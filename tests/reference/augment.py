"""What Pillow and torchvision make of a small picture: the numbers that src/data/augment is tested against.

    python tests/reference/augment.py > tests/reference/augment.json
"""

import json
import math

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F


def main():
    y, x, c = np.meshgrid(np.arange(9), np.arange(13), np.arange(3), indexing="ij")
    pixels = (40 + 11 * x + 9 * y * (c + 1) + 37 * ((x * y * (c + 2)) % 5)).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels)
    nearest = InterpolationMode.NEAREST

    def affine(translate=(0, 0), shear=(0.0, 0.0)):
        return F.affine(picture, angle=0.0, translate=list(translate), scale=1.0, shear=list(shear),
                        interpolation=nearest, center=[0, 0])

    cases = {
        "brightness 0.6": F.adjust_brightness(picture, 0.6),
        "brightness 1.7": F.adjust_brightness(picture, 1.7),
        "contrast 0.4": F.adjust_contrast(picture, 0.4),
        "contrast 1.9": F.adjust_contrast(picture, 1.9),
        "saturation 0.3": F.adjust_saturation(picture, 0.3),
        "saturation 1.8": F.adjust_saturation(picture, 1.8),
        "sharpness 0.2": F.adjust_sharpness(picture, 0.2),
        "sharpness 1.9": F.adjust_sharpness(picture, 1.9),
        "hue 0.2": F.adjust_hue(picture, 0.2),
        "hue -0.35": F.adjust_hue(picture, -0.35),
        "posterize 5": F.posterize(picture, 5),
        "solarize 128": F.solarize(picture, 128.0),
        "autocontrast": F.autocontrast(picture),
        "equalize": F.equalize(picture),
        "rotate 17": F.rotate(picture, 17.0),
        "rotate -90": F.rotate(picture, -90.0),
        "shear_x 0.2": affine(shear=(math.degrees(math.atan(0.2)), 0.0)),
        "shear_y -0.3": affine(shear=(0.0, math.degrees(math.atan(-0.3)))),
        "translate_x 3": affine(translate=(3, 0)),
        "translate_y -2": affine(translate=(0, -2)),
        "mirror": F.hflip(picture),
        "turn_over": F.vflip(picture),
    }
    out = {"picture": pixels.flatten().tolist()}
    out |= {name: np.asarray(made).flatten().tolist() for name, made in cases.items()}
    print("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in out.items()) + "\n}")


if __name__ == "__main__":
    main()
