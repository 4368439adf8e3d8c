"""McQuic's quantiser: cascaded levels of multi-codebook vector quantisation, coarser by two at each level.

A level transforms its input, quantises one head of it and hands what another head still holds beyond the codeword to
the next level. Decoding runs from the deepest level up. Names follow McQuic 0.1.40.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn as nn
from torch import Tensor

from fastlic.models.layers import LowerBound
from fastlic.models.mcquic.layers import (
    Attention,
    Conv3,
    ResidualBlock,
    ResidualBlockShuffle,
    ResidualBlockWithStride,
)
from fastlic.ops.codebook import codebook_nearest

# Of entropy-constrained codebooks (fastlic.train.vq_words) the last channel of a word is so much for each bit of its
# information, that of a vector -price / (2 BIT).
BIT = 2.0**-10
DEAD = 1e-6  # codewords used less often than this count as dead


def split_groups(x: Tensor, m: int) -> Tensor:
    """[B, m * d, h, w] -> [B * h * w, m, d]; a view where channels are last in memory."""
    b, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(b * h * w, m, c // m)


def join_groups(x: Tensor, size: tuple[int, int, int]) -> Tensor:
    """[B * h * w, m, d] -> [B, m * d, h, w], channels last in memory; ``size`` is (B, h, w)."""
    b, h, w = size
    return x.reshape(b, h, w, -1).permute(0, 3, 1, 2)


class _StraightThrough(torch.autograd.Function):
    """Codewords by index, whose gradient reaches the soft assignment as if it had chosen them."""

    @staticmethod
    def forward(ctx, soft: Tensor, codebook: Tensor, index: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        # soft [m, n, k], codebook [m, k, d], index [m, n] -> [m, n, d]
        ctx.save_for_backward(codebook, index)
        return codebook.gather(1, index[..., None].expand(-1, -1, codebook.shape[2]))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[no-untyped-def, override]
        codebook, index = ctx.saved_tensors
        to_words = torch.zeros_like(codebook)
        to_words.scatter_add_(1, index[..., None].expand_as(grad), grad)
        return grad @ codebook.transpose(1, 2), to_words, None


class Codebooks(nn.Module):
    """m codebooks of k words of d channels; vector g of a position is quantised by codebook g.

    Args:
        m, k, d: groups, words per group, channels per group.
    """

    def __init__(self, m: int, k: int, d: int) -> None:
        super().__init__()
        self._codebook = nn.Parameter(torch.randn(m, k, d) * math.sqrt(2 / (5 * d)))
        self._temperature = nn.Parameter(torch.ones(m, 1, 1, 1))
        self._bound = LowerBound(1e-6)

    def nearest(self, x: Tensor) -> Tensor:
        """[B, m * d, h, w] -> indexes of the nearest words, int64 [B, m, h, w]."""
        b, _, h, w = x.shape
        m = self._codebook.shape[0]
        vectors = split_groups(x.detach().float(), m)
        codes = codebook_nearest(vectors, self._codebook.detach().float())
        return codes.reshape(b, h, w, m).permute(0, 3, 1, 2)

    def sample(self, x: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """Gumbel-softmax with a hard choice whose gradient passes straight through.

        Args:
            x: [B, m * d, h, w].
            temperature: of the relaxation; the reference keeps 1.

        Returns:
            words [B, m * d, h, w], the nearest words' indexes int64 [B, m, h, w] (without noise), and the logits
            [m, B * h * w, k] = -|x - word|^2 / sqrt(k) times a learnt factor, up to a constant per row.
        """
        (m, k, _), (b, _, h, w) = self._codebook.shape, x.shape
        vectors = split_groups(x, m).transpose(0, 1)  # [m, n, d]
        # The term |x|^2 is the same for all words, so neither softmax nor argmax sees it.
        bias = self._codebook.square().sum(-1)[:, None]
        distance = torch.baddbmm(bias, vectors, self._codebook.transpose(1, 2), alpha=-2)
        logits = distance * (self._bound(self._temperature)[:, :, :, 0] / -math.sqrt(k))
        noise = torch.empty_like(logits).exponential_().clamp_min_(torch.finfo(logits.dtype).tiny).log_()
        soft = ((logits - noise) / temperature).softmax(-1)
        words = _StraightThrough.apply(soft, self._codebook, soft.detach().argmax(-1))
        codes = logits.detach().argmax(-1).reshape(m, b, h, w).transpose(0, 1)
        return join_groups(words.transpose(0, 1), (b, h, w)), codes, logits

    def straight_through(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest words, with the identity as gradient to x and the words' own to the codebook; and their indexes.

        The words receive the gradient of the lookup; add a codebook or commitment loss on top to bind both.
        """
        codes = self.nearest(x)
        return x - x.detach() + lookup(self._codebook, codes), codes


class Words(nn.Module):
    """The same codebooks seen from the decoder: indexes to words."""

    def __init__(self, codebook: nn.Parameter) -> None:
        super().__init__()
        self._codebook = codebook

    def forward(self, codes: Tensor) -> Tensor:  # int64 [B, m, h, w] -> [B, m * d, h, w]
        return lookup(self._codebook, codes)


def lookup(codebook: Tensor, codes: Tensor) -> Tensor:
    """codebook [m, k, d], codes int64 [B, m, h, w] -> words [B, m * d, h, w], channels last in memory.

    One gather writes every word where the next convolution reads it: nothing is moved a second time.
    """
    m, k, d = codebook.shape
    b, _, h, w = codes.shape
    first = torch.arange(0, m * k, k, device=codes.device)
    rows = codes.permute(0, 2, 3, 1) + first  # [B, h, w, m]
    # Not F.embedding: its backward pass sorts the indexes, and seems to be what stopped the capture of a CUDA graph.
    words = codebook.reshape(m * k, d).index_select(0, rows.flatten())
    return words.view(b, h, w, m * d).permute(0, 3, 1, 2)


class LevelEncoder(nn.Module):
    """One level's way down: halves the map, quantises it, and hands on what the words leave over."""

    def __init__(self, channels: int, codebooks: Codebooks, last: bool) -> None:
        super().__init__()
        self._quantizer = codebooks
        self._dequantizer = Words(codebooks._codebook)
        self._latentStageEncoder = nn.Sequential(
            ResidualBlockWithStride(channels), ResidualBlock(channels), Attention(channels)
        )
        self._quantizationHead = nn.Sequential(ResidualBlock(channels), Attention(channels), Conv3(channels, channels))
        self._latentHead = (
            None if last else nn.Sequential(ResidualBlock(channels), Attention(channels), Conv3(channels, channels))
        )

    def rest(self, z: Tensor, words: Tensor) -> Tensor | None:
        """The next level's input, or None at the deepest."""
        return None if self._latentHead is None else self._latentHead(z) - words


class LevelDecoder(nn.Module):
    """One level's way up: words plus what the deeper levels restored, at twice the size."""

    def __init__(self, channels: int, codebooks: Codebooks, last: bool) -> None:
        super().__init__()
        self._dequantizer = Words(codebooks._codebook)
        self._dequantizationHead = nn.Sequential(
            Attention(channels), Conv3(channels, channels), ResidualBlock(channels)
        )
        self._sideHead = (
            None if last else nn.Sequential(Attention(channels), Conv3(channels, channels), ResidualBlock(channels))
        )
        self._restoreHead = nn.Sequential(Attention(channels), ResidualBlock(channels), ResidualBlockShuffle(channels))

    def forward(self, words: Tensor, deeper: Tensor | None) -> Tensor:
        x: Tensor = self._dequantizationHead(words)
        if self._sideHead is not None:
            if deeper is None:
                raise ValueError("this level adds to what the deeper ones restored, which is missing")
            x = x + self._sideHead(deeper)
        restored: Tensor = self._restoreHead(x)
        return restored


@dataclass(frozen=True)
class Quantised:
    """What one level did in training."""

    head: Tensor  # [B, C, h, w], what was quantised
    words: Tensor  # [B, C, h, w], with gradients
    codes: Tensor  # int64 [B, m, h, w], the nearest words
    logits: Tensor | None  # [m, B * h * w, k]; None if nothing was sampled


class Frequencies(nn.Module):
    """Running share of each codeword, [m, k] per level: an exponential mean over training steps."""

    def __init__(self, m: int, k: Sequence[int]) -> None:
        super().__init__()
        self._freqEMA = nn.ParameterList(nn.Parameter(torch.full((m, ki), 1 / ki), requires_grad=False) for ki in k)

    def normalised(self) -> list[Tensor]:
        """float64 [m, k] per level, rows of sum 1. Some published files hold counts instead of shares."""
        return [f.double() / f.double().sum(-1, keepdim=True) for f in self._freqEMA]

    @torch.no_grad()
    def update(self, codes: Sequence[Tensor], decay: float) -> None:
        """Fold in the codes [B, m, h, w] of one batch, of all processes where several train."""
        for level, code in enumerate(codes):
            ema = self._freqEMA[level]
            counts = torch.zeros_like(ema)
            flat = code.transpose(0, 1).flatten(1)
            counts.scatter_add_(1, flat, torch.ones_like(flat, dtype=counts.dtype))
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(counts)
            ema.mul_(decay).add_(counts / counts.sum(-1, keepdim=True), alpha=1 - decay)


class Quantizer(nn.Module):
    """All levels, level 0 the finest.

    Args:
        channels: C of the latent [B, C, h, w]; divisible by m.
        m: codebooks per level.
        k: words per codebook, one number per level.
    """

    def __init__(self, channels: int, m: int, k: Sequence[int]) -> None:
        super().__init__()
        self._entropyCoder = Frequencies(m, k)
        books = [Codebooks(m, ki, channels // m) for ki in k]
        last = len(k) - 1
        self._encoders = nn.ModuleList(LevelEncoder(channels, book, i == last) for i, book in enumerate(books))
        self._decoders = nn.ModuleList(LevelDecoder(channels, book, i == last) for i, book in enumerate(books))

    @property
    def encoders(self) -> list[LevelEncoder]:
        """The way down, finest level first."""
        return cast(list[LevelEncoder], list(self._encoders))

    @property
    def decoders(self) -> list[LevelDecoder]:
        """The way up, finest level first."""
        return cast(list[LevelDecoder], list(self._decoders))

    @property
    def codebooks(self) -> list[Codebooks]:
        """The codebooks of each level."""
        return [encoder._quantizer for encoder in self.encoders]

    def encode(self, x: Tensor, price: float = 1.0) -> list[Tensor]:
        """Latent [B, C, h, w] -> codes int64 [B, m, h / 2^(l + 1), w / 2^(l + 1)] of each level l.

        Args:
            price: factor on the last channel of each group, where vectors of entropy-constrained codebooks have a
                bit's price.
        """
        codes = []
        rest: Any = x
        for encoder in self.encoders:
            z = encoder._latentStageEncoder(rest)
            head = encoder._quantizationHead(z)
            if price != 1:
                d = encoder._quantizer._codebook.shape[2]
                head = head.clone()
                head[:, d - 1 :: d] *= price
            codes.append(encoder._quantizer.nearest(head))
            rest = encoder.rest(z, encoder._dequantizer(codes[-1]))
        return codes

    def decode(self, codes: Sequence[Tensor]) -> Tensor:
        """The latent from the codes of all levels, or of the deepest few; the last one is the deepest.

        The expected word of a codebook, which is its words' mean by frequency, stands in at levels without codes.
        """
        missing = len(self.decoders) - len(codes)
        restored: Tensor | None = None
        for level in reversed(range(len(self.decoders))):
            decoder = self.decoders[level]
            if level >= missing:
                words = decoder._dequantizer(codes[level - missing])
            else:
                assert restored is not None
                b, _, h, w = restored.shape
                words = self.expected_words()[level].expand(b, -1, h, w)
            restored = decoder(words, restored)
        assert restored is not None
        return restored

    def expected_words(self) -> list[Tensor]:
        """[1, C, 1, 1] per level."""
        shares = self._entropyCoder.normalised()
        return [
            torch.einsum("mk,mkd->md", share.to(book._codebook.dtype), book._codebook).reshape(1, -1, 1, 1)
            for share, book in zip(shares, self.codebooks, strict=True)
        ]

    def quantise(self, x: Tensor, temperature: float, sampled: bool) -> tuple[Tensor, list[Quantised]]:
        """Training's way there and back: the restored latent, and each level's part in it."""
        levels = []
        rest: Any = x
        for encoder in self.encoders:
            z = encoder._latentStageEncoder(rest)
            head = encoder._quantizationHead(z)
            if sampled:
                words, codes, logits = encoder._quantizer.sample(head, temperature)
            else:
                (words, codes), logits = encoder._quantizer.straight_through(head), None
            levels.append(Quantised(head, words, codes, logits))
            rest = encoder.rest(z, words)
        restored: Tensor | None = None
        for decoder, level in zip(reversed(self.decoders), reversed(levels), strict=True):
            restored = decoder(level.words, restored)
        assert restored is not None
        return restored, levels
