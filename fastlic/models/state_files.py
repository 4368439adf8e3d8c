"""State dicts in safetensors files, cut into parts where one file would be too large."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor


def part_of(path: Path, number: int, parts: int) -> Path:
    """Where part ``number``, from 1, of weights too large for one file lies: ``NAME-1-of-2.safetensors``."""
    return path.with_name(f"{path.stem}-{number}-of-{parts}{path.suffix}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in ``path``, or in the parts that ``path`` was cut into.

    Raises:
        ValueError: there is neither the file nor all of its parts.
    """
    if path.is_file():
        return load_file(path)
    parts = sorted(path.parent.glob(f"{path.stem}-*-of-*{path.suffix}"))
    if not parts or [part_of(path, i + 1, len(parts)) for i in range(len(parts))] != parts:
        raise ValueError(f"no weights at {path}" + (f"; of its parts there are {len(parts)}" if parts else ""))
    return {name: value for part in parts for name, value in load_file(part).items()}
