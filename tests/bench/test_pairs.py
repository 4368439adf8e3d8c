"""python -m fastlic.bench.pairs: two checkouts in turns."""

from __future__ import annotations

import re
from pathlib import Path

from fastlic.bench import pairs


def test_a_checkout_is_about_as_fast_as_itself_and_rows_are_in_both(capsys):
    root = Path(__file__).resolve().parents[2]
    assert pairs.main([str(root), "--filter", "decode sigma 1.0", "--rounds", "1", "--seconds", "0.05"]) == 0
    *_, head, _, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["row", "base", "ms"]
    name, base, here, ratio = re.fullmatch(r"(.*?)  +([\d.]+) +([\d.]+) +([\d.]+)x +[\d.]+ to [\d.]+", row).groups()
    assert name == "native decode sigma 1.0" and float(base) > 0 and float(here) > 0
    assert 0.2 < float(ratio) < 5
