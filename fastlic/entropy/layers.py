"""Integer layers: convolution, transposed convolution and matrix product with int8 weights and int32 accumulators.

This is the plain reference that every engine and kernel must equal bit for bit. Integers are held in float64 and pass
through torch's own convolutions, which is exact in any order as long as every partial sum stays below 2^53;
``from_float`` proves the stronger int32 bound when a layer is made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.entropy.fixed import Requantiser, largest
from fastlic.entropy.rounding import round_rows

_INT32 = 2**31 - 1
_WEIGHT_LIMIT = 127


@dataclass(frozen=True)
class IntegerConv:
    """acc = bias + weight * input, then ``requantiser``.

    Attributes:
        weight: int8 [out, in, k, k]; for ``transposed`` [in, out, k, k], as torch stores it.
        bias: int32 [out].
        stride: 1 or 2.
        transposed: whether the layer multiplies the size by ``stride``.
        shuffle: 2 for a layer whose outputs, four for each channel, are the 2x2 cells of a map twice as large
            (sub-pixel convolution, in the order of torch's pixel_shuffle); 1 otherwise.
        input_bits: width of the activations it accepts.
        requantiser: from accumulators to the next layer's activations, leaky ReLU included.
    """

    weight: np.ndarray
    bias: np.ndarray
    stride: int
    transposed: bool
    input_bits: int
    requantiser: Requantiser
    shuffle: int = 1

    @classmethod
    def from_float(
        cls,
        weight: Tensor,
        bias: Tensor,
        input_scale: np.ndarray,
        input_bits: int,
        output_scale: np.ndarray,
        output_bits: int,
        *,
        stride: int = 1,
        transposed: bool = False,
        negative_slope: float = 1.0,
        shuffle: int = 1,
        moments: Tensor | None = None,
        biases_up_to: np.ndarray | None = None,
    ) -> IntegerConv:
        """Quantise a float layer.

        Args:
            weight, bias: as torch stores them; masked taps are zero.
            input_scale: float64 [in], the real value of one unit of each input channel.
            output_scale: float64 [out], the real value of one unit of each output channel, before any shuffling.
            negative_slope: slope of the leaky ReLU that follows, 1 for none.
            moments: ``second_moments`` of the real inputs of a plain convolution, for rounding that minimises the
                error of its outputs; without them every weight is rounded to the nearest.

            biases_up_to: float64 [out], magnitudes that biases put in place of these may have.

        Raises:
            ValueError: an accumulator could leave int32.
        """
        w = weight.detach().double().cpu().numpy()
        b = bias.detach().double().cpu().numpy()
        if transposed:
            w = w.swapaxes(0, 1)
        w = w * np.asarray(input_scale, np.float64)[None, :, None, None]  # [out, in, k, k] per unit of input
        unit = np.abs(w).max((1, 2, 3)) / _WEIGHT_LIMIT
        # A row of zeros, or one dwarfed by its bias, takes its unit from the bias instead.
        largest_bias = np.abs(b) if biases_up_to is None else np.maximum(np.abs(b), biases_up_to)
        unit = np.maximum(np.maximum(unit, largest_bias / 2**29), 1e-30)
        if moments is None:
            q = np.rint(w / unit[:, None, None, None]).clip(-_WEIGHT_LIMIT, _WEIGHT_LIMIT)
        else:
            per_unit = torch.from_numpy(np.append(np.repeat(input_scale, w[0, 0].size), 1.0)).reciprocal()
            rows, b_rows, units = (torch.from_numpy(a) for a in (w.reshape(len(w), -1), b, unit))
            q_rows, b_rows = round_rows(rows, b_rows, units, moments * per_unit * per_unit[:, None], _WEIGHT_LIMIT)
            q, b = q_rows.numpy().reshape(w.shape), b_rows.numpy()
        bias_q = np.rint(b / unit)
        reach = np.abs(q).sum((1, 2, 3)) * largest(input_bits) + np.abs(bias_q)
        if reach.max() > _INT32:
            raise ValueError(f"an accumulator could reach {reach.max():.0f}, beyond int32: use fewer input bits")
        if transposed:
            q = q.swapaxes(0, 1)
        factors = unit / np.asarray(output_scale, np.float64)
        requantiser = Requantiser.from_factors(np.maximum(factors, 2.0**-61), output_bits, negative_slope)
        q = np.ascontiguousarray(q.astype(np.int8))
        return cls(q, bias_q.astype(np.int32), stride, transposed, input_bits, requantiser, shuffle)

    def accumulate(self, x: Tensor) -> Tensor:
        """x int64 [C, h, w] -> accumulators int64 [C', h', w'], sizes as in the float layer; not shuffled yet."""
        weight = torch.from_numpy(self.weight).to(x.device, torch.float64)
        bias = torch.from_numpy(self.bias).to(x.device, torch.float64)
        padding = self.weight.shape[-1] // 2
        planes = x.double()[None]
        if self.transposed:
            out = F.conv_transpose2d(planes, weight, bias, self.stride, padding, self.stride - 1)
        else:
            out = F.conv2d(planes, weight, bias, self.stride, padding)
        return out[0].long()

    def __call__(self, x: Tensor) -> Tensor:
        """x int64 [C, h, w] -> requantised int64 [C', h', w']."""
        out = self.requantiser(self.accumulate(x).permute(1, 2, 0)).permute(2, 0, 1)
        return F.pixel_shuffle(out, self.shuffle) if self.shuffle > 1 else out

    def as_matrix(self) -> Tensor:
        """float64 [taps * in, out]: the kernel as one matrix over gathered inputs, tap by tap."""
        out, inputs = self.weight.shape[:2]
        columns = self.weight.reshape(out, inputs, -1).transpose(2, 1, 0).reshape(-1, out)
        return torch.from_numpy(columns.astype(np.float64))

    def split_inputs(self, first: int) -> tuple[IntegerConv, IntegerConv]:
        """Two layers whose accumulators add up to this one's: over inputs [:first] without, [first:] with bias."""
        head, tail = self.weight[:, :first], self.weight[:, first:]
        return replace(self, weight=head, bias=np.zeros_like(self.bias)), replace(self, weight=tail)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Named arrays for storage; ``from_arrays`` reads them back."""
        geometry = [self.stride, int(self.transposed), self.input_bits, self.shuffle]
        # Three numbers where nothing is shuffled: the fingerprints of models from before the fourth stay theirs.
        shape = np.array(geometry if self.shuffle > 1 else geometry[:3], np.uint8)
        own = {f"{prefix}.weight": self.weight, f"{prefix}.bias": self.bias, f"{prefix}.geometry": shape}
        return {**own, **self.requantiser.to_arrays(f"{prefix}.requantise")}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], prefix: str) -> IntegerConv:
        """Read what ``to_arrays`` wrote under the same prefix."""
        stride, transposed, bits, *shuffle = (int(v) for v in arrays[f"{prefix}.geometry"])
        requantiser = Requantiser.from_arrays(arrays, f"{prefix}.requantise")
        weight, bias = arrays[f"{prefix}.weight"], arrays[f"{prefix}.bias"]
        return cls(weight, bias, stride, bool(transposed), bits, requantiser, *shuffle)
