"""The two directions of coding latents in zones on a GPU: an encoder collects symbols, a decoder reads them.

A schedule (fastlic.ops.device_board, device_slices) hands zones over one after the other, each with what its scales and
means are made of; it need not know which direction it serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from fastlic.ops import _device_streams as streams

if TYPE_CHECKING:  # triton is loaded when an engine is made, not before
    from fastlic.kernels.packing import BoardNetwork, Map


@dataclass(frozen=True)
class Zone:
    """What is coded together.

    Attributes:
        section: of the stream.
        first, channels: of the latent.
        parity: of the positions; None: all of them.
        rows: even (0) or odd (1) ones alone; None: all.
    """

    section: int
    first: int
    channels: int
    parity: int | None
    rows: int | None = None

    @property
    def part(self) -> slice:
        return slice(self.first, self.first + self.channels)


class Coder(Protocol):
    """One direction.

    Attributes:
        y: what a decoder has so far, int32 [images, h, w, M].
        symbols: those of boards, at their positions in such a map; None where nobody asks for them.
    """

    y: Tensor
    symbols: Tensor | None

    def board(self, zone: Zone, network: BoardNetwork, maps: Sequence[Map]) -> None:
        """The positions of one parity, whose network reads these maps."""

    def whole(self, zone: Zone, head: Tensor) -> None:
        """All positions, of scales and means int32 [images, h, w, 2 channels]."""


class Encoder:
    """Collects table rows and symbols of every section. ``keep``: the map of symbols, too."""

    def __init__(self, target: Tensor, zones: Tensor | None, thresholds: Tensor, keep: bool) -> None:
        self.y = torch.zeros_like(target)
        self.symbols = torch.zeros_like(target) if keep else None
        self.coded: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._target, self._zones, self._thresholds = target, zones, thresholds

    def board(self, zone: Zone, network: BoardNetwork, maps: Sequence[Map]) -> None:
        from fastlic.kernels import checkerboard

        assert zone.parity is not None
        target, y = self._target[..., zone.part], self.y[..., zone.part]
        indexes, symbols = checkerboard.encode(network, maps, zone.parity, target, y, zone.rows, self._zones)
        _spread(symbols, self.symbols, zone)
        self.coded.setdefault(zone.section, []).append((indexes, symbols))

    def whole(self, zone: Zone, head: Tensor) -> None:
        from fastlic.kernels import quantize

        target = self._target[..., zone.part]
        indexes, symbols, y = quantize.quantise_head(target, head, self._thresholds, self._zones)
        self.y[..., zone.part] = y
        self.coded.setdefault(zone.section, []).append((indexes, symbols))


class Decoder:
    """Reads symbols of the first ``known`` channels, and takes those of the others for 0. y: zeros, which it fills;
    keep: as of ``Encoder``."""

    def __init__(
        self,
        y: Tensor,
        sections: Sequence[Sequence[Any]],
        known: int,
        tables: streams.CoderTables,
        thresholds: Tensor,
        keep: bool,
    ) -> None:
        self.y, self.symbols = y, torch.zeros_like(y) if keep else None
        self._sections, self._known, self._tables, self._thresholds = sections, known, tables, thresholds
        self._streams: dict[int, streams.Decoder] = {}
        self._partly: set[int] = set()

    def board(self, zone: Zone, network: BoardNetwork, maps: Sequence[Map]) -> None:
        from fastlic.kernels import checkerboard

        assert zone.parity is not None
        indexes, means = checkerboard.parameters(network, maps, zone.parity, zone.rows)
        symbols = self._read(zone, indexes)
        checkerboard.place(symbols, means, self.y[..., zone.part], zone.parity, zone.rows)
        _spread(symbols, self.symbols, zone)

    def whole(self, zone: Zone, head: Tensor) -> None:
        from fastlic.kernels import quantize

        indexes, means = quantize.head_indexes(head, self._thresholds)
        symbols = self._read(zone, indexes)
        self.y[..., zone.part] = quantize.dequantise(symbols.reshape(means.shape), means)

    def _read(self, zone: Zone, indexes: Tensor) -> Tensor:
        number = zone.section
        if zone.first >= self._known:
            self._partly.add(number)
            return torch.zeros(indexes.shape, dtype=torch.int32, device=indexes.device)
        if number not in self._streams:
            own = [image[number] for image in self._sections]
            self._streams[number] = streams.open_streams(own, self._tables, indexes.device)
        return self._streams[number].decode(indexes.flatten(1)).reshape(indexes.shape)

    def finish(self) -> None:
        """Demand that all that was read to its end ended well."""
        for number, opened in self._streams.items():
            if number not in self._partly:
                opened.finish()


def _spread(symbols: Tensor, out: Tensor | None, zone: Zone) -> None:
    """[images, n, channels] to their positions in a map of all channels, if there is one."""
    if out is None:
        return
    assert zone.parity is not None
    rows, columns = _places(out.shape[1], out.shape[2], zone.parity, zone.rows, out.device)
    out[..., zone.part][:, rows, columns] = symbols


@lru_cache(maxsize=64)
def _places(height: int, width: int, parity: int, rows: int | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of a zone's positions, made once: the host waits for their number."""
    from fastlic.kernels.checkerboard import positions

    at = positions(height, width, parity, device, rows)
    return at // width, at % width
