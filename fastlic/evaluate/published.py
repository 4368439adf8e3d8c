"""Rate-distortion points that others published for the 24 Kodak images, to draw and to compare with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fastlic.evaluate.bd_rate import bd_rate

_FILE = Path(__file__).with_name("kodak_published.json")


@dataclass(frozen=True)
class Curve:
    """One codec's curve, averaged over Kodak by whoever published it."""

    name: str
    source: str  # repository, commit where known, and file
    points: tuple[tuple[float, float], ...]  # (bpp, PSNR in dB), rates rising


def kodak() -> list[Curve]:
    """The curves that ship: mbt2018 (CompressAI), MLIC+, MLIC++, VTM and BPG."""
    content = json.loads(_FILE.read_text(encoding="utf-8"))
    return [Curve(name, c["source"], tuple((b, p) for b, p in c["points"])) for name, c in content.items()]


def compare(curve: Curve, points: list[tuple[float, float]]) -> str:
    """BD-rate of (bpp, dB) points against a published curve, in one line; says why where there is none."""
    try:
        return f"{bd_rate(curve.points, points):+.2f} % from the averaged curves"
    except ValueError as error:
        return f"not defined: {error}"
