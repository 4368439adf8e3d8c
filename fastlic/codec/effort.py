"""Effort: what an encoder does beyond one pass, for smaller files of the same format.

Of Gaussian families: the latent that g_a gives is a good guess of what to code and no more. Two tools move it, in turns
with real coding:

- A return: what g_s makes of the coded latent goes through g_a once more, and by what came back otherwise the latent is
  moved the other way. Integers alone, so files are the same on every machine.
- Descents: the gradient of the squared error of the decoded pixels, and of the bits of what a context sees, by the
  latent that was coded, leads to where each value would best lie while all others stay. The latent goes a part of the
  way there; after a try without gain a smaller part. Floats: another machine may find another file, whose decoding is
  as exact as ever.

Dead zones round as ever (fastlic.entropy.zones). What counts is 8 bytes + price x squared error, of real bytes and of
the pixels that a decoder shows; the best of all that were coded is kept, level 0 among them.

Of McQuic with a context (fastlic.entropy.code_context): words of the finest level are chosen by their squared distance
and their bits under the context, in coding order, where an encoder without effort takes those of a table; and returns
move the vectors that words are chosen for. Deeper levels follow from the new words. Integers, and floats that are one
operation of IEEE 754 each, so files are the same on every machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastlic.arguments import checked
from fastlic.codec.calibration import default_calibration
from fastlic.entropy.codes import CodeTables
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.wavefront import CONTEXT_TAPS
from fastlic.integers.fixed import MEAN_BITS, SCALE_BITS, Requantiser
from fastlic.integers.layer import Layer, convolve
from fastlic.integers.transforms import extended
from fastlic.models import bfloat16
from fastlic.models.density import SCALE_BOUND
from fastlic.models.mcquic.quantizer import BIT
from fastlic.ops.code_context import choose_codes
from fastlic.ops.latents import Target

EFFORTS = 9


@dataclass(frozen=True)
class Level:
    """What one effort does.

    Attributes:
        checked: whether the result is compared with what there was before, and the best kept.
        descents: how many.
        context: whether they heed what the context sees.
        returns: how many, of McQuic.
    """

    checked: bool = True
    descents: int = 0
    context: bool = True
    returns: int = 1


LEVELS = (
    None,
    Level(checked=False),
    Level(checked=False),
    Level(),
    Level(),
    Level(),
    Level(descents=2, context=False, returns=3),
    Level(descents=4, returns=3),
    Level(descents=8, returns=3),
    Level(descents=16, returns=3),
)

_RETURNED = 0.5  # of what words and what comes back of them differ by, in the first return of McQuic
_SHARE = 0.4  # of the way to where values would best lie, at first
_SHORTER = 0.6  # what becomes of it where that led too far: neighbours move as well
_REACH = 1.0  # how far that may be in one direction: errors are no parabolas for long
_PROBE = 0.5  # half the distance between the latents whose gradients tell the curvature
_CURVED = (0.75, 1.05)  # of curvatures, at the first and the last quality: the best of some on photos
_CALIBRATED = 256  # pixels in both directions of the photo on which price and curvature are measured
_NEIGHBOUR = 0.5  # qualities between which the price is measured, around the one in hand
_RAREST = 2.0**-16
_EXACT = 256  # squares of 8 bits whose sums float32 holds exactly, in whatever order: under 2^24
_BAND, _HALO = 64, 8  # rows of latents that a gradient is made for at once, and those around them that it needs

# Told after each step: how many are done, of how many. A command sets it to show how far it is.
WATCH: ContextVar[Callable[[int, int], None] | None] = ContextVar("WATCH", default=None)


class Coded(NamedTuple):
    """One coding of an image.

    Attributes:
        target: what was coded.
        sections: its bytes.
        latents: as the decoder will see them; of McQuic the target itself.
    """

    target: Any
    sections: list[bytes]
    latents: Any

    @property
    def bits(self) -> int:
        return 8 * sum(map(len, self.sections))


class _Worth(NamedTuple):
    """Of one quality, measured on the package's photo.

    Attributes:
        price: bits that a unit of squared error of a sample is worth: the slope of the codec's own curve.
        curvature: float32 [M, 1, 1], second derivative of the squared error by a value of the latent, made somewhat
            smaller at low qualities, where few values are coded; None: unknown.
    """

    price: float
    curvature: Tensor | None


@checked
def refined(coder: Any, pixels: Tensor, target: Any, quality: float, effort: int, threads: int) -> Coded:
    """What an image is coded as at an effort.

    Args:
        coder: a GaussianCoder with integer transforms and qualities, or a McQuicCoder that has a context, too.
        pixels: uint8 [3, H, W].
        target: of ``coder.analyse``.
        effort: 1 to 9.
        threads: of the engines; torch has its own.
    """
    if not callable(getattr(coder, "analyse", None)):
        raise TypeError(f"coder must be that of a family, got {type(coder).__name__}")
    level = LEVELS[effort]
    if level is None:
        raise ValueError(f"an effort that does something is from 1 to {EFFORTS}, got {effort}")
    kind = _refiner_of(coder)
    if not isinstance(target, kind.target):
        raise TypeError(f"target must be what coder.analyse gave, got {type(target).__name__}")
    return kind(coder, pixels, quality, threads, level).run(target)


def _refiner_of(coder: Any) -> type[_Refiner]:
    return _OfWords if isinstance(coder.entropy, CodeTables) else _OfGaussians


class _Refiner(ABC):
    """Tries of one image, from what was coded and what a decoder shows of it.

    Class attributes:
        target: class of what is coded.
    """

    target: ClassVar[type]

    def __init__(self, coder: Any, pixels: Tensor, quality: float, threads: int, level: Level) -> None:
        self.coder, self.quality, self.threads, self.level = coder, quality, threads, level
        self.height, self.width = pixels.shape[1:]  # what counts: no decoder shows the padding
        self.pixels = pixels
        self.done, self.steps = 0, 1 + self.tries

    @property
    @abstractmethod
    def tries(self) -> int:
        """How many there are behind the first return."""

    @abstractmethod
    def returned(self, coded: Coded, shown: Tensor) -> Any:
        """The target of the first return."""

    @abstractmethod
    def goal(self, coded: Coded, shown: Tensor) -> Any:
        """Where all would best lie, as one coding tells."""

    @abstractmethod
    def toward(self, goal: Any, share: float, coded: Coded) -> Any:
        """The target a share of the way there."""

    def run(self, target: Any) -> Coded:
        before = self.code(target)
        shown = self.shown(before.latents)
        there = self.code(self.returned(before, shown))
        self.tell()
        if not self.level.checked:
            return there
        price = _worth(self.coder, self.quality, self.threads, curved=self.curved).price
        best, least = before, self.cost(before, shown, price)
        again = self.shown(there.latents)
        if (cost := self.cost(there, again, price)) < least:
            best, least, shown = there, cost, again
        share, goal = _SHARE, None  # what was tried without gain is tried again nearer, by the same gradient
        for _ in range(self.tries):
            if goal is None:
                goal = self.goal(best, shown)
            there = self.code(self.toward(goal, share, best))
            again = self.shown(there.latents)
            if (cost := self.cost(there, again, price)) < least:
                best, least, shown, goal = there, cost, again, None
            else:
                share *= _SHORTER
            self.tell()
        return best

    def tell(self) -> None:
        self.done += 1
        if (watch := WATCH.get()) is not None:
            watch(self.done, self.steps)

    def code(self, target: Any) -> Coded:
        ((sections, latents),) = self.coder.encode_many([target], "auto", self.threads)
        return Coded(target, sections, latents)

    def shown(self, latents: Any) -> Tensor:
        """uint8, the pixels that a decoder shows, of the padding too where it is on the right and below."""
        size = (self.pixels.shape[1], self.pixels.shape[2])
        shown: Tensor = self.coder.synthesise(latents, self.quality, size, self.threads)
        return shown

    def cost(self, coded: Coded, shown: Tensor, price: float) -> float:
        """Bits, those that the error is worth among them."""
        counted = (slice(None), slice(self.height), slice(self.width))
        return coded.bits + price * squared_error(shown[counted], self.pixels[counted])

    @property
    def curved(self) -> bool:
        """Whether curvatures are needed."""
        return False


class _OfGaussians(_Refiner):
    target = Target

    def __init__(self, coder: Any, pixels: Tensor, quality: float, threads: int, level: Level) -> None:
        super().__init__(coder, pixels, quality, threads, level)
        self.pixels = extended(pixels, *coder.padded((self.height, self.width)))
        self.features: Tensor | None = None

    @property
    def tries(self) -> int:
        return self.level.descents

    @property
    def curved(self) -> bool:
        return self.level.descents > 0

    def returned(self, coded: Coded, shown: Tensor) -> Target:
        returned = self.coder.pixels.analyse(shown, self.quality, threads=self.threads)
        target: Target = coded.target
        return target._replace(y=target.y.int() + coded.latents.y - returned)

    def toward(self, goal: Tensor, share: float, coded: Coded) -> Target:
        target: Target = coded.target
        latent = target.y.float() / 2**MEAN_BITS
        moved = latent + share * (goal - latent)
        return target._replace(y=(moved * 2**MEAN_BITS).round().int())

    @torch.enable_grad()
    def goal(self, coded: Coded, shown: Tensor) -> Tensor:
        """float32 [M, h, w]: where each value of the coded latent would best lie while the others stay."""
        worth = _worth(self.coder, self.quality, self.threads, curved=True)
        assert worth.curvature is not None
        latent = coded.latents.y.float() / 2**MEAN_BITS
        error = 2 * (shown.float() - self.pixels.float())
        error[:, self.height :] = error[:, :, self.width :] = 0
        slope = _error_gradient(self.coder.transforms, latent, error, self.quality)
        if self.level.context and (twin := _twin(self.coder)) is not None:
            if self.features is None:  # every coding has the same z
                self.features = self.coder.entropy.hyper_features(coded.latents.z.long(), *latent.shape[1:]).float()
            slope = slope + twin.gradient(latent, self.features) / worth.price
        return latent - (slope / worth.curvature).clamp_(-_REACH, _REACH)


class _OfWords(_Refiner):
    """Of McQuic: words of the finest level are chosen by their bits under the context, for vectors that returns move.

    Vectors are float32, but all that is done with them is one operation of IEEE 754 at a time.
    """

    target = list

    def __init__(self, coder: Any, pixels: Tensor, quality: float, threads: int, level: Level) -> None:
        super().__init__(coder, pixels, quality, threads, level)
        self.vectors, self.rest = coder.pixels.finest(pixels, quality, threads=threads)
        # The last channel holds what a bit costs; a negative price would ask for the dearest words.
        self.prices = np.maximum(np.float32(-2 * BIT) * self.vectors[..., -1], np.float32(0))
        self.words = np.ascontiguousarray(coder.pixels.words[0].floats.numpy()[..., :-1])

    @property
    def tries(self) -> int:
        return self.level.returns - 1

    def returned(self, coded: Coded, shown: Tensor) -> list[Tensor]:
        return self.toward(self.goal(coded, shown), _RETURNED, coded)

    def goal(self, coded: Coded, shown: Tensor) -> np.ndarray:
        """float32 [h, w, m, d - 1]: by how much words that were coded differ from what comes back of them."""
        back, _ = self.coder.pixels.finest(shown, self.quality, threads=self.threads)
        rows = coded.latents[0].permute(1, 2, 0).numpy()
        own: np.ndarray = self.words[np.arange(len(self.words)), rows]
        return own - back[..., :-1]

    def toward(self, goal: np.ndarray, share: float, coded: Coded) -> list[Tensor]:
        moved = self.vectors[..., :-1] + np.float32(share) * goal
        finest = torch.from_numpy(choose_codes(moved, self.words, self.prices, self.coder.entropy.context)).long()
        return [finest, *self.coder.pixels.below(finest, self.rest, self.quality, threads=self.threads)]


@checked
def squared_error(a: Tensor, b: Tensor) -> int:
    """Sum of squared differences of two uint8 images of one shape, exact."""
    differences = np.subtract(a.numpy(), b.numpy(), dtype=np.int16).ravel().astype(np.float32)
    whole = len(differences) // _EXACT * _EXACT
    parts = (differences[:whole].reshape(-1, _EXACT), differences[None, whole:])
    return sum(int(np.einsum("ij,ij->i", part, part).sum(dtype=np.float64)) for part in parts)


def _worth(coder: Any, quality: float, threads: int, curved: bool) -> _Worth:
    """Measured once for each quality of a codec; curvatures when they are first asked for."""
    known: dict[float, _Worth] = vars(coder.pixels).setdefault("_worths", {})
    worth = known.get(quality)
    if worth is None or (curved and worth.curvature is None):
        part = default_calibration()[0][:, :_CALIBRATED, :_CALIBRATED]
        pixels = (part * 255).round().to(torch.uint8)
        if worth is None:
            points = []
            for near in (max(quality - _NEIGHBOUR, 1.0), min(quality + _NEIGHBOUR, float(coder.qualities))):
                one = _refiner_of(coder)(coder, pixels, near, threads, Level())
                coded = one.code(coder.analyse(pixels, near, threads))
                points.append((coded.bits, squared_error(one.shown(coded.latents), pixels)))
            (fewer, worse), (more, better) = points
            worth = _Worth(max(more - fewer, 1) / max(worse - better, 1), None)
        if curved:
            one = _OfGaussians(coder, pixels, quality, threads, Level())
            latents = one.code(coder.analyse(pixels, quality, threads)).latents
            curvature = _curvature(coder.transforms, latents.y, pixels, quality)
            scale = np.interp(quality, (1, max(coder.qualities, 2)), _CURVED)
            worth = worth._replace(curvature=curvature * float(scale))
        known[quality] = worth
    return worth


@torch.enable_grad()
def _curvature(parts: Any, coded: Tensor, pixels: Tensor, quality: float) -> Tensor:
    """float32 [M, 1, 1] from gradients on both sides of a latent, int32 in units of 2^-6, in a random direction."""
    latent = coded.float() / 2**MEAN_BITS
    signs = torch.randint(0, 2, latent.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    slopes = []
    for side in (_PROBE, -_PROBE):
        probe = (latent + side * signs)[None].requires_grad_(True)
        made = parts.g_s(probe * parts.gain.inverse(torch.tensor([quality])))[0]
        slopes.append(torch.autograd.grad((made * 255 - pixels.float()).square().sum(), probe)[0][0])
    curvature = ((slopes[0] - slopes[1]) * signs).mean((1, 2), keepdim=True) / (2 * _PROBE)
    return curvature.clamp_min(curvature.mean() / 16)


def _error_gradient(parts: Any, latent: Tensor, error: Tensor, quality: float) -> Tensor:
    """Gradient of the pixels' squared error by a gained latent [M, h, w], from that by the pixels [3, 16h, 16w].

    In bands of rows, so that memory follows the width; in bfloat16 where the processor multiplies those.
    """
    inverse = parts.gain.inverse(torch.tensor([quality]))
    slope = torch.empty_like(latent)
    rows, stride = latent.shape[1], error.shape[1] // latent.shape[1]
    for first in range(0, rows, _BAND):
        last = min(first + _BAND, rows)
        top, bottom = max(first - _HALO, 0), min(last + _HALO, rows)
        part = latent[None, :, top:bottom].clone().requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16.supported(torch.device("cpu"))):
            made = parts.g_s((part * inverse).contiguous(memory_format=torch.channels_last))
        sent = 255 * error[None, :, stride * top : stride * bottom].to(made.dtype)
        slope[:, first:last] = torch.autograd.grad(made, part, sent)[0][0, :, first - top : last - top]
    return slope


class _FloatLayer:
    """An integer layer without its rounding, which has gradients."""

    def __init__(self, layer: Layer, weight: np.ndarray | None = None) -> None:
        self.weight = torch.from_numpy(layer.weight if weight is None else weight).float()
        self.bias, self.kind = torch.from_numpy(layer.bias).float(), layer.kind
        self.requantise = _Unrounded(layer.requantiser)

    def __call__(self, x: Tensor) -> Tensor:
        return self.requantise(convolve(x, self.weight, self.bias, self.kind))


class _Unrounded:
    """A requantiser without its rounding."""

    def __init__(self, requantiser: Requantiser) -> None:
        unit = np.ldexp(1.0, -requantiser.shift.astype(np.int32))
        self.above, self.below = (
            torch.from_numpy((factor * unit).astype(np.float32))[:, None, None]
            for factor in (requantiser.multiplier, requantiser.negative)
        )
        self.limit = float(requantiser.limit)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, x * self.above, x * self.below).clamp(-self.limit, self.limit)


class _Twin:
    """Hyper synthesis, context and parameters of an integer model, as floats with gradients."""

    def __init__(self, model: IntegerEntropyModel) -> None:
        assert model.context is not None and model.y_input is not None
        taps = model.context.weight
        kernel = np.zeros((*taps.shape[:2], 5, 5), np.float32)
        for tap, (row, column) in enumerate(CONTEXT_TAPS):
            kernel[:, :, row + 2, column + 2] = taps[:, :, tap, 0]
        self.y_input = _Unrounded(model.y_input)
        self.context = _FloatLayer(model.context, kernel)
        self.parameters = [_FloatLayer(layer) for layer in model.parameters]

    def gradient(self, latent: Tensor, features: Tensor) -> Tensor:
        """Of the bits of a coded latent [M, h, w] by what the context sees of it; its symbols stay.

        Args:
            features: float [C, h, w], the hyperprior's.
        """
        seen = latent[None].clone().requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16.supported(torch.device("cpu"))):
            x = torch.cat([features[None], self.context(self.y_input(seen * 2**MEAN_BITS))], 1)
            for layer in self.parameters:
                x = layer(x)
        scales, means = x.float().chunk(2, 1)
        bits = _bits(latent - means / 2**MEAN_BITS, scales / 2**SCALE_BITS)
        return torch.autograd.grad(bits.sum(), seen)[0][0]


def _bits(differences: Tensor, scales: Tensor) -> Tensor:
    inverse = 0.5**0.5 / scales.clamp_min(SCALE_BOUND)
    distance = differences.abs()
    shares = 0.5 * (torch.erfc((distance - 0.5) * inverse) - torch.erfc((distance + 0.5) * inverse))
    return -torch.log2(shares.clamp_min(_RAREST))


def _twin(coder: Any) -> _Twin | None:
    """None for models whose context is another one than ``IntegerEntropyModel`` has."""
    model = coder.entropy
    if not isinstance(model, IntegerEntropyModel) or model.context is None or model.offsets is not None:
        return None
    twin: _Twin = vars(model).get("_context_twin") or _Twin(model)
    vars(model)["_context_twin"] = twin
    return twin
