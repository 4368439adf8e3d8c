"""The model itself: coding needs no gradients, so none are recorded."""

from __future__ import annotations

from typing import Any

import torch

from fastlic.forks import held_off
from fastlic.integrations.compressai.claims import in_words, whole_numbers
from fastlic.integrations.compressai.entropy_models import keeping
from fastlic.integrations.compressai.heap import kept
from fastlic.integrations.compressai.tables import LoadsTables


class FastModel(LoadsTables):
    """``compress`` and ``decompress`` without autograd: CompressAI leaves that to its callers."""

    @in_words
    @held_off
    @torch.no_grad()
    def compress(self, *args: Any, **kwargs: Any) -> Any:
        with kept(), keeping():
            return super().compress(*args, **kwargs)  # type: ignore[misc]

    @in_words
    @held_off
    @torch.no_grad()
    def decompress(self, *args: Any, **kwargs: Any) -> Any:
        # CompressAI's own models: strings, shape and, of some, a rate. Latent codecs look at shapes themselves.
        if hasattr(type(self), "downsampling_factor") and not hasattr(self, "latent_codec"):
            whole_numbers(kwargs.get("shape", args[1] if len(args) > 1 else None))
        with kept():
            return super().decompress(*args, **kwargs)  # type: ignore[misc]
