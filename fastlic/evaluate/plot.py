"""The rate-distortion figure: one line per codec."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from fastlic.errors import optional
from fastlic.evaluate.published import Curve
from fastlic.evaluate.report import Average

_PEER_COLOURS = ("#8a8a8a", "#c28a2c", "#4c8f5a", "#7a6fb0")
_OUR_COLOURS = ("#c2303a", "#2f5fb3", "#d9822b", "#1f7a4d")
_KINDS = (".png", ".svg", ".pdf")


def check(suffix: str) -> None:
    """Raise unless ``draw`` can make a figure of this kind.

    Raises:
        BackendUnavailable: matplotlib is not installed.
        ValueError: another suffix than .png, .svg or .pdf.
    """
    if suffix.lower() not in _KINDS:
        raise ValueError(f"figures are written as {', '.join(_KINDS)}; got {suffix or 'no suffix'}")
    optional("matplotlib", "eval")


def draw(
    rows: Sequence[Average], ours: Sequence[str], title: str, suffix: str, published: Sequence[Curve] = ()
) -> bytes:
    """bpp against PSNR, and against MS-SSIM if every row has it, as the bytes of a .png, .svg or .pdf file.

    Args:
        ours: names of the codecs to show in colour, of which one at least has rows.
        published: further curves of PSNR, drawn dashed.

    Raises:
        BackendUnavailable, ValueError: as ``check`` does; or ``ours`` has no rows.
    """
    check(suffix)
    if not any(row.codec in ours for row in rows):
        raise ValueError(f"there is nothing to draw: no record is of {' or '.join(ours)}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    both = all(row.ms_ssim_db is not None for row in rows)
    figure = Figure(figsize=(11.0 if both else 6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)  # no display, no global state
    panels = figure.subplots(1, 2 if both else 1, squeeze=False)[0]
    _panel(panels[0], rows, ours, published, lambda row: row.psnr)
    panels[0].set(ylabel="PSNR (dB, RGB)")
    if both:
        _panel(panels[1], rows, ours, (), lambda row: row.ms_ssim_db or 0.0)
        panels[1].set(ylabel="MS-SSIM (dB)")
    for axes in panels:
        axes.set_title(title).set_parse_math(False)  # of names, in which a dollar is a dollar
    out = io.BytesIO()
    figure.savefig(out, format=suffix.lstrip(".").lower(), dpi=160 if not both else 120)
    return out.getvalue()


def _panel(
    axes: Any,
    rows: Sequence[Average],
    ours: Sequence[str],
    published: Sequence[Curve],
    quality: Callable[[Average], float],
) -> None:
    names = list(dict.fromkeys(row.codec for row in rows))
    peers = [name for name in names if name not in ours]
    colours = dict(zip(ours, _OUR_COLOURS, strict=False)) | dict(zip(peers, _PEER_COLOURS, strict=False))
    for name in [*(n for n in ours if n in names), *peers]:
        points = sorted((row.bpp, quality(row)) for row in rows if row.codec == name)
        style: dict[str, Any] = {"marker": "o", "markersize": 3.5, "color": colours.get(name, "#555555")}
        if name in ours:
            style |= {"linewidth": 2.0, "zorder": 3}
        if len(points) == 1:
            style |= {"markersize": 7.0, "linestyle": "none"}
        axes.plot(*zip(*points, strict=True), label=name, **style)
    for curve, grey in zip(published, ("#b8b8b8", "#8fa8c8", "#6f86ab", "#2c2c2c", "#bda27a"), strict=False):
        axes.plot(
            *zip(*curve.points, strict=True), linestyle="--", linewidth=1.0, color=grey, label=curve.name, zorder=1
        )
    # Peers reach rates far beyond ours; the figure shows the range in which there is something to compare.
    reach = 1.15 * max(row.bpp for row in rows if row.codec in ours)
    axes.set_xlim(0, reach)
    inside = [quality(row) for row in rows if row.bpp <= reach]
    inside += [psnr for curve in published for bpp, psnr in curve.points if bpp <= reach]
    axes.set_ylim(min(inside) - 0.5, max(inside) + 0.5)
    axes.set(xlabel="bits per pixel (whole file)")
    axes.grid(alpha=0.3)
    for text in axes.legend(loc="lower right", frameon=False).get_texts():
        text.set_parse_math(False)
