"""How near targets of bytes and PSNR are met, and in how many encodes."""

from __future__ import annotations

from functools import cache

import numpy as np

from fastlic import light
from fastlic.codec.container import QUALITY_STEPS
from fastlic.codec.targets import Goal, Kind, psnr, search

_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
KINDS: tuple[Kind, ...] = ("target_bytes", "target_bpp", "target_psnr")


def met(codec: light.Codec, x: np.ndarray) -> list[tuple[Kind, int, float]]:
    """Five targets of each kind, evenly spaced from what quality 1 gives to what the last one does.

    Args:
        x: uint8 [H, W, C].

    Returns:
        (kind, encodes, how far off: a share of the bytes, or dB) of each.
    """
    pixels = x.shape[0] * x.shape[1]

    @cache
    def encode(quality: float, worth: float = 1.0) -> bytes:
        return codec.encode(x, round(quality * QUALITY_STEPS), 1, pixels, (), None, worth)

    @cache
    def psnr_of(data: bytes) -> float:
        return psnr(x, light.decompress(data, codec, threads=1))

    first, last = encode(1.0), encode(float(codec.qualities))
    found = []
    for share in _SHARES:
        size = len(first) * (len(last) / len(first)) ** share
        wanted = (round(size), 8 * size / pixels, psnr_of(first) + share * (psnr_of(last) - psnr_of(first)))
        for kind, value in zip(KINDS, wanted, strict=True):
            result = search(Goal(kind, value), encode, psnr_of, codec.qualities, pixels)
            unit = pixels / 8 if kind == "target_bpp" else 1
            off = psnr_of(result.data) - value if kind == "target_psnr" else len(result.data) / (value * unit) - 1
            found.append((kind, result.encodes, off))
    return found
