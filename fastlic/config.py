"""What is used where nobody chooses, and every environment variable: no other module reads ``os.environ``."""

from __future__ import annotations

import os
from pathlib import Path

from fastlic.arguments import is_whole
from fastlic.errors import PixelLimitError

DEFAULT_MODEL = "jahp"
DEFAULT_QUALITY = 4

MAX_PIXELS_VARIABLE = "FASTLIC_MAX_PIXELS"
KODAK_VARIABLE = "FASTLIC_KODAK"
COMPRESSAI_ANS_VARIABLE = "COMPRESSAI_ANS"

# Pillow's figure, 2^30 / 4 / 3: what Pillow opens without a warning is compressed and decompressed without a word.
# Above it Pillow warns, and refuses twice as much; here it is an error at once, since a pixel takes hundreds of bytes
# while transforms run, not three (docs/limits.md has figures). That is above most cameras; services that decode
# what strangers send should allow less.
DEFAULT_MAX_PIXELS = 89_478_485
# Transforms run on whole cells, so thin images cost more than their pixels: 1 x 1,000,000 as much as 16 x 1,000,000.
_PADDED_TIMES = 2  # what padding may make of the limit
_PADDED_FREE = 1 << 16  # pixels that no limit minds


def max_pixels(limit: int | None = None) -> int:
    """Largest height x width that is read or written, in pixels.

    Args:
        limit: what the caller allows; None: ``FASTLIC_MAX_PIXELS``, or without it 89,478,485.

    Raises:
        ValueError: neither is a positive integer.
    """
    if limit is not None:
        if not is_whole(limit) or limit < 1:
            raise ValueError(f"max_pixels must be a positive integer, got {limit!r}")
        return int(limit)
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if text is None:
        return DEFAULT_MAX_PIXELS
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"{MAX_PIXELS_VARIABLE} must be a positive integer, got {text!r}")
    return int(text)


def check_pixels(height: int, width: int, limit: int | None = None, padded: tuple[int, int] | None = None) -> None:
    """Hold an image, or what claims to be one, to the limit of :func:`max_pixels`.

    Args:
        padded: (height, width) that the work is done on, if that is more.

    Raises:
        PixelLimitError: what was claimed, what the limit is, how to raise it.
        ValueError: the limit itself is none.
    """
    most = max_pixels(limit)
    rows, columns = padded or (height, width)
    size = f"{height} x {width} (height x width)"
    if height * width > most:
        size += f", {height * width} pixels, "
    elif rows * columns > max(_PADDED_TIMES * most, _PADDED_FREE):
        size += f", so thin that it is coded as {rows} x {columns} and costs {rows * columns} pixels, "
    else:
        return
    raise PixelLimitError(
        f"the image is {size}above the limit of {most} pixels; if it can be trusted, raise the limit with the argument "
        f"max_pixels, the option --max-pixels or the environment variable {MAX_PIXELS_VARIABLE}"
    )


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
