"""What decoders see of a stream before all of it has come: previews of MLIC++ and McQuic.

    python examples/previews.py PHOTO --out previews.webp

A preview reads the first parts of a stream alone, slices of MLIC++ and levels of McQuic; what follows may be damaged or
missing.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import fastlic
from fastlic import light

PREVIEWS = {"mlic++": ("slices", (1, 2, 3)), "mcquic": ("levels", (1, 2))}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photo", type=Path)
parser.add_argument("--out", type=Path, default=Path("previews.webp"))
parser.add_argument("--quality", type=float, default=4)
options = parser.parse_args()

photo = Image.open(options.photo).convert("RGB")
x = torch.from_numpy(np.array(photo)).permute(2, 0, 1)
width, height, margin = photo.width // 3, photo.height // 3, 18
picture = Image.new("RGB", (3 * (width + 4) - 4, len(PREVIEWS) * (height + margin)), "white")
draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
for row, (model, (name, counts)) in enumerate(PREVIEWS.items()):
    codec = fastlic.load(model)
    data = codec.compress(x, options.quality)
    for column, count in enumerate(counts):
        image = codec.decompress(data, dtype=torch.uint8, **{name: count})
        small = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).resize(
            (width, height), Image.Resampling.BOX
        )
        at = (column * (width + 4), row * (height + margin))
        picture.paste(small, (at[0], at[1] + margin))
        of = codec.previews[name]
        text = f"{model}, {name}={count} of {of}"
        draw.text((at[0] + 2, at[1] + 1), text, "black", font)
        print(f"{text}: {light.psnr(x.numpy(), image.numpy()):.2f} dB")
picture.save(options.out, quality=90)
