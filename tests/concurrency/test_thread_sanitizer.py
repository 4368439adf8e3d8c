"""The C++ core under ThreadSanitizer: all that starts threads, or is used from several of them at once."""

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
from torch import Tensor

from fastlic.codec.codec import Codec
from fastlic.entropy.code_context import IntegerCodeContext
from fastlic.models import MLICPlusPlus
from fastlic.models.mcquic.context import CodeContext

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
FLAGS = "-std=c++20 -O1 -g -ffp-contract=off -fno-math-errno -fsanitize=thread -Wno-uninitialized"
TYPES = {np.dtype(np.int8): 0, np.dtype(np.uint8): 1, np.dtype(np.int32): 2}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def write(arrays: dict[str, np.ndarray], path: Path) -> Path:
    """Arrays as csrc/tests/model_file.hpp reads them."""
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


@pytest.fixture(scope="module")
def models(codec: Codec, photo: Tensor) -> dict[str, dict[str, np.ndarray]]:
    """Arrays by model: "engine" or "engine: name"."""
    sys.path.insert(0, str(ROOT / "fuzz"))
    from models import load

    torch.manual_seed(3)
    wide = Codec(MLICPlusPlus(8, 24, (12, 16, 24), slices=3), calibration=[photo])
    context = CodeContext(3, 40, 8, 33).eval()
    codes = torch.randint(40, (1, 3, 12, 12))
    small = load()
    return {
        "engine": codec.entropy.to_arrays(),
        "slices": wide.entropy.to_arrays(),
        **{f"slices: {name}": small[name] for name in ("mlic", "mlic_plus", "mlic_early")},
        "groups": small["groups"],
        "codes": IntegerCodeContext.from_float(context, context.rows(codes)).to_arrays(),
    }


@pytest.mark.parametrize("what", ["parts", "coders"])
def test_teams_codebook_search_gdn_and_batches_of_streams_have_no_race(threads, what):
    run(threads, what)


@pytest.mark.parametrize(
    "model", ["engine", "slices", "slices: mlic", "slices: mlic_plus", "slices: mlic_early", "groups", "codes"]
)
def test_engines_have_no_race(threads, model, models, tmp_path):
    run(threads, model.split(":")[0], str(write(models[model], tmp_path / "model")))
