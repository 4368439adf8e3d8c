"""Codecs on disk: one safetensors file with float weights, integer entropy parameters and a JSON description.

float/<state-dict key>      float32 or float16
entropy/<array name>        the integers of IntegerEntropyModel.to_arrays, bit for bit
metadata "fastlic"          JSON: layout version, name, family, constructor arguments
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

LAYOUT = 1
_METADATA_KEY = "fastlic"


@dataclass(frozen=True)
class StoredCodec:
    """Content of a codec file, converted but not yet built."""

    name: str
    family: str
    config: dict[str, Any]
    floats: dict[str, Tensor]  # float32
    integers: dict[str, np.ndarray]


def write(path: Path, stored: StoredCodec, half: bool) -> None:
    """Write ``stored`` to ``path``; float weights as float16 if ``half``. The file appears whole or not at all."""
    tensors = {f"float/{k}": (v.half() if half else v.float()).contiguous() for k, v in stored.floats.items()}
    tensors |= {f"entropy/{k}": torch.from_numpy(np.array(v)) for k, v in stored.integers.items()}
    description = {"layout": LAYOUT, "name": stored.name, "family": stored.family, "config": stored.config}
    partial = path.with_name(path.name + ".partial")
    try:
        # Not save_file: it makes files that only their owner may read.
        partial.write_bytes(save(tensors, {_METADATA_KEY: json.dumps(description)}))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> StoredCodec:
    """Read what ``write`` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no codec file, or one of a newer layout.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no codec file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping, only a keys()
    except SafetensorError as error:
        raise ValueError(f"{path} is no readable safetensors file: {error}") from error
    if _METADATA_KEY not in metadata:
        raise ValueError(f"{path} holds tensors but no fastlic codec; build one with fastlic.Codec(model).save(path)")
    description = json.loads(metadata[_METADATA_KEY])
    if description["layout"] != LAYOUT:
        raise ValueError(f"{path} has codec layout {description['layout']}; this fastlic reads layout {LAYOUT}")
    floats = {k.removeprefix("float/"): v.float() for k, v in tensors.items() if k.startswith("float/")}
    integers = {k.removeprefix("entropy/"): v.numpy() for k, v in tensors.items() if k.startswith("entropy/")}
    return StoredCodec(description["name"], description["family"], description["config"], floats, integers)
