"""McQuic's codebook search against a search in float64, and the bits that a context of codes saves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from fastlic.codec import Codec
from fastlic.integers import vq
from fastlic.models.mcquic import quantizer
from fastlic.ops.codebook import codebook_nearest


class Search(NamedTuple):
    """What was searched, and found: x [n, m, d], words [m, k, d], indexes [n, m]."""

    x: Tensor
    words: Tensor
    found: Tensor


class Verdict(NamedTuple):
    indexes: int
    wrong: int  # indexes that a search in float64 chooses otherwise, of two equal distances the lower index
    float32: int  # the same of a search by float32 distances, McQuic's own formulation
    loss: float  # by how much the worst of those is farther away, as a share of the squared distance


def searches(codec: Codec, image: Tensor, quality: float | None) -> list[Search]:
    """Every search of a McQuic codec on one image [3, H, W]."""
    seen: list[Search] = []

    def search(x: Tensor, words: Tensor, **how: Any) -> Tensor:
        seen.append(Search(x, words, codebook_nearest(x, words, **how)))
        return seen[-1].found

    with patch.object(quantizer, "codebook_nearest", search), patch.object(vq, "codebook_nearest", search):
        codec.analyse(image, quality)
    return seen


def compare(search: Search) -> Verdict:
    """Hold one search against the float64 one, word by word in plain torch."""
    x, words, found = search
    exact = codebook_nearest(x, words, backend="reference")
    other = all_distances(as_map(x), words)[0, :, 0].t()
    loss = _distance(x, words, other) / _distance(x, words, exact).clamp_min(1e-30) - 1
    return Verdict(found.numel(), int((found != exact).sum()), int((other != exact).sum()), float(loss.max()))


def as_map(x: Tensor) -> Tensor:
    """Vectors [n, m, d] as a map [1, m * d, 1, n], which is what models search in."""
    return x.flatten(1).t()[None, :, None].contiguous()


def all_distances(x: Tensor, words: Tensor) -> Tensor:
    """McQuic's formulation in float32: |x|^2 + |word|^2 - 2 x.word of all pairs, then the smallest.

    Args:
        x: map [n, m * d, h, w].
        words: [m, k, d].

    Returns:
        int64 [n, m, h, w].
    """
    n, _, h, w = x.shape
    m, _, d = words.shape
    x = x.reshape(n, m, d, h, w)
    products = torch.einsum("nmdhw,mkd->nmkhw", x, words)
    squares = x.square().sum(2, keepdim=True) + words.square().sum(-1)[:, :, None, None]
    return (squares - 2 * products).permute(0, 1, 3, 4, 2).argmin(-1)


def _distance(x: Tensor, words: Tensor, codes: Tensor) -> Tensor:
    """float64 [n, m], squared."""
    chosen = words.gather(1, codes.t()[..., None].expand(-1, -1, x.shape[2])).transpose(0, 1)
    return (x.double() - chosen.double()).square().sum(-1)


def context_bits(codec: Codec, images: Sequence[Tensor], quality: float | None) -> tuple[float, float]:
    """Information of all codes of ``images`` under the codec's tables alone, and with the context it may have."""
    plain = replace(codec.entropy, context=None)
    coded = [(level, codes.numpy()) for image in images for level, codes in _levels(codec, image, quality)]
    return sum(plain.bits(*each) for each in coded), sum(codec.entropy.bits(*each) for each in coded)


def _levels(codec: Codec, image: Tensor, quality: float | None) -> Iterator[tuple[int, Tensor]]:
    return enumerate(codec.analyse(image, quality).target)
