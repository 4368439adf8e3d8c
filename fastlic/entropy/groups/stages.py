"""Float networks as a list of stages, each of which becomes one integer layer."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.arguments import checked
from fastlic.entropy.checkerboard.layers import HALVED, PLAIN, SHUFFLED, TRANSPOSED
from fastlic.entropy.convert import _check_convolution, _flat


@dataclass(frozen=True)
class Stage:
    """A convolution, what its outputs are shuffled into, and the activation behind it.

    Attributes:
        weight, bias: as torch stores them for ``kind``.
        kind: PLAIN, TRANSPOSED, SHUFFLED or HALVED.
        slope: of the leaky ReLU, 1 for none.
    """

    name: str
    weight: Tensor
    bias: Tensor
    kind: int = PLAIN
    slope: float = 1.0
    gelu: bool = False

    @property
    def cells(self) -> int:
        """Outputs of the convolution for each channel of the stage."""
        return 4 if self.kind == SHUFFLED else 1

    @checked
    def convolve(self, x: Tensor) -> Tensor:
        """Up to the activation."""
        padding = self.weight.shape[-1] // 2
        if self.kind == TRANSPOSED:
            return F.conv_transpose2d(x, self.weight, self.bias, 2, padding, 1)
        x = F.conv2d(x, self.weight, self.bias, 2 if self.kind == HALVED else 1, padding)
        return F.pixel_shuffle(x, 2) if self.kind == SHUFFLED else x

    @checked
    def activate(self, x: Tensor) -> Tensor:
        """What follows."""
        if self.gelu:
            return F.gelu(x)
        return x if self.slope == 1 else F.leaky_relu(x, self.slope)


@checked
def stage_of(module: nn.Conv2d | nn.ConvTranspose2d, name: str) -> Stage:
    """A convolution without what follows.

    Raises:
        ValueError: it is of a kind that has no integer form.
    """
    kind = HALVED if isinstance(module, nn.Conv2d) and module.stride == (2, 2) else PLAIN
    shape = copy.copy(module)
    if kind == HALVED:
        shape.stride = (1, 1)  # everything else must be as for any layer
    _check_convolution(shape, name)
    weight = module.weight.detach()
    if isinstance(module, nn.ConvTranspose2d):
        kind = TRANSPOSED
        if module.stride == (1, 1):  # a convolution with the kernel turned round
            weight, kind = weight.transpose(0, 1).flip(2, 3).contiguous(), PLAIN
    outputs = weight.shape[1 if kind == TRANSPOSED else 0]
    bias = torch.zeros(outputs) if module.bias is None else module.bias.detach()
    return Stage(name, weight, bias, kind)


@checked
def stages_of(network: nn.Sequential, name: str) -> list[Stage]:
    """The layers of a network in order.

    Raises:
        ValueError: a layer that has no integer form.
    """
    stages: list[Stage] = []
    for i, module in enumerate(_flat(network)):
        last = stages[-1] if stages else None
        bare = last is not None and last.slope == 1 and not last.gelu
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            stages.append(stage_of(module, f"{name}.{i}"))
        elif isinstance(module, (nn.Identity, nn.Dropout)):
            continue
        elif last is not None and last.kind == PLAIN and bare and _doubles(module) and last.weight.shape[0] % 4 == 0:
            stages[-1] = replace(last, kind=SHUFFLED)
        elif last is not None and bare and isinstance(module, (nn.ReLU, nn.LeakyReLU)):
            stages[-1] = replace(last, slope=float(getattr(module, "negative_slope", 0.0)))
        elif last is not None and bare and isinstance(module, nn.GELU) and module.approximate == "none":
            stages[-1] = replace(last, gelu=True)
        else:
            raise ValueError(f"{name}.{i} is a {type(module).__name__}, which has no integer form there")
    if not stages:
        raise ValueError(f"{name} has no convolution")
    return stages


def _doubles(module: nn.Module) -> bool:
    return isinstance(module, nn.PixelShuffle) and module.upscale_factor == 2
