"""From a trained float model to its integer entropy model: calibration, quantisation, tables.

Done once, after training, on any machine; the result is stored. Ranges of all activations are taken per channel over
the calibration images at every quality, widened by a margin, and folded into the weights of the layer that reads them.
Weights of the parameter network, whose errors cost most, are rounded for the inputs that those images bring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from fastlic.entropy.calibration import entry, head_units, latents_of, plain_tables
from fastlic.entropy.fitting import choose_tables, coded_symbols
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.scales import scale_levels
from fastlic.entropy.wavefront import CONTEXT_TAPS
from fastlic.entropy.zones import zones_for
from fastlic.integers.builder import Builder
from fastlic.integers.fixed import WIDE_BITS, Requantiser, fixed_point
from fastlic.integers.layer import HALVED, PLAIN
from fastlic.integers.ranges import Ranges
from fastlic.integers.stages import Stage, stages_of
from fastlic.models import JAHP, Hyperprior, ScaleHyperprior
from fastlic.models.density import EntropyBottleneck, dead_zone, round_down
from fastlic.models.layers import MaskedConv2d

# Activations between parameter layers: their ranges are set by the highest rates, and at the lowest ones, where they
# use a small part of it, 12 bits cost 1 % of the rate.
_PARAMETER_BITS = 14


@dataclass(frozen=True)
class Rate:
    """A quantisation step at which calibration sees every latent; plain models have none but the default.

    Attributes:
        gain: what the latent, its means and its scales are multiplied by before rounding.
        hyper_step: what z is divided by.
        shift: [1, 2M, 1, 1], added to the context's output.
        offset: from scales times the gain to what magnitudes of symbols but 0 lose.
    """

    gain: float = 1.0
    hyper_step: float = 1.0
    shift: Tensor | None = None
    offset: Callable[[Tensor], Tensor] | None = None

    def round(self, y: Tensor, means: Tensor, scales: Tensor | None = None, worth: float | None = None) -> Tensor:
        """What coding leaves of y; ``worth`` as for ``fastlic.models.density.dead_zone``."""
        differences = (y - means) * self.gain
        if worth is not None and scales is not None:
            symbols = round_down(differences, dead_zone(scales * self.gain, worth))
        else:
            symbols = torch.round(differences)
        if self.offset is not None and scales is not None:
            symbols = symbols - symbols.sign() * self.offset(scales * self.gain)
        return symbols / self.gain + means


@dataclass(frozen=True)
class EntropyNetworks:
    """The float networks of one Gaussian model that convert to integers.

    Attributes:
        hyper_analysis: y [1, M, h, w] -> z [1, N, h/4, w/4].
        h_s: convolutions, transposed or followed by PixelShuffle, with ReLUs, plain or leaky, between them; its outputs
            are scales and means, or scales alone, or with a context any features.
        bottleneck: the density of z.
        context, parameters: the masked convolution and the 1x1 layers after it; None without context.
    """

    hyper_analysis: Callable[[Tensor], Tensor]
    h_s: nn.Sequential
    bottleneck: EntropyBottleneck
    context: MaskedConv2d | None = None
    parameters: nn.Sequential | None = None
    scales_alone: bool = False


def networks_of(model: Hyperprior) -> EntropyNetworks:
    """The entropy networks of a model of fastlic.models."""
    networks = EntropyNetworks(model.hyper_analysis, model.h_s, model.entropy_bottleneck)
    if isinstance(model, JAHP):
        return replace(networks, context=model.context_prediction, parameters=model.entropy_parameters)
    return replace(networks, scales_alone=isinstance(model, ScaleHyperprior))


def _stages(network: nn.Sequential, name: str) -> list[Stage]:
    """The layers of a network in order; what follows the last convolution is left out: scales are bounded anyway.

    Raises:
        ValueError: a layer that has no integer form.
    """
    stages = stages_of(network, name)
    for stage in stages:
        if stage.curve is not None or stage.kind is HALVED:
            fault = "of stride 2" if stage.curve is None else "followed by GELU"
            raise ValueError(f"{stage.name} is {fault}: no integer form")
    return [*stages[:-1], replace(stages[-1], slope=1.0)]


@torch.no_grad()
def calibrate(
    networks: EntropyNetworks,
    latents: Sequence[Tensor],
    rates: Sequence[Rate] = (Rate(),),
    worths: Sequence[float | None] = (),
) -> Ranges:
    """Ranges and moments over all latents at all rates; worths: of each latent, for encoders with dead zones."""
    ranges = Ranges()
    for y, worth in zip(latents, worths or [None] * len(latents), strict=True):
        z = networks.hyper_analysis(y)
        features: dict[float, Tensor] = {}
        for rate in rates:
            if rate.hyper_step not in features:
                features[rate.hyper_step] = _hyper_features(networks, z, rate.hyper_step, ranges)
            if networks.context is not None and networks.parameters is not None:
                _see_context(networks.context, networks.parameters, y, features[rate.hyper_step], rate, ranges, worth)
    return ranges


def _hyper_features(networks: EntropyNetworks, z: Tensor, step: float, ranges: Ranges) -> Tensor:
    medians = networks.bottleneck.medians[:, None, None]
    h = ranges.see("z", torch.round((z - medians) / step) * step + medians)
    return ranges.run(_stages(networks.h_s, "h_s"), h)


def _see_context(
    context: MaskedConv2d,
    parameters: nn.Sequential,
    y: Tensor,
    features: Tensor,
    rate: Rate,
    ranges: Ranges,
    worth: float | None,
) -> None:
    y_hat = rate.round(y, torch.zeros_like(y))
    stages = _stages(parameters, "parameters")
    for final in (False, True):  # the second round sees the latent as coding leaves it: round(y - mean) + mean
        seen = context(ranges.see("y", y_hat))
        e = torch.cat([features, ranges.see("context", seen if rate.shift is None else seen + rate.shift)], 1)
        for stage in stages:
            if final:
                ranges.remember_inputs(stage.name, e)
            e = ranges.run([stage], e)
        scales, means = e.chunk(2, 1)
        y_hat = rate.round(y, means, scales, worth)


@torch.no_grad()
def _coded(
    networks: EntropyNetworks,
    integers: IntegerEntropyModel,
    latents: Sequence[Tensor],
    worths: Sequence[float | None],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(scale indexes, symbols) of every latent, as the integer path codes them."""
    for y, worth in zip(latents, worths or [None] * len(latents), strict=True):
        z = networks.hyper_analysis(y)[0]
        yield coded_symbols(integers, fixed_point(z), fixed_point(y[0]), zones_for(worth))


def _with_zero_means(stage: Stage) -> Stage:
    """The last layer of a scale hyperprior with M more outputs that are always zero: the means of the schedule."""
    if stage.kind is not PLAIN:
        raise ValueError(f"{stage.name}: the last layer of a scale hyperprior must be a plain convolution")
    weight, bias = (torch.cat([t, torch.zeros_like(t)]) for t in (stage.weight, stage.bias))
    return replace(stage, weight=weight, bias=bias)


def _parameter_bits(inputs: int) -> int:
    """Bits of the activations that a parameter layer of that many inputs reads: no sum may leave int32."""
    return min(_PARAMETER_BITS, 32 - (127 * inputs).bit_length())


def convert(model: Hyperprior, images: Sequence[Tensor]) -> IntegerEntropyModel:
    """The integer entropy model of a trained hyperprior model, JAHP included.

    Args:
        model: in eval mode, on the CPU, float32.
        images: calibration images, each [3, H, W] in [0, 1]; a handful of varied photographs suffices.

    Raises:
        ValueError: no images, or weights whose accumulators could leave int32.
    """
    with torch.no_grad():
        latents, worths = zip(*latents_of(model, images), strict=True)
    return convert_networks(networks_of(model), latents, worths)


def convert_networks(
    networks: EntropyNetworks, latents: Sequence[Tensor], worths: Sequence[float | None] = ()
) -> IntegerEntropyModel:
    """The integer entropy model of float networks, calibrated on what their analysis transform makes of images.

    Args:
        networks: in eval mode, on the CPU, float32.
        latents: [1, M, h, w] each, h and w multiples of 4; before rounding.
        worths: of each latent, what a unit of squared error is worth in bits (fastlic.entropy.zones); none: nothing.

    Raises:
        ValueError: no latents, a layer without integer form, or weights whose accumulators could leave int32.
    """
    if not latents:
        raise ValueError("calibration needs at least one image")
    integers = quantise_networks(networks, calibrate(networks, latents, worths=worths), latents[0].shape[1])
    return integers.vary(y_tables=choose_tables(scale_levels(), _coded(networks, integers, latents, worths)))


def quantise_networks(
    networks: EntropyNetworks, ranges: Ranges, m: int, shifts: np.ndarray | None = None
) -> IntegerEntropyModel:
    """The integers of float networks within these ranges, with plain Gaussian tables.

    Args:
        m: channels of the latent.
        shifts: float64 [2M], the largest magnitudes that may be added to the context's bias later.
    """
    build = Builder(ranges)
    z_scale = ranges.scale("z", floor=1.0)
    h_s = _stages(networks.h_s, "h_s")
    if networks.scales_alone:
        h_s[-1] = _with_zero_means(h_s[-1])
    y_input: Requantiser | None = None
    if networks.context is None or networks.parameters is None:
        build.stack("hyper", h_s, z_scale, head_units(m), WIDE_BITS)
    else:
        hyper_scale = build.stack("hyper", h_s, z_scale)
        y_scale = ranges.scale("y", floor=1.0)
        y_input = entry(y_scale)
        masked = networks.context
        assert masked.bias is not None
        taps = torch.stack([masked.weight[:, :, i + 2, j + 2] for i, j in CONTEXT_TAPS], dim=2)[..., None]
        context_scale = build.layer("context", Stage("context", taps, masked.bias), y_scale, biases_up_to=shifts)
        stages = _stages(networks.parameters, "parameters")
        bits = _parameter_bits(max((stage.inputs for stage in stages[1:]), default=1))
        joined = np.concatenate([hyper_scale, context_scale])
        build.stack("parameters", stages, joined, head_units(m), WIDE_BITS, bits)
    return IntegerEntropyModel(
        z_input=entry(z_scale),
        hyper=build.made("hyper"),
        y_input=y_input,
        context=build.layers.get("context"),
        parameters=build.made("parameters"),
        **plain_tables(networks.bottleneck),
    )
