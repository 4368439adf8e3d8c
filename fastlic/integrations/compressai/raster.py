"""Raster-scan models in CompressAI's format: its float operations position by position, and nothing else.

One stream in raster order binds the decoder to one position at a time, and streams only decode where every float comes
out the same. So each position runs the very operations that CompressAI runs, on crops of the same shape and layout:
no batching over positions, no other kernel. What is dropped is everything around them: 63 comparisons for each index,
tables and symbols as Python lists, and the conversion of the whole table for each position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.integrations.compressai import coder
from fastlic.integrations.compressai.claims import check_like, lists_of_strings
from fastlic.integrations.compressai.layout import expected_shape, shape_of
from fastlic.integrations.compressai.settings import Settings
from fastlic.integrations.compressai.swap import state_of
from fastlic.integrations.compressai.tables import coding_tables
from fastlic.integrations.compressai.theirs import quantize_ste
from fastlic.ops.compressai_rans import CompressAiDecoder, encode_with_indexes

Merge = Callable[..., Tensor]


def _concatenate(*parts: Tensor) -> Tensor:
    return torch.cat(parts, dim=1)


class _Networks:
    """The three networks that a position passes through, and how their inputs are joined."""

    def __init__(self, owner: Any, weight: Tensor, merge: Merge = _concatenate, shift: Tensor | None = None) -> None:
        self.gaussian = owner.gaussian_conditional
        self.head = owner.entropy_parameters
        self.weight, self.bias = weight, owner.context_prediction.bias
        self.kernel = weight.shape[-1]
        self.merge = merge
        self.shift = shift  # added to the context's output by variable-rate models

    def __call__(self, y_hat: Tensor, params: Tensor, h: int, w: int) -> tuple[Tensor, Tensor]:
        """(scales, means), each [1, M, 1, 1], of one position of the padded y_hat [1, M, H + 4, W + 4]."""
        crop = y_hat[:, :, h : h + self.kernel, w : w + self.kernel]
        context = F.conv2d(crop, self.weight, self.bias)
        if self.shift is not None:
            context = context + self.shift
        joined = self.merge(params[:, :, h : h + 1, w : w + 1], context)
        scales, means = self.head(joined).chunk(2, 1)
        return scales, means


def _positions(height: int, width: int) -> Iterator[tuple[int, int]]:
    return ((h, w) for h in range(height) for w in range(width))


def _backend(settings: Settings) -> Any:
    return "reference" if settings.backend == "reference" else "cpp"


def _encode(gaussian: Any, symbols: Sequence[Tensor], scales: Sequence[Tensor]) -> bytes:
    """One stream of all positions' symbols and scales, each [1, M, 1, 1]."""
    values = torch.cat(list(symbols)).flatten()
    coder.check_symbols(values)
    indexes = gaussian.build_indexes(torch.cat(list(scales))).flatten()
    backend = _backend(state_of(gaussian).settings)
    return encode_with_indexes(coder.array(values), coder.array(indexes), coding_tables(gaussian), backend=backend)


class _Symbols:
    """A stream read position by position, as floats shaped like the scales that say how."""

    def __init__(self, gaussian: Any, data: bytes) -> None:
        self.gaussian = gaussian
        self.decoder = CompressAiDecoder(data, coding_tables(gaussian), backend=_backend(state_of(gaussian).settings))

    def __call__(self, scales: Tensor) -> Tensor:
        indexes = self.gaussian.build_indexes(scales)
        symbols = self.decoder.decode(indexes.flatten().cpu().numpy())
        return torch.from_numpy(symbols.astype(np.float32)).reshape(scales.shape).to(scales.device)


def encode_raster(networks: _Networks, y: Tensor, params: Tensor, height: int, width: int) -> bytes:
    """Code the padded y [1, M, H + 4, W + 4]; on return it holds what the decoder will see."""
    symbols, scales = [], []
    reach = networks.kernel // 2
    for h, w in _positions(height, width):
        scale, mean = networks(y, params, h, w)
        place = y[:, :, h + reach : h + reach + 1, w + reach : w + reach + 1]
        symbol = torch.round(place - mean)
        place.copy_(symbol + mean)
        symbols.append(symbol)
        scales.append(scale)
    return _encode(networks.gaussian, symbols, scales)


def decode_raster(networks: _Networks, data: bytes, y: Tensor, params: Tensor, height: int, width: int) -> None:
    """Fill the padded y [1, M, H + 4, W + 4], which must be zero."""
    read = _Symbols(networks.gaussian, data)
    reach = networks.kernel // 2
    for h, w in _positions(height, width):
        scale, mean = networks(y, params, h, w)
        y[:, :, h + reach : h + reach + 1, w + reach : w + reach + 1] = read(scale).type_as(mean) + mean
    read.decoder.finish()


class FastRaster:
    """The two loops of mbt2018 and cheng2020."""

    def _compress_ar(self, y_hat: Tensor, params: Tensor, height: int, width: int, kernel: int, padding: int) -> bytes:
        model: Any = self
        conv = model.context_prediction
        return encode_raster(_Networks(self, conv.weight * conv.mask), y_hat, params, height, width)

    def _decompress_ar(
        self, data: bytes, y_hat: Tensor, params: Tensor, height: int, width: int, kernel: int, padding: int
    ) -> None:
        model: Any = self
        # Later positions are still zero: CompressAI leaves the mask out here.
        decode_raster(_Networks(self, model.context_prediction.weight), data, y_hat, params, height, width)


class FastRasterLatentCodec:
    """RasterScanLatentCodec; batches too, which the original cannot decode."""

    def compress(self, y: Tensor, ctx_params: Tensor) -> dict[str, Any]:
        networks = self._networks()
        strings, latents = [], []
        pad = networks.kernel // 2
        for item, params in zip(y.split(1), ctx_params.split(1), strict=True):
            padded = F.pad(item, (pad, pad, pad, pad))
            strings.append(encode_raster(networks, padded, params, y.shape[2], y.shape[3]))
            latents.append(F.pad(padded, (-pad, -pad, -pad, -pad)))
        return {"strings": [strings], "shape": shape_of(y), "y_hat": torch.cat(latents)}

    def decompress(self, strings: Any, shape: Any, ctx_params: Tensor, **kwargs: Any) -> dict[str, Any]:
        codec: Any = self
        networks = self._networks()
        lists_of_strings(strings, 1)
        (streams,) = strings
        check_like(shape, expected_shape(codec.context_prediction.in_channels, ctx_params.shape[2:]))
        height, width = ctx_params.shape[2:]
        if len(streams) != len(ctx_params):
            raise ValueError(f"{len(streams)} strings for a batch of {len(ctx_params)}")
        pad = networks.kernel // 2
        channels = codec.context_prediction.in_channels
        latents = []
        for data, params in zip(streams, ctx_params.split(1), strict=True):
            padded = torch.zeros((1, channels, height + 2 * pad, width + 2 * pad), device=ctx_params.device)
            decode_raster(networks, data, padded, params, height, width)
            latents.append(F.pad(padded, (-pad, -pad, -pad, -pad)))
        return {"y_hat": torch.cat(latents)}

    def _networks(self) -> _Networks:
        codec: Any = self
        conv = codec.context_prediction
        return _Networks(codec, conv.weight * conv.mask, codec.merge)


class FastRasterVbr:
    """The two loops of mbt2018-vbr: a quantisation step, and offsets that a small network learned."""

    def _compress_ar(
        self,
        y_hat: Tensor,
        params: Tensor,
        height: int,
        width: int,
        kernel: int,
        padding: int,
        scale: Tensor,
        rescale: Tensor,
        stage: int,
    ) -> bytes:
        model: Any = self
        conv = model.context_prediction
        networks = _Networks(self, conv.weight * conv.mask, shift=self._shift(scale, stage))
        symbols, scales = [], []
        for h, w in _positions(height, width):
            deviation, mean = networks(y_hat, params, h, w)
            scaled = deviation * scale
            place = y_hat[:, :, h + padding : h + padding + 1, w + padding : w + padding + 1]
            if stage == 1:
                symbol = torch.round(place - mean)
                value = symbol + mean
            else:
                difference = (place - mean) * scale
                if model.no_quantoffset or not model.ste_recursive:
                    symbol = torch.round(difference)
                    value = symbol * rescale + mean
                else:
                    signs, magnitude = torch.sign(difference), quantize_ste(torch.abs(difference))
                    symbol = (signs * magnitude).int().to(mean.dtype)
                    offsets = self._offsets(magnitude[:, :, 0, 0], scaled[:, :, 0, 0], scale)[:, :, None, None]
                    value = signs * (magnitude + offsets) * rescale + mean
            place.copy_(value)
            symbols.append(symbol)
            scales.append(scaled)
        return _encode(networks.gaussian, symbols, scales)

    def _decompress_ar(
        self,
        data: bytes,
        y_hat: Tensor,
        params: Tensor,
        height: int,
        width: int,
        kernel: int,
        padding: int,
        scale: Tensor,
        rescale: Tensor,
        stage: int,
    ) -> None:
        model: Any = self
        networks = _Networks(self, model.context_prediction.weight, shift=self._shift(scale, stage))
        read = _Symbols(networks.gaussian, data)
        for h, w in _positions(height, width):
            deviation, mean = networks(y_hat, params, h, w)
            scaled = deviation * scale
            symbol = read(scaled)
            if stage == 1:
                value = symbol + mean
            elif model.no_quantoffset or not model.ste_recursive:
                value = symbol * rescale + mean
            else:
                magnitude = symbol.abs()
                value = torch.sign(symbol) * (magnitude + self._offsets(magnitude, scaled, scale)) * rescale + mean
            y_hat[:, :, h + padding : h + padding + 1, w + padding : w + padding + 1] = value
        read.decoder.finish()

    def _shift(self, scale: Tensor, stage: int) -> Tensor | None:
        model: Any = self
        if stage != 2 or not model.scl2ctx:
            return None
        shift: Tensor = model.scale_to_context(scale.view(1, 1)).view(1, -1, 1, 1)
        return shift

    def _offsets(self, magnitude: Tensor, scaled: Tensor, scale: Tensor) -> Tensor:
        """Learned reconstruction offsets, zero where the symbol is; in the shape of ``magnitude``.

        The encoder asks with [1, M], the decoder with [1, M, 1, 1], as CompressAI does: torch rounds a linear layer
        differently for different ranks.
        """
        model: Any = self
        deviation = model.gaussian_conditional.lower_bound_scale(scaled).unsqueeze(-1)
        offsets: Tensor = -1 * model.QuantABCD(torch.cat((deviation, scale.detach().expand(deviation.shape)), dim=-1))
        offsets = offsets.squeeze(-1)
        offsets[magnitude < 0.0001] = 0
        return offsets
