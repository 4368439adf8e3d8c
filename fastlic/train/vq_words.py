"""Words of McQuic's codebooks: k-means, entropy-constrained where a bit has a price, and what their channels mean.

Entropy-constrained (Chou, Lookabaugh, Gray 1989): of all words, the one is taken whose squared error plus its
information times a price is least, so that smooth blocks take the few cheap words and leave the bits to others. Coding
stays a search for the nearest word. The last channel of a word holds its information r times ``BIT``, that of a vector
-price / (2 BIT): their squared difference is a constant of the vector, plus price times r, plus (BIT r)^2, which is
next to nothing. Prices follow the contrast (fastlic.train.vq_contrast).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastlic.models import McQuic
from fastlic.models.mcquic.quantizer import BIT, lookup, split_groups

_ITERATIONS = 8
_BLOCK_VECTORS = 1024
_LEAST_PRICE = 0.1  # which an estimate may undercut, and an error must not weigh without bounds


def inform(book: Tensor, shares: Tensor, scale: Tensor | float = 1.0) -> None:
    """Write the words' information into their last channel, in place; [m, k, d], shares [m, k].

    Args:
        scale: factor on every price, since a search sees only its product with the information.
    """
    book[..., -1] = BIT * scale * -shares.clamp_min(2.0**-24).log2()


def weights(vectors: Tensor, rate_weight: float) -> Tensor:
    """What the errors of vectors [..., d] weigh, [..., 1]: one over their price, which is a rate over an error."""
    if rate_weight <= 0:
        return torch.ones_like(vectors[..., :1])
    price = vectors[..., -1:] * (-2 * BIT / rate_weight)
    return 1 / price.clamp_min(_LEAST_PRICE)


@torch.no_grad()
def refine(model: McQuic, images: Tensor, rounds: int = 3, rate_weight: float = 0.0) -> None:
    """Move every word to the mean of the vectors nearest to it, in place; the networks stay as they are.

    ``initialise`` draws its words from few vectors each, so that they fit those images better than others.

    Args:
        images: [n, 3, H, W] in [-1, 1].
        rounds: of Lloyd's algorithm per level; the old word counts as one more vector.
        rate_weight: as ``initialise`` had it.
    """
    x = torch.cat([model._encoder(part) for part in images.split(10)])
    for level, down in enumerate(model._quantizer.encoders):
        z = torch.cat([down._latentStageEncoder(part) for part in x.split(10)])
        head = torch.cat([down._quantizationHead(part) for part in z.split(10)])
        book = down._quantizer._codebook
        vectors = split_groups(head, model.m).transpose(0, 1).contiguous()  # [m, n, d]
        for _ in range(rounds):
            codes = _search(vectors, book)
            counts, sums, total = _gathered(vectors, codes, book.shape[1], rate_weight)
            book.copy_((sums + book) / (total + 1))
            if rate_weight > 0:
                inform(book, _shares(counts))
        codes = nearest(head, book)
        counts = torch.stack([torch.bincount(c.flatten(), minlength=book.shape[1]) for c in codes.unbind(1)])
        model._quantizer._entropyCoder._freqEMA[level].copy_(_shares(counts))
        rest = down.rest(z, lookup(book, codes))
        if rest is not None:
            x = rest


@torch.no_grad()
def nearest(x: Tensor, book: Tensor) -> Tensor:
    """Nearest words of x [B, m d, h, w] in ``book`` [m, k, d], int64 [B, m, h, w]: one float32 product per block.

    Coding asks fastlic.ops.codebook, whose answer is exact; training runs this thousands of times and may err on ties.
    """
    b, _, h, w = x.shape
    vectors = split_groups(x.detach().float(), len(book)).transpose(0, 1)
    return _search(vectors, book.detach().float()).reshape(-1, b, h, w).transpose(0, 1)


def _search(vectors: Tensor, book: Tensor) -> Tensor:
    """vectors [m, n, d], book [m, k, d] -> int64 [m, n]."""
    half = book.square().sum(-1)[:, None] / 2
    words = book.transpose(1, 2)
    parts = [torch.baddbmm(half, part, words, alpha=-1).argmin(-1) for part in vectors.split(_BLOCK_VECTORS, 1)]
    return torch.cat(parts, 1)


def _gathered(vectors: Tensor, codes: Tensor, k: int, rate_weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of vectors [m, n, d] with codes [m, n], for every word: how many [m, k], and their weighted sum [m, k, d] and
    weights' sum [m, k, 1]."""
    m, _, d = vectors.shape
    weight = weights(vectors, rate_weight)
    counts = torch.zeros(m, k).scatter_add_(1, codes, torch.ones(codes.shape))
    sums = torch.zeros(m, k, d).scatter_add_(1, codes[..., None].expand(-1, -1, d), vectors * weight)
    total = torch.zeros(m, k).scatter_add_(1, codes, weight[..., 0])
    return counts, sums, total[..., None]


def _shares(counts: Tensor) -> Tensor:
    """Counts [m, k] as shares, with half a vector more for every word."""
    smoothed = counts + 0.5
    return smoothed / smoothed.sum(1, keepdim=True)


def k_means(vectors: Tensor, k: int, generator: torch.Generator, rate_weight: float = 0.0) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm in every group at once from vectors drawn at random.

    Empty clusters move to random vectors; with a ``rate_weight`` they stay empty, as too dear for what they save.

    Args:
        vectors: [n, m, d] float32, n >= k; with a ``rate_weight`` the last channel is -price / (2 BIT).

    Returns:
        words [m, k, d], and how many vectors each has, [m, k] float32.
    """
    x = vectors.transpose(0, 1).contiguous()
    m, n, d = x.shape
    if n < k:
        raise ValueError(f"{k} words need at least as many vectors, got {n}: give more tiles")

    def drawn() -> Tensor:
        picks = torch.stack([torch.randperm(n, generator=generator)[:k] for _ in range(m)])
        return x.gather(1, picks[..., None].expand(-1, -1, d))

    words, counts = drawn(), torch.zeros(m, k)
    if rate_weight > 0:
        inform(words, torch.full((m, k), 1 / k))
    for _ in range(_ITERATIONS):
        codes = _search(x, words)
        counts, sums, total = _gathered(x, codes, k, rate_weight)
        words = torch.where(counts[..., None] > 0, sums / total.clamp_min(1e-6), words if rate_weight > 0 else drawn())
        if rate_weight > 0:
            inform(words, _shares(counts))
    return words, counts
