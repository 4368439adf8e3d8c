"""Layers as named arrays. Fingerprints cover these arrays, so each family keeps the layout that it began with.

All have ``weight``, ``bias``, ``requantise.*``, and ``exponents`` where there is a GELU. What else:

    STRIDES   geometry uint8 [stride, transposed, input bits], and the shuffle behind it where there is one
    KINDS     geometry int32 [kind, groups]; activations have 12 bits
    MATRICES  nothing: weights are [out, in]
    STEPS     geometry as of STRIDES, always with the shuffle, and curve uint8 [1] where there are exponents; whether
              maps are reflected is the step's own number, and another step is depthwise (fastlic.integers.network)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fastlic.integers.fixed import Requantiser
from fastlic.integers.functions import Curve
from fastlic.integers.layer import HALVED, PLAIN, SHUFFLED, TRANSPOSED, Kind, Layer

Arrays = Mapping[str, np.ndarray]


class Layout:
    """A way to store layers."""

    def to_arrays(self, layer: Layer, prefix: str) -> dict[str, np.ndarray]:
        """Named arrays of a layer; ``from_arrays`` reads them back.

        Raises:
            ValueError: there is no place for a layer of this kind.
        """
        own = {"weight": layer.weight, "bias": layer.bias, **self._geometry(layer)}
        arrays = {f"{prefix}.{name}": array for name, array in own.items()}
        arrays |= layer.requantiser.to_arrays(f"{prefix}.requantise")
        return arrays if layer.exponents is None else {**arrays, f"{prefix}.exponents": layer.exponents}

    def from_arrays(self, arrays: Arrays, prefix: str) -> Layer:
        """Read what ``to_arrays`` wrote under the same prefix.

        Raises:
            KeyError: an array is missing.
            ValueError: its geometry is none that is known.
        """
        fields = self._fields(arrays, prefix)
        requantiser = Requantiser.from_arrays(arrays, f"{prefix}.requantise")
        return Layer(arrays[f"{prefix}.weight"], arrays[f"{prefix}.bias"], requantiser, **fields)

    def _geometry(self, layer: Layer) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def _fields(self, arrays: Arrays, prefix: str) -> dict[str, Any]:
        raise NotImplementedError


class _Strides(Layout):
    def _geometry(self, layer: Layer) -> dict[str, np.ndarray]:
        if layer.groups > 1 or layer.exponents is not None:
            raise ValueError("depthwise layers and GELU have no place in this layout")
        kind = layer.kind
        geometry = [kind.stride, int(kind.transposed), layer.input_bits, kind.shuffle]
        # Three numbers where nothing is shuffled: the fingerprints of models from before the fourth stay theirs.
        return {"geometry": np.array(geometry if kind.shuffle > 1 else geometry[:3], np.uint8)}

    def _fields(self, arrays: Arrays, prefix: str) -> dict[str, Any]:
        stride, transposed, bits, *shuffle = (int(v) for v in arrays[f"{prefix}.geometry"])
        if transposed > 1:
            raise ValueError(f"{prefix}.geometry has neither 0 nor 1 for transposed")
        try:
            return {"kind": Kind((stride, bool(transposed), *(shuffle or [1]))), "input_bits": bits}
        except ValueError as error:
            raise ValueError(f"{prefix}.geometry names no kind of layer: {error}") from error


class _Kinds(Layout):
    NUMBERS = (PLAIN, TRANSPOSED, SHUFFLED, HALVED)

    def _geometry(self, layer: Layer) -> dict[str, np.ndarray]:
        if layer.kind not in self.NUMBERS:
            raise ValueError("transposed layers of stride 1 have no place in this layout")
        return {"geometry": np.array([self.NUMBERS.index(layer.kind), layer.groups], np.int32)}

    def _fields(self, arrays: Arrays, prefix: str) -> dict[str, Any]:
        number, groups = (int(v) for v in arrays[f"{prefix}.geometry"])
        if not 0 <= number < len(self.NUMBERS):
            raise ValueError(f"{prefix}.geometry names no kind of layer: {number}")
        return {"kind": self.NUMBERS[number], "groups": groups, "exponents": arrays.get(f"{prefix}.exponents")}


class _Matrices(Layout):
    def _geometry(self, layer: Layer) -> dict[str, np.ndarray]:
        if layer.kind is not PLAIN or layer.weight.shape[2:] != (1, 1) or layer.exponents is not None:
            raise ValueError("only matrices without GELU have a place in this layout")
        return {"weight": layer.weight[:, :, 0, 0]}

    def _fields(self, arrays: Arrays, prefix: str) -> dict[str, Any]:
        return {}

    def from_arrays(self, arrays: Arrays, prefix: str) -> Layer:
        layer = super().from_arrays(arrays, prefix)
        return replace(layer, weight=layer.weight[:, :, None, None])


class _Steps(_Strides):
    def _geometry(self, layer: Layer) -> dict[str, np.ndarray]:
        kind = layer.kind
        geometry = np.array([kind.stride, kind.transposed, layer.input_bits, kind.shuffle], np.uint8)
        curve = {} if layer.exponents is None else {"curve": np.array([layer.curve.number], np.uint8)}
        return {"geometry": geometry, **curve}

    def _fields(self, arrays: Arrays, prefix: str) -> dict[str, Any]:
        fields = super()._fields(arrays, prefix)
        exponents = arrays.get(f"{prefix}.exponents")
        if exponents is None:
            return fields
        return {**fields, "exponents": exponents, "curve": Curve.numbered(int(arrays[f"{prefix}.curve"][0]))}


STRIDES, KINDS, MATRICES, STEPS = _Strides(), _Kinds(), _Matrices(), _Steps()
