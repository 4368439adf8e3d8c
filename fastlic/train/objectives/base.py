"""The questions that the trainer asks a family."""

from __future__ import annotations

import abc
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.train.config import RunConfig

Row = dict[str, float]


@dataclass(frozen=True)
class Measured:
    """One batch of training."""

    loss: Tensor  # scalar, to differentiate
    bpp: Tensor  # [N]
    mse: Tensor  # [N], of pixels on the 0..255 scale
    auxiliary: Tensor | None = None  # scalar, to differentiate with the loss; not reported


class Objective(abc.ABC):
    """A model and what makes it better. Subclasses set ``model`` in their constructor, on the CPU."""

    model: nn.Module

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    def start(self, tiles: Tensor) -> None:  # noqa: B027 - optional
        """Initialise the model beyond its constructor from training tiles [n, 3, H, W] uint8; called on a new run."""

    @abc.abstractmethod
    def is_kernel(self, name: str, parameter: Tensor) -> bool:
        """Whether Muon may have this parameter: a kernel of at least two axes whose scale the network normalises."""

    def is_unclipped(self, name: str) -> bool:
        """Whether this parameter's gradient stays out of the common norm."""
        return False

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """What ``measure`` needs to know of each of ``count`` images and chance decides, int64 [count] on the CPU."""
        return torch.zeros(count, dtype=torch.int64)

    @abc.abstractmethod
    def measure(self, x: Tensor, drawn: Tensor) -> Measured:
        """Loss of a batch x [N, 3, H, W] in [0, 1], or of what ``analyse`` gave, and what ``draw`` gave, on one device.

        Nothing here may ask a GPU for a value: the host would wait for it, and a CUDA graph could not hold it.
        """

    def analyse(self, x: Tensor) -> Tensor:
        """What of images x [N, 3, H, W] in [0, 1] ``measure`` takes in their place where a run has it stored.

        Raises:
            ValueError: the settings train what would have to stay as it is.
        """
        raise ValueError(f"stored is for entropy models of Gaussian latents, not for {self.config.family}")

    def after_step(self, step: int, generator: torch.Generator) -> None:  # noqa: B027 - optional
        """Called after every update, with the number of steps done."""

    @abc.abstractmethod
    def validate(self, batches: Sequence[Tensor]) -> list[Row]:
        """Held-out figures of the model as it is, a row per quality; every row has the same keys."""

    @abc.abstractmethod
    def score(self, rows: Sequence[Row]) -> float:
        """One number for a validation, the smaller the better."""

    @abc.abstractmethod
    def describe(self, rows: Sequence[Row]) -> str:
        """One line for the console."""

    def state(self) -> dict[str, Any]:
        """What ``measure`` and ``after_step`` remember beyond the model and the generators."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027 - optional
        """Take back what ``state`` gave."""


def in_float32(module: nn.Module) -> None:
    """Make ``module`` run outside autocast, in place.

    For the last layer before something is rounded or becomes a mean: bfloat16 has a step of 1 at 128, where latents of
    the higher qualities lie.
    """
    forward = module.forward

    def precise(self: nn.Module, x: Tensor) -> Any:
        with torch.autocast(x.device.type, enabled=False):
            return forward(x.float())

    module.forward = types.MethodType(precise, module)  # type: ignore[method-assign]


def psnr(mse: Tensor) -> Tensor:
    """dB of mean squared errors on the 0..255 scale."""
    return 10 * (255**2 / mse.clamp_min(1e-9)).log10()
