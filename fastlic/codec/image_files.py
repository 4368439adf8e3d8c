"""Image files <-> arrays and tensors through Pillow, with every conversion refused or told, never silent."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from fastlic import config
from fastlic.arguments import checked
from fastlic.errors import FastlicError
from fastlic.forks import held_off

if TYPE_CHECKING:  # torch is imported where somebody asks for a tensor
    from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".ppm", ".tif", ".tiff")

# What Pillow needs to know beside the suffix, so that a decoded image is not degraded a second time unasked.
_SAVE_OPTIONS: dict[str, dict[str, object]] = {
    ".webp": {"lossless": True},
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".avif": {"quality": 95, "subsampling": "4:4:4"},
}


@dataclass(frozen=True)
class Picture:
    """An image file as the codec takes it."""

    array: np.ndarray  # uint8 [H, W, 3], RGB
    notes: tuple[str, ...]  # what was converted on the way, one short phrase each

    @property
    def pixels(self) -> Tensor:
        """A tensor uint8 [3, H, W] of its own."""
        import torch

        return torch.from_numpy(self.array).permute(2, 0, 1).contiguous()


@checked
def find_images(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Image files under ``folder`` with one of the suffixes, at any depth, sorted by path.

    Raises:
        ValueError: the folder does not exist or holds no such file.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not files:
        raise ValueError(f"{folder} holds no image ({', '.join(suffixes)})")
    return files


@lru_cache(maxsize=1)
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read: those of ``SUFFIXES`` that this Pillow has.

    Every other plugin stays out of reach of strangers' files, whatever those are called: Pillow's EPS runs Ghostscript.
    """
    known = Image.registered_extensions()
    return tuple(sorted({known[suffix] for suffix in SUFFIXES if known.get(suffix) in Image.OPEN}))


@checked
def read_image(path: Path | io.BytesIO, background: str | None = None, max_pixels: int | None = None) -> Picture:
    """Read an image file as 8-bit RGB, upright as its EXIF orientation says.

    Args:
        path: a file of one of ``formats()``, whatever its suffix, or its bytes; of several frames the first is taken.
        background: colour (``"white"``, ``"#aabbcc"``) under a transparent image.
        max_pixels: as of ``Codec.compress``.

    Raises:
        PixelLimitError: more pixels than ``max_pixels``, before any is decoded.
        ValueError: no readable image, more than 8 bits per sample, or
            transparency without a background; the message says which.
    """
    try:
        with _open(path) as image:
            config.check_pixels(image.height, image.width, max_pixels)
            _check(image)
            pixels, notes = _convert(image, background)
    except UnidentifiedImageError as error:
        raise ValueError(f"no image that Pillow can read as {', '.join(formats())}") from error
    except (Image.DecompressionBombError, SyntaxError, EOFError) as error:
        raise ValueError(f"no image that Pillow can read: {error}") from error
    except OSError as error:
        if error.errno is not None:  # a missing file or a denied one, in the system's own words
            raise
        raise ValueError(f"damaged image: {error}") from error
    except (FastlicError, ValueError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins let through whatever damaged content leads to
        raise ValueError(f"damaged image: {error}") from error
    return Picture(pixels, notes)


_opening = threading.Lock()  # Pillow's limit is a global


def _open(path: Path | io.BytesIO) -> Image.Image:
    """The file with its head read; ``config.check_pixels`` decides what is too large, not Pillow's own limit."""
    with held_off, _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=formats())
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@checked
def encode_image(pixels: np.ndarray, suffix: str) -> bytes:
    """The bytes of an image file of the format that ``suffix`` names (".png"); WebP is written lossless.

    Args:
        pixels: uint8 [H, W, 3], RGB.

    Raises:
        ValueError: no such pixels, or a suffix that Pillow cannot write.
    """
    suffix = suffix.lower()
    name = Image.registered_extensions().get(suffix)
    if name not in Image.SAVE or suffix not in SUFFIXES:
        raise ValueError(f"cannot write {suffix or 'a file without a suffix'}: choose one of {', '.join(SUFFIXES)}")
    out = io.BytesIO()
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"pixels must be uint8 [H, W, 3], got {pixels.dtype} {list(pixels.shape)}")
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, name, **_SAVE_OPTIONS.get(suffix, {}))
    return out.getvalue()


def _check(image: Image.Image) -> None:
    # Pillow drops the low bytes of 16-bit colour without a word; only the raw mode of its decoder tells.
    raw_modes = " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))
    if image.mode.startswith(("I", "F")) or ";16" in raw_modes or ";32" in raw_modes:
        raise ValueError("more than 8 bits per sample: fastlic codes 8-bit images; convert it to 8 bits first")


def _convert(image: Image.Image, background: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    notes = []
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"the first of {frames} frames")
    profile = image.info.get("icc_profile", b"")
    if profile and b"sRGB" not in profile and b"s\0R\0G\0B" not in profile:
        notes.append("colour profile not kept")
    upright = ImageOps.exif_transpose(image)
    if upright.size != image.size or image.getexif().get(0x0112, 1) != 1:
        notes.append("turned upright (EXIF)")
    if upright.has_transparency_data:
        upright = _on_background(upright.convert("RGBA"), background, notes)
    if upright.mode in ("1", "L"):
        notes.append("grey converted to RGB")
    elif upright.mode not in ("RGB", "P"):
        notes.append(f"{upright.mode} converted to RGB")
    return np.array(upright.convert("RGB")), tuple(notes)


def _on_background(image: Image.Image, background: str | None, notes: list[str]) -> Image.Image:
    if image.getchannel("A").getextrema() == (255, 255):
        notes.append("opaque alpha channel dropped")
        return image.convert("RGB")
    if background is None:
        raise ValueError("it is transparent in places, and fastlic codes opaque RGB: name a colour with --background")
    try:
        colour = ImageColor.getcolor(background, "RGB")
    except ValueError as error:
        raise ValueError(f"unknown colour {background!r}: use a name or #rrggbb") from error
    notes.append(f"transparency laid on {background}")
    canvas = Image.new("RGBA", image.size, (*colour, 255))  # type: ignore[misc]
    return Image.alpha_composite(canvas, image).convert("RGB")
