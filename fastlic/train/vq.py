"""Block-transform start of McQuic: strided skips begin as principal components, codebooks as k-means of what they give.

Every block of McQuic adds a branch to a skip. With the branches silent and the skips set to the leading components of
2x2 blocks, the untrained network is a linear transform of 16x16 blocks whose coefficients are vector quantised, with
the residue coded again at half and quarter resolution. Training starts from the images that this codec makes.

Codebooks may be entropy-constrained (Chou, Lookabaugh, Gray 1989): of all words, the one is taken whose squared error
plus ``rate_weight`` times its information is least, so that smooth blocks take the few cheap words and leave the bits
to others. Coding stays a search for the nearest word: the last channel of a group is zero in every vector, and in the
codebook the square root of the word's weighted information.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.models import McQuic
from fastlic.models.mcquic.layers import Attention, ResidualBlock, ResidualBlockShuffle, ResidualBlockWithStride
from fastlic.models.mcquic.quantizer import lookup, split_groups

_ITERATIONS = 8
# With padding 1 and stride 2, output o of a 3-tap kernel reads inputs 2o-1..2o+1: taps 1 and 2 are the block 2o, 2o+1.
_BLOCK = slice(1, 3)
_BLOCK_VECTORS = 1024
_GAIN = 1.5  # of attention whose branches do nothing yet: x + x * sigmoid(0)
# Orthonormal stages double a smooth image's values each. Halved, features stay as large as pixels, which is what the
# random layers of the branches beside them, and their learning rates, are made for.
_SHRINK = 0.5


@torch.no_grad()
def initialise(model: McQuic, images: Tensor, generator: torch.Generator, rate_weight: float = 0.0) -> None:
    """Set every layer of ``model`` from ``images`` [n, 3, H, W] in [-1, 1], in place.

    Args:
        rate_weight: squared error of the latents that a bit is worth; 0 for codebooks that look at errors alone.
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
    x = analyse(x, encoder[2]._skip, decoder[4]._skip[0], (1, _GAIN), _SHRINK)  # type: ignore[arg-type, index, union-attr]
    x = analyse(x, encoder[5]._skip, decoder[1]._skip[0], (_GAIN, 1), _SHRINK)  # type: ignore[arg-type, index, union-attr]
    for level, (down, up) in enumerate(zip(quantizer.encoders, quantizer.decoders, strict=True)):
        skips = down._latentStageEncoder[0]._skip, up._restoreHead[2]._skip[0]  # type: ignore[index, union-attr]
        z = analyse(x, *skips, (1, _GAIN))  # type: ignore[arg-type]
        order = _grouped(z.var((0, 2, 3)), model.m, spared=rate_weight > 0)
        for head in (down._quantizationHead, down._latentHead):
            if head is not None:
                _set_identity(head[2], _GAIN**2)  # type: ignore[arg-type]
                head[2].weight.copy_(head[2].weight[order])  # type: ignore[arg-type, index, operator]
        for head in (up._dequantizationHead, up._sideHead):
            if head is not None:
                _set_identity(head[1], _GAIN)  # type: ignore[arg-type]
                head[1].weight.copy_(head[1].weight[:, order])  # type: ignore[arg-type, index, operator]
        z, book = z[:, order], down._quantizer._codebook
        if rate_weight > 0:
            spare_channels(model, level)
            up._dequantizationHead[1].weight[:, book.shape[2] - 1 :: book.shape[2]] = 0  # type: ignore[operator, index]
            z[:, book.shape[2] - 1 :: book.shape[2]] = 0
        words, counts = k_means(split_groups(z, model.m), book.shape[1], generator, rate_weight)
        book.copy_(words)
        smoothed = counts + counts.sum(1, keepdim=True) / (10 * book.shape[1])  # no word begins as dead
        quantizer._entropyCoder._freqEMA[level].copy_(smoothed / smoothed.sum(1, keepdim=True))
        x = z - lookup(book, nearest(z, book))
        if rate_weight > 0:  # what the deeper levels begin with knows nothing of the words' information
            x[:, book.shape[2] - 1 :: book.shape[2]] = 0


@torch.no_grad()
def spare_channels(model: McQuic, level: int) -> None:
    """Keep the last channel of every group of a level's vectors at zero, in place; a gradient may have moved it."""
    d = model.channel // model.m
    last = model._quantizer.encoders[level]._quantizationHead[2]
    last.weight[d - 1 :: d] = 0  # type: ignore[operator, index]
    last.bias[d - 1 :: d] = 0  # type: ignore[operator, index]


def weigh(book: Tensor, shares: Tensor, rate_weight: float) -> None:
    """Write what the words' information is worth into their last channel, in place; [m, k, d], shares [m, k]."""
    information = -shares.clamp_min(2.0**-24).log2()
    # Only differences decide; the likeliest word has none.
    book[..., -1] = (rate_weight * (information - information.amin(1, keepdim=True))).sqrt()


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
            counts = torch.zeros(book.shape[:2]).scatter_add_(1, codes, torch.ones(codes.shape))
            sums = torch.zeros_like(book).scatter_add_(1, codes[..., None].expand(-1, -1, book.shape[2]), vectors)
            book.copy_((sums + book) / (counts[..., None] + 1))
            if rate_weight > 0:
                weigh(book, _shares(counts), rate_weight)
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


def _shares(counts: Tensor) -> Tensor:
    """Counts [m, k] as shares, with half a vector more for every word."""
    smoothed = counts + 0.5
    return smoothed / smoothed.sum(1, keepdim=True)


def k_means(vectors: Tensor, k: int, generator: torch.Generator, rate_weight: float = 0.0) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm in every group at once from vectors drawn at random.

    Empty clusters move to random vectors; with a ``rate_weight`` they stay empty, as too dear for what they save.

    Args:
        vectors: [n, m, d] float32, n >= k; with a ``rate_weight`` zero in the last channel.

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
    for _ in range(_ITERATIONS):
        codes = _search(x, words)
        counts = torch.zeros(m, k).scatter_add_(1, codes, torch.ones(m, n))
        sums = torch.zeros(m, k, d).scatter_add_(1, codes[..., None].expand(-1, -1, d), x)
        words = torch.where(
            counts[..., None] > 0, sums / counts.clamp_min(1)[..., None], words if rate_weight > 0 else drawn()
        )
        if rate_weight > 0:
            weigh(words, _shares(counts), rate_weight)
    return words, counts


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
