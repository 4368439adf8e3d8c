"""The model itself: coding needs no gradients, so none are recorded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastlic.errors import FastlicError, says_no_memory
from fastlic.forks import held_off
from fastlic.integrations.compressai.claims import in_words, lists_of_strings, whole_numbers
from fastlic.integrations.compressai.entropy_models import keeping
from fastlic.integrations.compressai.heap import kept
from fastlic.integrations.compressai.swap import original, state_of
from fastlic.integrations.compressai.tables import LoadsTables

_OWN = ("compressai.models.google", "compressai.models.vbr")  # whose strings are a list for y and, if it is, one for z


class FastModel(LoadsTables):
    """``compress`` and ``decompress`` without autograd: CompressAI leaves that to its callers."""

    @in_words
    @held_off
    @torch.no_grad()
    def compress(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with kept(), keeping():
                return super().compress(*args, **kwargs)  # type: ignore[misc]
        except (ValueError, RuntimeError) as error:
            # Only now: which sizes fit is the model's matter, and some do that are no multiples.
            model: Any = self
            x, stride = kwargs.get("x", args[0] if args else None), state_of(model).settings.stride
            sides = tuple(x.shape[-2:]) if isinstance(x, Tensor) else ()
            fits = not any(side % stride for side in sides)
            if fits or isinstance(error, FastlicError) or says_no_memory(error):
                raise
            how = f"pad images to multiples of {stride} (compressai.ops.compute_padding)"
            raise ValueError(f"the image is {sides}: {how}; the model says: {error}") from error

    @in_words
    @held_off
    @torch.no_grad()
    def decompress(self, *args: Any, **kwargs: Any) -> Any:
        # CompressAI's own models: strings, shape and, of some, a rate. Latent codecs look at shapes themselves.
        cls: Any = original(type(self))
        if cls.decompress.__module__ in _OWN:
            lists_of_strings(kwargs.get("strings", args[0] if args else None), 2 if hasattr(self, "h_a") else 1)
        if hasattr(type(self), "downsampling_factor") and not hasattr(self, "latent_codec"):
            whole_numbers(kwargs.get("shape", args[1] if len(args) > 1 else None))
        with kept():
            return super().decompress(*args, **kwargs)  # type: ignore[misc]
