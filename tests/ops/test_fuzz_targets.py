"""The C++ fuzz targets, under AddressSanitizer and UBSan, over their kept seeds and a fixed number of mutations."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "csrc" / "fuzz"
TARGETS = sorted(path.stem for path in FUZZ.glob("*.cpp") if path.stem != "standalone")
WITH_SEEDS = [
    "categorical_decode",
    "codes_decode",
    "compressai_decode",
    "engine_decode",
    "gaussian",
    "rans_decode",
    "rans_roundtrip",
    "slices_decode",
    "tables",
]


@pytest.mark.parametrize("target", WITH_SEEDS)
def test_every_target_keeps_seeds(target):
    with zipfile.ZipFile(FUZZ / "corpus" / f"{target}.zip") as seeds:
        assert len(seeds.namelist()) >= 30
    assert target in TARGETS


@pytest.fixture(scope="module")
def build(tmp_path_factory) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    out = tmp_path_factory.mktemp("fuzz")
    # g++ even where clang is at hand: the standalone driver mutates the same way every time.
    command = [sys.executable, str(FUZZ / "build.py"), str(out), *WITH_SEEDS]
    subprocess.run(command, check=True, env={**os.environ, "CXX": "g++"}, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, str(FUZZ / "seeds.py"), "unpack", str(out / "corpus")], check=True)
    return out


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("target", WITH_SEEDS)
def test_seeds_and_mutations_find_nothing(build, target):
    runs = {"codes_decode": 1000, "slices_decode": 500}.get(
        target, 3000
    )  # networks over whole images: up to 30 ms each
    command = [str(build / target), f"-runs={runs}", "-seed=7", str(build / "corpus" / target)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-4000:]
    assert "no finding" in result.stdout
