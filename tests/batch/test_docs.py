"""docs/scale.md keeps its word: its blocks run, and its table is what the simulation prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastlic.bench import cluster
from fastlic.codec.calibration import PHOTO

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "scale.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
# In processes of their own, whose imports take seconds; rows are tested here already.
SLOW = ("import ray", "import webdataset", "import zarr", "fastlic batch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scale")
    shutil.copy(PHOTO, path / "photo.png")
    (path / "photos").mkdir()
    shutil.copy(PHOTO, path / "photos")
    return path


@pytest.mark.parametrize(
    ("kind", "code"),
    [pytest.param(*block, marks=[pytest.mark.slow] * any(word in block[1] for word in SLOW)) for block in BLOCKS],
)
def test_blocks_run(kind, code, folder, monkeypatch):
    for module in re.findall(r"^import (ray|webdataset|zarr)\b", code, re.MULTILINE):
        pytest.importorskip(module)
    if "batch" in code:
        for module in ("fsspec", "pyarrow", "webdataset"):
            pytest.importorskip(module)
    monkeypatch.chdir(folder)
    if kind == "python" and not any(word in code for word in SLOW):
        exec(compile(code, "docs/scale.md", "exec"), {})
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    function = f'fastlic() {{ "{sys.executable}" -m fastlic "$@"; }}\n'  # of this checkout
    command = ["bash", "-euo", "pipefail", "-c", function + code] if kind == "bash" else [sys.executable, "-c", code]
    environment = {**os.environ, "PATH": path, "RAY_agent_register_timeout_ms": "300000"}  # on busy machines
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_extras_are_those_of_the_package():
    named = set(re.findall(r"fastlic\[(\w+)\]", TEXT))
    project = (ROOT / "pyproject.toml").read_text()
    assert named == {"batch", "ray", "webdataset", "hub", "zarr"}
    assert all(re.search(rf"^{name} = \[", project, re.MULTILINE) for name in named)


@pytest.mark.slow
def test_the_table_is_what_the_simulation_prints(capsys):
    assert cluster.main([]) == 0
    assert capsys.readouterr().out.strip() in TEXT
