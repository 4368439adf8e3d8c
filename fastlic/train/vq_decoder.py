"""Least-squares start of McQuic's decoder: its convolutions, one after the other, in closed form.

A block transform undone block by block leaves an edge at every block. The kernels of the decoder see 3x3 neighbours:
each is set to the best linear estimate of what the encoder had at that place from what the decoder has around it
(Wiener's filter, by the normal equations). The branches stay silent: training opens them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.models import McQuic
from fastlic.models.mcquic.layers import ResidualBlockShuffle
from fastlic.models.mcquic.quantizer import lookup
from fastlic.train import vq

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
    rests, latents, words = [], [], []
    for down in quantizer.encoders:
        z = _map(down._latentStageEncoder, rest)
        book = down._quantizer._codebook
        words.append(lookup(book, vq.nearest(_map(down._quantizationHead, z), book)))
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
        _solve([head[1] for head in heads], inputs, latents[level])  # type: ignore[index, misc]
        x = torch.stack([_map(head[1:], i) for head, i in zip(heads, inputs, strict=True)]).sum(0)  # type: ignore[index]
        restored = _shuffle_block(up._restoreHead[2], _map(up._restoreHead[:2], x), rests[level])  # type: ignore[arg-type, index]
    assert restored is not None
    x = _shuffle_block(decoder[1], _map(decoder[0], restored), _map(encoder[:3], images))  # type: ignore[arg-type]
    x = _shuffle_block(decoder[4], _map(decoder[2:4], x), _map(encoder[:1], images))  # type: ignore[arg-type]
    x = _map(decoder[5], x)
    _solve([decoder[6][0]], [x], F.pixel_unshuffle(images, 2))  # type: ignore[index, list-item]


def _map(module: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([module(part) for part in x.split(_BATCH)])


def _shuffle_block(block: ResidualBlockShuffle, x: Tensor, target: Tensor) -> Tensor:
    _solve([block._skip[0]], [x], F.pixel_unshuffle(target, 2))  # type: ignore[list-item]
    return _map(block, x)


def _solve(convs: Sequence[nn.Conv2d], inputs: Sequence[Tensor], target: Tensor) -> None:
    """Change the 3x3 convolutions so that the sum of what they make of ``inputs`` comes nearest to ``target``.

    How much the change is held back (ridge) is what serves every fifth image best, given the other four.

    Args:
        inputs: one [n, C, h, w] per convolution.
        target: [n, K, h, w].
    """
    size = sum(9 * x.shape[1] for x in inputs) + 1
    zero = torch.zeros(size, size + target.shape[1], dtype=torch.float64)  # gram matrix and moments, side by side
    sums = {False: zero, True: zero.clone()}  # of the images that choose the ridge: True
    for index, parts in enumerate(zip(*(x.split(1) for x in (*inputs, target)), strict=True)):
        xs, missing = parts[:-1], parts[-1] - sum(conv(x) for conv, x in zip(convs, parts[:-1], strict=True))
        columns = [F.unfold(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3)[0] for x in xs]
        a = torch.cat([*columns, torch.ones(1, columns[0].shape[1])])
        sums[index % 5 == 4] += (a @ torch.cat([a, missing[0].flatten(1)]).T).double()

    def change(seen: Tensor, ridge: float) -> Tensor:
        gram, moments = seen[:, :size].clone(), seen[:, size:]
        gram.diagonal()[:-1] += ridge * gram.diagonal()[:-1].max()
        return torch.linalg.solve(gram, moments)

    def error(w: Tensor) -> float:
        gram, moments = sums[True][:, :size], sums[True][:, size:]
        return float((w * (gram @ w - 2 * moments)).sum())  # up to a constant, which is that of no change

    ridges = [10.0**power for power in range(-7, 1)]
    errors = [error(change(sums[False], ridge)) for ridge in ridges] if len(target) >= 5 else [0.0]
    if min(errors) >= 0:
        return
    solution = change(sums[False] + sums[True], ridges[errors.index(min(errors))]).T.float()
    begin = 0
    for conv, x in zip(convs, inputs, strict=True):
        end = begin + 9 * x.shape[1]
        conv.weight += solution[:, begin:end].reshape(conv.weight.shape)
        begin = end
    assert convs[0].bias is not None
    convs[0].bias += solution[:, -1]
