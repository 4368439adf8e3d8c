"""Modules of unknown classes as graphs: what their forward says is computed, what has no integer form is named."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from fastlic.integers.graph import Graph


class Forward(nn.Module):
    """Layers, and a forward given as a function of them."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x, unused: bool = False):
        return self.run(self, x)


def conv(inputs, outputs, kernel=3):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def product(parts):
    return parts[0] * parts[1]


def parted(a, x):
    left, middle, right = a.split((2, 4, 3), 1)
    return torch.cat([F.gelu(left), middle, F.relu(right), x], 1)


CASES = {
    "a residual block": Forward(lambda m, x: F.leaky_relu(m.a(x), 0.2) + x, a=conv(6, 6)),
    "a block that adds in place": Forward(lambda m, x: m.a(x).relu().add_(x), a=conv(6, 6)),
    "a gate": Forward(lambda m, x: m.a(x) * torch.sigmoid(m.b(x)) + x, a=conv(6, 6), b=conv(6, 6, 1)),
    "a gate by a module": Forward(lambda m, x: m.s(m.b(x)) * m.a(x), a=conv(6, 6), b=conv(6, 6, 1), s=nn.Sigmoid()),
    "channels that part and join": Forward(
        lambda m, x: m.b(parted(m.a(x), x)),
        a=conv(6, 9, 1),
        b=nn.Sequential(conv(15, 5), nn.GELU(), conv(5, 4)),
    ),
    "a scale by channel": Forward(
        lambda m, x: x + m.a(x) * m.w, a=conv(6, 6), w=nn.Parameter(torch.linspace(0.5, 2, 6).view(1, 6, 1, 1))
    ),
    "a scaled sum": Forward(lambda m, x: 0.5 * (m.a(x) + m.b(x)), a=conv(6, 4), b=conv(6, 4)),
    "a list in a loop": Forward(
        lambda m, x: m.layers[2](F.silu(m.layers[1](F.relu(m.layers[0](x))))),
        layers=nn.ModuleList([conv(6, 8), conv(8, 8), conv(8, 3)]),
    ),
    "a gate at the end of a sequence": Forward(
        lambda m, x: m.g(x) * x, g=nn.Sequential(conv(6, 5, 1), nn.GELU(), conv(5, 6), nn.Sigmoid())
    ),
    "two maps": Forward(lambda m, x: m.a(x) * x + x, a=conv(6, 6)),
    "halves of a depthwise layer": Forward(
        lambda m, x: product(m.b(m.a(x)).chunk(2, 1)), a=conv(6, 10, 1), b=nn.Conv2d(10, 10, 5, 1, 2, groups=10)
    ),
    "halves of a depthwise layer of what others read": Forward(
        lambda m, x: product(m.b(x).chunk(2, 1)), b=nn.Conv2d(6, 6, 3, 1, 1, groups=6)
    ),
    "single channels of a depthwise layer": Forward(
        lambda m, x: m.c(torch.cat([*map(m.b(m.a(x)).split(1, 1).__getitem__, (1, 0))], 1)),
        a=conv(6, 2),
        b=nn.Conv2d(2, 2, 3, 1, 1, groups=2),
        c=conv(2, 3),
    ),
    "shares of a sum": Forward(lambda m, x: (m.a(x) + x).split((2, 4), 1)[1] * m.b(x), a=conv(6, 6), b=conv(6, 4)),
    "a scaled sum of channels": Forward(
        lambda m, x: m.a(x) + F.relu(m.a(x) + x) * m.w,
        a=conv(6, 6),
        w=nn.Parameter(torch.linspace(-1, 1, 6)[:, None, None]),
    ),
    "a gate of a pooled map": Forward(
        lambda m, x: m.a(x) * m.p(m.a(x)) + x, a=conv(6, 6), p=nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(6, 6, 1))
    ),
    "a shuffle": Forward(lambda m, x: F.pixel_shuffle(m.a(x), 2), a=conv(6, 12)),
    "blocks within blocks": Forward(
        lambda m, x: m.b(m.a(x)) + x,
        a=Forward(lambda m, x: m.c(x).chunk(2, 1)[1], c=conv(6, 12)),
        b=nn.Sequential(nn.ReLU(), Forward(lambda m, x: m.c(x) + x, c=conv(6, 6))),
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_what_a_forward_computes_the_graph_computes(name):
    torch.manual_seed(1)
    module, x = CASES[name].eval(), torch.randn(1, 6, 12, 8)
    graph = Graph.of(module, "m")
    assert graph.traced
    torch.testing.assert_close(graph.run(x), module(x), rtol=1e-5, atol=1e-5)


REFUSED = {
    "softmax": (lambda m, x: torch.softmax(m.a(x), 1), "its forward calls softmax"),
    "a size": (lambda m, x: m.a(x).view(x.shape[0], -1, 2, 2), "its forward calls"),
    "a branch": (lambda m, x: m.a(x) if x.mean() > 0 else x, "torch.fx cannot follow its forward"),
    "unlike maps": (lambda m, x: m.a(x) * torch.cat([x, x], 1), "multiplies a map by what is no constant"),
    "rows": (lambda m, x: torch.cat([m.a(x), x], 2), "along dimension 2"),
    "a part": (lambda m, x: m.a(x)[:, :3], "takes parts of maps"),
    "rows of a split": (lambda m, x: m.a(x).split(2, 2)[0], "splits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_integer_form_is_an_error_that_names_it(name):
    run, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as caught:
        Graph.of(nn.Sequential(conv(6, 6), Forward(run, a=conv(6, 6))), "g_a")
    assert "g_a.1" in str(caught.value)


def test_layers_of_torch_that_nobody_knows_are_named_as_before():
    with pytest.raises(ValueError, match=r"g_a\.1 is a Tanh, which has no integer form$"):
        Graph.of(nn.Sequential(conv(3, 3), nn.Tanh()), "g_a")
