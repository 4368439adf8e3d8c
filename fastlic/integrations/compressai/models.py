"""The model itself: coding needs no gradients, so none are recorded."""

from __future__ import annotations

from typing import Any

import torch

from fastlic.forks import held_off
from fastlic.integrations.compressai.claims import in_words, whole_numbers
from fastlic.integrations.compressai.heap import kept


class FastModel:
    """``compress`` and ``decompress`` without autograd: CompressAI leaves that to its callers."""

    @in_words
    @held_off
    @torch.no_grad()
    def compress(self, *args: Any, **kwargs: Any) -> Any:
        with kept():
            return super().compress(*args, **kwargs)  # type: ignore[misc]

    @in_words
    @held_off
    @torch.no_grad()
    def decompress(self, *args: Any, **kwargs: Any) -> Any:
        if hasattr(type(self), "downsampling_factor"):  # CompressAI's own models: strings, shape and, of some, a rate
            whole_numbers(kwargs.get("shape", args[1] if len(args) > 1 else None))
        with kept():
            return super().decompress(*args, **kwargs)  # type: ignore[misc]
