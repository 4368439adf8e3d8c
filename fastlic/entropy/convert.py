"""From a trained float model to its integer entropy model: calibration, quantisation, tables.

Done once, after training, on any machine; the result is stored. Ranges of all activations are taken per channel over
the calibration images at every quality, widened by a margin, and folded into the weights of the layer that reads them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.entropy.fitting import coded_symbols, fit_tables
from fastlic.entropy.fixed import ACTIVATION_BITS, MEAN_BITS, SCALE_BITS, WIDE_BITS, Requantiser, fixed_point
from fastlic.entropy.layers import IntegerConv
from fastlic.entropy.model import CONTEXT_TAPS, IntegerEntropyModel
from fastlic.entropy.scales import scale_levels, scale_thresholds
from fastlic.models import JAHP, Hyperprior, ScaleHyperprior
from fastlic.models.density import EntropyBottleneck
from fastlic.models.layers import LEAKY_SLOPE
from fastlic.ops.rans import CdfTables, gaussian_tables, pmf_tables

# Unseen images exceed the calibration's largest activations; what still does not fit is clipped, which costs rate only.
_MARGIN = 1.25
_LIMIT = (1 << (ACTIVATION_BITS - 1)) - 1
# Symbols beyond the table's row are escapes; one of z's rows needs no more than its density's body.
_TAIL = 1e-7
_WIDEST_ROW = 120


class _Ranges:
    """Largest magnitude per channel of every named activation."""

    def __init__(self) -> None:
        self.largest: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(1))

    def see(self, name: str, x: Tensor) -> Tensor:
        """Record x [1, C, h, w] and hand it on."""
        self.largest[name] = np.maximum(self.largest[name], x.abs().amax((0, 2, 3)).double().cpu().numpy())
        return x

    def scale(self, name: str, floor: float = 0.0) -> np.ndarray:
        """float64 [C]: the real value of one unit. Dead channels get a thousandth of the liveliest one's range."""
        largest = np.maximum(self.largest[name], max(floor, self.largest[name].max() * 1e-3, 1e-6))
        return largest * _MARGIN / _LIMIT


def _latents(model: Hyperprior, images: Sequence[Tensor]) -> Iterator[Tensor]:
    """The latent [1, M, h, w] of each image at each quality."""
    qualities: list[float | None] = [float(q) for q in range(1, model.qualities + 1)] or [None]
    for image in images:
        pad = (-image.shape[-1] % model.stride, -image.shape[-2] % model.stride)
        x = F.pad(image.reshape(1, *image.shape[-3:]), (0, pad[0], 0, pad[1]), mode="replicate")
        latent = model.g_a(x)
        for quality in qualities:
            yield latent * model.gains(quality, 1)[0]


@torch.no_grad()
def _calibrate(model: Hyperprior, images: Sequence[Tensor]) -> _Ranges:
    ranges = _Ranges()
    for y in _latents(model, images):
        h = ranges.see("z", model.entropy_bottleneck(model.hyper_analysis(y))[0])
        for i in (0, 2, 4):
            h = model.h_s[i](h)
            h = ranges.see(f"h_s.{i}", F.leaky_relu(h, model.hyper_slope) if i < 4 else h)
        if not isinstance(model, JAHP):
            continue
        y_hat = torch.round(y)
        for _ in range(2):  # the second round sees the latent as coding leaves it: round(y - mean) + mean
            e = torch.cat([h, ranges.see("context", model.context_prediction(ranges.see("y", y_hat)))], 1)
            for i in (0, 2, 4):
                e = model.entropy_parameters[i](e)
                if i < 4:
                    e = ranges.see(f"parameters.{i}", F.leaky_relu(e, LEAKY_SLOPE))
            means = e.chunk(2, 1)[1]
            y_hat = torch.round(y - means) + means
    return ranges


def bottleneck_tables(bottleneck: EntropyBottleneck, median: np.ndarray) -> CdfTables:
    """The coder's tables for z: one row per channel, centred on ``median`` (int32 [N], units of 2^-6).

    Probabilities are evaluated in float64, once; the resulting integers are what both sides keep.
    """
    double = EntropyBottleneck(bottleneck.channels).double()
    double.load_state_dict({k: v for k, v in bottleneck.state_dict().items() if not k.startswith("_")}, strict=False)
    k = torch.arange(-_WIDEST_ROW, _WIDEST_ROW + 1, dtype=torch.float64)
    centres = torch.from_numpy(median / 2**MEAN_BITS)[:, None, None]
    with torch.no_grad():
        lower = double.logits_cumulative(centres + k - 0.5)
        upper = double.logits_cumulative(centres + k + 0.5)
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


@torch.no_grad()
def _coded(
    model: Hyperprior, integers: IntegerEntropyModel, images: Sequence[Tensor]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(scale indexes, symbols) of every image at every quality, as the integer path codes them."""
    medians = torch.from_numpy(integers.z_median.astype(np.int64))[:, None, None]
    for y in _latents(model, images):
        z = fixed_point(model.hyper_analysis(y)[0]) - medians
        yield coded_symbols(integers, z, fixed_point(y[0]))


def _with_zero_means(h_s: nn.Sequential) -> nn.Sequential:
    """h_s of a scale hyperprior with M more outputs that are always zero: the means that the schedule expects."""
    last = h_s[4]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    wide = nn.Conv2d(last.in_channels, 2 * last.out_channels, last.kernel_size[0], padding=last.padding[0])
    wide.weight.data = torch.cat([last.weight.data, torch.zeros_like(last.weight.data)])
    wide.bias = nn.Parameter(torch.cat([last.bias.data, torch.zeros_like(last.bias.data)]))
    return nn.Sequential(*list(h_s)[:4], wide)


def convert(model: Hyperprior, images: Sequence[Tensor]) -> IntegerEntropyModel:
    """The integer entropy model of a trained hyperprior model, JAHP included.

    Args:
        model: in eval mode, on the CPU, float32.
        images: calibration images, each [3, H, W] in [0, 1]; a handful of varied photographs suffices.

    Raises:
        ValueError: no images, or weights whose accumulators could leave int32.
    """
    if not images:
        raise ValueError("calibration needs at least one image")
    ranges = _calibrate(model, images)
    m = model.M
    median = np.rint(model.entropy_bottleneck.medians.double().cpu().numpy() * 2**MEAN_BITS).astype(np.int32)
    # Scales and means leave the last layer in their own fixed-point formats.
    head = np.concatenate([np.full(m, 2.0**-SCALE_BITS), np.full(m, 2.0**-MEAN_BITS)])

    def entry(name: str) -> tuple[np.ndarray, Requantiser]:
        scale = ranges.scale(name, floor=1.0)
        return scale, Requantiser.from_factors(2.0**-MEAN_BITS / scale, ACTIVATION_BITS)

    def stack(
        modules: nn.Sequential, name: str, source: np.ndarray, last: np.ndarray | None, slope: float
    ) -> list[IntegerConv]:
        """The convolutions at 0, 2 and 4 of ``modules``; ``last`` is the fixed-point format after the third, if any."""
        layers = []
        for i in (0, 2, 4):
            module = modules[i]
            assert isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
            wide = i == 4 and last is not None
            target = last if i == 4 and last is not None else ranges.scale(f"{name}.{i}")
            layers.append(
                IntegerConv.from_float(
                    module.weight,
                    module.bias if module.bias is not None else torch.zeros(len(target)),
                    source,
                    ACTIVATION_BITS,
                    target,
                    WIDE_BITS if wide else ACTIVATION_BITS,
                    stride=module.stride[0],
                    transposed=isinstance(module, nn.ConvTranspose2d),
                    negative_slope=slope if i < 4 else 1.0,
                )
            )
            source = target
        return layers

    z_scale, z_input = entry("z")
    h_s = _with_zero_means(model.h_s) if isinstance(model, ScaleHyperprior) else model.h_s
    hyper = stack(h_s, "h_s", z_scale, None if isinstance(model, JAHP) else head, model.hyper_slope)
    y_input: Requantiser | None = None
    context: IntegerConv | None = None
    parameters: list[IntegerConv] = []
    if isinstance(model, JAHP):
        y_scale, y_input = entry("y")
        masked = model.context_prediction
        assert masked.bias is not None
        taps = torch.stack([masked.weight[:, :, i + 2, j + 2] for i, j in CONTEXT_TAPS], dim=2)[..., None]
        context_scale = ranges.scale("context")
        context = IntegerConv.from_float(taps, masked.bias, y_scale, ACTIVATION_BITS, context_scale, ACTIVATION_BITS)
        joined = np.concatenate([ranges.scale("h_s.4"), context_scale])
        parameters = stack(model.entropy_parameters, "parameters", joined, head, LEAKY_SLOPE)
    levels = scale_levels()
    integers = IntegerEntropyModel(
        z_tables=bottleneck_tables(model.entropy_bottleneck, median),
        y_tables=gaussian_tables(levels),
        z_median=median,
        z_input=z_input,
        hyper=tuple(hyper),
        y_input=y_input,
        context=context,
        parameters=tuple(parameters),
        thresholds=scale_thresholds(levels),
    )
    return replace(integers, y_tables=fit_tables(levels, _coded(model, integers, images)))
