"""What packing saves of codec files, and what it costs to read them."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from fastlic.codec import Codec, packing

_READS = 9


class Packed(NamedTuple):
    """Sizes in bytes, times in seconds; of files with float16 weights and int8 weights as they are, and packed."""

    weights: int  # int8 weights that are packed
    taken: int  # by them, with tables and classes
    files: tuple[int, int]
    reading: tuple[float, float]  # medians, files read in turns


def packed(codec: Codec) -> Packed:
    """Write ``codec`` both ways, and read it."""
    found = packing.pack(codec.entropy.to_arrays())
    weights = taken = 0
    if found is not None:
        weights = sum(array.size for array in packing.unpack(found).values())
        taken = found.nbytes
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
    return Packed(weights, taken, (sizes[0], sizes[1]), (plain, slow))
