"""McQuic: multi-codebook vector quantisation of images (Zhu et al. 2022), architecture and keys of release 0.1.40."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypedDict

import torch
import torch.nn as nn
from torch import Tensor
from typing_extensions import Self

from fastlic.models.mcquic import keepalive
from fastlic.models.mcquic.layers import (
    Attention,
    Conv3,
    ResidualBlock,
    ResidualBlockShuffle,
    ResidualBlockWithStride,
    scratch,
    upsampling_conv,
)
from fastlic.models.mcquic.padding import crop, pad
from fastlic.models.mcquic.quantizer import Quantised, Quantizer
from fastlic.models.sizes import build

PUBLISHED_K = (8192, 2048, 512)
MOST_PRICE = 64
PUBLISHED_MULTIPLE = 128  # to which McQuic pads images


class Trained(TypedDict):
    """What ``McQuic.forward`` returns; levels from the finest to the deepest."""

    x_hat: Tensor  # [B, 3, H, W]
    codes: list[Tensor]  # int64 [B, m, h, w] per level: the nearest words, without noise
    logits: list[Tensor | None]  # [m, B * h * w, k] per level, None without sampling
    heads: list[Tensor]  # [B, C, h, w] per level: what was quantised
    words: list[Tensor]  # [B, C, h, w] per level: what it was quantised to
    frequencies: list[Tensor]  # float64 [m, k] per level: running shares


class McQuic(nn.Module):
    """Codec network without an entropy network: an image becomes codebook indexes on a few levels, and back.

    Args:
        channel: width of every layer; divisible by m.
        m: codebooks per level, each over channel / m channels; the rate grows with it.
        k: words per codebook, one number per level from the finest (1/16 of the image) to the deepest.
        prices: factors on the price of a bit, one per quality, falling: qualities that entropy-constrained codebooks
            serve (fastlic.train.vq_words), whose vectors carry a price in the last channel of each group. Decoders
            need not know. Empty: one rate.

    Images are [B, 3, H, W] in [-1, 1]; ``(128, 2)`` and ``(192, 12)`` are the published sizes.
    """

    family = "mcquic"

    def __init__(
        self, channel: int, m: int, k: Sequence[int] | int = PUBLISHED_K, prices: Sequence[float] = ()
    ) -> None:
        super().__init__()
        k = [k] if isinstance(k, int) else [int(ki) for ki in k]
        if channel < 1 or m < 1 or channel % m:
            raise ValueError(f"channel must be a multiple of m, both at least 1; got channel {channel}, m {m}")
        if not 1 <= len(k) <= 8 or any(not 2 <= ki <= 65536 for ki in k):
            raise ValueError(f"k must be 1 to 8 numbers of words, each 2 to 65536; got {k}")
        falling = all(a > b for a, b in pairwise(prices))
        if len(prices) == 1 or not falling or any(not 0 < price <= MOST_PRICE for price in prices):
            raise ValueError(f"prices must be none or at least two, falling, in (0, {MOST_PRICE}]; got {list(prices)}")
        self.channel, self.m, self.k = channel, m, k
        if prices:
            self.register_buffer("_prices", torch.tensor(prices, dtype=torch.float32))
        c = channel
        self._encoder = nn.Sequential(
            Conv3(3, c, 2),
            ResidualBlock(c),
            ResidualBlockWithStride(c),
            Attention(c),
            ResidualBlock(c),
            ResidualBlockWithStride(c),
            ResidualBlock(c),
        )
        self._decoder = nn.Sequential(
            ResidualBlock(c),
            ResidualBlockShuffle(c),
            Attention(c),
            ResidualBlock(c),
            ResidualBlockShuffle(c),
            ResidualBlock(c),
            upsampling_conv(c, 3),
        )
        self._quantizer = Quantizer(c, m, k)

    # ---- what it is

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        prices = {"prices": self.prices} if self.prices else {}
        return {"channel": self.channel, "m": self.m, "k": list(self.k), **prices}

    @property
    def prices(self) -> list[float]:
        """The factor on the price of a bit for each quality; empty for one rate."""
        stored = self._buffers.get("_prices")
        return [] if stored is None else stored.tolist()

    def price(self, quality: float | None) -> float:
        """The factor at a quality from 1 to the number of ``prices``, geometric between whole ones; None: 1.

        Raises:
            ValueError: there is no such quality.
        """
        if quality is None:
            return 1.0
        prices = self.prices
        if not 1 <= quality <= len(prices):
            raise ValueError(f"this model serves {len(prices)} qualities, got {quality}")
        low = min(int(quality), len(prices) - 1)
        share = quality - low
        return float(prices[low - 1] ** (1 - share) * prices[low] ** share)

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.k)

    @property
    def stride(self) -> int:
        """Image pixels per code of the deepest level: padded sides are multiples of it."""
        return 8 << self.levels

    @property
    def least_side(self) -> int:
        """Smallest padded side: the deepest maps must be 2x2, or there would be nothing to reflect."""
        return 2 * self.stride

    @staticmethod
    def infer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Constructor arguments read off the shapes of a state dict.

        Raises:
            ValueError: a key that every such model has is missing.
        """
        books: list[tuple[int, ...]] = []
        while (key := f"_quantizer._encoders.{len(books)}._quantizer._codebook") in state:
            books.append(tuple(state[key].shape))
        if not books or "_encoder.0.weight" not in state or any(len(shape) != 3 for shape in books):
            raise ValueError(
                "not a state dict of McQuic: _encoder.0.weight and _quantizer._encoders.0._quantizer._codebook "
                f"[m, k, d] are expected; got {len(state)} keys"
            )
        prices = {"prices": state["_prices"].tolist()} if "_prices" in state else {}
        sizes = {"channel": state["_encoder.0.weight"].shape[0], "m": books[0][0], "k": [k for _, k, _ in books]}
        return {**sizes, **prices}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Self:
        """A model of the right size with the given weights, a published checkpoint's included.

        Constant buffers may be left out, and so may the second and third name of each codebook.

        Raises:
            ValueError: keys are missing, unknown, or of the wrong shape; the message lists them.
        """
        model = build(cls, None, state)
        filled = {name: buffer for name, buffer in model.named_buffers() if name not in state} | dict(state)
        for name in model.state_dict():
            if name.endswith("_dequantizer._codebook") and name not in filled:
                level = name.split(".")[2]
                filled[name] = filled[f"_quantizer._encoders.{level}._quantizer._codebook"]
        try:
            model.load_state_dict(filled)
        except RuntimeError as error:
            raise ValueError(f"state dict does not fit McQuic: {error}") from error
        return model.eval()

    # ---- coding

    @torch.no_grad()
    def encode(self, x: Tensor, multiple: int = PUBLISHED_MULTIPLE, price: float = 1.0) -> list[Tensor]:
        """Codes of images of any size.

        Args:
            x: [B, 3, H, W] in [-1, 1], H and W at least 1.
            multiple: sides are padded to multiples of this, itself a multiple of ``stride``; McQuic's is 128.
            price: factor on the price of a bit, for entropy-constrained codebooks.

        Returns:
            int64 [B, m, h, w] per level, level 0 the finest at 1/16 of the padded image.
        """
        if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape:
            raise ValueError(f"expected images [B, 3, H, W] in [-1, 1], got shape {list(x.shape)}")
        if multiple < 1 or multiple % self.stride:
            raise ValueError(f"images are padded to a multiple of {self.stride}, got {multiple}")
        padded = pad(x, multiple, self.least_side)
        with scratch():
            return self._quantizer.encode(self._encoder(padded), price)

    def decode(self, codes: Sequence[Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Images from codes.

        Args:
            codes: as ``encode`` gave them, or those of the deepest few levels alone, which gives a coarse preview.
            size: height and width to crop the padded image to; None: no crop.

        Returns:
            [B, 3, H, W], roughly in [-1, 1].

        Raises:
            ValueError: codes that do not fit the model or each other.
        """
        self._check_codes(codes)
        with scratch():
            image: Tensor = self._decoder(self._quantizer.decode(codes))
        return image if size is None else crop(image, *size)

    def _check_codes(self, codes: Sequence[Tensor]) -> None:
        if not 1 <= len(codes) <= self.levels:
            raise ValueError(f"codes of 1 to {self.levels} levels are expected, got {len(codes)}")
        b, _, h, w = codes[-1].shape
        for depth, (code, k) in enumerate(zip(reversed(codes), reversed(self.k), strict=False)):
            expected = (b, self.m, h << depth, w << depth)
            if tuple(code.shape) != expected:
                raise ValueError(f"codes {depth} above the deepest must be {list(expected)}, got {list(code.shape)}")
            low, high = (int(v) for v in torch.aminmax(code))
            if low < 0 or high >= k:
                raise ValueError(f"codes {depth} above the deepest must lie in 0..{k - 1}, got {low}..{high}")

    # ---- training

    def forward(self, x: Tensor, temperature: float = 1.0, sampled: bool | None = None, decay: float = 0.9) -> Trained:
        """Training and estimation pass.

        Args:
            x: [B, 3, H, W] in [-1, 1]; sides are multiples of ``stride`` and at least ``least_side``.
            temperature: of the Gumbel-softmax; the reference keeps 1.
            sampled: draw words with Gumbel noise, straight through, as the reference trains; False takes the nearest
                word and passes the gradient to it unchanged. Default: whether the model is in training mode.
            decay: of the running frequencies, which training mode updates with the nearest words' counts.

        Returns:
            :class:`Trained`. The reference's objective is the distortion of ``x_hat`` alone; ``keep_alive`` is
            what keeps codebooks in use.
        """
        if x.shape[-1] % self.stride or x.shape[-2] % self.stride or min(x.shape[-2:]) < self.least_side:
            raise ValueError(
                f"sides must be multiples of {self.stride}, at least {self.least_side}; got {list(x.shape[-2:])}"
            )
        latent, parts = self._quantizer.quantise(
            self._encoder(x), temperature, self.training if sampled is None else sampled
        )
        codes = [part.codes for part in parts]
        if self.training:
            self._quantizer._entropyCoder.update(codes, decay)
        return _trained(self._decoder(latent), parts, self.frequencies())

    def frequencies(self) -> list[Tensor]:
        """Running share of each word, float64 [m, k] per level."""
        return self._quantizer._entropyCoder.normalised()

    def usage(self) -> list[float]:
        """Share of words in use, per level."""
        return keepalive.usage(self._quantizer)

    def keep_alive(self, generator: torch.Generator | None = None) -> float:
        """Move dead words beside living ones (fastlic.models.mcquic.keepalive); returns the share that moved."""
        return keepalive.reassign(self._quantizer, generator)


def _trained(x_hat: Tensor, parts: list[Quantised], frequencies: list[Tensor]) -> Trained:
    return {
        "x_hat": x_hat,
        "codes": [part.codes for part in parts],
        "logits": [part.logits for part in parts],
        "heads": [part.head for part in parts],
        "words": [part.words for part in parts],
        "frequencies": frequencies,
    }
