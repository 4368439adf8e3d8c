"""What the replaced methods of one model share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from fastlic.integrations.compressai.swap import Cache

Format = Literal["native", "compressai"]
Backend = Literal["auto", "cpp", "reference"]
FORMATS = ("native", "compressai")
BACKENDS = ("auto", "cpp", "reference")


@dataclass
class Settings:
    format: Format
    backend: Backend = "auto"

    @property
    def threads(self) -> int:
        return torch.get_num_threads()


@dataclass
class State:
    """One module's part: the settings of its model and its own cache."""

    settings: Settings
    cache: Cache = field(default_factory=Cache)
    coder: Any = None  # an IntegerCoder, for what is coded by one
