"""Analysis and synthesis transforms on the CPU in channels-last layout, with GDN in one pass.

Nothing is cached: weights are read at each call, so training, ``load_state_dict`` and writing through ``.data`` need no
notice. What a replaced layer cannot serve (another device or precision, gradients, tracing, autocast) runs as before.
Results agree with CompressAI's to 1e-5 of the largest value, not to the last bit; in bfloat16 they do not.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.integrations.compressai import bfloat16
from fastlic.integrations.compressai.heap import kept
from fastlic.models.inference import convolved, doubled, doubles_to_few, servable
from fastlic.ops.divisive import gdn

# Numbers of an input from which on memory is kept: below, every map fits what glibc keeps by itself.
_LARGE = 2**17


class FastTransform:
    """A whole transform: between its layers maps are channels-last, outside they are as the caller had them."""

    _halves = True  # where bfloat16 is asked for

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        layer: Any = self
        with _memory(x):
            if self._halves and bfloat16.serves(layer, x):
                out = self._half(x, *args, **kwargs)
            else:
                out = super().forward(x, *args, **kwargs)  # type: ignore[misc]
        plain = type(x) is Tensor and type(out) is Tensor and x.is_contiguous()
        return out.contiguous() if plain else out

    def _half(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        layer: Any = self
        if isinstance(layer, nn.Sequential) and vars(type(layer))["_fastlic_original"].forward is nn.Sequential.forward:
            return bfloat16.run_layers(layer, x)
        with torch.autocast(x.device.type, torch.bfloat16):
            out = super().forward(x, *args, **kwargs)  # type: ignore[misc]
        return tuple(map(_floats, out)) if type(out) is tuple else _floats(out)


class FastEnd(FastTransform):
    """The part of a transform that ends at pixels or latents: float32 whatever the rest is."""

    _halves = False


def _floats(out: Any) -> Any:
    return out.float() if type(out) is Tensor and out.dtype is torch.bfloat16 else out


def _memory(x: Any) -> AbstractContextManager[None]:
    if torch.is_grad_enabled() or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return nullcontext()
    return kept() if type(x) is Tensor and x.device.type == "cpu" and x.numel() >= _LARGE else nullcontext()


class FastConvolution:
    """nn.Conv2d: torch follows the layout of its input."""

    def forward(self, x: Tensor) -> Tensor:
        layer: Any = self
        if servable(x, layer.weight):
            return convolved(x, layer, super().forward)  # type: ignore[misc]
        if bfloat16.inside(layer, x):
            x = x.to(torch.bfloat16, memory_format=torch.channels_last)
        result: Tensor = super().forward(x)  # type: ignore[misc]
        return result


class FastTransposed:
    """nn.ConvTranspose2d; the last one of a synthesis, to three channels, as a convolution and a pixel shuffle."""

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        layer: Any = self
        if not servable(x, layer.weight):
            if bfloat16.inside(layer, x):
                x = x.to(torch.bfloat16, memory_format=torch.channels_last)
            result: Tensor = super().forward(x, output_size)  # type: ignore[misc]
            return result
        if output_size is not None:
            x = x.contiguous(memory_format=torch.channels_last)
            return super().forward(x, output_size)  # type: ignore[misc, no-any-return]
        return doubled(x, layer) if doubles_to_few(layer) else convolved(x, layer, super().forward)  # type: ignore[misc]


class FastGDN:
    """GDN and its inverse in one pass over the map."""

    def forward(self, x: Tensor) -> Tensor:
        layer: Any = self
        half = bfloat16.inside(layer, x) and layer.gamma.dtype == torch.float32 and layer.gamma.device.type == "cpu"
        if not half and not servable(x, layer.gamma):
            result: Tensor = super().forward(x)  # type: ignore[misc]
            return result
        beta, gamma = layer.beta_reparam(layer.beta), layer.gamma_reparam(layer.gamma)
        found = gdn(x.float(), beta, gamma, layer.inverse)
        return found.to(torch.bfloat16) if half else found
