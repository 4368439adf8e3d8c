"""Analysis and synthesis transforms on the CPU in channels-last layout, with GDN in one pass.

Nothing is cached: weights are read at each call, so training, ``load_state_dict`` and writing through ``.data`` need no
notice. What a replaced layer cannot serve (another device or precision, gradients, tracing, autocast) runs as before.
Results agree with CompressAI's to 1e-5 of the largest value, not to the last bit.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.ops.gdn import gdn

# Up to here a transposed convolution is run as an ordinary one of four times the channels: vectors hold 16 outputs,
# of which one of three channels fills three. With 12 channels both ways cost the same, with 32 this one is slower.
_FEW = 4


def servable(x: Any, weight: Tensor) -> bool:
    """Whether a layer with this weight may take the fast way for this input."""
    return (
        type(x) is Tensor  # nor one of those that trace and compile
        and x.dim() == 4
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


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
        if output_size is not None or not _doubles(layer):
            return super().forward(x, output_size)  # type: ignore[misc, no-any-return]
        bias = None if layer.bias is None else layer.bias.repeat_interleave(4)
        return F.pixel_shuffle(F.conv2d(x, subpixel_weight(layer.weight), bias, padding=1), 2)


def _doubles(layer: Any) -> bool:
    """Whether it is CompressAI's deconv: 5x5, twice the size, with so few outputs that the detour pays."""
    return (
        layer.kernel_size == (5, 5)
        and layer.stride == layer.padding == (2, 2)
        and layer.output_padding == layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and layer.out_channels <= _FEW
    )


def subpixel_weight(weight: Tensor) -> Tensor:
    """[in, out, 5, 5] of a transposed convolution of stride 2 to [4 out, in, 3, 3] of a plain one.

    Output 2 i + a takes input i + d with tap a + 2 - 2 d, where d is -1, 0 or 1; the sixth tap is none.
    """
    inputs, outputs = weight.shape[:2]
    taps = F.pad(weight, (0, 1, 0, 1)).reshape(inputs, outputs, 3, 2, 3, 2).flip(2, 4)
    return taps.permute(1, 3, 5, 0, 2, 4).reshape(4 * outputs, inputs, 3, 3)


class FastGDN:
    """GDN and its inverse in one pass over the map."""

    def forward(self, x: Tensor) -> Tensor:
        layer: Any = self
        if not servable(x, layer.gamma):
            result: Tensor = super().forward(x)  # type: ignore[misc]
            return result
        return gdn(x, layer.beta_reparam(layer.beta), layer.gamma_reparam(layer.gamma), layer.inverse)
