"""Codecs on disk: one safetensors file with float weights, integers and a JSON description.

float/<state-dict key>      float32 or float16
entropy/<array name>        the integers of IntegerEntropyModel.to_arrays, bit for bit
transforms/<array name>     the integers of transforms, bit for bit
metadata "fastlic"          JSON: SHA-256 of the whole file (made with 64 zeros in the digest's place), layout version,
                            name, family, constructor arguments; fingerprints of codecs whose streams it decodes

Larger arrays may be packed (fastlic.codec.packing); the description keeps their names and shapes:

packed/data, classes, tables            instead of int8 arrays
packed16/data, low, classes, tables     instead of int16 arrays
description["packed"], ["packed16"]     array name -> shape, in the order of coding

Layout 4 is written of codecs with transforms/ arrays, layout 3 of others: it has no packed16/, and packed arrays are
named without their "entropy/". Layouts 1 (nothing packed) and 2 (packed), which had no digest, are read.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from fastlic.arguments import check_fields, checked
from fastlic.codec import packing
from fastlic.entropy.fingerprint import FINGERPRINT_BYTES
from fastlic.errors import CodecFileError
from fastlic.files import write_whole
from fastlic.models.state_files import read_tensors

LAYOUTS = (1, 2, 3, 4)
_SEALED = 3  # the first layout with a digest
_WHOLE_NAMES = 4  # the first layout with transforms/, packed16/ and whole names of packed arrays
_METADATA_KEY = "fastlic"
_DIGEST_KEY = "sha256"
_NO_DIGEST = "0" * 64
_PARTS = ("data", "low", "classes", "tables")
_PACKED: dict[str, packing.Kind] = {"packed": "int8", "packed16": "int16"}
_FLOATS = (torch.float32, torch.float16)
_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32)
_FINGERPRINT = re.compile(rf"[0-9a-f]{{{2 * FINGERPRINT_BYTES}}}")
_FIELDS = {"layout": int, "name": str, "family": str, "config": dict}


@dataclass(frozen=True)
class StoredCodec:
    """Content of a codec file, converted but not yet built."""

    name: str
    family: str
    config: dict[str, Any]
    floats: dict[str, Tensor]  # float32
    integers: dict[str, np.ndarray]
    transforms: dict[str, np.ndarray] = field(default_factory=dict)  # int8, uint8, int16 or int32
    reads: tuple[bytes, ...] = ()  # fingerprints of other codecs whose streams this one decodes


@checked
def write(path: Path, stored: StoredCodec, half: bool, packed: bool) -> None:
    """Write ``stored`` to ``path``. The file appears whole or not at all.

    Args:
        half: float weights as float16.
        packed: larger arrays of int8 and, beside transforms, of int16 in fewer bytes, where it pays.

    Raises:
        ValueError: a fingerprint in ``reads`` that has not 8 bytes, or is there twice.
    """
    check_fields(stored)
    layout = _WHOLE_NAMES if stored.transforms else _SEALED
    arrays = {f"entropy/{k}": v for k, v in stored.integers.items()}
    arrays |= {f"transforms/{k}": v for k, v in stored.transforms.items()}
    tensors = {f"float/{k}": (v.half() if half else v.float()).contiguous() for k, v in stored.floats.items()}
    tensors |= {k: torch.from_numpy(np.array(v, order="C")) for k, v in arrays.items()}
    description: dict[str, Any] = {"layout": layout, "name": stored.name, "family": stored.family}
    description["config"] = stored.config
    if stored.reads:
        description["reads"] = [fingerprint.hex() for fingerprint in stored.reads]
        _reads(description["reads"])
    for group, kind in _groups(layout).items() if packed else ():
        parts = packing.pack(arrays, kind)
        if parts is None:
            continue
        for name in parts.shapes:
            del tensors[name]
        filled = {k: getattr(parts, k) for k in _PARTS if getattr(parts, k).size}
        tensors |= {f"{group}/{k}": torch.from_numpy(np.array(v)) for k, v in filled.items()}
        description[group] = {name.removeprefix(_before(layout)): shape for name, shape in parts.shapes.items()}
    write_whole(path, sealed(tensors, description))


def _groups(layout: int) -> dict[str, packing.Kind]:
    """Groups of packed arrays that files of a layout may have."""
    return _PACKED if layout >= _WHOLE_NAMES else {"packed": "int8"}


def _before(layout: int) -> str:
    """What the description leaves out before names of packed arrays."""
    return "" if layout >= _WHOLE_NAMES else "entropy/"


def _reads(stated: Any) -> tuple[bytes, ...]:
    """Fingerprints of the description's ``reads``; ValueError if it is no list of such."""
    if not isinstance(stated, list) or not all(isinstance(one, str) and _FINGERPRINT.fullmatch(one) for one in stated):
        raise ValueError(f"'reads' must be a list of fingerprints, each {2 * FINGERPRINT_BYTES} hexadecimal digits")
    if len(set(stated)) < len(stated):
        raise ValueError("'reads' names a fingerprint twice")
    return tuple(map(bytes.fromhex, stated))


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
    for name, kind in _FIELDS.items():
        if not isinstance(description.get(name), kind):
            raise ValueError(f"the description has no {name!r} of type {kind.__name__}")
    layout = description["layout"]
    if layout not in LAYOUTS:
        raise ValueError(f"codec layout {layout}; this fastlic reads layouts {', '.join(map(str, LAYOUTS))}")
    stated = description.get(_DIGEST_KEY)
    if (stated is not None or layout >= _SEALED) and _digest(data, str(stated)) != stated:
        raise ValueError("the file is damaged: it does not have the SHA-256 that it states")
    kinds = {"float/": _FLOATS, "entropy/": _INTEGERS} | {f"{group}/": _INTEGERS for group in _groups(layout)}
    if layout >= _WHOLE_NAMES:
        kinds["transforms/"] = _INTEGERS
    for name, tensor in tensors.items():
        allowed = next((types for prefix, types in kinds.items() if name.startswith(prefix)), ())
        if tensor.dtype not in allowed:
            raise ValueError(f"{name} of type {tensor.dtype} has no place in a codec file")
    floats = {k.removeprefix("float/"): v.float() for k, v in tensors.items() if k.startswith("float/")}
    for name, value in floats.items():
        if value.numel() and not all(map(math.isfinite, map(float, torch.aminmax(value)))):
            raise ValueError(f"float/{name} has values that are not finite")
    arrays = {k: v.numpy() for k, v in tensors.items() if k.startswith(("entropy/", "transforms/"))}
    for group in _groups(layout):
        parts = {k.removeprefix(f"{group}/"): v.numpy() for k, v in tensors.items() if k.startswith(f"{group}/")}
        if not parts and group not in description:
            continue
        try:
            found = _unpacked(group, parts, description.get(group), _before(layout))
            if twice := sorted(found.keys() & arrays.keys()):
                raise ValueError(f"{', '.join(twice)} there twice")
        except (TypeError, ValueError) as error:
            raise ValueError(f"{group} weights are damaged: {error}") from error
        arrays |= found
    entropy, transforms = (
        {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        for prefix in ("entropy/", "transforms/")
    )
    own = (description["name"], description["family"], description["config"])
    return StoredCodec(*own, floats, entropy, transforms, _reads(description.get("reads", [])))


def _unpacked(group: str, parts: dict[str, np.ndarray], shapes: Any, before: str) -> dict[str, np.ndarray]:
    """A group of packed arrays by whole names; ValueError if they are damaged.

    Args:
        before: what the description leaves out before their names.
    """
    parts = {"low": np.zeros(0, np.uint8)} | parts  # not written where there are none
    if missing := [f"{group}/{k}" for k in _PARTS if k not in parts]:
        raise ValueError(f"{', '.join(missing)} not there")
    if more := sorted(parts.keys() - set(_PARTS)):
        raise ValueError(f"{group}/{more[0]} is no part of them")
    if not isinstance(shapes, dict) or not all(isinstance(shape, list) for shape in shapes.values()):
        raise ValueError("the description has no shapes of them")
    whole = {before + k: tuple(v) for k, v in shapes.items()}
    if strange := [k for k in whole if not k.startswith(("entropy/", "transforms/"))]:
        raise ValueError(f"{strange[0]!r} is neither in entropy/ nor in transforms/")
    return packing.unpack(packing.Packed(_PACKED[group], whole, **parts))
