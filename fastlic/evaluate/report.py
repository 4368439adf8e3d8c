"""Averages per quality, BD-rates, and both as text and JSON."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from fastlic.evaluate.bd_rate import bd_rate
from fastlic.evaluate.run import Record
from fastlic.files import check_types, read_json


@dataclass(frozen=True)
class Average:
    """Means over all images of one codec at one quality; PSNR and MS-SSIM are averaged per image, as the field does."""

    codec: str
    quality: float | None
    images: int
    bpp: float
    psnr: float
    ms_ssim: float | None
    ms_ssim_db: float | None
    compress_seconds: float
    decompress_seconds: float
    framing_bytes: float | None
    over_estimate: float | None  # per cent by which all sections together exceed the model's estimate
    same_latents: bool | None  # of every image


def averages(records: Sequence[Record]) -> list[Average]:
    """One row per codec and quality, in the order in which they first appear."""
    alike: dict[tuple[str, float | None], list[Record]] = {}
    for record in records:
        alike.setdefault((record.codec, record.quality), []).append(record)
    return [_average(codec, quality, own) for (codec, quality), own in alike.items()]


def _average(codec: str, quality: float | None, records: list[Record]) -> Average:
    def mean(of: Callable[[Record], float | None]) -> float | None:
        values = [value for record in records if (value := of(record)) is not None]
        return fmean(values) if values else None

    estimates = [r for r in records if r.estimated_bits is not None and r.framing_bytes is not None]
    estimated = sum(r.estimated_bits or 0.0 for r in estimates)
    coded = sum(8 * (r.size - (r.framing_bytes or 0)) for r in estimates)
    checks = [r.same_latents for r in records if r.same_latents is not None]
    return Average(
        codec=codec,
        quality=quality,
        images=len(records),
        bpp=fmean(r.bpp for r in records),
        psnr=fmean(r.psnr for r in records),
        ms_ssim=mean(lambda r: r.ms_ssim),
        ms_ssim_db=mean(lambda r: r.ms_ssim_db),
        compress_seconds=fmean(r.compress_seconds for r in records),
        decompress_seconds=fmean(r.decompress_seconds for r in records),
        framing_bytes=mean(lambda r: r.framing_bytes),
        over_estimate=100 * (coded / estimated - 1) if estimated else None,
        same_latents=all(checks) if checks else None,
    )


@dataclass(frozen=True)
class BdRate:
    """One BD-rate of ``codec``, per cent against ``anchor``; what is not defined is None, and ``reason`` says why."""

    codec: str
    anchor: str
    of_averages: float | None  # from the curves averaged over images
    over_images: float | None  # the mean of each image's own BD-rate
    reason: str | None = None
    metric: str = "PSNR"  # of ``METRICS``

    def text(self) -> str:
        """The result in one line."""
        parts = []
        if self.of_averages is not None:
            parts.append(f"{self.of_averages:+.2f} % from the averaged curves")
        if self.over_images is not None:
            parts.append(f"{self.over_images:+.2f} % on average over images")
        if self.reason is not None:
            parts.append(f"not defined for {self.reason}")
        return ", ".join(parts)


# What a BD-rate compares at, dB of a record or of an average.
METRICS: dict[str, Callable[[Record | Average], float | None]] = {
    "PSNR": lambda row: row.psnr,
    "MS-SSIM": lambda row: row.ms_ssim_db,
}


def bd_rates(records: Sequence[Record], codec: str, anchors: Sequence[str], metric: str = "PSNR") -> list[BdRate]:
    """BD-rate of ``codec`` against each anchor among the records, at equal ``metric``; none where that is missing."""
    rows = averages(records)
    results = []
    for anchor in anchors:
        pair = (anchor, codec)
        if any(METRICS[metric](row) is None for row in rows if row.codec in pair):
            continue
        try:
            mean = bd_rate(*(_curve(rows, name, metric) for name in pair))
        except ValueError as error:
            results.append(BdRate(codec, anchor, None, None, f"the averaged curves: {error}", metric))
            continue
        try:
            single = []
            for image in dict.fromkeys(r.image for r in records):
                own = [r for r in records if r.image == image]
                single.append(bd_rate(*(_curve(own, name, metric) for name in pair)))
            results.append(BdRate(codec, anchor, mean, fmean(single), None, metric))
        except ValueError as error:
            results.append(BdRate(codec, anchor, mean, None, f"{image}: {error}", metric))
    return results


def _curve(rows: Sequence[Record] | Sequence[Average], codec: str, metric: str) -> list[tuple[float, float]]:
    """(bpp, dB) of one codec's rows."""
    decibels = METRICS[metric]
    return [(row.bpp, found) for row in rows if row.codec == codec and (found := decibels(row)) is not None]


# Column title and what a row shows there; a column whose every cell is None is left out.
_COLUMNS: tuple[tuple[str, Callable[[Average], str | None]], ...] = (
    ("codec", lambda a: a.codec),
    ("quality", lambda a: "fixed" if a.quality is None else f"{a.quality:g}"),
    ("bpp", lambda a: f"{a.bpp:.4f}"),
    ("PSNR dB", lambda a: f"{a.psnr:.3f}"),
    ("MS-SSIM", lambda a: None if a.ms_ssim is None else f"{a.ms_ssim:.5f}"),
    ("MS-SSIM dB", lambda a: None if a.ms_ssim_db is None else f"{a.ms_ssim_db:.3f}"),
    ("compress s", lambda a: f"{a.compress_seconds:.3f}"),
    ("decompress s", lambda a: f"{a.decompress_seconds:.3f}"),
    ("framing B", lambda a: None if a.framing_bytes is None else f"{a.framing_bytes:.1f}"),
    ("over estimate %", lambda a: None if a.over_estimate is None else f"{a.over_estimate:+.3f}"),
    ("latents", lambda a: None if a.same_latents is None else ("identical" if a.same_latents else "DIFFERENT")),
)


def table(rows: Sequence[Average]) -> str:
    """The rows as aligned text."""
    cells = [[show(row) for _, show in _COLUMNS] for row in rows]
    kept = [i for i in range(len(_COLUMNS)) if any(line[i] is not None for line in cells)]
    text = [[_COLUMNS[i][0] for i in kept], *([line[i] or "" for i in kept] for line in cells)]
    widths = [max(len(line[i]) for line in text) for i in range(len(kept))]
    first = [line[0].ljust(widths[0]) for line in text]
    rest = ["  ".join(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)) for line in text]
    return "\n".join(f"{a}  {b}".rstrip() for a, b in zip(first, rest, strict=True))


def to_json(records: Sequence[Record], results: Sequence[BdRate], about: dict[str, Any]) -> dict[str, Any]:
    """Everything of one run, with what is needed to repeat it; infinite PSNR becomes null."""
    return {
        **about,
        "machine": {
            "platform": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
        "bd_rate": [asdict(result) for result in results],
        "averages": [_finite(asdict(row)) for row in averages(records)],
        "records": [_finite({**asdict(record), "bpp": record.bpp}) for record in records],
    }


def read_records(path: Path) -> list[Record]:
    """The records in a file that ``to_json`` made; a null PSNR is infinite again.

    Raises:
        ValueError: no such file, or other content.
    """
    try:
        rows = read_json(path)["records"]
        if not isinstance(rows, list) or not rows:
            raise ValueError("no list of them")
        return [_record(row) for row in rows]
    except KeyError as error:
        raise ValueError(f"{path} holds no records of `fastlic eval --json`: there is no {error}") from error
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no records of `fastlic eval --json`: {error}") from error


def _record(row: Mapping[str, Any]) -> Record:
    known = {f.name: row[f.name] for f in fields(Record) if f.name in row}
    if known["psnr"] is None:
        known["psnr"] = 100.0  # any number: infinity is none that the check takes
    check_types(Record, known)
    if min(known["height"], known["width"], known["size"]) < 1:
        raise ValueError("an image or a file of size 0")
    return Record(**{**known, "psnr": math.inf if row["psnr"] is None else row["psnr"]})


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
