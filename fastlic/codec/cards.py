"""The cards of the weights that ship in the package."""

from __future__ import annotations

import difflib
import errno
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastlic.arguments import checked

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


@lru_cache(maxsize=1)
def cards() -> dict[str, dict[str, Any]]:
    """Name -> card of the weights that ship with the package: architecture, training data, results, fingerprint."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(WEIGHTS.glob("*.json"))}


@checked
def unknown(name_or_path: str | os.PathLike[str]) -> ValueError | OSError:
    """The error for what is neither a codec file nor the name of shipped weights: of a path the system's own."""
    text = os.fspath(name_or_path)
    seps = [sep for sep in (os.sep, os.altsep) if sep]
    if not isinstance(name_or_path, str) or text.endswith(".safetensors") or any(sep in text for sep in seps):
        number = errno.EISDIR if os.path.isdir(text) else errno.ENOENT
        return OSError(number, os.strerror(number), text)  # of the class that belongs to the number
    names = list(cards())
    near = [name for name in names if name == text.lower()] or difflib.get_close_matches(text.lower(), names)
    guess = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return ValueError(f"{text!r} is neither a codec file nor one of the shipped weights ({', '.join(names)}){guess}")


@checked
def shipped_with(fingerprint: str, version: int) -> str | None:
    """Name of the shipped weights that a stream names.

    Args:
        fingerprint: as the stream has it, in hexadecimal.
        version: of the stream's format; it says which fingerprint of a codec that is.
    """
    key = "fingerprint" if version > 1 else "entropy_fingerprint"
    return next((name for name, card in cards().items() if card[key] == fingerprint), None)


@checked
def shipped_reading(fingerprint: str) -> str | None:
    """Name of shipped weights that decode streams of format version 2 of another codec, in hexadecimal."""
    return next((name for name, card in cards().items() if fingerprint in card.get("reads", [])), None)
