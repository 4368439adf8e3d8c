"""A small model of channel slices with a loop of its own, as forks have them: no class of it is CompressAI's."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn as nn
from compressai.ans import BufferedRansEncoder, RansDecoder
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.layers import GDN
from compressai.models import CompressionModel
from compressai.models.base import get_scale_table
from compressai.models.utils import conv, deconv
from torch import Tensor

import fastlic
from fastlic.errors import ModelMismatchError

from .conftest import image, spread
from .staged import InStages, stages, swin


class Block(nn.Module):
    """A residual block whose second half passes a gate, and whose sum is weighted by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 2 * channels, 1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.join = nn.Conv2d(2 * channels, channels, 1)
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, channels).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).chunk(2, dim=1)
        out = self.second(torch.relu(left)) * torch.sigmoid(right)
        out = self.join(torch.cat((out, left), 1)) * self.weight
        return x + out


def _stack(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv(inputs, 10, 3, 1), nn.GELU(), conv(10, outputs, 3, 1))


class Looped(CompressionModel):
    """The entropy models of a model with a loop of its own."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.entropy_bottleneck = EntropyBottleneck(n)
        self.gaussian_conditional = GaussianConditional(None)

    def update(self, scale_table: Any = None, force: bool = False) -> bool:
        table = get_scale_table() if scale_table is None else scale_table
        return bool(self.gaussian_conditional.update_scale_table(table, force=force)) | super().update(force=force)


class Sliced(Looped):
    """Three slices of four channels, of which each reads the first two that there are."""

    def __init__(self, n: int = 8, slices: int = 3, width: int = 4, supports: bool = False) -> None:
        super().__init__(n)
        m, self.max_support_slices, self.width = slices * width, 2, width
        self.g_a = nn.Sequential(conv(3, n), GDN(n), conv(n, n), Block(n), conv(n, n), conv(n, m))
        self.g_s = nn.Sequential(deconv(m, n), Block(n), deconv(n, n), GDN(n, inverse=True), deconv(n, n), deconv(n, 3))
        self.h_a = nn.Sequential(conv(m, n, 3, 2), nn.GELU(), conv(n, n, 3, 2))
        self.h_mean_s = nn.Sequential(deconv(n, n), nn.GELU(), deconv(n, m))
        self.h_scale_s = nn.Sequential(deconv(n, n), nn.GELU(), deconv(n, m))
        known = [m + width * min(k, 2) for k in range(slices)]
        self.cc_mean_transforms = nn.ModuleList(_stack(count, width) for count in known)
        self.cc_scale_transforms = nn.ModuleList(_stack(count, width) for count in known)
        self.lrp_transforms = nn.ModuleList(_stack(count + width, width) for count in known)
        if supports:
            self.atten_mean = nn.ModuleList(Block(count) for count in known)
            self.atten_scale = nn.ModuleList(Block(count) for count in known)

    def _loop(self, z_hat: Tensor, code: Any) -> Tensor:
        features = self.h_mean_s(z_hat), self.h_scale_s(z_hat)
        decoded: list[Tensor] = []
        for k, (mean, scale) in enumerate(zip(self.cc_mean_transforms, self.cc_scale_transforms, strict=True)):
            known = [torch.cat([feature, *decoded[: self.max_support_slices]], 1) for feature in features]
            if hasattr(self, "atten_mean"):
                known = [self.atten_mean[k](known[0]), self.atten_scale[k](known[1])]
            mu = mean(known[0])
            y_hat = code(k, self.gaussian_conditional.build_indexes(scale(known[1])), mu)
            decoded.append(y_hat + 0.5 * torch.tanh(self.lrp_transforms[k](torch.cat([known[0], y_hat], 1))))
        return torch.cat(decoded, 1)

    def _tables(self) -> list[Any]:
        own = self.gaussian_conditional
        return [own.quantized_cdf.tolist(), own.cdf_length.int().tolist(), own.offset.int().tolist()]

    def analyse(self, x: Tensor) -> Tensor:
        return self.g_a(x)

    def synthesise(self, y: Tensor) -> Tensor:
        return self.g_s(y)

    def compress(self, x: Tensor) -> dict[str, Any]:
        y = self.analyse(x)
        z = self.h_a(y)
        z_strings = self.entropy_bottleneck.compress(z)
        encoder, targets = BufferedRansEncoder(), y.split(self.width, 1)
        coded: list[list[int]] = [[], []]

        def code(k: int, indexes: Tensor, mu: Tensor) -> Tensor:
            symbols = self.gaussian_conditional.quantize(targets[k], "symbols", mu)
            coded[0] += symbols.reshape(-1).tolist()
            coded[1] += indexes.reshape(-1).tolist()
            return symbols + mu

        self._loop(self.entropy_bottleneck.decompress(z_strings, z.shape[2:]), code)
        encoder.encode_with_indexes(*coded, *self._tables())
        return {"strings": [[encoder.flush()], z_strings], "shape": z.shape[2:]}

    def decompress(self, strings: Any, shape: Any) -> dict[str, Tensor]:
        decoder = RansDecoder()
        decoder.set_stream(strings[0][0])

        def code(k: int, indexes: Tensor, mu: Tensor) -> Tensor:
            symbols = decoder.decode_stream(indexes.reshape(-1).tolist(), *self._tables())
            return torch.tensor(symbols).reshape(mu.shape) + mu

        y_hat = self._loop(self.entropy_bottleneck.decompress(strings[1], shape), code)
        return {"x_hat": self.synthesise(y_hat).clamp_(0, 1)}


class Staged(InStages, Sliced):
    """The same entropy path behind stages, as STF has it; forks leave g_a and g_s as None."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.g_a = self.g_s = None
        for name, own in stages(len(self.cc_mean_transforms) * self.width).items():
            setattr(self, name, own)


class Swin(Staged):
    """The same behind stages of Swin's blocks; slices are of eight channels, four of them."""

    def __init__(self) -> None:
        super().__init__(slices=4, width=8)
        for name, own in swin(4).items():
            setattr(self, name, own)


@torch.no_grad()
def sliced(cls: type = Sliced, **how: Any) -> Any:
    """Such a model with lively latents."""
    torch.manual_seed(5)
    model: Any = cls(**how).eval()
    x = image(1)
    if cls is Swin:
        model.layers[-1].blocks[-1].mlp[-1].weight.data *= 12
    else:
        spread(model.layers if model.g_a is None else model.g_a, lambda: model.analyse(x), 3.0)
    y = model.analyse(x)
    spread(model.h_a, lambda: model.h_a(y), 3.0)
    z = torch.round(model.h_a(y))
    for net in (model.h_mean_s, model.h_scale_s):
        spread(net, lambda net=net: net(z), 1.0)
    for net in model.cc_scale_transforms:
        net[-1].bias.data += 2
    model.update(force=True)
    return model


@torch.no_grad()
def check_near(plain: Any, model: Any, x: Tensor) -> None:
    """Pictures and sizes of several images at once by ``model`` are nearly those of single ones by ``plain``."""
    coded, single = model.compress(x), [plain.compress(item[None]) for item in x]
    assert coded.keys() == single[0].keys() == {"strings", "shape"} and coded["shape"] == single[0]["shape"]
    found = model.decompress(coded["strings"], coded["shape"])["x_hat"]
    for k, theirs in enumerate(single):
        expected = plain.decompress(theirs["strings"], theirs["shape"])["x_hat"]
        assert (found[k] - expected[0]).square().mean().sqrt() < 0.01
        assert len(coded["strings"][0][k]) < 1.05 * len(theirs["strings"][0][0]) + 16


def check_other_weights_are_refused(plain: Any, conversion: Path) -> None:
    """A conversion that was saved is none of a model of which one weight differs."""
    other = copy.deepcopy(plain)
    other.cc_mean_transforms[1][0].weight.data *= 1.5
    with pytest.raises(ModelMismatchError, match="other weights"):
        fastlic.accelerate(other, calibration=conversion)
