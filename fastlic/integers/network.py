"""Whole transforms of integers, g_a, g_s, h_a and the like: steps over values, and their plain reference.

    value 0     the input: pixels 0..255, or latents in units of 2^-6 as the entry brings them to activations
    value k     what step k - 1 makes of earlier values: int64 [C, h, w], real = activation * the channel's unit
    the last    the output: activations, pixels or latents

Steps are integers, or one correctly rounded operation of float32 at a time, so every engine equals this one bit for
bit. A network is checked when it is made: no sum can leave int32 for any input of its width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil, lcm
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.integers.fixed import LATENT_LIMIT, Requantiser, largest
from fastlic.integers.functions import CURVE_BITS, EXPONENTS, WEIGHT_BITS, Curve, Curves, powers_of_two
from fastlic.integers.layer import HALVED, INT32, PLAIN, TURNED, Layer
from fastlic.integers.layouts import STEPS
from fastlic.integers.shapes import ACTIVATIONS, FACTOR_BITS, MAX_SHIFT, Arrays, Shape, is_array, numbers_of, require
from fastlic.integers.windows import LayerNormStep, MapMeanStep, SoftmaxStep, WindowStep

PIXEL_BITS = 9
LATENT_BITS = 27
_SQUARE = 32767  # the largest square of GDN's inputs
_MAX_KERNEL = 9
_MAX_CHANNELS = 1 << 14


@dataclass(frozen=True)
class LayerStep:
    """A convolution and what follows it.

    Attributes:
        layer: of any kind but turned ones; ``layer.reflect`` stands among the step's numbers.
    """

    op: ClassVar[int] = 0
    layer: Layer

    def __call__(self, curves: Curves, x: Tensor) -> Tensor:
        return self.layer(x, curves)

    def shape(self, x: Shape) -> Shape:
        """Of its output; ValueError: it does not go with that input, or a sum could leave int32."""
        kind, weight = self.layer.kind, self.layer.weight
        require(kind is not TURNED, "transposed layers have stride 2")
        require(not (self.layer.reflect and kind.transposed), "transposed layers pad with zeros")
        require(weight.ndim == 4, "kernels are odd and square")
        inputs = weight.shape[0 if kind.transposed else 1]
        require(1 <= inputs <= _MAX_CHANNELS, f"layers read up to {_MAX_CHANNELS} channels")
        require(inputs == x.channels, f"a layer of {inputs} inputs reads {x.channels} channels")
        return _layer_shape(self.layer, x)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        return {**numbers_of(prefix, self.op, self.layer.reflect), **STEPS.to_arrays(self.layer, prefix)}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, reflect: int) -> LayerStep:
        require(reflect in (0, 1), "maps are padded with zeros, 0, or reflected, 1")
        layer = STEPS.from_arrays(arrays, prefix)
        return cls(Layer(**{**vars(layer), "reflect": bool(reflect)}))


@dataclass(frozen=True)
class DepthwiseStep:
    """A plain layer each of whose channels reads the one of its number alone.

    Attributes:
        layer: of as many groups as channels.
    """

    op: ClassVar[int] = 7
    layer: Layer

    def __call__(self, curves: Curves, x: Tensor) -> Tensor:
        return self.layer(x, curves)

    def shape(self, x: Shape) -> Shape:
        """As ``LayerStep.shape``."""
        layer, weight = self.layer, self.layer.weight
        require(layer.kind is PLAIN and not layer.reflect, "depthwise layers keep sizes, and pad with zeros")
        alone = weight.ndim == 4 and weight.shape[:2] == (x.channels, 1) and layer.groups == x.channels
        require(alone, "a depthwise layer has one kernel for each channel that it reads")
        require(x.channels <= _MAX_CHANNELS, f"layers read up to {_MAX_CHANNELS} channels")
        return _layer_shape(layer, x)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        return {**numbers_of(prefix, self.op), **STEPS.to_arrays(self.layer, prefix)}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str) -> DepthwiseStep:
        layer = STEPS.from_arrays(arrays, prefix)
        return cls(replace(layer, groups=len(layer.weight)))


@dataclass(frozen=True)
class NormStep:
    """GDN, or its inverse: x / sqrt(beta + gamma squares), or times that root, in units of its own.

    Attributes:
        inverse: whether to multiply by the root.
        input_bits, bits: widths of inputs (9 to 16) and outputs.
        gamma: int16 [C, C] >= 0, a row for each output.
        beta: int32 [C] >= 1.
        multiplier, shift: int32 [C] below 2^24 and uint8 [C], the factor multiplier * 2^-shift on the outputs.
    """

    op: ClassVar[int] = 1
    inverse: bool
    input_bits: int
    bits: int
    gamma: np.ndarray
    beta: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray

    def norms(self, x: Tensor) -> Tensor:
        """beta + gamma squares of activations int64 [C, h, w]; squares are cut to 15 bits."""
        drop = 2 * self.input_bits - 17
        squares = (x * x + (1 << (drop - 1))) >> drop
        gamma = torch.from_numpy(self.gamma.astype(np.float64)).to(x.device)
        beta = torch.from_numpy(self.beta.astype(np.int64)).to(x.device)
        sums = gamma @ squares.double().flatten(1)  # exact below 2^53
        return sums.long().view(x.shape) + beta[:, None, None]

    def __call__(self, curves: Curves, x: Tensor) -> Tensor:
        factor = np.ldexp(self.multiplier.astype(np.float32), -self.shift.astype(np.int32)).astype(np.float32)
        # By float64: torch's float32 root is a library's, and may be off by one in the last place. Rounded twice, a
        # root is still the nearest float32 (Figueroa 1995).
        root = self.norms(x).float().double().sqrt().float()
        out = x.float() * root if self.inverse else x.float() / root
        out = out * torch.from_numpy(factor).to(x.device)[:, None, None]
        limit = largest(self.bits)
        return out.clamp(-limit, limit).round().long()

    def shape(self, x: Shape) -> Shape:
        """As ``LayerStep.shape``."""
        c = x.channels
        require(9 <= self.input_bits <= ACTIVATIONS and x.bits <= self.input_bits, "inputs have 9 to 16 bits")
        require(2 <= self.bits <= ACTIVATIONS, "outputs have 2 to 16 bits")
        require(is_array(self.gamma, np.int16, c, c) and bool((self.gamma >= 0).all()), "gamma is int16 [C, C], >= 0")
        require(is_array(self.beta, np.int32, c) and bool((self.beta >= 1).all()), "beta is int32 [C], >= 1")
        require(
            is_array(self.multiplier, np.int32, c) and is_array(self.shift, np.uint8, c), "factors are int32, uint8 [C]"
        )
        fits = (self.multiplier >= 0) & (self.multiplier < 1 << FACTOR_BITS) & (self.shift <= MAX_SHIFT)
        require(bool(fits.all()), "factors have 24 bits, and shifts up to 62")
        sums = self.gamma.astype(np.int64).sum(1) * _SQUARE + self.beta
        require(bool((sums <= INT32).all()), "a norm could leave int32")
        return Shape(c, self.bits, x.sizes)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        own = {"gamma": self.gamma, "beta": self.beta, "multiplier": self.multiplier, "shift": self.shift}
        numbers = numbers_of(prefix, self.op, self.inverse, self.input_bits, self.bits)
        return numbers | {f"{prefix}.{name}": array for name, array in own.items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, inverse: int, input_bits: int, bits: int) -> NormStep:
        require(inverse in (0, 1), "a norm divides, 0, or multiplies, 1")
        own = (arrays[f"{prefix}.{name}"] for name in ("gamma", "beta", "multiplier", "shift"))
        return cls(bool(inverse), input_bits, bits, *own)


@dataclass(frozen=True)
class SumStep:
    """Two values in one unit: (a left + b right + half) >> shift.

    Attributes:
        shift: 1 to 30.
        bits: of the outputs.
        left, right: int16 [C].
    """

    op: ClassVar[int] = 2
    shift: int
    bits: int
    left: np.ndarray
    right: np.ndarray

    def __call__(self, curves: Curves, a: Tensor, b: Tensor) -> Tensor:
        left, right = (
            torch.from_numpy(f.astype(np.int64)).to(a.device)[:, None, None] for f in (self.left, self.right)
        )
        limit = largest(self.bits)
        return ((a * left + b * right + (1 << (self.shift - 1))) >> self.shift).clamp(-limit, limit)

    def shape(self, a: Shape, b: Shape) -> Shape:
        """As ``LayerStep.shape``."""
        _require_alike(a, b)
        require(1 <= self.shift <= 30 and 2 <= self.bits <= ACTIVATIONS, "sums shift by 1 to 30, to 2 to 16 bits")
        require(
            is_array(self.left, np.int16, a.channels) and is_array(self.right, np.int16, a.channels),
            "factors are int16 [C]",
        )
        left, right = np.abs(self.left.astype(np.int64)), np.abs(self.right.astype(np.int64))
        reach = a.limit * left + b.limit * right + (1 << (self.shift - 1))
        require(bool((reach <= INT32).all()), "a sum could leave int32")
        return Shape(a.channels, self.bits, a.sizes)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        numbers = numbers_of(prefix, self.op, self.shift, self.bits)
        return {**numbers, f"{prefix}.left": self.left, f"{prefix}.right": self.right}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, shift: int, bits: int) -> SumStep:
        return cls(shift, bits, arrays[f"{prefix}.left"], arrays[f"{prefix}.right"])


@dataclass(frozen=True)
class GateStep:
    """a times the logistic function of b, in a's units.

    Attributes:
        exponents: uint8 [C], b counts units of 2^-exponent.
    """

    op: ClassVar[int] = 3
    exponents: np.ndarray

    def __call__(self, curves: Curves, a: Tensor, b: Tensor) -> Tensor:
        return curves.gate(a.permute(1, 2, 0), b.permute(1, 2, 0), self.exponents).permute(2, 0, 1)

    def shape(self, a: Shape, b: Shape) -> Shape:
        """As ``LayerStep.shape``."""
        _require_alike(a, b)
        require(a.bits <= ACTIVATIONS, "gates let 16 bits through")
        _require_exponents(self.exponents, b.channels, b.bits)
        return Shape(a.channels, a.bits, a.sizes)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        return {**numbers_of(prefix, self.op), f"{prefix}.exponents": self.exponents}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str) -> GateStep:
        return cls(arrays[f"{prefix}.exponents"])


@dataclass(frozen=True)
class ProductStep:
    """a times b, requantised as a layer's sums are."""

    op: ClassVar[int] = 8
    requantiser: Requantiser

    def __call__(self, curves: Curves, a: Tensor, b: Tensor) -> Tensor:
        return self.requantiser((a * b).permute(1, 2, 0)).permute(2, 0, 1)

    def shape(self, a: Shape, b: Shape) -> Shape:
        """As ``LayerStep.shape``; products of 16 bits each fit int32."""
        _require_alike(a, b)
        _require_requantiser(self.requantiser, a.channels)
        return Shape(a.channels, self.requantiser.bits, a.sizes)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        return {**numbers_of(prefix, self.op), **self.requantiser.to_arrays(f"{prefix}.requantise")}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str) -> ProductStep:
        return cls(Requantiser.from_arrays(arrays, f"{prefix}.requantise"))


@dataclass(frozen=True)
class CurveStep:
    """A curve that does not follow a layer.

    Attributes:
        curve: GELU or SiLU.
        exponents: uint8 [C], inputs and outputs count units of 2^-exponent.
    """

    op: ClassVar[int] = 4
    curve: Curve
    exponents: np.ndarray

    def __call__(self, curves: Curves, x: Tensor) -> Tensor:
        return curves.activate(self.curve, x.permute(1, 2, 0), self.exponents).permute(2, 0, 1)

    def shape(self, x: Shape) -> Shape:
        """As ``LayerStep.shape``."""
        _require_exponents(self.exponents, x.channels, x.bits)
        return x

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        return {**numbers_of(prefix, self.op, self.curve.number), f"{prefix}.exponents": self.exponents}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, curve: int) -> CurveStep:
        return cls(Curve.numbered(curve), arrays[f"{prefix}.exponents"])


Step = (
    LayerStep
    | NormStep
    | SumStep
    | GateStep
    | CurveStep
    | LayerNormStep
    | WindowStep
    | DepthwiseStep
    | ProductStep
    | SoftmaxStep
    | MapMeanStep
)
# By op: what reads one, how many numbers of its own it has, how many values it reads.
_STEPS: tuple[tuple[Any, int, int], ...] = (
    (LayerStep, 1, 1), (NormStep, 3, 1), (SumStep, 2, 2), (GateStep, 0, 2), (CurveStep, 1, 1),
    (LayerNormStep, 2, 1), (WindowStep, 5, 1), (DepthwiseStep, 0, 1), (ProductStep, 0, 2),
    (SoftmaxStep, 2, 1), (MapMeanStep, 1, 1),
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """See the module.

    Attributes:
        steps: in the order of execution.
        reads: of each step the numbers of the values it reads.
        entry: from latents, int32 in units of 2^-6, to value 0; None: pixels enter as they are.
        shapes: of each value; made here.
        units: float32 [C] of each value, the real value of one unit; empty where nobody needs floats again. No output
            depends on them.

    Raises:
        ValueError: steps that do not fit each other, or of which a sum could leave int32; says which.
    """

    steps: tuple[Step, ...]
    reads: tuple[tuple[int, ...], ...]
    entry: Requantiser | None = None
    units: tuple[np.ndarray, ...] = ()
    shapes: tuple[Shape, ...] = field(init=False, repr=False)
    curves: Curves = field(default_factory=lambda: Curves({curve: curve.tail() for curve in Curve}), repr=False)

    def __post_init__(self) -> None:
        require(len(self.steps) > 0 and len(self.steps) == len(self.reads), "a network has steps, which read values")
        shapes = [self._first()]
        for i, (step, reads) in enumerate(zip(self.steps, self.reads, strict=True)):
            try:
                require(len(reads) == _STEPS[step.op][2], f"it reads {_STEPS[step.op][2]} values")
                require(all(0 <= r <= i for r in reads), f"it reads values before it, not {list(reads)}")
                shapes.append(step.shape(*(shapes[r] for r in reads)))
                wide = i == len(self.steps) - 1 and isinstance(step, LayerStep)
                too_wide = f"it gives {shapes[-1].bits} bits; over {ACTIVATIONS} are for a convolution at the end alone"
                require(shapes[-1].bits <= ACTIVATIONS or wide, too_wide)
            except ValueError as error:
                raise ValueError(f"step {i}: {error}") from error
        object.__setattr__(self, "shapes", tuple(shapes))
        if self.units:
            require(
                [u.shape for u in self.units] == [(shape.channels,) for shape in shapes], "units are one per channel"
            )
            fit = all(u.dtype == np.float32 and np.isfinite(u).all() and (u > 0).all() for u in self.units)
            require(fit, "units are float32, positive and finite")

    def _first(self) -> Shape:
        if self.entry is not None:
            _require_requantiser(self.entry, len(self.entry.multiplier))
            require(self.entry.bits <= ACTIVATIONS, "activations have 2 to 16 bits")
            return Shape(len(self.entry.multiplier), self.entry.bits)
        first = self.steps[0]
        require(isinstance(first, LayerStep), "pixels are read by a layer")
        assert isinstance(first, LayerStep)
        return Shape(first.layer.weight.shape[0 if first.layer.kind.transposed else 1], PIXEL_BITS)

    @property
    def exit(self) -> Requantiser | None:
        """The last layer's requantiser, which a quality's gain may multiply; None: the last step is no layer."""
        last = self.steps[-1]
        return last.layer.requantiser if isinstance(last, LayerStep) else None

    @property
    def multiple(self) -> int:
        """What sides of its input have to be multiples of, for windows to fill each map; 1 without windows."""
        out = 1
        for step, reads in zip(self.steps, self.reads, strict=True):
            if isinstance(step, WindowStep):
                grown = Fraction(2) ** sum(self.shapes[reads[0]].sizes)
                out = lcm(out, (step.size / grown).numerator)
        return out

    def on_whole_windows(self, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """What ``run``, this network or an engine of it, makes of [..., h, w], as large as of maps of any sides.

        Maps that windows do not fill go on below and to the right, as zeros.
        """
        side, sides = self.multiple, x.shape[-2:]
        padded = F.pad(x, (0, -sides[1] % side, 0, -sides[0] % side))
        out = run(padded)
        height, width = (ceil(Fraction(2) ** sum(self.shapes[-1].sizes) * own) for own in sides)
        return out[..., :height, :width] if padded.shape != x.shape else out

    def values(self, x: Tensor) -> list[Tensor]:
        """Every value, the input first; ``x`` as of a call."""
        channels = self.shapes[0].channels
        if x.ndim != 3 or x.shape[0] != channels or x.dtype != torch.int64:
            raise ValueError(f"expected int64 [{channels}, h, w], got {x.dtype} {list(x.shape)}")
        limit = LATENT_LIMIT if self.entry is not None else self.shapes[0].limit
        if bool((x.abs() > limit).any()):
            raise ValueError(f"inputs are at most {limit}, got {int(x.abs().max())}")
        out = [x if self.entry is None else self.entry(x.permute(1, 2, 0)).permute(2, 0, 1)]
        for step, reads in zip(self.steps, self.reads, strict=True):
            out.append(step(self.curves, *(out[r] for r in reads)))
        return out

    def __call__(self, x: Tensor) -> Tensor:
        """Pixels or latents int64 [C, h, w] -> the last value int64 [C', h', w']."""
        return self.values(x)[-1]

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Named arrays for storage; ``from_arrays`` reads them back."""
        arrays = {} if self.entry is None else self.entry.to_arrays(f"{prefix}.entry")
        for i, (step, reads) in enumerate(zip(self.steps, self.reads, strict=True)):
            arrays |= {**step.to_arrays(f"{prefix}.{i}"), f"{prefix}.{i}.from": np.array(reads, np.int32)}
        if self.units:
            arrays[f"{prefix}.units"] = np.concatenate(self.units).view(np.int32)
        arrays |= {f"{prefix}.{c.name.lower()}": self.curves.tails[c] for c in Curve if c in self._used()}
        return arrays | ({f"{prefix}.powers": self.curves.powers} if self._weighs() else {})

    def _weighs(self) -> bool:
        return any(isinstance(step, (WindowStep, SoftmaxStep)) for step in self.steps)

    def _used(self) -> set[Curve]:
        used: set[Curve] = set()
        for step in self.steps:
            if isinstance(step, (LayerStep, DepthwiseStep)) and step.layer.exponents is not None:
                used.add(step.layer.curve)
            elif isinstance(step, CurveStep):
                used.add(step.curve)
            elif isinstance(step, GateStep):
                used.add(Curve.SILU)
        return used

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str) -> Network:
        """Read what ``to_arrays`` wrote under the same prefix.

        Raises:
            KeyError: an array is missing.
            ValueError: arrays that make no network, see :class:`Network`.
        """
        try:
            return cls._read(arrays, prefix)
        except (IndexError, TypeError) as error:  # arrays of other dimensions than theirs
            raise ValueError(f"{prefix} has a damaged array: {error}") from error

    @classmethod
    def _read(cls, arrays: Arrays, prefix: str) -> Network:
        steps: list[Step] = []
        reads: list[tuple[int, ...]] = []
        while (own := f"{prefix}.{len(steps)}") + ".step" in arrays:
            for name, dtype in (("step", np.uint8), ("from", np.int32)):
                array = arrays[f"{own}.{name}"]
                require(array.dtype == dtype and array.ndim == 1 and array.size > 0, f"{own}.{name} is {dtype} [n]")
            op, *numbers = (int(v) for v in arrays[f"{own}.step"])
            if op >= len(_STEPS) or len(numbers) != _STEPS[op][1]:
                raise ValueError(f"{own}.step names no step: {[op, *numbers]}")
            try:
                steps.append(_STEPS[op][0].from_arrays(arrays, own, *numbers))
            except ValueError as error:
                raise ValueError(f"{own} is damaged: {error}") from error
            reads.append(tuple(int(v) for v in arrays[f"{own}.from"]))
        has_entry = any(f"{prefix}.entry.{name}" in arrays for name in ("multiplier", "negative", "shift", "bits"))
        tails = {curve: arrays.get(f"{prefix}.{curve.name.lower()}", curve.tail()) for curve in Curve}
        for curve, tail in tails.items():
            falls = (
                is_array(tail, np.int32, 65)
                and bool((np.diff(tail) <= 0).all())
                and tail[-1] >= 0
                and tail[0] <= 1 << 14
            )
            require(falls, f"{prefix}.{curve.name.lower()} is int32 [65], falling from at most 2^14")
        powers = arrays.get(f"{prefix}.powers", powers_of_two())
        falls = is_array(powers, np.int32, 65) and bool((np.diff(powers) <= 0).all())
        require(falls and powers[0] == 1 << WEIGHT_BITS and powers[-1] >= 0, f"{prefix}.powers is int32 [65] from 2^14")
        try:
            entry = Requantiser.from_arrays(arrays, f"{prefix}.entry") if has_entry else None
            network = cls(tuple(steps), tuple(reads), entry, curves=Curves(tails, powers))
            if f"{prefix}.units" in arrays:
                ends = np.cumsum([shape.channels for shape in network.shapes])
                flat = np.ascontiguousarray(arrays[f"{prefix}.units"])
                require(is_array(flat, np.int32, ends[-1]), "units are one per channel of each value")
                network = replace(network, units=tuple(np.split(flat.view(np.float32), ends[:-1])))
        except (ValueError, IndexError) as error:
            raise ValueError(f"{prefix}: {error}") from error
        if missing := [c.name.lower() for c in network._used() if f"{prefix}.{c.name.lower()}" not in arrays]:
            raise KeyError(f"{prefix}.{missing[0]}")
        if network._weighs() and f"{prefix}.powers" not in arrays:
            raise KeyError(f"{prefix}.powers")
        return network


def _layer_shape(layer: Layer, x: Shape) -> Shape:
    """Of the outputs of a layer that reads the channels of x; raises ValueError as ``LayerStep.shape``."""
    kind = layer.kind
    weight = layer.weight.swapaxes(0, 1) if kind.transposed else layer.weight
    out, kernel = weight.shape[0], weight.shape[2]
    require(kernel == weight.shape[3] and kernel % 2 == 1, "kernels are odd and square")
    require(kernel <= _MAX_KERNEL, f"kernels are up to {_MAX_KERNEL}x{_MAX_KERNEL}")
    require(weight.dtype in (np.int8, np.int16), "weights are int8 or int16")
    require(x.bits <= layer.input_bits <= ACTIVATIONS, f"a layer of {layer.input_bits} bits reads {x.bits}")
    require(out % kind.cells == 0, "a shuffled layer has four outputs per channel")
    require(is_array(layer.bias, np.int32, out), "bias is int32 [out]")
    sums = np.abs(weight.astype(np.int64)).sum((1, 2, 3)) * largest(layer.input_bits)
    require(bool((sums + np.abs(layer.bias.astype(np.int64)) <= INT32).all()), "a sum could leave int32")
    _require_requantiser(layer.requantiser, out)
    if layer.exponents is not None:
        _require_exponents(layer.exponents, out, layer.requantiser.bits)
        cells = layer.exponents.reshape(-1, kind.cells)
        require(bool((cells == cells[:, :1]).all()), "the four outputs of a shuffled channel have one exponent")
    grows = [1] * (kind.transposed or kind.shuffle > 1) + [-1] * (kind is HALVED)
    return Shape(out // kind.cells, layer.requantiser.bits, (*x.sizes, *grows))


def _require_alike(a: Shape, b: Shape) -> None:
    require(a.channels == b.channels and a.sizes == b.sizes, "both values have one shape")


def _require_exponents(exponents: np.ndarray, channels: int, bits: int) -> None:
    require(
        is_array(exponents, np.uint8, channels) and bool((exponents < EXPONENTS).all()), "exponents are uint8 [C] < 16"
    )
    require(bits <= CURVE_BITS, f"curves read up to {CURVE_BITS} bits, got {bits}")


def _require_requantiser(of: Requantiser, channels: int) -> None:
    own = is_array(of.multiplier, np.int32, channels) and is_array(of.negative, np.int32, channels)
    require(own and is_array(of.shift, np.uint8, channels), "factors are int32, int32 and uint8 [C]")
    require(bool(((of.shift >= 1) & (of.shift <= MAX_SHIFT)).all()), "requantisers shift by 1 to 62")
    small = (np.abs(of.multiplier.astype(np.int64)) <= 1 << 30) & (np.abs(of.negative.astype(np.int64)) <= 1 << 30)
    require(bool(small.all()) and 2 <= of.bits <= LATENT_BITS, "multipliers have 30 bits, outputs 2 to 27")
