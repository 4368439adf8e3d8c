"""From the float networks of channel groups and checkerboards to their integers: calibration, quantisation, tables.

Done once, after training, on any machine; the result is stored. Ranges are taken per channel over what calibration
images bring, widened by a margin, and folded into the weights of the layer that reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from fastlic.arguments import checked
from fastlic.entropy.checkerboard.functions import EXPONENTS, GELU_REACH, Tables
from fastlic.entropy.checkerboard.layers import HALVED, SHUFFLED, TRANSPOSED, Layer
from fastlic.entropy.coded import coded_by
from fastlic.entropy.convert import bottleneck_tables
from fastlic.entropy.fitting import fit_tables
from fastlic.entropy.fixed import (
    ACTIVATION_BITS,
    ACTIVATION_LIMIT,
    MEAN_BITS,
    RANGE_MARGIN,
    SCALE_BITS,
    WIDE_BITS,
    Requantiser,
    fixed_point,
)
from fastlic.entropy.groups.model import Group, IntegerGroups
from fastlic.entropy.groups.schedule import groups_schedule
from fastlic.entropy.groups.stages import Stage, stage_of, stages_of
from fastlic.entropy.scales import scale_levels, scale_thresholds
from fastlic.models.density import EntropyBottleneck
from fastlic.ops.rans import gaussian_tables


@dataclass(frozen=True)
class GroupNetworks:
    """The float networks of one group.

    Attributes:
        group: its channels, passes, and what its channel context reads.
        channel: over [latents of these groups]; None for the first group.
        context: over the group's anchors, from C to any number of channels; masked taps are zero. None in one pass.
        parameters: over [context, channel, hyper features]; outputs are scales, then means. 1x1 layers if there is a
            context, which is zero at anchors.
    """

    group: Group
    channel: nn.Sequential | None
    context: nn.Conv2d | None
    parameters: nn.Sequential


@dataclass(frozen=True)
class Networks:
    """All float networks of one model, on the CPU, in float32 and eval mode.

    Attributes:
        hyper_analysis: y [1, M, h, w] -> z [1, N, h/4, w/4]. Layers that have an integer form are converted
            too; anything else stays with whoever calls the encoder.
        h_s: from z to hyper features [1, F, h, w].
        bottleneck: the density of z.
    """

    hyper_analysis: Callable[[Tensor], Tensor]
    h_s: nn.Sequential
    bottleneck: EntropyBottleneck
    groups: Sequence[GroupNetworks]


@dataclass(frozen=True)
class _Stages:
    """One group's networks as stages."""

    group: Group
    channel: list[Stage]
    context: Stage | None
    parameters: list[Stage]

    @classmethod
    def of(cls, index: int, networks: GroupNetworks) -> _Stages:
        own = networks.group
        channel = [] if networks.channel is None else stages_of(networks.channel, f"channel.{index}")
        context = None if networks.context is None else stage_of(networks.context, f"context.{index}")
        parameters = stages_of(networks.parameters, f"parameters.{index}")
        if bool(channel) != bool(index) or (context is None) != (own.parity is None):
            raise ValueError(f"group {index} lacks a network, or has one too many")
        if context is not None and any(stage.weight.shape[-1] > 1 for stage in parameters):
            raise ValueError(f"parameters.{index}: between the passes of a checkerboard there are 1x1 layers only")
        if parameters[-1].gelu:
            raise ValueError(f"parameters.{index} ends with GELU")
        return cls(own, channel, context, parameters)


class _Ranges:
    """Largest and smallest value per channel of everything named."""

    def __init__(self) -> None:
        self.highest: dict[str, np.ndarray] = {}
        self.lowest: dict[str, np.ndarray] = {}

    def see(self, name: str, x: Tensor) -> Tensor:
        """Record x [1, C, h, w] and hand it on."""
        flat = x.movedim(1, 0).flatten(1).double()
        high, low = flat.amax(1).clamp_min(0).numpy(), flat.amin(1).clamp_max(0).numpy()
        self.highest[name] = np.maximum(self.highest.get(name, high), high)
        self.lowest[name] = np.minimum(self.lowest.get(name, low), low)
        return x

    def run(self, stages: Sequence[Stage], x: Tensor) -> Tensor:
        """A network, all of its layers recorded."""
        for stage in stages:
            x = stage.convolve(x)
            if stage.gelu:
                self.see(f"{stage.name}:bare", x)
            x = self.see(stage.name, stage.activate(x))
        return x

    def scale(self, name: str, floor: float = 0.0) -> np.ndarray:
        """float64 [C]: the real value of one unit. Dead channels get a thousandth of the liveliest one's range."""
        largest = np.maximum(self.highest[name], -self.lowest[name])
        return np.maximum(largest, max(floor, largest.max() * 1e-3, 1e-6)) * RANGE_MARGIN / ACTIVATION_LIMIT

    def exponents(self, stage: Stage) -> np.ndarray:
        """uint8 [C]: the finest unit 2^-e of a GELU's input that reaches far enough."""
        highest, lowest = self.highest[f"{stage.name}:bare"], self.lowest[f"{stage.name}:bare"]
        reach = np.maximum(np.maximum(highest, np.minimum(-lowest, GELU_REACH / RANGE_MARGIN)) * RANGE_MARGIN, 1e-6)
        return np.floor(np.log2(ACTIVATION_LIMIT / reach)).clip(0, EXPONENTS - 1).astype(np.uint8)


def _calibrate(
    networks: Networks, h_s: Sequence[Stage], groups: Sequence[_Stages], latents: Sequence[Tensor]
) -> _Ranges:
    ranges = _Ranges()
    analysis = _analysis(networks)
    for y in latents:
        ranges.run(analysis, y)
        hyper = ranges.run(h_s, ranges.see("z", networks.bottleneck(networks.hyper_analysis(y))[0]))
        rows, columns = y.shape[2:]
        colour = (torch.arange(rows)[:, None] + torch.arange(columns)) % 2
        decoded: list[Tensor] = []
        first = 0
        for own in groups:
            target = y[:, first : first + own.group.channels]
            first += own.group.channels
            known = [hyper]
            if own.channel:
                known.insert(0, ranges.run(own.channel, torch.cat([decoded[k] for k in own.group.reads], 1)))
            y_hat = torch.zeros_like(target)
            if own.context is None:
                means = ranges.run(own.parameters, torch.cat(known, 1)).chunk(2, 1)[1]
                y_hat = torch.round(target - means) + means
            else:
                assert own.group.parity is not None
                context = torch.zeros(1, len(own.context.bias), rows, columns)
                for turn in range(2):
                    if turn == 1:
                        context = ranges.run([own.context], y_hat)
                    means = ranges.run(own.parameters, torch.cat([context, *known], 1)).chunk(2, 1)[1]
                    here = (colour == (own.group.parity + turn) % 2).to(y.dtype)
                    y_hat = y_hat + (torch.round(target - means) + means) * here
            decoded.append(y_hat)
        ranges.see("y", torch.cat(decoded, 1))
    return ranges


def _analysis(networks: Networks) -> list[Stage]:
    """h_a as stages; empty if it has no integer form."""
    try:
        stages = stages_of(networks.hyper_analysis, "analysis")  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return []
    halves = sum(stage.kind == HALVED for stage in stages)
    return [] if halves != 2 or stages[-1].gelu or any(s.kind in (TRANSPOSED, SHUFFLED) for s in stages) else stages


class _Builder:
    """Turns stages into named integer layers; remembers what it made."""

    def __init__(self, ranges: _Ranges) -> None:
        self.ranges = ranges
        self.layers: dict[str, Layer] = {}

    def layer(self, name: str, stage: Stage, inputs: np.ndarray, outputs: np.ndarray | None = None) -> np.ndarray:
        """The integer twin of a stage; returns the real value of one unit of its outputs.

        Args:
            outputs: these units, for the fixed-point numbers at the end; None: as calibrated.
        """
        exponents, bits = None, ACTIVATION_BITS
        if outputs is not None:
            bits = WIDE_BITS
        elif stage.gelu:
            exponents = self.ranges.exponents(stage)
            outputs = 2.0 ** -exponents.astype(np.float64)
            exponents = exponents.repeat(stage.cells)
        else:
            outputs = self.ranges.scale(stage.name)
        self.layers[name] = Layer.from_float(
            stage.weight,
            stage.bias,
            inputs,
            outputs.repeat(stage.cells),
            output_bits=bits,
            kind=stage.kind,
            slope=stage.slope,
            exponents=exponents,
        )
        return outputs

    def stack(
        self, name: str, stages: Sequence[Stage], inputs: np.ndarray, outputs: np.ndarray | None = None
    ) -> np.ndarray:
        """All layers of a network; ``outputs`` are the units after the last one."""
        for i, stage in enumerate(stages):
            inputs = self.layer(f"{name}.{i}", stage, inputs, outputs if i == len(stages) - 1 else None)
        return inputs


@torch.no_grad()
@checked
def convert_groups(networks: Networks, latents: Sequence[Tensor]) -> IntegerGroups:
    """The integer entropy model of float networks, calibrated on what their analysis transform makes of images.

    Args:
        latents: [1, M, h, w] each, h and w multiples of 4; before rounding.

    Raises:
        ValueError: no latents, a layer without integer form, or weights whose accumulators could leave int32.
    """
    if not latents:
        raise ValueError("calibration needs at least one image")
    h_s = stages_of(networks.h_s, "hyper")
    groups = [_Stages.of(i, own) for i, own in enumerate(networks.groups)]
    ranges = _calibrate(networks, h_s, groups, latents)

    build = _Builder(ranges)
    unit = 2.0**-MEAN_BITS
    z_units, y_units = (ranges.scale(name, floor=1.0) for name in ("z", "y"))
    hyper = build.stack("hyper", h_s, z_units)
    if analysis := _analysis(networks):
        build.stack("analysis", analysis, y_units, np.full(len(z_units), unit))
    by_group = np.split(y_units, np.cumsum([own.group.channels for own in groups])[:-1])
    for i, own in enumerate(groups):
        joined = [hyper]
        if own.channel:
            read = np.concatenate([by_group[k] for k in own.group.reads])
            joined.insert(0, build.stack(f"channel.{i}", own.channel, read))
        if own.context is not None:
            joined.insert(0, build.layer(f"context.{i}", own.context, by_group[i]))
        c = own.group.channels
        head = np.concatenate([np.full(c, 2.0**-SCALE_BITS), np.full(c, unit)])
        build.stack(f"parameters.{i}", own.parameters, np.concatenate(joined), head)

    median = np.rint(networks.bottleneck.medians.double().cpu().numpy() / unit).astype(np.int32)
    levels = scale_levels()
    integers = IntegerGroups(
        groups=tuple(own.group for own in groups),
        z_tables=bottleneck_tables(networks.bottleneck, median),
        y_tables=gaussian_tables(levels),
        z_median=median,
        thresholds=scale_thresholds(levels),
        tables=Tables.make(),
        layers=build.layers,
        requantisers={
            "z.input": Requantiser.from_factors(unit / z_units, ACTIVATION_BITS),
            "y.input": Requantiser.from_factors(unit / y_units, ACTIVATION_BITS),
        },
    )
    return replace(integers, y_tables=fit_tables(levels, _coded(networks, integers, latents)))


def _coded(
    networks: Networks, integers: IntegerGroups, latents: Sequence[Tensor]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(scale indexes, symbols) of every latent, as the integer path codes them."""
    medians = torch.from_numpy(integers.z_median.astype(np.int64))[:, None, None]
    for y in latents:
        z = fixed_point(networks.hyper_analysis(y)[0]) - medians
        yield coded_symbols(integers, z, fixed_point(y[0]))


@checked
def coded_symbols(integers: IntegerGroups, z: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(scale indexes, symbols) of one image's y, both [n]: fastlic.entropy.coded."""
    return coded_by(groups_schedule(integers, *y.shape[1:]), z, y)
