"""The integer context model of codebook indexes: what ``fastlic.models.mcquic.context.CodeContext`` becomes.

Made once from the float networks and stored with the tables. docs/stream.md has the arithmetic; here are the integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastlic.arguments import check_fields
from fastlic.forks import cached_property
from fastlic.integers.fixed import ACTIVATION_LIMIT, RANGE_MARGIN
from fastlic.integers.layer import Layer
from fastlic.integers.layouts import MATRICES
from fastlic.models.mcquic.context import OFFSETS, CodeContext
from fastlic.ops.code_context import Packed, pack_code_context

# Differences of logits count 2^-8 bits, which costs 10^-6 of the rate. 18 bits: up to 512 bits either way.
LOGIT_STEPS = 256
LOGIT_BITS = 18
_WEIGHT_BITS = 20
_EMBEDDING_BITS = 8
_SPARE_BITS = 10  # of frequencies above the alphabet's: that each word has one takes 1/1024 of the mass at most
_ROWS = 4096  # calibration rows taken at once
_LEAST_RANGE = 0.01  # of a layer's widest channel: channels that calibration leaves silent may speak later


@dataclass(frozen=True)
class IntegerCodeContext:
    """Integers of one level's context model, validated at construction (ValueError names the array and the fault).

    Attributes:
        offsets: int8 [n, 2], (rows, columns) to the positions that are looked at, all coded before.
        words: int8 [m, k + 1, depth], embeddings; word k stands for what lies outside of the image.
        table: int32 [256], 2^20 2^(-i/256).
        precision: frequencies sum to 2^precision.
        first, second, last: a layer per group. Inputs of the first are the embeddings of the words around, offset by
            offset and group by group, then of earlier groups at the same position; outputs of the last are logits of
            the k words in units of 2^-8 bits.
    """

    offsets: np.ndarray
    words: np.ndarray
    table: np.ndarray
    precision: int
    first: tuple[Layer, ...]
    second: tuple[Layer, ...]
    last: tuple[Layer, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.precision < 256:  # what one byte holds; the core has its own limits
            raise ValueError(f"precision must be from 1 to 24, got {self.precision}")
        for name, layers in self._layers():
            if len(layers) != len(self.words):
                raise ValueError(f"{len(layers)} {name} layers for {len(self.words)} groups of words")
        _ = self.native  # the core checks every array and proves that no accumulator can overflow

    @cached_property
    def native(self) -> Packed:
        """The C++ core's packed copy."""
        return pack_code_context(self.to_arrays())

    def __reduce__(self) -> tuple[Any, ...]:  # the C++ object is rebuilt, not pickled
        return type(self), (self.offsets, self.words, self.table, self.precision, self.first, self.second, self.last)

    @property
    def m(self) -> int:
        """Groups."""
        return int(self.words.shape[0])

    @property
    def k(self) -> int:
        """Words of each group."""
        return int(self.words.shape[1] - 1)

    @classmethod
    @torch.no_grad()
    def from_float(cls, context: CodeContext, rows: Tensor) -> IntegerCodeContext:
        """Convert trained networks.

        Args:
            context: float32, on the CPU.
            rows: int64 [n, len(OFFSETS) m + m], ``context.rows`` of calibration codes: they set the ranges of hidden
                activations.

        Raises:
            ValueError: no rows, or weights whose accumulators could leave int32.
        """
        if not len(rows):
            raise ValueError("calibration needs the codes of at least one image")
        embeddings = [words.weight.double().numpy() for words in context.words]  # type: ignore[union-attr, operator]
        units = [max(float(np.abs(e).max()), 1e-6) / ((1 << (_EMBEDDING_BITS - 1)) - 1) for e in embeddings]
        words = np.stack([np.rint(e / unit).astype(np.int8) for e, unit in zip(embeddings, units, strict=True)])
        layers: dict[str, list[Layer]] = {"first": [], "second": [], "last": []}
        for group in range(context.m):
            around = np.array(units * len(OFFSETS) + units[:group])
            inputs = np.repeat(around, context.depth)
            first, second = _ranges(context, rows, group)
            logits = np.full(context.k, log(2) / LOGIT_STEPS)
            made: Any = (
                (context.first[group], inputs, first, {"input_bits": _EMBEDDING_BITS, "slope": 0.0}),
                (context.second[group], first, second, {"slope": 0.0}),
                (context.last[group], second, logits, {"output_bits": LOGIT_BITS}),
            )
            for name, (linear, given, target, how) in zip(layers, made, strict=True):
                layers[name].append(Layer.from_float(linear.weight, linear.bias, given, target, **how))
        table = np.rint(2.0 ** (_WEIGHT_BITS - np.arange(LOGIT_STEPS) / LOGIT_STEPS)).astype(np.int32)
        precision = min(24, max(12, (context.k - 1).bit_length() + _SPARE_BITS))
        stacks = {name: tuple(made) for name, made in layers.items()}
        return cls(np.array(OFFSETS, np.int8), words, table, precision, **stacks)

    def _layers(self) -> Iterator[tuple[str, tuple[Layer, ...]]]:
        return iter((("first", self.first), ("second", self.second), ("last", self.last)))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Every integer under a stable name."""
        precision = np.array([self.precision], np.uint8)
        arrays = {"offsets": self.offsets, "words": self.words, "table": self.table, "precision": precision}
        for name, layers in self._layers():
            for group, layer in enumerate(layers):
                arrays |= MATRICES.to_arrays(layer, f"{name}.{group}")
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> IntegerCodeContext:
        """Read what ``to_arrays`` wrote. Raises ValueError for arrays that are no such context."""
        pack_code_context(arrays)  # before anything is read: every array that is used exists and has its shape
        layers = {
            name: tuple(MATRICES.from_arrays(arrays, f"{name}.{group}") for group in range(len(arrays["words"])))
            for name in ("first", "second", "last")
        }
        precision = int(arrays["precision"][0])
        context = cls(arrays["offsets"], arrays["words"], arrays["table"], precision, **layers)
        unknown = set(arrays) - set(context.to_arrays())
        if unknown:
            raise ValueError(f"a context of codes has no array {min(unknown)!r}")
        return context


def _ranges(context: CodeContext, rows: Tensor, group: int) -> tuple[np.ndarray, np.ndarray]:
    """The real value of one unit of each hidden activation of both layers, float64 [width] each."""
    largest = [torch.zeros(context.width), torch.zeros(context.width)]
    for some in rows.split(_ROWS):
        for i, x in enumerate(context.hidden(some, group)):
            largest[i] = torch.maximum(largest[i], x.amax(0))
    first, second = (_units(values.double().numpy()) for values in largest)
    return first, second


def _units(largest: np.ndarray) -> np.ndarray:
    least = max(_LEAST_RANGE * float(largest.max()), 1e-6)
    return np.maximum(largest, least) * RANGE_MARGIN / ACTIVATION_LIMIT
