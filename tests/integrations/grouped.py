"""A small model of uneven channel groups, each a checkerboard, with a loop of its own as a fork has it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
from compressai.models.utils import conv, deconv
from torch import Tensor

from .conftest import image, spread
from .sliced import Looped


class Masked(nn.Conv2d):
    """A convolution over the other colour's positions, which masks its weights at each call."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 5, padding=2)
        odd = (torch.arange(5)[:, None] + torch.arange(5)) % 2
        self.register_buffer("mask", odd.float().expand_as(self.weight).clone())

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return super().forward(x)


def _stack(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(conv(inputs, 10, kernel, 1), nn.ReLU(), conv(10, outputs, kernel, 1))


class Grouped(Looped):
    """Three groups of four, four and eight channels."""

    def __init__(self, n: int = 8) -> None:
        super().__init__(n)
        self.groups = [0, 4, 4, 8]
        own, m = self.groups[1:], sum(self.groups)
        self.g_a = nn.Sequential(conv(3, n), nn.ReLU(), conv(n, n), nn.ReLU(), conv(n, n), nn.ReLU(), conv(n, m))
        self.g_s = nn.Sequential(deconv(m, n), nn.ReLU(), deconv(n, n), nn.ReLU(), deconv(n, n), deconv(n, 3))
        self.h_a = nn.Sequential(conv(m, n, 3, 1), nn.ReLU(), conv(n, n), nn.ReLU(), conv(n, n))
        self.h_s = nn.Sequential(deconv(n, n), nn.ReLU(), deconv(n, n), nn.ReLU(), conv(n, 2 * m, 3, 1))
        self.cc_transforms = nn.ModuleList([_stack(4, 8, 5), _stack(8, 16, 5)])
        self.context_prediction = nn.ModuleList(Masked(c, 2 * c) for c in own)
        self.ParamAggregation = nn.ModuleList(
            _stack(2 * m + 2 * c * (2 if k else 1), 2 * c, 1) for k, c in enumerate(own)
        )

    def _loop(self, z_hat: Tensor, code: Any) -> Tensor:
        features = self.h_s(z_hat)
        rows, columns = features.shape[2:]
        even = (torch.arange(rows)[:, None] + torch.arange(columns)) % 2 == 0
        decoded: list[Tensor] = []
        for k, channels in enumerate(self.groups[1:]):
            known = [features]
            if k:
                earlier = decoded[:1] if k == 1 else [decoded[0], decoded[k - 1]]
                known.insert(0, self.cc_transforms[k - 1](torch.cat(earlier, 1)))
            y_hat = features.new_zeros(len(features), channels, rows, columns)
            context = features.new_zeros(len(features), 2 * channels, rows, columns)
            for turn, here in enumerate((even, ~even)):
                if turn:
                    context = self.context_prediction[k](y_hat)
                means, scales = self.ParamAggregation[k](torch.cat([context, *known], 1)).chunk(2, 1)
                indexes = self.gaussian_conditional.build_indexes(scales[:, :, here])
                y_hat[:, :, here] = code(k, turn, here, indexes, means[:, :, here])
            decoded.append(y_hat)
        return torch.cat(decoded, 1)

    def compress(self, x: Tensor) -> dict[str, Any]:
        y = self.g_a(x)
        z = self.h_a(y)
        z_strings = self.entropy_bottleneck.compress(z)
        strings: list[Any] = [[None, None] for _ in self.groups[1:]]
        targets = y.split(self.groups[1:], 1)

        def code(k: int, turn: int, here: Tensor, indexes: Tensor, means: Tensor) -> Tensor:
            own = self.gaussian_conditional
            strings[k][turn] = own.compress(targets[k][:, :, here], indexes, means=means)
            return own.decompress(strings[k][turn], indexes, means=means)

        self._loop(self.entropy_bottleneck.decompress(z_strings, z.shape[2:]), code)
        return {"strings": [strings, z_strings], "shape": z.shape[2:], "time": {"y_enc": 0.0}}

    def decompress(self, strings: Any, shape: Any) -> dict[str, Any]:
        def code(k: int, turn: int, here: Tensor, indexes: Tensor, means: Tensor) -> Tensor:
            return self.gaussian_conditional.decompress(strings[0][k][turn], indexes, means=means)

        y_hat = self._loop(self.entropy_bottleneck.decompress(strings[1], shape), code)
        return {"x_hat": self.g_s(y_hat).clamp_(0, 1), "time": {"y_dec": 0.0}}


@torch.no_grad()
def grouped() -> Any:
    """Such a model with lively latents."""
    torch.manual_seed(5)
    model: Any = Grouped().eval()
    x = image(1)
    spread(model.g_a, lambda: model.g_a(x), 3.0)
    y = model.g_a(x)
    spread(model.h_a, lambda: model.h_a(y), 3.0)
    z = torch.round(model.h_a(y))
    spread(model.h_s, lambda: model.h_s(z), 1.0)
    for net in model.ParamAggregation:
        net[-1].bias.data[len(net[-1].bias) // 2 :] += 2
    model.update(force=True)
    return model
