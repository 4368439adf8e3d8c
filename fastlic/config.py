"""Every environment variable that fastlic reads; no other module touches ``os.environ``."""

from __future__ import annotations

import os
from pathlib import Path

MAX_PIXELS_VARIABLE = "FASTLIC_MAX_PIXELS"
KODAK_VARIABLE = "FASTLIC_KODAK"
COMPRESSAI_ANS_VARIABLE = "COMPRESSAI_ANS"

# 128 Mpixel: above any current camera, and low enough that a forged header cannot ask for tens of gigabytes.
DEFAULT_MAX_PIXELS = 1 << 27


def max_pixels() -> int:
    """Largest height x width that is read or written, in pixels; ``FASTLIC_MAX_PIXELS`` replaces the default of 2^27.

    Raises:
        ValueError: the variable is set to something other than a positive integer.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if text is None:
        return DEFAULT_MAX_PIXELS
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"{MAX_PIXELS_VARIABLE} must be a positive integer, got {text!r}")
    return int(text)


def kodak_folder() -> Path | None:
    """The folder of the 24 Kodak images that ``FASTLIC_KODAK`` names, or None; only tests and figures ask."""
    text = os.environ.get(KODAK_VARIABLE)
    return Path(text) if text else None


def compressai_ans() -> Path | None:
    """The file of CompressAI's coder extension that ``COMPRESSAI_ANS`` names, or None; only benchmarks ask."""
    text = os.environ.get(COMPRESSAI_ANS_VARIABLE)
    return Path(text) if text else None


def triton_interpreter() -> bool:
    """Whether ``TRITON_INTERPRET`` asks Triton to run kernels on the CPU, one operation at a time."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")
