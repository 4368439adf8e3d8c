"""numpy arrays to ``.flic`` bytes and back without torch: for programs that start often or have little memory.

    x = fastlic.light.decompress(data)            # uint8 [H, W, 3]
    data = fastlic.light.compress(x, quality=4)

The core does it all, by the integers of the codec file: bytes and pixels are those of ``fastlic.compress`` and
``fastlic.decompress``, bit for bit. Codec files with float transforms, GPUs and batches need those.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fastlic
from fastlic import config
from fastlic.arguments import is_number
from fastlic.codec import container
from fastlic.codec.cards import WEIGHTS, cards, shipped_reading, shipped_with
from fastlic.codec.targets import goal_of, psnr, search
from fastlic.errors import CodecFileError, ModelMismatchError, memory_errors
from fastlic.ops.codec_file import NativeCodec

__all__ = ["Codec", "compress", "decompress", "load", "psnr"]

Codec = NativeCodec


@lru_cache(maxsize=4)
def _opened(path: Path, changed: int, digest: str | None) -> Codec:
    data = path.read_bytes()
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise CodecFileError(f"{path} is damaged: its SHA-256 is not {digest}; install fastlic anew")
    try:
        return Codec(data)
    except ValueError as error:
        raise CodecFileError(f"{path}: {error}") from error


def load(name_or_path: str | os.PathLike[str]) -> Codec:
    """A codec by the name of shipped weights or from a codec file; the last four stay in memory.

    Raises:
        CodecFileError: a file that is no codec, a damaged one, or one with float transforms.
        ValueError: neither a shipped name nor a file.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise TypeError(f"a codec is a name or a path, got {type(name_or_path).__name__}")
    shipped = cards().get(name_or_path) if isinstance(name_or_path, str) else None
    path = WEIGHTS / f"{name_or_path}.safetensors" if shipped else Path(name_or_path)
    if not path.is_file():
        raise ValueError(
            f"{str(name_or_path)!r} is neither a codec file nor one of the shipped weights ({', '.join(cards())})"
        )
    return _opened(path.resolve(), path.stat().st_mtime_ns, None if shipped is None else shipped["sha256"])


def compress(
    x: NDArray[np.uint8],
    model: str | os.PathLike[str] | Codec = fastlic.DEFAULT_MODEL,
    quality: float | None = None,
    *,
    target_bpp: float | None = None,
    target_bytes: float | None = None,
    target_psnr: float | None = None,
    effort: int = 0,
    threads: int = 0,
    max_pixels: int | None = None,
) -> bytes:
    """Compress an image.

    Args:
        x: uint8 [H, W, 3], or [H, W] for grey.
        model: name of shipped weights, path of a codec file, or what ``load`` gave.
        quality: 1 (smallest) to 8 (best), fractions allowed (kept to 1/16), 4 by default; of no meaning to a codec of
            one rate.
        target_bpp, target_bytes, target_psnr: one of them in place of a quality, as of ``fastlic.compress``.
        effort: 0; higher ones take ``fastlic.compress``.
        threads: how many to use; 0: one per core.
        max_pixels: as of ``fastlic.compress``.

    Raises:
        TypeError, ValueError: no such image, model or quality.
        PixelLimitError, OutOfMemoryError: as of ``fastlic.compress``.
    """
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8:
        got = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"x must be a numpy array uint8 [H, W, 3] or [H, W], got {got}")
    if x.ndim == 2:
        x = np.broadcast_to(x[:, :, None], (*x.shape, 3))
    if x.ndim != 3 or x.shape[2] != 3 or 0 in x.shape:
        raise ValueError(f"x must be [H, W, 3] or [H, W] with H and W at least 1, got {list(x.shape)}")
    height, width = x.shape[:2]
    config.check_pixels(height, width, max_pixels)
    goal = goal_of(quality, target_bpp, target_bytes, target_psnr)
    if isinstance(effort, bool) or not isinstance(effort, int) or effort:
        raise ValueError(f"fastlic.light has effort 0 alone, got {effort!r}: fastlic.compress, on torch, has 0 to 9")
    codec = model if isinstance(model, Codec) else load(model)
    pixels, limit = np.ascontiguousarray(x), _limit(max_pixels)

    def encode(level: float) -> bytes:
        return codec.encode(pixels, round(level * container.QUALITY_STEPS), _threads(threads), limit)

    with memory_errors(f"an image of {height} x {width} (height x width)"):
        if goal is None:
            return encode(_level(codec, fastlic.DEFAULT_QUALITY if quality is None else quality))
        if not codec.qualities:
            raise ValueError(f"codec {codec.name!r} has one fixed rate, which {goal.kind} cannot change")

        def psnr_of(data: bytes) -> float:
            return psnr(pixels, codec.decode(data, 0, _threads(threads), limit))

        return search(goal, encode, psnr_of, codec.qualities, height * width).data


def _level(codec: Codec, quality: float) -> float:
    """``quality`` as a file holds it; 0 for a codec of one rate."""
    if not codec.qualities:
        return 0
    if not is_number(quality):
        raise TypeError(f"quality must be a number from 1 to {codec.qualities}, got {type(quality).__name__}")
    if not 1 <= quality <= codec.qualities:
        raise ValueError(f"quality must be from 1 to {codec.qualities}, got {quality}")
    return container.round_quality(quality)


def decompress(
    data: container.Bytes,
    model: str | os.PathLike[str] | Codec | None = None,
    *,
    parts: int = 0,
    threads: int = 0,
    max_pixels: int | None = None,
) -> NDArray[np.uint8]:
    """Decompress ``.flic`` bytes.

    Args:
        model: as of ``compress``; None: the shipped weights that the stream names.
        parts: a preview of so many parts (levels of McQuic, slices of MLIC); 0: all.
        threads, max_pixels: as of ``compress``.

    Returns:
        uint8 [H, W, 3].

    Raises:
        CorruptStreamError: the bytes are damaged.
        ModelMismatchError: other weights are needed; the message names them.
        PixelLimitError, OutOfMemoryError, ValueError: as of ``compress``.
    """
    header = container.peek(data)
    config.check_pixels(header.height, header.width, max_pixels)
    if isinstance(parts, bool) or not isinstance(parts, int) or not 0 <= parts < 1 << 16:
        raise ValueError(f"parts must be a whole number, 0 for all, got {parts!r}")
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
        return codec.decode(data, parts, _threads(threads), _limit(max_pixels))


def _limit(max_pixels: int | None) -> int:
    return min(config.max_pixels(max_pixels), 1 << 62)  # of 64 bits in the core


def _threads(count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 1 << 31:
        raise ValueError(f"threads must be a whole number, 0 for one per core, got {count!r}")
    return count
