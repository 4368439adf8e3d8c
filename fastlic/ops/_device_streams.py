"""Where a device engine's streams are coded: on the device, or, of few of them, on the CPU between the device's steps.

This file is the one place that says so. Both coders give the same bytes, symbols and verdicts on damaged streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fastlic.forks import cached_property
from fastlic.ops.rans import RansDecoder, rans_encode
from fastlic.ops.tables import CdfTables

if TYPE_CHECKING:  # triton is loaded when an engine is made, not before
    from fastlic.kernels.rans import DeviceTables, Streams

# A stream keeps one program of the device busy, whose 64 lanes a core of a CPU has in a few instructions; more streams
# are more programs, side by side, where a core takes them one after the other. On an H100 beside one core
# (docs/kernels-h100.jsonl, rows "rans decode" and "rans encode" M=192, 1080p) a stream took 27.8 ms and 3.4 ms to be
# decoded, 19.7 and 4.8 ms to be encoded: a core is as quick with 8 and with 4 streams. Symbols and table rows that go
# over to the CPU and back were not in those times, so it is the lower number for both.
FEWEST_STREAMS = 4


def on_device(streams: int) -> bool:
    """Whether so many streams are coded on the device.

    Only where all symbols of a pass are known at once, or their table rows: to encode, and to decode z, models without
    a context, and channel groups, checkerboards and slices pass by pass. A raster context is decoded position by
    position, thousands of short steps that would each wait for copies, and stays on the device whatever the number.
    """
    return streams >= FEWEST_STREAMS


class CoderTables:
    """Frequency tables for either coder; those of the device go there when they are first asked for."""

    def __init__(self, tables: CdfTables, device: torch.device) -> None:
        self.cpu, self._to = tables, device

    @cached_property
    def device(self) -> DeviceTables:
        from fastlic.kernels.rans import DeviceTables

        own = self.cpu
        return DeviceTables.of(own.cdf, own.lengths, own.offsets, own.shifts, own.precision, self._to)


def encode(symbols: Tensor, indexes: Tensor, tables: CoderTables, lanes: int = 0) -> list[bytes]:
    """A stream for each row of symbols int32 and table rows uint8 [B, count] on the device; lanes as of rans_encode."""
    if on_device(len(symbols)):
        from fastlic.kernels import rans_encode as kernels

        return kernels.encode(symbols, indexes, tables.device, lanes)
    rows = zip(symbols.cpu().numpy(), indexes.cpu().numpy(), strict=True)
    return [rans_encode(own, of, tables.cpu, lanes=lanes) for own, of in rows]


class Decoder(Protocol):
    """Several streams, decoded in pieces."""

    def decode(self, indexes: Tensor) -> Tensor:
        """The next symbols int32 [B, count] of table rows uint8 [B, count], both on the device; to be trusted only
        after ``finish``."""

    def finish(self) -> None:
        """Demand that all streams end as an encoder ends them.

        Raises:
            CorruptStreamError: one does not.
        """


def open_streams(sections: Sequence[Any], tables: CoderTables, device: torch.device) -> Decoder:
    """The decoder of so many streams.

    Raises:
        CorruptStreamError: a header, a lane state or an end mark is invalid.
    """
    return (_OnDevice if on_device(len(sections)) else _OnCpu)(sections, tables, device)


class _OnDevice:
    def __init__(self, sections: Sequence[Any], tables: CoderTables, device: torch.device) -> None:
        from fastlic.kernels import rans

        self._sections, self._tables = sections, tables
        self._streams: Streams = rans.open_streams(sections, device)

    def decode(self, indexes: Tensor) -> Tensor:
        from fastlic.kernels import rans

        return rans.decode(self._streams, indexes, self._tables.device)

    def finish(self) -> None:
        from fastlic.kernels import rans

        rans.finish(self._streams, self._sections)


class _OnCpu:
    def __init__(self, sections: Sequence[Any], tables: CoderTables, device: torch.device) -> None:
        self._decoders = [RansDecoder(data, tables.cpu) for data in sections]

    def decode(self, indexes: Tensor) -> Tensor:
        rows = indexes.cpu().numpy()
        out = np.empty(rows.shape, np.int32)
        for decoder, own, symbols in zip(self._decoders, rows, out, strict=True):
            decoder.decode(np.ascontiguousarray(own), symbols)
        return torch.from_numpy(out).to(indexes.device)

    def finish(self) -> None:
        for decoder in self._decoders:
            decoder.finish()
