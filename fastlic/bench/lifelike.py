"""Full-size models whose random weights behave like trained ones: for timing and byte ratios, never for quality.

Random initial weights give latents that are all zero and scales outside the table. Here the last layer of each network
is rescaled on the demonstration photo: latent channels get the spreads of trained models, and the predicted scales and
means follow them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from fastlic.codec.calibration import default_calibration
from fastlic.models import JAHP, MeanScaleHyperprior


def photo() -> Tensor:
    """The demonstration photo at Kodak's size, float [3, 512, 768] in [0, 1]."""
    return nn.functional.interpolate(default_calibration()[0][None], (512, 768), mode="bilinear", antialias=True)[0]


def spreads(channels: int, seed: int) -> Tensor:
    """Standard deviations [channels]: 60 % in 0.11..0.3, 30 % in 0.3..2, 10 % in 2..20, log-uniform."""
    rng = np.random.default_rng(seed)
    kind = rng.random(channels)
    low = np.where(kind < 0.6, 0.11, np.where(kind < 0.9, 0.3, 2.0))
    high = np.where(kind < 0.6, 0.3, np.where(kind < 0.9, 2.0, 20.0))
    return torch.from_numpy(low * (high / low) ** rng.random(channels)).float()


def _rescale(last: nn.Module, run: Callable[[], object], mean: Tensor, std: Tensor) -> None:
    """Give the outputs of ``last``, a convolution that ``run`` executes, these channel means and deviations."""
    assert isinstance(last, (nn.Conv2d, nn.ConvTranspose2d)) and last.bias is not None
    seen: list[Tensor] = []
    hook = last.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    run()
    hook.remove()
    output = seen[0].transpose(0, 1).flatten(1)
    gain = std / (output.std(1) + 1e-9)
    shape = (1, -1, 1, 1) if isinstance(last, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    last.weight.data *= gain.reshape(shape)
    last.bias.data = (last.bias.data - output.mean(1)) * gain + mean


@torch.no_grad()
def lifelike(cls: type[MeanScaleHyperprior] = JAHP, N: int = 192, M: int = 192, seed: int = 0) -> MeanScaleHyperprior:
    """A model of that size; ``lifelike(JAHP, 192, 192)`` is CompressAI's mbt2018 at its lower qualities."""
    torch.manual_seed(seed)
    model = cls(N, M).eval()
    image = photo()[None]
    y_spread, z_spread = spreads(M, seed), spreads(N, seed + 1) / 2
    _rescale(model.g_a[-1], lambda: model.g_a(image), torch.zeros(M), y_spread)
    y = model.g_a(image)
    _rescale(model.h_a[-1], lambda: model.h_a(y), torch.zeros(N), z_spread)
    z_hat = torch.round(model.h_a(y))
    # A logistic density of each channel's spread: the network is linear but for its tanh factors, which start at zero.
    density = model.entropy_bottleneck
    slope = math.pi / math.sqrt(3) / z_spread.clamp_min(0.15)
    first = density.matrices[0]
    first.data = torch.log(torch.expm1(nn.functional.softplus(first.data) * 10 * slope[:, None, None]))
    for bias in density.biases:
        bias.data.zero_()
    head_mean = torch.cat([y_spread, torch.zeros(M)])
    head_std = torch.cat([0.3 * y_spread, 0.3 * y_spread])
    last = model.entropy_parameters[-1] if isinstance(model, JAHP) else model.h_s[-1]
    _rescale(last, lambda: model.code_latent(y, z_hat), head_mean, head_std)
    return model
