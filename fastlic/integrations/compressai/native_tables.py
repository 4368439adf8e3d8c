"""The native coder's tables of a CompressAI entropy model, and coding with them.

Rows come from the model's own integer tables, or from its scale table; a check value over rows and indexes travels in
every string, so a decoder whose parameters came out differently says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastlic.errors import CorruptStreamError
from fastlic.integrations.compressai import native_stream
from fastlic.integrations.compressai.settings import Settings
from fastlic.integrations.compressai.swap import state_of
from fastlic.integrations.compressai.tables import cached
from fastlic.ops import rans
from fastlic.ops.checksum import crc32c
from fastlic.ops.tables import CdfTables, gaussian_tables, nearest_scale_thresholds, pmf_tables

_ROWS = 256  # of one set of native tables; wider models are coded in parts
_MISMATCH = (
    "the string is intact but was made with other tables or other entropy parameters: either shape is not what "
    "compress returned, or the model holds other weights, or its networks, run in floating point, came out differently "
    "on this machine, device or thread count"
)


@dataclass(frozen=True)
class NativeTables:
    """Tables for rows 0..255, 256..511, and so on; ``check`` covers every integer of them."""

    parts: tuple[CdfTables, ...]
    check: int

    @classmethod
    def of(cls, parts: list[CdfTables]) -> NativeTables:
        content = b"".join(array.tobytes() for part in parts for array in part.to_arrays().values())
        return cls(tuple(parts), crc32c(content))


def native_tables(module: Any) -> NativeTables:
    """Gaussian rows for a scale table; otherwise one for each row of the model's own."""
    module._check_cdf_size()
    gaussian = hasattr(module, "scale_table")
    own = (module._quantized_cdf, module._cdf_length, module._offset)
    sources = (module.scale_table,) if gaussian else own

    def make() -> NativeTables:
        if gaussian:
            return _from_scales(module.scale_table.detach().double().cpu().numpy().tobytes())
        cdf, lengths, offsets = (buffer.detach().cpu().numpy().astype(np.int64) for buffer in own)
        return _from_rows(cdf.tobytes(), lengths.tobytes(), offsets.tobytes())

    return cached(state_of(module).cache, "native", sources, make)


# Building takes tenths of a second, and the many entropy models of one network share their scale table.
@lru_cache(maxsize=16)
def _from_scales(content: bytes) -> NativeTables:
    scales = np.frombuffer(content)
    return NativeTables.of([gaussian_tables(scales[i : i + _ROWS]) for i in range(0, len(scales), _ROWS)])


@lru_cache(maxsize=16)
def _from_rows(cdf: bytes, lengths: bytes, offsets: bytes) -> NativeTables:
    sizes, first = np.frombuffer(lengths, np.int64), np.frombuffer(offsets, np.int64)
    rows = np.frombuffer(cdf, np.int64).reshape(len(sizes), -1)
    # The last slot is the escape: its mass is the tail's, which the native tables take from what is left of 1.
    pmfs = [np.diff(row[: n - 1]) / row[n - 1] for row, n in zip(rows, sizes, strict=True)]
    return NativeTables.of(
        [pmf_tables(pmfs[i : i + _ROWS], first[i : i + _ROWS].tolist()) for i in range(0, len(pmfs), _ROWS)]
    )


def native_bounds(module: Any) -> Tensor:
    """Scales where the nearest row changes, float64 [rows - 1] on the scale table's device."""
    table = module.scale_table

    def make() -> Tensor:
        return torch.from_numpy(nearest_scale_thresholds(table.detach().double().cpu().numpy())).to(table.device)

    return cached(state_of(module).cache, "bounds", (table,), make)


def encode(module: Any, symbols: np.ndarray, indexes: np.ndarray) -> list[bytes]:
    """int32 [B, ...] symbols and indexes to B strings."""
    settings: Settings = state_of(module).settings
    tables = native_tables(module)
    rows = indexes.astype(np.uint8) if len(tables.parts) == 1 else indexes
    flat = symbols.reshape(len(symbols), -1)
    rows = rows.reshape(len(symbols), -1)
    checks = [_check(row) ^ tables.check for row in rows]
    coded = [b""] * len(flat)
    for part, wanted in _parts(tables, rows):
        s = [values[w] for values, w in zip(flat, wanted, strict=True)]
        i = [(row[w] & _ROWS - 1).astype(np.uint8) for row, w in zip(rows, wanted, strict=True)]
        if settings.backend == "reference":
            streams = [rans.rans_encode(a, b, part, backend="reference") for a, b in zip(s, i, strict=True)]
        else:
            streams = rans.rans_encode_many(s, i, part, threads=settings.threads)
        if len(tables.parts) > 1:  # several parts follow each other, each behind its length
            streams = [len(stream).to_bytes(4, "little") + stream for stream in streams]
        coded = [done + stream for done, stream in zip(coded, streams, strict=True)]
    return [native_stream.wrap(payload, check) for payload, check in zip(coded, checks, strict=True)]


def decode(module: Any, strings: Any, indexes: np.ndarray) -> np.ndarray:
    """B strings to int32 symbols in the shape of ``indexes``."""
    settings: Settings = state_of(module).settings
    tables = native_tables(module)
    rows = indexes.astype(np.uint8) if len(tables.parts) == 1 else indexes
    rows = rows.reshape(len(indexes), -1)
    checks = [_check(row) ^ tables.check for row in rows]
    payloads = [native_stream.unwrap(s, c, _MISMATCH) for s, c in zip(strings, checks, strict=True)]
    out = np.empty(rows.shape, np.int32)
    for part, wanted in _parts(tables, rows):
        if len(tables.parts) > 1:
            streams, payloads = map(list, zip(*map(_split, payloads), strict=True)) if payloads else ([], [])
        else:
            streams, payloads = payloads, [b""] * len(payloads)
        i = [(row[w] & _ROWS - 1).astype(np.uint8) for row, w in zip(rows, wanted, strict=True)]
        if settings.backend == "reference":
            values = [rans.rans_decode(a, b, part, backend="reference") for a, b in zip(streams, i, strict=True)]
        else:
            values = rans.rans_decode_many(streams, i, part, threads=settings.threads)
        for target, w, decoded in zip(out, wanted, values, strict=True):
            target[w] = decoded
    if any(payloads):
        raise CorruptStreamError("a string is longer than its symbols")
    return out.reshape(indexes.shape)


def _split(payload: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(payload[:4], "little")
    if len(payload) < 4 + size:
        raise CorruptStreamError("a part of a string is cut short")
    return payload[4 : 4 + size], payload[4 + size :]


def _parts(tables: NativeTables, rows: np.ndarray) -> Any:
    """(tables, which symbols of each item are theirs) for each part."""
    if len(tables.parts) == 1:
        yield tables.parts[0], [slice(None)] * len(rows)
        return
    for number, part in enumerate(tables.parts):
        yield part, list(rows // _ROWS == number)


def _check(row: np.ndarray) -> int:
    little = np.ascontiguousarray(row.astype(row.dtype.newbyteorder("<"), copy=False))
    return crc32c(little.view(np.uint8))
