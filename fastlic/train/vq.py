"""Block-transform start of McQuic: strided skips begin as principal components, codebooks as k-means of what they give.

Every block of McQuic adds a branch to a skip. With the branches silent and the skips set to the leading components of
2x2 blocks, the untrained network is a linear transform of 16x16 blocks whose coefficients are vector quantised, with
the residue coded again at half and quarter resolution. Training starts from the images that this codec makes.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.models import McQuic
from fastlic.models.mcquic.layers import Attention, ResidualBlock, ResidualBlockShuffle, ResidualBlockWithStride
from fastlic.models.mcquic.quantizer import lookup, split_groups
from fastlic.train import vq_contrast
from fastlic.train.vq_contrast import GAIN
from fastlic.train.vq_words import BIT, k_means, nearest

# With padding 1 and stride 2, output o of a 3-tap kernel reads inputs 2o-1..2o+1: taps 1 and 2 are the block 2o, 2o+1.
_BLOCK = slice(1, 3)
# Orthonormal stages double a smooth image's values each. Halved, features stay as large as pixels, which is what the
# random layers of the branches beside them, and their learning rates, are made for.
_SHRINK = 0.5


@torch.no_grad()
def initialise(model: McQuic, images: Tensor, generator: torch.Generator, rate_weight: float = 0.0) -> None:
    """Set every layer of ``model`` from ``images`` [n, 3, H, W] in [-1, 1], in place.

    Args:
        rate_weight: squared error of the latents that a bit is worth at a price of 1, the mean; 0 for codebooks that
            look at errors alone.
    """
    for module in model.modules():
        if isinstance(module, Attention):
            nn.init.zeros_(_last(module._sideBranch).weight)
            nn.init.zeros_(_last(module._sideBranch).bias)  # type: ignore[arg-type]
        if isinstance(module, (ResidualBlock, ResidualBlockWithStride, ResidualBlockShuffle)):
            nn.init.zeros_(_last(module._branch).weight)
            nn.init.zeros_(_last(module._branch).bias)  # type: ignore[arg-type]

    def analyse(x: Tensor, down: nn.Module, up: nn.Module, gained: tuple[float, float], shrink: float = 1.0) -> Tensor:
        """``shrink`` times the components of ``x``; ``down`` and ``up`` are set to them, for inputs ``gained`` times as
        large."""
        assert isinstance(down, nn.Conv2d) and isinstance(up, nn.Conv2d)
        basis, mean = _components(x, down.out_channels)
        _set_down(down, basis, mean, gained[0])
        _set_up(up, basis, mean, gained[1] * shrink)
        for parameter in down.parameters():
            parameter.mul_(shrink)
        return _down(x, basis, mean, down.out_channels) * shrink

    encoder, decoder, quantizer = list(model._encoder), list(model._decoder), model._quantizer
    x = analyse(images, encoder[0], decoder[6][0], (1, 1), _SHRINK)  # type: ignore[index]
    x = analyse(x, encoder[2]._skip, decoder[4]._skip[0], (1, GAIN), _SHRINK)  # type: ignore[arg-type, index, union-attr]
    x = analyse(x, encoder[5]._skip, decoder[1]._skip[0], (GAIN, 1), _SHRINK)  # type: ignore[arg-type, index, union-attr]
    for level, (down, up) in enumerate(zip(quantizer.encoders, quantizer.decoders, strict=True)):
        skips = down._latentStageEncoder[0]._skip, up._restoreHead[2]._skip[0]  # type: ignore[index, union-attr]
        z = analyse(x, *skips, (1, GAIN))  # type: ignore[arg-type]
        order = _grouped(z.var((0, 2, 3)), model.m, spared=rate_weight > 0)
        for head in (down._quantizationHead, down._latentHead):
            if head is not None:
                _set_identity(head[2], GAIN**2)  # type: ignore[arg-type]
                head[2].weight.copy_(head[2].weight[order])  # type: ignore[arg-type, index, operator]
        for head in (up._dequantizationHead, up._sideHead):
            if head is not None:
                _set_identity(head[1], GAIN)  # type: ignore[arg-type]
                head[1].weight.copy_(head[1].weight[:, order])  # type: ignore[arg-type, index, operator]
        unordered, z, book = z, z[:, order], down._quantizer._codebook
        if rate_weight > 0:
            last = slice(book.shape[2] - 1, None, book.shape[2])
            up._dequantizationHead[1].weight[:, last] = 0  # type: ignore[operator, index]
            head = down._quantizationHead
            vq_contrast.fit(head, unordered * GAIN, int(order[last][0]), last, -rate_weight / (2 * BIT))
            z[:, last] = torch.cat([head(part) for part in (unordered * GAIN).split(10)])[:, last]
        words, counts = k_means(split_groups(z, model.m), book.shape[1], generator, rate_weight)
        book.copy_(words)
        smoothed = counts + counts.sum(1, keepdim=True) / (10 * book.shape[1])  # no word begins as dead
        quantizer._entropyCoder._freqEMA[level].copy_(smoothed / smoothed.sum(1, keepdim=True))
        x = z - lookup(book, nearest(z, book))
        if rate_weight > 0:  # what the deeper levels begin with knows nothing of prices
            x[:, last] = 0


def _last(branch: nn.Module) -> nn.Conv2d:
    assert isinstance(branch, nn.Sequential)
    conv = branch[-1]
    assert isinstance(conv, nn.Conv2d)
    return conv


def _components(x: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Leading principal components of 2x2 blocks, [<= width, C, 2, 2], and the channels' means [C]."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, c * 4).double()
    mean = blocks.reshape(-1, c, 4).mean((0, 2))
    centred = blocks - mean.repeat_interleave(4)
    _, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    return vectors.flip(1)[:, :width].T.reshape(-1, c, 2, 2).float(), mean.float()


def _down(x: Tensor, basis: Tensor, mean: Tensor, width: int) -> Tensor:
    """What a convolution that ``_set_down`` set gives: [n, C, h, w] -> [n, width, h/2, w/2]."""
    out = F.conv2d(x - mean[:, None, None], basis, stride=2)
    return F.pad(out, (0, 0, 0, 0, 0, width - len(basis)))


def _set_down(conv: nn.Conv2d, basis: Tensor, mean: Tensor, gained: float) -> None:
    assert conv.bias is not None
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    conv.weight[: len(basis), :, _BLOCK, _BLOCK] = basis / gained
    conv.bias[: len(basis)] = -(basis.sum((2, 3)) @ mean)


def _set_up(conv: nn.Conv2d, basis: Tensor, mean: Tensor, gained: float) -> None:
    """The transpose of ``_set_down``, as a convolution before a pixel shuffle: its output 4 c + 2 i + j."""
    assert conv.bias is not None
    nn.init.zeros_(conv.weight)
    conv.weight[:, : len(basis), 1, 1] = basis.permute(1, 2, 3, 0).reshape(-1, len(basis)) / gained
    conv.bias.copy_(mean.repeat_interleave(4))


def _set_identity(conv: nn.Conv2d, gained: float) -> None:
    assert conv.bias is not None
    nn.init.dirac_(conv.weight)
    conv.weight /= gained
    nn.init.zeros_(conv.bias)


def _grouped(variance: Tensor, groups: int, spared: bool) -> Tensor:
    """An order of the channels whose equal parts are the groups; ``spared``: the least of all come last in theirs."""
    if not spared:
        return _balanced(variance, groups)
    least = variance.argsort(descending=True)
    kept, rest = least[:-groups], least[-groups:]
    return torch.cat([kept[_balanced(variance[kept], groups)].view(groups, -1), rest[:, None]], 1).flatten()


def _balanced(variance: Tensor, groups: int) -> Tensor:
    """Channels ordered so that the groups' products of variances are about equal: every codebook has as much to do."""
    size = len(variance) // groups
    loads, members = [0.0] * groups, [[] for _ in range(groups)]  # type: ignore[var-annotated]
    for channel in variance.argsort(descending=True).tolist():
        free = [g for g in range(groups) if len(members[g]) < size]
        lightest = min(free, key=lambda g: loads[g])
        members[lightest].append(channel)
        loads[lightest] += max(float(variance[channel].clamp_min(1e-8).log()) + 20.0, 0.0)
    return torch.tensor([channel for member in members for channel in member])
