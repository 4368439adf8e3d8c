"""The coder behind an accelerated entropy model: integer tensors to one stream per batch item, and back.

Which coder is the settings' matter: CompressAI's own stream, or fastlic's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastlic.integrations.compressai import native_tables
from fastlic.integrations.compressai.settings import Settings
from fastlic.integrations.compressai.swap import state_of
from fastlic.integrations.compressai.tables import coding_tables
from fastlic.ops.compressai_rans import (
    decode_many_with_indexes,
    decode_with_indexes,
    encode_many_with_indexes,
    encode_with_indexes,
)
from fastlic.ops.float_symbols import round_differences

_INT32 = 2.0**31
_NOT_FINITE = (
    "the latent holds values that are not finite or too large to code: are the weights damaged, "
    "or is the input not an image in [0, 1]?"
)


def quantised(inputs: Tensor, means: Tensor | None, step: Tensor | None = None) -> Tensor:
    """int32 symbols: rounded differences by CompressAI's own operations, and so with its rounding.

    Raises:
        ValueError: a value is not finite or beyond int32. CompressAI's coder never returns from those.
    """
    inputs = inputs.detach()
    if means is not None:
        means = means.detach()
    plain = inputs.dtype == torch.float32 and inputs.device.type == "cpu"
    if plain and step is None and (means is None or (means.shape == inputs.shape and means.dtype == inputs.dtype)):
        try:
            return torch.from_numpy(round_differences(inputs.numpy(), None if means is None else means.numpy()))
        except OverflowError:
            raise ValueError(_NOT_FINITE) from None
    outputs = inputs if means is None else inputs - means
    outputs = torch.round(outputs if step is None else outputs / step)
    check_symbols(outputs)
    return outputs.int()


def check_symbols(symbols: Tensor) -> None:
    """Raise ValueError unless every value is finite and fits int32."""
    largest = symbols.abs().max() if symbols.numel() else 0.0
    if not largest < _INT32:  # also true of NaN
        raise ValueError(_NOT_FINITE)


def array(tensor: Tensor) -> np.ndarray:
    """An integer tensor on any device as contiguous int32."""
    return np.ascontiguousarray(tensor.detach().to("cpu", torch.int32).numpy())


def encode(module: Any, symbols: Tensor, indexes: Tensor) -> list[bytes]:
    """[B, ...] symbols and indexes to B streams."""
    settings: Settings = state_of(module).settings
    s, i = array(symbols), array(indexes)
    if settings.format == "native":
        return native_tables.encode(module, s, i)
    tables = coding_tables(module)
    if settings.backend == "reference":
        return [encode_with_indexes(a, b, tables, backend="reference") for a, b in zip(s, i, strict=True)]
    return encode_many_with_indexes(s, i, tables, threads=settings.threads)


def decode(module: Any, strings: Sequence[bytes], indexes: Tensor) -> Tensor:
    """B streams to int32 symbols in the shape of ``indexes`` [B, ...], on its device.

    Raises:
        CorruptStreamError: a stream is damaged; in CompressAI's format also if it was made with other parameters.
        ModelMismatchError: a native stream was made with other parameters.
    """
    settings: Settings = state_of(module).settings
    i = array(indexes)
    if settings.format == "native":
        return torch.from_numpy(native_tables.decode(module, strings, i)).to(indexes.device)
    tables = coding_tables(module)
    if settings.backend == "reference":
        parts = [decode_with_indexes(s, row, tables, backend="reference") for s, row in zip(strings, i, strict=True)]
        symbols = np.stack(parts) if parts else np.zeros(i.shape, np.int32)
    else:
        symbols = decode_many_with_indexes(strings, i, tables, threads=settings.threads)
    return torch.from_numpy(symbols).to(indexes.device)
