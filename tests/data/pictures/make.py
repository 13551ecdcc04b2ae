"""Writes the pictures of this folder and pillow.safetensors: what Pillow makes of them.

    python tests/data/pictures/make.py

Needs Pillow 12 (13 takes the two passes of a resize in another order for some shapes), numpy and safetensors. `decode/FILE` is `Image.open(FILE).convert("RGB")`; `resize/FILTER/WxH` is
rgb.png resized; `fit/FILTER/SHORT/HxW` is rgb.png after torchvision's Resize(SHORT) and CenterCrop((H, W)), whose sizes
are worked out below as torchvision does. All are [height, width, 3] of uint8.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file

HERE = Path(__file__).parent
FILTERS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}


def scene(width, height):
    """Smooth colours with a few hard edges and some noise."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 5 + c) * np.cos(y / (4 + c)) * 90 + 128 for c in range(3)]
    picture = np.stack(waves, axis=-1) + np.random.default_rng(0).normal(0, 6, (height, width, 3))
    picture[height // 3 : height // 2, width // 4 : width // 2] = [250, 20, 30]
    picture[:, -3:] = [0, 0, 255]
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def png16(samples, kind, path):
    """Pillow writes no 16-bit colour."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def fit(picture, short, height, width, kind):
    w, h = picture.size
    long = int(short * max(w, h) / min(w, h))
    picture = picture.resize((short, long) if w <= h else (long, short), kind)
    left, top = max(width - picture.width, 0), max(height - picture.height, 0)
    picture = ImageOps.expand(picture, (left // 2, top // 2, (left + 1) // 2, (top + 1) // 2))
    top, left = int(round((picture.height - height) / 2)), int(round((picture.width - width) / 2))
    return picture.crop((left, top, left + width, top + height))


def main():
    rgb = scene(41, 27)
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.fromarray(np.tile(np.arange(41, dtype=np.uint8) * 6, (27, 1))))
    random = np.random.default_rng(1)
    rgb.save(HERE / "rgb.png", optimize=True)
    rgb.convert("L").save(HERE / "grey.png")
    rgb.convert("1").save(HERE / "bits.png")
    rgb.convert("P", palette=Image.ADAPTIVE, colors=16).save(HERE / "palette.png", transparency=3)
    alpha.save(HERE / "rgba.png")
    alpha.convert("LA").save(HERE / "grey_alpha.png")
    png16(random.integers(0, 65536, (5, 7, 3)), 2, HERE / "rgb16.png")
    png16(random.integers(0, 65536, (5, 7, 4)), 6, HERE / "rgba16.png")
    png16(random.integers(0, 65536, (5, 7, 1)), 0, HERE / "grey16.png")
    rgb.save(HERE / "baseline.jpg", quality=92)
    rgb.save(HERE / "full.jpg", quality=92, subsampling=0)
    rgb.save(HERE / "progressive.jpg", quality=92, progressive=True)
    rgb.convert("L").save(HERE / "grey.jpg", quality=92)
    rgb.convert("CMYK").save(HERE / "cmyk.jpg", quality=92)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(HERE / "turned.jpg", quality=92, exif=exif)

    tensors = {}
    for file in sorted([*HERE.glob("*.png"), *HERE.glob("*.jpg")]):
        with Image.open(file) as picture:
            # Pillow clips 16-bit grey at 255; archc takes the high byte, as Pillow does for 16-bit colour
            if picture.mode == "I;16":
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            tensors[f"decode/{file.name}"] = np.array(picture.convert("RGB"))
    for name, kind in FILTERS.items():
        for size in [(20, 13), (41, 9), (7, 27), (60, 45), (1, 1), (97, 1), (33, 64)]:
            tensors[f"resize/{name}/{size[0]}x{size[1]}"] = np.array(rgb.resize(size, kind))
        for short, height, width in [(16, 14, 14), (16, 15, 20), (30, 27, 40), (12, 20, 15), (9, 8, 32), (28, 28, 28)]:
            tensors[f"fit/{name}/{short}/{height}x{width}"] = np.array(fit(rgb, short, height, width, kind))
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, HERE / "pillow.safetensors")


if __name__ == "__main__":
    main()
