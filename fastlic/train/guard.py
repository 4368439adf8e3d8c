"""What keeps a run alive through bad steps."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fastlic.train.trainer import Trainer

PATIENCE = 5  # bad steps in a row after which the last good state comes back
_RETURNS = 4  # times that it may come back without a save in between


class Guard:
    """Counts steps that were not finite; brings back the last saved state, at half the learning rate, when they repeat.

    Attributes:
        caution: factor on the learning rate, halved by every return.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.caution = 1.0
        self._bad: Tensor | int = 0  # bad steps in a row, and the most of them since the last look
        self._worst: Tensor | int = 0
        self._returns = 0
        self._kept: dict[str, Any] | None = None
        self.keep()

    def keep(self) -> None:
        """Remember the present state, unless it is damaged itself."""
        t = self.trainer
        if all(bool(torch.isfinite(p).all()) for p in t.model.parameters()):
            weights = {
                "model": t.model.state_dict(),
                "ema": t.ema,
                "optimisers": [o.state_dict() for o in t.optimisers],
                "objective": t.objective.state(),
            }
            self._kept = copy.deepcopy(weights)
            self._returns = 0

    def saw(self, good: Tensor) -> None:
        """Take note of one step; ``good`` is a truth value wherever the step ran, and is not waited for."""
        bad = (~good).int()
        self._bad = (self._bad + bad) * bad
        self._worst = torch.maximum(self._worst, self._bad) if isinstance(self._worst, Tensor) else self._bad

    def look(self) -> None:
        """Act on what was seen since the last look, for which the host waits.

        Raises:
            RuntimeError: the run diverges from every state that it returned to.
        """
        worst, self._worst = int(self._worst), 0
        if worst < PATIENCE or self._kept is None:
            return
        if self._returns == _RETURNS:
            raise RuntimeError(
                f"training diverges: {_RETURNS} returns to the last good state, each at half the rate before, ended in "
                f"losses that are not finite; lower lr or look at the data around step {self.trainer.step}"
            )
        self.trainer.load_weights(copy.deepcopy(self._kept))
        self.caution /= 2
        self._bad = 0
        self._returns += 1
