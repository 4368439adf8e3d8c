"""The run that wants a GPU: without one it says so; its parts end, fail and are stopped as told."""

from __future__ import annotations

import sys

import pytest
import torch

from fastlic.bench import gpu, tune
from fastlic.bench.__main__ import main


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_run_instead(capsys):
    assert main(["kernels", "--gpu"]) == 2
    assert "fastlic.kernels.aot" in capsys.readouterr().out
    assert tune.main([]) == 0
    assert "nothing to tune" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "limit", "done"),
    [
        ("print('fine')", 60, "passed"),
        ("raise SystemExit(3)", 60, "failed with status 3"),
        ("import time; print('x', flush=True); time.sleep(60)", 1, "stopped at its time limit"),
    ],
)
def test_parts_report_how_they_ended(script, limit, done, tmp_path, capsys):
    part = gpu.Part("a part", [sys.executable, "-c", script], tmp_path / "a.log").start().wait(limit)
    assert part.done == done and part.seconds < 50
    assert done in capsys.readouterr().out
    assert "a part" in gpu.summary(tmp_path, [part])


def test_tests_and_suite_are_where_the_run_looks_for_them():
    assert (gpu.TESTS / "test_gpu_run.py").exists()
    for name in gpu.SANITIZED:
        assert (gpu.TESTS / name).exists()
