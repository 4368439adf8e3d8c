"""What the replaced methods of one model share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from fastlic.integrations.compressai.swap import Cache

Format = Literal["native", "compressai"]
Backend = Literal["auto", "cpp", "reference", "triton"]
Transforms = Literal["exact", "fast", "integer"]
FORMATS = ("native", "compressai")
BACKENDS = ("auto", "cpp", "reference", "triton")
TRANSFORMS = ("exact", "fast", "integer")
INSTALL = (
    "fastlic.accelerate serves models of CompressAI, which is not installed or cannot be imported ({reason}). "
    "Install it beside the torch you have with:  pip install --no-deps compressai==1.2.8  and then its requirements "
    "(docs/compressai.md lists them)"
)


@dataclass
class Settings:
    format: Format
    backend: Backend = "auto"
    stride: int = 16  # image pixels by row and column of what an entropy bottleneck codes
    transforms: Transforms = "exact"

    @property
    def threads(self) -> int:
        return torch.get_num_threads()


@dataclass
class State:
    """One module's part: the settings of its model and its own cache."""

    settings: Settings
    cache: Cache = field(default_factory=Cache)
    coder: Any = None  # an IntegerCoder, for what is coded by one
    transform: Any = None  # an IntegerTransform, for what is computed by one
    places: tuple[str, ...] = ()  # below it, what only code right as long as no other module is put there
