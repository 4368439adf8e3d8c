"""From the float networks of channel groups and checkerboards to their integers: calibration, quantisation, tables.

Done once, after training, on any machine; the result is stored. Ranges are taken per channel over what calibration
images bring, widened by a margin, and folded into the weights of the layer that reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from fastlic.entropy.calibration import UNIT_LATENT, coded_latents, entry, head_units, plain_tables
from fastlic.entropy.fitting import fit_tables
from fastlic.entropy.groups.model import Group, IntegerGroups
from fastlic.entropy.scales import scale_levels
from fastlic.integers.builder import Builder
from fastlic.integers.fixed import WIDE_BITS
from fastlic.integers.functions import Tables
from fastlic.integers.layer import HALVED, SHUFFLED, TRANSPOSED
from fastlic.integers.ranges import Ranges
from fastlic.integers.stages import Stage, stage_of, stages_of
from fastlic.models.density import EntropyBottleneck


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
        channel = [] if networks.channel is None else _plain(stages_of(networks.channel, f"channel.{index}"))
        context = None if networks.context is None else stage_of(networks.context, f"context.{index}")
        parameters = _plain(stages_of(networks.parameters, f"parameters.{index}"))
        if bool(channel) != bool(index) or (context is None) != (own.parity is None):
            raise ValueError(f"group {index} lacks a network, or has one too many")
        if context is not None and any(stage.weight.shape[-1] > 1 for stage in parameters):
            raise ValueError(f"parameters.{index}: between the passes of a checkerboard there are 1x1 layers only")
        if parameters[-1].curve is not None:
            raise ValueError(f"parameters.{index} ends with GELU")
        return cls(own, channel, context, parameters)


def _plain(stages: list[Stage]) -> list[Stage]:
    return [stage.turned() for stage in stages]


def _calibrate(
    networks: Networks, h_s: Sequence[Stage], groups: Sequence[_Stages], latents: Sequence[Tensor]
) -> Ranges:
    ranges = Ranges()
    analysis = _analysis(networks)
    for y in latents:
        ranges.run(analysis, y)
        ranges.see("y", _decoded(networks, h_s, groups, y, ranges))
    return ranges


def decoded(networks: Networks, y: Tensor) -> Tensor:
    """What a decoder gets of y [1, M, h, w], rounded to the nearest, in floats.

    Raises:
        ValueError: a layer without integer form.
    """
    groups = [_Stages.of(i, own) for i, own in enumerate(networks.groups)]
    return _decoded(networks, _plain(stages_of(networks.h_s, "hyper")), groups, y, Ranges())


def _decoded(networks: Networks, h_s: Sequence[Stage], groups: Sequence[_Stages], y: Tensor, ranges: Ranges) -> Tensor:
    """The same; ``ranges`` see what sets units on the way."""
    hyper = ranges.run(h_s, ranges.see("z", networks.bottleneck(networks.hyper_analysis(y))[0]))
    rows, columns = y.shape[2:]
    colour = (torch.arange(rows)[:, None] + torch.arange(columns)) % 2
    out: list[Tensor] = []
    first = 0
    for own in groups:
        target = y[:, first : first + own.group.channels]
        first += own.group.channels
        known = [hyper]
        if own.channel:
            known.insert(0, ranges.run(own.channel, torch.cat([out[k] for k in own.group.reads], 1)))
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
        out.append(y_hat)
    return torch.cat(out, 1)


def _analysis(networks: Networks) -> list[Stage]:
    """h_a as stages; empty if it has no integer form."""
    if not isinstance(networks.hyper_analysis, nn.Sequential):
        return []
    try:
        stages = _plain(stages_of(networks.hyper_analysis, "analysis"))
    except ValueError:
        return []
    halves = sum(stage.kind is HALVED for stage in stages)
    grows = any(stage.kind in (TRANSPOSED, SHUFFLED) for stage in stages)
    return [] if halves != 2 or stages[-1].curve is not None or grows else stages


@torch.no_grad()
def convert_groups(networks: Networks, latents: Sequence[Tensor]) -> IntegerGroups:
    """The integer entropy model of float networks, calibrated on what their analysis transform makes of images.

    Args:
        latents: [1, M, h, w] each, h and w multiples of 4; before rounding.

    Raises:
        ValueError: no latents, a layer without integer form, or weights whose accumulators could leave int32.
    """
    if not latents:
        raise ValueError("calibration needs at least one image")
    h_s = _plain(stages_of(networks.h_s, "hyper"))
    groups = [_Stages.of(i, own) for i, own in enumerate(networks.groups)]
    ranges = _calibrate(networks, h_s, groups, latents)

    build = Builder(ranges)
    z_units, y_units = (ranges.scale(name, floor=1.0) for name in ("z", "y"))
    hyper = build.stack("hyper", h_s, z_units)
    if analysis := _analysis(networks):
        build.stack("analysis", analysis, y_units, np.full(len(z_units), UNIT_LATENT), WIDE_BITS)
    by_group = np.split(y_units, np.cumsum([own.group.channels for own in groups])[:-1])
    for i, own in enumerate(groups):
        joined = [hyper]
        if own.channel:
            read = np.concatenate([by_group[k] for k in own.group.reads])
            joined.insert(0, build.stack(f"channel.{i}", own.channel, read))
        if own.context is not None:
            joined.insert(0, build.layer(f"context.{i}", own.context, by_group[i]))
        head = head_units(own.group.channels)
        build.stack(f"parameters.{i}", own.parameters, np.concatenate(joined), head, WIDE_BITS)

    integers = IntegerGroups(
        groups=tuple(own.group for own in groups),
        tables=Tables.make(),
        layers=build.layers,
        requantisers={"z.input": entry(z_units), "y.input": entry(y_units)},
        **plain_tables(networks.bottleneck),
    )
    each = ((y, None) for y in latents)
    coded = coded_latents(integers, networks.hyper_analysis, each)
    return replace(integers, y_tables=fit_tables(scale_levels(), coded))
