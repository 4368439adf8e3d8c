"""The benchmark of a browser beside this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastlic.bench import wasm
from fastlic.bench.chromium import program

pytestmark = pytest.mark.slow


def test_benchmark_of_the_browser_prints_times_and_sizes(built: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("playwright")
    if program() is None:
        pytest.skip("chromium is not installed")
    assert wasm.main(["--models", "jahp", "--rounds", "2", "--built", str(built)]) == 0
    out = capsys.readouterr().out
    assert "| jahp |" in out and "| flic.wasm |" in out
