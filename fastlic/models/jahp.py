"""JAHP: joint autoregressive and hierarchical priors (Minnen, Ballé, Toderici 2018), CompressAI's ``mbt2018`` keys."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.models.density import add_noise, round_ste
from fastlic.models.hyperprior import MeanScaleHyperprior
from fastlic.models.layers import LEAKY_SLOPE, MaskedConv2d


class JAHP(MeanScaleHyperprior):
    """The mean-scale hyperprior with a 5x5 causal context model fused by 1x1 convolutions.

    Arguments as for :class:`MeanScaleHyperprior`; ``JAHP(192, 192)`` and ``JAHP(192, 320)`` are CompressAI's sizes.
    """

    family = "jahp"

    def __init__(self, N: int, M: int, widths: tuple[int, int, int] | None = None, qualities: int = 0) -> None:
        super().__init__(N, M, widths, qualities)
        self.entropy_parameters = nn.Sequential(
            nn.Conv2d(4 * M, 10 * M // 3, 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(10 * M // 3, 8 * M // 3, 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(8 * M // 3, 2 * M, 1),
        )
        self.context_prediction = MaskedConv2d(M, 2 * M)

    def code_latent(self, y: Tensor, z_hat: Tensor, worth: Tensor | float | None = None) -> tuple[Tensor, Tensor]:
        """(y_hat, likelihoods of y); the context sees y + noise while training and round(y) otherwise.

        The sequential truth, where the context sees round(y - mean) + mean, is the schedule's
        (fastlic.entropy.wavefront); this parallel pass is the usual estimate of it. With ``worth`` the context sees
        what a first such pass made of y, as many values there are not what is nearest to y.
        """
        hyper = self.h_s(z_hat)
        if worth is not None:
            with torch.no_grad():
                scales, means = self._scales_and_means(hyper, torch.round(y))
                seen = self.gaussian_conditional.rounded(y, scales, means, worth)
            scales, means = self._scales_and_means(hyper, y + (seen - y).detach())
            y_hat, likelihoods = self.gaussian_conditional(y, scales, means, worth)
            return y_hat, likelihoods
        noisy = add_noise(y) if self.training else torch.round(y)
        scales, means = self._scales_and_means(hyper, noisy)
        if self.training:
            y_hat = round_ste(y - means) + means
            return y_hat, self.gaussian_conditional.likelihood(noisy, scales, means)
        rounded = torch.round(y - means) + means
        return noisy, self.gaussian_conditional.likelihood(rounded, scales, means)

    def _scales_and_means(self, hyper: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """(scales, means) from h_s's features and the latent that the context sees."""
        features = torch.cat([hyper, self.context_prediction(latent)], dim=1)
        scales, means = self.entropy_parameters(features).chunk(2, dim=1)
        return scales, means
