"""The float path: what a model's own entropy networks would code, for comparison with the integers that stand for them.

It is not reproducible from machine to machine and codes nothing; it says how many bits an ideal coder would need if it
were. The context reads round(y - mean) + mean of positions before, as while coding, so it runs in wavefront steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.entropy.wavefront import CONTEXT_TAPS, steps
from fastlic.models import JAHP, Hyperprior, MLICPlusPlus, ScaleHyperprior
from fastlic.models.density import SCALE_BOUND, dead_zone, round_down

_FLOOR = 2.0**-40  # symbols this unlikely would be escapes


class FloatPath(NamedTuple):
    """Bits of every latent, float64 y [M, h, w] and z [N, hz, wz]; y_hat [M, h, w] is what synthesis would get."""

    y: Tensor
    z: Tensor
    y_hat: Tensor


@torch.no_grad()
def float_path(model: Hyperprior, z: Tensor, y: Tensor, worth: float | None = None) -> FloatPath:
    """The float path of one image.

    Args:
        z, y: float latents [N, ceil(h/4), ceil(w/4)] and [M, h, w], before rounding.
        worth: bits that the encoder takes a unit of squared error to be worth (fastlic.entropy.zones).
    """
    medians = model.entropy_bottleneck.medians[:, None, None]
    z_hat = (torch.round(z - medians) + medians)[None]
    z_bits = _bits(model.entropy_bottleneck.likelihood(z_hat))[0]
    if isinstance(model, MLICPlusPlus):
        y_hat, likelihoods = model.code_latent(y[None], z_hat, worth)
        return FloatPath(_bits(likelihoods)[0], z_bits, y_hat[0])
    features = model.h_s(z_hat)[0, :, : y.shape[1], : y.shape[2]]
    if isinstance(model, JAHP):
        y_bits, y_hat = _sequential(model, features, y, worth)
        return FloatPath(y_bits, z_bits, y_hat)
    scales, means = (features, torch.zeros_like(y)) if isinstance(model, ScaleHyperprior) else features.chunk(2)
    symbols = _rounded(y - means, scales, worth)
    return FloatPath(_gaussian_bits(symbols, scales), z_bits, symbols + means)


def _rounded(differences: Tensor, scales: Tensor, worth: float | None) -> Tensor:
    return torch.round(differences) if worth is None else round_down(differences, dead_zone(scales, worth))


def _sequential(model: JAHP, features: Tensor, y: Tensor, worth: float | None) -> tuple[Tensor, Tensor]:
    """(bits, y_hat), both [M, h, w]."""
    channels, height, width = y.shape
    masked = model.context_prediction
    taps = torch.stack([masked.weight[:, :, i + 2, j + 2] for i, j in CONTEXT_TAPS], 2).permute(2, 1, 0).flatten(0, 1)
    stride = width + 4  # two columns on either side of the map, two rows above it
    seen = torch.zeros((height + 2) * stride, channels)
    reach = torch.tensor([i * stride + j for i, j in CONTEXT_TAPS])
    target, hyper = (t.permute(1, 2, 0).reshape(height * width, -1) for t in (y, features))
    bits = torch.zeros(height * width, channels, dtype=torch.float64)
    for positions in steps(height, width):
        where = torch.from_numpy(positions)
        centre = (where // width + 2) * stride + where % width + 2
        context = F.linear(seen[centre[:, None] + reach].flatten(1), taps.T, masked.bias)
        joined = torch.cat([hyper[where], context], 1)
        scales, means = model.entropy_parameters(joined[:, :, None, None])[:, :, 0, 0].chunk(2, 1)
        symbols = _rounded(target[where] - means, scales, worth)
        seen[centre] = symbols + means
        bits[where] = _gaussian_bits(symbols, scales)
    inside = seen.reshape(height + 2, stride, channels)[2:, 2:-2].permute(2, 0, 1)
    return bits.T.reshape(channels, height, width), inside


def _gaussian_bits(symbols: Tensor, scales: Tensor) -> Tensor:
    """Bits of round(y - mean) under rounded Gaussians of these scales."""
    deviation = scales.double().clamp_min(SCALE_BOUND) * math.sqrt(2)
    distance = symbols.double().abs()
    return _bits((torch.erfc((distance - 0.5) / deviation) - torch.erfc((distance + 0.5) / deviation)) / 2)


def _bits(probabilities: Tensor) -> Tensor:
    return -probabilities.double().clamp_min(_FLOOR).log2()
