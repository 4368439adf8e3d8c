"""MLIC++ checkpoints as they are published, turned into this package's state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# CompressAI before 1.2.4 named the factorised density's parameters so.
_OLD_DENSITY = re.compile(r"(.*entropy_bottleneck\.)_(matri|bias|factor)x?(\d)$")
_NEW_DENSITY = {"matri": "matrices", "bias": "biases", "factor": "factors"}


def normalise(stored: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict inside a checkpoint: unwrapped, without ``module.`` prefixes, CompressAI's old names renamed.

    Args:
        stored: a plain state dict, or a training checkpoint that holds one under ``state_dict`` beside epoch, loss and
            optimiser states.
    """
    inner = stored.get("state_dict", stored)
    if not isinstance(inner, Mapping):
        raise ValueError(f"'state_dict' of the checkpoint must be a mapping, got {type(inner).__name__}")
    state = {}
    for key, value in inner.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"a state dict holds tensors, but {key!r} is {type(value).__name__}")
        key = key.removeprefix("module.")
        if match := _OLD_DENSITY.match(key):
            prefix, kind, index = match.groups()
            key = f"{prefix}{_NEW_DENSITY[kind]}.{index}"
        state[key] = value
    return state
