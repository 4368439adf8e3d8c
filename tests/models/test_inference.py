"""Layers without gradients on the CPU compute what they compute with them, to 1e-5 of the largest value."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn
from torch import Tensor

from fastlic.models.inference import Gelu, servable
from fastlic.models.layers import GDN, deconv
from fastlic.models.mlic.transforms import RefinedGDN


def close(fast: Tensor, plain: Tensor) -> bool:
    return bool((fast - plain).abs().max() <= 1e-5 * plain.abs().max())


def alive(layer: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(p.abs() + 0.1 * torch.rand(p.shape) if p.ndim < 4 else 0.1 * torch.randn(p.shape))
    return layer


LAYERS = {
    "gdn": lambda: GDN(24),
    "igdn": lambda: GDN(24, inverse=True),
    "igdn with blocks": lambda: RefinedGDN(24, True, 2),
    "deconv to an image": lambda: deconv(24, 3),
    "deconv to many": lambda: deconv(24, 16),
    "deconv by one": lambda: deconv(24, 3, stride=1),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_without_gradients_a_layer_computes_the_same(name, form):
    layer = alive(LAYERS[name]())
    x = torch.randn(2, 24, 9, 14).contiguous(memory_format=form)
    plain = layer(x).detach()
    with torch.no_grad():
        fast = layer(x)
    assert fast.shape == plain.shape and close(fast, plain)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_gelu_of_rows_is_gelu_and_keeps_layout_and_gradient(form):
    x = torch.randn(2, 24, 9, 14).contiguous(memory_format=form).requires_grad_()
    y = Gelu()(x)
    torch.testing.assert_close(y, torch.nn.functional.gelu(x.double()).float(), rtol=1e-5, atol=1e-6)
    assert y.is_contiguous(memory_format=form)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    (wanted,) = torch.autograd.grad(torch.nn.functional.gelu(x.double()).sum(), x)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)


def test_a_changed_weight_is_seen_at_the_next_call():
    layer, x = alive(GDN(24)), torch.randn(1, 24, 5, 6)
    with torch.no_grad():
        before = layer(x)
        layer.beta.mul_(2)
        assert not close(layer(x), before)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_is_traced_autocast_or_of_another_type_takes_the_plain_form():
    layer, x = alive(GDN(24)), torch.randn(1, 24, 5, 6)
    with torch.no_grad():
        assert servable(x, layer.gamma)
        assert not servable(x.double(), layer.gamma) and not servable(x.to("meta"), layer.gamma)
        with torch.autocast("cpu"):
            assert not servable(x, layer.gamma)
        traced = torch.jit.trace(layer, x)
        assert "convolution" in str(traced.graph) and close(traced(x), layer(x))
        fast = layer(x)
        assert close(fast, layer.double()(x.double()).float())
    assert not servable(x, layer.gamma)
