"""Draws the plots of docs/benchmarks.md of the JSON beside it: python docs/tools/figures.py DOCS

DOCS/pictures/NAME.png carries in its metadata the SHA-256 of the file it was drawn of; tests/test_readme.py compares.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = {"jahp": "#c2303a", "mlic++": "#2f5fb3", "mcquic": "#d9822b", "AVIF": "#4c8f5a", "WebP": "#8a8a8a"}


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # no display, no global state
    return figure, figure.subplots()


def bd_rate(source: Path) -> Figure:
    """Of the averaged curves: bits needed at equal quality, in per cent of the peer's, less 100."""
    found = {
        (r["codec"], r["anchor"], r["metric"]): r["of_averages"] for r in json.loads(source.read_text())["bd_rate"]
    }
    figure, axes = _figure(7, 3.4)
    rows = [(anchor, metric) for anchor in ("JPEG", "WebP", "AVIF") for metric in ("PSNR", "MS-SSIM")]
    for shift, codec in ((-0.2, "jahp"), (0.2, "mlic++")):
        values = [found[codec, anchor, metric] for anchor, metric in rows]
        places = [i + shift for i in range(len(rows))]
        axes.barh(places, values, 0.38, color=COLOURS[codec], label=codec)
        for place, value in zip(places, values, strict=True):
            axes.text(value, place, f" {value:+.1f} % ", va="center", ha="left" if value > 0 else "right", fontsize=8)
    axes.set_yticks(range(len(rows)), [f"{anchor}, {metric}" for anchor, metric in rows])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlabel="bits at equal quality, beside the peer (BD-rate, Kodak)", xlim=(-68, 22))
    axes.legend(frameon=False, loc="lower left")
    return figure


def kodak_images(source: Path) -> Figure:
    """Every image at the middle of each codec's range, beside the average curves."""
    data = json.loads(source.read_text())
    figure, axes = _figure(7, 4)
    for codec, quality in (("jahp", 4), ("mlic++", 4), ("mcquic", 4), ("WebP", 10), ("AVIF", 40)):
        points = [(r["bpp"], r["psnr"]) for r in data["records"] if r["codec"] == codec and r["quality"] == quality]
        curve = sorted((r["bpp"], r["psnr"]) for r in data["averages"] if r["codec"] == codec)
        axes.scatter(*zip(*points, strict=True), s=14, color=COLOURS[codec], label=f"{codec}, quality {quality}")
        axes.plot(*zip(*curve, strict=True), linewidth=1, color=COLOURS[codec], alpha=0.5)
    axes.set(xlabel="bits per pixel (whole file)", ylabel="PSNR (dB, RGB)", xlim=(0, 1.0), ylim=(20, 40))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right", fontsize=8)
    return figure


def kernels(source: Path) -> Figure:
    """Of each kernel at 1080p: its rate as a multiple of its peer's."""
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    found = {r["name"]: r["ratio"] for r in lines if "1080p" in r["name"] and r.get("ratio")}
    found = {name: ratio for name, ratio in found.items() if not name.endswith("vs reference")}  # plain Python
    figure, axes = _figure(7, 0.28 * len(found) + 0.9)
    ordered = sorted(found, key=lambda name: found[name])
    colours = ["#2f5fb3" if found[name] >= 1 else "#c2303a" for name in ordered]
    axes.barh(range(len(ordered)), [found[name] for name in ordered], color=colours)
    for place, name in enumerate(ordered):
        axes.text(found[name], place, f" {found[name]:.2g}x", va="center", fontsize=8)
    axes.set_yticks(range(len(ordered)), ordered, fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(min(found.values()) / 1.5, 3 * max(found.values()))
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times as fast as its peer (logarithmic)")
    return figure


FIGURES: dict[str, tuple[str, Callable[[Path], Figure]]] = {
    "bd_rate": ("kodak.json", bd_rate),
    "kernels": ("kernels-h100.jsonl", kernels),
    "kodak_images": ("kodak.json", kodak_images),
}


def main(folder: Path) -> None:
    for name, (source, draw) in FIGURES.items():
        digest = hashlib.sha256((folder / source).read_bytes()).hexdigest()
        target = folder / "pictures" / f"{name}.png"
        draw(folder / source).savefig(target, dpi=110, metadata={"Source": f"{source} sha256:{digest}"})
        print(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
