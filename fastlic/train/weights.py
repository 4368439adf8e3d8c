"""Weights that a run starts from: another run's checkpoint, or a state dict in a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from safetensors.torch import load_file
from torch import Tensor

WORTH = "gain.worth"  # a buffer, but set for each training run and not the same in every model


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of a training run: ``model`` (state dict), ``config``, ``step``, ``validation``.

    Raises:
        ValueError: there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}: is its folder the --out of a `fastlic train` run?")
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def read_state(path: Path) -> Mapping[str, Tensor]:
    """The state dict in a .safetensors file or in a run's checkpoint.

    Raises:
        ValueError: there is no such file.
    """
    if path.suffix != ".safetensors":
        state: Mapping[str, Tensor] = load_checkpoint(path)["model"]
        return state
    if not path.is_file():
        raise ValueError(f"no weights at {path}")
    return load_file(path)


def load_into(model: nn.Module, path: Path) -> list[str]:
    """Copy every parameter of ``path`` whose name and shape ``model`` has; returns those that it did not find.

    What squared errors are worth to the encoder (``gain.worth``) goes along.

    A model may so start from another family's: MLIC++ beside JAHP's transforms takes those from a JAHP.

    Raises:
        ValueError: nothing fits.
    """
    state = read_state(path)
    missing = []
    worth = {name: buffer for name, buffer in model.named_buffers() if name == WORTH and name in state}
    for name, parameter in (*model.named_parameters(), *worth.items()):
        if name in state and state[name].shape == parameter.shape:
            parameter.data.copy_(state[name])
        else:
            missing.append(name)
    if len(missing) == len(list(model.parameters())):
        raise ValueError(f"{path} shares no parameter with this model")
    return missing
