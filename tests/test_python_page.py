"""docs/python.md keeps its word: its examples run, in order, and its tables name what there is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import fastlic
from fastlic.codec.calibration import PHOTO

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_example_runs(tmp_path, monkeypatch):
    shutil.copy(PHOTO, tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    assert BLOCKS and {kind for kind, _ in BLOCKS} == {"python"}
    for number, (_, code) in enumerate(BLOCKS):
        exec(compile(code, f"docs/python.md, example {number + 1}", "exec"), {"__name__": "__main__"})


def test_all_errors_are_in_the_table():
    own = {error.__name__ for error in fastlic.errors.FastlicError.__subclasses__()}
    own = {name for name in own if hasattr(fastlic.errors, name)}
    assert own == set(re.findall(r"^\| `fastlic\.errors\.(\w+)`", PAGE, re.MULTILINE))


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", PAGE))
def test_links_to_files_lead_somewhere(link):
    assert (ROOT / "docs" / link).exists()
