"""Analysis and synthesis transforms on the CPU in channels-last layout, with GDN in one pass.

Nothing is cached: weights are read at each call, so training, ``load_state_dict`` and writing through ``.data`` need no
notice. What a replaced layer cannot serve (another device or precision, gradients, tracing, autocast) runs as before.
Results agree with CompressAI's to 1e-5 of the largest value, not to the last bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastlic.models.inference import doubled, doubles_to_few, servable
from fastlic.ops.divisive import gdn


class FastTransform:
    """A whole transform: between its layers maps are channels-last, outside they are as the caller had them."""

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        out = super().forward(x, *args, **kwargs)  # type: ignore[misc]
        plain = type(x) is Tensor and type(out) is Tensor and x.is_contiguous()
        return out.contiguous() if plain else out


class FastConvolution:
    """nn.Conv2d: torch follows the layout of its input."""

    def forward(self, x: Tensor) -> Tensor:
        layer: Any = self
        if servable(x, layer.weight):
            x = x.contiguous(memory_format=torch.channels_last)
        result: Tensor = super().forward(x)  # type: ignore[misc]
        return result


class FastTransposed:
    """nn.ConvTranspose2d; the last one of a synthesis, to three channels, as a convolution and a pixel shuffle."""

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        layer: Any = self
        if not servable(x, layer.weight):
            result: Tensor = super().forward(x, output_size)  # type: ignore[misc]
            return result
        x = x.contiguous(memory_format=torch.channels_last)
        if output_size is not None or not doubles_to_few(layer):
            return super().forward(x, output_size)  # type: ignore[misc, no-any-return]
        return doubled(x, layer)


class FastGDN:
    """GDN and its inverse in one pass over the map."""

    def forward(self, x: Tensor) -> Tensor:
        layer: Any = self
        if not servable(x, layer.gamma):
            result: Tensor = super().forward(x)  # type: ignore[misc]
            return result
        return gdn(x, layer.beta_reparam(layer.beta), layer.gamma_reparam(layer.gamma), layer.inverse)
