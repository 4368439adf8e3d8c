"""Tensors in safetensors files and in torch's: read whole and owned, cut into parts where one file would be too large.

Nothing is mapped: what happens to a file after it was read changes no weight and faults no process.
"""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from fastlic.errors import CodecFileError

# What code may raise that trusts the names, types and shapes of what it reads.
MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RuntimeError)


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

    Raises:
        ValueError: there is neither the file nor all of its parts, or one is damaged.
    """
    if path.is_file():
        return read_tensors(path)[0]
    parts = sorted(path.parent.glob(f"{path.stem}-*-of-*{path.suffix}"))
    if not parts or [part_of(path, i + 1, len(parts)) for i in range(len(parts))] != parts:
        raise ValueError(f"no weights at {path}" + (f"; of its parts there are {len(parts)}" if parts else ""))
    return {name: value for part in parts for name, value in read_tensors(part)[0].items()}
