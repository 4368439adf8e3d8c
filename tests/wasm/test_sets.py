"""The vectors of WebAssembly compute what scalar code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_kernels_of_webassembly_give_the_integers_of_scalar_code(built: Path):
    subprocess.run(["ninja", "-C", str(built), "sets.js"], check=True, stdout=sys.stderr)
    done = subprocess.run(["node", str(built / "sets.js")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "wasm: the same as scalar" in done.stdout
