"""Generalised divisive normalisation on the CPU, one pass over a channels-last map.

y = gdn(x, beta, gamma)                   # x / sqrt(beta + gamma x^2) over channels
y = gdn(x, beta, gamma, inverse=True)     # x * sqrt(beta + gamma x^2)

torch squares the map, multiplies it, takes the root and multiplies again: four maps through memory where this writes
one. Results agree with float64 to 1e-5 relative.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fastlic import _native
from fastlic.ops import _arguments as arguments
from fastlic.ops.reference import gdn as reference

Backend = Literal["cpp", "reference"]


def gdn(
    x: Tensor,  # [N, C, H, W] float32 on the CPU; fastest in channels-last layout
    beta: Tensor,  # [C], at least a millionth
    gamma: Tensor,  # [C, C], outputs first, not negative
    inverse: bool = False,
    *,
    threads: int = 0,
    backend: Backend = "cpp",
) -> Tensor:
    """Returns [N, C, H, W] in channels-last layout. ``threads``: 0 means as many as torch uses. Records no gradient."""
    for name, value in (("x", x), ("beta", beta), ("gamma", gamma)):
        arguments.tensor(name, value)
    inverse = arguments.flag("inverse", inverse)
    run = arguments.implementation({"cpp": True, "reference": False}, backend)
    threads = arguments.integer("threads", threads, 0)
    if x.dim() != 4 or x.dtype != torch.float32 or x.device.type != "cpu":
        raise ValueError(f"x must be [N, C, H, W] float32 on the CPU, got {list(x.shape)} {x.dtype} on {x.device}")
    channels = x.shape[1]
    if beta.shape != (channels,) or gamma.shape != (channels, channels):
        raise ValueError(
            f"beta and gamma must be [{channels}] and [{channels}, {channels}], got {list(beta.shape)} "
            f"and {list(gamma.shape)}"
        )
    if beta.is_complex() or gamma.is_complex():
        raise TypeError(f"beta and gamma must be real numbers, got {beta.dtype} and {gamma.dtype}")
    rows = arguments.array("x", x.detach().permute(0, 2, 3, 1).numpy(), "f")
    b, g = (np.ascontiguousarray(t.detach().float().cpu().numpy()) for t in (beta, gamma))
    if run:
        out = np.empty_like(rows)
        _native.gdn(rows, out, b, g, inverse, threads or torch.get_num_threads())
    else:
        out = reference.gdn(rows, b, g, inverse).astype(np.float32)
    return torch.from_numpy(out).permute(0, 3, 1, 2)
