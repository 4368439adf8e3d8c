"""Float densities of the latents, as training needs them: the factorised prior of z and the Gaussian of y.

Coding never evaluates these floats twice: fastlic.entropy turns them into integer tables once, when a codec is built.
Names of parameters and buffers follow CompressAI.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.models.layers import LowerBound

LIKELIHOOD_BOUND = 1e-9
SCALE_BOUND = 0.11
TAIL_MASS = 1e-9
_RAREST = 2.0**-16  # what the coder's tables give the rarest symbol
_TAIL = 6.0  # deviations at which a Gaussian's likelihood meets LIKELIHOOD_BOUND


def round_ste(x: Tensor) -> Tensor:
    """Round half to even; the gradient passes as if nothing had been rounded (straight-through)."""
    return x + (torch.round(x) - x).detach()


def dead_zone(scales: Tensor, worth: Tensor | float) -> Tensor:
    """By how much |y - mean| must pass 1/2 before it is worth a symbol of 1, in units of the latent; >= 0.

    Rounding down to 0 saves log2(P(0) / P(1)) bits and costs 2 |y - mean| - 1 of squared error. Larger symbols lie
    where the density is steeper, yet one zone for all serves as well as one for each (docs/training-history.md).

    Args:
        scales: of the Gaussians, any shape.
        worth: bits that one unit of squared error is worth, broadcast against ``scales``; 0 stands for rounding to the
            nearest.
    """
    half_widths = (0.5**0.5) / scales.clamp_min(SCALE_BOUND)
    middle = torch.erf(0.5 * half_widths)
    side = 0.5 * (torch.erfc(0.5 * half_widths) - torch.erfc(1.5 * half_widths))
    bits = torch.log2(middle / side.clamp_min(_RAREST))
    worth = torch.as_tensor(worth, dtype=scales.dtype, device=scales.device)
    return torch.where(worth > 0, bits / (2 * worth.clamp_min(1e-6)), 0.0).clamp_min(0)


def round_down(x: Tensor, zone: Tensor) -> Tensor:
    """Round x to the nearest integer after its magnitude lost ``zone``, but not beyond zero."""
    return torch.sign(x) * torch.floor((x.abs() - zone + 0.5).clamp_min(0))


def add_noise(x: Tensor) -> Tensor:
    """x + u with u uniform in [-1/2, 1/2): the differentiable stand-in for rounding (Ballé et al. 2017)."""
    return x + torch.empty_like(x).uniform_(-0.5, 0.5)


class EntropyBottleneck(nn.Module):
    """Factorised prior: one learned density per channel, a monotone network of widths 1-3-3-3-3-1 (Ballé et al. 2018).

    Args:
        channels: C of the hyper latent z, [N, C, h, w].
    """

    target: Tensor

    def __init__(self, channels: int, filters: tuple[int, ...] = (3, 3, 3, 3), init_scale: float = 10.0) -> None:
        super().__init__()
        self.channels = channels
        widths = (1, *filters, 1)
        scale = init_scale ** (1 / (len(filters) + 1))
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.factors = nn.ParameterList()
        for i, (cin, cout) in enumerate(pairwise(widths)):
            init = math.log(math.expm1(1 / scale / cout))
            self.matrices.append(nn.Parameter(torch.full((channels, cout, cin), init)))
            self.biases.append(nn.Parameter(torch.empty(channels, cout, 1).uniform_(-0.5, 0.5)))
            if i < len(filters):
                self.factors.append(nn.Parameter(torch.zeros(channels, cout, 1)))
        self.quantiles = nn.Parameter(torch.tensor([-init_scale, 0.0, init_scale]).repeat(channels, 1, 1))
        edge = math.log(2 / TAIL_MASS - 1)
        self.register_buffer("target", torch.tensor([-edge, 0.0, edge]))
        self.likelihood_lower_bound = LowerBound(LIKELIHOOD_BOUND)
        self.register_buffer("_offset", torch.IntTensor())
        self.register_buffer("_quantized_cdf", torch.IntTensor())
        self.register_buffer("_cdf_length", torch.IntTensor())

    @property
    def medians(self) -> Tensor:
        """[C] float: where each channel's rounding grid is centred."""
        return self.quantiles[:, 0, 1].detach()

    def logits_cumulative(self, x: Tensor, stop_gradient: bool = False) -> Tensor:
        """Logits of the cumulative density at x; x and the result are [C, 1, n]."""

        def keep(p: Tensor) -> Tensor:
            return p.detach() if stop_gradient else p

        last = len(self.matrices) - 1
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            x = torch.matmul(F.softplus(keep(matrix)), x) + keep(bias)
            if i < last:
                x = x + torch.tanh(keep(self.factors[i])) * torch.tanh(x)
        return x

    def likelihood(self, z: Tensor) -> Tensor:
        """P(z - 1/2 < Z <= z + 1/2), element by element; z is [N, C, h, w]."""
        flat = z.transpose(0, 1).reshape(self.channels, 1, -1)
        # One pass over both edges: the network is far wider than its input, so fewer, larger calls pay.
        both = self.logits_cumulative(torch.cat([flat - 0.5, flat + 0.5], dim=2))
        lower, upper = both.chunk(2, dim=2)
        values = self.likelihood_lower_bound(torch.sigmoid(upper) - torch.sigmoid(lower))
        return values.reshape(self.channels, z.shape[0], *z.shape[2:]).transpose(0, 1)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(z_hat, likelihoods), both [N, C, h, w]; noise for the likelihood while training, rounding otherwise."""
        medians = self.medians[:, None, None]
        z_hat = round_ste(z - medians) + medians
        return z_hat, self.likelihood(add_noise(z) if self.training else z_hat)

    def loss(self) -> Tensor:
        """Auxiliary loss that moves ``quantiles`` to the tails and the median of the density; touches nothing else."""
        return (self.logits_cumulative(self.quantiles, stop_gradient=True) - self.target).abs().sum()


class GaussianConditional(nn.Module):
    """Gaussian of given mean and scale, integrated over the unit interval around each value."""

    def __init__(self) -> None:
        super().__init__()
        self.lower_bound_scale = LowerBound(SCALE_BOUND)
        self.likelihood_lower_bound = LowerBound(LIKELIHOOD_BOUND)
        self.register_buffer("_offset", torch.IntTensor())
        self.register_buffer("_quantized_cdf", torch.IntTensor())
        self.register_buffer("_cdf_length", torch.IntTensor())
        self.register_buffer("scale_table", torch.Tensor())
        self.register_buffer("scale_bound", torch.tensor([SCALE_BOUND]))

    def likelihood(self, y: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        """P of the unit interval around y under N(means, max(scales, 0.11)^2); all shapes equal."""
        inverse = (-(0.5**0.5)) / self.lower_bound_scale(scales)
        distance = (y - means).abs()
        upper = torch.erfc((0.5 - distance) * inverse)
        lower = torch.erfc((-0.5 - distance) * inverse)
        bounded: Tensor = self.likelihood_lower_bound(0.5 * (upper - lower))
        return self._with_tail_gradient(bounded, scales, distance) if self.training else bounded

    def _with_tail_gradient(self, likelihood: Tensor, scales: Tensor, distance: Tensor) -> Tensor:
        """``likelihood`` unchanged in value, with a gradient where it lies at its bound.

        Beyond six deviations the Gaussian's own gradient underflows: a value that the model predicts badly would cost
        30 bits and teach it nothing, and such values multiply as training goes on. There the gradient is that of a
        power law t^-36, which joins the Gaussian's slope at t = 6 and stays bounded however far the value lies.
        """
        deviations = (distance - 0.5) / self.lower_bound_scale(scales)
        far = deviations > _TAIL
        slope = -(_TAIL**2) * torch.log(torch.where(far, deviations, 1.0))
        return torch.where(far, likelihood.detach() * torch.exp(slope - slope.detach()), likelihood)

    def rounded(self, y: Tensor, scales: Tensor, means: Tensor, worth: Tensor | float | None = None) -> Tensor:
        """y_hat as the coder leaves it; the gradient passes straight through to y.

        Args:
            worth: bits per unit of squared error, for an encoder that rounds small symbols down (``dead_zone``); None
                rounds to the nearest.
        """
        if worth is None:
            return round_ste(y - means) + means
        return y + (self._symbols(y, scales, means, worth) + means - y).detach()

    def forward(
        self, y: Tensor, scales: Tensor, means: Tensor, worth: Tensor | float | None = None
    ) -> tuple[Tensor, Tensor]:
        """(y_hat, likelihoods): y_hat is ``rounded``; the likelihood is of y + noise while training.

        Noise would not know of dead zones. With ``worth`` the likelihood is that of the rounded values, from which
        scales learn; y and the means learn from that of noisy ones.
        """
        if worth is None:
            y_hat = self.rounded(y, scales, means)
            return y_hat, self.likelihood(add_noise(y) if self.training else y_hat, scales, means)
        symbols = self._symbols(y, scales, means, worth)
        y_hat = y + (symbols + means - y).detach()
        likelihoods = self.likelihood(symbols, scales, torch.zeros_like(scales))
        if self.training:
            noisy = self.likelihood(add_noise(y), scales.detach(), means)
            likelihoods = likelihoods * (noisy / noisy.detach())
        return y_hat, likelihoods

    @torch.no_grad()
    def _symbols(self, y: Tensor, scales: Tensor, means: Tensor, worth: Tensor | float) -> Tensor:
        return round_down(y - means, dead_zone(scales, worth))
