"""What engines of latent models on a GPU do alike: tables, z, hyper synthesis, and images of one size together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fastlic.errors import CorruptStreamError
from fastlic.ops import _device_streams as coder
from fastlic.ops.backends import require_triton, triton_device
from fastlic.ops.latents import HYPER_STRIDE, Stream, Target
from fastlic.ops.tables import CdfTables

if TYPE_CHECKING:  # triton is loaded when an engine is made, not before
    from fastlic.kernels.convolution import Layer
    from fastlic.kernels.packing import Map, Requantiser

MEAN_BITS = 6
Arrays = Mapping[str, NDArray[Any]]
Coded = tuple[list[bytes], Tensor, Tensor, Tensor | None]  # sections, z symbols, y, symbols of y
Maps = tuple[Tensor, Tensor, Tensor | None]


class DeviceLatents:
    """One integer entropy model, packed for a GPU; classes below say how y is coded.

    Args:
        arrays: of the model, already validated (LatentEngine does it).
        layers, requantisers: what the names of layers and requantisers begin with.
        z_tables, y_tables: the coder's tables.
        device: of the kernels; by default the current GPU, or the CPU in Triton's interpreter.

    Raises:
        BackendUnavailable: neither a GPU nor the interpreter is there.
    """

    hyper_channels: int
    latent_channels: int

    def __init__(
        self, arrays: Arrays, layers: str, requantisers: str, z_tables: CdfTables, y_tables: CdfTables, device: Any
    ) -> None:
        require_triton()
        from fastlic.kernels.packing import pad_thresholds

        self.device = torch.device(device or triton_device())
        self._arrays = arrays
        self._of_layers, self._of_requantisers = layers, requantisers
        self._set_ends(z_tables, y_tables)
        self._hyper = self._stack("hyper")
        self.hyper_channels = len(self._median)
        self._thresholds = pad_thresholds(arrays["y.thresholds"], self.device)

    def _set_ends(self, z_tables: CdfTables, y_tables: CdfTables) -> None:
        """What a gain changes outside of the networks: tables, medians, z's requantiser."""
        self._fewest = z_tables.fewest_bits, y_tables.fewest_bits
        self._z_tables, self._y_tables = (coder.CoderTables(own, self.device) for own in (z_tables, y_tables))
        self._median = torch.from_numpy(self._arrays["z.median"].astype(np.int32)).to(self.device)
        self._z_input = self._requantiser(f"{self._of_requantisers}z.input")

    # ---- for the classes below

    def _layer(self, name: str) -> Layer:
        raise NotImplementedError

    def _encode(self, z: Tensor, y: Tensor, zones: Tensor | None, lanes: int) -> list[Coded]:
        """z, y: int32, images and channels last."""
        raise NotImplementedError

    def _decode(self, sections: Sequence[Sequence[Any]], height: int, width: int, groups: int | None) -> list[Maps]:
        """sections: of each image."""
        raise NotImplementedError

    # ---- images of one size together

    def _encode_many(self, targets: Sequence[Target], lanes: int) -> list[Coded]:
        out: list[Any] = [None] * len(targets)
        for members in _by_shape([tuple(target.y.shape) for target in targets]):
            z, y = (self._together(maps) for maps in zip(*(targets[i][:2] for i in members), strict=True))
            zones = self._zones([targets[i].zones for i in members])
            for i, coded in zip(members, self._encode(z, y, zones, lanes), strict=True):
                out[i] = coded
        return out

    def _decode_many(self, streams: Sequence[Stream], groups: int | None) -> list[Maps]:
        out: list[Any] = [None] * len(streams)
        for members in _by_shape([(height, width) for _, height, width in streams]):
            _, height, width = streams[members[0]]
            sections = [streams[i][0] for i in members]
            for i, latents in zip(members, self._decode(sections, height, width, groups), strict=True):
                out[i] = latents
        return out

    # ---- z

    def _encode_z(self, z: Tensor, lanes: int) -> tuple[Tensor, list[bytes]]:
        """Symbols of z, and their sections."""
        symbols = (z - self._median + (1 << (MEAN_BITS - 1))) >> MEAN_BITS
        return symbols, coder.encode(symbols.flatten(1), self._by_channel(symbols), self._z_tables, lanes)

    def _decode_z(self, sections: Sequence[Any], height: int, width: int) -> tuple[Tensor, coder.Decoder]:
        """Symbols of z for a y of height x width, to be trusted once the streams are finished."""
        streams = coder.open_streams(sections, self._z_tables, self.device)
        shape = (len(sections), -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE), self.hyper_channels)
        by_channel = self._by_channel(torch.empty(shape, device="meta"))
        return streams.decode(by_channel).reshape(shape), streams

    def _check_sizes(self, sections: Sequence[Sequence[Any]], height: int, width: int, of_y: Sequence[int]) -> None:
        """As drivers do (fastlic.codec): a short section cannot claim many symbols. of_y: symbols of each section."""
        of_z = -(-height // HYPER_STRIDE) * -(-width // HYPER_STRIDE) * self.hyper_channels
        for image in sections:
            for number, (section, count) in enumerate(zip(image, (of_z, *of_y), strict=True)):
                if count * self._fewest[number > 0] > 8 * len(section) + 64:
                    name = "y" if number else "z"
                    raise CorruptStreamError(f"section {name} has {len(section)} bytes, too few for {count} symbols")

    def _by_channel(self, symbols: Tensor) -> Tensor:
        """uint8 [images, positions * N]: the table row of each symbol of z is its channel."""
        images, rows, columns, n = symbols.shape
        one = torch.arange(n, device=self.device).to(torch.uint8).repeat(rows * columns)
        return one.expand(images, -1)

    def _zones(self, zones: Sequence[NDArray[Any] | None]) -> Tensor | None:
        """int32 [images, rows of y's table, padded as thresholds are]; None where all are rounded to the nearest."""
        if all(own is None for own in zones):
            return None
        rows = self._thresholds.numel() + 1
        given = [np.zeros(0, np.int32) if own is None else own for own in zones]
        if any(own.ndim != 1 or len(own) > rows or (own < 0).any() for own in given):
            raise ValueError(f"zones must be up to {rows} numbers of at least 0 for each image")
        return torch.stack([F.pad(torch.from_numpy(own.astype(np.int32)), (0, rows - len(own))) for own in given]).to(
            self.device
        )

    # ---- networks

    def _features(self, symbols: Tensor, height: int, width: int) -> Map:
        """Hyper synthesis of z's symbols to its last activations, cut to height x width, without border."""
        return self._planes_of(self._hyper, self._enter_z(symbols), (height, width))

    def _enter_z(self, symbols: Tensor) -> Map:
        from fastlic.kernels import convolution

        return convolution.enter(symbols, self._median, self._z_input, self._hyper[0].border)

    def _run(
        self,
        layers: Sequence[Layer],
        x: Map,
        mode: str = "planes",
        crop: tuple[int, int] | None = None,
        border: int = 0,
        planes: int = 2,
    ) -> Map | Tensor:
        """Layers one after the other; mode, crop, border and planes are of the last one, as for ``convolve``."""
        from fastlic.kernels import convolution

        out: Any = x
        for layer, behind in pairwise(layers):
            out = convolution.convolve(out, layer, border=behind.border)
        return convolution.convolve(out, layers[-1], mode, crop, border, planes)

    def _planes_of(
        self, layers: Sequence[Layer], x: Map, crop: tuple[int, int] | None = None, border: int = 0, planes: int = 2
    ) -> Map:
        out = self._run(layers, x, "planes", crop, border, planes)
        assert not isinstance(out, Tensor)
        return out

    def _values_of(self, layers: Sequence[Layer], x: Map, crop: tuple[int, int] | None = None) -> Tensor:
        """int32 [images, h, w, columns of the last layer]."""
        out = self._run(layers, x, "values", crop)
        assert isinstance(out, Tensor)
        return out

    def _stack(self, name: str) -> list[Layer]:
        """The layers ``name``.0, ``name``.1, ..."""
        layers: list[Layer] = []
        while f"{self._of_layers}{name}.{len(layers)}.geometry" in self._arrays:
            layers.append(self._layer(f"{name}.{len(layers)}"))
        return layers

    def _requantiser(self, name: str, part: slice = slice(None), **more: Any) -> Requantiser:
        """The requantiser of that name, or the part of it for some channels."""
        from fastlic.kernels.packing import Requantiser

        multiplier, negative, shift = (
            self._arrays[f"{name}.{row}"][part] for row in ("multiplier", "negative", "shift")
        )
        return Requantiser.of(multiplier, negative, shift, int(self._arrays[f"{name}.bits"][0]), self.device, **more)

    def _together(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.stack([t.to(self.device, torch.int32) for t in maps]).permute(0, 2, 3, 1).contiguous()


def _by_shape(shapes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Indexes of equal shapes, side by side."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for i, shape in enumerate(shapes):
        alike.setdefault(shape, []).append(i)
    return list(alike.values())
