"""The C++ core under ThreadSanitizer: engines, codebook search, GDN and thread teams, from several threads at once."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import ninja
import numpy as np
import pytest
import torch
from ninja.ninja_syntax import Writer

from fastlic.codec.codec import Codec
from fastlic.models import MLICPlusPlus

CSRC = Path(__file__).parents[2] / "csrc"
FLAGS = "-std=c++20 -O1 -g -ffp-contract=off -fno-math-errno -fsanitize=thread -Wno-uninitialized"
TYPES = {np.dtype(np.int8): 0, np.dtype(np.uint8): 1, np.dtype(np.int32): 2}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def write(arrays: dict[str, np.ndarray], path: Path) -> Path:
    """Arrays as csrc/tests/threads.cpp reads them."""
    parts = [struct.pack("<I", len(arrays))]
    for name, array in arrays.items():
        head = (len(name), name.encode(), TYPES[array.dtype], array.ndim, *array.shape)
        parts.append(struct.pack(f"<I{len(name)}sII{array.ndim}I", *head))
        parts.append(np.ascontiguousarray(array).tobytes())
    path.write_bytes(b"".join(parts))
    return path


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver, built with clang++ as ThreadSanitizer of g++ reports its own runtime."""
    compiler = shutil.which("clang++")
    if compiler is None:
        pytest.skip("clang++ is not installed")
    out = tmp_path_factory.mktemp("threads")
    with (out / "build.ninja").open("w") as file:
        writer = Writer(file, width=10_000)
        writer.rule("cxx", f"{compiler} {FLAGS} -I{CSRC} -MMD -MF $out.d -c $in -o $out", deps="gcc", depfile="$out.d")
        writer.rule("link", f"{compiler} -fsanitize=thread $in -o $out -pthread")
        sources = [*sorted((CSRC / "fastlic").rglob("*.cpp")), CSRC / "tests" / "threads.cpp"]
        names = ["_".join(source.relative_to(CSRC).with_suffix(".o").parts) for source in sources]
        objects = [writer.build(name, "cxx", str(s))[0] for name, s in zip(names, sources, strict=True)]
        writer.build("threads", "link", objects)
    subprocess.run([str(Path(ninja.BIN_DIR) / "ninja"), "-C", str(out), "-j2"], check=True, stdout=sys.stderr)
    return out / "threads"


def run(threads: Path, *arguments: str) -> None:
    done = subprocess.run(
        [str(threads), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1"},
    )
    assert done.returncode == 0 and "no finding" in done.stdout, done.stderr[-4000:]


def test_thread_teams_codebook_search_and_gdn_have_no_race(threads):
    run(threads, "parts")


def test_the_wavefront_engine_has_no_race(threads, codec, tmp_path):
    run(threads, "engine", str(write(codec.entropy.to_arrays(), tmp_path / "model")))


def test_the_slices_engine_has_no_race(threads, photo, tmp_path):
    torch.manual_seed(3)
    own = Codec(MLICPlusPlus(8, 24, (12, 16, 24), slices=3), calibration=[photo])
    run(threads, "slices", str(write(own.entropy.to_arrays(), tmp_path / "model")))
