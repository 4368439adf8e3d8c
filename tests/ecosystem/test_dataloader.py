"""examples/dataloader.py: images by torch's own workers, damaged files left out."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastlic import light

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "dataloader.py"


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_crops_come_out_of_a_folder_of_streams(workers, tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(0)
    for i in range(5):
        x = random.integers(0, 256, (40 + i, 50, 3)).astype(np.uint8)
        (tmp_path / f"{i}.flic").write_bytes(light.compress(x)[: 60 if i == 4 else None])
    arguments = [str(EXAMPLE), str(tmp_path), "--workers", str(workers), "--batch", "2", "--crop", "32"]
    if workers:  # which import the script anew
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        out = done.stdout
    else:
        monkeypatch.setattr(sys, "argv", arguments)
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        out = capsys.readouterr().out
    assert "4 of 5 images" in out and "4.flic:" in out
