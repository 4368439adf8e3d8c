"""Details of a photo in equal bytes: JPEG, WebP, AVIF and fastlic, side by side.

    python examples/crops.py PHOTO --out crops.webp

fastlic compresses the photo at --quality; the others get the highest quality of theirs that needs no more bytes.
Settings are those of `fastlic eval`; formats that this Pillow cannot write are left out.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from fastlic import light

PEERS = {
    "JPEG": ("jpg", {"optimize": True}),
    "WebP": ("webp", {"method": 6}),
    "AVIF": ("avif", {"speed": 6, "subsampling": "4:2:0"}),
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photo", type=Path)
parser.add_argument("--out", type=Path, default=Path("crops.webp"))
parser.add_argument("--quality", type=float, default=2, help="of fastlic (default: 2)")
parser.add_argument("--model", default="jahp")
parser.add_argument("--box", type=int, nargs=4, default=(190, 60, 410, 280), metavar="N", help="left top right bottom")
options = parser.parse_args()


def largest(name: str, settings: dict, budget: int) -> bytes | None:
    """The file of the highest quality that needs no more than ``budget`` bytes; None: there is none."""
    low, high, best = 0, 95, None
    while low <= high:
        quality = (low + high) // 2
        file = io.BytesIO()
        photo.save(file, name, quality=quality, **settings)
        if file.tell() <= budget:
            best, low = file.getvalue(), quality + 1
        else:
            high = quality - 1
    return best


photo = Image.open(options.photo).convert("RGB")
pixels = np.array(photo)
data = light.compress(pixels, options.model, options.quality)
shown = [("original", pixels, None)]
for name, (feature, settings) in PEERS.items():
    if features.check(feature) and (file := largest(name, settings, len(data))):
        shown.append((name, np.array(Image.open(io.BytesIO(file)).convert("RGB")), len(file)))
shown.append((f"fastlic, {options.model}", light.decompress(data), len(data)))

left, top, right, bottom = options.box
width, height, margin = right - left, bottom - top, 34
rows = -(-len(shown) // 3)
picture = Image.new("RGB", (3 * (width + 4) - 4, rows * (height + margin)), "white")
draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
for i, (name, image, size) in enumerate(shown):
    x, y = i % 3 * (width + 4), i // 3 * (height + margin)
    picture.paste(Image.fromarray(image[top:bottom, left:right]), (x, y + margin))
    text = name if size is None else f"{name}\n{size:,} bytes, {light.psnr(pixels, image):.2f} dB"
    draw.multiline_text((x + 2, y + 1), text, "black", font, spacing=2)
    print(text.replace("\n", ": "))
picture.save(options.out, quality=90)
