"""Codecs on disk: one safetensors file with float weights, integer entropy parameters and a JSON description.

float/<state-dict key>      float32 or float16
entropy/<array name>        the integers of IntegerEntropyModel.to_arrays, bit for bit
metadata "fastlic"          JSON: SHA-256 of the whole file (made with 64 zeros in the digest's place), layout version,
                            name, family, constructor arguments

Larger int8 arrays may be packed (fastlic.codec.packing); the description keeps their names and shapes:

packed/data, classes, tables    instead of those arrays' entropy/<array name>
description["packed"]           array name -> shape, in the order of coding

Layouts 1 (nothing packed) and 2 (packed) had no digest; they are read, layout 3 is written.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from fastlic.arguments import check_fields, checked
from fastlic.codec import packing
from fastlic.errors import CodecFileError
from fastlic.files import write_whole
from fastlic.models.state_files import read_tensors

LAYOUT = 3
LAYOUTS = (1, 2, 3)
_METADATA_KEY = "fastlic"
_DIGEST_KEY = "sha256"
_NO_DIGEST = "0" * 64
_PARTS = ("data", "classes", "tables")
_FLOATS = (torch.float32, torch.float16)
_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32)
_FIELDS = {"layout": int, "name": str, "family": str, "config": dict}


@dataclass(frozen=True)
class StoredCodec:
    """Content of a codec file, converted but not yet built."""

    name: str
    family: str
    config: dict[str, Any]
    floats: dict[str, Tensor]  # float32
    integers: dict[str, np.ndarray]


@checked
def write(path: Path, stored: StoredCodec, half: bool, packed: bool) -> None:
    """Write ``stored`` to ``path``. The file appears whole or not at all.

    Args:
        half: float weights as float16.
        packed: int8 arrays in fewer bytes, where there are any that it pays for.
    """
    check_fields(stored)
    tensors = {f"float/{k}": (v.half() if half else v.float()).contiguous() for k, v in stored.floats.items()}
    tensors |= {f"entropy/{k}": torch.from_numpy(np.array(v, order="C")) for k, v in stored.integers.items()}
    description: dict[str, Any] = {"layout": LAYOUT, "name": stored.name, "family": stored.family}
    description["config"] = stored.config
    parts = packing.pack(stored.integers) if packed else None
    if parts is not None:
        for name in parts.shapes:
            del tensors[f"entropy/{name}"]
        tensors |= {f"packed/{k}": torch.from_numpy(np.array(getattr(parts, k))) for k in _PARTS}
        description["packed"] = parts.shapes
    write_whole(path, sealed(tensors, description))


@checked
def sealed(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> bytes:
    """The bytes of a codec file with its digest."""
    blank = {_DIGEST_KEY: _NO_DIGEST}
    data = save(dict(tensors), {_METADATA_KEY: json.dumps(blank | dict(description) | blank)})
    return data.replace(_entry(_NO_DIGEST), _entry(_digest(data, _NO_DIGEST)), 1)


def _entry(digest: str) -> bytes:
    """How the digest stands in the header: JSON in a JSON string, where quotes inside a name would be escaped twice."""
    return f'\\"{_DIGEST_KEY}\\": \\"{digest}\\"'.encode()


def _digest(data: bytes, stated: str) -> str:
    """SHA-256 of a file that states ``stated``, in hexadecimal."""
    return hashlib.sha256(data.replace(_entry(stated), _entry(_NO_DIGEST), 1)).hexdigest()


@checked
def read(path: Path, digest: str | None = None) -> StoredCodec:
    """Read what ``write`` wrote. The result owns its memory: nothing that happens to the file later changes it.

    Args:
        digest: SHA-256 that the file must have, in hexadecimal.

    Raises:
        FileNotFoundError: no such file.
        CodecFileError: no codec file, a damaged one, one of a newer layout, or another than ``digest`` names.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no codec file at {path}")
    tensors, metadata, data = read_tensors(path)
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise CodecFileError(f"{path} is damaged: its SHA-256 is not {digest}; install fastlic anew")
    if _METADATA_KEY not in metadata:
        raise CodecFileError(
            f"{path} holds tensors but no fastlic codec; build one with fastlic.Codec(model).save(path)"
        )
    try:
        return _parsed(tensors, metadata, data)
    except ValueError as error:
        raise CodecFileError(f"{path}: {error}") from error


def _parsed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], data: bytes) -> StoredCodec:
    try:
        description = json.loads(metadata[_METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the description is no JSON: {error}") from error
    if not isinstance(description, dict):
        raise ValueError("the description is no JSON object")
    for field, kind in _FIELDS.items():
        if not isinstance(description.get(field), kind):
            raise ValueError(f"the description has no {field!r} of type {kind.__name__}")
    layout = description["layout"]
    if layout not in LAYOUTS:
        raise ValueError(f"codec layout {layout}; this fastlic reads layouts {', '.join(map(str, LAYOUTS))}")
    stated = description.get(_DIGEST_KEY)
    if (stated is not None or layout == LAYOUT) and _digest(data, str(stated)) != stated:
        raise ValueError("the file is damaged: it does not have the SHA-256 that it states")
    kinds = {"float/": _FLOATS, "entropy/": _INTEGERS, "packed/": _INTEGERS}
    for name, tensor in tensors.items():
        allowed = next((types for prefix, types in kinds.items() if name.startswith(prefix)), ())
        if tensor.dtype not in allowed:
            raise ValueError(f"{name} of type {tensor.dtype} has no place in a codec file")
    floats = {k.removeprefix("float/"): v.float() for k, v in tensors.items() if k.startswith("float/")}
    for name, value in floats.items():
        if value.numel() and not all(map(math.isfinite, map(float, torch.aminmax(value)))):
            raise ValueError(f"float/{name} has values that are not finite")
    integers = {k.removeprefix("entropy/"): v.numpy() for k, v in tensors.items() if k.startswith("entropy/")}
    if any(name.startswith("packed/") for name in tensors) or "packed" in description:
        try:
            integers |= _unpacked(tensors, description.get("packed"), integers.keys())
        except (TypeError, ValueError) as error:
            raise ValueError(f"packed weights are damaged: {error}") from error
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
