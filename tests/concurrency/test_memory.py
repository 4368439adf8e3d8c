"""Coding for a long time leaves resident memory where it was after the first trips."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlic
from fastlic.codec import registry
from fastlic.codec.cards import cards
from fastlic.ops.latents import Target

STATM = Path("/proc/self/statm")
pytestmark = pytest.mark.skipif(not STATM.exists(), reason="this system does not tell resident memory")


def resident() -> int:
    """Bytes."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grows(work: Callable[[], Any], times: int, warm: int) -> float:
    """By what share resident memory grows over ``times`` calls after ``warm`` others."""
    for _ in range(warm):
        work()
    before = resident()
    for _ in range(times):
        work()
    return resident() / before - 1


def test_two_hundred_round_trips_leave_memory_flat(tiny_codec, photo):
    x = photo[:, :64, :64]
    assert grows(lambda: tiny_codec.decompress(tiny_codec.compress(x, 4)), 200, 40) < 0.01


def test_errors_leave_memory_flat(tiny_codec, photo):
    x = photo[:, :64, :64]
    data = tiny_codec.compress(x, 4)
    sections = tiny_codec._read(data, {}).sections
    z, y = np.zeros((8, 1, 1), np.int32), np.zeros((24, 4, 4), np.int32)

    def fail() -> None:
        with pytest.raises(fastlic.errors.CorruptStreamError):
            tiny_codec.decompress(data[:-1])
        with pytest.raises(fastlic.errors.CorruptStreamError):  # behind the checksums, in the native decoder
            tiny_codec._coder.decode_many([(sections, (64, 64)), ([b"", b""], (64, 64))], "cpp", 2, {})
        with pytest.raises(ValueError):  # the second of two images is beyond what can be coded
            tiny_codec.entropy.engine.encode_many([Target(z, y), Target(z, y + 2**30)], 2)

    assert grows(fail, 300, 50) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", cards())
def test_two_thousand_round_trips_leave_memory_flat(name, photo):
    codec = fastlic.load(name)
    x = photo[:, :64, :64]
    assert grows(lambda: codec.decompress(codec.compress(x, 4)), 2000, 100) < 0.01


@pytest.mark.slow
def test_loading_more_codec_files_than_are_kept_leaves_memory_flat(tiny_codec_file, photo, tmp_path, reseal):
    x = photo[:, :64, :64]
    paths = [tmp_path / f"{index}.safetensors" for index in range(registry.KEPT + 4)]
    for index, path in enumerate(paths):

        def change(tensors, description, index=index):
            tensors["float/g_s.6.bias"] = tensors["float/g_s.6.bias"] + index / 16

        reseal(tiny_codec_file, path, change)
    turn = cycle(paths)
    assert grows(lambda: fastlic.load(next(turn)).compress(x, 4), 200, 40) < 0.01
    assert len(registry._recent) <= registry.KEPT
