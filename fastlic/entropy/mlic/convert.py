"""From a trained float model of the MLIC family to its integers: calibration, quantisation, tables.

Done once, after training, on any machine; the result is stored. Ranges are taken per channel over the calibration
images at every quality by watching the float model's own layers, widened by a margin, and folded into the weights of
the layer that reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from fastlic.entropy.calibration import UNIT_LATENT, coded_latents, entry, head_units, latents_of, plain_tables
from fastlic.entropy.fitting import fit_tables
from fastlic.entropy.mlic.model import IntegerMLIC
from fastlic.entropy.mlic.schedule import ANCHORS, EARLY, OTHERS
from fastlic.entropy.scales import scale_levels
from fastlic.integers.builder import Builder
from fastlic.integers.fixed import ACTIVATION_BITS, RANGE_MARGIN, WIDE_BITS, Requantiser, largest
from fastlic.integers.functions import NORM_BITS, SCORE_BITS, VALUE_BITS, Curve, Tables, epsilon_of
from fastlic.integers.ranges import Ranges
from fastlic.integers.stages import Stage, stages_of
from fastlic.models.mlic.attention import HEADS_INTRA, GlobalInterContext, GlobalIntraContext
from fastlic.models.mlic.local import HEADS, LocalContext
from fastlic.models.mlic.model import MLICPlusPlus

# Sums of two activations and the layer norms' inputs have 16 bits.
_SUM_BITS = 16
_UNIT_SCORE = 2.0**-SCORE_BITS


@contextmanager
def _watched(model: nn.Module) -> Iterator[Ranges]:
    """Ranges of the outputs of every layer and context of a model that runs inside; and, as ``:input``, of inputs."""
    ranges = Ranges()

    def watch(name: str, dim: int) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            ranges.see(name, output, dim)
            if dim == 1:
                ranges.see(f"{name}:input", inputs[0])

        return hook

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, GlobalInterContext, GlobalIntraContext, LocalContext)
    hooks = [
        module.register_forward_hook(watch(name, -1 if isinstance(module, nn.Linear) else 1))
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    try:
        yield ranges
    finally:
        for hook in hooks:
            hook.remove()


class _Builder(Builder):
    """Turns named modules of a model into named integer layers and requantisers; remembers what it made."""

    def __init__(self, model: MLICPlusPlus, ranges: Ranges) -> None:
        super().__init__(ranges)
        self.model = model
        self.requantisers: dict[str, Requantiser] = {}

    def twin(
        self, name: str, source: str, inputs: np.ndarray, outputs: np.ndarray | None = None, bits: int = ACTIVATION_BITS
    ) -> np.ndarray:
        """The integer twin of the module ``source``, as ``layer``."""
        return self.layer(name, Stage.of(self.model.get_submodule(source), source), inputs, outputs, bits)

    def network(
        self, name: str, source: str, inputs: np.ndarray, outputs: np.ndarray | None = None, bits: int = ACTIVATION_BITS
    ) -> np.ndarray:
        """A Sequential with a layer at every other index and GELU between them, as ``stack``."""
        modules: Any = self.model.get_submodule(source)
        last = len(modules) - 1
        curves = {i: Curve.GELU if i < last else None for i in range(0, len(modules), 2)}
        stages = [Stage.of(modules[i], f"{source}.{i}", curve=curve) for i, curve in curves.items()]
        return self.stack(name, stages, inputs, outputs, bits)

    def requantiser(self, name: str, factors: Any, bits: int = ACTIVATION_BITS) -> None:
        self.requantisers[name] = Requantiser.from_factors(factors, bits)

    # ---- the parts

    def hyper(self) -> np.ndarray:
        """h_s; returns the units of its outputs."""
        units = self.ranges.scale("z", floor=1.0)
        self.requantisers["z.input"] = entry(units)
        h_s: Any = self.model.h_s
        if self.model.narrow:
            for i, stage in enumerate(stages_of(h_s, "h_s")):
                # The float model's ranges are those in front of the activation.
                outputs = self.ranges.scale(stage.name, slope=stage.slope)
                units = self.layer(f"hyper.{i}", stage, units, outputs)
            return units
        return self.stack("hyper", stages_of(h_s.increase, "h_s.increase"), units)

    def attention(self, name: str, source: str, units: tuple[np.ndarray, np.ndarray, np.ndarray], heads: int) -> Any:
        """Projections of queries, keys and values; returns the units of what ``reprojection`` reads."""
        values = np.ones(1)
        peaks: dict[str, float | np.ndarray] = {}
        for part, plural, inputs in zip(("query", "key", "value"), ("queries", "keys", "values"), units, strict=True):
            inner = self.twin(f"{name}.{part}.0", f"{source}.{plural}.0", inputs)
            last = f"{source}.{plural}.1"
            if part == "value":
                values = self.twin(f"{name}.{part}.1", last, inner)
            elif self.model.linear:
                outputs = np.full(len(inner), _UNIT_SCORE)
                self.twin(f"{name}.{part}.1", last, inner, outputs, _SUM_BITS)
            else:  # products need one unit per head
                peaks[part] = self.ranges.scale(last).reshape(heads, -1).max(1)
                self.twin(f"{name}.{part}.1", last, inner, np.repeat(peaks[part], len(inner) // heads))
        if not self.model.linear:
            factors = peaks["query"] * peaks["key"] * (len(values) // heads) ** -0.5 / _UNIT_SCORE
            self.requantiser(f"{name}.score", factors, _SUM_BITS)
        return self.attended(name, f"{source}.reprojection", values)

    def attended(self, name: str, reader: str, values: np.ndarray) -> np.ndarray:
        """From means in units of 2^-8 of the values' to what the layer ``reader`` reads; returns its units."""
        units = self.ranges.scale(f"{reader}:input")
        self.requantiser(f"{name}.attended", values * 2.0**-VALUE_BITS / units)
        return units

    def local(self, index: int, units: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Local context; returns the units of its outputs and its numbers."""
        name, source = f"local.{index}", f"local_context.{index}"
        module = self.model.get_submodule(source)
        if not isinstance(module, LocalContext):
            return self.network(name, source, units), {}
        c = self.model.slice_channels
        # The layer norm's weight and bias move into the layer behind it.
        norm = np.full(c, 2.0**-NORM_BITS)
        scale = self.ranges.scale(f"{source}.qkv_proj")
        heads = [scale[part * c : part * c + c].reshape(-1, HEADS).max(0) for part in (0, 1)]  # interleaved
        outputs = np.concatenate([*(np.tile(h, c // HEADS) for h in heads), scale[2 * c :]])
        self.layer(f"{name}.qkv", _folded(module.norm1, module.qkv_proj, f"{source}.qkv_proj"), norm, outputs)
        self.requantiser(f"{name}.score", heads[0] * heads[1] * module.scale / _UNIT_SCORE, _SUM_BITS)
        values = scale[2 * c :].reshape(-1, HEADS).T.reshape(-1)  # head by head, as they leave the heads
        units = self.attended(name, f"{source}.fusion", values)
        units = self.twin(f"{name}.fusion", f"{source}.fusion", units)
        # One unit for all channels, as a layer norm follows, and for what is added behind it.
        reach = max(self.ranges.largest(f"{source}.proj").max(), self.ranges.largest(f"{source}.mlp.fc2").max(), 1e-6)
        unit = reach * RANGE_MARGIN / largest(_SUM_BITS)
        common = np.full(len(units), unit)
        self.twin(f"{name}.proj", f"{source}.proj", units, common, _SUM_BITS)
        normal = np.full(len(units), 2.0**-NORM_BITS)
        first = _folded(module.norm2, module.mlp.fc1, f"{source}.mlp.fc1", Curve.GELU)
        hidden = self.layer(f"{name}.mlp.0", first, normal)
        self.twin(f"{name}.mlp.1", f"{source}.mlp.fc2", hidden, common, _SUM_BITS)
        outputs = self.ranges.scale(source)
        self.requantiser(f"{name}.output", unit / outputs)
        bias = np.rint(module.relative_position_table.detach().double().numpy().T / _UNIT_SCORE)
        epsilon = [
            epsilon_of(module.norm1.eps, c, UNIT_LATENT),
            epsilon_of(module.norm2.eps, len(units), unit),
        ]
        limit = largest(_SUM_BITS)
        return outputs, {
            f"{name}.bias": np.ascontiguousarray(bias.clip(-limit, limit).astype(np.int32)),
            f"{name}.epsilon": np.array(epsilon, np.int32),
        }

    def tail(self, name: str, source: str, units: np.ndarray) -> np.ndarray:
        """What follows attention: projection, MLP and the way past it; returns the units of the context."""
        units = self.twin(f"{name}.reprojection", f"{source}.reprojection", units)
        outputs = self.ranges.scale(source)
        self.network(f"{name}.mlp", f"{source}.mlp", units, outputs, _SUM_BITS)
        if name.startswith("inter"):
            self.twin(f"{name}.skip", f"{source}.skip", units, outputs, _SUM_BITS)
        else:
            self.requantiser(f"{name}.residual", units / outputs, _SUM_BITS)
        return outputs


def _folded(norm: nn.LayerNorm, linear: nn.Linear, name: str, curve: Curve | None = None) -> Stage:
    """A linear layer with the affine part of the layer norm before it."""
    weight = linear.weight.double() * norm.weight.double()
    return Stage(name, weight, linear.bias.double() + linear.weight.double() @ norm.bias.double(), curve=curve)


@torch.no_grad()
def convert(model: MLICPlusPlus, images: Sequence[Tensor]) -> IntegerMLIC:
    """The integer entropy model of a trained model of the family; arguments and errors as fastlic.entropy.convert's."""
    latents, worths = zip(*latents_of(model, images), strict=True)
    return convert_latents(model, latents, worths)


@torch.no_grad()
def convert_latents(model: MLICPlusPlus, latents: Sequence[Tensor], worths: Sequence[float | None] = ()) -> IntegerMLIC:
    """The same of a model whose analysis and synthesis transforms are somebody else's.

    Args:
        model: in eval mode, on the CPU, float32; g_a and g_s are not used.
        latents: [1, M, h, w] each, h and w multiples of 4; before rounding.
        worths: of each latent, what a unit of squared error is worth in bits (fastlic.entropy.zones); none: nothing.

    Raises:
        ValueError: no latents, or weights whose accumulators could leave int32.
    """
    if not latents:
        raise ValueError("calibration needs at least one image")
    given = list(zip(latents, worths or [None] * len(latents), strict=True))
    with _watched(model) as ranges:
        for y, worth in given:
            z_hat = model.entropy_bottleneck(model.hyper_analysis(y))[0]
            ranges.see("z", z_hat)
            ranges.see("y", model.code_latent(y, z_hat, worth)[0])

    build = _Builder(model, ranges)
    c, m = model.slice_channels, model.M
    y_units = ranges.scale("y", floor=1.0)
    build.requantisers["y.input"] = entry(y_units)
    hyper = build.hyper()
    numbers: dict[str, np.ndarray] = {}
    for i in range(model.slices):
        here, before = y_units[i * c : i * c + c], y_units[: i * c]
        past = []
        if i:
            past = [build.network(f"channel.{i}", f"channel_context.{i}.fushion", before)]
            if model.has_inter:
                source = f"global_inter_context.{i}"
                attended = build.attention(f"inter.{i}", source, (before, before, before), i)
                past.insert(0, build.tail(f"inter.{i}", source, attended))
        local, found = build.local(i, here)
        numbers |= found
        near = [local]
        if i:
            source, previous = f"global_intra_context.{i}", y_units[(i - 1) * c : i * c]
            attended = build.attention(f"intra.{i}", source, (previous, previous, here), HEADS_INTRA)
            near.append(build.tail(f"intra.{i}", source, attended))
        heads = [(ANCHORS, f"anchor.{i}", past), (OTHERS, f"nonanchor.{i}", [*near, *past])]
        if model.early and i == 0:
            heads.append((EARLY, "early", [build.network("early", "early_context.fushion", here)]))
        for which, source, contexts in heads:
            joined = np.concatenate([*contexts, hyper])
            name = f"parameters.{which}.{i}"
            build.network(name, f"entropy_parameters_{source}.fusion", joined, head_units(c), WIDE_BITS)
        for which, long in ((ANCHORS, "anchor"), (OTHERS, "nonanchor")):
            joined = np.concatenate([hyper[m:], before, here])
            units = np.full(c, _UNIT_SCORE)
            build.network(f"residual.{which}.{i}", f"lrp_{long}.{i}.lrp_transform", joined, units)

    tables = plain_tables(model.entropy_bottleneck)
    median = tables.pop("z_median")
    integers = IntegerMLIC(
        family=model.family,
        slices=model.slices,
        tables=Tables.make(),
        layers=build.layers,
        requantisers=build.requantisers,
        numbers={"z.median": median, "y.thresholds": tables.pop("thresholds"), **numbers},
        **tables,
    )
    coded = coded_latents(integers, model.hyper_analysis, given)
    return replace(integers, y_tables=fit_tables(scale_levels(), coded))
