"""docs/scale.md keeps its word: its blocks run, and its table is what the simulation prints."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastlic.cli.main import cli

from ..pages import ROOT, blocks_of, prepared, run

TEXT = (ROOT / "docs" / "scale.md").read_text()
BLOCKS = [block for block in blocks_of("docs/scale.md", TEXT) if block.runs and block.kind != "text"]
# In processes of their own, whose imports take seconds; rows are tested here already.
SLOW = ("import ray", "import webdataset", "import zarr", "fastlic batch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return prepared(tmp_path_factory.mktemp("scale"))


@pytest.mark.parametrize(
    "block",
    [pytest.param(b, marks=[pytest.mark.slow] * any(word in b.code for word in SLOW), id=str(b)) for b in BLOCKS],
)
def test_blocks_run(block, folder, monkeypatch):
    for module in re.findall(r"^import (ray|webdataset|zarr)\b", block.code, re.MULTILINE):
        pytest.importorskip(module)
    if "batch" in block.code:
        for module in ("fsspec", "pyarrow", "webdataset"):
            pytest.importorskip(module)
    if block.kind == "python" and not any(word in block.code for word in SLOW):
        monkeypatch.chdir(folder)
        block.execute({})
        return
    command = ["bash", "-euo", "pipefail"] if block.kind == "bash" else [sys.executable]
    run([*command, "-c", block.code], folder, RAY_agent_register_timeout_ms="300000")  # on busy machines


def test_extras_are_those_of_the_package():
    named = set(re.findall(r"fastlic\[(\w+)\]", TEXT))
    project = (ROOT / "pyproject.toml").read_text()
    assert named == {"batch", "ray", "webdataset", "hub", "zarr"}
    assert all(re.search(rf"^{name} = \[", project, re.MULTILINE) for name in named)


@pytest.mark.slow
def test_the_table_is_what_the_simulation_prints():
    found = CliRunner().invoke(cli, ["inspect", "cluster"])
    assert found.exit_code == 0 and found.output.strip() in TEXT
