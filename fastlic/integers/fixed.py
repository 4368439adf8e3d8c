"""Fixed-point arithmetic shared by every integer layer: number formats, requantisation, conversion of real factors.

All values between the decoded hyper latent and the coder are integers. Real numbers are represented as

    activation   real = a * s_c            |a| <= 2^(bits-1) - 1, s_c a per-channel scale known at export only
    accumulator  real = acc * t_o          int32, exact
    mean, latent real = v * 2^-MEAN_BITS   int32
    scale        real = v * 2^-SCALE_BITS  int32

and one operation moves between them: ``requantise``, a multiplication by a rational m / 2^shift with rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastlic.arguments import checked

FEW = 1 << 22  # values of a tensor that one thread is through with in some milliseconds
_OF_NUMPY = (torch.uint8, torch.int32, torch.int64, torch.float32, torch.float64)

# Means carry 6 fractional bits: an error of 2^-7 costs under 0.01 % of the rate even at the smallest scale, 0.11.
MEAN_BITS = 6
# Neighbouring scale levels differ by at least 0.0144, some 15 units of 2^-10.
SCALE_BITS = 10
# Means, latents and scales are clipped to +-(2^20 - 1) units: +-16383 for means, +-1023 for scales.
WIDE_BITS = 21
# Latents are clipped to +-(2^26 - 1) units, about a million: their product with a 30-bit multiplier stays in int64
# whatever symbols a hostile stream holds.
LATENT_LIMIT = (1 << 26) - 1
# 12-bit activations keep sums of 8,000 products with int8 weights below 2^31.
ACTIVATION_BITS = 12
ACTIVATION_LIMIT = (1 << (ACTIVATION_BITS - 1)) - 1
# Unseen images exceed the calibration's largest activations; what still does not fit is clipped, which costs rate only.
RANGE_MARGIN = 1.25

_MULTIPLIER_BITS = 30
_MAX_SHIFT = 62


def largest(bits: int) -> int:
    """The largest magnitude of a signed number of so many bits.

    Raises:
        ValueError: not 2 to 32 bits, which are all that integer paths know.
    """
    if not 2 <= bits <= 32:
        raise ValueError(f"numbers of the integer path have 2 to 32 bits, got {bits}")
    return (1 << (bits - 1)) - 1


@dataclass(frozen=True)
class Requantiser:
    """out = clip((acc * (multiplier if acc >= 0 else negative) + 2^(shift-1)) >> shift, +-(2^(bits-1) - 1)).

    Arrays are per output channel: multiplier and negative int32 (negative folds in a leaky ReLU's slope), shift uint8
    in 1..62. The product is formed in int64, the shift is arithmetic (floor).
    """

    multiplier: np.ndarray
    negative: np.ndarray
    shift: np.ndarray
    bits: int

    @property
    def limit(self) -> int:
        """Largest magnitude of an output."""
        return (1 << (self.bits - 1)) - 1

    @classmethod
    def from_factors(cls, factors: np.ndarray, bits: int, negative_slope: float = 1.0) -> Requantiser:
        """The requantiser nearest to multiplication by ``factors`` (float64 [C], > 0).

        Raises:
            ValueError: a factor is not positive and finite, or 2^29 and more.
        """
        factors = np.asarray(factors, np.float64)
        largest(bits)
        if not (np.isfinite(factors).all() and (factors > 0).all()):
            raise ValueError("requantisation factors must be positive and finite")
        _, exponent = np.frexp(factors)  # factor = m * 2^exponent with m in [1/2, 1)
        shift = np.minimum(_MULTIPLIER_BITS - exponent, _MAX_SHIFT)
        if (shift < 1).any():
            raise ValueError(f"requantisation factor {factors.max():.3g} is too large for a 30-bit multiplier")
        multiplier = np.minimum(np.rint(np.ldexp(factors, shift)), (1 << _MULTIPLIER_BITS) - 1)
        negative = np.rint(np.ldexp(factors * negative_slope, shift))
        return cls(multiplier.astype(np.int32), negative.astype(np.int32), shift.astype(np.uint8), bits)

    def __call__(self, acc: Tensor) -> Tensor:
        """acc int64 [..., C] -> int64 [..., C]."""
        multiplier, negative, shift = (torch.from_numpy(a.astype(np.int64)).to(acc.device) for a in self._arrays())
        product = acc * torch.where(acc >= 0, multiplier, negative)
        rounded = (product + (torch.ones_like(shift) << (shift - 1))) >> shift
        return rounded.clamp(-self.limit, self.limit)

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.multiplier, self.negative, self.shift

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Named arrays for storage; ``from_arrays`` reads them back."""
        names = ("multiplier", "negative", "shift")
        arrays = {f"{prefix}.{name}": array for name, array in zip(names, self._arrays(), strict=True)}
        return {**arrays, f"{prefix}.bits": np.array([self.bits], np.uint8)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> Requantiser:
        """Read what ``to_arrays`` wrote under the same prefix."""
        multiplier, negative, shift = (arrays[f"{prefix}.{name}"] for name in ("multiplier", "negative", "shift"))
        return cls(multiplier, negative, shift, int(arrays[f"{prefix}.bits"][0]))


@checked
def extremes(x: Tensor) -> tuple[float, float]:
    """The smallest and the largest value of a tensor of any shape; NaN, if there is one.

    Of a small tensor on the CPU by NumPy, on one thread: torch's others spin for milliseconds behind each operation,
    beside the threads of the C++ core that comes next.

    Raises:
        ValueError: no value at all.
    """
    if not x.numel():
        raise ValueError(f"expected a tensor of at least one value; got shape {tuple(x.shape)}")
    if x.device.type == "cpu" and x.dtype in _OF_NUMPY and x.numel() <= FEW:
        values = x.detach().numpy()
        return values.min().item(), values.max().item()
    low, high = torch.aminmax(x)
    return low.item(), high.item()


def fixed_point(y: Tensor, dtype: torch.dtype = torch.int64) -> Tensor:
    """A float latent as units of 2^-6, int64 or int32, clipped to what streams can hold; integers are in those already.

    Raises:
        ValueError: values that are not finite.
    """
    if not y.is_floating_point():
        within = y.numel() and all(abs(end) <= LATENT_LIMIT for end in extremes(y))
        return y.to(dtype) if within else y.long().clamp(-LATENT_LIMIT, LATENT_LIMIT).to(dtype)
    if not bool(torch.isfinite(y).all()):
        raise ValueError("the analysis transform produced values that are not finite: are the weights damaged?")
    # A multiplication by a power of two and rounding are exact in either precision; the limit is no float32.
    scaled = (y if y.dtype == torch.float64 else y.float()) * 2**MEAN_BITS
    return scaled.round_().clamp_(-LATENT_LIMIT - 1, LATENT_LIMIT + 1).to(dtype).clamp_(-LATENT_LIMIT, LATENT_LIMIT)


def reconstruct(symbols: Tensor, means: Tensor) -> Tensor:
    """The latent in units of 2^-6 from symbols and fixed-point means, all int64 of one shape."""
    return ((symbols << MEAN_BITS) + means).clamp(-LATENT_LIMIT, LATENT_LIMIT)


def quantise(latent: Tensor, means: Tensor, zones: Tensor | None = None) -> Tensor:
    """Symbols int64 nearest to latent - means, both in units of 2^-6; halves round up.

    Args:
        zones: by how much each difference comes nearer to zero first, but not past it (fastlic.entropy.zones).
    """
    difference = latent - means
    if zones is not None:
        difference = difference - difference.clamp(-zones, zones)
    return (difference + (1 << (MEAN_BITS - 1))) >> MEAN_BITS
