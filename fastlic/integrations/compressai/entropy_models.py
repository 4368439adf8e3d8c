"""CompressAI's entropy models with arrays in place of lists.

``FastEntropyModel`` stands behind a model's own class and before ``EntropyModel``: whatever a subclass does in its
``compress`` still happens, and its call of ``super().compress`` arrives here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastlic.integrations.compressai import coder
from fastlic.integrations.compressai.claims import check_bottleneck
from fastlic.integrations.compressai.native_tables import native_bounds
from fastlic.integrations.compressai.swap import state_of
from fastlic.integrations.compressai.tables import LoadsTables, cached
from fastlic.integrations.compressai.theirs import COMPRESS, DECOMPRESS, TYPED, EntropyModel, EntropyModelVbr
from fastlic.ops.float_symbols import ScaleSearch


def check_encoder_arguments(inputs: Tensor, indexes: Tensor) -> None:
    if inputs.dim() < 2:
        raise ValueError(f"inputs must be [B, C, ...], got {list(inputs.shape)}")
    if inputs.shape != indexes.shape:
        raise ValueError(f"inputs and indexes must have one shape, got {list(inputs.shape)} and {list(indexes.shape)}")


def check_decoder_arguments(strings: Any, indexes: Tensor, means: Tensor | None) -> None:
    if not isinstance(strings, (tuple, list)):
        raise ValueError(f"strings must be a list of bytes, got {type(strings).__name__}")
    if indexes.dim() < 2 or len(strings) != indexes.shape[0]:
        raise ValueError(f"indexes must be [B, C, ...] for B = {len(strings)} strings, got {list(indexes.shape)}")
    if means is None:
        return
    broadcasts = means.dim() == indexes.dim() and all(
        a == b or (a == 1 and axis > 1) for axis, (a, b) in enumerate(zip(means.shape, indexes.shape, strict=True))
    )
    if not broadcasts:
        raise ValueError(f"means {list(means.shape)} do not fit indexes {list(indexes.shape)}")


class _Coded(NamedTuple):
    """What a stream was made of."""

    string: bytes
    symbols: Tensor
    indexes: Tensor


# By entropy model and stream, both as identities: each entry holds its stream, so no other object has that identity.
_KEPT: ContextVar[dict[tuple[int, int], _Coded] | None] = ContextVar("symbols kept", default=None)


@contextmanager
def keeping() -> Iterator[None]:
    """While it lasts, entropy models remember what they encoded: encoders decode their own streams to go on from there.

    CompressAI's models do so for z, its latent codecs and models built from them for every part of y.
    """
    if _KEPT.get() is not None:
        yield
        return
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def _encode(module: Any, symbols: Tensor, indexes: Tensor) -> list[bytes]:
    strings = coder.encode(module, symbols, indexes)
    kept = _KEPT.get()
    if kept is not None:
        for string, own, rows in zip(strings, symbols, indexes, strict=True):
            kept[id(module), id(string)] = _Coded(string, own, rows)
    return strings


def _decode(module: Any, strings: Sequence[bytes], indexes: Tensor) -> Tensor:
    """int32 symbols: those that are remembered if all are, of the very same indexes."""
    kept = _KEPT.get()
    known = [] if not kept else [kept.get((id(module), id(string))) for string in strings]
    if known and all(
        own is not None
        and own.indexes.device == rows.device
        and own.indexes.dtype == rows.dtype
        and torch.equal(own.indexes, rows)
        for own, rows in zip(known, indexes, strict=True)
    ):
        return torch.stack([own.symbols for own in known if own is not None]).to(indexes.device)
    return coder.decode(module, strings, indexes)


class FastEntropyModel(LoadsTables, EntropyModel):
    """``compress`` and ``decompress`` of every entropy model.

    Arguments are those of the CompressAI that is imported, in its order.
    """

    def compress(self, inputs: Tensor, indexes: Tensor, *args: Any, **kwargs: Any) -> list[bytes]:
        means = COMPRESS.bind(self, inputs, indexes, *args, **kwargs).arguments.get("means")
        check_encoder_arguments(inputs, indexes)
        return _encode(self, coder.quantised(inputs, means), indexes)

    def decompress(self, strings: list[bytes], indexes: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        given = DECOMPRESS.bind(self, strings, indexes, *args, **kwargs).arguments
        means = given.get("means")
        check_decoder_arguments(strings, indexes, means)
        symbols = _decode(self, strings, indexes)
        typed = (given.get("dtype", torch.float),) if TYPED else ()
        output: Tensor = self.dequantize(symbols, means, *typed)
        return output


class FastBottleneck:
    """EntropyBottleneck's ``decompress``, which reserves what ``size`` claims, with that claim looked at first."""

    def decompress(self, strings: Any, size: Any, *args: Any, **kwargs: Any) -> Tensor:
        size = check_bottleneck(self, strings, size)
        output: Tensor = super().decompress(strings, size, *args, **kwargs)  # type: ignore[misc]
        return output


class FastEntropyModelVbr(LoadsTables, EntropyModelVbr):
    """The same for the bottleneck with a quantisation step ``qs``."""

    def compress(
        self, inputs: Tensor, indexes: Tensor, means: Tensor | None = None, qs: Tensor | None = None
    ) -> list[bytes]:
        check_encoder_arguments(inputs, indexes)
        return _encode(self, coder.quantised(inputs, means, qs), indexes)

    def decompress(
        self,
        strings: list[bytes],
        indexes: Tensor,
        dtype: torch.dtype = torch.float,
        means: Tensor | None = None,
        qs: Tensor | None = None,
    ) -> Tensor:
        check_decoder_arguments(strings, indexes, means)
        symbols = _decode(self, strings, indexes)
        if qs is None:
            output: Tensor = self.dequantize(symbols, means, dtype)
        else:
            output = self.dequantize_variable(symbols, means=means, dtype=dtype, qs=qs)
        return output


class FastGaussian:
    """``build_indexes`` of GaussianConditional as one search."""

    def build_indexes(self, scales: Tensor) -> Tensor:
        module: Any = self
        native = state_of(module).settings.format == "native"
        if scales.dtype == torch.float32 and scales.device.type == "cpu":
            return torch.from_numpy(_search(module, native)(scales.detach().numpy()))
        scales = module.lower_bound_scale(scales)
        return torch.searchsorted(_bounds(module, native).to(scales.dtype), scales.contiguous(), out_int32=True)


def _bounds(module: Any, native: bool) -> Tensor:
    """Scales at which the row changes.

    CompressAI: row i serves scales in (table[i - 1], table[i]], the last one all that are larger, NaN included.
    Native: the row nearest in ratio, which costs fewer bits than the next larger one.
    """
    bounds: Tensor = native_bounds(module) if native else module.scale_table[:-1]
    return bounds


def _search(module: Any, native: bool) -> ScaleSearch:
    table, least = module.scale_table, module.lower_bound_scale.bound

    def make() -> ScaleSearch:
        return ScaleSearch(_bounds(module, native).detach().float().cpu().numpy(), float(least))

    return cached(state_of(module).cache, "native search" if native else "search", (table, least), make)
