"""Least-squares start of McQuic's decoder: its convolutions, one after the other, in closed form.

A block transform undone block by block leaves an edge at every block. The kernels of the decoder see 3x3 neighbours:
each is set to the best linear estimate of what the encoder had at that place from what the decoder has around it
(Wiener's filter, by the normal equations). The branches stay silent: training opens them.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.models import McQuic
from fastlic.models.mcquic.layers import ResidualBlockShuffle
from fastlic.models.mcquic.quantizer import lookup
from fastlic.train import vq_words
from fastlic.train.least_squares import solve
from fastlic.train.vq_contrast import visibility

_BATCH = 10  # images at a time


@torch.no_grad()
def fit(model: McQuic, images: Tensor) -> None:
    """Set the decoder of ``model``, in place; encoder and codebooks stay as they are.

    Args:
        model: as ``vq.initialise`` leaves it, its codebooks refined or not.
        images: [n, 3, H, W] in [-1, 1]; with fewer than five nothing changes.
    """
    encoder, quantizer, decoder = model._encoder, model._quantizer, model._decoder
    rest = _map(encoder, images)
    visible = visibility((images + 1) / 2)
    rests, latents, words = [], [], []
    for down in quantizer.encoders:
        z = _map(down._latentStageEncoder, rest)
        book = down._quantizer._codebook
        words.append(lookup(book, vq_words.nearest(_map(down._quantizationHead, z), book)))
        rests.append(rest)
        latents.append(z)
        beyond = down.rest(z, words[-1])
        rest = rest if beyond is None else beyond
    restored: Tensor | None = None
    for level in reversed(range(model.levels)):
        up = quantizer.decoders[level]
        heads = [up._dequantizationHead] if up._sideHead is None else [up._dequantizationHead, up._sideHead]
        sources = [words[level]] if restored is None else [words[level], restored]
        inputs = [_map(head[0], source) for head, source in zip(heads, sources, strict=True)]  # type: ignore[index]
        solve([head[1] for head in heads], inputs, latents[level], visible)  # type: ignore[index, misc]
        x = torch.stack([_map(head[1:], i) for head, i in zip(heads, inputs, strict=True)]).sum(0)  # type: ignore[index]
        restored = _shuffle_block(up._restoreHead[2], _map(up._restoreHead[:2], x), rests[level], visible)  # type: ignore[arg-type, index]
    assert restored is not None
    x = _shuffle_block(decoder[1], _map(decoder[0], restored), _map(encoder[:3], images), visible)  # type: ignore[arg-type]
    x = _shuffle_block(decoder[4], _map(decoder[2:4], x), _map(encoder[:1], images), visible)  # type: ignore[arg-type]
    x = _map(decoder[5], x)
    solve([decoder[6][0]], [x], F.pixel_unshuffle(images, 2), visible)  # type: ignore[index, list-item]


def _map(module: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([module(part) for part in x.split(_BATCH)])


def _shuffle_block(block: ResidualBlockShuffle, x: Tensor, target: Tensor, visible: Tensor) -> Tensor:
    solve([block._skip[0]], [x], F.pixel_unshuffle(target, 2), visible)  # type: ignore[list-item]
    return _map(block, x)
