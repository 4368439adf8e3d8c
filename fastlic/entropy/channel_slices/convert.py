"""From the float networks of channel slices to their integers: what they compute in floats, calibration, quantisation.

Done once, after training, on any machine; the result is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.calibration import UNIT_LATENT, coded_latents, plain_tables
from fastlic.entropy.channel_slices.model import FEATURES, IntegerChannelSlices, Slice
from fastlic.entropy.fitting import choose_tables
from fastlic.entropy.scales import scale_levels
from fastlic.integers.conversion import Units, nearest
from fastlic.integers.fixed import SCALE_BITS
from fastlic.integers.functions import SCORE_BITS, Tables
from fastlic.integers.graph import Graph
from fastlic.integers.network import Network
from fastlic.integers.ranges import Ranges
from fastlic.models.density import EntropyBottleneck
from fastlic.ops.transforms import TransformEngine

See = Callable[[str, Tensor, Tensor], None]  # a network's name, what it reads and what it gives
_EXITS = {"mean": UNIT_LATENT, "scale": 2.0**-SCALE_BITS, "residue": 2.0**-SCORE_BITS}


@dataclass(frozen=True)
class SliceNetworks:
    """All float networks of one model, on the CPU, in float32 and eval mode.

    Attributes:
        hyper_analysis: y [1, M, h, w] -> z [1, N, h/4, w/4].
        bottleneck: the density of z.
        slices: channels, and what is read of earlier slices.
        graphs: by the names of ``IntegerChannelSlices.networks``.
        supported: as there.
    """

    hyper_analysis: Callable[[Tensor], Tensor]
    bottleneck: EntropyBottleneck
    slices: tuple[Slice, ...]
    graphs: dict[str, Graph]
    supported: bool = True

    def decoded(self, y: Tensor, run: Callable[[str, Tensor], Tensor]) -> Tensor:
        """What a decoder gets of y [1, M, h, w], rounded to the nearest, in floats.

        Args:
            run: a network by name, over a map.
        """
        z = self.bottleneck(self.hyper_analysis(y))[0]
        features = [run(f"hyper.{name}", z) for name in FEATURES]
        out: list[Tensor] = []
        for index, (own, target) in enumerate(
            zip(self.slices, y.split([own.channels for own in self.slices], 1), strict=True)
        ):
            earlier = [out[k] for k in own.reads]
            if (shared := f"shared.{index}") in self.graphs:
                whole = torch.cat([*features, *earlier], 1)
                known = [torch.cat([whole, run(shared, whole)], 1)] * 2
            else:
                known = [torch.cat([feature, *earlier], 1) for feature in features]
            bare = known[0]
            for i, name in enumerate(FEATURES):
                if (support := f"{name}_support.{index}") in self.graphs:
                    known[i] = run(support, known[i])
            means = run(f"mean.{index}", known[0])
            run(f"scale.{index}", known[1])
            latent = torch.round(target - means) + means
            if (name := f"residue.{index}") in self.graphs:
                beside = known[0] if self.supported else bare
                latent = latent + torch.tanh(run(name, torch.cat([beside, latent], 1))) / 2
            out.append(latent)
        return torch.cat(out, 1)


@dataclass
class _Seen:
    """What calibration brings to the networks: ranges, and of the first image inputs and outputs."""

    graphs: dict[str, Graph]
    ranges: dict[str, Ranges] = field(default_factory=dict)
    first: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def run(self, name: str, x: Tensor) -> Tensor:
        out = self.graphs[name].run(x, self.ranges.setdefault(name, Ranges()))
        self.first.setdefault(name, (x, out))
        return out


@torch.no_grad()
def convert_slices(networks: SliceNetworks, latents: Sequence[Tensor]) -> IntegerChannelSlices:
    """The integer entropy model of float networks, calibrated on what their analysis transform makes of images.

    Args:
        latents: [1, M, h, w] each, h and w multiples of 4; before rounding.

    Raises:
        ValueError: no latents, or weights whose sums could leave int32.
    """
    if not latents:
        raise ValueError("calibration needs at least one image")
    seen = _Seen(networks.graphs)
    for y in latents:
        networks.decoded(y, seen.run)
    made: dict[str, Network] = {}
    for name, inputs in _in_order(networks, made):
        graph = networks.graphs[name]
        x, out = seen.first[name]
        graph.end(out.shape[1])
        ends = {
            "finest": np.broadcast_to(inputs, x.shape[1]).astype(np.float64),
            "pixels_out": False,
            "inputs": inputs,
            "outputs": _EXITS.get(name.partition(".")[0]),
        }
        made[name], _ = nearest(graph, seen.ranges[name], partial(_error, name, x, out, inputs), ends)
    integers = IntegerChannelSlices(
        slices=networks.slices,
        tables=Tables.make(),
        networks=made,
        supported=networks.supported,
        **plain_tables(networks.bottleneck),
    ).checked()
    each = ((y, None) for y in latents)
    return replace(
        integers, y_tables=choose_tables(scale_levels(), coded_latents(integers, networks.hyper_analysis, each))
    )


def _in_order(networks: SliceNetworks, made: dict[str, Network]) -> Iterator[tuple[str, Units]]:
    """Names, and the units of what each network reads: those that make it come before those that read it."""
    for name in FEATURES:
        yield f"hyper.{name}", UNIT_LATENT
    for index, own in enumerate(networks.slices):
        earlier = np.full(sum(networks.slices[k].channels for k in own.reads), UNIT_LATENT)
        latent = np.full(own.channels, UNIT_LATENT)
        whole = None
        if (shared := f"shared.{index}") in networks.graphs:
            whole = np.concatenate([*(_units(made[f"hyper.{name}"]) for name in FEATURES), earlier])
            yield shared, whole
            whole = np.concatenate([whole, _units(made[shared])])
        for name in FEATURES:
            bare = known = np.concatenate([_units(made[f"hyper.{name}"]), earlier]) if whole is None else whole
            if (support := f"{name}_support.{index}") in networks.graphs:
                yield support, known
                known = _units(made[support])
            yield f"{name}.{index}", known
            if name == "mean" and f"residue.{index}" in networks.graphs:
                yield f"residue.{index}", np.concatenate([known if networks.supported else bare, latent])


def _units(network: Network) -> np.ndarray:
    """float64 [C]: the real values of one unit of its outputs."""
    return network.units[-1].astype(np.float64)


def _error(name: str, x: Tensor, expected: Tensor, inputs: Units, network: Network) -> float:
    """Mean square of what integers miss, on one input, as their engine computes it."""
    steps = torch.from_numpy(np.broadcast_to(inputs, x.shape[1]).astype(np.float32))[:, None, None]
    engine = TransformEngine(name, network.to_arrays(name))
    found = torch.from_numpy(engine.run((x[0] / steps).round().int().numpy(), threads=torch.get_num_threads()))
    return float((found * torch.from_numpy(network.units[-1])[:, None, None] - expected[0]).square().mean())
