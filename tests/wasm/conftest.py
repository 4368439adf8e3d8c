"""The library in WebAssembly, built once for all tests, or where FASTLIC_WASM says it is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that csrc/wasm/build.sh fills."""
    missing = [tool for tool in ("em++", "ninja", "node") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    out = Path(os.environ.get("FASTLIC_WASM") or tmp_path_factory.mktemp("wasm")).resolve()
    subprocess.run([str(ROOT / "csrc" / "wasm" / "build.sh"), str(out)], check=True, stdout=sys.stderr)
    return out
