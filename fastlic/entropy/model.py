"""The integer entropy model: everything that encoder and decoder must share, as plain integer arrays.

It is made once from a trained float model (fastlic.entropy.convert), saved with the weights and never recomputed. Its
fingerprint names it in every stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.arrays import reading, tables_of
from fastlic.entropy.passes import LatentModel, Schedule
from fastlic.entropy.wavefront import wavefront_schedule
from fastlic.forks import cached_property
from fastlic.integers.fixed import Requantiser, reconstruct
from fastlic.integers.layer import Layer
from fastlic.integers.layouts import STRIDES
from fastlic.ops.device_engine import DeviceEngine
from fastlic.ops.tables import CdfTables


def _same(old: np.ndarray | None, new: np.ndarray) -> bool:
    return old is new or (old is not None and np.array_equal(old, new))


@dataclass(frozen=True)
class IntegerEntropyModel(LatentModel):
    """Integer parameters of one Gaussian model: hyper synthesis, optional context, tables.

    Attributes:
        z_tables, y_tables: the coder's tables, by channel for z and by scale index for y.
        z_median: int32 [N] in units of 2^-6.
        z_input: from the hyper latent in units of 2^-6 to the activations that h_s reads.
        hyper: h_s, three layers; without context its last layer's outputs are (scales, means).
        y_input: from the latent in units of 2^-6 to the context's activations; None without context.
        context: the masked convolution over its live taps, weight [C, M, 12, 1]; None without context.
        parameters: entropy-parameter layers, 1x1, over [h_s output, context output]; empty without context.
        thresholds: int32 [63] in units of 2^-10.
        offsets: int32 [64] in units of 2^-6 by scale index: by how much symbols but 0 are moved away from it when the
            latent is put together; None: by nothing.
    """

    kind = "wavefront"

    z_tables: CdfTables
    y_tables: CdfTables
    z_median: np.ndarray
    z_input: Requantiser
    hyper: tuple[Layer, ...]
    y_input: Requantiser | None
    context: Layer | None
    parameters: tuple[Layer, ...]
    thresholds: np.ndarray
    offsets: np.ndarray | None = None
    # Of the same weights: its engine on a device shares them, packed.
    _like: IntegerEntropyModel | None = field(default=None, repr=False, compare=False)

    @property
    def latent_channels(self) -> int:
        """M, channels of y."""
        return (self.parameters or self.hyper)[-1].bias.shape[0] // 2

    def schedule(self, height: int, width: int) -> Schedule:
        """Passes for a latent of height x width."""
        return wavefront_schedule(self, height, width)

    def vary(self, **changes: Any) -> IntegerEntropyModel:
        """This model with other tables, medians, requantisers or offsets, its engine sharing the weights of this one's.

        Raises:
            ValueError: what changed cannot differ between engines that share weights, or lets a sum leave int32.
        """
        other = replace(self, **changes)
        own, old = other.to_arrays(), self.to_arrays()
        changed = {name for name, array in own.items() if not _same(old.get(name), array)}
        owners = {name.rpartition(".")[0] for name in changed}
        owners = {owner for owner in owners if owner.endswith((".requantise", ".input", ".tables"))}  # read as a whole
        different = {n: array for n, array in own.items() if n in changed or n.rpartition(".")[0] in owners}
        # Filled as cached_property would: the weights are neither validated nor packed again.
        vars(other)["engine"] = self.engine.vary(different, other.z_tables, other.y_tables)
        return other

    @cached_property
    def device_engine(self) -> DeviceEngine:
        """Its twin in Triton kernels on the current GPU, packed at first use; that of a gain shares packed weights.

        Raises:
            BackendUnavailable: there is no GPU, and Triton's interpreter was not asked for.
        """
        _ = self.engine  # validates the arrays
        if self._like is not None:
            return self._like.device_engine.vary(self.to_arrays(), self.z_tables, self.y_tables)
        return DeviceEngine(self.to_arrays(), self.z_tables, self.y_tables)

    def hyper_features(self, z: Tensor, height: int, width: int) -> Tensor:
        """h_s up to its last activations: z symbols int64 [N, h/4, w/4] -> int64 [C, height, width].

        Outputs beyond the latent's size (z covers whole 4x4 cells) are cut off.
        """
        median = torch.from_numpy(self.z_median.astype(np.int64)).to(z.device)
        latent = reconstruct(z.permute(1, 2, 0), median)
        x = self.z_input(latent).permute(2, 0, 1)
        for layer in self.hyper:
            x = layer(x)
        return x[:, :height, :width]

    def reconstruct(self, symbols: Tensor, means: Tensor, indexes: Tensor) -> Tensor:
        """The latent in units of 2^-6 from int64 symbols, their fixed-point means and uint8 scale indexes."""
        if self.offsets is not None:
            offsets = torch.from_numpy(self.offsets.astype(np.int64)).to(symbols.device)
            means = means + symbols.sign() * offsets[indexes.long()]
        return reconstruct(symbols, means)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Every integer of the model under a stable name; what the fingerprint covers."""
        arrays = {"z.median": self.z_median, "y.thresholds": self.thresholds}
        arrays |= {f"z.tables.{k}": v for k, v in self.z_tables.to_arrays().items()}
        arrays |= {f"y.tables.{k}": v for k, v in self.y_tables.to_arrays().items()}
        arrays |= self.z_input.to_arrays("z.input")
        for i, layer in enumerate(self.hyper):
            arrays |= STRIDES.to_arrays(layer, f"hyper.{i}")
        if self.y_input is not None and self.context is not None:
            arrays |= self.y_input.to_arrays("y.input") | STRIDES.to_arrays(self.context, "context")
        for i, layer in enumerate(self.parameters):
            arrays |= STRIDES.to_arrays(layer, f"parameters.{i}")
        if self.offsets is not None:
            arrays["y.offsets"] = self.offsets
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> IntegerEntropyModel:
        """Read what ``to_arrays`` wrote.

        Raises:
            ValueError: an array is missing or of no use; ``engine`` checks the rest.
        """

        def layers(name: str) -> tuple[Layer, ...]:
            count = sum(key.startswith(f"{name}.") and key.endswith(".geometry") for key in arrays)
            return tuple(STRIDES.from_arrays(arrays, f"{name}.{i}") for i in range(count))

        with reading("the integers of the entropy model"):
            contextual = "context.weight" in arrays
            return cls(
                z_tables=tables_of(arrays, "z"),
                y_tables=tables_of(arrays, "y"),
                z_median=arrays["z.median"],
                z_input=Requantiser.from_arrays(arrays, "z.input"),
                hyper=layers("hyper"),
                y_input=Requantiser.from_arrays(arrays, "y.input") if contextual else None,
                context=STRIDES.from_arrays(arrays, "context") if contextual else None,
                parameters=layers("parameters"),
                thresholds=arrays["y.thresholds"],
                offsets=arrays.get("y.offsets"),
            )
