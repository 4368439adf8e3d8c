"""Between a float network and a coder, one pass each way: ``torch.ops.fastlic.quantise`` and ``dequantise``.

symbols, indexes, y_hat = quantise(y, scales, means, thresholds)     # round, subtract the mean, clamp, choose the table
y_hat = dequantise(symbols, means)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from fastlic.kernels.reference import quantize as reference
from fastlic.ops import _arguments as arguments
from fastlic.ops.backends import choose

Backend = Literal["auto", "reference", "triton"]
SYMBOL_LIMIT = reference.SYMBOL_LIMIT


def _on_device(name: str) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        from fastlic.kernels import quantize

        return getattr(quantize, name)(*arguments)

    return run


QUANTISE: dict[str, Callable[..., tuple[Tensor, Tensor, Tensor]]] = {
    "reference": reference.quantise_float,
    "triton": _on_device("quantise_float"),
}
DEQUANTISE: dict[str, Callable[..., Tensor]] = {
    "reference": reference.dequantise_float,
    "triton": _on_device("dequantise_float"),
}


@torch.library.custom_op("fastlic::quantise", mutates_args=())
def _quantise(
    y: Tensor, scales: Tensor, means: Tensor, thresholds: Tensor, limit: int, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    return choose(QUANTISE, backend, y.device)(y, scales, means, thresholds, limit)


@_quantise.register_fake
def _(y, scales, means, thresholds, limit, backend):  # type: ignore[no-untyped-def]
    like = [y.new_empty(y.shape, dtype=dtype) for dtype in (torch.int32, torch.uint8, torch.float32)]
    return tuple(like)


@torch.library.custom_op("fastlic::dequantise", mutates_args=())
def _dequantise(symbols: Tensor, means: Tensor, backend: str) -> Tensor:
    return choose(DEQUANTISE, backend, means.device)(symbols, means)


@_dequantise.register_fake
def _(symbols, means, backend):  # type: ignore[no-untyped-def]
    return means.new_empty(means.shape)


def _check(shape: Sequence[int], **tensors: Tensor) -> None:
    for name, value in tensors.items():
        arguments.tensor(name, value)
        if value.numel() > 1 << 38:
            raise ValueError(f"{name} claims {list(value.shape)}, more than 2^38 numbers")
        wanted = torch.int32 if name == "symbols" else torch.float32
        if value.dtype != wanted or list(value.shape) != list(shape):
            raise ValueError(f"{name} must be {wanted} {list(shape)}, got {value.dtype} {list(value.shape)}")


def pad_thresholds(thresholds: Tensor) -> Tensor:
    """Ascending float32 thresholds, filled up to 2^n - 1 with infinity."""
    if arguments.tensor("thresholds", thresholds).dim() != 1 or not thresholds.dtype.is_floating_point:
        raise ValueError(f"thresholds must be real [n], got {thresholds.dtype} {list(thresholds.shape)}")
    if thresholds.numel() > 255:
        raise ValueError(f"there are at most 255 thresholds, got {thresholds.numel()}")
    size = (1 << thresholds.numel().bit_length()) - 1
    return torch.nn.functional.pad(thresholds.float(), (0, size - thresholds.numel()), value=float("inf"))


def quantise(
    y: Tensor,
    scales: Tensor,
    means: Tensor,
    thresholds: Tensor,
    *,
    limit: int = SYMBOL_LIMIT,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Symbols nearest to y - means (halves to even), the table of each, and what the decoder will have.

    Args:
        y, scales, means: float32 of one shape.
        thresholds: float32, ascending, between the scales of neighbouring tables; at most 255.
        limit: symbols are clamped to -limit - 1 .. limit, e.g. 127 for int8.

    Returns:
        symbols int32, indexes uint8 (how many thresholds are below the scale), y_hat float32; contiguous.
    """
    _check(arguments.tensor("y", y).shape, y=y, scales=scales, means=means)
    arguments.tensor("thresholds", thresholds)
    arguments.implementation({"auto": None, **QUANTISE}, backend)
    limit = arguments.integer("limit", limit, 1)
    if thresholds.dim() != 1 or thresholds.dtype != torch.float32 or not 1 <= thresholds.numel() <= 255:
        raise ValueError(f"thresholds must be float32 [1..255], got {thresholds.dtype} {list(thresholds.shape)}")
    if not 1 <= limit <= SYMBOL_LIMIT:
        raise ValueError(f"limit must be in 1..{SYMBOL_LIMIT}, got {limit}")
    tensors = (t.detach().contiguous() for t in (y, scales, means))
    found: tuple[Tensor, Tensor, Tensor] = _quantise(*tensors, pad_thresholds(thresholds), limit, backend)
    return found


def dequantise(symbols: Tensor, means: Tensor, *, backend: Backend = "auto") -> Tensor:
    """y_hat float32 = symbols (int32) + means (float32), of one shape."""
    arguments.implementation({"auto": None, **DEQUANTISE}, backend)
    _check(arguments.tensor("means", means).shape, symbols=symbols, means=means)
    found: Tensor = _dequantise(symbols.contiguous(), means.detach().contiguous(), backend)
    return found
