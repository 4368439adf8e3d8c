"""Narrower entropy networks that start from what a wider model's networks compute.

Behind an activation, those channels are kept from which the next layer's outputs follow best; where two layers follow
each other without one, principal components of what the second makes of the first. Then every layer is fitted by
least squares to what the wider model has at that place, from the inputs that it will really see.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.models import JAHP
from fastlic.models.density import SCALE_BOUND
from fastlic.train.weights import read_state

TILES = 96  # that layers are fitted to; 256 served no better
_RIDGE = 1e-6  # of the mean square of a layer's inputs
_IMAGES = 16  # whose columns of inputs are held at a time


def wider(model: nn.Module, path: Path) -> JAHP | None:
    """The JAHP of the weights at ``path`` if ``model`` is one of its size with narrower entropy networks, else None."""
    if not isinstance(model, JAHP):
        return None
    state = {name: value.float() for name, value in read_state(path).items()}
    try:
        wide = JAHP.from_state_dict(state)
    except ValueError:  # of another family
        return None
    if (wide.N, wide.M, wide.qualities) != (model.N, model.M, model.qualities) or wide.sizes == model.sizes:
        return None
    narrower = all(a >= b for a, b in zip(wide.sizes.all, model.sizes.all, strict=True))
    return wide if narrower else None


@torch.no_grad()
def initialise(model: JAHP, wide: JAHP, images: Tensor) -> None:
    """Set the context, the hyper synthesis and the parameter layers of ``model`` to the nearest of ``wide``, in place.

    Args:
        model, wide: of the same N, M and qualities; what else they have is alike.
        images: [n, 3, H, W] in [0, 1], sides multiples of 64; each at one quality.
    """
    z, latent, weight, needs = _latents(wide.eval(), images)
    old: Any = wide
    new: Any = model
    leaky, layers = old.h_s[1], old.entropy_parameters
    before_1 = old.h_s[0](z)
    before_2 = old.h_s[2](leaky(before_1))
    hyper, context = old.h_s[4](leaky(before_2)), old.context_prediction(latent)
    hidden_1 = layers[0](torch.cat([hyper, context], 1))
    hidden_2 = layers[2](leaky(hidden_1))
    out = layers[4](leaky(hidden_2))

    # From the outputs back: of a layer is kept what the layers behind it need.
    needs, kept = _kept(_Sums.of(leaky(hidden_2), out, weight), needs, model.sizes.parameters[1])
    hidden_2 = hidden_2[:, kept]
    needs, kept = _kept(_Sums.of(leaky(hidden_1), hidden_2, weight), needs, model.sizes.parameters[0])
    hidden_1 = hidden_1[:, kept]
    of_hyper, of_context = layers[0].weight[kept, :, 0, 0].split([old.sizes.hyper[-1], old.sizes.context], 1)
    mix = _components(of_context, context, needs, weight, model.sizes.context)
    new.context_prediction.weight.copy_(torch.einsum("ab,b...->a...", mix, old.context_prediction.weight))
    new.context_prediction.bias.copy_(mix @ old.context_prediction.bias)
    mix = _components(of_hyper, hyper, needs, weight, model.sizes.hyper[-1])
    hyper = torch.einsum("ab,nbhw->nahw", mix, hyper)
    needs, kept = _kept(
        _Sums.of(leaky(before_2), hyper, weight, 9), torch.ones(len(mix)).double(), model.sizes.hyper[1]
    )
    before_2 = before_2[:, kept]
    halved, weight_2 = F.pixel_unshuffle(before_2, 2), F.avg_pool2d(weight, 2)
    kept = _kept(_Sums.of(leaky(before_1), halved, weight_2, 9), needs.repeat_interleave(4), model.sizes.hyper[0])[1]

    # And forward, each from what the narrower ones before it give.
    new.h_s[0].weight.copy_(old.h_s[0].weight[:, kept])
    new.h_s[0].bias.copy_(old.h_s[0].bias[kept])
    x = leaky(new.h_s[0](z))
    _fit_deconv(new.h_s[2], _Sums.of(x, halved, weight_2, 9))
    x = leaky(new.h_s[2](x))
    _fit(new.h_s[4], _Sums.of(x, hyper, weight, 9))
    x = torch.cat([new.h_s[4](x), new.context_prediction(latent)], 1)
    for k, target in ((0, hidden_1), (2, hidden_2), (4, out)):
        _fit(new.entropy_parameters[k], _Sums.of(x, target, weight))
        x = leaky(new.entropy_parameters[k](x))


def _latents(model: JAHP, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the entropy networks see of images, each at one quality in turn, and what errors of their outputs weigh.

    Returns:
        z_hat [n, N, h/4, w/4]; the context's latent [n, M, h, w]; weights of squared errors by position [n, 1, h, w];
        weights of errors by output [2M], float64. An error costs bits by its ratio to the scale, so that both are
        inverses of scales, in their geometric mean.
    """
    parts, logs = [], []
    for index, image in enumerate(images.split(1)):
        quality = float(index % model.qualities + 1) if model.qualities else None
        y = model.g_a(image) * model.gains(quality, 1)[0]
        z_hat, _ = model.entropy_bottleneck(model.hyper_analysis(y))
        hyper, seen, worth = model.h_s(z_hat), torch.round(y), model.worths(quality, 1)
        scales, means = model._scales_and_means(hyper, seen)
        parts.append((z_hat, model.gaussian_conditional.rounded(y, scales, means, worth)))
        logs.append(scales.clamp_min(SCALE_BOUND).log())
    z, latent = (torch.cat(part) for part in zip(*parts, strict=True))
    log = torch.cat(logs)
    return z, latent, (-2 * log.mean(1, keepdim=True)).exp(), (-log.mean((0, 2, 3))).exp().double().repeat(2)


@dataclass
class _Sums:
    """Second moments of a layer's inputs, and a one, with themselves and with its targets.

    Attributes:
        inputs: float64 [c * taps + 1, c * taps + 1].
        targets: float64 [c * taps + 1, k].
        taps: 9 of a 3x3 neighbourhood, or 1.
    """

    inputs: Tensor
    targets: Tensor
    taps: int

    @classmethod
    def of(cls, x: Tensor, target: Tensor, weight: Tensor, taps: int = 1) -> _Sums:
        """Of x [n, c, h, w] and target [n, k, h, w], each position by its weight [n, 1, h, w]."""
        total = torch.zeros(())
        for a, t, w in zip(x.split(_IMAGES), target.split(_IMAGES), weight.split(_IMAGES), strict=True):
            columns = a.flatten(2) if taps == 1 else F.unfold(a, 3, padding=1)
            columns = torch.cat([columns, torch.ones_like(columns[:, :1])], 1)
            weighed = (columns * w.flatten(2)).transpose(0, 1).flatten(1)
            both = torch.cat([columns, t.flatten(2)], 1).transpose(0, 1).flatten(1)
            total = total + (weighed @ both.T).double()
        size = x.shape[1] * taps + 1
        total = total / total[size - 1, size - 1]
        return cls(total[:, :size], total[:, size:], taps)

    def solve(self, rows: Tensor | None = None) -> Tensor:
        """The best estimate of the targets from these inputs (default all) and the one: float64 [rows + 1, k]."""
        rows = torch.arange(len(self.inputs) - 1) if rows is None else rows
        rows = torch.cat([rows, torch.tensor([len(self.inputs) - 1])])
        gram = self.inputs[rows][:, rows].clone()
        gram.diagonal()[:-1] += _RIDGE * gram.diagonal()[:-1].mean()
        return torch.linalg.solve(gram, self.targets[rows])


def _kept(sums: _Sums, needs: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(how much the layer needs each kept channel [count], kept channels int64 [count]), the most useful first.

    Args:
        needs: [k], what an error of each target weighs.
    """
    taps, size = sums.taps, len(sums.inputs) - 1
    channels = size // taps
    mean, target_mean = sums.inputs[:size, -1], sums.targets[-1]
    gram = sums.inputs[:size, :size] - mean[:, None] * mean
    moments = (sums.targets[:size] - mean[:, None] * target_mean) * needs
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(taps, dtype=torch.float64)
    kept: list[int] = []
    for _ in range(min(count, channels)):
        blocks = gram.reshape(channels, taps, channels, taps).diagonal(dim1=0, dim2=2).permute(2, 0, 1) + ridge
        rows = moments.reshape(channels, taps, -1)
        gains = (rows * torch.linalg.solve(blocks, rows)).sum((1, 2))
        gains[kept] = -1
        kept.append(int(gains.argmax()))
        own = slice(kept[-1] * taps, (kept[-1] + 1) * taps)
        known = torch.linalg.solve(gram[own, own] + ridge, torch.cat([gram[own], moments[own]], 1))
        column = gram[:, own].clone()
        gram -= column @ known[:, :size]
        moments -= column @ known[:, size:]
    chosen = torch.tensor(kept)
    solution = sums.solve((chosen[:, None] * taps + torch.arange(taps)).flatten())[:-1] * needs
    return solution.reshape(len(kept), -1).norm(dim=1), chosen


def _components(matrix: Tensor, x: Tensor, needs: Tensor, weight: Tensor, count: int) -> Tensor:
    """[count, c]: principal components of matrix [k, c] times x [n, c, h, w], errors weighing as ``needs`` [k] says."""
    sums = _Sums.of(x, x[:, :1], weight)
    mean = sums.inputs[:-1, -1]
    scaled = matrix.double() * needs[:, None]
    covariance = scaled @ (sums.inputs[:-1, :-1] - mean[:, None] * mean) @ scaled.T
    vectors = torch.linalg.eigh(covariance)[1].flip(1)[:, :count]
    components = torch.zeros(count, matrix.shape[1])
    components[: vectors.shape[1]] = (vectors.T @ scaled).float()
    return components


def _fit(layer: Any, sums: _Sums) -> None:
    """Set a convolution to the best estimate of the targets."""
    solution = sums.solve().T.float()
    layer.weight.copy_(solution[:, :-1].reshape(layer.weight.shape))
    layer.bias.copy_(solution[:, -1])


def _fit_deconv(layer: Any, sums: _Sums) -> None:
    """Set a 5x5 transposed convolution of stride 2 to the best estimate of the four phases of its outputs.

    Output 2a + p reads input a + d by tap p + 2 - 2d, where there is such a tap.
    """
    inputs, outputs = layer.weight.shape[:2]
    biases = torch.zeros(outputs)
    phases = sums.targets
    for row in range(2):
        for column in range(2):
            places = [(i, j) for i in range(3) for j in range(3) if i >= row and j >= column]  # d + 1 of each axis
            taps = torch.tensor([3 * i + j for i, j in places])
            rows = (torch.arange(inputs)[:, None] * 9 + taps).flatten()
            part = _Sums(sums.inputs, phases[:, 2 * row + column :: 4], 9)
            solution = part.solve(rows).float()
            biases += solution[-1] / 4
            for (i, j), kernel in zip(places, solution[:-1].reshape(inputs, len(places), -1).unbind(1), strict=True):
                layer.weight[:, :, row + 4 - 2 * i, column + 4 - 2 * j] = kernel
    layer.bias.copy_(biases)
