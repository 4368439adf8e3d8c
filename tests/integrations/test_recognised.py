"""Attention and norms that models bring themselves: served where they compute what theirs do, left alone otherwise."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn as nn
from torch import Tensor

import fastlic
from fastlic.integrations.compressai import bfloat16
from fastlic.integrations.compressai.recognised import (
    FastChannelNorm,
    FastRolledWindows,
    FastWindows,
    recognised,
)
from fastlic.integrations.compressai.settings import Settings, State
from fastlic.integrations.compressai.swap import specialise

from .conftest import image
from .staged import CutWindows, InStages, relative, stages

entropy_models = pytest.importorskip("compressai.entropy_models")
compressai_models = pytest.importorskip("compressai.models")


class RolledWindows(nn.Module):
    """As TCM has it: rolls and cuts the map itself."""

    def __init__(self, channels: int, heads: int, side: int, kind: str) -> None:
        super().__init__()
        self.window_size, self.type, self.heads = side, kind, heads
        self.scale = (channels // heads) ** -0.5
        self.embedding_layer, self.linear = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.relative_position_params = nn.Parameter(torch.randn(heads, 2 * side - 1, 2 * side - 1))

    def forward(self, x: Tensor) -> Tensor:
        side, (_, height, width, _) = self.window_size, x.shape
        shift = 0 if self.type == "W" else side // 2
        x = x.roll((-shift, -shift), (1, 2))
        x = x.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)  # [B, rows, columns, P, P, C]
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
            for part in self.embedding_layer(x.flatten(3, 4)).chunk(3, -1)
        )
        apart = relative(side)
        scores = q @ k.mT * self.scale + self.relative_position_params[:, apart[..., 0], apart[..., 1]]
        place = torch.arange(side**2)
        for axis, beyond in ((1, place // side >= side - shift), (2, place % side >= side - shift)):
            if shift:
                last = scores.select(axis, scores.shape[axis] - 1)
                last.masked_fill_(beyond[:, None] != beyond, -torch.inf)
        out = self.linear((scores.softmax(-1) @ v).transpose(-3, -2).flatten(-2))
        out = out.unflatten(3, (side, side)).transpose(2, 3).reshape(len(x), height, width, -1)
        return out.roll((shift, shift), (1, 2))


class ChannelNorm(nn.Module):
    def __init__(self, channels: int, unbiased: bool = False) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(channels)), nn.Parameter(torch.randn(channels))
        self.eps, self.unbiased = 1e-6, unbiased

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = x.mean(1, keepdim=True), x.var(1, unbiased=self.unbiased, keepdim=True)
        return (x - mean) / (variance + self.eps).sqrt() * self.weight[:, None, None] + self.bias[:, None, None]


class Block(nn.Module):
    """Norm, attention and a residue on a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.windows = ChannelNorm(channels), RolledWindows(channels, 2, 4, "SW")
        self.cut = CutWindows(channels, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.windows(self.norm(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        rows = x.permute(0, 2, 3, 1)
        cut = rows.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3)
        found = self.cut(cut.flatten(3, 4).flatten(0, 2)).reshape(cut.shape)
        return x + found.transpose(2, 3).reshape(rows.shape).permute(0, 3, 1, 2)


def test_known_structures_are_served_whatever_they_are_called():
    assert recognised(CutWindows(12, 3, 4))[1] == (FastWindows,)
    for kind in ("W", "SW"):
        assert recognised(RolledWindows(12, 3, 4, kind))[1] == (FastRolledWindows,)
    assert recognised(ChannelNorm(5))[1] == (FastChannelNorm,)


def test_calls_and_hooks_that_the_replacement_does_not_know_go_to_the_module():
    torch.manual_seed(4)
    module, seen = CutWindows(12, 3, 4).eval(), []
    x, mask = torch.randn(4, 16, 12), torch.randn(2, 16, 16)
    with torch.no_grad():
        expected = module(x, mask)
        specialise(module, (FastWindows,), (), State(Settings("native")))
        torch.testing.assert_close(module(x, mask=mask), expected)
        module.softmax.register_forward_hook(lambda *_: seen.append(1))
        assert torch.equal(module(x, mask), expected)
        assert seen
        with pytest.raises(TypeError, match="unexpected keyword"):
            module(x, other=mask)


def test_what_computes_something_else_is_left_alone():
    class Flipped(RolledWindows):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flip(1)).flip(1)

    class Called(ChannelNorm):
        def forward(self, x: Tensor, strength: Tensor) -> Tensor:
            return super().forward(x) * strength

    for module in (
        CutWindows(12, 3, 4, wrong=True),
        Flipped(12, 3, 4, "SW"),
        ChannelNorm(5, unbiased=True),
        Called(5),
        nn.BatchNorm2d(4),
        nn.LayerNorm(4),
    ):
        assert recognised(module) is None, module


@pytest.fixture
def models(model_of):
    """Plain and accelerated, with a block of one's own in both transforms."""
    plain = model_of("bmshj2018-factorized")
    torch.manual_seed(1)
    plain.g_a.append(Block(12))
    plain.g_s.insert(0, Block(12))
    return plain, copy.deepcopy(plain)


def test_models_with_such_layers_keep_their_numbers(models):
    plain, fast = models
    report = fastlic.accelerate(fast)
    assert {"attention in one pass", "rows of torch's layer norm"} <= {row.by for row in report.replaced}
    with torch.no_grad():
        for name, x in (("g_a", image()), ("g_s", plain.g_a(image()))):
            expected, found = getattr(plain, name)(x), getattr(fast, name)(x)
            assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
        for parameter in [*plain.g_s.parameters(), *fast.g_s.parameters()]:
            parameter.data.mul_(1.1)
        y = plain.g_a(image())
        assert (fast.g_s(y) - plain.g_s(y)).abs().max() <= 1e-5 * plain.g_s(y).abs().max()
    y = plain.g_a(image()).detach()
    for model in models:  # training: bit for bit
        model.g_s(y).square().sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.g_s.parameters(), fast.g_s.parameters(), strict=True))
    fastlic.restore(fast)
    assert type(fast.g_s[0].norm) is ChannelNorm


def test_and_come_near_them_in_bfloat16(models, monkeypatch):
    monkeypatch.setattr(bfloat16, "supported", lambda device: device.type == "cpu")
    plain, fast = models
    fastlic.accelerate(fast, transforms="fast")
    with torch.no_grad():
        y = plain.g_a(image())
        expected, found = plain.g_s(y), fast.g_s(y)
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    assert (found - expected).abs().max() <= 0.05 * expected.abs().max()


class Stages(InStages, compressai_models.CompressionModel):
    """As STF has it, but for its entropy path."""

    def __init__(self) -> None:
        super().__init__()
        for name, own in stages(16).items():
            setattr(self, name, own)
        self.entropy_bottleneck = entropy_models.EntropyBottleneck(16)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y_hat, _ = self.entropy_bottleneck(self.analyse(x))
        return {"x_hat": self.synthesise(y_hat)}

    def compress(self, x: Tensor) -> dict[str, object]:
        y = 20 * self.analyse(x)
        return {"strings": [self.entropy_bottleneck.compress(y)], "shape": y.shape[2:]}

    def decompress(self, strings: list[list[bytes]], shape: tuple[int, ...]) -> dict[str, Tensor]:
        return {"x_hat": self.synthesise(self.entropy_bottleneck.decompress(strings[0], shape) / 20)}


def test_stages_of_transformers_are_transforms_too(monkeypatch):
    monkeypatch.setattr(bfloat16, "supported", lambda device: device.type == "cpu")
    torch.manual_seed(2)
    plain = Stages().eval()
    plain.update()
    exact, fast = copy.deepcopy(plain), copy.deepcopy(plain)
    fastlic.accelerate(exact)
    report = fastlic.accelerate(fast, transforms="fast", calibration=[image(1)[0]])
    assert {row.part for row in report.rows if row.by.startswith("bfloat16")} == {"transform g_a", "transform g_s"}
    with torch.no_grad():
        expected = plain.analyse(image())
        assert (exact.analyse(image()) - expected).abs().max() <= 1e-5 * expected.abs().max()
        for encoder in (exact, fast):
            out = encoder.compress(image())
            near, far = (model.decompress(**out)["x_hat"] for model in (exact, fast))
            assert far.dtype == torch.float32
            torch.testing.assert_close(far, near, atol=0.05 * float(near.abs().max()), rtol=0)
