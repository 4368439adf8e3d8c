"""CompressAI's entropy models with arrays in place of lists.

``FastEntropyModel`` stands behind a model's own class and before ``EntropyModel``: whatever a subclass does in its
``compress`` still happens, and its call of ``super().compress`` arrives here.
"""

from __future__ import annotations

from typing import Any

import torch
from compressai.entropy_models import EntropyModel, EntropyModelVbr
from torch import Tensor

from fastlic.integrations.compressai import coder
from fastlic.integrations.compressai.claims import check_bottleneck
from fastlic.integrations.compressai.native_tables import native_bounds
from fastlic.integrations.compressai.swap import state_of
from fastlic.integrations.compressai.tables import LoadsTables, cached
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


class FastEntropyModel(LoadsTables, EntropyModel):
    """``compress`` and ``decompress`` of every entropy model, and the decoder's view of what was just coded."""

    def compress_and_keep(
        self, inputs: Tensor, indexes: Tensor, means: Tensor | None = None
    ) -> tuple[list[bytes], Tensor]:
        """The streams, and the very tensor that ``decompress`` will make of them."""
        check_encoder_arguments(inputs, indexes)
        symbols = coder.quantised(inputs, means)
        strings = coder.encode(self, symbols, indexes)
        return strings, self.dequantize(symbols, means)

    def compress(self, inputs: Tensor, indexes: Tensor, means: Tensor | None = None) -> list[bytes]:
        check_encoder_arguments(inputs, indexes)
        return coder.encode(self, coder.quantised(inputs, means), indexes)

    def decompress(
        self,
        strings: list[bytes],
        indexes: Tensor,
        dtype: torch.dtype = torch.float,
        means: Tensor | None = None,
    ) -> Tensor:
        check_decoder_arguments(strings, indexes, means)
        symbols = coder.decode(self, strings, indexes)
        output: Tensor = self.dequantize(symbols, means, dtype)
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
        return coder.encode(self, coder.quantised(inputs, means, qs), indexes)

    def decompress(
        self,
        strings: list[bytes],
        indexes: Tensor,
        dtype: torch.dtype = torch.float,
        means: Tensor | None = None,
        qs: Tensor | None = None,
    ) -> Tensor:
        check_decoder_arguments(strings, indexes, means)
        symbols = coder.decode(self, strings, indexes)
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
