"""Integer layers of MLIC and of channel groups: convolutions of every kind, requantised, with GELU by table.

The plain reference that engines must equal bit for bit: integers in float64 pass through torch's own convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.entropy.checkerboard.functions import Tables
from fastlic.entropy.fixed import ACTIVATION_BITS, Requantiser, largest

_INT32 = 2**31 - 1
_WEIGHT_LIMIT = 127
PLAIN, TRANSPOSED, SHUFFLED, HALVED = 0, 1, 2, 3  # SHUFFLED: a pixel shuffle by 2 follows; HALVED: stride 2


@dataclass(frozen=True)
class Layer:
    """requantise(bias + weight * input), then GELU where ``exponents`` are given, then the pixel shuffle.

    Attributes:
        weight: int8 [out, in / groups, k, k]; for TRANSPOSED [in, out, k, k]. Linear layers have k = 1.
        bias: int32 [out].
        kind: PLAIN, TRANSPOSED (stride 2), SHUFFLED or HALVED.
        groups: 1, or the number of channels (depthwise).
        requantiser: a leaky ReLU's slope is folded in.
        exponents: uint8 [out], GELU reads units of 2^-exponent; None for no GELU.
    """

    weight: np.ndarray
    bias: np.ndarray
    kind: int
    groups: int
    requantiser: Requantiser
    exponents: np.ndarray | None

    @classmethod
    def from_float(
        cls,
        weight: Tensor,
        bias: Tensor,
        input_scale: np.ndarray,
        output_scale: np.ndarray,
        *,
        input_bits: int = ACTIVATION_BITS,
        output_bits: int = ACTIVATION_BITS,
        kind: int = PLAIN,
        groups: int = 1,
        slope: float = 1.0,
        exponents: np.ndarray | None = None,
    ) -> Layer:
        """Quantise a float layer.

        Args:
            weight, bias: as torch stores them, [out, in] for linear layers.
            input_scale: float64 [in], the real value of one unit of each input channel.
            output_scale: float64 [out], likewise (before the shuffle).
            slope: of the leaky ReLU that follows, 1 for none.

        Raises:
            ValueError: an accumulator could leave int32.
        """
        w = weight.detach().double().cpu().numpy()
        b = bias.detach().double().cpu().numpy()
        if w.ndim == 2:
            w = w[:, :, None, None]
        if kind == TRANSPOSED:
            w = w.swapaxes(0, 1)
        scale = np.asarray(input_scale, np.float64)
        w = w * (scale[:, None, None, None] if groups > 1 else scale[None, :, None, None])
        # A row of zeros, or one dwarfed by its bias, takes its unit from the bias instead.
        unit = np.maximum(np.maximum(np.abs(w).max((1, 2, 3)) / _WEIGHT_LIMIT, np.abs(b) / 2**29), 1e-30)
        q = np.rint(w / unit[:, None, None, None]).clip(-_WEIGHT_LIMIT, _WEIGHT_LIMIT)
        bias_q = np.rint(b / unit)
        reach = np.abs(q).sum((1, 2, 3)) * largest(input_bits) + np.abs(bias_q)
        if reach.max() > _INT32:
            raise ValueError(f"an accumulator could reach {reach.max():.0f}, beyond int32: use fewer input bits")
        if kind == TRANSPOSED:
            q = q.swapaxes(0, 1)
        factors = np.maximum(unit / np.asarray(output_scale, np.float64), 2.0**-61)
        requantiser = Requantiser.from_factors(factors, output_bits, slope)
        q = np.ascontiguousarray(q.astype(np.int8))
        return cls(q, bias_q.astype(np.int32), kind, groups, requantiser, exponents)

    def accumulate(self, x: Tensor, padded: bool = True) -> Tensor:
        """x int64 [C, h, w] -> accumulators int64 [C', h', w']; sizes as the float layer's, or without padding."""
        weight = torch.from_numpy(self.weight).to(x.device, torch.float64)
        bias = torch.from_numpy(self.bias).to(x.device, torch.float64)
        padding = self.weight.shape[-1] // 2 if padded else 0
        planes = x.double()[None]
        if self.kind == TRANSPOSED:
            out = F.conv_transpose2d(planes, weight, bias, 2, padding, 1)
        else:
            stride = 2 if self.kind == HALVED else 1
            out = F.conv2d(planes, weight, bias, stride, padding, groups=self.groups)
        return out[0].long()

    def __call__(self, x: Tensor, tables: Tables, padded: bool = True) -> Tensor:
        """x int64 [C, h, w] -> activations int64 [C', h', w']."""
        out = self.requantiser(self.accumulate(x, padded).permute(1, 2, 0))
        if self.exponents is not None:
            out = tables.gelu(out, self.exponents)
        out = out.permute(2, 0, 1)
        return F.pixel_shuffle(out[None], 2)[0] if self.kind == SHUFFLED else out

    def rows(self, x: Tensor, tables: Tables) -> Tensor:
        """A 1x1 layer on single positions: int64 [n, C] -> [n, C']."""
        return self(x.T[:, :, None], tables)[:, :, 0].T

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Named arrays for storage; ``from_arrays`` reads them back."""
        arrays = {
            f"{prefix}.weight": self.weight,
            f"{prefix}.bias": self.bias,
            f"{prefix}.geometry": np.array([self.kind, self.groups], np.int32),
            **self.requantiser.to_arrays(f"{prefix}.requantise"),
        }
        return arrays if self.exponents is None else {**arrays, f"{prefix}.exponents": self.exponents}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], prefix: str) -> Layer:
        """Read what ``to_arrays`` wrote under the same prefix."""
        kind, groups = (int(v) for v in arrays[f"{prefix}.geometry"])
        requantiser = Requantiser.from_arrays(arrays, f"{prefix}.requantise")
        weight, bias = arrays[f"{prefix}.weight"], arrays[f"{prefix}.bias"]
        return cls(weight, bias, kind, groups, requantiser, arrays.get(f"{prefix}.exponents"))
