"""The cards of the weights that ship in the package."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


@lru_cache(maxsize=1)
def cards() -> dict[str, dict[str, Any]]:
    """Name -> card of the weights that ship with the package: architecture, training data, results, fingerprint."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(WEIGHTS.glob("*.json"))}
