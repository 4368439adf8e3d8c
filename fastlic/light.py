"""numpy arrays to ``.flic`` bytes and back without torch: for programs that start often or have little memory.

    x = fastlic.light.decompress(data)            # uint8 [H, W, 3], [H, W] of grey images
    data = fastlic.light.compress(x, quality=4)

The core does it all, by the integers of the codec file: bytes and pixels are those of ``fastlic.compress`` and
``fastlic.decompress``, bit for bit. Codec files with float transforms, GPUs and batches need those.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import fastlic
from fastlic import config
from fastlic.arguments import is_whole
from fastlic.codec import container, hub
from fastlic.codec.cards import WEIGHTS, cards, shipped_reading, shipped_with, unknown
from fastlic.codec.sources import Readable, Stream, model_and_quality, picture_of, stream_of
from fastlic.codec.targets import goal_of, psnr, quality_of, search
from fastlic.eager import uncompiled
from fastlic.errors import CodecFileError, ModelMismatchError, memory_errors
from fastlic.ops.codec_file import NativeCodec, require_instruction_set

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Codec", "compress", "decompress", "load", "psnr"]

Codec = NativeCodec


@lru_cache(maxsize=4)
def _opened(path: Path, changed: int, digest: str | None) -> Codec:
    require_instruction_set()
    data = path.read_bytes()
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise CodecFileError(f"{path} is damaged: its SHA-256 is not {digest}; install fastlic anew")
    try:
        return Codec(data)
    except ValueError as error:
        raise CodecFileError(f"{path}: {error}") from error


def load(name_or_path: str | os.PathLike[str]) -> Codec:
    """A codec by the name of shipped weights, from a codec file or from the hub; the last four stay in memory.

    ``hf://org/name`` is as of ``fastlic.load``.

    Raises:
        CodecFileError: a file that is no codec, a damaged one, or one with float transforms.
        FileNotFoundError, ValueError, BackendUnavailable: as of ``fastlic.load``.
        TypeError: neither text nor a path.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise TypeError(f"a codec is a name, a path or what fastlic.light.load gives, got {_named(name_or_path)}")
    name_or_path = hub.fetched(name_or_path if isinstance(name_or_path, str) else Path(name_or_path))
    shipped = cards().get(name_or_path) if isinstance(name_or_path, str) else None
    path = WEIGHTS / f"{name_or_path}.safetensors" if shipped else Path(name_or_path)
    if not path.is_file():
        raise unknown(name_or_path)
    return _opened(path.resolve(), path.stat().st_mtime_ns, None if shipped is None else shipped["sha256"])


@uncompiled
def compress(
    x: NDArray[np.uint8] | Image.Image | str | os.PathLike[str] | Readable,
    model: str | os.PathLike[str] | Codec | float = fastlic.DEFAULT_MODEL,
    quality: float | None = None,
    *,
    target_bpp: float | None = None,
    target_bytes: float | None = None,
    target_psnr: float | None = None,
    effort: int = 0,
    threads: int = 0,
    max_pixels: int | None = None,
    metadata: container.Metadata | None = None,
    progress: Callable[[float], object] | None = None,
) -> bytes:
    """Compress an image.

    Args:
        x: uint8 [H, W, 3]; [H, W] or [H, W, 1] for grey; [H, W, 4] and [H, W, 2] with alpha, kept without loss. Or an
            image of Pillow's, the path of an image file or a binary file that holds one, upright as EXIF says
            (``fastlic.codec.image_files.read_image``).
        model: name of shipped weights, path of a codec file, or what ``load`` gave. A number here is the quality.
        quality: 1 (smallest) to 8 (best), fractions allowed (kept to 1/16); None: 4. Of no meaning to a codec of one
            rate.
        target_bpp, target_bytes, target_psnr: one of them in place of a quality, as of ``fastlic.compress``.
        effort: 0; higher ones take ``fastlic.compress``.
        threads: how many to use; 0: one per core.
        max_pixels, metadata: as of ``fastlic.compress``.
        progress: called now and then with the share of the time that is over, about, from 0 to 1, by the thread that
            calls; not at all by a short call. What it raises ends the call. A target begins at 0 again for each quality
            that it tries. Ctrl-C ends the call with and without ``progress``.

    Raises:
        TypeError, ValueError: no such image, model or quality.
        OSError: a file that cannot be read.
        PixelLimitError, OutOfMemoryError: as of ``fastlic.compress``.
    """
    if not isinstance(metadata, container.Metadata | None):
        raise TypeError(f"metadata must be a fastlic.Metadata, got {type(metadata).__name__}")
    chosen, quality = model_and_quality(model, quality)
    goal = goal_of(quality, target_bpp, target_bytes, target_psnr)
    if not is_whole(effort) or effort:
        raise ValueError(f"fastlic.light has effort 0 alone, got {effort!r}: fastlic.compress, on torch, has 0 to 9")
    codec = chosen if isinstance(chosen, Codec) else load(chosen)
    if goal is not None and not codec.qualities:
        raise ValueError(f"codec {codec.name!r} has one fixed rate, which {goal.kind} cannot change")
    level = quality_of(quality, codec.qualities) if codec.qualities else 0  # of one rate
    count, most = _threads(threads), _limit(max_pixels)
    _check_progress(progress)
    with memory_errors("an image of this size"):
        pixels, own = picture_of(x, max_pixels)
    attached = (own if metadata is None else metadata).attachments
    with memory_errors(f"an image of {pixels.shape[0]} x {pixels.shape[1]} (height x width)"):
        colours = pixels[:, :, :3] if pixels.shape[2] > 2 else np.broadcast_to(pixels[:, :, :1], (*pixels.shape[:2], 3))

        def encode(quality: float, worth: float = 1.0) -> bytes:
            sixteenths = round(quality * container.QUALITY_STEPS)
            return codec.encode(pixels, sixteenths, count, most, attached, progress, worth)

        def psnr_of(data: bytes) -> float:
            return psnr(colours, codec.decode(data, 0, count, most, 3))

        if goal is None:
            return encode(level)
        return search(goal, encode, psnr_of, codec.qualities, pixels.shape[0] * pixels.shape[1]).data


@uncompiled
def decompress(
    data: Stream,
    model: str | os.PathLike[str] | Codec | None = None,
    *,
    parts: int = 0,
    threads: int = 0,
    max_pixels: int | None = None,
    channels: int | None = None,
    progress: Callable[[float], object] | None = None,
    region: tuple[int, int, int, int] | None = None,
) -> NDArray[np.uint8]:
    """Decompress ``.flic`` bytes.

    Args:
        data: bytes, a path, or a binary file, which is read to its end.
        model: as of ``compress``; None: the shipped weights that the stream names.
        parts: a preview of so many parts (levels of McQuic, slices of MLIC); 0: all.
        threads, max_pixels: as of ``compress``.
        channels: 1 for grey, 3 for RGB, 2 and 4 with alpha; default: those of the image that was compressed.
        progress: as of ``compress``.
        region: left, top, width and height of a part, whose pixels are those that it has in the whole image. The
            transform runs over that part alone; all latents are decoded.

    Returns:
        uint8 [H, W, channels], [H, W] of one channel; of a region its height and width.

    Raises:
        CorruptStreamError: the bytes are damaged.
        OSError: a file that cannot be read.
        ModelMismatchError: other weights are needed; the message names them.
        PixelLimitError, OutOfMemoryError, ValueError: as of ``compress``.
    """
    data = stream_of(data)
    header = container.peek(data)
    config.check_pixels(header.height, header.width, max_pixels)
    if not is_whole(parts) or not 0 <= parts < 1 << 16:
        raise ValueError(f"parts must be a whole number, 0 for all, got {parts!r}")
    container.check_channels(channels)
    _check_progress(progress)
    part = _region(region)
    if model is None:
        wanted = header.fingerprint.hex()
        model = shipped_with(wanted, header.version) or (shipped_reading(wanted) if header.version > 1 else None)
    if model is None:
        family = container.model_name(header.model_id)
        raise ModelMismatchError(
            f"the stream needs {family!r} weights with fingerprint {wanted}, which do not ship; name the codec file: "
            f"fastlic.light.decompress(data, model=path)"
        )
    codec = model if isinstance(model, Codec) else load(model)
    with memory_errors(f"an image of {header.height} x {header.width} (height x width)"):
        x = codec.decode(data, int(parts), _threads(threads), _limit(max_pixels), channels or 0, progress, part)
    return x[:, :, 0] if x.shape[2] == 1 else x


def _named(value: object) -> str:
    """The type of what is no codec; of classes called Codec also where they are from."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__name__}" if kind.__name__ == "Codec" else kind.__name__


def _limit(max_pixels: int | None) -> int:
    return min(config.max_pixels(max_pixels), 1 << 62)  # of 64 bits in the core


def _check_progress(progress: object) -> None:
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable, or None, got {type(progress).__name__}")


def _region(region: Any) -> tuple[int, int, int, int] | None:
    if region is None:
        return None
    numbers = list(region) if isinstance(region, tuple | list | np.ndarray) else []
    whole = all(is_whole(n) and 0 <= n < 1 << 31 for n in numbers)
    if len(numbers) != 4 or not whole:
        raise ValueError(f"region must be left, top, width and height in pixels, whole numbers, got {region!r:.80}")
    left, top, width, height = map(int, numbers)
    return left, top, width, height


def _threads(count: int) -> int:
    if not is_whole(count) or not 0 <= count < 1 << 31:
        raise ValueError(f"threads must be a whole number, 0 for one per core, got {count!r}")
    return int(count)
