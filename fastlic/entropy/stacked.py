"""Models whose networks are stacks of integer layers found by name: channel groups, and the slices of MLIC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.arrays import names_of, tables_of
from fastlic.entropy.passes import LatentModel
from fastlic.forks import cached_property
from fastlic.integers.fixed import Requantiser, reconstruct
from fastlic.integers.functions import Tables
from fastlic.integers.layer import Layer
from fastlic.integers.layouts import KINDS
from fastlic.ops.device_board import DeviceBoard
from fastlic.ops.device_slices import DeviceSlices


class StackedModel(LatentModel):
    """What these models do alike.

    Attributes:
        tables: functions that are not linear.
        layers: by name, such as ``channel.3.0``; ``stack`` finds them.
        requantisers: ``z.input`` and ``y.input``, from latents to activations, and others by name.
    """

    if TYPE_CHECKING:  # fields of the models

        @property
        def tables(self) -> Tables: ...
        @property
        def layers(self) -> Mapping[str, Layer]: ...
        @property
        def requantisers(self) -> Mapping[str, Requantiser]: ...

    @cached_property
    def device_engine(self) -> DeviceBoard:
        """Its twin in Triton kernels on the current GPU, packed at first use.

        Raises:
            BackendUnavailable: there is no GPU, and Triton's interpreter was not asked for.
            ValueError: there are no kernels for attention of so many channels a head.
        """
        _ = self.engine  # validates the arrays
        made = DeviceSlices if self.kind == "slices" else DeviceBoard
        return made(self.to_arrays(), self.z_tables, self.y_tables)

    def stack(self, name: str, x: Tensor) -> Tensor:
        """The layers ``name``.0, ``name``.1, ... one after the other."""
        depth = 0
        while f"{name}.{depth}" in self.layers:
            x = self.layers[f"{name}.{depth}"](x, self.tables)
            depth += 1
        return x

    def hyper_features(self, z: Tensor, height: int, width: int) -> Tensor:
        """h_s: z symbols int64 [N, h/4, w/4] -> activations [F, height, width]; z covers whole 4x4 cells."""
        median = torch.from_numpy(self.z_median.astype(np.int64)).to(z.device)
        x = self.requantisers["z.input"](reconstruct(z.permute(1, 2, 0), median)).permute(2, 0, 1)
        return self.stack("hyper", x)[:, :height, :width]

    def channels_input(self, first: int, latent: Tensor) -> Tensor:
        """Latents [C, h, w] of channels ``first`` to ``first`` + C as activations."""
        r, part = self.requantisers["y.input"], slice(first, first + len(latent))
        own = Requantiser(r.multiplier[part], r.negative[part], r.shift[part], r.bits)
        return own(latent.permute(1, 2, 0)).permute(2, 0, 1)

    def stored(self) -> dict[str, np.ndarray]:
        """The coder's tables, layers and requantisers by name."""
        arrays = {f"z.tables.{k}": v for k, v in self.z_tables.to_arrays().items()}
        arrays |= {f"y.tables.{k}": v for k, v in self.y_tables.to_arrays().items()}
        for name, layer in self.layers.items():
            arrays |= KINDS.to_arrays(layer, f"layers.{name}")
        for name, requantiser in self.requantisers.items():
            arrays |= requantiser.to_arrays(f"requantisers.{name}")
        return arrays

    @staticmethod
    def fields_of(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        """The fields that ``stored`` wrote. Raises ValueError or KeyError for what is missing."""
        return {
            "z_tables": tables_of(arrays, "z"),
            "y_tables": tables_of(arrays, "y"),
            "layers": {
                name: KINDS.from_arrays(arrays, f"layers.{name}") for name in names_of(arrays, "layers", "geometry")
            },
            "requantisers": {
                name: Requantiser.from_arrays(arrays, f"requantisers.{name}")
                for name in names_of(arrays, "requantisers", "multiplier")
            },
        }
