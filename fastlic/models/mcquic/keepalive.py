"""What keeps codebooks in use: new places for words that nothing is nearest to."""

from __future__ import annotations

import torch

from fastlic.models.mcquic.quantizer import DEAD, Quantizer

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
