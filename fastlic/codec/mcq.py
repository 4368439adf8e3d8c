"""``.mcq`` files of McQuic 0.1.40: read and written bit for bit, with the weights that made them.

A file (fastlic.codec.mcq_file) carries neither checksum nor fingerprint, so a damaged file, or the wrong weights, may
give a wrong image without a word. The name of the weights is often a path on its writer's machine; nothing is ever
opened by that name here.

coder = coder_of(fastlic.load("qp_2_msssim.mcquic"))
data = coder.compress(x)
x_hat = coder.decompress(data)
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from fastlic import config
from fastlic.arguments import as_device, checked
from fastlic.codec.codec import Codec
from fastlic.codec.families.base import frozen
from fastlic.codec.images import as_float, as_images, check_dtype, check_range, to_dtype
from fastlic.codec.mcq_file import SUFFIX, VERSION, Bytes, McqFile, parse, serialise
from fastlic.entropy.codes import CodeTables
from fastlic.errors import ModelMismatchError
from fastlic.models import McQuic
from fastlic.models.mcquic.model import PUBLISHED_MULTIPLE
from fastlic.models.mcquic.padding import padded_size
from fastlic.ops.categorical import CategoricalTables

__all__ = [
    "SUFFIX", "VERSION", "McqCoder", "McqFile", "coder_of", "parse", "quantised_cdf", "serialise", "weights_of",
]  # fmt: skip

PRECISION = 16


@checked
def quantised_cdf(shares: np.ndarray) -> np.ndarray:
    """McQuic's integer table for float32 shares [k]: int32 [k + 1] from 0 to 2^16, every width at least 1.

    Rounded shares, scaled to the total; then each word without a slot takes one from the narrowest that can spare it.
    """
    total = 1 << PRECISION
    # Half away from zero; the products are exact, a power of two times a float.
    rounded = np.floor(shares.astype(np.float32).astype(np.float64) * total + 0.5).astype(np.int64)
    if len(rounded) > total or not (rounded >= 0).all() or rounded.sum() == 0:
        raise ValueError(f"shares must be 1 to {total} non-negative numbers, not all zero")
    cdf = np.concatenate([[0], np.cumsum(total * rounded // rounded.sum())])
    cdf[-1] = total
    widths = np.diff(cdf)
    for empty in np.flatnonzero(widths == 0):
        # The first of the narrowest above 1. Its slot moves past everything in between.
        giver = int(np.argmin(np.where(widths > 1, widths, total + 1)))
        widths[giver] -= 1
        widths[empty] += 1
    return np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)


class McqCoder:
    """Reads and writes files with one set of weights.

    Args:
        model: with the running frequencies of its training, from which the tables follow as McQuic makes them, in
            float32 on the CPU. Files from a GPU whose sums differ in the last bit cannot be told apart. It is copied,
            and stays as it is.
        qp: what files written here say of their weights.
    """

    @checked
    def __init__(self, model: McQuic, qp: str = "fastlic") -> None:
        self.model = frozen(model).float().cpu()
        self.qp = qp
        self._copies: dict[str, McQuic] = {"cpu": self.model}
        tables = []
        for running in self.model._quantizer._entropyCoder._freqEMA:
            shares = (running / running.sum(-1, keepdim=True)).numpy()
            rows = [quantised_cdf(row) for row in shares]
            lengths = np.array([len(row) for row in rows], dtype=np.int32)
            tables.append(CategoricalTables(np.concatenate(rows), lengths, PRECISION))
        self.tables = CodeTables(tuple(tables), np.zeros(8, dtype=np.uint8))

    def _on(self, device: torch.device | str) -> McQuic:
        key = str(as_device(device))
        if key not in self._copies:
            self._copies[key] = copy.deepcopy(self.model).to(key)
        return self._copies[key]

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        multiple = max(PUBLISHED_MULTIPLE, self.model.stride)
        return padded_size(height, multiple, 2 * self.model.stride), padded_size(width, multiple, 2 * self.model.stride)

    @checked
    def pack(self, codes: Sequence[Tensor], size: tuple[int, int]) -> bytes:
        """A file from codes [m, h, w] per level and the image's (height, width)."""
        contents = tuple(self.tables.encode(level, code.numpy()) for level, code in enumerate(codes))
        sizes = tuple((int(code.shape[1]), int(code.shape[2])) for code in codes)
        version = ".".join(map(str, VERSION))
        return serialise(McqFile(self.qp, version, self.model.m, tuple(self.model.k), sizes, *size, contents))

    def unpack(self, data: Bytes, max_pixels: int | None = None) -> tuple[list[Tensor], tuple[int, int]]:
        """Codes int64 [m, h, w] per level and (height, width) from a file.

        Raises:
            CorruptStreamError: damaged as far as that can be seen.
            ModelMismatchError: made with a model of another size.
            PixelLimitError: an image beyond ``max_pixels``, as of ``Codec.decompress``.
        """
        file = parse(data)
        config.check_pixels(file.height, file.width, max_pixels, self._padded(file.height, file.width))
        if (file.groups, list(file.words)) != (self.model.m, list(self.model.k)):
            raise ModelMismatchError(
                f"the file needs weights with m={file.groups}, k={list(file.words)} (it calls them {file.qp[:200]!r}); "
                f"these have m={self.model.m}, k={self.model.k}"
            )
        codes = [
            torch.from_numpy(self.tables.decode(level, part, *size)).long()
            for level, (part, size) in enumerate(zip(file.contents, file.sizes, strict=True))
        ]
        return codes, (file.height, file.width)

    @torch.no_grad()
    def compress(self, x: Tensor, quality: float | None = None, *, max_pixels: int | None = None) -> bytes:
        """A file from an image [3, H, W], uint8 or float in [0, 1], as ``Codec.compress`` takes it, on its device.

        Args:
            quality: of models that serve several; None: as the codebooks were made.
            max_pixels: as of ``Codec.compress``.
        """
        batch = as_images(x)
        if len(batch) != 1:
            raise ValueError(f"expected one image, got a batch of {len(batch)}")
        height, width = batch.shape[2:]
        config.check_pixels(height, width, max_pixels, self._padded(height, width))
        check_range(batch)
        x = (as_float(batch) * 2 - 1).contiguous(memory_format=torch.channels_last)
        multiple = max(PUBLISHED_MULTIPLE, self.model.stride)
        codes = self._on(batch.device).encode(x, multiple, self.model.price(quality))
        return self.pack([code[0].cpu() for code in codes], (int(height), int(width)))

    @torch.no_grad()
    def decompress(
        self,
        data: Bytes,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        max_pixels: int | None = None,
    ) -> Tensor:
        """The image [3, H, W] in a file, as ``Codec.decompress`` gives it. Pixels of uint8 are rounded to the nearest,
        where McQuic truncates."""
        check_dtype(dtype)
        codes, size = self.unpack(data, max_pixels)
        image = self._on(device).decode([code[None].to(device) for code in codes], size)[0]
        return to_dtype((image + 1) / 2, dtype).contiguous()


@lru_cache(maxsize=4)
@checked
def coder_of(codec: Codec | None) -> McqCoder:
    """A coder with the weights of a codec; files are to say its name.

    The frequencies behind the tables are those of the training or, in a codec file that was saved for coding alone,
    those that its frozen tables stand for. ``fastlic.models.mcquic.save_published`` writes the same for McQuic itself.

    Raises:
        ModelMismatchError: no codec, or one of another family.
    """
    model = weights_of(codec) if codec is not None else None
    if codec is None or model is None:
        got = "none was named" if codec is None else f"got {codec!r}"
        raise ModelMismatchError(f".mcq files need the McQuic weights that they were or will be made with; {got}")
    return McqCoder(model, codec.name)


@checked
def weights_of(codec: Codec) -> McQuic | None:
    """A codec's McQuic, with frequencies; None of another family."""
    model = codec.model if codec.model is not None else codec.transforms()
    return model if isinstance(model, McQuic) else None
