"""The integer entropy model of vector quantisers: frozen tables for codebook indexes, one set per level, and perhaps a
context model for the finest one.

McQuic recomputes its tables from running frequencies in float32, on whichever device it runs; a sum in another order
can change an integer, and with it every symbol that follows. Here the integers are made once and stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fastlic.arguments import check_fields
from fastlic.entropy.arrays import below, reading
from fastlic.entropy.code_context import IntegerCodeContext
from fastlic.entropy.fingerprint import of_arrays
from fastlic.errors import CorruptStreamError
from fastlic.ops.categorical import (
    Backend,
    CategoricalTables,
    categorical_tables,
    decode_categorical_many,
    encode_categorical_many,
)
from fastlic.ops.code_context import code_frequencies, decode_codes_many, encode_codes_many

Codes = np.ndarray  # integers [m, h, w]


@dataclass(frozen=True)
class CodeTables:
    """Tables of every level, level 0 the finest; row g of a level's tables is that of codebook g.

    Attributes:
        tables: one per level, each of m rows.
        words: uint8 [8], digest of the codebooks, so that the fingerprint tells codecs apart whose tables agree by
            chance, as those of two untrained models do.
        context: codes level 0 in place of its tables, whose shares previews still read; None: tables for all levels.
    """

    tables: tuple[CategoricalTables, ...]
    words: np.ndarray
    context: IntegerCodeContext | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.tables:
            raise ValueError("tables must be those of one level at least")
        if self.context is not None:
            own, words = (self.context.m, self.context.k), self._frequencies(0).shape
            if own != words:
                raise ValueError(f"a context of {own} (groups, words) for a level 0 of {words}")

    @classmethod
    def from_shares(cls, shares: Sequence[ArrayLike], codebooks: Sequence[np.ndarray]) -> CodeTables:
        """Freeze tables.

        Args:
            shares: float [m, k] per level, how often each word is used, in any unit.
            codebooks: float32 [m, k, d] per level.
        """
        digest = hashlib.blake2b(digest_size=8)
        for book in codebooks:
            digest.update(np.ascontiguousarray(book, dtype="<f4").tobytes())
        tables = tuple(categorical_tables(list(np.asarray(share, dtype=np.float64))) for share in shares)
        return cls(tables, np.frombuffer(digest.digest(), dtype=np.uint8))

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.tables)

    @property
    def groups(self) -> int:
        """m, codebooks per level."""
        return self.tables[0].rows

    def shares(self) -> list[np.ndarray]:
        """float64 [m, k] per level: the probabilities that the tables assign."""
        return [self._frequencies(level) / (1 << table.precision) for level, table in enumerate(self.tables)]

    def _frequencies(self, level: int) -> np.ndarray:
        table = self.tables[level]
        return np.diff(table.cdf.reshape(table.rows, -1), axis=1)

    def encode_many(
        self, level: int, codes: Sequence[Codes], backend: Backend = "cpp", threads: int = 1
    ) -> list[bytes]:
        """One level's codes [m, h, w] of each image, on ``threads`` threads.

        Group by group in raster order (level 0 of a context: position by position).
        """
        if level == 0 and self.context is not None:
            return encode_codes_many(codes, self.context, threads=threads, backend=backend)
        rows = [self._rows(own.shape) for own in codes]
        return encode_categorical_many(codes, rows, self.tables[level], threads=threads, backend=backend)

    def decode_many(
        self, level: int, streams: Sequence[tuple[bytes, int, int]], backend: Backend = "cpp", threads: int = 1
    ) -> list[Codes]:
        """int32 [m, height, width] of each image from what ``encode_many`` gave, and height and width.

        Raises:
            CorruptStreamError: the bytes do not hold exactly these codes.
        """
        if level == 0 and self.context is not None:
            return decode_codes_many(streams, self.context, threads=threads, backend=backend)
        table = self.tables[level]
        # No code is cheaper than the likeliest one: what is allocated stays in proportion to the bytes that came.
        cheapest = table.precision - np.log2(self._frequencies(level).max())
        rows = []
        for data, height, width in streams:
            shape = (self.groups, height, width)
            if np.prod(shape) * cheapest > 8 * len(data) + 64:
                raise CorruptStreamError(f"level {level} has {len(data)} bytes, too few for {np.prod(shape)} codes")
            rows.append(self._rows(shape))
        found = [data for data, _, _ in streams]
        return decode_categorical_many(found, rows, table, threads=threads, backend=backend)

    def encode(self, level: int, codes: Codes, backend: Backend = "cpp") -> bytes:
        """``encode_many`` of one image."""
        return self.encode_many(level, [codes], backend)[0]

    def decode(self, level: int, data: bytes, height: int, width: int, backend: Backend = "cpp") -> Codes:
        """``decode_many`` of one image."""
        return self.decode_many(level, [(data, height, width)], backend)[0]

    def bits(self, level: int, codes: Codes) -> float:
        """What an ideal coder would need for one level's codes [m, h, w]."""
        if level == 0 and self.context is not None:
            found = code_frequencies(codes, self.context)
            return float(found.size * self.context.precision - np.log2(found).sum())
        flat = codes.reshape(self.groups, -1)
        frequencies = np.take_along_axis(self._frequencies(level), flat, axis=1)
        return float((self.tables[level].precision - np.log2(frequencies)).sum())

    def _rows(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(np.arange(self.groups, dtype=np.uint8)[:, None, None], shape)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Every integer under a stable name; what the fingerprint covers."""
        arrays = {"words": self.words}
        for level, table in enumerate(self.tables):
            arrays |= {f"levels.{level}.{name}": array for name, array in table.to_arrays().items()}
        if self.context is not None:
            arrays |= {f"context.{name}": array for name, array in self.context.to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> CodeTables:
        """Read what ``to_arrays`` wrote. Raises ValueError for arrays that are no such tables."""
        with reading("the tables of codes"):
            levels = sum(name.startswith("levels.") and name.endswith(".cdf") for name in arrays)
            tables = [CategoricalTables.from_arrays(below(arrays, f"levels.{level}.")) for level in range(levels)]
            words = arrays["words"]
            if not tables or words.dtype != np.uint8 or words.shape != (8,):
                raise ValueError("levels.<n>.cdf, lengths and precision, and 8 bytes of words are expected")
            if any(len(set(table.lengths.tolist())) != 1 or table.rows != tables[0].rows for table in tables):
                raise ValueError("all levels have as many rows, all rows of a level as many words")
            context = below(arrays, "context.")
            return cls(tuple(tables), words, IntegerCodeContext.from_arrays(context) if context else None)

    def fingerprint(self) -> bytes:
        """What names these integers in a stream: fastlic.entropy.fingerprint."""
        return of_arrays(self.to_arrays())
