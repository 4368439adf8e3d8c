"""Karhunen-Loève start: the transforms begin as the best linear 16x16 block transform of the training images.

Each stride-2 stage of g_a is set to the leading principal components of 2x2 blocks of its input (after GDN), at the
kernel taps that cover exactly one block; g_s gets their transposes. The untrained codec is then a block transform
codec, and training starts from its rate-distortion curve rather than from noise.
"""

from __future__ import annotations

import math

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.models import JAHP, Hyperprior, MLICPlusPlus
from fastlic.models.layers import GDN

# With padding 2 and stride 2, output o of a 5-tap kernel reads inputs 2o-2..2o+2: taps 2 and 3 are the block 2o, 2o+1.
_BLOCK = slice(2, 4)
_SPARE = 0.05
_GAMMA = 0.01  # GDN starts near the identity; the latents' scale is set by the orthonormal stages


def rate_matched_step(lam: float) -> float:
    """Quantiser step of an orthonormal transform (images in [0, 1]) at which lambda * 255^2 * MSE + bpp is stationary.

    At high rate a coefficient's error is step^2/12 and falls by 2 ln 2 of itself per bit; MSE averages over 3 colours.
    """
    return math.sqrt(12 * 3 / (2 * math.log(2) * lam * 255**2))


@torch.no_grad()
def initialise(model: Hyperprior, images: Tensor, lambdas: list[float]) -> None:
    """Set g_a, g_s, the gains and the scale predictor's bias from ``images`` [n, 3, H, W] in [0, 1], in place."""
    x = images
    for i in (0, 2, 4, 6):
        analysis, synthesis = model.g_a[i], model.g_s[6 - i]
        assert isinstance(analysis, nn.Conv2d) and isinstance(synthesis, nn.ConvTranspose2d)
        assert analysis.bias is not None and synthesis.bias is not None
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, c * 4).double()
        mean = blocks.reshape(-1, c, 4).mean((0, 2))  # one mean per channel: a bias of the synthesis has no position
        centred = blocks - mean.repeat_interleave(4)
        _, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        width = analysis.out_channels
        basis = vectors.flip(1)[:, :width].T  # [<= width, 4c], leading component first
        kernel = torch.zeros(width, c, 2, 2, dtype=torch.float64)
        kernel[: len(basis)] = basis.reshape(-1, c, 2, 2)
        # Channels beyond a complete basis keep their random start, small, so that they can become useful.
        # Channels beyond a complete basis keep a small random analysis and a silent synthesis: they add nothing to
        # the start and training can put them to use.
        analysis.weight.data.mul_(_SPARE)
        analysis.weight.data[: len(basis)] = 0
        synthesis.weight.data.zero_()
        analysis.weight.data[:, :, _BLOCK, _BLOCK] += kernel.float()
        analysis.bias.data.copy_(-(kernel.sum((2, 3)) @ mean).float())
        synthesis.weight.data[:, :, _BLOCK, _BLOCK] += kernel.float()
        synthesis.bias.data.copy_(mean.float())
        for gdn in (model.g_a[i + 1] if i < 6 else None, model.g_s[5 - i] if i < 6 else None):
            if isinstance(gdn, GDN):
                gdn.gamma.data.copy_(gdn.gamma_reparam.store(_GAMMA * torch.eye(len(gdn.beta))))
        x = analysis(x)
        if i < 6:
            x = model.g_a[i + 1](x)
    if model.gain is not None:
        logs = torch.tensor([-math.log(rate_matched_step(lam)) for lam in lambdas])
        model.gain.log_gain.data.copy_(logs[:, None].expand(-1, model.M))
        model.gain.log_inverse.data.copy_(-model.gain.log_gain.data)
    start_densities(model, x)


@torch.no_grad()
def start_densities(model: Hyperprior, y: Tensor) -> None:
    """Let the entropy model begin with each channel's own spread as scale, in place.

    Args:
        y: [n, M, h, w], the transformed images before the gain.
    """
    middle = 1.0 if model.gain is None else math.exp(model.gain.log_gain.mean().item())
    scales = y.std((0, 2, 3)) * middle * 0.5
    if isinstance(model, MLICPlusPlus):
        heads = [*model.entropy_parameters_anchor, *model.entropy_parameters_nonanchor]
        parts = [*scales.chunk(model.slices)] * 2
        if model.early:
            heads.append(model.entropy_parameters_early)
            parts.append(parts[0])
        for head, part in zip(heads, parts, strict=True):
            head.fusion[-1].bias.data[: len(part)] = part  # type: ignore[union-attr, operator, index]
        for predictor in [*model.lrp_anchor, *model.lrp_nonanchor]:
            last = predictor.lrp_transform[-1]  # type: ignore[union-attr, index]
            nn.init.zeros_(last.weight)  # type: ignore[union-attr, arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[union-attr, arg-type]
        return
    head = model.entropy_parameters[4] if isinstance(model, JAHP) else model.h_s[4]
    assert isinstance(head, nn.Conv2d) and head.bias is not None
    head.bias.data[: model.M] = scales
