"""Attention of heads within square windows of a float map, shifted windows included, on the CPU.

y = window_attention(qkv, bias)                      # softmax(scale q k^T + bias) v, window by window
y = window_attention(qkv, bias, shift=4)             # Swin's shifted windows, places that the roll joined apart

torch rolls the map, cuts it, transposes heads, writes scores of all windows to memory five times and puts everything
back; here a window's scores stay in the first cache, and places are found where they are. Results agree with float64 to
1e-5 of the largest value.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fastlic import _native
from fastlic.ops import _arguments as arguments
from fastlic.ops.reference import float_attention as reference

Backend = Literal["cpp", "reference"]


def window_attention(
    qkv: Tensor,  # [B, H, W, 3 C] float32 on the CPU: queries, keys and values, of each all heads one after the other
    bias: Tensor,  # [heads, P^2, P^2], added to scores, queries first: windows are of PxP places
    mask: Tensor | None = None,  # [K, P^2, P^2], added too: window i, counted through all maps, has number i % K
    shift: int = 0,  # the map is rolled by so much, up and left, before it is cut, and back afterwards
    scale: float | None = None,  # of products of queries and keys; default: 1 / sqrt(depth of a head)
    apart: float = -math.inf,  # added to scores of places that only the roll made neighbours
    *,
    threads: int = 0,
    backend: Backend = "cpp",
) -> Tensor:
    """Returns [B, H, W, C]. ``threads``: 0 means as many as torch uses. Records no gradient.

    Raises:
        ValueError: sizes that do not fit each other, maps that are not whole windows, windows beyond 32x32.
        TypeError: no tensors, or none of real numbers.
    """
    for name, value in (("qkv", qkv), ("bias", bias), *([] if mask is None else [("mask", mask)])):
        arguments.tensor(name, value)
    run = arguments.implementation({"cpp": True, "reference": False}, backend)
    threads = arguments.integer("threads", threads, 0)
    shift = arguments.integer("shift", shift, 0)
    apart = arguments.number("apart", apart)
    if qkv.dim() != 4 or qkv.dtype != torch.float32 or qkv.device.type != "cpu":
        raise ValueError(
            f"qkv must be [B, H, W, 3 C] float32 on the CPU, got {list(qkv.shape)} {qkv.dtype} on {qkv.device}"
        )
    side = math.isqrt(bias.shape[-1]) if bias.dim() == 3 else 0
    if not 1 <= side <= 32 or bias.shape[1:] != (side * side, side * side) or not bias.shape[0]:
        raise ValueError(f"bias must be [heads, P^2, P^2] with P up to 32, got {list(bias.shape)}")
    heads, places = bias.shape[0], side * side
    _, height, width, channels = qkv.shape
    if channels == 0 or channels % (3 * heads) or height % side or width % side or shift >= side:
        raise ValueError(
            f"qkv of {list(qkv.shape)} is not whole windows of {side}x{side} with 3 times {heads} heads, shifted by "
            f"{shift} of at most {side - 1}"
        )
    if mask is not None and (mask.dim() != 3 or mask.shape[1:] != (places, places) or not len(mask)):
        raise ValueError(f"mask must be [K, {places}, {places}], got {list(mask.shape)}")
    if bias.is_complex() or (mask is not None and mask.is_complex()):
        raise TypeError("bias and mask must be real numbers")
    depth = channels // (3 * heads)
    scale = depth**-0.5 if scale is None else arguments.number("scale", scale)
    if not run:
        return reference.window_attention(
            qkv.detach(), bias.detach().cpu(), None if mask is None else mask.detach().cpu(), shift, scale, apart
        ).float()
    rows = arguments.array("qkv", qkv.detach(), "f")
    b, m = (
        np.empty((0, places, places), np.float32)
        if own is None
        else np.ascontiguousarray(own.detach().to("cpu", torch.float32).numpy())
        for own in (bias, mask)
    )
    out = torch.empty((*qkv.shape[:3], channels // 3))
    _native.float_attention(rows, out.numpy(), b, m, side, shift, scale, apart, threads or torch.get_num_threads())
    return out
