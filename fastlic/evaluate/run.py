"""One record per image, codec and quality: bytes of the real file, distortion of the real decode, times."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastlic.codec import container
from fastlic.codec.codec import Codec
from fastlic.evaluate.metrics import ms_ssim, psnr
from fastlic.evaluate.peers import Peer
from fastlic.ops.backends import torch_threads

CHECKED_THREADS = (1, 2)


@dataclass(frozen=True)
class Record:
    """One image, compressed and decompressed once."""

    codec: str
    image: str  # file name
    quality: float | None  # None for a codec of one fixed rate
    height: int
    width: int
    size: int  # bytes of the whole file
    psnr: float  # dB, of the decoded 8-bit image
    ms_ssim: float | None
    compress_seconds: float
    decompress_seconds: float
    framing_bytes: int | None = None  # container without its sections; None for peers
    estimated_bits: float | None = None  # the model's own estimate of z and y
    same_latents: bool | None = None  # decoded latents equal the encoder's, bit for bit

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel."""
        return 8 * self.size / (self.height * self.width)

    @property
    def ms_ssim_db(self) -> float | None:
        """-10 log10(1 - MS-SSIM)."""
        return None if self.ms_ssim is None else -10 * math.log10(max(1 - self.ms_ssim, 1e-12))


def evaluate(
    codec: Codec,
    x: Tensor,  # [3, H, W] uint8
    image: str,
    quality: float | None,
    *,
    with_ms_ssim: bool = False,
    with_estimate: bool = False,
    with_check: bool = False,
) -> Record:
    """Compress and decompress one image; what is asked for beyond that stays outside the times."""
    data, x_hat, times = _timed(lambda: codec.compress(x, quality), lambda d: codec.decompress(d, dtype=torch.uint8))
    return Record(
        **_common(codec.name, image, quality, x, data, x_hat, with_ms_ssim),
        **times,
        framing_bytes=container.parse(data).framing_bytes,
        estimated_bits=codec.estimate(x, quality)["bits"] if with_estimate else None,
        same_latents=same_latents(codec, x, quality) if with_check else None,
    )


def _timed(compress: Callable[[], Any], decompress: Callable[[bytes], Any]) -> tuple[bytes, Tensor, dict[str, Any]]:
    began = time.perf_counter()
    data: bytes = compress()
    compressed = time.perf_counter()
    x_hat: Tensor = decompress(data)
    decompressed = time.perf_counter()
    times = {"compress_seconds": compressed - began, "decompress_seconds": decompressed - compressed}
    return data, x_hat, times


def _common(
    name: str, image: str, quality: float | None, x: Tensor, data: bytes, x_hat: Tensor, with_ms_ssim: bool
) -> dict[str, Any]:
    """The fields that a record of any codec has, but for times."""
    return {
        **{"codec": name, "image": image, "quality": quality, "height": x.shape[1], "width": x.shape[2]},
        **{"size": len(data), "psnr": psnr(x, x_hat), "ms_ssim": ms_ssim(x, x_hat) if with_ms_ssim else None},
    }


def evaluate_peer(peer: Peer, x: Tensor, image: str, *, with_ms_ssim: bool = False) -> Iterator[Record]:
    """One record per quality of a peer codec for ``x`` [3, H, W] uint8."""
    for quality in peer.qualities:
        data, x_hat, times = _timed(partial(peer.compress, x, quality), peer.decompress)
        yield Record(**_common(peer.name, image, quality, x, data, x_hat, with_ms_ssim), **times)


def same_latents(codec: Codec, x: Tensor, quality: float | None) -> bool:
    """Whether decoding returns the encoder's latents exactly, for every pair of thread counts on the two sides."""
    for encoder_threads in CHECKED_THREADS:
        with torch_threads(encoder_threads):
            data, latents = codec.compress(x, quality), codec.latents(x, quality)
        assert isinstance(data, bytes)
        for decoder_threads in CHECKED_THREADS:
            with torch_threads(decoder_threads):
                if not _equal(codec.decode_latents(data), latents):
                    return False
    return True


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
