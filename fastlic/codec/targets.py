"""What an encoder may aim at in place of a quality: a rate, a size or a PSNR, found by a search over qualities.

One search serves every way in. It knows two functions, a quality's bytes and the PSNR of bytes, and takes both for
rising with quality: ln(bytes) and PSNR are nearly straight lines over it, so few encodes find the place. What a
sixteenth of a quality leaves is met by dead zones: the upper of two qualities with wider ones (fastlic.entropy.zones).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from fastlic import config
from fastlic.arguments import checked, is_number
from fastlic.codec.container import QUALITY_STEPS, round_quality

Kind = Literal["target_bpp", "target_bytes", "target_psnr"]
TARGETS: tuple[Kind, ...] = get_args(Kind)

# Close enough to stop: 1 % of a rate, 0.05 dB; the last 1 % of a budget. A sixteenth of a quality is some 2.3 % or 0.09
# dB.
_CLOSE = {"target_bpp": math.log(1.01), "target_bytes": math.log(1.01), "target_psnr": 0.05}
# By how much an offset falls with the logarithm of worth, roughly; how far that goes, and how many encodes.
_GIVES = {"target_bpp": 0.1, "target_bytes": 0.1, "target_psnr": 0.4}
_LEAST_WORTH, _FINER = math.log(0.4), 3
# What all qualities of a codec span, roughly: where the first guess leads to the second.
_SPANS = {"target_bpp": 2.6, "target_bytes": 2.6, "target_psnr": 10.0}
_BEST = 200.0  # dB, in place of infinity for an image that comes back as it was


class Goal(NamedTuple):
    """What is aimed at.

    Attributes:
        kind: whose argument it was.
        value: bits per pixel, bytes of the whole file, or dB over RGB of the whole 8-bit image.
    """

    kind: Kind
    value: float


class Found(NamedTuple):
    """What a search ends with.

    Attributes:
        data: the file.
        quality: it was made at, with wider dead zones or not.
        encodes: how many it took.
    """

    data: bytes
    quality: float
    encodes: int


def goal_of(quality: Any, target_bpp: Any = None, target_bytes: Any = None, target_psnr: Any = None) -> Goal | None:
    """The one target that was given; None: there is none, and a quality decides.

    Raises:
        TypeError: a target that is no number.
        ValueError: more than one of quality and targets, or a target that no file can have.
    """
    targets: dict[Kind, Any] = {"target_bpp": target_bpp, "target_bytes": target_bytes, "target_psnr": target_psnr}
    given = [(kind, value) for kind, value in targets.items() if value is not None]
    if not given:
        return None
    if len(given) > 1 or quality is not None:
        names = [*(["quality"] if quality is not None else []), *(kind for kind, _ in given)]
        raise ValueError(f"one of quality and the targets decides, got {' and '.join(names)}")
    kind, value = given[0]
    if isinstance(value, bool) or not is_number(value):
        raise TypeError(f"{kind} must be a number, got {type(value).__name__}")
    if not 0 < value < math.inf:
        raise ValueError(f"{kind} must be above 0 and finite, got {value}")
    return Goal(kind, float(value))


@checked
def quality_of(quality: Any, qualities: int) -> float:
    """A quality as a file holds it, a multiple of 1/16.

    Args:
        quality: from 1 to ``qualities``; None: 4, or the last of fewer.
        qualities: how many the codec serves, at least one.

    Raises:
        TypeError: no number.
        ValueError: a number outside that range.
    """
    if quality is None:
        quality = min(config.DEFAULT_QUALITY, qualities)
    if isinstance(quality, bool) or not is_number(quality):
        raise TypeError(f"quality must be a number from 1 to {qualities}, got {type(quality).__name__}")
    if not 1 <= quality <= qualities:
        raise ValueError(f"quality must be from 1 to {qualities}, got {quality}")
    return round_quality(quality)


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """10 log10(255^2 / MSE) in dB over all samples of two uint8 images of one shape; infinite if they are equal."""
    if not all(isinstance(x, np.ndarray) and x.dtype == np.uint8 for x in (a, b)) or a.shape != b.shape or not a.size:
        raise ValueError("psnr compares uint8 images of one shape")
    mse = float(np.square(a.astype(np.int32) - b).mean(dtype=np.float64))
    return 10 * math.log10(255**2 / mse) if mse else math.inf


@checked
def search(
    goal: Goal,
    encode: Callable[[float, float], bytes],
    psnr_of: Callable[[bytes], float],
    qualities: int,
    pixels: int,
    start: float | None = None,
    finer: bool = True,
) -> Found:
    """The file whose rate or PSNR is nearest to a target; for ``target_bytes`` the best that is not larger.

    Args:
        encode: bytes at a quality, a multiple of 1/16 from 1 to ``qualities``, and a factor of what squared error is
            worth, 1 or below, which codecs without dead zones do not heed.
        psnr_of: dB of a file; asked for ``target_psnr`` only.
        pixels: height x width.
        start: a quality to begin at; None: the middle one.
        finer: whether factors below 1 are tried between two qualities that are a sixteenth apart.

    Raises:
        ValueError: the target is out of reach; the message says what the first and the last quality give. A
            ``target_bytes`` beyond the last quality's bytes is met by that quality.
    """
    if not isinstance(goal, Goal):
        raise TypeError(f"goal must be a Goal, got {type(goal).__name__}")
    if not 1 <= qualities < 1 << 16:
        raise ValueError(f"qualities must be a whole number from 1 to 65535, got {qualities}")
    if start is not None and not math.isfinite(start):
        raise ValueError(f"start must be a quality, got {start}")
    found = _Search(goal, encode, psnr_of, qualities, pixels, finer)
    return found.run(None if start is None else round(start * QUALITY_STEPS))


class _Search:
    """Places are qualities in sixteenths; a place's offset is how far above the target it lies."""

    def __init__(
        self,
        goal: Goal,
        encode: Callable[[float, float], bytes],
        psnr_of: Callable[[bytes], float],
        qualities: int,
        pixels: int,
        finer: bool,
    ) -> None:
        self.goal, self.encode, self.psnr_of, self.pixels, self.finer = goal, encode, psnr_of, pixels, finer
        self.first, self.last = QUALITY_STEPS, QUALITY_STEPS * qualities
        self.files: dict[int, bytes] = {}
        self.offsets: dict[int, float] = {}
        self.encodes = 0

    def run(self, start: int | None) -> Found:
        place = min(max(start or (self.first + self.last) // 2, self.first), self.last)
        while True:
            offset = self.offset(place)
            if self.close(offset):
                return self.found(place)
            low = max((p for p, o in self.offsets.items() if o <= 0), default=None)
            high = min((p for p, o in self.offsets.items() if o > 0 and (low is None or p > low)), default=None)
            if low is None and place == self.first:
                raise ValueError(self.out_of_reach())
            if low == self.last:
                if self.goal.kind != "target_bytes":
                    raise ValueError(self.out_of_reach())
                return self.found(low)
            if low is not None and high == low + 1:
                return self.between(low, high)
            place = self.guess(low, high)

    def close(self, offset: float) -> bool:
        """Whether that is near enough to stop; what exceeds a budget never is."""
        return abs(offset) <= _CLOSE[self.goal.kind] and (offset <= 0 or self.goal.kind != "target_bytes")

    def between(self, low: int, high: int) -> Found:
        """The nearest of two neighbours, and of the upper one with wider dead zones."""
        made = [(self.offsets[place], Found(self.files[place], place / QUALITY_STEPS, 0)) for place in (low, high)]
        aim = -_CLOSE["target_bytes"] / 2 if self.goal.kind == "target_bytes" else 0.0
        worth, above, slope = 0.0, self.offsets[high], _GIVES[self.goal.kind]  # worth: its logarithm
        for _ in range(_FINER if self.finer else 0):
            further = max(worth - (above - aim) / slope, _LEAST_WORTH)
            if further >= 0 or further == worth:
                break
            data = self.made(high / QUALITY_STEPS, math.exp(further))
            offset = self.offset_of(data)
            made.append((offset, Found(data, high / QUALITY_STEPS, 0)))
            if self.close(offset) or data == self.files[high]:  # no dead zones
                break
            measured = (above - offset) / (worth - further)
            worth, above, slope = further, offset, max(measured, slope / 4)
        if self.goal.kind == "target_bytes":
            offset, best = max((one for one in made if one[0] <= 0), key=lambda one: one[0])
        else:
            offset, best = min(made, key=lambda one: abs(one[0]))
        return best._replace(encodes=self.encodes)

    def made(self, quality: float, worth: float = 1.0) -> bytes:
        self.encodes += 1
        return self.encode(quality, worth)

    def offset_of(self, data: bytes) -> float:
        """How far above the target a file lies."""
        if self.goal.kind == "target_psnr":
            return min(self.psnr_of(data), _BEST) - self.goal.value
        unit = self.pixels / 8 if self.goal.kind == "target_bpp" else 1
        return math.log(len(data) / (self.goal.value * unit))

    def guess(self, low: int | None, high: int | None) -> int:
        """Where a line through what is known meets the target, and always a new place between its neighbours."""
        if low is not None and high is not None:
            below, above = self.offsets[low], self.offsets[high]
            share = 0.5 if len(self.offsets) > 5 else below / (below - above)
            return min(max(round(low + share * (high - low)), low + 1), high - 1)
        known = high if low is None else low
        assert known is not None
        slope = _SPANS[self.goal.kind] / max(self.last - self.first, 1)
        if len(self.offsets) > 1:
            (p, a), (q, b) = sorted(self.offsets.items())[:: len(self.offsets) - 1]
            slope = max((b - a) / (q - p), slope / 8)
        ahead = max(math.ceil(abs(self.offsets[known]) / slope), 1)  # rather too far than too near: a bracket
        return max(known - ahead, self.first) if low is None else min(known + ahead, self.last)

    def offset(self, place: int) -> float:
        if place not in self.offsets:
            self.files[place] = data = self.made(place / QUALITY_STEPS)
            self.offsets[place] = self.offset_of(data)
        return self.offsets[place]

    def found(self, place: int) -> Found:
        return Found(self.files[place], place / QUALITY_STEPS, self.encodes)

    def out_of_reach(self) -> str:
        gives, does = [], "takes"
        for place in (self.first, self.last):
            quality = place // QUALITY_STEPS
            self.offset(place)  # makes the file
            if self.goal.kind == "target_psnr":
                does = "reaches"
                gives.append(f"{min(self.psnr_of(self.files[place]), _BEST):.2f} dB at quality {quality}")
            else:
                size = len(self.files[place])
                bpp = f"{8 * size / self.pixels:.4f} bpp, " if self.goal.kind == "target_bpp" else ""
                gives.append(f"{bpp}{size:,} bytes at quality {quality}")
        return f"{self.goal.kind}={self.goal.value:g} is out of reach: this image {does} {' and '.join(gives)}"
