"""What keeps codebooks in use: a start from the data, and new places for words that nothing is nearest to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastlic.models.mcquic.quantizer import DEAD, Quantizer, split_groups
from fastlic.ops.codebook import codebook_nearest

_JITTER = 1e-2  # of a word's own root mean square: copies must differ, or ties would keep the second one dead


def usage(quantizer: Quantizer) -> list[float]:
    """Share of words per level whose running frequency is above ``DEAD``."""
    return [float((f > DEAD).double().mean()) for f in quantizer._entropyCoder.normalised()]


@torch.no_grad()
def reassign(quantizer: Quantizer, generator: torch.Generator | None = None) -> float:
    """Move dead words beside living ones, drawn by how often those are used, and share their frequencies.

    McQuic copies words exactly, at most half a codebook at a time. Here a copy is shifted a little, so that the two
    part at the next step, and each gets half of the frequency, so that a fresh copy does not count as dead.

    Returns:
        the share of all words that moved.
    """
    moved = total = 0
    for level, book in enumerate(quantizer.codebooks):
        words, ema = book._codebook, quantizer._entropyCoder._freqEMA[level]
        shares = quantizer._entropyCoder.normalised()[level]
        for group, share in enumerate(shares):
            dead = torch.nonzero(share <= DEAD)[:, 0]
            total += len(share)
            if not len(dead) or len(dead) == len(share):
                continue
            dead = dead[: len(share) // 2]
            living = share.float().masked_fill(share <= DEAD, 0)
            donors = torch.multinomial(living, len(dead), replacement=True, generator=generator)
            source = words[group, donors]
            scale = source.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)
            noise = torch.randn(source.shape, generator=generator, device=source.device, dtype=source.dtype)
            words[group, dead] = source + _JITTER * scale * noise
            copies = torch.bincount(donors, minlength=len(share))
            part = ema[group] / (copies + 1)
            ema[group, donors] = part[donors]
            ema[group, dead] = part[donors]
            moved += len(dead)
    return moved / max(total, 1)


@torch.no_grad()
def initialise(quantizer: Quantizer, x: Tensor, iterations: int, generator: torch.Generator | None) -> None:
    """Set codebooks level by level, each by k-means over what the levels above it leave; x is the latent [B, C, h, w].

    Frequencies start as the shares of the clusters.
    """
    rest: Any = x
    for level, encoder in enumerate(quantizer.encoders):
        z = encoder._latentStageEncoder(rest)
        head = encoder._quantizationHead(z)
        book = encoder._quantizer._codebook
        words, counts = k_means(split_groups(head, book.shape[0]), book.shape[1], iterations, generator)
        book.copy_(words)
        # No word starts as dead: a share of 1/(10 k) at least.
        smoothed = counts + counts.sum(1, keepdim=True) / (10 * book.shape[1])
        quantizer._entropyCoder._freqEMA[level].copy_(smoothed / smoothed.sum(1, keepdim=True))
        rest = encoder.rest(z, encoder._dequantizer(encoder._quantizer.nearest(head)))


@torch.no_grad()
def k_means(x: Tensor, k: int, iterations: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm in every group at once, from vectors drawn at random; empty clusters restart at vectors.

    Args:
        x: [n, m, d] float32.
        k: words per group; more than n is allowed, what is left over starts as shifted copies.

    Returns:
        words [m, k, d] and how many vectors each has, [m, k] float32.
    """
    n, m, d = x.shape
    spread = x.std(0, correction=0, keepdim=True).transpose(0, 1)  # [m, 1, d]
    picks = torch.stack([torch.randperm(n, generator=generator) for _ in range(m)]).to(x.device)
    picks = picks.repeat(1, -(-k // n))[:, :k]
    by_group = x.transpose(0, 1)  # [m, n, d]
    words = by_group.gather(1, picks[..., None].expand(-1, -1, d))
    if k > n:
        noise = torch.randn(words.shape, generator=generator).to(words)
        noise[:, :n] = 0
        words = words + _JITTER * spread * noise
    words = words.contiguous()
    counts = torch.zeros(m, k, device=x.device)
    for _ in range(max(iterations, 1)):
        codes = codebook_nearest(x.float(), words).t()  # [m, n]
        counts = torch.zeros(m, k, device=x.device).scatter_add_(1, codes, torch.ones_like(codes, dtype=torch.float32))
        sums = torch.zeros_like(words).scatter_add_(1, codes[..., None].expand(-1, -1, d), by_group)
        means = sums / counts.clamp_min(1)[..., None]
        again = by_group.gather(
            1, torch.randint(n, (m, k), generator=generator).to(x.device)[..., None].expand(-1, -1, d)
        )
        words = torch.where(counts[..., None] > 0, means, again if k <= n else words)
    codes = codebook_nearest(x.float(), words).t()
    counts = torch.zeros(m, k, device=x.device).scatter_add_(1, codes, torch.ones_like(codes, dtype=torch.float32))
    return words, counts
