"""Blocks of code in Markdown pages, and how tests run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from fastlic.codec.calibration import PHOTO

ROOT = Path(__file__).resolve().parents[1]


class Block(NamedTuple):
    page: str
    line: int
    kind: str
    code: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def execute(self, names: dict[str, object]) -> None:
        """A block of Python, here."""
        # Blank lines in front, so that a traceback has the page's line numbers.
        exec(compile("\n" * (self.line - 1) + self.code, str(ROOT / self.page), "exec"), names)


def blocks_of(page: str, text: str) -> list[Block]:
    fences = re.finditer(r"(<!-- not run.*? -->\n)?^( *)```(\w*)\n(.*?)^\2```$", text, re.MULTILINE | re.DOTALL)
    return [
        Block(page, text.count("\n", 0, m.start(4)) + 1, m[3], re.sub(f"^{m[2]}", "", m[4], flags=re.M), not m[1])
        for m in fences
    ]


def prepared(folder: Path) -> Path:
    """``folder`` with what the examples expect to find: photo.png, and a folder photos with it."""
    (folder / "photos").mkdir()
    for place in (folder, folder / "photos"):
        shutil.copy(PHOTO, place)
    return folder


def run(command: list[str], folder: Path, **variables: str) -> None:
    """A process of its own, which has to end well."""
    # One thread: the examples are small. The scripts of this interpreter come first, whatever else is installed.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
