"""What every conversion to an integer entropy model does alike: latents of images, tables, units of latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.entropy.fitting import coded_symbols
from fastlic.entropy.passes import LatentModel
from fastlic.entropy.scales import scale_levels, scale_thresholds
from fastlic.entropy.zones import worth_at, zones_for
from fastlic.integers.fixed import ACTIVATION_BITS, MEAN_BITS, SCALE_BITS, Requantiser, fixed_point
from fastlic.models import Hyperprior
from fastlic.models.defaults import Defaults
from fastlic.models.density import EntropyBottleneck
from fastlic.ops.tables import CdfTables, gaussian_tables, pmf_tables

UNIT_LATENT = 2.0**-MEAN_BITS
# Symbols beyond the table's row are escapes; one of z's rows needs no more than its density's body.
_TAIL = 1e-7
_WIDEST_ROW = 120


def latents_of(model: Hyperprior, images: Sequence[Tensor]) -> Iterator[tuple[Tensor, float | None]]:
    """The latent [1, M, h, w] of each image [3, H, W] at each quality, and what a squared error is worth there.

    Raises:
        ValueError: no images.
    """
    if not images:
        raise ValueError("calibration needs at least one image")
    qualities: list[float | None] = [float(q) for q in range(1, model.qualities + 1)] or [None]
    for image in images:
        pad = (-image.shape[-1] % model.stride, -image.shape[-2] % model.stride)
        x = F.pad(image.reshape(1, *image.shape[-3:]), (0, pad[0], 0, pad[1]), mode="replicate")
        latent = model.g_a(x)
        for quality in qualities:
            yield latent * model.gains(quality, 1)[0], worth_at(model.gain, quality)


def entry(scale: np.ndarray) -> Requantiser:
    """From latents in units of 2^-6 to activations of which one unit is worth ``scale``, float64 [C]."""
    return Requantiser.from_factors(UNIT_LATENT / scale, ACTIVATION_BITS)


def head_units(channels: int) -> np.ndarray:
    """float64 [2 channels]: scales and means leave the last layer in their own fixed-point formats."""
    return np.repeat([2.0**-SCALE_BITS, UNIT_LATENT], channels)


def hyper_medians(bottleneck: EntropyBottleneck, step: float = 1.0) -> np.ndarray:
    """int32 [N]: z's medians in units of 2^-6 of its step."""
    medians = bottleneck.medians.double().cpu().numpy() / step
    return np.rint(medians * 2**MEAN_BITS).astype(np.int32)


def bottleneck_tables(bottleneck: EntropyBottleneck, median: np.ndarray, step: float = 1.0) -> CdfTables:
    """The coder's tables for z: one row per channel, centred on ``median`` (int32 [N], units of 2^-6 of ``step``).

    Probabilities are evaluated in float64, once; the resulting integers are what both sides keep.
    """
    with Defaults():  # whose random numbers are its own
        double = EntropyBottleneck(bottleneck.channels).double()
    double.load_state_dict({k: v for k, v in bottleneck.state_dict().items() if not k.startswith("_")}, strict=False)
    k = torch.arange(-_WIDEST_ROW, _WIDEST_ROW + 1, dtype=torch.float64)
    centres = torch.from_numpy(median / 2**MEAN_BITS)[:, None, None]
    with torch.no_grad():
        lower = double.logits_cumulative((centres + k - 0.5) * step)
        upper = double.logits_cumulative((centres + k + 0.5) * step)
        # Far out both sigmoids are nearly 1; evaluating them on the side where they are small keeps the difference.
        sign = torch.where(lower + upper > 0, -1.0, 1.0)  # never 0: a centred density is likeliest in the middle
        pmf = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()[:, 0].numpy()
    rows, offsets = [], []
    for p in pmf:
        live = np.flatnonzero(p > _TAIL)
        first, last = (live[0], live[-1]) if len(live) else (_WIDEST_ROW, _WIDEST_ROW)
        rows.append(p[first : last + 1])
        offsets.append(int(first) - _WIDEST_ROW)
    return pmf_tables(rows, offsets)


def plain_tables(bottleneck: EntropyBottleneck) -> dict[str, Any]:
    """The fields z_tables, y_tables, z_median and thresholds of an integer model; y's rows are Gaussians."""
    median, levels = hyper_medians(bottleneck), scale_levels()
    return {
        "z_tables": bottleneck_tables(bottleneck, median),
        "y_tables": gaussian_tables(levels),
        "z_median": median,
        "thresholds": scale_thresholds(levels),
    }


def coded_latents(
    model: LatentModel,
    hyper_analysis: Callable[[Tensor], Tensor],
    latents: Iterable[tuple[Tensor, float | None]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(scale indexes, symbols) of every latent [1, M, h, w], as the integer path codes it.

    Args:
        latents: before rounding; and of each, what a squared error is worth (fastlic.entropy.zones).
    """
    for y, worth in latents:
        yield coded_symbols(model, fixed_point(hyper_analysis(y)[0]), fixed_point(y[0]), zones_for(worth))
