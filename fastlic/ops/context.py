"""Autoregressive context and parameter network of a float JAHP in one operation: ``torch.ops.fastlic.masked_context``.

parameters = masked_context(y_hat, hyper, weights, biases)               # whole latent, [images, 2M, h, w]
parameters = masked_context(y_hat, hyper, weights, biases, where=step)   # some positions, [images, 2M, n]

Float networks estimate rates and train models. Streams are coded with integers (fastlic.ops.latents): floats summed in
another order give other bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from fastlic.kernels.reference import float_context as reference
from fastlic.ops import _arguments as arguments
from fastlic.ops.backends import choose

Backend = Literal["auto", "reference", "triton"]
PRECISIONS = reference.PRECISIONS
SLOPE = 0.01  # of torch's LeakyReLU


def _triton(*arguments: Any) -> Tensor:
    from fastlic.kernels.float_context import masked_context as kernel

    return kernel(*arguments)


MASKED_CONTEXT: dict[str, Callable[..., Tensor]] = {"reference": reference.masked_context, "triton": _triton}


@torch.library.custom_op("fastlic::masked_context", mutates_args=())
def _op(
    y: Tensor,
    hyper: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    where: Tensor | None,
    slope: float,
    precision: str,
    backend: str,
) -> Tensor:
    run = choose(MASKED_CONTEXT, backend, y.device)
    positions = y.shape[2] * y.shape[3]
    if where is not None and where.numel() and not (where.min() >= 0 and where.max() < positions):
        raise ValueError(f"where must lie in 0..{positions - 1}, got {int(where.min())}..{int(where.max())}")
    return run(y, hyper, list(weights), list(biases), slope, where, precision).contiguous()


@_op.register_fake
def _(y, hyper, weights, biases, where, slope, precision, backend):  # type: ignore[no-untyped-def]
    outputs = biases[3].shape[0]
    shape = (y.shape[2], y.shape[3]) if where is None else (where.shape[0],)
    return y.new_empty((y.shape[0], outputs, *shape))


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    y, hyper, weights, biases, where, slope, *_ = inputs
    ctx.slope, ctx.positions = slope, where is not None
    ctx.save_for_backward(y, hyper, *weights, *biases, *([] if where is None else [where]))


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    y, hyper, *rest = ctx.saved_tensors
    where = rest.pop() if ctx.positions else None
    found = reference.gradient(grad, y, hyper, rest[:4], rest[4:], ctx.slope, where)
    return (*found, None, None, None, None)


_op.register_autograd(_backward, setup_context=_setup)


def masked_context(
    y: Tensor,
    hyper: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    where: Tensor | None = None,
    slope: float = SLOPE,
    precision: str = "ieee",
    backend: Backend = "auto",
) -> Tensor:
    """Scales and means (or whatever the last layer's channels are) from a latent and the hyperprior. Differentiable.

    Args:
        y: float32 [images, M, h, w]; a position sees the twelve causal neighbours of the 5x5 window.
        hyper: float32 [images, H, h, w].
        weights: four, float32: [C, M, 5, 5], [C0, H + C, 1, 1], [C1, C0, 1, 1], [outputs, C1, 1, 1].
        biases: four, one for each layer.
        where: int64 [n], raster positions at which the network is wanted; None for all.
        slope: of the leaky ReLU between the last three layers.
        precision: ``ieee``, ``tf32x3`` (tensor cores, three products for one) or ``bf16``; what the CPU backend
            computes in float32 is float32 for the first two.
        backend: who computes; results agree to rounding.

    Returns:
        float32 [images, outputs, h, w], or [images, outputs, n].
    """
    arguments.implementation({"auto": None, **MASKED_CONTEXT}, backend)
    slope = arguments.number("slope", slope)
    weights, biases = arguments.sequence("weights", weights), arguments.sequence("biases", biases)
    named = {
        "y": [y],
        "hyper": [hyper],
        "weights": weights,
        "biases": biases,
        "where": [] if where is None else [where],
    }
    for name, values in named.items():
        for value in values:
            arguments.tensor(name, value)
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if y.dim() != 4 or hyper.dim() != 4 or hyper.shape[0] != y.shape[0] or hyper.shape[2:] != y.shape[2:]:
        raise ValueError(
            f"y and hyper must be [images, channels, h, w] alike, got {list(y.shape)}, {list(hyper.shape)}"
        )
    for name, value in (
        ("y", y),
        ("hyper", hyper),
        *(("weights", w) for w in weights),
        *(("biases", b) for b in biases),
    ):
        if value.dtype != torch.float32:
            raise TypeError(f"{name} must be float32, got {value.dtype}")
    if len(biases) != 4 or any(b.dim() != 1 for b in biases):
        raise ValueError(f"biases must be four, [outputs] each, got {[list(b.shape) for b in biases]}")
    if max(t.numel() for values in named.values() for t in values) > 1 << 38:
        raise ValueError("a tensor claims more than 2^38 numbers")
    widths = [len(b) for b in biases]
    wanted = [(y.shape[1], 5, 5), (hyper.shape[1] + widths[0], 1, 1), (widths[1], 1, 1), (widths[2], 1, 1)]
    wanted = [(width, *rest) for width, rest in zip(widths, wanted, strict=False)]  # type: ignore[misc]
    if len(weights) != 4 or [tuple(w.shape) for w in weights] != wanted:
        raise ValueError(f"weights must be {wanted}, got {[tuple(w.shape) for w in weights]}")
    if where is not None and (where.dtype != torch.int64 or where.dim() != 1):
        raise ValueError(f"where must be int64 [n], got {where.dtype} {list(where.shape)}")
    found: Tensor = _op(y, hyper, list(weights), list(biases), where, slope, precision, backend)
    return found
