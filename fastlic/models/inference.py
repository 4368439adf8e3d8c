"""Layers of g_a and g_s (Ballé et al. 2017, Minnen et al. 2018) in a form that is faster on a CPU without gradients.

Maps are [N, C, H, W], fastest channels-last. GDN is ``fastlic.ops.gdn``; wide convolutions are
``fastlic.ops.convolution``, which has a third of the products; a transposed one of stride 2 to a few channels,
y[2i + a] = sum over d of w[a + 2 - 2d] x[i + d], becomes a plain one and a pixel shuffle.

Nothing is cached: weights are read at each call, so training, ``load_state_dict`` and writing through ``.data`` need no
notice. Results agree with the plain form to 1e-5 of the largest value, not to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.ops.float_convolution import UNIT, convolution

# Up to here a transposed convolution is run as an ordinary one of four times the channels: vectors hold 16 outputs,
# of which one of three channels fills three. With 12 channels both ways cost the same, with 32 this one is slower.
_FEW = 4
# From so many inputs, outputs and tiles of 4x4 outputs on, Winograd's transform is quicker than oneDNN, whose
# convolutions need not transform weights first (``python -m fastlic.bench convolutions``).
_INPUTS, _OUTPUTS, _TILES = 32, 12, 24


def servable(x: Any, weight: Tensor, devices: tuple[str, ...] = ("cpu",)) -> bool:
    """Whether a layer with this weight may take the fast way for this map; ``devices``: types of those that have it."""
    return servable_numbers(x, weight, devices) and x.dim() == 4


def servable_numbers(x: Any, weight: Tensor, devices: tuple[str, ...] = ("cpu",)) -> bool:
    """The same of inputs of any shape."""
    return (
        type(x) is Tensor  # nor one of those that trace and compile
        and x.device.type == weight.device.type in devices
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled(x.device.type)
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


class Gelu(nn.GELU):
    """GELU; of a channels-last map on the CPU, as of its rows, for which torch has a faster loop."""

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type == "cpu" and input.dim() == 4 and not input.is_contiguous():
            rows = input.permute(0, 2, 3, 1)
            if rows.is_contiguous():
                return super().forward(rows).permute(0, 3, 1, 2)
        return super().forward(input)


def convolved(x: Tensor, layer: nn.Conv2d | nn.ConvTranspose2d, forward: Callable[[Tensor], Tensor]) -> Tensor:
    """``forward`` of ``layer`` on a map that is ``servable``, channels-last.

    3x3 layers, and 5x5 ones that halve or double the size, are ``fastlic.ops.convolution`` where that is quicker. 1x1
    layers go to oneDNN by name: with one thread torch would unfold the map for a product of matrices, which takes 1.1
    to 1.8 times as long.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    transposed = isinstance(layer, nn.ConvTranspose2d)
    if _geometry(layer) in _BY_WINOGRAD and _pays(x, layer.in_channels, layer.out_channels):
        return convolution(x, layer.weight, layer.bias, layer.stride[0], transposed)
    if transposed:
        return forward(x)
    alone = layer.kernel_size == layer.stride == layer.dilation == (1, 1) and layer.groups == 1
    if not alone or layer.padding not in ((0, 0), "same", "valid") or not x.numel() or not _onednn():
        return forward(x)
    return torch.mkldnn_convolution(x, layer.weight, layer.bias, (0, 0), (1, 1), (1, 1), 1)


def _geometry(layer: nn.Conv2d | nn.ConvTranspose2d) -> tuple[Any, ...]:
    """Whether it is transposed, kernel, stride, padding, padding of outputs, dilation, groups and mode."""
    padding = layer.padding
    if padding == "same" and layer.stride == (1, 1):
        padding = layer.kernel_size[0] // 2, layer.kernel_size[1] // 2
    transposed, rest = isinstance(layer, nn.ConvTranspose2d), (layer.dilation, layer.groups, layer.padding_mode)
    return transposed, layer.kernel_size, layer.stride, padding, layer.output_padding, *rest


_DOUBLING = (True, (5, 5), (2, 2), (2, 2), (1, 1), (1, 1), 1, "zeros")
_BY_WINOGRAD = {
    (False, (3, 3), (1, 1), (1, 1), (0, 0), (1, 1), 1, "zeros"),
    (False, (5, 5), (2, 2), (2, 2), (0, 0), (1, 1), 1, "zeros"),
    _DOUBLING,
}


def _pays(x: Tensor, inputs: int, outputs: int) -> bool:
    tiles = len(x) * -(-x.shape[2] // 4) * -(-x.shape[3] // 4)
    return inputs % UNIT == 0 and inputs >= _INPUTS and outputs >= _OUTPUTS and tiles >= _TILES


def _onednn() -> bool:
    own = torch.backends.mkldnn
    return bool(own.is_available() and own.enabled) and torch.get_num_threads() == 1


def doubles_to_few(layer: nn.ConvTranspose2d) -> bool:
    """Whether it is CompressAI's deconv: 5x5, twice the size, with so few outputs that ``doubled`` pays."""
    return _geometry(layer) == _DOUBLING and layer.out_channels <= _FEW


def doubled(x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """The transposed convolution ``layer`` as a plain one and a pixel shuffle: [N, C, H, W] -> [N, C', 2H, 2W]."""
    x = x.contiguous(memory_format=torch.channels_last)
    bias = None if layer.bias is None else layer.bias.repeat_interleave(4)
    weight = subpixel_weight(layer.weight)
    pays = _pays(x, layer.in_channels, len(weight))
    return F.pixel_shuffle(convolution(x, weight, bias) if pays else F.conv2d(x, weight, bias, padding=1), 2)


def subpixel_weight(weight: Tensor) -> Tensor:
    """[in, out, 5, 5] of a transposed convolution of stride 2 to [4 out, in, 3, 3] of a plain one.

    Output 2 i + a takes input i + d with tap a + 2 - 2 d, where d is -1, 0 or 1; the sixth tap is none.
    """
    inputs, outputs = weight.shape[:2]
    taps = F.pad(weight, (0, 1, 0, 1)).reshape(inputs, outputs, 3, 2, 3, 2).flip(2, 4)
    return taps.permute(1, 3, 5, 0, 2, 4).reshape(4 * outputs, inputs, 3, 3)
