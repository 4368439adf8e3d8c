"""Where a model's transforms are: its g_a and g_s, or stages of transformers that it calls one by one, as STF does.

STF: Zou, Song and Zhang, "The Devil Is in the Details: Window-based Attention for Image Compression", CVPR 2022. Of its
stages this makes one module from images [B, 3, H, W] to latents [B, M, H/16, W/16], and one back, which run them as the
model's own methods do: what they compute is held against the model before it is believed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn as nn
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from fastlic.integrations.compressai.swap import is_specialised, specialise, state_of

NAMES = ("patch_embed", "layers", "syn_layers", "end_conv")


def has_stages(model: Any) -> bool:
    """Whether a module has such stages, and neither g_a nor g_s: forks have these as None."""
    children = dict(model.named_children())
    if {"g_a", "g_s"} & children.keys() or not set(NAMES) <= children.keys():
        return False
    return all(any(True for _ in children[name].children()) for name in ("layers", "syn_layers"))


def analysis_of(model: Any) -> Any:
    """The module from images to y of a model; None: it has none that is known."""
    if isinstance(own := getattr(model, "g_a", None), nn.Module):
        return own
    return _standing(Analysis(model), model.layers) if has_stages(model) else None


def synthesis_of(model: Any) -> Any:
    """The module from y to pictures of a model; None: it has none that is known."""
    if isinstance(own := getattr(model, "g_s", None), nn.Module):
        return own
    return _standing(Synthesis(model), model.syn_layers) if has_stages(model) else None


def _standing(module: nn.Module, stages: nn.Module) -> nn.Module:
    """What runs such stages as one: by the integers that ``accelerate`` left with them, if there are any."""
    module.training = stages.training  # of this one alone: those below have their own
    if is_specialised(stages):
        kind: Any = type(stages)
        specialise(module, kind._fastlic_front, kind._fastlic_back, state_of(stages))
    return module


def watch_synthesis(model: Any, see: Callable[[Tensor], None]) -> RemovableHandle:
    """Have ``see`` called with every latent that a model of one kind or the other synthesises."""
    if not has_stages(model):
        return model.g_s.register_forward_pre_hook(lambda module, given: see(given[0]))  # type: ignore[no-any-return]
    first = next(model.syn_layers.children())
    return first.register_forward_pre_hook(lambda module, given: see(_map(*given)))  # type: ignore[no-any-return]


def _rows(x: Tensor) -> tuple[Tensor, int, int]:
    """[B, C, h, w] as stages take it: [B, h w, C], and the sides."""
    return x.permute(0, 2, 3, 1).flatten(1, 2), x.shape[2], x.shape[3]


def _map(rows: Tensor, height: int, width: int) -> Tensor:
    return rows.mT.unflatten(2, (height, width)).contiguous()


class Analysis(nn.Module):
    """Over the model's own modules; nothing of them is copied."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.patch_embed, self.layers = model.patch_embed, model.layers

    def forward(self, x: Tensor) -> Tensor:
        given = _rows(self.patch_embed(x))
        for layer in self.layers.children():
            given = layer(*given)
        return _map(*given)


class Synthesis(nn.Module):
    """The same from latents to images."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.syn_layers, self.end_conv = model.syn_layers, model.end_conv

    def forward(self, y: Tensor) -> Tensor:
        given = _rows(y)
        for layer in self.syn_layers.children():
            given = layer(*given)
        out: Tensor = self.end_conv(_map(*given))
        return out
