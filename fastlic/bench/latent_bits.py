"""``python -m fastlic.bench.latent_bits CHECKPOINT... FOLDER``: where the bits of a Gaussian family's latents are.

For every checkpoint and quality, averages over the images of the float path's bits (fastlic.entropy.float_path): of z,
and of y by slices of 32 channels, on the half of the positions that MLIC's checkerboard codes first (anchors) and on
the half that follows. Models with the same transforms so show what one entropy model sees and the other does not.

A checkpoint is a state dict, such as checkpoints/jahp_float16.safetensors. Images are cropped to multiples of 64.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from fastlic.bench.same_bits import SUFFIXES
from fastlic.codec.image_files import read_image
from fastlic.entropy.float_path import float_path_maps
from fastlic.entropy.zones import worth_at
from fastlic.models import JAHP, Hyperprior, MLICPlusPlus
from fastlic.models.mlic.checkerboard import anchor_mask
from fastlic.models.state_files import read_weights

_SLICE = 32
_MULTIPLE = 64


def load(path: Path) -> Hyperprior:
    """The JAHP or MLIC++ whose float weights are in ``path``."""
    state = {name: value.float() for name, value in read_weights(path).items()}
    family = JAHP if "context_prediction.weight" in state else MLICPlusPlus
    return family.from_state_dict(state)


@torch.no_grad()
def measure(model: Hyperprior, image: Tensor, quality: float) -> Tensor:
    """float64 [2, 1 + slices]: bits of z (first row) and of every slice, anchors above the rest; image [1, 3, H, W]."""
    y = model.g_a(image) * model.gains(quality, 1)[0]
    y_bits, z_bits = float_path_maps(model, model.hyper_analysis(y)[0], y[0], worth_at(model.gain, quality))
    mask = anchor_mask(y_bits)
    halves = torch.stack([(y_bits * part).sum((1, 2)) for part in (mask, 1 - mask)])  # [2, M]
    by_slice = torch.stack([part.sum(1) for part in halves.split(_SLICE, 1)], 1)
    z = torch.tensor([[z_bits.sum()], [0]], dtype=by_slice.dtype)
    return torch.cat([z, by_slice], 1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastlic.bench.latent_bits", description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+", help="float weights of JAHP or MLIC++")
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--qualities", default="1,4,8")
    options = parser.parse_args(arguments)
    files = sorted(path for path in options.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        print(f"no images in {options.folder}", file=sys.stderr)
        return 2
    models = {str(path): load(path) for path in options.checkpoints}
    print(f"{len(files)} images of {options.folder}; bits per image: all, z, then y by slices of {_SLICE} channels")
    for quality in (float(q) for q in options.qualities.split(",")):
        for name, model in models.items():
            total = torch.zeros(())
            for path in files:
                image = read_image(path).pixels[None].float() / 255
                h, w = (side // _MULTIPLE * _MULTIPLE for side in image.shape[2:])
                total = total + measure(model, image[:, :, :h, :w], quality)
            mean = total / len(files)
            print(f"quality {quality:g}, {name}: {mean.sum():.0f}, z {mean[0, 0]:.0f}")
            for label, row in zip(("anchors", "others"), mean[:, 1:], strict=True):
                print(f"  {label:8}" + "".join(f"{bits:9.0f}" for bits in row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
