"""Building blocks of McQuic: residual blocks over reflect-padded 3x3 convolutions, GDN and attention.

Names of parameters and buffers follow McQuic 0.1.40, so that its checkpoints load key by key. Every block takes and
gives [N, C, H, W]. With gradients enabled it is plain torch; without, the same sums run with fewer passes over memory:
an activation is written straight into the padded input of the convolution that reads it, and results are added in
place. Both ways agree to the last bits of float32.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.models.layers import LowerBound

_EPSILON = 1e-6


class _Scratch(threading.local):
    flat: Tensor | None = None
    users = 0


_scratch = _Scratch()


@contextmanager
def scratch() -> Iterator[None]:
    """While this is open, inputs that convolutions of this thread read at once and never again share one buffer.

    A fresh one for every convolution comes from the system page by page: at 128 channels of 256x384 that costs 28 ms
    on a convolution of 270. Without gradients and on the CPU only; elsewhere nothing changes.
    """
    _scratch.users += 1
    try:
        yield
    finally:
        _scratch.users -= 1
        if not _scratch.users:
            _scratch.flat = None


def _room(like: Tensor, h: int, w: int) -> Tensor:
    """An uninitialised [N, C, h, w] in the memory format of ``like``; valid until the next one is asked for."""
    n, c = like.shape[:2]
    last = like.is_contiguous(memory_format=torch.channels_last)
    if not _scratch.users or like.device.type != "cpu":
        layout = torch.channels_last if last else torch.contiguous_format
        return torch.empty((n, c, h, w), dtype=like.dtype, device=like.device, memory_format=layout)
    size, flat = n * c * h * w, _scratch.flat
    if flat is None or flat.numel() < size or flat.dtype != like.dtype:
        flat = _scratch.flat = None  # give back before taking more
        # The same map with its frame may follow.
        flat = _scratch.flat = torch.empty(n * c * (h + 2) * (w + 2), dtype=like.dtype)
    return flat[:size].view(n, h, w, c).permute(0, 3, 1, 2) if last else flat[:size].view(n, c, h, w)


def _framed(like: Tensor, h: int, w: int) -> tuple[Tensor, Tensor]:
    """Room for an [N, C, h, w] map with one more row or column on each side, and the map's own place in it."""
    if h < 2 or w < 2:
        raise ValueError(f"reflect padding needs maps of at least 2x2, got {h}x{w}")
    padded = _room(like, h + 2, w + 2)
    return padded, padded[:, :, 1:-1, 1:-1]


def _reflect(padded: Tensor) -> Tensor:
    """Fill the outer rows and columns by reflection, in place."""
    padded[:, :, 1:-1, 0] = padded[:, :, 1:-1, 2]
    padded[:, :, 1:-1, -1] = padded[:, :, 1:-1, -3]
    padded[:, :, 0] = padded[:, :, 2]
    padded[:, :, -1] = padded[:, :, -3]
    return padded


def _reflected(x: Tensor, activate: bool) -> Tensor:
    """x, or SiLU(x), with one reflected row or column on each side: one pass over x and four thin copies."""
    padded, inside = _framed(x, *x.shape[2:])
    if activate:
        torch.ops.aten.silu.out(x, out=inside)
    else:
        inside.copy_(x)
    return _reflect(padded)


def _by_parity(x: Tensor) -> Tensor:
    """[N, C, 2h, 2w] as a view [N, h, w, 2, 2, C]: the four pixels that one of half the size becomes."""
    h, w = x.shape[2:]
    return x.unflatten(3, (w // 2, 2)).unflatten(2, (h // 2, 2)).permute(0, 2, 4, 3, 5, 1)


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
        beta = self.beta_reparam(self.beta)
        if torch.is_grad_enabled():
            norm = F.conv2d(x * x, gamma, beta)
            return x * (norm.sqrt() if self.inverse else norm.rsqrt())
        norm = F.conv2d(torch.mul(x, x, out=_room(x, *x.shape[2:])), gamma, beta)
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


def _unshuffled(up: nn.Sequential, x: Tensor, activate: bool) -> Tensor:
    """What an upsampling convolution gives before its shuffle, [N, h, w, 2, 2, C]: pixels ahead of channels."""
    conv = up[0]
    assert isinstance(conv, Conv3) and conv.bias is not None
    c4 = conv.weight.shape[0]
    order = torch.arange(c4, device=x.device).view(-1, 4).t().flatten()  # PixelShuffle has the pixels innermost
    weight = conv.weight[order].contiguous(memory_format=torch.channels_last)
    y = F.conv2d(_reflected(x, activate), weight, conv.bias[order])
    n, _, h, w = y.shape
    return y.permute(0, 2, 3, 1).reshape(n, h, w, 2, 2, c4 // 4)


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
        if torch.is_grad_enabled():
            return _sum(last(norm(up[1](up[0].of_silu(x)))), self._skip(x))
        # The norm looks at single pixels, so it need not wait for the shuffle; that happens on the way into the next
        # convolution's input, and into the sum, which are written anyway.
        pixels = _unshuffled(up, x, activate=True)
        n, h, w, _, _, c = pixels.shape
        normed = norm(pixels.view(n, h, 4 * w, c).permute(0, 3, 1, 2))
        padded, inside = _framed(normed, 2 * h, 2 * w)
        _by_parity(inside).copy_(normed.permute(0, 2, 3, 1).reshape(pixels.shape))
        y: Tensor = F.conv2d(_reflect(padded), last.weight, last.bias)
        _by_parity(y).add_(_unshuffled(self._skip, x, activate=False))
        return y


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
