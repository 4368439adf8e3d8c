"""``python -m fastlic.bench.growth CODEC FOLDER``: what the integers cost in rate, against the float networks.

The float path is the model as it was trained: float hyper synthesis, context and parameters, position after position on
its own reconstruction, exact Gaussians of float means and scales, an ideal coder. Beside its bits, for every quality:

    gaussians  the integer path's symbols under plain Gaussians of its scale levels: the networks' share
    tables     the same under its stored tables, and z under z's: what an ideal coder would need
    bytes      the coded sections

Models of the MLIC family get two columns more: the PSNR of the integer path, and what it lost against the float path,
whose latents differ from the integers' in residual prediction and, now and then, in a symbol.

The codec file must still have its float entropy network (``fastlic export`` without ``--coding-only``).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from fastlic.bench.same_bits import SUFFIXES
from fastlic.codec import Codec, drivers, mlic_drivers
from fastlic.codec.image_files import read_image
from fastlic.entropy.fitting import coded_symbols
from fastlic.entropy.float_path import float_path_bits
from fastlic.entropy.mlic.rate import table_bits as mlic_table_bits
from fastlic.entropy.rate import bits_of, coded_bits, table_bits
from fastlic.entropy.scales import scale_levels
from fastlic.entropy.zones import worth_at
from fastlic.integers.fixed import MEAN_BITS, fixed_point
from fastlic.models import Hyperprior, MLICPlusPlus
from fastlic.ops.tables import gaussian_tables


def measure(codec: Codec, image: torch.Tensor, quality: float | None) -> np.ndarray:
    """Bits [float y, float z, Gaussians y, tables y, tables z, section y, section z] of one image [3, H, W]."""
    assert isinstance(codec.model, Hyperprior)
    z, y, zones = codec._analyse(image, quality)
    sections, latents = drivers.encode(codec.entropy, z, y, zones=zones)
    indexes, symbols = coded_symbols(codec.entropy, fixed_point(z), fixed_point(y), zones)
    gaussians = coded_bits(gaussian_tables(scale_levels()), indexes, symbols)
    coded = [8.0 * len(section) for section in reversed(sections)]
    floats = float_path_bits(codec.model, z, y, worth_at(codec.model.gain, quality))
    return np.array([*floats, gaussians, *table_bits(codec.entropy, latents), *coded])


@torch.no_grad()
def measure_mlic(codec: Codec, image: torch.Tensor, quality: float | None) -> np.ndarray:
    """As ``measure``, and the mean squared errors of the float path and of the integers."""
    model, integers, coder = codec.model, codec.entropy, codec._coder
    assert isinstance(model, MLICPlusPlus)
    target = codec._analyse(image, quality)
    z, y, _ = target
    ((sections, latents),) = mlic_drivers.encode_many(integers, [(z, y)], zones=drivers.zones_of([target]))
    tables = mlic_table_bits(integers, latents.z, latents.symbols)
    gaussians = mlic_table_bits(integers, latents.z, latents.symbols, gaussian_tables(scale_levels()))[0]
    z_hat, z_likelihood = model.entropy_bottleneck(z[None])
    y_hat, y_likelihood = model.code_latent(y[None], z_hat, worth_at(model.gain, quality))
    floats = mlic_drivers.MlicLatents(latents.z, y_hat[0].double() * 2**MEAN_BITS, latents.symbols)
    errors = []
    for seen in (floats, latents):
        decoded = coder.synthesise(coder.transforms, seen, quality, (image.shape[1], image.shape[2]), {})
        pixels = (decoded.clamp(0, 1) * 255).round() / 255
        errors.append(float((pixels - image).square().mean()))
    coded = [8.0 * len(section) for section in reversed(sections)]
    return np.array([bits_of(y_likelihood), bits_of(z_likelihood), gaussians, *tables, *coded, *errors])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastlic.bench.growth", description=__doc__)
    parser.add_argument("codec", type=Path, help="codec file with its float entropy network")
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--qualities", help="such as 1,4,8; default: all whole ones")
    options = parser.parse_args(arguments)
    codec = Codec.load(options.codec)
    if codec.model is None:
        print(f"{options.codec} has no float entropy network: export it without --coding-only", file=sys.stderr)
        return 2
    files = sorted(path for path in options.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        print(f"no images in {options.folder}", file=sys.stderr)
        return 2
    qualities: list[float | None] = [float(q) for q in range(1, codec.qualities + 1)] or [None]
    if options.qualities:
        qualities = [float(q) for q in options.qualities.split(",")]
    print(f"{len(files)} images of {options.folder}, {codec!r}")
    mlic = isinstance(codec.model, MLICPlusPlus)
    quality_columns = "      PSNR      loss" if mlic else ""
    print(
        f"quality  float bytes  gaussians    tables     bytes{quality_columns}   (y; all; all; % over the float path)"
    )
    for quality in qualities:
        images = (read_image(path).pixels.float() / 255 for path in files)
        results = [(measure_mlic if mlic else measure)(codec, image, quality) for image in images]
        y, z, gaussians, y_tables, z_tables, y_coded, z_coded = np.sum(results, 0)[:7]
        growth = [
            100 * (a / b - 1) for a, b in ((gaussians, y), (y_tables + z_tables, y + z), (y_coded + z_coded, y + z))
        ]
        text = "".join(f"{value:+10.3f}" for value in growth)
        if mlic:  # averages over images, as PSNR is usually given
            before, after = (-10 * np.log10([result[i] for result in results]).mean() for i in (7, 8))
            text += f"{after:10.3f}{before - after:+10.4f}"
        print(f"{quality or 'fixed'!s:>7}  {(y + z) / 8 / len(files):11.0f} {text}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
