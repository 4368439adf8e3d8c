"""Layers that models bring themselves, recognised by what they hold: attention within windows, norms over channels.

Published models copy such layers from each other, under other names. A module whose parameters and buffers have the
names of one of these is tried out: with random weights, on random inputs, what it computes must be what ours does, to
1e-5 of the largest value. Otherwise it stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.integrations.compressai import bfloat16
from fastlic.integrations.compressai.settings import Settings, State
from fastlic.integrations.compressai.swap import is_specialised, specialise
from fastlic.models.inference import servable_numbers
from fastlic.ops.float_attention import window_attention

_CLOSE = 1e-5


def _serves(layer: Any, x: Any, dims: int, weight: Tensor) -> bool:
    if layer.training or type(x) is not Tensor or x.dim() != dims:
        return False
    if any(own._forward_hooks or own._forward_pre_hooks for own in layer.children() if type(own) is not nn.Linear):
        return False  # of a softmax or a dropout that ours does not call
    return servable_numbers(x, weight) or (weight.dtype == torch.float32 and bfloat16.inside(layer, x, dims))


class FastWindows:
    """Swin's attention of windows [B, P^2, C], whose caller rolls and cuts: ``qkv``, ``proj``, a table of biases."""

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        layer: Any = self
        table = layer.relative_position_bias_table
        mask = args[0] if args else kwargs.get("mask")
        known = len(args) + len(kwargs) <= 1 and kwargs.keys() <= {"mask"} and (mask is None or type(mask) is Tensor)
        if not known or not _serves(layer, x, 3, table):
            return super().forward(x, *args, **kwargs)  # type: ignore[misc]
        side = layer.window_size[0]
        bias = table[layer.relative_position_index.flatten()].unflatten(0, (side**2, side**2)).permute(2, 0, 1)
        maps = layer.qkv(x).float().unflatten(1, (side, side))
        return layer.proj(window_attention(maps, bias, mask, scale=layer.scale).flatten(1, 2))

    @staticmethod
    def fits(module: Any) -> bool:
        side = _pair(getattr(module, "window_size", None))
        return (
            _holds(module, {"qkv": nn.Linear, "proj": nn.Linear}, {"relative_position_bias_table"})
            and side is not None
            and isinstance(getattr(module, "relative_position_index", None), Tensor)
            and isinstance(getattr(module, "scale", None), float)
            and module.relative_position_index.numel() == side**4
            and module.relative_position_bias_table.dim() == 2
        )

    @staticmethod
    def inputs(module: Any) -> Iterator[tuple[Any, ...]]:
        places, channels = module.window_size[0] ** 2, module.qkv.in_features
        yield (torch.randn(6, places, channels),)
        yield torch.randn(6, places, channels), torch.where(torch.rand(3, places, places) < 0.3, -100.0, 0.0)


class FastRolledWindows:
    """Attention of whole maps [B, H, W, C] that rolls and cuts: TCM's ``embedding_layer`` and ``linear``."""

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        layer: Any = self
        table, side = layer.relative_position_params, layer.window_size
        if args or kwargs or not _serves(layer, x, 4, table) or x.shape[1] % side or x.shape[2] % side:
            return super().forward(x, *args, **kwargs)  # type: ignore[misc]
        place = torch.arange(side)
        apart = place[:, None] - place + side - 1
        rows, columns = apart[:, None, :, None], apart[None, :, None, :]
        bias = table[:, rows, columns].flatten(3).flatten(1, 2)
        shift = 0 if layer.type == "W" else side // 2
        found = window_attention(layer.embedding_layer(x).float(), bias, shift=shift, scale=layer.scale)
        return layer.linear(found)

    @staticmethod
    def fits(module: Any) -> bool:
        side = getattr(module, "window_size", None)
        return (
            _holds(module, {"embedding_layer": nn.Linear, "linear": nn.Linear}, {"relative_position_params"})
            and isinstance(side, int)
            and getattr(module, "type", None) in ("W", "SW")
            and isinstance(getattr(module, "scale", None), float)
            and module.relative_position_params.shape[1:] == (2 * side - 1, 2 * side - 1)
        )

    @staticmethod
    def inputs(module: Any) -> Iterator[tuple[Any, ...]]:
        side = module.window_size
        yield (torch.randn(2, 2 * side, 3 * side, module.embedding_layer.in_features),)


class FastChannelNorm:
    """Layer normalisation over the channels of maps [B, C, H, W]: ``weight``, ``bias`` and ``eps``."""

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        layer: Any = self
        if args or kwargs or not _serves(layer, x, 4, layer.weight):
            return super().forward(x, *args, **kwargs)  # type: ignore[misc]
        rows = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        return F.layer_norm(rows, layer.weight.shape, layer.weight, layer.bias, layer.eps).permute(0, 3, 1, 2)

    @staticmethod
    def fits(module: Any) -> bool:
        return (
            _holds(module, {}, {"weight", "bias"})
            and module.weight.dim() == 1
            and module.weight.shape == module.bias.shape
            and isinstance(getattr(module, "eps", None), float)
        )

    @staticmethod
    def inputs(module: Any) -> Iterator[tuple[Any, ...]]:
        yield (torch.randn(2, len(module.weight), 3, 5) + 0.5,)


_KINDS: tuple[tuple[Any, str], ...] = (
    (FastWindows, "attention in one pass"),
    (FastRolledWindows, "attention in one pass"),
    (FastChannelNorm, "rows of torch's layer norm"),
)


def recognised(module: nn.Module) -> tuple[str, tuple[type, ...]] | None:
    """What serves a layer, in words and as classes; None for what is no such layer, or computes something else."""
    if type(module).__module__.startswith("torch.") or is_specialised(module) or "forward" in vars(module):
        return None
    for kind, words in _KINDS:
        if kind.fits(module) and _tried(module, kind):
            return words, (kind,)
    return None


@torch.no_grad()
def _tried(module: nn.Module, kind: Any) -> bool:
    with torch.random.fork_rng(devices=[]), torch.autocast("cpu", enabled=False):
        torch.manual_seed(0)
        try:
            own = copy.deepcopy(module).float().cpu().eval()
            for parameter in own.parameters():
                parameter.data = torch.randn(parameter.shape) / max(parameter.shape[-1], 1) ** 0.5
            ours = copy.deepcopy(own)
            specialise(ours, (kind,), (), State(Settings("native")))
            for given in kind.inputs(own):
                expected, found = own(*given), ours(*given)
                if found.shape != expected.shape:
                    return False
                if not (found - expected).abs().max() <= _CLOSE * expected.abs().max():
                    return False
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):  # called otherwise, or other shapes
            return False
    return True


def _holds(module: nn.Module, children: dict[str, type], parameters: set[str]) -> bool:
    """Whether these are its layers, but for such without parameters, and its own parameters."""
    layers = {name: child for name, child in module.named_children() if any(True for _ in child.parameters())}
    return (
        layers.keys() == children.keys()
        and all(type(layers[name]) is kind for name, kind in children.items())
        and {name for name, _ in module.named_parameters(recurse=False)} == parameters
    )


def _pair(size: Any) -> int | None:
    return size[0] if isinstance(size, tuple) and len(size) == 2 and size[0] == size[1] else None
