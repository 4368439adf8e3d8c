"""What packing saves of codec files, and what it costs to read them."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from fastlic.codec import Codec, packing

_READS = 9


class Share(NamedTuple):
    """Arrays of one type that are packed."""

    values: int
    taken: int  # bytes, with tables, classes and low bits

    @property
    def bits(self) -> float:
        """Of a value."""
        return 8 * self.taken / self.values if self.values else 0.0


class Packed(NamedTuple):
    """Sizes in bytes, times in seconds; of files for coding alone with integers as they are, and packed."""

    int8: Share
    int16: Share
    files: tuple[int, int]
    reading: tuple[float, float]  # medians, files read in turns


def packed(codec: Codec) -> Packed:
    """Write ``codec`` both ways, and read it."""
    arrays = {f"entropy/{name}": array for name, array in codec.entropy.to_arrays().items()}
    if codec.pixels is not None:
        arrays |= {f"transforms/{name}": array for name, array in codec.pixels.to_arrays().items()}
    eight, sixteen = (_share(packing.pack(arrays, kind)) for kind in ("int8", "int16"))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{kind}.safetensors" for kind in ("plain", "packed")]
        for path, packs in zip(files, (False, True), strict=True):
            codec.save(path, half=True, training=False, packed=packs)
        seconds: list[list[float]] = [[], []]
        for _ in range(_READS):
            for path, spent in zip(files, seconds, strict=True):
                began = time.perf_counter()
                Codec.load(path)
                spent.append(time.perf_counter() - began)
        sizes = [path.stat().st_size for path in files]
    plain, slow = map(statistics.median, seconds)
    return Packed(eight, sixteen, (sizes[0], sizes[1]), (plain, slow))


def _share(found: packing.Packed | None) -> Share:
    if found is None:
        return Share(0, 0)
    return Share(sum(map(math.prod, found.shapes.values())), found.nbytes)
