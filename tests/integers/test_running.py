"""How the core runs networks and codecs: each row once, and progress is told as work is made."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fastlic.integers.layer import HALVED, PLAIN, TRANSPOSED
from fastlic.integers.network import Network
from fastlic.integers.shapes import Shape

from ..libflic.building import OBJECTS, ROOT, WEIGHTS, run
from .made_networks import Draw, chain, write_arrays

GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """csrc/tests/running.cpp, linked of the core that setup.py left."""
    compiler, core = shutil.which(os.environ.get("CXX", "g++")), OBJECTS / "core.a"
    if compiler is None or not core.exists():
        pytest.skip("no compiler, or no core.a of setup.py in build/")
    out = tmp_path_factory.mktemp("running") / "running"
    csrc = ROOT / "csrc"
    run(compiler, "-std=c++20", "-O0", f"-I{csrc}", csrc / "tests" / "running.cpp", core, "-pthread", "-o", out)
    return out


def check(running: Path, *arguments: str | Path) -> None:
    done = subprocess.run([running, *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "no finding" in done.stdout, done.stderr


def network(name: str) -> Network:
    draw, x = Draw(np.random.default_rng(1)), Shape(32, 9)
    kinds = {
        "halves that are doubled again": (HALVED, TRANSPOSED),
        "halves that are doubled twice": (HALVED, TRANSPOSED, TRANSPOSED),
        "layers of one size": (PLAIN,) * 6,
    }[name]
    steps = []
    for kind in kinds:
        steps.append(draw.layer(x, 32, kind, 5, 9))
        x = steps[-1].shape(x)
    return chain(steps, draw.requantiser(32, 9, np.full(32, 255.0)))


@pytest.mark.parametrize(
    "name", ["halves that are doubled again", "halves that are doubled twice", "layers of one size"]
)
def test_each_row_comes_once_and_progress_goes_with_the_rows(running, name, tmp_path):
    check(running, "network", write_arrays(network(name).to_arrays("n"), tmp_path / "model"))


@pytest.mark.parametrize(
    "path",
    [
        GOLDEN / "tiny_pixels_jahp.safetensors",
        GOLDEN / "tiny_pixels_mlicpp.safetensors",
        WEIGHTS / "mcquic.safetensors",
    ],
    ids=lambda path: path.stem,
)
def test_progress_is_told_in_small_shares_however_small_the_image(running, path):
    check(running, "codec", path)
