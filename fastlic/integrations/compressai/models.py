"""The model itself: coding needs no gradients, so none are recorded."""

from __future__ import annotations

from typing import Any

import torch


class FastModel:
    """``compress`` and ``decompress`` without autograd: CompressAI leaves that to its callers."""

    @torch.no_grad()
    def compress(self, *args: Any, **kwargs: Any) -> Any:
        return super().compress(*args, **kwargs)  # type: ignore[misc]

    @torch.no_grad()
    def decompress(self, *args: Any, **kwargs: Any) -> Any:
        return super().decompress(*args, **kwargs)  # type: ignore[misc]
