"""CompressAI's own tests give the same results on accelerated models as on plain ones.

``FASTLIC_COMPRESSAI_TESTS=FOLDER`` names a checkout of CompressAI. Its pretrained weights come from the network;
``FASTLIC_RANDOM=1`` has random ones in their place (tests/compat/accelerated.py).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip("compressai")

FOLDER = os.environ.get("FASTLIC_COMPRESSAI_TESTS", "")
PARTS = ("codec", "entropy_models", "entropy_models_vbr", "eval_model", "models", "update_model", "waseda")
COMPAT = Path(__file__).parents[1] / "compat"  # the plugin, and what stands in for packages that are not installed


def outcomes(folder: Path, **environment: str) -> tuple[dict[str, str], str]:
    """What pytest found of each test, without numbers, and what it printed.

    That is "passed", or the first line of what a test failed, erred or was skipped with.
    """
    report = folder / "report.xml"
    files = [str(Path(FOLDER) / "tests" / f"test_{part}.py") for part in PARTS]
    # From elsewhere: what is tested is the CompressAI that is installed.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "accelerated",
        f"--junitxml={report}",
        *files,
    ]
    path = os.pathsep.join([str(COMPAT), *(own for own in sys.path if own)])
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path, **environment}, capture_output=True, text=True
    )
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        (other,) = [part for part in case if part.tag in ("failure", "error", "skipped")][:1] or [None]
        said = "passed" if other is None else f"{other.tag}: {(other.get('message') or '').splitlines()[:1]}"
        found[f"{case.get('classname')}.{case.get('name')}"] = re.sub(r"[0-9][0-9a-fx.e-]*", "#", said)
    return found, done.stdout


@pytest.mark.skipif(not FOLDER, reason="FASTLIC_COMPRESSAI_TESTS names no checkout")
@pytest.mark.parametrize("format", ["native", "compressai"])
def test_their_results_are_the_same(format, tmp_path):
    plain, _ = outcomes(tmp_path, FASTLIC_FORMAT="")
    found, text = outcomes(tmp_path, FASTLIC_FORMAT=format)
    assert found == plain and list(plain.values()).count("passed") > 50
    assert re.search(r"[1-9]\d* models accelerated", text)
