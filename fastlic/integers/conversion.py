"""Networks of integers from graphs of float operations and what calibration saw of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from fastlic.integers.fixed import MEAN_BITS, Requantiser, largest
from fastlic.integers.functions import CURVE_BITS, Curve
from fastlic.integers.graph import (
    Bend,
    Gate,
    Graph,
    LayerNorm,
    MapMean,
    Norm,
    Product,
    Rectify,
    Softmax,
    Sum,
    WindowAttention,
)
from fastlic.integers.layer import INT32, Layer
from fastlic.integers.network import (
    LATENT_BITS,
    PIXEL_BITS,
    CurveStep,
    DepthwiseStep,
    GateStep,
    LayerStep,
    Network,
    NormStep,
    ProductStep,
    Step,
    SumStep,
)
from fastlic.integers.ranges import Ranges
from fastlic.integers.shapes import ACTIVATIONS, Factors
from fastlic.integers.stages import Stage
from fastlic.integers.windows import BIAS_BITS, SCORES, LayerNormStep, MapMeanStep, SoftmaxStep, WindowStep

PIXEL_UNIT = 1 / 255
LATENT_UNIT = 2.0**-MEAN_BITS
Units = float | np.ndarray  # of all channels, or float64 [C]
# Sums below this can be had through Winograd's transform, whose sums are four times as large.
WINOGRAD = 2**29 - 1
# The logistic function is as good as 0 and 1 beyond; just below 8, so that 14 bits count units of 2^-10.
_GATE_REACH = 7.99
# Bits of depthwise weights, which cost nothing.
_DEPTHWISE = 16
# Of what scores may be, that products of queries and keys take at most: the rest is for biases.
_PRODUCTS = 0.9 * SCORES
# Of a window's weights, units of distance for each halving.
_DISTANCES = 2.0**11


@dataclass(frozen=True)
class Precision:
    """How finely a network counts.

    Attributes:
        weight_bits: of convolutions, 2 to 16.
        bits: of activations, 9 to 14.
        margin: of ranges beyond what calibration saw: what is cut costs far more than coarser units do.
        bound: that no sum of a layer of several taps shall pass, and int32 of one tap; weights are coarser if need be.
        learned: whether weights are rounded for the inputs that calibration brings, or to the nearest, which is faster
            and from 12 bits on nearly as good.
    """

    weight_bits: int = 12
    bits: int = 14
    margin: float = 4.0
    bound: int | None = WINOGRAD
    learned: bool = False


class _Converter:
    """One network in the making: units are float64 [C], real values of one unit, of each value."""

    def __init__(self, graph: Graph, ranges: Ranges, precision: Precision) -> None:
        self.graph, self.ranges, self.precision = graph, ranges, precision
        self.exponents: dict[int, np.ndarray] = {}
        self.units: list[np.ndarray] = []
        self.widths: list[int] = []
        self.windows: dict[int, WindowAttention] = {}
        self.products: dict[int, np.ndarray] = {}  # of each head, the unit of queries times that of keys
        self.weighed: dict[int, Softmax] = {}
        readers: list[list[str]] = [[] for _ in range(len(graph.operations) + 1)]
        for operation, reads in zip(graph.operations, graph.reads, strict=True):
            if isinstance(operation, WindowAttention):
                first = self.windows.setdefault(reads[0], operation)
                if first is not operation:
                    raise ValueError("two window attentions read the same queries and keys")
            if isinstance(operation, Softmax):
                self.weighed[reads[0]] = operation
            for place, r in enumerate(reads):
                gated = isinstance(operation, Gate)
                readers[r].append("gate" if gated and place == 1 else "curve" if isinstance(operation, Bend) else "")
        self.readers = [set(of) for of in readers]
        for k in reversed(range(len(graph.operations))):  # what a gate or a ReLU lets through keeps its unit
            if isinstance(graph.operations[k], (Gate, Rectify)) and self.readers[k + 1] & {"curve", "gate"}:
                self.readers[graph.reads[k][0]].add("curve")

    def unit(self, k: int, cells: int = 1, curve: Curve | None = None) -> np.ndarray:
        """Of value k, by its range; a power of two if a curve or a gate reads it, and then its exponents are noted."""
        bits = self.width(k)
        readers = self.readers[k]
        if k in self.windows:
            if curve is not None or readers & {"curve", "gate"}:
                raise ValueError("queries and keys are what curves read or make, whose units they cannot have")
            return self._balanced(k)
        if k in self.weighed:
            if curve is not None or readers & {"curve", "gate"}:
                raise ValueError("what softmax reads is what curves read or make, whose units it cannot have")
            own = self.ranges.scale(str(k), bits=bits).reshape(self.weighed[k].groups, -1)
            return own.max(1, keepdims=True).repeat(own.shape[1], 1).ravel()
        if curve is None and not readers & {"curve", "gate"}:
            return self.ranges.scale(str(k), bits=bits).reshape(-1, cells).max(1)
        most = _GATE_REACH if readers == {"gate"} else None
        self.exponents[k] = self.ranges.exponents(str(k), curve, bits, most).reshape(-1, cells).min(1)
        return 2.0 ** -self.exponents[k].astype(np.float64)

    def width(self, k: int) -> int:
        """Bits of value k: of queries and keys, no more than their products allow; all that there are for softmax."""
        if k in self.weighed and k > 0:
            return ACTIVATIONS
        bits = self.precision.bits
        if k in self.windows:
            dims = len(self.ranges.highest[str(k)]) // (3 * self.windows[k].heads)
            while bits > 2 and dims * largest(bits) ** 2 > _PRODUCTS:
                bits -= 1
        return bits

    def _balanced(self, k: int) -> np.ndarray:
        """Units of queries, keys and values: every channel of a head has one product of its query's and key's units."""
        windows, bits = self.windows[k], self.width(k)
        own = self.ranges.scale(str(k), bits=bits).reshape(3, windows.heads, -1)
        products = own[0] * own[1]
        room = SCORES - products.shape[1] * largest(bits) ** 2 - 1
        biases = windows.bias.double().abs().flatten(1).amax(1).cpu().numpy()
        self.products[k] = np.maximum(products.max(1), biases / (windows.scale * room))
        queries = own[0] * np.sqrt(self.products[k][:, None] / products)
        return np.stack([queries, self.products[k][:, None] / queries, own[2]]).ravel()

    def step(self, k: int, unit: np.ndarray | None = None, bits: int | None = None, slope: float = 1.0) -> Step:
        """Of the operation that makes value k, and note the value's units and width; both are given at the exit."""
        operation, reads = self.graph.operations[k - 1], self.graph.reads[k - 1]
        given, widths = [self.units[r] for r in reads], [self.widths[r] for r in reads]
        bits = self.width(k) if bits is None else bits
        made: Step
        if isinstance(operation, Stage):
            cells = operation.kind.cells
            own = self.unit(k, cells, operation.curve) if unit is None else unit
            made = self._layer(k, operation, given[0], widths[0], own, bits, slope)
        elif isinstance(operation, Norm):
            own = self.unit(k)
            made = norm_step(operation, given[0], own, widths[0], bits)
        elif isinstance(operation, LayerNorm):
            own = self.unit(k)
            made = layer_norm_step(operation, given[0], own, widths[0], bits)
        elif isinstance(operation, WindowAttention):
            own = self.unit(k)
            products = self.products.get(reads[0])
            if products is None:
                raise ValueError("queries and keys of a window attention are made by what sets their units itself")
            made = window_step(operation, products, given[0].reshape(3, -1)[2], own, widths[0], bits)
        elif isinstance(operation, Softmax):
            own = self.unit(k)
            made = softmax_step(operation, given[0].reshape(operation.groups, -1)[:, 0], own, bits)
        elif isinstance(operation, MapMean):
            own = self.unit(k)
            made = MapMeanStep(bits, Factors.nearest(np.broadcast_to(given[0] / own, len(own))))
        elif isinstance(operation, Sum):
            own = self.unit(k) if unit is None else unit
            made = sum_step(given[0], given[1], own, max(widths), bits)
        elif isinstance(operation, Product):
            own = self.unit(k)
            factors = np.maximum(given[0] * given[1] / own, 2.0**-61)
            made = ProductStep(Requantiser.from_factors(np.broadcast_to(factors, len(own)), bits))
        elif isinstance(operation, Gate):
            own, bits = given[0], widths[0]
            made = GateStep(self.exponents[reads[1]])
            if reads[0] in self.exponents:
                self.exponents[k] = self.exponents[reads[0]]
        elif isinstance(operation, Rectify):
            # t times the normal tail at t is below 0.17, so that GELU of whole numbers is ReLU.
            own, bits = given[0], widths[0]
            made = CurveStep(Curve.GELU, np.zeros(len(own), np.uint8))
            if reads[0] in self.exponents:
                self.exponents[k] = self.exponents[reads[0]]
        else:
            own, bits = given[0], widths[0]
            self.exponents[k] = self.exponents[reads[0]]
            made = CurveStep(operation.curve, self.exponents[k])
        self.units.append(own)
        self.widths.append(bits)
        return made

    def _layer(
        self, k: int, stage: Stage, inputs: np.ndarray, input_bits: int, outputs: np.ndarray, bits: int, slope: float
    ) -> LayerStep | DepthwiseStep:
        cells, alone = stage.kind.cells, stage.groups > 1
        curved = {} if stage.curve is None else {"curve": stage.curve, "exponents": self.exponents[k].repeat(cells)}
        layer = Layer.from_float(
            stage.weight,
            stage.bias,
            inputs,
            np.broadcast_to(outputs, len(stage.bias) // cells).repeat(cells),
            input_bits=input_bits,
            output_bits=bits,
            weight_bits=_DEPTHWISE if alone else self.precision.weight_bits,
            kind=stage.kind,
            groups=stage.groups,
            slope=stage.slope * slope,
            reflect=stage.reflect,
            moments=self.ranges.moments.get(str(k)) if self.precision.learned and not alone else None,
            bound=self.precision.bound if stage.weight.shape[-1] > 1 and not alone else INT32,
            **curved,  # type: ignore[arg-type]
        )
        return DepthwiseStep(layer) if alone else LayerStep(layer)


def convert(
    graph: Graph,
    ranges: Ranges,
    precision: Precision,
    *,
    finest: np.ndarray | None,
    pixels_out: bool,
    inputs: Units = LATENT_UNIT,
    outputs: Units | None = LATENT_UNIT,
) -> Network:
    """The integers of a transform.

    Args:
        graph: from pixels in [0, 1] or latents to either; its last operation is a layer or, of latents, a sum.
        ranges: of ``graph.run`` over calibration's inputs; their margin is set to the precision's.
        finest: float64 [M], where latents come in: the real value of their unit at the highest rate. Activations need
            be no finer, so channels that calibration saw little of have all the room that is left. None: pixels.
        pixels_out: whether pixels come out, or latents.
        inputs, outputs: of latents, the real value of one unit, for all channels or float64 [C]. Layers write 27 bits
            of them, sums 16, and 16 bits by their range are what None stands for.

    Raises:
        ValueError: another last operation, or a sum could leave int32.
    """
    if not 9 <= precision.bits <= CURVE_BITS:
        raise ValueError(f"activations have 9 to {CURVE_BITS} bits, got {precision.bits}")
    last = graph.operations[-1] if graph.operations else None
    bare = isinstance(last, Stage) and last.slope == 1 and last.curve is None
    if not bare and (pixels_out or not isinstance(last, Sum)):
        raise ValueError("a transform ends in a layer without activation, or one of latents in a sum")
    ranges.margin = precision.margin
    converter, entry = _Converter(graph, ranges, precision), None
    if finest is not None:
        own = converter.unit(0)  # a power of two where a curve reads it, whose exponents are noted
        converter.units.append(own if 0 in converter.exponents else np.maximum(own, finest))
        converter.widths.append(precision.bits)
        entry = Requantiser.from_factors(inputs / converter.units[0], precision.bits)
    else:
        converter.units.append(np.full(len(ranges.highest["0"]), PIXEL_UNIT))
        converter.widths.append(PIXEL_BITS)
    steps = [converter.step(k) for k in range(1, len(graph.operations))]
    if pixels_out:
        steps.append(converter.step(len(graph.operations), np.array([PIXEL_UNIT]), PIXEL_BITS, 0.0))
    else:
        bits = LATENT_BITS if bare and outputs is not None else ACTIVATIONS
        cells = last.kind.cells if isinstance(last, Stage) else 1
        seen = ranges.scale(str(len(graph.operations)), bits=bits).reshape(-1, cells).max(1)
        own = seen if outputs is None else np.atleast_1d(outputs)
        steps.append(converter.step(len(graph.operations), own, bits))
    network = Network(tuple(steps), tuple(graph.reads), entry)
    shapes = zip(converter.units, network.shapes, strict=True)
    units = tuple(np.broadcast_to(unit, shape.channels).astype(np.float32) for unit, shape in shapes)
    return replace(network, units=units)


# Widths of activations that ``nearest`` tries: wide ones are finer, but leave the weights of a large layer fewer bits.
WIDTHS = (12, 13, 14)
# Of ranges beyond what calibration saw: what is outside is clipped, and shows.
MARGIN = 3.0


def nearest(
    graph: Graph, ranges: Ranges, error: Callable[[Network], float], ends: Mapping[str, Any]
) -> tuple[Network, int]:
    """Of several widths of activations that network which comes nearest to the floats, and its bits.

    Args:
        error: of a network, the less the better.
        ends: what ``convert`` takes besides.

    Raises:
        ValueError: as ``convert`` does.
    """
    tried = ((convert(graph, ranges, Precision(bits=bits, margin=MARGIN), **ends), bits) for bits in WIDTHS)
    return min(tried, key=lambda made: error(made[0]))


def norm_step(norm: Norm, inputs: np.ndarray, outputs: np.ndarray, input_bits: int, bits: int) -> NormStep:
    """GDN in units: float64 [C], real values of one unit of its inputs and outputs."""
    gamma, beta = norm.gamma.double().cpu().numpy(), norm.beta.double().cpu().numpy()
    # Of squares cut to 15 bits, each worth 2^(2 b - 17) squared units.
    gamma = gamma.clip(0) * inputs**2 * 2.0 ** (2 * input_bits - 17)
    # As fine as int16 and the sum of a row allow; rounding adds half a step to each.
    room = INT32 - 32767 * (len(beta) / 2 + 1) - 1
    unit = np.maximum(gamma.max(1) / 32767, (32767 * gamma.sum(1) + beta) / room)
    gamma_q = np.rint(gamma / unit[:, None]).astype(np.int16)
    beta_q = np.rint(beta / unit).clip(1, INT32 - 32767 * gamma_q.astype(np.int64).sum(1)).astype(np.int32)
    factors = inputs / outputs * (np.sqrt(unit) if norm.inverse else 1 / np.sqrt(unit))
    _, exponent = np.frexp(factors)
    shift = (24 - exponent).clip(0, 62)
    multiplier = np.rint(np.ldexp(factors, shift)).clip(0, (1 << 24) - 1).astype(np.int32)
    return NormStep(norm.inverse, input_bits, bits, gamma_q, beta_q, multiplier, shift.astype(np.uint8))


def layer_norm_step(
    norm: LayerNorm, inputs: np.ndarray, outputs: np.ndarray, input_bits: int, bits: int
) -> LayerNormStep:
    """A layer norm in units: float64 [C], real values of one unit of its inputs and outputs."""
    weight, bias = norm.weight.double().cpu().numpy(), norm.bias.double().cpu().numpy()
    inputs = np.broadcast_to(inputs, len(weight))
    even = np.rint(inputs / inputs.max() * 32767).astype(np.int16)
    unit = inputs.max() * 2.0**15 / 32767 * 2.0 ** (input_bits - 16)  # that channels are brought to
    epsilon = norm.epsilon * (len(weight) / unit) ** 2
    up = int(np.ceil(np.log2(max(epsilon, 1.0) / 2**30)).clip(0, 30))
    small = int(np.rint(np.ldexp(epsilon, -up)).clip(1, INT32))
    most = (1 << 24) - 1
    return LayerNormStep(
        input_bits,
        bits,
        even,
        np.array([small, up], np.int32),
        Factors.nearest(inputs / unit),
        Factors.nearest(weight / outputs),
        np.rint(bias / outputs * 2**BIAS_BITS).clip(-most, most).astype(np.int32),
    )


def window_step(
    windows: WindowAttention, products: np.ndarray, values: np.ndarray, outputs: np.ndarray, input_bits: int, bits: int
) -> WindowStep:
    """A window attention in units: of each head's products of queries and keys, of each channel's values and outputs.

    Args:
        products, values, outputs: float64 [heads], [C] and [C], real values of one unit.
    """
    unit = products * windows.scale
    bias = np.rint(windows.bias.double().flatten(1).cpu().numpy() / unit[:, None]).astype(np.int32)
    sharpness = Factors.nearest(unit * np.log2(np.e) * _DISTANCES)
    factor = Factors.nearest(values / outputs)
    return WindowStep(windows.size, windows.offset, windows.heads, input_bits, bits, bias, sharpness, factor)


def softmax_step(softmax: Softmax, inputs: np.ndarray, outputs: np.ndarray, bits: int) -> SoftmaxStep:
    """A softmax in units: float64 [groups] and [C], real values of one unit of its inputs and outputs."""
    sharpness = Factors.nearest(inputs * np.log2(np.e) * _DISTANCES)
    return SoftmaxStep(softmax.groups, bits, sharpness, Factors.nearest(1 / outputs))


def sum_step(left: np.ndarray, right: np.ndarray, outputs: np.ndarray, input_bits: int, bits: int) -> SumStep:
    """A sum in units: float64 [C], real values of one unit of its inputs and outputs."""
    factors = np.stack(np.broadcast_arrays(left / outputs, right / outputs))
    steepest = max(factors.max(), factors.sum(0).max() * largest(input_bits) / 2**15)
    shift = int(np.floor(np.log2(32767 / steepest)).clip(1, 30))
    left, right = np.rint(np.ldexp(factors, shift)).clip(0, 32767).astype(np.int16)
    return SumStep(shift, bits, left, right)


def calibrated(graph: Graph, inputs: Sequence[Tensor], learned: Sequence[Tensor] = ()) -> Ranges:
    """Ranges of all values over inputs [1, C, h, w], and moments over those of ``learned``."""
    ranges = Ranges()
    for x in inputs:
        graph.run(x, ranges)
    for x in learned:
        graph.run(x, ranges, learn=True)
    return ranges
