"""Codecs on disk: one safetensors file with float weights, integer entropy parameters and a JSON description.

float/<state-dict key>      float32 or float16
entropy/<array name>        the integers of IntegerEntropyModel.to_arrays, bit for bit
metadata "fastlic"          JSON: layout version, name, family, constructor arguments

Layout 2 has the larger int8 arrays packed (fastlic.codec.packing), of which the description keeps names and shapes:

packed/data, classes, tables    instead of those arrays' entropy/<array name>
description["packed"]           array name -> shape, in the order of coding
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fastlic.codec import packing
from fastlic.files import write_whole

LAYOUT = 1
PACKED_LAYOUT = 2
_METADATA_KEY = "fastlic"
_PARTS = ("data", "classes", "tables")


@dataclass(frozen=True)
class StoredCodec:
    """Content of a codec file, converted but not yet built."""

    name: str
    family: str
    config: dict[str, Any]
    floats: dict[str, Tensor]  # float32
    integers: dict[str, np.ndarray]


def write(path: Path, stored: StoredCodec, half: bool, packed: bool) -> None:
    """Write ``stored`` to ``path``. The file appears whole or not at all.

    Args:
        half: float weights as float16.
        packed: int8 arrays in fewer bytes, where there are any that it pays for.
    """
    tensors = {f"float/{k}": (v.half() if half else v.float()).contiguous() for k, v in stored.floats.items()}
    tensors |= {f"entropy/{k}": torch.from_numpy(np.array(v, order="C")) for k, v in stored.integers.items()}
    description = {"layout": LAYOUT, "name": stored.name, "family": stored.family, "config": stored.config}
    parts = packing.pack(stored.integers) if packed else None
    if parts is not None:
        for name in parts.shapes:
            del tensors[f"entropy/{name}"]
        tensors |= {f"packed/{k}": torch.from_numpy(np.array(getattr(parts, k))) for k in _PARTS}
        description |= {"layout": PACKED_LAYOUT, "packed": parts.shapes}
    write_whole(path, save(tensors, {_METADATA_KEY: json.dumps(description)}))


def read(path: Path) -> StoredCodec:
    """Read what ``write`` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no codec file, one of a newer layout, or packed weights that are damaged.
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
    layout = description["layout"]
    if layout not in (LAYOUT, PACKED_LAYOUT):
        raise ValueError(f"{path} has codec layout {layout}; this fastlic reads layouts {LAYOUT} and {PACKED_LAYOUT}")
    floats = {k.removeprefix("float/"): v.float() for k, v in tensors.items() if k.startswith("float/")}
    integers = {k.removeprefix("entropy/"): v.numpy() for k, v in tensors.items() if k.startswith("entropy/")}
    if layout == PACKED_LAYOUT:
        try:
            integers |= _unpacked(tensors, description.get("packed"), integers.keys())
        except (TypeError, ValueError) as error:  # TypeError: a tensor of a type that numpy does not have
            raise ValueError(f"{path} has packed weights that are damaged: {error}") from error
    return StoredCodec(description["name"], description["family"], description["config"], floats, integers)


def _unpacked(tensors: Mapping[str, Tensor], shapes: Any, others: Set[str]) -> dict[str, np.ndarray]:
    """The packed arrays of a file whose other integer arrays are ``others``; ValueError if they are damaged."""
    missing = [f"packed/{k}" for k in _PARTS if f"packed/{k}" not in tensors]
    if missing:
        raise ValueError(f"{', '.join(missing)} not there")
    if not isinstance(shapes, dict) or not all(isinstance(shape, list) for shape in shapes.values()):
        raise ValueError("the description has no shapes of them")
    if shapes.keys() & others:
        raise ValueError(f"{', '.join(sorted(shapes.keys() & others))} there twice")
    parts = {k: tensors[f"packed/{k}"].numpy() for k in _PARTS}
    return packing.unpack(packing.Packed({k: tuple(v) for k, v in shapes.items()}, **parts))
