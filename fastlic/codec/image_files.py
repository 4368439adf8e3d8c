"""Image files <-> arrays and tensors through Pillow, with every conversion refused or told, never silent."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from fastlic import config
from fastlic.arguments import checked
from fastlic.codec.container import Metadata
from fastlic.codec.sources import Readable, open_file, read_from
from fastlic.errors import FastlicError
from fastlic.forks import held_off

if TYPE_CHECKING:  # torch is imported where somebody asks for a tensor
    from torch import Tensor

WRITTEN = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".pgm", ".ppm", ".tif", ".tiff")
SUFFIXES = (*WRITTEN, ".pbm")  # of files that are read

# What Pillow needs to know beside the suffix, so that a decoded image is not degraded a second time unasked.
_SAVE_OPTIONS: dict[str, dict[str, object]] = {
    ".webp": {"lossless": True, "exact": True},
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".avif": {"quality": 95, "subsampling": "4:4:4"},
}


# Formats that hold metadata, and those that hold an alpha channel.
_WITH_METADATA = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff")
_WITH_ALPHA = (".png", ".webp", ".avif", ".tif", ".tiff")
_PNG_XMP, _TIFF_XMP, _ORIENTATION = "XML:com.adobe.xmp", 700, 0x0112
EXIF_MARK = b"Exif\0\0"  # what JPEG and Pillow have before the TIFF header

# By channels: Pillow's mode, and the colour space that a profile of such pixels names at its byte 16.
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
PROFILE_SPACES = {1: b"GRAY", 2: b"GRAY", 3: b"RGB ", 4: b"RGB "}


# Told how many bytes encode_image has written, each time that it writes some. A command sets it to show how far it is.
WATCH: ContextVar[Callable[[int], object] | None] = ContextVar("WATCH", default=None)


@dataclass(frozen=True)
class Picture:
    """An image file as the codec takes it."""

    array: np.ndarray  # uint8 [H, W, C], C as of read_image
    notes: tuple[str, ...]  # what was converted on the way, one short phrase each
    metadata: Metadata = Metadata()  # noqa: RUF009 - it is frozen

    @property
    def pixels(self) -> Tensor:
        """A tensor uint8 [C, H, W] of its own."""
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
def read_image(
    source: Image.Image | str | os.PathLike[str] | Readable,
    background: str | None = None,
    max_pixels: int | None = None,
    *,
    channels: int | None = 3,
) -> Picture:
    """Read an image in 8 bits, upright as its EXIF orientation says, with its colour profile, EXIF and XMP.

    Args:
        source: the path of a file of one of ``formats()``, whatever its suffix; of several frames the first is taken.
            Or a binary file, read from its start; or an image of Pillow's.
        background: colour (``"white"``, ``"#aabbcc"``) under a transparent image.
        max_pixels: as of ``Codec.compress``.
        channels: 3: RGB; None: what the image has, 1 (grey) or 3, and one more if it is transparent somewhere.

    Raises:
        TypeError: none of these.
        OSError: the file cannot be read.
        PixelLimitError: more pixels than ``max_pixels``, before any is decoded.
        ValueError: no readable image, more than 8 bits per sample, or, of 3 channels,
            transparency without a background; the message says which.
    """
    source = _checked(source)
    if background is not None:
        colour_of(background)  # of opaque images too: a misspelt one is told at the first image
    try:
        with _opened(source) as image:
            config.check_pixels(image.height, image.width, max_pixels)
            _check(image)
            picture = _convert(image, background, channels)
    except UnidentifiedImageError as error:
        words = f"no image that Pillow can read as {', '.join(formats())}"
        raise ValueError(f"{words}{'; it is compressed already' if _is_stream(source) else ''}") from error
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
    return picture


def _is_stream(source: Any) -> bool:
    """Whether a file that is no image is a ``.flic`` file."""
    if isinstance(source, str | os.PathLike):
        with open_file(source, "") as file:
            return file.read(4) == b"FLIC"
    source.seek(0)
    return bool(source.read(4) == b"FLIC")


_opening = threading.Lock()  # Pillow's limit is a global


def _checked(source: Any) -> Any:
    """``source``, if it is of a kind that is read; the content of a file that cannot be sought in."""
    if isinstance(source, Image.Image | str | os.PathLike):
        return source
    if not callable(getattr(source, "read", None)):
        wanted = (
            "a torch.Tensor (of fastlic.compress alone), a numpy array, an image of Pillow's, a path or a binary file"
        )
        raise TypeError(f"expected an image: {wanted}; got {type(source).__name__}{_hint(source)}")
    if isinstance(source, io.TextIOBase) or not (hasattr(source, "seekable") and source.seekable()):
        return io.BytesIO(read_from(source))
    if hasattr(source, "readable") and not source.readable():
        read_from(source)  # which refuses it
    return source


def _hint(source: Any) -> str:
    """What makes an image of something that is none."""
    if isinstance(source, bytes | bytearray | memoryview):
        return "; the bytes of an image file: io.BytesIO(x)"
    if isinstance(source, list | tuple):
        return "; one image at a time, or a tensor [B, C, H, W]"
    if type(source).__name__ == "Tensor":
        return "; fastlic.compress takes it, or x.permute(1, 2, 0).numpy()"
    return ""


@contextmanager
def _opened(source: Any) -> Iterator[Image.Image]:
    if isinstance(source, Image.Image):
        yield source
    elif isinstance(source, str | os.PathLike):
        with open_file(source, "a str is taken for the path of an image") as file, _open(file) as image:
            yield image
    else:
        with _open(source) as image:
            yield image


def _open(file: Any) -> Image.Image:
    """The file with its head read; ``config.check_pixels`` decides what is too large, not Pillow's own limit."""
    with held_off, _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats())
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@checked
def colour_of(name: str) -> tuple[int, ...]:
    """Red, green and blue, 0 to 255, of a colour ("white", "#aabbcc").

    Raises:
        ValueError: no such colour.
    """
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise ValueError(f"unknown colour {name!r}: use a name or #rrggbb") from error


@checked
def format_of(suffix: str) -> str:
    """Pillow's name of the format that ``suffix`` (".png") names, to ask before there are pixels.

    Raises:
        ValueError: a suffix that is not written.
    """
    name = Image.registered_extensions().get(suffix.lower())
    if name is None or name not in Image.SAVE or suffix.lower() not in WRITTEN:
        raise ValueError(f"cannot write {suffix or 'a file without a suffix'}: choose one of {', '.join(WRITTEN)}")
    return name


@checked
def encode_image(pixels: np.ndarray, suffix: str, metadata: Metadata | None = None) -> bytes:
    """The bytes of an image file of the format that ``suffix`` names (".png"); WebP is written lossless.

    Args:
        pixels: uint8 [H, W] or [H, W, 1] grey, [H, W, 3] RGB, [H, W, 2] and [H, W, 4] with alpha.
        metadata: what the file shall hold; formats that hold none (BMP, PPM) go without.

    Raises:
        ValueError: no such pixels, a suffix that is not written, alpha or colour where the format has none, or metadata
            that are damaged or too long for it.
    """
    name = format_of(suffix)
    out = _Watched()
    suffix = suffix.lower()
    given = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] not in MODES or 0 in given.shape:
        raise ValueError(f"pixels must be uint8 [H, W, 1 to 4], got {pixels.dtype} {list(pixels.shape)}")
    mode = MODES[given.shape[2]]
    if mode.endswith("A") and suffix not in _WITH_ALPHA:
        raise ValueError(f"{suffix} holds no transparency: choose one of {', '.join(_WITH_ALPHA)}")
    if suffix == ".pgm" and mode != "L":  # Pillow would write PPM under that name
        raise ValueError(".pgm holds grey images alone: choose .ppm")
    image = Image.fromarray(np.ascontiguousarray(given[:, :, 0] if mode == "L" else given))
    options = dict(_SAVE_OPTIONS.get(suffix, {}))
    if metadata and suffix in _WITH_METADATA:
        options |= _metadata_options(metadata, suffix)
    try:
        image.save(out, name, **options)
    except Exception as error:  # SyntaxError, say, of EXIF that is none; pixels alone are always written
        if not metadata:
            raise
        raise ValueError(f"{suffix} cannot hold this image with its metadata: {error}") from error
    return out.getvalue()


class _Watched(io.BytesIO):
    """Tells ``WATCH`` of what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self._see = WATCH.get()

    def write(self, data: Any) -> int:
        if self._see is not None:
            self._see(len(data))
        return super().write(data)


@checked
def keeps_metadata(suffix: str) -> bool:
    """Whether image files of that suffix (".png") hold colour profiles, EXIF and XMP."""
    return suffix.lower() in _WITH_METADATA


def _metadata_options(metadata: Metadata, suffix: str) -> dict[str, object]:
    """Arguments of Pillow's ``save``."""
    options: dict[str, object] = {}
    if metadata.icc_profile:
        options["icc_profile"] = metadata.icc_profile
    if metadata.exif:
        options["exif"] = EXIF_MARK + metadata.exif
    if metadata.xmp and suffix == ".png":
        text = PngInfo()
        text.add_itxt(_PNG_XMP, metadata.xmp.decode("utf-8", "replace"))
        options["pnginfo"] = text
    elif metadata.xmp and suffix in (".tif", ".tiff"):
        exif = Image.Exif()  # of TIFF it is the directory that holds everything
        exif.load(EXIF_MARK + metadata.exif)
        exif[_TIFF_XMP] = metadata.xmp
        options["exif"] = exif
    elif metadata.xmp:
        options["xmp"] = metadata.xmp
    return options


def _check(image: Image.Image) -> None:
    # Pillow drops the low bytes of 16-bit colour without a word; only the raw mode of its decoder tells.
    # Of PPM its arguments do: the mode and the largest value.
    told = [tile[3] for tile in getattr(image, "tile", ())]
    raw_modes = " ".join(map(str, told))
    wide = any(isinstance(own, tuple) and isinstance(own[-1], int) and own[-1] > 255 for own in told)
    if (
        image.mode.startswith(("I", "F"))
        or ";16" in raw_modes
        or ";32" in raw_modes
        or (image.format == "PPM" and wide)
    ):
        raise ValueError("more than 8 bits per sample: fastlic codes 8-bit images; convert it to 8 bits first")


def _convert(image: Image.Image, background: str | None, channels: int | None) -> Picture:
    notes = []
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"the first of {frames} frames")
    told = getattr(image, "tag_v2", {}).get(_ORIENTATION)  # of TIFF, which Pillow turns as it decodes
    image = _with_sound_exif(image, notes)
    upright = ImageOps.exif_transpose(image)
    if {told, image.getexif().get(_ORIENTATION)} & set(range(2, 9)):
        notes.append("turned upright (EXIF)")
    given, metadata = upright, _metadata(upright, notes)
    if upright.has_transparency_data:
        upright = upright.convert("LA" if upright.mode in ("1", "L", "LA", "La") else "RGBA")
        if upright.getchannel("A").getextrema() == (255, 255):
            notes.append("opaque alpha channel dropped")
            upright = upright.convert(upright.mode[:-1])
        elif channels == 3 or background is not None:
            upright = _on_background(upright.convert("RGBA"), background, notes)
    if upright.mode == "1" or (upright.mode == "P" and channels is None and _is_grey(upright)):
        upright = upright.convert("L")
    if upright.mode == "L" and channels == 3:
        notes.append("grey converted to RGB")
    if upright.mode not in ("L", "LA", "RGB", "RGBA", "P"):
        notes.append(f"{upright.mode} converted to RGB")
    if upright.mode not in MODES.values() or channels == 3:
        upright = upright.convert("RGB")
    array = np.array(upright)
    array = array if array.ndim == 3 else array[:, :, None]
    profile = _profile(given, array.shape[2], notes)
    return Picture(array, tuple(notes), replace(metadata, icc_profile=profile))


def _with_sound_exif(image: Image.Image, notes: list[str]) -> Image.Image:
    """The image, or a copy without EXIF if what it has cannot be read."""
    image.load()  # of PNG it may lie behind the pixels, whose damage is another matter
    try:
        image.getexif()
        Image.Exif().load(image.info.get("exif") or b"")  # the first call may have failed, unheard, within Pillow
    except Exception:  # Pillow lets through whatever damaged bytes lead to
        notes.append("EXIF not kept: it is damaged")
        image = image.copy()
        for name in ("exif", "Raw profile type exif"):
            image.info.pop(name, None)
    return image


@lru_cache(maxsize=64)
def _is_srgb(profile: bytes) -> bool:
    """Whether colours of this profile and those of sRGB are the same, to one level of 255."""
    try:
        of_file = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        to_srgb = ImageCms.buildTransform(of_file, ImageCms.createProfile("sRGB"), "RGB", "RGB")
        levels = np.linspace(0, 255, 16).round().astype(np.uint8)
        colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(64, 64, 3)
        found = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), to_srgb))
    except (OSError, ImageCms.PyCMSError, ImportError):
        return False
    return bool((np.abs(found.astype(np.int16) - colours) <= 1).all())


def _is_grey(image: Image.Image) -> bool:
    """Whether all colours of a palette are grey."""
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _profile(image: Image.Image, channels: int, notes: list[str]) -> bytes:
    """The colour profile of an image, if it holds for its pixels after conversion to so many channels."""
    profile = bytes(image.info.get("icc_profile") or b"")
    if profile and _is_srgb(profile):
        return b""  # which is what pixels without a profile are
    # Pillow converts CMYK and Lab without a profile.
    own = image.mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")
    if profile and not (own and profile[16:20] == PROFILE_SPACES[channels]):
        notes.append("colour profile not kept: it is not of these pixels")
        return b""
    return profile


def _metadata(image: Image.Image, notes: list[str]) -> Metadata:
    """EXIF and XMP of an image."""
    own = image.getexif()
    exif = image.info.get("exif") or b"" if own else b""
    if not exif and {0x8769, 0x8825} & set(own):
        notes.append("EXIF not kept")  # of TIFF: it is spread over the file
    xmp = image.info.get("xmp") or image.info.get(_PNG_XMP) or getattr(image, "tag_v2", {}).get(_TIFF_XMP) or b""
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return Metadata(b"", bytes(exif).removeprefix(EXIF_MARK), bytes(xmp))


def _on_background(image: Image.Image, background: str | None, notes: list[str]) -> Image.Image:
    if background is None:
        raise ValueError("it is transparent in places, and opaque RGB is asked for: name a colour with --background")
    colour = colour_of(background)
    notes.append(f"transparency laid on {background}")
    canvas = Image.new("RGBA", image.size, (*colour, 255))
    return Image.alpha_composite(canvas, image).convert("RGB")
