"""Pillow's images to .flic and back: any mode in, upright, a thumbnail beside it.

    python examples/pillow_arrays.py PHOTO --out photo.flic

fastlic takes 8-bit RGB arrays. Pillow does what lies before: rotation by EXIF, a background under transparency, other
modes to RGB.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fastlic import light


def save(image: Image.Image, path: Path, quality: float = 4, background: str = "white") -> int:
    """Writes a .flic file of an image of any mode; returns its bytes."""
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        under = Image.new("RGBA", image.size, background)
        image = Image.alpha_composite(under, image.convert("RGBA"))
    return path.write_bytes(light.compress(np.array(image.convert("RGB")), quality=quality))


def load(path: Path) -> Image.Image:
    return Image.fromarray(light.decompress(path.read_bytes()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--out", type=Path, default=Path("photo.flic"))
    parser.add_argument("--quality", type=float, default=4)
    options = parser.parse_args()

    photo = Image.open(options.photo)
    size = save(photo, options.out, options.quality)
    back = load(options.out)
    print(f"{options.out}: {size:,} bytes, {back.width}x{back.height}, {photo.mode} before")
    back.thumbnail((128, 128))
    back.save(options.out.with_suffix(".thumbnail.png"))
