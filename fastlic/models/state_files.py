"""Tensors in safetensors files and in torch's: read whole and owned, cut into parts where one file would be too large.

Nothing is mapped: what happens to a file after it was read changes no weight and faults no process.
"""

from __future__ import annotations

import glob
import json
import pickle
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from fastlic.errors import CodecFileError

# What code may raise that trusts the names, types and shapes of what it reads.
MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RuntimeError)


_BESIDE = "beside"


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        OSError: the file cannot be read.
        CodecFileError: it is no safetensors file, or a damaged one.
    """
    data = path.read_bytes()
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, *MALFORMED) as error:
        raise CodecFileError(f"{path} is no readable safetensors file: {error}") from error
    return tensors, header.get("__metadata__") or {}


def read_checkpoint(path: Path, device: str = "cpu") -> Any:
    """What ``torch.save`` wrote, tensors on ``device``.

    Tensors and plain containers alone are read; nothing in a file is executed.

    Raises:
        FileNotFoundError: no such file.
        CodecFileError: no such checkpoint, or one with other content.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise ValueError("its parts are compressed, which torch.save does not do")
        return torch.load(path, map_location=device, weights_only=True)
    except torch.OutOfMemoryError:  # a RuntimeError, too
        raise
    except (zipfile.BadZipFile, pickle.UnpicklingError, struct.error, EOFError, *MALFORMED) as error:
        reason = " ".join(str(error).split())[:200]
        raise CodecFileError(f"{path} is no checkpoint of tensors and plain containers: {reason}") from error


def part_of(path: Path, number: int, parts: int) -> Path:
    """Where part ``number``, from 1, of weights too large for one file lies: ``NAME-1-of-2.safetensors``."""
    return path.with_name(f"{path.stem}-{number}-of-{parts}{path.suffix}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in ``path``, or in the parts that ``path`` was cut into.

    A file may leave out what another one in its folder has (``beside_of``).

    Raises:
        ValueError: the file, all of its parts, or what it is beside is not there, or is damaged.
    """
    if path.is_file():
        tensors, metadata = read_tensors(path)
        return _completed(path, tensors, metadata) if _BESIDE in metadata else tensors
    found = set(path.parent.glob(f"{glob.escape(path.stem)}-*-of-*{glob.escape(path.suffix)}"))
    parts = [part_of(path, i + 1, len(found)) for i in range(len(found))]
    if not parts or found != set(parts):
        raise ValueError(f"no weights at {path}" + (f"; of its parts there are {len(found)}" if found else ""))
    return {name: value for part in parts for name, value in read_tensors(part)[0].items()}


def beside_of(other: Path, names: Iterable[str]) -> dict[str, str]:
    """Metadata of a file that leaves out the tensors ``names``, which ``other``, in the same folder, has as well."""
    return {_BESIDE: json.dumps({"file": other.name, "names": sorted(names)})}


def _completed(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> dict[str, Tensor]:
    try:
        beside = json.loads(metadata[_BESIDE])
        other, names = path.with_name(beside["file"]), list(beside["names"])
        if other.name != beside["file"] or other == path:
            raise ValueError("it is no other file in the same folder")
    except (RecursionError, *MALFORMED) as error:
        raise ValueError(f"{path} does not say what it is beside: {error}") from error
    if other.is_file() and _BESIDE in read_tensors(other)[1]:
        raise ValueError(f"{path} is beside {other.name}, which is beside another file itself")
    whole = read_weights(other)
    if missing := [name for name in names if name not in whole]:
        raise ValueError(f"{path} takes {missing[0]} from {other.name}, which has no such weights")
    return {name: whole[name] for name in names} | tensors
