"""Attention of a slice's channels to a dictionary that the model has learned, as DCAE has it: what it is made of.

The dictionary is fixed, so its keys and values are weights: scores are a layer of queries, and means of values a layer
of what softmax makes of them. Modules are read by the names of their parts, and the reading is proven by trial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.integers.graph import Gate, Graph, Softmax, Sum, scaled
from fastlic.integers.stages import Stage, stage_of
from fastlic.integrations.compressai.windows import gated, layer_norm, linear, prove

_LINEAR = ("x_trans", "q_trans", "k", "linear")
_NORMS = ("ln_scale", "lnx", "dict_ln", "ln_mlp")


class Looked(nn.Module):
    """Such attention and the dictionary that it reads, as one module over maps [B, C, h, w].

    Args:
        attention: of a map and a dictionary [B, words, channels].
        provider: gives the dictionary for so many images, as a view of a parameter.

    Raises:
        ValueError: the dictionary is no view of a parameter [words, channels].
    """

    def __init__(self, attention: nn.Module, provider: Callable[[int], Tensor]) -> None:
        super().__init__()
        words = provider(1)._base
        if not isinstance(words, nn.Parameter) or words.ndim != 2:
            raise ValueError("its dictionary is no parameter of words and channels")
        self.attention, self.words = attention, words

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(x, self.words.expand(len(x), *self.words.shape))
        return out


def reads_dictionary(head: Any) -> bool:
    """Whether a slice's context has an attention to a dictionary in front of its means and scales."""
    names = ("cross_attention", "mean_cc", "scale_cc", "_dictionary_provider")
    return all(hasattr(head, name) for name in names)


def read_looked(graph: Graph, module: Looked, x: int, name: str) -> int:
    """Add what the module makes of value x.

    Raises:
        ValueError: the attention has other parts, or computes something else than they say.
    """
    own: Any = module.attention
    linear_ones = [getattr(own, part, None) for part in _LINEAR]
    norms = [getattr(own, part, None) for part in _NORMS]
    if not all(isinstance(m, nn.Linear) for m in linear_ones) or not all(isinstance(m, nn.LayerNorm) for m in norms):
        raise ValueError(f"{name} is a {type(own).__name__}, which is no attention to a dictionary that is known")
    try:
        prove(module, _read, own.x_trans.in_features, name)
        return _read(graph, module, x, name)
    except AttributeError as error:
        raise ValueError(f"{name} is a {type(own).__name__}, which lacks a part: {error}") from error


def _read(graph: Graph, module: Looked, x: int, name: str) -> int:
    own: Any = module.attention
    x = graph.hold(linear(graph, own.x_trans, x, f"{name}.x_trans"))
    y = _aggregated(graph, own.msa, layer_norm(graph, own.ln_scale, x), f"{name}.msa")
    y = _sum(graph, y, x, own.res_scale_1, f"{name}.res_scale_1")
    scores, means = _layers(own, module.words, name)
    weights = graph.add(Softmax(len(own.scale)), graph.add(scores, layer_norm(graph, own.lnx, y)))
    y = _sum(graph, graph.hold(graph.add(means, weights)), y, own.res_scale_2, f"{name}.res_scale_2")
    inner = gated(graph, own.mlp.fc1, own.mlp.dwconv.dwconv, layer_norm(graph, own.ln_mlp, y), f"{name}.mlp")
    inner = graph.hold(linear(graph, own.mlp.fc2, inner, f"{name}.mlp.fc2"))
    y = _sum(graph, inner, y, own.res_scale_3, f"{name}.res_scale_3")
    return linear(graph, own.output_trans[0], y, f"{name}.output_trans")


def _sum(graph: Graph, y: int, past: int, scale: Any, name: str) -> int:
    return graph.hold(graph.add(Sum(), y, graph.hold(scaled(graph, past, scale.scale.detach(), name))))


def _layers(own: Any, words: Tensor, name: str) -> tuple[Stage, Stage]:
    """From normed channels to scores, head after head, and from their softmax to what is added."""
    known = own.dict_ln(words).detach()
    heads = own.scale.detach().flatten()
    each = known.shape[1] // len(heads)
    keys = own.k(known).detach().unflatten(1, (-1, each)) * heads[:, None]  # [words, heads, each]
    values = known.unflatten(1, (-1, each))
    queries = Stage.of(own.q_trans, name)
    weight = torch.einsum("whc,hci->hwi", keys, queries.weight.unflatten(0, (-1, each))).flatten(0, 1)
    bias = torch.einsum("whc,hc->hw", keys, queries.bias.unflatten(0, (-1, each))).flatten()
    scores = Stage(f"{name}.scores", weight[:, :, None, None], bias)
    last = Stage.of(own.linear, f"{name}.linear")
    weight = torch.einsum("ohc,whc->ohw", last.weight.unflatten(1, (-1, each)), values).flatten(1)
    return scores, replace(last, weight=weight[:, :, None, None])


def _aggregated(graph: Graph, own: Any, x: int, name: str) -> int:
    """Layers, and a gate for each position that the mean and the highest of their channels open."""
    x = graph.add(stage_of(own.s, f"{name}.s"), x)
    x = graph.hold(graph.trace(own.dense, graph.hold(x), f"{name}.dense"))
    channels, path = own.s.out_channels, f"{name}.spatial_atte"
    mean = graph.add(Stage(path, torch.full((1, channels, 1, 1), 1 / channels), torch.zeros(1)), x)
    both = stage_of(own.spatial_atte.conv1, f"{path}.conv1")
    parts = [
        graph.add(replace(both, weight=weight.contiguous(), bias=bias), value)
        for weight, bias, value in zip(
            both.weight.split(1, 1), (both.bias, 0 * both.bias), (mean, _highest(graph, x, channels, path)), strict=True
        )
    ]
    every = Stage(path, torch.ones(channels, 1, 1, 1), torch.zeros(channels))
    return graph.add(Gate(), x, graph.hold(graph.add(every, graph.add(Sum(), *map(graph.hold, parts)))))


def _highest(graph: Graph, x: int, channels: int, name: str) -> int:
    """The highest channel of each position: of a and b, a + max(b - a, 0), half of the channels at a time."""
    while channels > 1:
        rows, half = torch.eye(channels)[:, :, None, None], (channels + 1) // 2
        first, second = rows[:half], rows[channels - half :]
        more = Stage(name, second - first, torch.zeros(half), slope=0.0)
        one = graph.hold(graph.add(Stage(name, first.contiguous(), torch.zeros(half)), x))
        x, channels = graph.hold(graph.add(Sum(), one, graph.hold(graph.add(more, x)))), half
    return x
