"""Codecs on disk: one safetensors file with float weights, integers and a JSON description.

float/<state-dict key>      float32 or float16
entropy/<array name>        the integers of IntegerEntropyModel.to_arrays, bit for bit
transforms/<array name>     the integers of transforms, bit for bit
metadata "fastlic"          JSON: SHA-256 of the whole file (made with 64 zeros in the digest's place), layout version,
                            name, family, constructor arguments; fingerprints of codecs whose streams it decodes

Larger arrays may be packed (fastlic.codec.packing); the description keeps their names and shapes:

packed/data, classes, windows, tables       instead of int8 arrays
packed16/data, classes, windows, tables     instead of int16 arrays
description["packed"], ["packed16"]         array name -> shape, in the order of coding

Layout 5 is written; layouts 1 to 4 are read (docs/format.md, "Codec files").
"""

from __future__ import annotations

import hashlib
import json
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
from fastlic.ops.codec_file import read_codec_file, require_instruction_set

_LAYOUT = 5
_METADATA_KEY = "fastlic"
_DIGEST_KEY = "sha256"
_NO_DIGEST = "0" * 64
_PACKED: dict[str, packing.Kind] = {"packed": "int8", "packed16": "int16"}


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
    encoding: frozenset[str] = frozenset()  # transforms that no decoder needs: packed ones are coded last


@checked
def write(path: Path, stored: StoredCodec, half: bool, packed: bool) -> None:
    """Write ``stored`` to ``path``. The file appears whole or not at all.

    Args:
        half: float weights as float16.
        packed: larger arrays of int8 and int16 in fewer bytes, where it pays.

    Raises:
        ValueError: a fingerprint in ``reads`` that has not 8 bytes, or is there twice.
    """
    check_fields(stored)
    arrays = {f"entropy/{k}": v for k, v in stored.integers.items()}
    arrays |= {f"transforms/{k}": v for k, v in stored.transforms.items()}
    tensors = {f"float/{k}": (v.half() if half else v.float()).contiguous() for k, v in stored.floats.items()}
    tensors |= {k: torch.from_numpy(np.array(v, order="C")) for k, v in arrays.items()}
    description: dict[str, Any] = {"layout": _LAYOUT, "name": stored.name, "family": stored.family}
    description["config"] = stored.config
    if stored.reads:
        _check_reads(stored.reads)
        description["reads"] = [fingerprint.hex() for fingerprint in stored.reads]
    for group, kind in _PACKED.items() if packed else ():
        parts = packing.pack(arrays, kind, last={f"transforms/{k}" for k in stored.encoding})
        if parts is None:
            continue
        for name in parts.shapes:
            del tensors[name]
        tensors |= {f"{group}/{k}": torch.from_numpy(np.array(getattr(parts, k))) for k in packing.PARTS}
        description[group] = parts.shapes
    write_whole(path, sealed(tensors, description))


def _check_reads(reads: tuple[bytes, ...]) -> None:
    if any(len(fingerprint) != FINGERPRINT_BYTES for fingerprint in reads):
        raise ValueError(f"'reads' must be fingerprints, each {FINGERPRINT_BYTES} bytes")
    if len(set(reads)) < len(reads):
        raise ValueError("'reads' names a fingerprint twice")


@checked
def sealed(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> bytes:
    """The bytes of a codec file with its digest."""
    blank = {_DIGEST_KEY: _NO_DIGEST}
    data = save(dict(tensors), {_METADATA_KEY: json.dumps(blank | dict(description) | blank)})
    return data.replace(_entry(_NO_DIGEST), _entry(hashlib.sha256(data).hexdigest()), 1)


def _entry(digest: str) -> bytes:
    """How the digest stands in the header: JSON in a JSON string, where quotes inside a name would be escaped twice."""
    return f'\\"{_DIGEST_KEY}\\": \\"{digest}\\"'.encode()


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
    require_instruction_set()
    data = path.read_bytes()
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise CodecFileError(f"{path} is damaged: its SHA-256 is not {digest}; install fastlic anew")
    try:
        name, family, config, floats, entropy, transforms, reads = read_codec_file(data)
    except ValueError as error:
        raise CodecFileError(f"{path}: {error}") from error
    weights = {key: torch.from_numpy(array) for key, array in floats.items()}
    return StoredCodec(name, family, json.loads(config), weights, entropy, transforms, tuple(reads))
