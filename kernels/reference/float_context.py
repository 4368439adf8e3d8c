"""Twin of fastlic.kernels.float_context: torch's convolutions; and the gradient of both."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

PRECISIONS = ("ieee", "tf32x3", "bf16")
TAPS = tuple((i - 2, j - 2) for i in range(5) for j in range(5) if (i, j) < (2, 2))


def mask_of(weight: Tensor) -> Tensor:
    """[5, 5]: 1 where the causal context has a weight."""
    mask = torch.zeros(5, 5, dtype=weight.dtype, device=weight.device)
    for i, j in TAPS:
        mask[i + 2, j + 2] = 1
    return mask


def _layers(
    y: Tensor, hyper: Tensor, weights: list[Tensor], biases: list[Tensor], slope: float
) -> tuple[list[Tensor], list[Tensor]]:
    """(inputs of the four layers, their sums), whole maps."""
    sums = [F.conv2d(y, weights[0] * mask_of(weights[0]), biases[0], padding=2)]
    inputs = [y, torch.cat([hyper, sums[0]], 1)]
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        sums.append(F.conv2d(inputs[-1], weight.reshape(*weight.shape[:2], 1, 1), bias))
        inputs.append(F.leaky_relu(sums[-1], slope))
    return inputs[:4], sums


def masked_context(
    y: Tensor,
    hyper: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    slope: float,
    where: Tensor | None = None,
    precision: str = "ieee",
) -> Tensor:
    """Outputs of the parameter network.

    Args:
        y: [images, M, h, w], of which a position sees the twelve causal neighbours.
        hyper: [images, H, h, w].
        weights: [C, M, 5, 5] (other taps are ignored), then three 1x1 layers, the first reading [hyper, context].
        slope: of the leaky ReLU between the parameter layers.
        where: int64 [n], raster positions; None for all.

    Returns:
        [images, outputs, h, w]; with ``where`` [images, outputs, n].
    """
    if precision == "bf16":
        rounded = [w.bfloat16() for w in weights]
        result = _layers(y.bfloat16(), hyper.bfloat16(), rounded, [b.bfloat16() for b in biases], slope)[1][-1].float()
    else:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # torch lets convolutions use it
            result = _layers(y, hyper, weights, biases, slope)[1][-1]
    return result if where is None else result.flatten(2)[:, :, where]


def gradient(
    grad: Tensor, y: Tensor, hyper: Tensor, weights: list[Tensor], biases: list[Tensor], slope: float,
    where: Tensor | None,
) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    """Gradients of (y, hyper, weights, biases), activations computed again."""
    inputs, sums = _layers(y, hyper, weights, biases, slope)
    if where is not None:
        whole = torch.zeros_like(sums[-1]).flatten(2)
        grad = whole.index_add(2, where, grad).reshape(sums[-1].shape)
    of_weights: list[Tensor] = []
    of_biases: list[Tensor] = []
    for layer in (3, 2, 1):
        if layer < 3:
            grad = grad * torch.where(sums[layer] >= 0, 1.0, slope)
        weight = weights[layer].flatten(1)
        of_biases.insert(0, grad.sum((0, 2, 3)))
        of_weights.insert(0, torch.einsum("bohw,bihw->oi", grad, inputs[layer]).reshape(weights[layer].shape))
        grad = torch.einsum("bohw,oi->bihw", grad, weight)
    of_hyper, grad = grad.split([hyper.shape[1], grad.shape[1] - hyper.shape[1]], 1)
    mask = mask_of(weights[0])
    of_y = conv2d_input(list(y.shape), weights[0] * mask, grad, padding=2)
    of_weights.insert(0, conv2d_weight(y, list(weights[0].shape), grad, padding=2) * mask)
    of_biases.insert(0, grad.sum((0, 2, 3)))
    return of_y, of_hyper, of_weights, of_biases
