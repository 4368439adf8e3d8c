"""Calls the coders while another thread changes their indexes, codes and symbols: ``python flip.py SECONDS``.

Bytes and symbols may come out as they like; memory may not. What a call reads out of bounds kills the process, or is
found by AddressSanitizer.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import values

from fastlic import _native

SIZE = 2048  # one block: it is checked in a moment, and used for a longer one


def jobs() -> list[tuple[str, np.ndarray, Any, Callable[[], Any]]]:
    """(name, array to change, what no call may follow, call)."""
    indexes, wide = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.int32)
    symbols, out = np.zeros(SIZE, np.int32), np.zeros(SIZE, np.int32)
    starts, sizes = np.zeros(SIZE, np.uint16), np.full(SIZE, 9, np.uint16)
    words, found = np.zeros((2, 8, 16), np.int32), np.zeros((2, 8, 16), np.int32)
    one_of = np.tile(values.probabilities(), (4, 1)), np.zeros(4 * values.N, np.int32)
    cdf, compressai, categories = values.cdf_tables().native, values.compressai().native, values.categories().native
    context = values.code_model().native
    ends = [np.zeros(4 * values.N, np.uint16) for _ in range(2)]
    streams = {lanes: _native.rans_encode(symbols, indexes, cdf, lanes) for lanes in (1, 16, 64)}
    of_compressai = _native.compressai_encode(symbols, indexes, compressai)
    of_categories, of_words = categories.encode_many([symbols], [indexes], 1), context.encode_many([words], 1)
    many = np.ascontiguousarray(np.broadcast_to(wide, (4, SIZE))), np.zeros((4, SIZE), np.int32)
    out_of_words = np.zeros((2, 8, 16), np.int32)
    found_jobs: list[tuple[str, np.ndarray, Any, Callable[[], Any]]] = [
        (f"rans_decode {lanes}", indexes, 255, lambda d=data: _native.RansDecoder(d, cdf).decode(indexes, out))
        for lanes, data in streams.items()
    ]
    return [
        *found_jobs,
        ("rans_encode", indexes, 255, lambda: _native.rans_encode(symbols, indexes, cdf, 16)),
        ("compressai_encode", wide, 2**31 - 1, lambda: _native.compressai_encode(symbols, wide, compressai)),
        (
            "compressai_decode",
            wide,
            -(2**31),
            lambda: _native.CompressAiDecoder(of_compressai, compressai).decode(wide, out),
        ),
        (
            "compressai_decode_many",
            many[0],
            2**31 - 1,
            lambda: _native.compressai_decode_many([of_compressai] * 4, *many, compressai, 1),
        ),
        ("categorical_encode", indexes, 255, lambda: categories.encode_many([symbols], [indexes], 1)),
        ("categorical_decode", indexes, 255, lambda: categories.decode_many(of_categories, [indexes], [out], 1)),
        ("categorical symbols", symbols, 2**31 - 1, lambda: categories.encode_many([symbols], [indexes], 1)),
        ("intervals", sizes, 0, lambda: _native.encode_intervals(starts, sizes)),
        ("mixture symbols", one_of[1], 2**31 - 1, lambda: _native.mixture_intervals(*one_of, *ends)),
        ("words", words, 2**31 - 1, lambda: context.encode_many([words], 1)),
        ("frequencies", found, -(2**31), lambda: context.frequencies(found)),
        ("decoded words", out_of_words, 2**31 - 1, lambda: context.decode_many(of_words, [out_of_words], 1)),
    ]


def main(seconds: float) -> None:
    for isa in _native.supported_isas():
        _native.set_isa(isa)
        todo = jobs()
        for name, array, bad, call in todo:
            print(isa, name, flush=True)
            good, stop = array.copy(), threading.Event()

            def change(array: np.ndarray = array, good: np.ndarray = good, bad: Any = bad, stop: Any = stop) -> None:
                while not stop.is_set():
                    array[...] = bad
                    array[...] = good

            thread = threading.Thread(target=change)
            thread.start()
            end = time.monotonic() + seconds / len(todo)
            while time.monotonic() < end:
                with contextlib.suppress(ValueError):  # it saw the change: CorruptStreamError, too
                    call()
            stop.set()
            thread.join()
            array[...] = good


if __name__ == "__main__":
    sys.setswitchinterval(1e-5)
    main(float(sys.argv[1]))
