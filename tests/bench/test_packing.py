"""The table of what packing saves."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastlic import Codec
from fastlic.bench.packing import main, sizes

GOLDEN = Path(__file__).parents[1] / "golden"


def test_the_table_holds_what_was_packed(capsys: pytest.CaptureFixture):
    path = GOLDEN / "tiny_early.safetensors"
    values, taken = sizes(Codec.load(path))
    assert 0 < taken < values
    assert main([str(path)]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert f"| {values / 1e6:.2f} MB | {taken / 1e6:.2f} MB | {8 * taken / values:.2f} |" in row
