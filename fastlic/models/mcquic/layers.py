"""Building blocks of McQuic: residual blocks over reflect-padded 3x3 convolutions, GDN and attention.

Names of parameters and buffers follow McQuic 0.1.40, so that its checkpoints load key by key. Every block takes and
gives [N, C, H, W]. With gradients enabled it is plain torch; without, the same sums run with fewer passes over memory:
an activation is written straight into the padded input of the convolution that reads it, and results are added in
place. Both ways agree to the last bits of float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.models.layers import LowerBound

_EPSILON = 1e-6


def _reflected(x: Tensor, activate: bool) -> Tensor:
    """x, or SiLU(x), with one reflected row or column on each side: one pass over x and four thin copies."""
    n, c, h, w = x.shape
    if h < 2 or w < 2:
        raise ValueError(f"reflect padding needs maps of at least 2x2, got {h}x{w}")
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    padded = torch.empty((n, c, h + 2, w + 2), dtype=x.dtype, device=x.device, memory_format=layout)
    inside = padded[:, :, 1:-1, 1:-1]
    if activate:
        torch.ops.aten.silu.out(x, out=inside)
    else:
        inside.copy_(x)
    padded[:, :, 1:-1, 0] = padded[:, :, 1:-1, 2]
    padded[:, :, 1:-1, -1] = padded[:, :, 1:-1, -3]
    padded[:, :, 0] = padded[:, :, 2]
    padded[:, :, -1] = padded[:, :, -3]
    return padded


class Conv3(nn.Conv2d):
    """3x3 convolution over a reflect-padded input; maps are at least 2x2."""

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__(cin, cout, 3, stride, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return super().forward(x)
        return F.conv2d(_reflected(x, activate=False), self.weight, self.bias, self.stride)

    def of_silu(self, x: Tensor) -> Tensor:
        """The convolution of SiLU(x)."""
        if torch.is_grad_enabled():
            return super().forward(F.silu(x))
        return F.conv2d(_reflected(x, activate=True), self.weight, self.bias, self.stride)


def _sum(branch: Tensor, skip: Tensor) -> Tensor:
    return branch + skip if torch.is_grad_enabled() else branch.add_(skip)


def _parts(branch: nn.Sequential) -> Iterator[Any]:
    return iter(branch)


class NonNegative(nn.Module):
    """A parameter p stored so that ``max(p, bound)^2 - eps`` is its value; both constants travel in checkpoints.

    McQuic's constants are not those of CompressAI's parametrisation (fastlic.models.layers.NonNegative).
    """

    eps: Tensor

    def __init__(self, minimum: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("eps", torch.tensor([_EPSILON**2]))
        self.lowerBound = LowerBound((minimum + _EPSILON**2) ** 0.5)

    def store(self, value: Tensor) -> Tensor:
        """The parameter whose value is ``value`` (the inverse of ``forward``)."""
        return torch.sqrt(torch.maximum(value + self.eps, self.eps))

    def forward(self, parameter: Tensor) -> Tensor:
        return self.lowerBound(parameter) ** 2 - self.eps


class GDN(nn.Module):
    """x / sqrt(beta + gamma @ x^2) over channels, or times that norm if ``inverse``."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta_reparam = NonNegative(minimum=1e-6)
        self.gamma_reparam = NonNegative()
        self.beta = nn.Parameter(self.beta_reparam.store(torch.ones(channels)))
        self.gamma = nn.Parameter(self.gamma_reparam.store(0.1 * torch.eye(channels)))

    def forward(self, x: Tensor) -> Tensor:
        gamma = self.gamma_reparam(self.gamma)[:, :, None, None]
        norm = F.conv2d(x * x, gamma, self.beta_reparam(self.beta))
        if torch.is_grad_enabled():
            return x * (norm.sqrt() if self.inverse else norm.rsqrt())
        return (norm.sqrt_() if self.inverse else norm.rsqrt_()).mul_(x)


class ResidualBlock(nn.Module):
    """x + conv(SiLU(conv(SiLU(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._branch = nn.Sequential(nn.SiLU(), Conv3(channels, channels), nn.SiLU(), Conv3(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        _, first, _, second = _parts(self._branch)
        return _sum(second.of_silu(first.of_silu(x)), x)


class ResidualBlockWithStride(nn.Module):
    """Halves height and width, rounded up: conv(GDN(strided conv(SiLU(x)))) + strided conv(x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._branch = nn.Sequential(nn.SiLU(), Conv3(channels, channels, 2), GDN(channels), Conv3(channels, channels))
        self._skip = Conv3(channels, channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        _, first, norm, second = _parts(self._branch)
        return _sum(second(norm(first.of_silu(x))), self._skip(x))


def upsampling_conv(cin: int, cout: int) -> nn.Sequential:
    """Doubles height and width: a convolution to four times the channels, shuffled into pixels."""
    return nn.Sequential(Conv3(cin, 4 * cout), nn.PixelShuffle(2))


class ResidualBlockShuffle(nn.Module):
    """Doubles height and width: conv(IGDN(upsampling conv(SiLU(x)))) + upsampling conv(x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._branch = nn.Sequential(
            nn.SiLU(), upsampling_conv(channels, channels), GDN(channels, inverse=True), Conv3(channels, channels)
        )
        self._skip = upsampling_conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        _, up, norm, last = _parts(self._branch)
        return _sum(last(norm(up[1](up[0].of_silu(x)))), self._skip(x))


class Attention(nn.Module):
    """x + main(x) * sigmoid(side(x)): three residual blocks on either branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._mainBranch = nn.Sequential(*(ResidualBlock(channels) for _ in range(3)))
        self._sideBranch = nn.Sequential(*(ResidualBlock(channels) for _ in range(3)), nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        main, side = self._mainBranch(x), self._sideBranch(x)
        if torch.is_grad_enabled():
            return x + main * torch.sigmoid(side)
        return side.sigmoid_().mul_(main).add_(x)
