"""The same detail at qualities 1 to 8, with bytes and PSNR of the whole photo.

python examples/qualities.py PHOTO --out qualities.webp
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fastlic import light

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photo", type=Path)
parser.add_argument("--out", type=Path, default=Path("qualities.webp"))
parser.add_argument("--model", default="jahp")
parser.add_argument("--box", type=int, nargs=4, default=(230, 90, 390, 250), metavar="N", help="left top right bottom")
options = parser.parse_args()

pixels = np.array(Image.open(options.photo).convert("RGB"))
left, top, right, bottom = options.box
width, height, margin = right - left, bottom - top, 34
picture = Image.new("RGB", (4 * (width + 4) - 4, 2 * (height + margin)), "white")
draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
codec = light.load(options.model)  # once for all
for quality in range(1, codec.qualities + 1):
    data = light.compress(pixels, codec, quality)
    image = light.decompress(data, codec)
    at = ((quality - 1) % 4 * (width + 4), (quality - 1) // 4 * (height + margin))
    picture.paste(Image.fromarray(image[top:bottom, left:right]), (at[0], at[1] + margin))
    text = f"quality {quality}\n{len(data):,} bytes, {light.psnr(pixels, image):.2f} dB"
    draw.multiline_text((at[0] + 2, at[1] + 1), text, "black", font, spacing=2)
    print(text.replace("\n", ": "))
picture.save(options.out, quality=90)
