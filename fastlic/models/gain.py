"""Gain vectors: one checkpoint, many qualities (Cui et al. 2021, asymmetric gained variational autoencoder)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
from torch import Tensor


class Gain(nn.Module):
    """Per-channel factors for each trained quality, interpolated geometrically in between.

    The latent is multiplied by ``forward`` before it is quantised and by ``inverse`` before synthesis: a larger gain
    is a finer quantiser. Both are stored as logarithms, [qualities, M], so that interpolation between two trained
    qualities is linear and factors stay positive. ``worth`` [qualities] is the encoder's: what a unit of squared error
    of the gained latent is worth in bits (fastlic.models.density.dead_zone); 0 rounds to the nearest.
    """

    worth: Tensor

    def __init__(self, qualities: int, channels: int) -> None:
        super().__init__()
        self.qualities = qualities
        self.log_gain = nn.Parameter(torch.zeros(qualities, channels))
        self.log_inverse = nn.Parameter(torch.zeros(qualities, channels))
        self.register_buffer("worth", torch.zeros(qualities))
        self._zones: tuple[Tensor, int, bool] | None = None

    @property
    def has_zones(self) -> bool:
        """Whether any quality rounds small symbols down. The device is asked once after each change of ``worth``."""
        worth = self.worth
        if self._zones is None or self._zones[0] is not worth or self._zones[1] != worth._version:
            self._zones = worth, worth._version, bool(worth.any())
        return self._zones[2]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.setdefault(f"{prefix}worth", self.worth)  # weights from before there were zones leave it as it is
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _at(self, table: Tensor, quality: Tensor) -> Tensor:
        """[qualities, C] -> [N, C, 1, 1]."""
        position = (quality.to(table.dtype) - 1).clamp(0, self.qualities - 1)
        low = position.floor().long().clamp(max=max(self.qualities - 2, 0))
        high = (low + 1).clamp(max=self.qualities - 1)
        weight = (position - low)[:, None]
        return (table[low] * (1 - weight) + table[high] * weight)[:, :, None, None]

    def forward(self, quality: Tensor) -> Tensor:
        """quality [N], 1..qualities (fractions allowed) -> factors [N, M, 1, 1] for the encoder."""
        return self._at(self.log_gain, quality).exp()

    def inverse(self, quality: Tensor) -> Tensor:
        """quality [N] -> factors [N, M, 1, 1] for the decoder."""
        return self._at(self.log_inverse, quality).exp()

    def worths(self, quality: Tensor) -> Tensor:
        """quality [N] -> bits per unit of squared error [N, 1, 1, 1]."""
        return self._at(self.worth[:, None], quality)

    def worth_of(self, quality: float) -> float:
        """``worths`` of one quality."""
        return float(self.worths(torch.tensor([quality], device=self.worth.device)))
