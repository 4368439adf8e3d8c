"""CompressAI's Gaussian mixtures: the same rows and streams, made piece by piece.

The original makes a table of a row for each symbol, as large as the latent's range, through some thirty maps of that
size, and hands it to the coder as lists. Here its float operations run on as many rows at a time as a cache holds, each
erf once where the original takes it twice, and what follows the last erf (integers, donors, coder) is one C++ call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastlic.integrations.compressai.coder import check_symbols
from fastlic.integrations.compressai.settings import Settings
from fastlic.integrations.compressai.swap import state_of
from fastlic.ops.mixture import MixtureDecoder, MixtureEncoder, decode_reference, mixture_rows

_TINY = 1e-10
_PIECE = 1 << 16  # values of a map of [rows, slots]
_MOST_SLOTS = 1 << 15  # beyond, rows of 16 bits have no points left


class FastGaussianMixture:
    """``compress`` and ``decompress`` of GaussianMixtureConditional, batch 1 as there."""

    @torch.no_grad()
    def compress(self, y: Tensor, scales: Tensor, means: Tensor, weights: Tensor) -> Any:
        module: Any = self
        check_symbols(y)
        settings: Settings = state_of(module).settings
        abs_max = max(abs(int(y.max())), abs(int(y.min()))) + 1
        y_quantized = torch.round(y)
        zero_bitmap = torch.where(torch.sum(torch.abs(y_quantized), (3, 2)).squeeze(0) == 0, 0, 1)
        nonzero = torch.nonzero(zero_bitmap).flatten().tolist()
        symbols = (y_quantized[:, nonzero] + abs_max).reshape(-1).int().cpu().numpy()
        encoder = MixtureEncoder("reference" if settings.backend == "reference" else "cpp")
        done = 0
        for rows in _probabilities(module, scales, means, weights, nonzero, abs_max):
            encoder.add(rows, symbols[done : done + len(rows)])
            done += len(rows)
        return (encoder.finish(), abs_max, zero_bitmap), y_quantized

    @torch.no_grad()
    def decompress(
        self, strings: bytes, abs_max: int, zero_bitmap: Tensor, scales: Tensor, means: Tensor, weights: Tensor
    ) -> Tensor:
        module: Any = self
        settings: Settings = state_of(module).settings
        nonzero = torch.nonzero(zero_bitmap).flatten().tolist()
        pieces = _probabilities(module, scales, means, weights, nonzero, int(abs_max))
        if settings.backend == "reference":
            rows = [mixture_rows(piece, "reference") for piece in pieces]
            values = [decode_reference(strings, np.concatenate(rows))] if rows else []
        else:
            decoder = MixtureDecoder(strings)
            values = [decoder.decode(piece) for piece in pieces]
            decoder.finish()
        symbols = torch.from_numpy(np.concatenate([np.zeros(0, np.int32), *values])) - abs_max
        y_hat = torch.zeros(scales.size(0), zero_bitmap.size(0), scales.size(2), scales.size(3))
        y_hat[:, nonzero] = symbols.reshape(scales.size(0), -1, scales.size(2), scales.size(3)).float()
        return y_hat


def _probabilities(
    module: Any, scales: Tensor, means: Tensor, weights: Tensor, nonzero: list[int], abs_max: int
) -> Iterator[np.ndarray]:
    """float32 [rows, 2 abs_max + 1] of the symbols in coding order, by CompressAI's own operations."""
    slots = 2 * abs_max + 1
    if not 3 <= slots <= _MOST_SLOTS:
        raise ValueError(f"abs_max must be from 1 to {_MOST_SLOTS // 2 - 1} for rows of 16 bits, got {abs_max}")
    parameters = module.reshape_entropy_parameters(scales, means, weights, nonzero)
    scales, means, weights = (parameter.unsqueeze(-1) for parameter in parameters)
    scales = (scales.clamp(0.11, 256) + _TINY) * 2**0.5
    means = means + abs_max
    # Upper edges of slot i are the lower ones of slot i + 1, the same floats: whole numbers and a half are exact.
    edges = (torch.arange(slots + 1, device=scales.device) - 0.5).unsqueeze(0)
    step = max(_PIECE // slots, 1)
    for first in range(0, scales.size(1), step):
        rows = slice(first, first + step)
        total: Any = torch.zeros(())
        for k in range(module.K):
            cumulative = 0.5 * (1 + torch.erf((edges - means[k, rows]) / scales[k, rows]))
            total = total + (cumulative[:, 1:] - cumulative[:, :-1]) * weights[k, rows]
        yield total.float().cpu().numpy()
