"""Networks of one codec on this processor's vectors, at every quality that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastlic.integers.network import Network
from fastlic.ops.transforms import TransformEngine

# Engines that are kept, of networks and qualities; they share their weights.
_KEPT = 64


class Engines:
    """Engines by network and quality; those of no quality are made at once, and check every array.

    Args:
        networks: by their names, which are the prefixes of their arrays.

    Raises:
        ValueError: a network that engines do not run.
    """

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self._made: dict[tuple[str, float | None], TransformEngine] = {
            (name, None): TransformEngine(name, network.to_arrays(name)) for name, network in networks.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        """Copies begin with the engines of no quality: those of qualities would share no weights with them."""
        return {"_made": {key: engine for key, engine in list(self._made.items()) if key[1] is None}}

    def run(
        self,
        name: str,
        x: np.ndarray,
        threads: int = 1,
        *,
        size: tuple[int, int] | None = None,
        quality: float | None = None,
        changes: Callable[[], Mapping[str, np.ndarray]] | None = None,
    ) -> Tensor:
        """A network over a map, as ``TransformEngine.run``.

        Args:
            quality: at which ``changes()`` stand at the network's ends, as of ``TransformEngine.vary``.
        """
        engine = self._made.get((name, quality))
        if engine is None:
            engine = self._made[name, None].vary(changes() if changes is not None else {})
            if len(self._made) < _KEPT:
                self._made[name, quality] = engine
        return torch.from_numpy(engine.run(x, size, threads))
