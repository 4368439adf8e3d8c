"""Optimisers of the trainer: Adam for most parameters, orthogonalised momentum for the transforms' kernels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from fastlic.models import bfloat16

# Quintic Newton-Schulz iteration whose five rounds bring all singular values near 1 (Jordan et al. 2024, Muon).
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
# Scales an orthogonal update to the root mean square that Adam's usually has (Liu et al. 2025), so both share a rate.
_ADAM_RMS = 0.2


def orthogonalise(matrix: Tensor) -> Tensor:
    """The semi-orthogonal matrix nearest in direction to ``matrix`` [m, n], approximately.

    Inside it is bfloat16 where the device is quicker with that.
    """
    a, b, c = _COEFFICIENTS
    quick = bfloat16.supported(matrix.device)
    x = matrix.to(torch.bfloat16 if quick else torch.float32)
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised per kernel (seen as [first axis, rest]) before it is applied.

    Attributes:
        found_inf: None, or a scalar on the device as fused optimisers of torch take it: not zero, the step changes
            nothing, and the host need not know.
    """

    found_inf: Tensor | None = None

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                buffer = state["momentum"]
                gradient = p.grad if self.found_inf is None else torch.where(self.found_inf > 0, buffer, p.grad)
                buffer.lerp_(gradient, 1 - group["momentum"])  # towards itself where nothing may change
                direction = torch.lerp(gradient, buffer, group["momentum"])  # Nesterov's look-ahead
                flat = direction.reshape(direction.shape[0], -1)
                update = orthogonalise(flat) * (_ADAM_RMS * max(flat.shape) ** 0.5)
                if self.found_inf is not None:
                    update = update * (self.found_inf == 0)
                p.add_(update.reshape(p.shape), alpha=-group["lr"])
