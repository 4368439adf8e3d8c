"""Convolutions of float maps on the CPU by Winograd's transform F(4x4, 3x3), with a third of the products or less.

y = convolution(x, weight, bias)                              # 3x3 taps: 36 products where the plain way has 144
y = convolution(x, weight, bias, stride=2)                    # 5x5 taps: 121 for 400
y = convolution(x, weight, bias, stride=2, transposed=True)   # the same, to twice the size

oneDNN's convolutions reach the peak of a core, so fewer products are what is left. Results agree with float64 to 1e-5
of the largest value; a plain convolution in float32 to about 1e-6.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fastlic import _native
from fastlic.ops import _arguments as arguments
from fastlic.ops.reference import float_convolution as reference

Backend = Literal["cpp", "reference"]
# Inputs are a multiple of that: the widest vector.
UNIT = 16


def convolution(
    x: Tensor,  # [N, C, H, W] float32 on the CPU, C a multiple of 16; fastest in channels-last layout
    weight: Tensor,  # [C', C, P, P], of transposed ones [C, C', P, P]; P is 3, with a stride 5
    bias: Tensor | None = None,  # [C']
    stride: int = 1,  # 1 or 2
    transposed: bool = False,
    *,
    threads: int = 0,
    backend: Backend = "cpp",
) -> Tensor:
    """A convolution with P // 2 zeros around the map: [N, C', H, W] in channels-last layout.

    Of stride 2 the map has half the size, rounded up, or, transposed, twice. ``threads``: 0 means as many as torch
    uses. Records no gradient. Weights are transformed at each call.

    Raises:
        ValueError: sizes that do not fit each other, a transposed one without stride.
        TypeError: no tensors, or none of real numbers.
    """
    for name, value in (("x", x), ("weight", weight), *([] if bias is None else [("bias", bias)])):
        arguments.tensor(name, value)
    run = arguments.implementation({"cpp": True, "reference": False}, backend)
    threads = arguments.integer("threads", threads, 0)
    stride = arguments.integer("stride", stride, 1)
    transposed = arguments.flag("transposed", transposed)
    if x.dim() != 4 or x.dtype != torch.float32 or x.device.type != "cpu":
        raise ValueError(f"x must be [N, C, H, W] float32 on the CPU, got {list(x.shape)} {x.dtype} on {x.device}")
    images, inputs, height, width = x.shape
    if stride not in (1, 2) or (transposed and stride == 1):
        raise ValueError(f"stride must be 1 or 2, of transposed ones 2, got {stride}")
    kernel = (3, 3) if stride == 1 else (5, 5)
    if (
        not inputs
        or inputs % UNIT
        or weight.dim() != 4
        or weight.shape[2:] != kernel
        or (weight.shape[0 if transposed else 1] != inputs)
    ):
        raise ValueError(
            f"with stride {stride} kernels are {kernel[0]}x{kernel[0]}, inputs a multiple of {UNIT}, got x of "
            f"{list(x.shape)} and weight of {list(weight.shape)}"
        )
    outputs = weight.shape[1 if transposed else 0]
    if not outputs or (bias is not None and bias.shape != (outputs,)):
        raise ValueError(f"bias must be [{outputs}], at least 1, got {None if bias is None else list(bias.shape)}")
    if weight.is_complex() or (bias is not None and bias.is_complex()):
        raise TypeError("weight and bias must be real numbers")
    if not run:
        own = None if bias is None else bias.detach()
        return reference.convolution(x.detach(), weight.detach(), own, stride, transposed).float()
    rows = arguments.array("x", x.detach().permute(0, 2, 3, 1).numpy(), "f")
    w, b = (
        np.empty(0, np.float32) if t is None else np.ascontiguousarray(t.detach().to("cpu", torch.float32).numpy())
        for t in (weight, bias)
    )
    up, down = (stride, 1) if transposed else (1, stride)
    shape = images, -(-up * height // down), -(-up * width // down), outputs
    out = torch.empty(shape)
    _native.float_convolution(rows, out.numpy(), w, b, down == 2, up == 2, threads or torch.get_num_threads())
    return out.permute(0, 3, 1, 2)
