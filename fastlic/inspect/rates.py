"""Bits of Gaussian families: what the integers cost against the float networks, and where the bits of latents are."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fastlic.codec import Codec, container
from fastlic.entropy.float_path import float_path
from fastlic.entropy.rate import coded_bits
from fastlic.entropy.scales import scale_levels
from fastlic.entropy.zones import worth_at
from fastlic.errors import CodecFileError
from fastlic.evaluate import psnr
from fastlic.models import JAHP, Hyperprior, MLICPlusPlus
from fastlic.models.mlic.checkerboard import anchor_mask
from fastlic.models.state_files import read_weights
from fastlic.ops.tables import gaussian_tables

SLICE = 32  # channels
_MULTIPLE = 64  # of an image's sides, for ``latent_bits``


class Growth(NamedTuple):
    """Bits of one image, and PSNR in dB.

    The float path is the model as it was trained: float hyper synthesis, context and parameters, position after
    position on its own reconstruction, exact Gaussians of float means and scales, an ideal coder.
    """

    float_y: float
    float_z: float
    gaussians_y: float  # the integer path's symbols under plain Gaussians of its scale levels
    tables: float  # y and z under the stored tables: what an ideal coder would need
    sections: float  # y and z as they were coded
    float_psnr: float
    psnr: float


@torch.no_grad()
def growth(codec: Codec, image: Tensor, quality: float | None) -> Growth:
    """What the integers of ``codec`` cost on one image [3, H, W] uint8.

    Raises:
        ValueError: a codec without its float entropy network, or of another family.
    """
    model = float_model(codec)
    analysed = codec.analyse(image, quality, transforms="float")
    z, y, _ = analysed.target
    floats = float_path(model, z, y, worth_at(model.gain, quality))
    (symbols, (data, _)), tables = (codec.symbols(analysed), codec.encode([analysed])[0]), codec.entropy
    by_tables = coded_bits(tables.y_tables, *symbols["y"]) + coded_bits(tables.z_tables, *symbols["z"])
    decoded = codec.decompress(data, dtype=torch.uint8)
    assert isinstance(decoded, Tensor)
    x = model.g_s(floats.y_hat[None] * model.gains(quality, 1)[1])[0, :, : image.shape[1], : image.shape[2]]
    return Growth(
        float(floats.y.sum()),
        float(floats.z.sum()),
        coded_bits(gaussian_tables(scale_levels()), *symbols["y"]),
        by_tables,
        8.0 * sum(container.look(data).section_bytes),
        psnr((x.clamp(0, 1) * 255).round().to(torch.uint8), image),
        psnr(decoded, image),
    )


def float_model(codec: Codec) -> Hyperprior:
    """The Gaussian model that ``codec`` was made of.

    Raises:
        ValueError: the codec has none.
    """
    if codec.model is None:
        raise ValueError(f"{codec!r} has no float entropy network: export it without --coding-only")
    if not isinstance(codec.model, Hyperprior):
        raise ValueError(f"{codec!r} has no Gaussian latents")
    return codec.model


def read_model(path: Path) -> Hyperprior:
    """The Gaussian model of a codec file with its float entropy network, or of a JAHP's or MLIC++'s state dict.

    Raises:
        OSError: the file cannot be read.
        CodecFileError, ValueError: it holds no such model.
    """
    try:
        return float_model(Codec.load(path))
    except CodecFileError:
        state = {name: value.float() for name, value in read_weights(path).items()}
        family = JAHP if "context_prediction.weight" in state else MLICPlusPlus
        return family.from_state_dict(state).eval()


@torch.no_grad()
def latent_bits(model: Hyperprior, image: Tensor, quality: float | None) -> Tensor:
    """Where the float path's bits of one image [3, H, W] in [0, 1] are, cropped to multiples of 64 pixels.

    Returns:
        float64 [2, 1 + slices]: of z (first row), then of y by slices of 32 channels, on the half of the positions
        that MLIC's checkerboard codes first (anchors, first row) and on the others.

    Raises:
        ValueError: a quality that the model does not serve.
    """
    if quality is not None and not 1 <= quality <= model.qualities:
        raise ValueError(f"quality must be from 1 to {model.qualities}, got {quality:g}")
    height, width = (side // _MULTIPLE * _MULTIPLE for side in image.shape[1:])
    y = model.g_a(image[None, :, :height, :width]) * model.gains(quality, 1)[0]
    found = float_path(model, model.hyper_analysis(y)[0], y[0], worth_at(model.gain, quality))
    anchors = anchor_mask(found.y)
    halves = torch.stack([(found.y * part).sum((1, 2)) for part in (anchors, 1 - anchors)])  # [2, M]
    by_slice = torch.stack([part.sum(1) for part in halves.split(SLICE, 1)], 1)
    of_z = torch.tensor([[float(found.z.sum())], [0]], dtype=by_slice.dtype)
    return torch.cat([of_z, by_slice], 1)
