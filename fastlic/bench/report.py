"""What a run says: a table for people, JSON lines for comparison."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
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

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "isa": _native.get_isa(),
        "ghz": round(_native.clock_ghz(), 2),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def about() -> str:
    """The machine in one line."""
    return ", ".join(f"{key} {value}" for key, value in machine().items() if value)


def parser(module: str, words: str | None) -> argparse.ArgumentParser:
    """Of ``python -m MODULE``, whose documentation is its help."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}", description=words, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def progress(text: str = "") -> None:
    """What is being measured, in place of what was, on the last line of a terminal."""
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of a table whose first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], tuple("-" * width for width in widths), *rows[1:]]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


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
    lines = columns([COLUMNS, *(row(result) for result in results)])
    for result in results:
        details = [f"{result.bound} allows {_number(result.roofline)} {result.unit}/s" if result.roofline else ""]
        moved = result.extra.get("bytes_per_second")
        details.append(f"{_number(moved / 1e9)} GB/s" if moved else "")
        text = "; ".join(part for part in [*details, result.note] if part)
        if text:
            lines.append(f"  {result.name}: {text}")
    return "\n".join(lines)


def write_json(result: Measurement, path: Path) -> None:
    """One line per case, appended: runs of different days and machines live in one file."""
    with path.open("a") as file:
        file.write(json.dumps({**asdict(result), "machine": machine()}) + "\n")
