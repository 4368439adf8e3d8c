"""Model families as the codec sees them: one :class:`FamilyCoder` each. ``base`` says what a new one has to offer."""

from __future__ import annotations

from typing import Any

from fastlic.codec.families.base import Backend, FamilyCoder
from fastlic.codec.families.hyperprior import HyperpriorCoder
from fastlic.codec.families.mcquic import McQuicCoder
from fastlic.codec.families.mlic import MlicCoder

CODERS: tuple[type[FamilyCoder[Any, Any]], ...] = (HyperpriorCoder, MlicCoder, McQuicCoder)

# Family name -> who codes it.
BY_FAMILY = {family: coder for coder in CODERS for family in coder.models}

PREVIEWS = ("levels", "slices")  # options of all families' ``previews``

__all__ = ["BY_FAMILY", "CODERS", "PREVIEWS", "Backend", "FamilyCoder", "HyperpriorCoder", "McQuicCoder", "MlicCoder"]
