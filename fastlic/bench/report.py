"""What a run says: a table for people, JSON lines for comparison."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastlic import _native
from fastlic.bench.runner import Measurement

COLUMNS = ("case", "median ms", "p20", "p80", "rate", "peer", "peer rate", "ratio", "of roofline")


def machine() -> dict[str, Any]:
    import numpy
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "isa": _native.get_isa(),
        "ghz": round(_native.clock_ghz(), 2),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def row(result: Measurement) -> tuple[str, ...]:
    milliseconds = [f"{1e3 * result.seconds[key]:.3f}" for key in ("median", "p20", "p80")]
    rate = f"{_number(result.rate)} {result.unit}/s"
    peer_rate = f"{_number(result.peer_rate)} {result.unit}/s" if result.peer_rate else ""
    ratio = f"{result.ratio:.2f}x" if result.ratio else ""
    roofline = f"{100 * result.rate / result.roofline:.0f} %" if result.roofline else ""
    return (result.name, *milliseconds, rate, result.peer, peer_rate, ratio, roofline)


def table(results: list[Measurement]) -> str:
    rows = [COLUMNS, *(row(result) for result in results)]
    widths = [max(len(line[column]) for line in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    for result in results:
        details = [f"{result.bound} allows {_number(result.roofline)} {result.unit}/s" if result.roofline else ""]
        moved = result.extra.get("bytes_per_second")
        details.append(f"{_number(moved / 1e9)} GB/s" if moved else "")
        text = "; ".join(part for part in [*details, result.note] if part)
        if text:
            lines.append(f"  {result.name}: {text}")
    return "\n".join(lines)


def write_json(results: list[Measurement], path: Path) -> None:
    """One line per case, appended: runs of different days and machines live in one file."""
    about = machine()
    with path.open("a") as file:
        for result in results:
            file.write(json.dumps({**asdict(result), "machine": about}) + "\n")
