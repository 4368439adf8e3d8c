"""One integer layer for every kind of convolution: the plain reference, and how it is made of float weights.

    accumulators = bias + weight * input                     int32
    activations  = requantise(accumulators), then the curve where there are exponents, then the pixel shuffle

Integers are held in float64 and pass through torch's own convolutions, which is exact in any order as long as every
partial sum stays below 2^53; ``from_float`` proves the stronger int32 bound when a layer is made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.integers.fixed import ACTIVATION_BITS, Requantiser, largest
from fastlic.integers.functions import Curve
from fastlic.integers.rounding import round_rows

INT32 = 2**31 - 1


class Activations(Protocol):
    """What evaluates curves: ``Curves``, or ``Tables`` for GELU of 12 bits."""

    def activate(self, curve: Curve, x: Tensor, exponents: np.ndarray) -> Tensor: ...


class Kind(Enum):
    """What a convolution does to the size of a map: (stride, whether it is transposed, shuffle)."""

    PLAIN = (1, False, 1)
    TRANSPOSED = (2, True, 1)
    SHUFFLED = (1, False, 2)  # outputs, four for each channel, are the 2x2 cells of a map twice as large
    HALVED = (2, False, 1)
    TURNED = (1, True, 1)  # a plain convolution with the kernel turned round

    @property
    def stride(self) -> int:
        return self.value[0]

    @property
    def transposed(self) -> bool:
        return self.value[1]

    @property
    def shuffle(self) -> int:
        return self.value[2]

    @property
    def cells(self) -> int:
        """Outputs of the convolution for each channel behind it."""
        return self.shuffle**2


PLAIN, TRANSPOSED, SHUFFLED, HALVED, TURNED = Kind


def convolve(x: Tensor, weight: Tensor, bias: Tensor, kind: Kind, groups: int = 1, reflect: bool = False) -> Tensor:
    """[N, C, h, w] -> [N, outputs, h', w'] of one floating type, "same" padding; not shuffled yet.

    Raises:
        ValueError: it shall be reflected, and is smaller than what is.
    """
    padding = weight.shape[-1] // 2
    if reflect and padding:
        if min(x.shape[2:]) <= padding:
            raise ValueError(f"{padding} rows and columns are reflected, the map is {x.shape[2]} x {x.shape[3]}")
        x, padding = F.pad(x, (padding,) * 4, mode="reflect"), 0
    if kind.transposed:
        return F.conv_transpose2d(x, weight, bias, kind.stride, padding, kind.stride - 1, groups)
    return F.conv2d(x, weight, bias, kind.stride, padding, groups=groups)


def window(kind: Kind, kernel: int) -> int:
    """Side of the smallest window, odd and around its position, of all inputs that one output of any phase sees."""
    return 2 * ((kernel // 2 + kind.stride - 1) // kind.stride) + 1 if kind.transposed else kernel


def phases(kind: Kind, kernel: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each of the stride^2 phases of a transposed kind's outputs its taps, and where they look.

    Returns:
        Pairs of int64 [n]: flat indexes of taps in the kernel, and of what each multiplies in the ``window``.
    """
    taps = np.arange(kernel * kernel).reshape(kernel, kernel)
    side, half = window(kind, kernel), kernel // 2
    own = [np.array([i for i in range(kernel) if (p + half - i) % kind.stride == 0], int) for p in range(kind.stride)]
    seen = [(p + half - taken) // kind.stride + side // 2 for p, taken in enumerate(own)]
    places = np.arange(side * side).reshape(side, side)
    return [
        (taps[np.ix_(own[r], own[c])].ravel(), places[np.ix_(seen[r], seen[c])].ravel())
        for r, c in np.ndindex(kind.stride, kind.stride)
    ]


def _columns(inputs: int, size: int, taps: np.ndarray) -> np.ndarray:
    """Where in a row of ``inputs`` kernels of so many taps these are."""
    return (np.arange(inputs)[:, None] * size + taps).ravel()


def _rounded(
    w: np.ndarray, b: np.ndarray, unit: np.ndarray, limit: int, kind: Kind, scale: np.ndarray, moments: Tensor | None
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [out, in, k, k] per unit of input as integers [out, in * k * k], and the bias that goes with them."""
    rows = w.reshape(len(w), -1)
    if moments is None:
        return np.rint(rows / unit[:, None]).clip(-limit, limit), b
    inputs, kernel = w.shape[1], w.shape[-1]
    seen = window(kind, kernel) ** 2 if kind.transposed else w[0, 0].size
    per_unit = torch.from_numpy(np.append(np.repeat(scale, seen), 1.0)).reciprocal()
    moments = moments * per_unit * per_unit[:, None]
    values, biases, units = (torch.from_numpy(a) for a in (rows, b, unit))
    if not kind.transposed:
        q, biases = round_rows(values, biases, units, moments, limit)
        return q.numpy(), biases.numpy()
    q = torch.empty_like(values)
    for taps, places in phases(kind, kernel):
        own = torch.from_numpy(_columns(inputs, kernel * kernel, taps))
        at = torch.from_numpy(np.append(_columns(inputs, seen, places), inputs * seen))
        part = moments[at][:, at]
        part[-1, :-1] = part[:-1, -1] = 0  # one bias serves all phases, so none of them may move it
        q[:, own] = round_rows(values[:, own], biases, units, part, limit)[0]
    return q.numpy(), b


@dataclass(frozen=True)
class Layer:
    """An integer convolution and what follows it.

    Attributes:
        weight: int8 [out, in / groups, k, k], or int16 for more than 8 bits; of transposed kinds [in, out, k, k], as
            torch stores it. Linear layers have k = 1; lists of taps are [out, in, taps, 1] and only ``as_matrix``
            serves them.
        bias: int32 [out].
        requantiser: from accumulators to activations; a leaky ReLU's slope is folded in.
        kind: one of ``Kind``.
        groups: 1, or the number of channels (depthwise).
        exponents: uint8 [out], the curve reads units of 2^-exponent; None for no curve.
        input_bits: width of the activations it accepts.
        curve: behind the requantiser where there are exponents.
        reflect: whether the map is padded by reflection, not with zeros; never of transposed kinds.
    """

    weight: np.ndarray
    bias: np.ndarray
    requantiser: Requantiser
    kind: Kind = PLAIN
    groups: int = 1
    exponents: np.ndarray | None = None
    input_bits: int = ACTIVATION_BITS
    curve: Curve = Curve.GELU
    reflect: bool = False

    @classmethod
    def from_float(
        cls,
        weight: Tensor,
        bias: Tensor,
        input_scale: np.ndarray,
        output_scale: np.ndarray,
        *,
        input_bits: int = ACTIVATION_BITS,
        output_bits: int = ACTIVATION_BITS,
        weight_bits: int = 8,
        kind: Kind = PLAIN,
        groups: int = 1,
        slope: float = 1.0,
        exponents: np.ndarray | None = None,
        curve: Curve = Curve.GELU,
        reflect: bool = False,
        moments: Tensor | None = None,
        biases_up_to: np.ndarray | None = None,
        bound: int | None = None,
    ) -> Layer:
        """Quantise a float layer.

        Args:
            weight, bias: as torch stores them, [out, in] for linear layers; masked taps are zero.
            input_scale: float64 [in], the real value of one unit of each input channel.
            output_scale: float64 [out], the real value of one unit of each output channel, before any shuffling.
            weight_bits: 2 to 16.
            slope: of the leaky ReLU that follows, 1 for none.
            moments: ``second_moments`` of the real inputs, of the layer's kernel and stride, for rounding that
                minimises the error of its outputs; of transposed kinds those of a kernel of ``window`` and stride 1.
                Without them every weight is rounded to the nearest.
            biases_up_to: float64 [out], magnitudes that biases put in place of these may have.
            bound: what no sum, of one phase of a transposed kind, shall reach: weights are as coarse as that takes.

        Raises:
            ValueError: an accumulator could leave int32, or weights of more than 16 bits.
        """
        limit = largest(weight_bits)
        if weight_bits > 16:
            raise ValueError(f"weights have up to 16 bits, got {weight_bits}")
        w = weight.detach().double().cpu().numpy()
        b = bias.detach().double().cpu().numpy()
        if w.ndim == 2:
            w = w[:, :, None, None]
        if kind.transposed:
            w = w.swapaxes(0, 1)
        scale = np.asarray(input_scale, np.float64)
        # [out, in / groups, k, k] per unit of input
        w = w * (scale[:, None, None, None] if groups > 1 else scale[None, :, None, None])
        # A row of zeros, or one dwarfed by its bias, takes its unit from the bias instead.
        largest_bias = np.abs(b) if biases_up_to is None else np.maximum(np.abs(b), biases_up_to)
        unit = np.maximum(np.maximum(np.abs(w).max((1, 2, 3)) / limit, largest_bias / 2**29), 1e-30)
        rows = w.reshape(len(w), -1)
        taps: list[Any] = [slice(None)]
        if kind.transposed:
            taps = [_columns(w.shape[1], w[0, 0].size, own) for own, _ in phases(kind, w.shape[-1])]

        def reach(of: np.ndarray) -> np.ndarray:
            return np.stack([np.abs(of[:, own]).sum(1) for own in taps]).max(0) * largest(input_bits)

        if bound is not None:
            # Learned rounding moves sums by a percent or so, and is slow to repeat.
            unit = np.maximum(unit, reach(rows) / (bound if moments is None else 0.98 * bound))
        q, bias_q = np.empty_like(rows), np.empty_like(b)
        left = np.arange(len(rows))
        while len(left):
            q[left], b_left = _rounded(w[left], b[left], unit[left], limit, kind, scale, moments)
            bias_q[left] = np.rint(b_left / unit[left])
            if bound is None:
                break
            excess = (reach(q[left]) + np.abs(bias_q[left])) / bound
            left, excess = left[excess > 1], excess[excess > 1]
            unit[left] *= excess * 1.0005
        worst = (np.abs(q).sum(1) * largest(input_bits) + np.abs(bias_q)).max()
        if worst > INT32:
            raise ValueError(f"an accumulator could reach {worst:.0f}, beyond int32: use fewer input bits")
        q = q.reshape(w.shape)
        if kind.transposed:
            q = q.swapaxes(0, 1)
        factors = np.maximum(unit / np.asarray(output_scale, np.float64), 2.0**-61)
        requantiser = Requantiser.from_factors(factors, output_bits, slope)
        q = np.ascontiguousarray(q.astype(np.int8 if weight_bits <= 8 else np.int16))
        return cls(q, bias_q.astype(np.int32), requantiser, kind, groups, exponents, input_bits, curve, reflect)

    def accumulate(self, x: Tensor) -> Tensor:
        """x int64 [C, h, w] -> accumulators int64 [C', h', w'], sizes as in the float layer; not shuffled yet."""
        weight = torch.from_numpy(self.weight).to(x.device, torch.float64)
        bias = torch.from_numpy(self.bias).to(x.device, torch.float64)
        return convolve(x.double()[None], weight, bias, self.kind, self.groups, self.reflect)[0].long()

    def __call__(self, x: Tensor, tables: Activations | None = None) -> Tensor:
        """x int64 [C, h, w] -> activations int64 [C', h', w']; ``tables`` are for the curve."""
        out = self.requantiser(self.accumulate(x).permute(1, 2, 0))
        if self.exponents is not None:
            if tables is None:
                raise ValueError("a layer with a curve needs its tables")
            out = tables.activate(self.curve, out, self.exponents)
        out = out.permute(2, 0, 1)
        return F.pixel_shuffle(out, self.kind.shuffle) if self.kind.shuffle > 1 else out

    def rows(self, x: Tensor, tables: Activations | None = None) -> Tensor:
        """A 1x1 layer on single positions: int64 [n, C] -> [n, C']."""
        return self(x.T[:, :, None], tables)[:, :, 0].T

    def as_matrix(self) -> Tensor:
        """float64 [taps * in, out]: the kernel as one matrix over gathered inputs, tap by tap."""
        out, inputs = self.weight.shape[:2]
        columns = self.weight.reshape(out, inputs, -1).transpose(2, 1, 0).reshape(-1, out)
        return torch.from_numpy(columns.astype(np.float64))

    def split_inputs(self, first: int) -> tuple[Layer, Layer]:
        """Two layers whose accumulators add up to this one's: over inputs [:first] without, [first:] with bias."""
        head, tail = self.weight[:, :first], self.weight[:, first:]
        return replace(self, weight=head, bias=np.zeros_like(self.bias)), replace(self, weight=tail)
