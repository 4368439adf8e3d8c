"""Float networks as lists of stages, each of which becomes one integer layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.integers.functions import Curve
from fastlic.integers.layer import HALVED, PLAIN, SHUFFLED, TRANSPOSED, TURNED, Kind, convolve


@dataclass(frozen=True)
class Stage:
    """A convolution, what its outputs are shuffled into, and the activation behind it.

    Attributes:
        name: what errors call it, and ``Ranges`` know it by.
        weight, bias: as torch stores them for ``kind``; [out, in] for linear layers.
        groups: 1, or the number of channels (depthwise).
        slope: of the leaky ReLU, 1 for none.
        curve: GELU or SiLU that follows, None for neither.
        reflect: whether the map is padded by reflection, not with zeros.
    """

    name: str
    weight: Tensor
    bias: Tensor
    kind: Kind = PLAIN
    groups: int = 1
    slope: float = 1.0
    curve: Curve | None = None
    reflect: bool = False

    @classmethod
    def of(cls, module: Any, name: str, **how: Any) -> Stage:
        """A convolution or linear layer of torch's; ``how``: kind, slope, curve, reflect, not read from it."""
        outputs = module.out_features if isinstance(module, nn.Linear) else module.out_channels
        bias = torch.zeros(outputs) if module.bias is None else module.bias.detach()
        return cls(name, module.weight.detach(), bias, groups=getattr(module, "groups", 1), **how)

    @property
    def inputs(self) -> int:
        """Channels that it reads."""
        return self.weight.shape[0 if self.kind.transposed else 1] * self.groups

    def turned(self) -> Stage:
        """A transposed convolution of stride 1 as the plain one that it is; any other as it is."""
        if self.kind is not TURNED:
            return self
        return replace(self, weight=self.weight.transpose(0, 1).flip(2, 3).contiguous(), kind=PLAIN)

    def convolve(self, x: Tensor) -> Tensor:
        """Up to the activation, not shuffled yet."""
        return convolve(x, self.weight, self.bias, self.kind, self.groups, self.reflect)

    def activate(self, x: Tensor) -> Tensor:
        """What follows, but for the shuffle: activations do not care about places."""
        if self.curve is not None:
            return F.gelu(x) if self.curve is Curve.GELU else F.silu(x)
        return x if self.slope == 1 else F.leaky_relu(x, self.slope)

    def shuffled(self, x: Tensor) -> Tensor:
        """The outputs at their places."""
        return F.pixel_shuffle(x, self.kind.shuffle) if self.kind.shuffle > 1 else x


def stage_of(module: nn.Conv2d | nn.ConvTranspose2d, name: str, depthwise: bool = False) -> Stage:
    """A convolution without what follows.

    Args:
        depthwise: whether a plain one may have a kernel for each channel.

    Raises:
        ValueError: it is of a kind that has no integer form.
    """
    kernel, stride = module.kernel_size[0], module.stride[0]
    transposed = isinstance(module, nn.ConvTranspose2d)
    kind = {(1, False): PLAIN, (2, False): HALVED, (1, True): TURNED, (2, True): TRANSPOSED}.get((stride, transposed))
    alone = module.groups == module.in_channels == module.out_channels
    plain = (
        module.kernel_size == (kernel, kernel)
        and kernel % 2 == 1
        and module.stride == (stride, stride)
        and module.padding == (kernel // 2, kernel // 2)
        and module.dilation == (1, 1)
        and (module.groups == 1 or (depthwise and kind is PLAIN and alone))
        and module.padding_mode == "zeros"
        and module.output_padding == ((stride - 1, stride - 1) if transposed else (0, 0))
    )
    if kind is None or not plain:
        raise ValueError(f"{name} is a convolution of a kind that has no integer form: {module}")
    return Stage.of(module, name, kind=kind)


def stages_of(network: nn.Sequential, name: str) -> list[Stage]:
    """The layers of a network in order.

    Raises:
        ValueError: a layer that has no integer form, named by its path.
    """
    stages: list[Stage] = []
    for path, module in _flat(network, name):
        last = stages[-1] if stages else None
        bare = last is not None and last.slope == 1 and last.curve is None
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            stages.append(stage_of(module, path))
        elif isinstance(module, (nn.Identity, nn.Dropout)):
            continue
        elif last is not None and last.kind in (PLAIN, TURNED) and _doubles(module) and len(last.bias) % 4 == 0:
            stages[-1] = replace(last.turned(), kind=SHUFFLED)
        elif last is not None and bare and isinstance(module, (nn.ReLU, nn.LeakyReLU)):
            stages[-1] = replace(last, slope=float(getattr(module, "negative_slope", 0.0)))
        elif last is not None and bare and isinstance(module, nn.GELU) and module.approximate == "none":
            stages[-1] = replace(last, curve=Curve.GELU)
        else:
            raise ValueError(f"{path} is a {type(module).__name__}, which has no integer form there")
    if not stages:
        raise ValueError(f"{name} has no convolution")
    return stages


def _flat(network: nn.Sequential, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Paths and modules in the order of execution, nested sequences taken apart; a module may come twice."""
    for key, module in network._modules.items():
        if isinstance(module, nn.Sequential):
            yield from _flat(module, f"{name}.{key}")
        elif module is not None:
            yield f"{name}.{key}", module


def _doubles(module: nn.Module) -> bool:
    return isinstance(module, nn.PixelShuffle) and module.upscale_factor == 2
