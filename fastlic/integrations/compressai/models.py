"""The model itself: coding needs no gradients, so none are recorded."""

from __future__ import annotations

from typing import Any

import torch

from fastlic.forks import held_off


class FastModel:
    """``compress`` and ``decompress`` without autograd: CompressAI leaves that to its callers."""

    @held_off
    @torch.no_grad()
    def compress(self, *args: Any, **kwargs: Any) -> Any:
        return super().compress(*args, **kwargs)  # type: ignore[misc]

    @held_off
    @torch.no_grad()
    def decompress(self, *args: Any, **kwargs: Any) -> Any:
        return super().decompress(*args, **kwargs)  # type: ignore[misc]
