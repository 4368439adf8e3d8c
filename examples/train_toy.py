"""A codec of your own in seconds: the recipe of `fastlic train` on one photo, and what it makes of another.

    python examples/train_toy.py PHOTO OTHER --out own.webp

This shows the way, not the result: some steps on a few tiles of one photo. The recipe, its data and hours of it make a
codec that is worth something: docs/training.md. Transforms start as Karhunen-Loeve transforms, as the recipe has it.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import fastlic
from fastlic import light
from fastlic.train import config
from fastlic.train.export import export
from fastlic.train.trainer import Trainer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photo", type=Path, help="of at least 256x256 pixels, to train on")
parser.add_argument("other", type=Path, help="to compress")
parser.add_argument("--out", type=Path, default=Path("own.webp"))
parser.add_argument("--steps", type=int, default=30)
parser.add_argument("--quality", type=float, default=6)
options = parser.parse_args()

small = {"steps": options.steps, "batch": 1, "crop": 128, "model": {"N": 16, "M": 48, "widths": [12, 24, 32]}}
recipe = config.merged(config.recipe("jahp"), small)
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "photos").mkdir()
    Image.open(options.photo).convert("RGB").save(folder / "photos" / "photo.png")
    trainer = Trainer(config.RunConfig.from_dict(recipe), folder / "photos", folder / "run", "cpu")
    trainer.run()
    export(folder / "run" / "best.pt", trainer.tiles, folder / "own.safetensors", "own")
    codec = fastlic.load(folder / "own.safetensors")

image = Image.open(options.other).convert("RGB")
x = torch.from_numpy(np.array(image)).permute(2, 0, 1)
shown = [("original", x, 0)]
for name, used in (("own", codec), ("jahp, as it ships", fastlic.load("jahp"))):
    data = used.compress(x, options.quality)
    shown.append((name, used.decompress(data, dtype=torch.uint8), len(data)))

margin = 34
picture = Image.new("RGB", (len(shown) * (image.width + 4) - 4, image.height + margin), "white")
draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
for i, (name, pixels, size) in enumerate(shown):
    at = i * (image.width + 4)
    picture.paste(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()), (at, margin))
    text = name if not size else f"{name}\n{size:,} bytes, {light.psnr(x.numpy(), pixels.numpy()):.2f} dB"
    draw.multiline_text((at + 2, 1), text, "black", font, spacing=2)
    print(text.replace("\n", ": "))
picture.save(options.out, quality=90)
