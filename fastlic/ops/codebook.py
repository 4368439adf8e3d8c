"""Vector quantisation: for each vector the nearest word of its codebook.

codes = codebook_nearest(x, codebook)     # x [n, m, d], codebook [m, k, d] -> [n, m]

The answer is defined to the index, so that backends agree: the word with the smallest squared distance, its terms taken
and summed in float64 in channel order; of equally near words the one with the lowest index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fastlic import _native
from fastlic.ops import _arguments as arguments
from fastlic.ops.backends import choose
from fastlic.ops.reference import codebook as reference

Backend = Literal["auto", "reference", "cpp", "triton"]


def _require_finite(x: Tensor, codebook: Tensor) -> None:
    finite = torch.stack([torch.isfinite(value).all() for value in (x, codebook)]).tolist()  # one wait for a device
    for name, well in zip(("x", "codebook"), finite, strict=True):
        if not well:
            raise ValueError(f"{name} holds values that are not finite (NaN or infinity): nothing is nearest to them")


def _reference(x: Tensor, codebook: Tensor, threads: int) -> Tensor:
    _require_finite(x, codebook)
    return reference.codebook_nearest(x, codebook, threads)


def _cpp(x: Tensor, codebook: Tensor, threads: int) -> Tensor:
    out = np.empty(x.shape[:2], dtype=np.int64)
    _native.Codebooks(codebook.contiguous().numpy()).nearest(x.numpy(), out.reshape(-1), threads)
    return torch.from_numpy(out)


def _triton(x: Tensor, codebook: Tensor, threads: int) -> Tensor:
    from fastlic.kernels import codebook as kernels

    _require_finite(x, codebook)
    return kernels.nearest(x, codebook)[0]


NEAREST: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "reference": _reference,
    "cpp": _cpp,
    "triton": _triton,
}


# Not ``torch.library.custom_op``: its first call in a process loads torch's compiler, though nobody compiles.
torch.library.define("fastlic::codebook_nearest", "(Tensor x, Tensor codebook, str backend, int threads) -> Tensor")


@torch.library.impl("fastlic::codebook_nearest", "CompositeExplicitAutograd")
def _op(x: Tensor, codebook: Tensor, backend: str, threads: int) -> Tensor:
    return choose(NEAREST, backend, x.device)(x, codebook, threads or torch.get_num_threads())


@torch.library.register_fake("fastlic::codebook_nearest")
def _(x, codebook, backend, threads):  # type: ignore[no-untyped-def]
    return x.new_empty((x.shape[0], x.shape[1]), dtype=torch.int64)


def _check(x: Tensor, codebook: Tensor) -> None:
    for name, value, shape in (("x", x, "[n, m, d]"), ("codebook", codebook, "[m, k, d]")):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor {shape}, got {type(value).__name__}")
        if value.dtype != torch.float32:
            raise TypeError(f"{name} must be float32 {shape}, got {value.dtype}: convert with .float()")
        if value.ndim != 3:
            raise ValueError(f"{name} must be {shape}, got {list(value.shape)}")
        arguments.tensor(name, value)
        if value.numel() > 1 << 38:
            raise ValueError(f"{name} claims {list(value.shape)}, more than 2^38 numbers")
    (_, m, d), (groups, k, depth) = x.shape, codebook.shape
    if (m, d) != (groups, depth):
        raise ValueError(
            f"x [n, m, d] and codebook [m, k, d] must agree in m and d, got {list(x.shape)} and {list(codebook.shape)}"
        )
    if k < 1 or d < 1:
        raise ValueError(f"a codebook has at least one word of one channel, got {list(codebook.shape)}")
    if x.device != codebook.device:
        raise ValueError(f"x and codebook must be on one device, got {x.device} and {codebook.device}")


def codebook_nearest(x: Tensor, codebook: Tensor, *, backend: Backend = "auto", threads: int = 0) -> Tensor:
    """Index of the nearest word of each vector.

    Args:
        x: [n, m, d] float32, any strides; vector (i, g) belongs to codebook g.
        codebook: [m, k, d] float32 on the same device.
        backend: who searches; the answer does not depend on it.
        threads: how many to use; 0: torch.get_num_threads().

    Returns:
        int64 [n, m] on the device of x: ``argmin_j |x[i, g] - codebook[g, j]|^2`` as defined above.

    Raises:
        TypeError, ValueError: shapes, types or devices that do not fit, or values that are not finite.
    """
    _check(x, codebook)
    threads = min(arguments.integer("threads", threads, 0), 1 << 16)
    arguments.implementation({"auto": None, **NEAREST}, backend)
    codes: Tensor = torch.ops.fastlic.codebook_nearest(x.detach(), codebook.detach(), backend, threads)
    return codes
