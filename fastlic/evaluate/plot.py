"""The rate-distortion figure: one line per codec."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence

from fastlic.errors import BackendUnavailable
from fastlic.evaluate.published import Curve
from fastlic.evaluate.report import Average

_PEER_COLOURS = ("#8a8a8a", "#c28a2c", "#4c8f5a", "#7a6fb0")
_OUR_COLOUR = "#c2303a"
_KINDS = (".png", ".svg", ".pdf")


def check(suffix: str) -> None:
    """Raise unless ``draw`` can make a figure of this kind.

    Raises:
        BackendUnavailable: matplotlib is not installed.
        ValueError: another suffix than .png, .svg or .pdf.
    """
    if suffix.lower() not in _KINDS:
        raise ValueError(f"figures are written as {', '.join(_KINDS)}; got {suffix or 'no suffix'}")
    if importlib.util.find_spec("matplotlib") is None:
        raise BackendUnavailable("--plot needs matplotlib: pip install 'fastlic[eval]'")


def draw(rows: Sequence[Average], ours: str, title: str, suffix: str, published: Sequence[Curve] = ()) -> bytes:
    """bpp against PSNR, as the bytes of a .png, .svg or .pdf file; raises as ``check`` does.

    Args:
        published: further curves, drawn dashed.
    """
    check(suffix)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)  # no display, no global state
    axes = figure.add_subplot()
    colours = iter(_PEER_COLOURS)
    names = list(dict.fromkeys(row.codec for row in rows))
    for name in [ours, *(n for n in names if n != ours)]:
        points = sorted((row.bpp, row.psnr) for row in rows if row.codec == name)
        style = (
            {"color": _OUR_COLOUR, "linewidth": 2.0, "zorder": 3}
            if name == ours
            else {"color": next(colours, "#555555")}
        )
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3.5, label=name, **style)
    for curve, grey in zip(published, ("#b8b8b8", "#8fa8c8", "#6f86ab", "#2c2c2c", "#bda27a"), strict=False):
        axes.plot(
            *zip(*curve.points, strict=True), linestyle="--", linewidth=1.0, color=grey, label=curve.name, zorder=1
        )
    # Peers reach rates far beyond ours; the figure shows the range in which there is something to compare.
    reach = [row.bpp for row in rows if row.codec == ours]
    axes.set_xlim(0, 1.15 * max(reach))
    inside = [row.psnr for row in rows if row.bpp <= 1.15 * max(reach)]
    inside += [psnr for curve in published for bpp, psnr in curve.points if bpp <= 1.15 * max(reach)]
    axes.set_ylim(min(inside) - 0.5, max(inside) + 0.5)
    axes.set(xlabel="bits per pixel (whole file)", ylabel="PSNR (dB, RGB)", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format=suffix.lstrip(".").lower(), dpi=160)
    return out.getvalue()
