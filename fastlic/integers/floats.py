"""Float modules from the integers that were made of them: a codec file need not hold both.

A network keeps the real value of one unit of each of its values. With them every integer weight says which float it
stands for; what is lost is the rounding of weights, which the integers have lost too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn as nn

from fastlic.integers.graph import Graph, Norm
from fastlic.integers.network import LayerStep, Network, NormStep
from fastlic.integers.stages import Stage
from fastlic.integers.windows import LayerNormStep


@torch.no_grad()
def restore(module: nn.Module | Graph, name: str, network: Network) -> None:
    """Set a transform's float weights, in place, to what a network of integers stands for.

    Args:
        module: of the type that the network was made of, any weights; or its graph.
        name: of the transform, in messages.

    Raises:
        ValueError: the network has no units, is of another module, or has steps that no module of fastlic's has.
    """
    graph = module if isinstance(module, Graph) else Graph.of(module, name)
    if not network.units or len(graph.operations) != len(network.steps) or graph.reads != list(network.reads):
        raise ValueError(f"{name} has integers without units, or of another transform")
    units = [unit.astype(np.float64) for unit in network.units]
    for k, (operation, step, reads) in enumerate(zip(graph.operations, network.steps, network.reads, strict=True), 1):
        if step.op >= LayerNormStep.op:
            raise ValueError(f"{name} has a {type(step).__name__} as step {k - 1}, of which floats are not restored")
        if isinstance(operation, Stage) and isinstance(step, LayerStep):
            _restore_layer(operation, step, units[reads[0]], units[k])
        elif isinstance(operation, Norm) and isinstance(step, NormStep):
            _restore_norm(operation.module, step, units[reads[0]], units[k])
        elif isinstance(operation, (Stage, Norm)) or isinstance(step, (LayerStep, NormStep)):
            raise ValueError(f"{name} has another step {k - 1} than its integers")


def _restore_layer(stage: Stage, step: LayerStep, inputs: np.ndarray, outputs: np.ndarray) -> None:
    layer, kind = step.layer, step.layer.kind
    if tuple(stage.weight.shape) != layer.weight.shape or stage.kind != kind:
        raise ValueError(f"{stage.name} is {list(stage.weight.shape)}, its integers are {list(layer.weight.shape)}")
    requantiser = layer.requantiser
    rows = np.ldexp(requantiser.multiplier.astype(np.float64), -requantiser.shift.astype(np.int32))
    rows = rows * outputs.repeat(kind.cells)
    weight = layer.weight.astype(np.float64)
    if kind.transposed:
        weight = weight * (rows[None, :] / inputs[:, None])[:, :, None, None]
    else:
        weight = weight * (rows[:, None] / inputs[None, :])[:, :, None, None]
    stage.weight.copy_(torch.from_numpy(weight))
    stage.bias.copy_(torch.from_numpy(layer.bias * rows))


def _restore_norm(module: Any, step: NormStep, inputs: np.ndarray, outputs: np.ndarray) -> None:
    if module.inverse != step.inverse or module.beta.shape[0] != len(step.beta):
        raise ValueError("a norm has other integers than its own")
    factors = np.ldexp(step.multiplier.astype(np.float64), -step.shift.astype(np.int32)).clip(1e-30)
    ratio = factors * outputs / inputs
    unit = ratio**2 if step.inverse else ratio**-2.0
    squares = inputs**2 * 2.0 ** (2 * step.input_bits - 17)
    gamma, beta = step.gamma * unit[:, None] / squares[None, :], step.beta * unit
    for parameter, reparametrised, value in (
        (module.gamma, module.gamma_reparam, gamma),
        (module.beta, module.beta_reparam, beta),
    ):
        parameter.copy_(reparametrised.store(torch.from_numpy(value).float()))
