"""From a trained float model of the MLIC family to its integers: calibration, quantisation, tables.

Done once, after training, on any machine; the result is stored. Ranges are taken per channel over the calibration
images at every quality by watching the float model's own layers, widened by a margin, and folded into the weights of
the layer that reads them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from fastlic.entropy.checkerboard.functions import (
    EXPONENTS,
    GELU_REACH,
    NORM_BITS,
    SCORE_BITS,
    VALUE_BITS,
    Tables,
    epsilon_of,
)
from fastlic.entropy.checkerboard.layers import PLAIN, SHUFFLED, TRANSPOSED, Layer
from fastlic.entropy.convert import bottleneck_tables, latents_of
from fastlic.entropy.fitting import coded_symbols, fit_tables
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
from fastlic.entropy.mlic.model import IntegerMLIC
from fastlic.entropy.mlic.schedule import ANCHORS, EARLY, OTHERS
from fastlic.entropy.scales import scale_levels, scale_thresholds
from fastlic.entropy.zones import zones_for
from fastlic.models.layers import LEAKY_SLOPE
from fastlic.models.mlic.attention import HEADS_INTRA, GlobalInterContext, GlobalIntraContext
from fastlic.models.mlic.local import HEADS, LocalContext
from fastlic.models.mlic.model import MLICPlusPlus
from fastlic.ops.rans import gaussian_tables

# Sums of two activations and the layer norms' inputs have 16 bits.
_SUM_BITS = 16
_UNIT_SCORE = 2.0**-SCORE_BITS
_UNIT_LATENT = 2.0**-MEAN_BITS


class _Ranges:
    """Largest and smallest value per channel of every layer's output, and largest magnitude of its input."""

    def __init__(self, model: nn.Module) -> None:
        self.highest: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(1))
        self.lowest: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(1))
        self._hooks = []
        for name, module in model.named_modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, GlobalInterContext, GlobalIntraContext)):
                last = isinstance(module, nn.Linear)
                self._hooks.append(module.register_forward_hook(self._watch(name, last)))
            elif isinstance(module, LocalContext):
                self._hooks.append(module.register_forward_hook(self._watch(name, False)))

    def _watch(self, name: str, channels_last: bool) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            dim = output.ndim - 1 if channels_last else 1
            self.see(name, output, dim)
            if not channels_last:
                self.see(f"{name}:input", inputs[0], 1)

        return hook

    def see(self, name: str, x: Tensor, dim: int = 1) -> None:
        """Record x, channels in ``dim``."""
        flat = x.detach().movedim(dim, 0).flatten(1)
        self.highest[name] = np.maximum(self.highest[name], flat.amax(1).double().cpu().numpy())
        self.lowest[name] = np.minimum(self.lowest[name], flat.amin(1).double().cpu().numpy())

    def close(self) -> None:
        """Stop watching."""
        for hook in self._hooks:
            hook.remove()

    def largest(self, name: str) -> np.ndarray:
        """float64 [C]: the largest magnitude."""
        return np.maximum(self.highest[name], -self.lowest[name])

    def scale(self, name: str, bits: int = ACTIVATION_BITS, floor: float = 0.0) -> np.ndarray:
        """float64 [C]: the real value of one unit. Dead channels get a thousandth of the liveliest one's range."""
        largest = self.largest(name)
        largest = np.maximum(largest, max(floor, largest.max() * 1e-3, 1e-6))
        return largest * RANGE_MARGIN / ((1 << (bits - 1)) - 1)

    def leaky_scale(self, name: str, slope: float) -> np.ndarray:
        """``scale`` of what a leaky ReLU makes of the layer's output."""
        largest = np.maximum(self.highest[name], -slope * self.lowest[name])
        return np.maximum(largest, max(largest.max() * 1e-3, 1e-6)) * RANGE_MARGIN / ACTIVATION_LIMIT

    def exponents(self, name: str) -> np.ndarray:
        """uint8 [C]: the finest unit 2^-e of a GELU's input that reaches far enough."""
        reach = np.maximum(self.highest[name], np.minimum(-self.lowest[name], GELU_REACH / RANGE_MARGIN)) * RANGE_MARGIN
        reach = np.maximum(reach, 1e-6)
        return np.floor(np.log2(ACTIVATION_LIMIT / reach)).clip(0, EXPONENTS - 1).astype(np.uint8)


class _Builder:
    """Turns named float modules into named integer layers; remembers what it made."""

    def __init__(self, model: MLICPlusPlus, ranges: _Ranges) -> None:
        self.model, self.ranges = model, ranges
        self.layers: dict[str, Layer] = {}
        self.requantisers: dict[str, Requantiser] = {}

    def layer(self, name: str, source: str, inputs: np.ndarray, outputs: np.ndarray | None = None, **how: Any) -> Any:
        """The integer twin of the module ``source``; returns the real value of one unit of its outputs.

        Args:
            outputs: real value of one unit of each output; None: as calibrated.
            how: ``gelu`` for a GELU behind it, the rest is for Layer.from_float.
        """
        module = self.model.get_submodule(source)
        assert isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
        exponents = None
        if outputs is None:
            # Behind a pixel shuffle, the four convolution channels of one output share a scale.
            group = 4 if how.get("kind") == SHUFFLED else 1
            if how.pop("gelu", False):
                exponents = self.ranges.exponents(source).reshape(-1, group).min(1)
                outputs = 2.0 ** -exponents.astype(np.float64)
                exponents = exponents.repeat(group)
            else:
                outputs = self.ranges.scale(source).reshape(-1, group).max(1)
        else:
            group = 1
        groups = module.groups if isinstance(module, nn.Conv2d) else 1
        bias = module.bias if module.bias is not None else torch.zeros(len(outputs) * group)
        self.layers[name] = Layer.from_float(
            module.weight, bias, inputs, outputs.repeat(group), groups=groups, exponents=exponents, **how
        )
        return outputs

    def stack(
        self, name: str, source: str, inputs: np.ndarray, outputs: np.ndarray | None = None, bits: int = ACTIVATION_BITS
    ) -> Any:
        """A Sequential with a layer at every other index and GELU between them; returns the last layer's units."""
        count = (len(self.model.get_submodule(source)) + 1) // 2  # type: ignore[arg-type]
        for i in range(count):
            if i < count - 1:
                inputs = self.layer(f"{name}.{i}", f"{source}.{2 * i}", inputs, gelu=True)
            else:
                inputs = self.layer(f"{name}.{i}", f"{source}.{2 * i}", inputs, outputs, output_bits=bits)
        return inputs

    def requantiser(self, name: str, factors: np.ndarray, bits: int = ACTIVATION_BITS) -> None:
        self.requantisers[name] = Requantiser.from_factors(factors, bits)

    def entry(self, name: str, scale: np.ndarray) -> None:
        """From latents in units of 2^-6 to activations."""
        self.requantiser(name, _UNIT_LATENT / scale)

    # ---- the parts

    def hyper(self) -> np.ndarray:
        """h_s; returns the units of its outputs."""
        units = self.ranges.scale("z", floor=1.0)
        self.entry("z.input", units)
        if self.model.narrow:
            for i, kind in enumerate((TRANSPOSED, TRANSPOSED, PLAIN)):
                slope = LEAKY_SLOPE if i < 2 else 1.0
                outputs = self.ranges.leaky_scale(f"h_s.{2 * i}", slope)
                units = self.layer(f"hyper.{i}", f"h_s.{2 * i}", units, outputs, kind=kind, slope=slope)
            return units
        for i, source in enumerate(("0", "2.0", "4", "6.0", "8")):
            kind = SHUFFLED if "." in source else PLAIN
            units = self.layer(f"hyper.{i}", f"h_s.increase.{source}", units, kind=kind, gelu=i < 4)
        return units

    def attention(self, name: str, source: str, units: tuple[np.ndarray, np.ndarray, np.ndarray], heads: int) -> Any:
        """Projections of queries, keys and values; returns the units of what ``reprojection`` reads."""
        values = np.ones(1)
        peaks: dict[str, float | np.ndarray] = {}
        for part, plural, inputs in zip(("query", "key", "value"), ("queries", "keys", "values"), units, strict=True):
            inner = self.layer(f"{name}.{part}.0", f"{source}.{plural}.0", inputs)
            last = f"{source}.{plural}.1"
            if part == "value":
                values = self.layer(f"{name}.{part}.1", last, inner)
            elif self.model.linear:
                outputs = np.full(len(inner), _UNIT_SCORE)
                self.layer(f"{name}.{part}.1", last, inner, outputs, output_bits=_SUM_BITS)
            else:  # products need one unit per head
                peaks[part] = self.ranges.scale(last).reshape(heads, -1).max(1)
                self.layer(f"{name}.{part}.1", last, inner, np.repeat(peaks[part], len(inner) // heads))
        if not self.model.linear:
            factors = peaks["query"] * peaks["key"] * (len(values) // heads) ** -0.5 / _UNIT_SCORE
            self.per_head(f"{name}.score", factors)
        return self.attended(name, f"{source}.reprojection", values)

    def per_head(self, name: str, factors: Any) -> None:
        """Requantisation of products to scores."""
        self.requantiser(name, np.asarray(factors), _SUM_BITS)

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
            return self.stack(name, source, units), {}
        c = self.model.slice_channels
        # The layer norm's weight and bias move into the layer behind it.
        norm = np.full(c, 2.0**-NORM_BITS)
        scale = self.ranges.scale(f"{source}.qkv_proj")
        heads = [scale[part * c : part * c + c].reshape(-1, HEADS).max(0) for part in (0, 1)]  # interleaved
        outputs = np.concatenate([*(np.tile(h, c // HEADS) for h in heads), scale[2 * c :]])
        self.folded(f"{name}.qkv", module.norm1, module.qkv_proj, norm, outputs)
        self.per_head(f"{name}.score", heads[0] * heads[1] * module.scale / _UNIT_SCORE)
        values = scale[2 * c :].reshape(-1, HEADS).T.reshape(-1)  # head by head, as they leave the heads
        units = self.attended(name, f"{source}.fusion", values)
        units = self.layer(f"{name}.fusion", f"{source}.fusion", units)
        # One unit for all channels, as a layer norm follows, and for what is added behind it.
        largest = max(self.ranges.largest(f"{source}.proj").max(), self.ranges.largest(f"{source}.mlp.fc2").max(), 1e-6)
        unit = largest * RANGE_MARGIN / ((1 << (_SUM_BITS - 1)) - 1)
        common = np.full(len(units), unit)
        self.layer(f"{name}.proj", f"{source}.proj", units, common, output_bits=_SUM_BITS)
        exponents = self.ranges.exponents(f"{source}.mlp.fc1")
        hidden = 2.0 ** -exponents.astype(np.float64)
        normal = np.full(len(units), 2.0**-NORM_BITS)
        self.folded(f"{name}.mlp.0", module.norm2, module.mlp.fc1, normal, hidden, exponents)
        self.layer(f"{name}.mlp.1", f"{source}.mlp.fc2", hidden, common, output_bits=_SUM_BITS)
        outputs = self.ranges.scale(source)
        self.requantiser(f"{name}.output", unit / outputs)
        bias = np.rint(module.relative_position_table.detach().double().numpy().T / _UNIT_SCORE)
        epsilon = [
            epsilon_of(module.norm1.eps, c, _UNIT_LATENT),
            epsilon_of(module.norm2.eps, len(units), unit),
        ]
        limit = (1 << (_SUM_BITS - 1)) - 1
        return outputs, {
            f"{name}.bias": np.ascontiguousarray(bias.clip(-limit, limit).astype(np.int32)),
            f"{name}.epsilon": np.array(epsilon, np.int32),
        }

    def folded(
        self,
        name: str,
        norm: nn.LayerNorm,
        linear: nn.Linear,
        inputs: np.ndarray,
        outputs: np.ndarray,
        exponents: np.ndarray | None = None,
    ) -> None:
        """A linear layer with the affine part of the layer norm before it."""
        weight = linear.weight.double() * norm.weight.double()
        bias = linear.bias.double() + linear.weight.double() @ norm.bias.double()
        self.layers[name] = Layer.from_float(weight, bias, inputs, outputs, exponents=exponents)

    def tail(self, name: str, source: str, units: np.ndarray) -> np.ndarray:
        """What follows attention: projection, MLP and the way past it; returns the units of the context."""
        units = self.layer(f"{name}.reprojection", f"{source}.reprojection", units)
        outputs = self.ranges.scale(source)
        self.stack(f"{name}.mlp", f"{source}.mlp", units, outputs, _SUM_BITS)
        if name.startswith("inter"):
            self.layer(f"{name}.skip", f"{source}.skip", units, outputs, output_bits=_SUM_BITS)
        else:
            self.requantiser(f"{name}.residual", units / outputs, _SUM_BITS)
        return outputs


@torch.no_grad()
def convert(model: MLICPlusPlus, images: Sequence[Tensor]) -> IntegerMLIC:
    """The integer entropy model of a trained model of the family.

    Args:
        model: in eval mode, on the CPU, float32.
        images: calibration images, each [3, H, W] in [0, 1]; a handful of varied photographs suffices.

    Raises:
        ValueError: no images, or weights whose accumulators could leave int32.
    """
    if not images:
        raise ValueError("calibration needs at least one image")
    ranges = _Ranges(model)
    for y, worth in latents_of(model, images):
        z_hat = model.entropy_bottleneck(model.hyper_analysis(y))[0]
        ranges.see("z", z_hat)
        ranges.see("y", model.code_latent(y, z_hat, worth)[0])
    ranges.close()

    build = _Builder(model, ranges)
    c, m = model.slice_channels, model.M
    head = np.concatenate([np.full(c, 2.0**-SCALE_BITS), np.full(c, _UNIT_LATENT)])
    y_units = ranges.scale("y", floor=1.0)
    build.entry("y.input", y_units)
    hyper = build.hyper()
    numbers: dict[str, np.ndarray] = {}
    for i in range(model.slices):
        here, before = y_units[i * c : i * c + c], y_units[: i * c]
        past = []
        if i:
            past = [build.stack(f"channel.{i}", f"channel_context.{i}.fushion", before)]
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
            heads.append((EARLY, "early", [build.stack("early", "early_context.fushion", here)]))
        for which, source, contexts in heads:
            joined = np.concatenate([*contexts, hyper])
            build.stack(f"parameters.{which}.{i}", f"entropy_parameters_{source}.fusion", joined, head, WIDE_BITS)
        for which, long in ((ANCHORS, "anchor"), (OTHERS, "nonanchor")):
            joined = np.concatenate([hyper[m:], before, here])
            units = np.full(c, _UNIT_SCORE)
            build.stack(f"residual.{which}.{i}", f"lrp_{long}.{i}.lrp_transform", joined, units)

    median = np.rint(model.entropy_bottleneck.medians.double().cpu().numpy() / _UNIT_LATENT).astype(np.int32)
    levels = scale_levels()
    integers = IntegerMLIC(
        family=model.family,
        slices=model.slices,
        z_tables=bottleneck_tables(model.entropy_bottleneck, median),
        y_tables=gaussian_tables(levels),
        tables=Tables.make(),
        layers=build.layers,
        requantisers=build.requantisers,
        numbers={"z.median": median, "y.thresholds": scale_thresholds(levels), **numbers},
    )
    return replace(integers, y_tables=fit_tables(levels, _coded(model, integers, images)))


def _coded(
    model: MLICPlusPlus, integers: IntegerMLIC, images: Sequence[Tensor]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(scale indexes, symbols) of every image at every quality, as the integer path codes them."""
    for y, worth in latents_of(model, images):
        yield coded_symbols(integers, fixed_point(model.hyper_analysis(y)[0]), fixed_point(y[0]), zones_for(worth))
