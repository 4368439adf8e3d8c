"""From a trained float model to its integer entropy model: calibration, quantisation, tables.

Done once, after training, on any machine; the result is stored. Ranges of all activations are taken per channel over
the calibration images at every quality, widened by a margin, and folded into the weights of the layer that reads them.
Weights of the parameter network, whose errors cost most, are rounded for the inputs that those images bring.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.entropy.fitting import choose_tables, coded_symbols
from fastlic.entropy.fixed import (
    ACTIVATION_BITS,
    MEAN_BITS,
    RANGE_MARGIN,
    SCALE_BITS,
    WIDE_BITS,
    Requantiser,
    fixed_point,
    largest,
)
from fastlic.entropy.layers import IntegerConv
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.rounding import second_moments
from fastlic.entropy.scales import scale_levels, scale_thresholds
from fastlic.entropy.wavefront import CONTEXT_TAPS
from fastlic.entropy.zones import worth_at, zones_for
from fastlic.models import JAHP, Hyperprior, ScaleHyperprior
from fastlic.models.density import EntropyBottleneck, dead_zone, round_down
from fastlic.models.layers import MaskedConv2d
from fastlic.ops.rans import CdfTables, gaussian_tables, pmf_tables

# Activations between parameter layers: their ranges are set by the highest rates, and at the lowest ones, where they
# use a small part of it, 12 bits cost 1 % of the rate.
_PARAMETER_BITS = 14
# Symbols beyond the table's row are escapes; one of z's rows needs no more than its density's body.
_TAIL = 1e-7
_WIDEST_ROW = 120


class Ranges:
    """Largest magnitude per channel of every named activation; second moments of the inputs of named layers."""

    def __init__(self) -> None:
        self.largest: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(1))
        self.moments: dict[str, Tensor] = {}

    def see(self, name: str, x: Tensor) -> Tensor:
        """Record x [1, C, h, w] and hand it on."""
        self.largest[name] = np.maximum(self.largest[name], x.abs().amax((0, 2, 3)).double().cpu().numpy())
        return x

    def remember_inputs(self, name: str, x: Tensor) -> None:
        """Add x [1, C, h, w], which the 1x1 layer ``name`` reads, to the moments of its inputs."""
        moments = second_moments(x)
        self.moments[name] = self.moments[name] + moments if name in self.moments else moments

    def scale(self, name: str, floor: float = 0.0, bits: int = ACTIVATION_BITS) -> np.ndarray:
        """float64 [C]: the real value of one unit. Dead channels get a thousandth of the liveliest one's range."""
        reach = np.maximum(self.largest[name], max(floor, self.largest[name].max() * 1e-3, 1e-6))
        return reach * RANGE_MARGIN / largest(bits)


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
            are scales and means, or scales alone, or with a context 2M features.
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


@dataclass(frozen=True)
class _Stage:
    """A convolution, whether its outputs are shuffled, and the slope of the activation behind it (1: none)."""

    name: str
    module: nn.Conv2d | nn.ConvTranspose2d
    shuffle: int = 1
    slope: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        x = self.module(x)
        x = F.pixel_shuffle(x, self.shuffle) if self.shuffle > 1 else x
        return x if self.slope == 1 else F.leaky_relu(x, self.slope)


def _flat(network: nn.Sequential) -> Iterator[nn.Module]:
    """Its modules in the order of execution, nested sequences taken apart; one may come twice."""
    for module in network:
        if isinstance(module, nn.Sequential):
            yield from _flat(module)
        else:
            yield module


def _stages(network: nn.Sequential, name: str) -> list[_Stage]:
    """The layers of a network in order; what follows the last convolution is left out: scales are bounded anyway.

    Raises:
        ValueError: a layer that has no integer form.
    """
    stages: list[_Stage] = []
    for i, module in enumerate(_flat(network)):
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            _check_convolution(module, f"{name}.{i}")
            stages.append(_Stage(f"{name}.{i}", module))
        elif stages and isinstance(module, nn.PixelShuffle) and module.upscale_factor == 2:
            stages[-1] = replace(stages[-1], shuffle=2)
        elif stages and isinstance(module, (nn.ReLU, nn.LeakyReLU)):
            stages[-1] = replace(stages[-1], slope=getattr(module, "negative_slope", 0.0))
        else:
            raise ValueError(f"{name}.{i} is a {type(module).__name__}, which has no integer form")
    if not stages:
        raise ValueError(f"{name} has no convolution")
    stages[-1] = replace(stages[-1], slope=1.0)
    return stages


def _check_convolution(module: nn.Conv2d | nn.ConvTranspose2d, name: str) -> None:
    kernel, stride = module.kernel_size[0], module.stride[0]
    transposed = isinstance(module, nn.ConvTranspose2d)
    plain = (
        module.kernel_size == (kernel, kernel)
        and kernel % 2 == 1
        and module.stride == (stride, stride)
        and module.padding == (kernel // 2, kernel // 2)
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and module.output_padding == ((stride - 1, stride - 1) if transposed else (0, 0))
        and (stride == 1 or (transposed and stride == 2))
    )
    if not plain:
        raise ValueError(f"{name} is a convolution of a kind that has no integer form: {module}")


def latents_of(model: Hyperprior, images: Sequence[Tensor]) -> Iterator[tuple[Tensor, float | None]]:
    """The latent [1, M, h, w] of each image [3, H, W] at each quality, and what a squared error is worth there."""
    qualities: list[float | None] = [float(q) for q in range(1, model.qualities + 1)] or [None]
    for image in images:
        pad = (-image.shape[-1] % model.stride, -image.shape[-2] % model.stride)
        x = F.pad(image.reshape(1, *image.shape[-3:]), (0, pad[0], 0, pad[1]), mode="replicate")
        latent = model.g_a(x)
        for quality in qualities:
            yield latent * model.gains(quality, 1)[0], worth_at(model.gain, quality)


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
    for stage in _stages(networks.h_s, "h_s"):
        h = ranges.see(stage.name, stage(h))
    return h


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
    *inner, last = _stages(parameters, "parameters")
    for final in (False, True):  # the second round sees the latent as coding leaves it: round(y - mean) + mean
        seen = context(ranges.see("y", y_hat))
        e = torch.cat([features, ranges.see("context", seen if rate.shift is None else seen + rate.shift)], 1)
        for stage in (*inner, last):
            if final:
                ranges.remember_inputs(stage.name, e)
            e = stage(e) if stage is last else ranges.see(stage.name, stage(e))
        scales, means = e.chunk(2, 1)
        y_hat = rate.round(y, means, scales, worth)


def bottleneck_tables(bottleneck: EntropyBottleneck, median: np.ndarray, step: float = 1.0) -> CdfTables:
    """The coder's tables for z: one row per channel, centred on ``median`` (int32 [N], units of 2^-6 of ``step``).

    Probabilities are evaluated in float64, once; the resulting integers are what both sides keep.
    """
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


def _with_zero_means(stage: _Stage) -> _Stage:
    """The last layer of a scale hyperprior with M more outputs that are always zero: the means of the schedule."""
    last = stage.module
    if not isinstance(last, nn.Conv2d) or stage.shuffle > 1 or last.bias is None:
        raise ValueError(f"{stage.name}: the last layer of a scale hyperprior must be a plain convolution with bias")
    wide = nn.Conv2d(last.in_channels, 2 * last.out_channels, last.kernel_size[0], padding=last.padding[0])
    wide.weight.data = torch.cat([last.weight.data, torch.zeros_like(last.weight.data)])
    wide.bias = nn.Parameter(torch.cat([last.bias.data, torch.zeros_like(last.bias.data)]))
    return replace(stage, module=wide)


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
    if not images:
        raise ValueError("calibration needs at least one image")
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


def hyper_medians(bottleneck: EntropyBottleneck, step: float = 1.0) -> np.ndarray:
    """int32 [N]: z's medians in units of 2^-6 of its step."""
    medians = bottleneck.medians.double().cpu().numpy() / step
    return np.rint(medians * 2**MEAN_BITS).astype(np.int32)


def quantise_networks(
    networks: EntropyNetworks, ranges: Ranges, m: int, shifts: np.ndarray | None = None
) -> IntegerEntropyModel:
    """The integers of float networks within these ranges, with plain Gaussian tables.

    Args:
        m: channels of the latent.
        shifts: float64 [2M], the largest magnitudes that may be added to the context's bias later.
    """
    median = hyper_medians(networks.bottleneck)
    # Scales and means leave the last layer in their own fixed-point formats.
    head = np.concatenate([np.full(m, 2.0**-SCALE_BITS), np.full(m, 2.0**-MEAN_BITS)])

    def entry(name: str) -> tuple[np.ndarray, Requantiser]:
        scale = ranges.scale(name, floor=1.0)
        return scale, Requantiser.from_factors(2.0**-MEAN_BITS / scale, ACTIVATION_BITS)

    def stack(
        stages: Sequence[_Stage], source: np.ndarray, last: np.ndarray | None, inner: int = ACTIVATION_BITS
    ) -> list[IntegerConv]:
        """Integer layers with activations of ``inner`` bits between them; ``last`` is the fixed-point format after the
        final one, if any."""
        layers = []
        bits = ACTIVATION_BITS
        for i, stage in enumerate(stages):
            module = stage.module
            final = i == len(stages) - 1
            given, bits = bits, inner if not final else ACTIVATION_BITS if last is None else WIDE_BITS
            target = last if last is not None and final else ranges.scale(stage.name, bits=bits)
            cells = stage.shuffle**2
            layers.append(
                IntegerConv.from_float(
                    module.weight,
                    module.bias if module.bias is not None else torch.zeros(cells * len(target)),
                    source,
                    given,
                    target.repeat(cells),
                    bits,
                    stride=module.stride[0],
                    transposed=isinstance(module, nn.ConvTranspose2d),
                    negative_slope=stage.slope,
                    shuffle=stage.shuffle,
                    moments=ranges.moments.get(stage.name),
                )
            )
            source = target
        return layers

    z_scale, z_input = entry("z")
    h_s = _stages(networks.h_s, "h_s")
    if networks.scales_alone:
        h_s[-1] = _with_zero_means(h_s[-1])
    hyper = stack(h_s, z_scale, None if networks.context is not None else head)
    y_input: Requantiser | None = None
    context: IntegerConv | None = None
    parameters: list[IntegerConv] = []
    if networks.context is not None and networks.parameters is not None:
        y_scale, y_input = entry("y")
        masked = networks.context
        assert masked.bias is not None
        taps = torch.stack([masked.weight[:, :, i + 2, j + 2] for i, j in CONTEXT_TAPS], dim=2)[..., None]
        context_scale = ranges.scale("context")
        context = IntegerConv.from_float(
            taps, masked.bias, y_scale, ACTIVATION_BITS, context_scale, ACTIVATION_BITS, biases_up_to=shifts
        )
        joined = np.concatenate([ranges.scale(h_s[-1].name), context_scale])
        stages = _stages(networks.parameters, "parameters")
        widest = max((stage.module.in_channels for stage in stages[1:]), default=1)
        parameters = stack(stages, joined, head, _parameter_bits(widest))
    levels = scale_levels()
    return IntegerEntropyModel(
        z_tables=bottleneck_tables(networks.bottleneck, median),
        y_tables=gaussian_tables(levels),
        z_median=median,
        z_input=z_input,
        hyper=tuple(hyper),
        y_input=y_input,
        context=context,
        parameters=tuple(parameters),
        thresholds=scale_thresholds(levels),
    )
