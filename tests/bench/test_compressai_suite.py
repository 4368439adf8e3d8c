"""The suite of CompressAI models, at a size that takes no time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastlic.bench.runner import measure
from fastlic.bench.suites import compressai as suite


def test_every_model_codes_a_small_image_and_its_peers_run():
    pytest.importorskip("compressai.models")
    cases = list(suite.cases(lambda name: True, size=16, height=64, width=128))
    assert len(cases) == 6 * len(suite.MODELS)
    for case in cases:
        assert "bits a pixel" in case.note
        if " compressai vs " in case.name:
            assert "+0.00 %" in case.note
    one = measure(cases[-1], budget=0.001)
    assert one.ratio is not None and one.ratio > 0


def test_without_compressai_there_is_nothing_to_measure_and_no_traceback():
    code = (
        "import sys; sys.modules['compressai'] = None\n"
        "from fastlic.bench.__main__ import main\n"
        "assert main(['compressai', '--list']) == 0\n"
        "assert main(['compressai']) == 2\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compress mbt2018 native vs plain" in done.stdout
    assert "cannot be imported" in done.stderr
