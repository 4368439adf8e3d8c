"""Integer layers from the stages of float networks, in the units that calibration found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastlic.integers.fixed import ACTIVATION_BITS
from fastlic.integers.layer import Layer
from fastlic.integers.ranges import Ranges
from fastlic.integers.stages import Stage


class Builder:
    """Turns stages into named integer layers and remembers them in ``layers``."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self.layers: dict[str, Layer] = {}

    def layer(
        self,
        name: str,
        stage: Stage,
        inputs: np.ndarray,
        outputs: np.ndarray | None = None,
        bits: int = ACTIVATION_BITS,
        **how: Any,
    ) -> np.ndarray:
        """The integer twin of a stage.

        Args:
            inputs: float64 [in], the real value of one unit of each input.
            outputs: the same of each channel behind it; None: as calibrated.
            bits: of the outputs.
            how: further options of ``Layer.from_float``.

        Returns:
            float64 [C], the real value of one unit of each channel behind it.

        Raises:
            ValueError: an accumulator could leave int32.
        """
        cells, exponents = stage.kind.cells, None
        if outputs is None and stage.curve is not None:
            exponents = (
                self.ranges.exponents(stage.name, stage.curve).reshape(-1, cells).min(1)
            )  # cells of a channel share a unit
            outputs = 2.0 ** -exponents.astype(np.float64)
            exponents = exponents.repeat(cells)
        elif outputs is None:
            outputs = self.ranges.scale(stage.name, bits=bits).reshape(-1, cells).max(1)
        self.layers[name] = Layer.from_float(
            stage.weight,
            stage.bias,
            inputs,
            outputs.repeat(cells),
            output_bits=bits,
            kind=stage.kind,
            groups=stage.groups,
            slope=stage.slope,
            exponents=exponents,
            moments=self.ranges.moments.get(stage.name),
            **how,
        )
        return outputs

    def stack(
        self,
        name: str,
        stages: Sequence[Stage],
        inputs: np.ndarray,
        outputs: np.ndarray | None = None,
        bits: int = ACTIVATION_BITS,
        inner_bits: int = ACTIVATION_BITS,
    ) -> np.ndarray:
        """A network as layers ``name``.0, ``name``.1, ...; returns the units behind the last one.

        Args:
            inputs: real values of one unit of what it reads, of 12 bits.
            outputs, bits: of the last layer, as for ``layer``.
            inner_bits: of the activations between layers.
        """
        given = ACTIVATION_BITS
        for i, stage in enumerate(stages):
            last = i == len(stages) - 1
            own = bits if last else inner_bits
            inputs = self.layer(f"{name}.{i}", stage, inputs, outputs if last else None, own, input_bits=given)
            given = own
        return inputs

    def made(self, name: str) -> tuple[Layer, ...]:
        """The layers ``name``.0, ``name``.1, ..."""
        return tuple(layer for key, layer in self.layers.items() if key.rpartition(".")[0] == name)
