"""Building blocks shared by the model families: strided convolutions, GDN and the masked convolution.

Parameter and buffer names follow CompressAI, so that its checkpoints load key by key.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.models.inference import doubled, doubles_to_few, servable
from fastlic.ops.divisive import gdn

LEAKY_SLOPE = 0.01
CONTEXT_KERNEL = 5


class _LowerBound(torch.autograd.Function):
    """max(x, bound) whose gradient still lets x rise when it is below the bound."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: Tensor) -> Tensor:
        ctx.save_for_backward(x, bound)
        return torch.maximum(x, bound)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        x, bound = ctx.saved_tensors
        return grad * ((x >= bound) | (grad < 0)), None


class LowerBound(nn.Module):
    """``max(x, bound)``, element by element; gradients that would raise a clipped x pass through."""

    bound: Tensor

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.register_buffer("bound", torch.tensor([float(bound)]))

    def forward(self, x: Tensor) -> Tensor:
        return _LowerBound.apply(x, self.bound)


class NonNegative(nn.Module):
    """A parameter p stored so that ``max(p, sqrt(minimum + 2^-36))^2 - 2^-36`` is its value (Ballé et al. 2018)."""

    pedestal: Tensor

    def __init__(self, minimum: float = 0.0, offset: float = 2.0**-18) -> None:
        super().__init__()
        self.register_buffer("pedestal", torch.tensor([offset**2]))
        self.lower_bound = LowerBound((minimum + offset**2) ** 0.5)

    def store(self, value: Tensor) -> Tensor:
        """The parameter whose value is ``value`` (the inverse of ``forward``)."""
        return torch.sqrt(torch.maximum(value + self.pedestal, self.pedestal))

    def forward(self, parameter: Tensor) -> Tensor:
        return self.lower_bound(parameter) ** 2 - self.pedestal


class GDN(nn.Module):
    """Generalised divisive normalisation (Ballé et al. 2016): x / sqrt(beta + gamma @ x^2) over channels.

    Args:
        channels: C of the [N, C, H, W] input; the output has the same shape.
        inverse: multiply by the norm instead (IGDN, used by synthesis transforms).
    """

    def __init__(self, channels: int, inverse: bool = False, gamma_init: float = 0.1) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta_reparam = NonNegative(minimum=1e-6)
        self.gamma_reparam = NonNegative()
        self.beta = nn.Parameter(self.beta_reparam.store(torch.ones(channels)))
        self.gamma = nn.Parameter(self.gamma_reparam.store(gamma_init * torch.eye(channels)))

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, H, W]
        beta, gamma = self.beta_reparam(self.beta), self.gamma_reparam(self.gamma)
        if servable(x, gamma):
            return gdn(x, beta, gamma, self.inverse)
        norm = F.conv2d(x * x, gamma[:, :, None, None], beta)
        return x * (norm.sqrt() if self.inverse else norm.rsqrt())


class MaskedConv2d(nn.Conv2d):
    """5x5 convolution that sees only positions before its centre in raster order (mask A: 12 live taps)."""

    mask: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, CONTEXT_KERNEL, padding=CONTEXT_KERNEL // 2)
        mask = torch.ones_like(self.weight.data)
        centre = CONTEXT_KERNEL // 2
        mask[:, :, centre, centre:] = 0
        mask[:, :, centre + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C', H, W]
        # The rows below the centre are masked: a 3-row kernel over an input padded above only gives the same sums
        # for 15 taps' work in place of 25.
        rows = CONTEXT_KERNEL // 2
        weight = (self.weight * self.mask)[:, :, : rows + 1]
        return F.conv2d(F.pad(x, (rows, rows, rows, 0)), weight, self.bias)


def channels_last(module: nn.Module) -> None:
    """Lay out every convolution kernel channels-last, in place: the layout on which CPUs and GPUs run them fastest."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


class Deconv(nn.ConvTranspose2d):
    """A transposed convolution, faster on a CPU without gradients where it doubles the size to an image's channels."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is None and doubles_to_few(self) and servable(input, self.weight):
            return doubled(input, self)
        return super().forward(input, output_size)


def conv(cin: int, cout: int, kernel: int = 5, stride: int = 2) -> nn.Conv2d:
    """Convolution that divides height and width by ``stride``."""
    return nn.Conv2d(cin, cout, kernel, stride, padding=kernel // 2)


def deconv(cin: int, cout: int, kernel: int = 5, stride: int = 2) -> Deconv:
    """Transposed convolution that multiplies height and width by ``stride``."""
    return Deconv(cin, cout, kernel, stride, padding=kernel // 2, output_padding=stride - 1)


def analysis_transform(widths: tuple[int, int, int], latent_channels: int) -> nn.Sequential:
    """g_a: [N, 3, H, W] to the latent [N, M, H/16, W/16]."""
    a, b, c = widths
    return nn.Sequential(conv(3, a), GDN(a), conv(a, b), GDN(b), conv(b, c), GDN(c), conv(c, latent_channels))


def synthesis_transform(widths: tuple[int, int, int], latent_channels: int) -> nn.Sequential:
    """g_s: the latent [N, M, h, w] to [N, 3, 16h, 16w]; ``widths`` as given to the analysis transform."""
    a, b, c = widths
    return nn.Sequential(
        deconv(latent_channels, c), GDN(c, True), deconv(c, b), GDN(b, True), deconv(b, a), GDN(a, True), deconv(a, 3)
    )


def hyper_analysis(latent_channels: int, hyper_channels: int) -> nn.Sequential:
    """h_a: the latent [N, M, h, w] to the hyper latent [N, C, h/4, w/4]."""
    m, n = latent_channels, hyper_channels
    return nn.Sequential(conv(m, n, 3, 1), nn.LeakyReLU(LEAKY_SLOPE), conv(n, n), nn.LeakyReLU(LEAKY_SLOPE), conv(n, n))


def hyper_synthesis(
    latent_channels: int, hyper_channels: int, sizes: tuple[int, int, int] | None = None
) -> nn.Sequential:
    """h_s: the hyper latent [N, C, h/4, w/4] to [N, 2M, h, w], or, given its layers' sizes, to [N, sizes[2], h, w]."""
    m, n = latent_channels, hyper_channels
    a, b, c = sizes if sizes is not None else (m, m * 3 // 2, 2 * m)
    return nn.Sequential(
        deconv(n, a), nn.LeakyReLU(LEAKY_SLOPE), deconv(a, b), nn.LeakyReLU(LEAKY_SLOPE), conv(b, c, 3, 1)
    )
