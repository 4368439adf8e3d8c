"""What ``accelerate`` did to a model, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One kind of module: where it is, what serves it now, and anything worth knowing.

    ``replaced`` is False for what stays CompressAI's own; ``note`` then says why.
    """

    part: str
    modules: tuple[str, ...]
    by: str
    note: str = ""
    replaced: bool = True


@dataclass
class Report:
    """Printable as a table.

    Attributes:
        model: class name of the model.
        format: "compressai" or "native".
        rows: one per kind of module.
        guarantee: who can decode the streams, and when.
        updated: whether ``update()`` had to be called first.
        conversions: entropy paths that run on integers now; ``save`` writes them.
        transforms: and g_a, h_a and g_s that do.
        refused: those that were to, and stayed float.
    """

    model: str
    format: str
    guarantee: str
    rows: list[Row] = field(default_factory=list)
    updated: bool = False
    conversions: list[Any] = field(default_factory=list)
    transforms: list[Any] = field(default_factory=list)
    refused: list[Any] = field(default_factory=list)

    def save(self, path: str | Path) -> None:
        """Write the integer conversion, for ``accelerate(model, calibration=path)`` elsewhere.

        Raises:
            ValueError: this model has none.
        """
        from fastlic.integrations.compressai.integer_transforms import stored
        from fastlic.integrations.compressai.integers import save

        if len(self.conversions) > 1 or not self.conversions + self.transforms:
            raise ValueError(f"{self.model} in format {self.format!r} has no integer conversion to save")
        save(self.conversions[0] if self.conversions else None, Path(path), *stored(self.transforms, self.refused))

    @property
    def replaced(self) -> list[Row]:
        return [row for row in self.rows if row.replaced]

    @property
    def left(self) -> list[Row]:
        return [row for row in self.rows if not row.replaced]

    def __str__(self) -> str:
        lines = [f"{self.model}, format {self.format!r}: {self.guarantee}"]
        if self.updated:
            lines.append("update() had not been called: done, the model now has its coding tables")
        cells = [("part", "modules", "now", "note")]
        cells += [
            (row.part, _names(row.modules), row.by if row.replaced else "unchanged", row.note) for row in self.rows
        ]
        widths = [max(len(line[i]) for line in cells) for i in range(4)]
        for line in cells:
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        return "\n".join(lines)


def _names(modules: Sequence[str]) -> str:
    rest = f" and {len(modules) - 1} more" if len(modules) > 1 else ""
    return (modules[0] or "(model)") + rest
