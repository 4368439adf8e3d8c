"""Networks of one codec on this processor's vectors or on a device, at every quality that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fastlic.integers.network import Network
from fastlic.ops.device_transform import DeviceTransform
from fastlic.ops.transforms import TransformEngine

Way = Literal["cpp", "triton"]
# Engines that are kept, of networks and qualities; they share their weights.
_KEPT = 64
_MAKERS: Mapping[str, Any] = {"cpp": TransformEngine, "triton": DeviceTransform}


class Engines:
    """Engines by network and quality; those of no quality are made at once, and check every array.

    Args:
        networks: by their names, which are the prefixes of their arrays.

    Raises:
        ValueError: a network that engines do not run.
    """

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self._networks = networks
        self._made: dict[tuple[str, float | None, Way], TransformEngine | DeviceTransform] = {
            (name, None, "cpp"): TransformEngine(name, network.to_arrays(name)) for name, network in networks.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        """Copies begin with the engines of no quality: those of qualities would share no weights with them."""
        made = {key: engine for key, engine in list(self._made.items()) if key[1:] == (None, "cpp")}
        return {"_networks": self._networks, "_made": made}

    @staticmethod
    def way(backend: str) -> Way:
        """Which engines run for a codec's ``backend``, and the only place that says so.

        ``triton`` if that was asked for by name, otherwise ``cpp``. So ``auto`` is the CPU wherever the image is:
        nobody has timed transforms on a GPU yet.

        Of McQuic all but the coder runs there: its transforms, the search and the look-up of words. Its codes, some
        kilobytes, go over to the CPU under every backend. The frequencies of each wait for the one decoded before it,
        in raster order and under one state: a chain of thousands of small networks, of which a GPU would run one at a
        time.
        """
        return "triton" if backend == "triton" else "cpp"

    def run(
        self,
        name: str,
        x: np.ndarray | Tensor,
        threads: int = 1,
        *,
        size: tuple[int, int] | None = None,
        quality: float | None = None,
        changes: Callable[[], Mapping[str, np.ndarray]] | None = None,
        way: Way = "cpp",
    ) -> Tensor:
        """A network over a map, as ``TransformEngine.run``, or, a tensor in and out, as ``DeviceTransform.run``.

        Args:
            quality: at which ``changes()`` stand at the network's ends, as of ``TransformEngine.vary``.
            way: ``cpp`` or ``triton``.
        """
        if way not in _MAKERS:
            raise ValueError(f"way must be {' or '.join(_MAKERS)}, got {way!r}")
        engine = self._made.get((name, quality, way))
        if engine is None:
            base = self._base(name, way)
            engine = base if quality is None else base.vary(changes() if changes is not None else {})
            if len(self._made) < _KEPT:
                self._made[name, quality, way] = engine
        if isinstance(engine, DeviceTransform):
            return engine.run(torch.as_tensor(x), size)
        return torch.from_numpy(engine.run(x if isinstance(x, np.ndarray) else x.numpy(), size, threads))

    def _base(self, name: str, way: Way) -> TransformEngine | DeviceTransform:
        """The engine of no quality; those of a device are made when one is asked for, and kept."""
        if (name, None, way) not in self._made:
            self._made[name, None, way] = _MAKERS[way](name, self._networks[name].to_arrays(name))
        return self._made[name, None, way]
