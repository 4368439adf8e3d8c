"""Where builds of libflic lie, and how commands are run for them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "fastlic" / "weights"
OBJECTS = ROOT / "build" / f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
LIBFLIC = ROOT / "csrc" / "libflic"
KEPT = os.environ.get("FASTLIC_CMAKE_BUILD")


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stdout}{done.stderr}"
