"""The transforms of a Gaussian codec as integers: pixels to latents, latents to hyper latents, latents to pixels.

A quality multiplies what g_a gives and what g_s takes by gains, channel by channel. Both factors go into one
requantiser each, by operations of IEEE 754 alone: every machine finds the same integers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fastlic.forks import cached_property
from fastlic.integers.conversion import LATENT_UNIT, Precision, calibrated, convert
from fastlic.integers.engines import Engines, Way
from fastlic.integers.fixed import Requantiser
from fastlic.integers.floats import restore
from fastlic.integers.graph import Graph
from fastlic.integers.network import LATENT_BITS, PIXEL_BITS, LayerStep, Network

# Maps from which rounding learns: more of them change little.
_LEARNED = 27
# Qualities are counted in 16ths.
STEPS = 16


@dataclass(frozen=True)
class Gains:
    """Factors of each trained quality, and between them.

    Attributes:
        factors: float32 [qualities, M], positive and finite.
    """

    factors: np.ndarray

    def __post_init__(self) -> None:
        f = self.factors
        if f.dtype != np.float32 or f.ndim != 2 or 0 in f.shape or not (np.isfinite(f).all() and (f > 0).all()):
            raise ValueError("gains are float32 [qualities, M], positive and finite")

    def at(self, quality: float) -> np.ndarray:
        """float64 [M] at a quality in 16ths: geometric between whole ones, by square roots and products.

        Raises:
            ValueError: there is no such quality.
        """
        counted = quality * STEPS
        if counted != int(counted) or not 1 <= quality <= len(self.factors):
            raise ValueError(f"qualities are 1 to {len(self.factors)} in steps of 1/{STEPS}, got {quality}")
        low, k = divmod(int(counted) - STEPS, STEPS)
        out: np.ndarray = self.factors[low].astype(np.float64)
        if k == 0:
            return out
        ratio = self.factors[low + 1].astype(np.float64) / out
        for _ in range(4):
            ratio = np.sqrt(ratio)
        for _ in range(k):
            out = out * ratio
        return out

    def into(self, requantiser: Requantiser, quality: float) -> Requantiser:
        """A requantiser whose outputs are multiplied by the gains."""
        base = np.ldexp(requantiser.multiplier.astype(np.float64), -requantiser.shift.astype(np.int32))
        return Requantiser.from_factors(base * self.at(quality), requantiser.bits)


class RatedTransforms(ABC):
    """Networks of one codec that run on engines, at each of its qualities."""

    @property
    @abstractmethod
    def parts(self) -> tuple[Mapping[str, Network], Gains | None]:
        """The networks by name, and what one quality has and another has not; None for one fixed rate."""

    @property
    def qualities(self) -> range:
        """The whole ones; empty for one fixed rate."""
        gains = self.parts[1]
        return range(0) if gains is None else range(1, len(gains.factors) + 1)

    def _check_quality(self, quality: float | None) -> None:
        if (self.parts[1] is None) != (quality is None):
            raise ValueError(f"qualities are {list(self.qualities) or 'none'}, got {quality}")

    @cached_property
    def _engines(self) -> Engines:
        return Engines(self.parts[0])

    def check(self) -> None:
        """Make the engines. Raises ValueError for what they do not run."""
        _ = self._engines

    def way(self, backend: str) -> Way:
        """Which engines a codec's ``backend`` means: see ``Engines.way``."""
        return self._engines.way(backend)

    @staticmethod
    def _together(backend: str) -> bool:
        """Whether maps of one size go through it together; ValueError if there is no such backend."""
        if backend not in ("reference", "cpp", "triton"):
            raise ValueError(f"backend must be reference, cpp or triton, got {backend!r}")
        return backend == "triton"


@dataclass(frozen=True)
class IntegerTransforms(RatedTransforms):
    """See the module.

    Attributes:
        g_a: pixels [3, 16h, 16w] to latents [M, h, w].
        h_a: latents, or their magnitudes, to hyper latents [C, h/4, w/4].
        g_s: latents to pixels.
        forward, inverse: gains on what g_a gives and on what g_s takes; None for one fixed rate.
        of_magnitude: whether h_a reads magnitudes.

    Raises:
        ValueError: networks that do not fit each other.
    """

    g_a: Network
    h_a: Network
    g_s: Network
    forward: Gains | None = None
    inverse: Gains | None = None
    of_magnitude: bool = False

    def __post_init__(self) -> None:
        m = self.g_a.shapes[-1].channels
        sizes = [network.shapes[-1].sizes for network in (self.g_a, self.h_a, self.g_s)]
        if [sum(s) for s in sizes] != [-4, -2, 4] or any(len(set(s)) != 1 for s in sizes):
            raise ValueError("g_a divides sides by 16, h_a by 4, and g_s multiplies them by 16")
        inputs = [network.shapes[0].channels for network in (self.g_a, self.h_a, self.g_s)]
        if inputs != [3, m, m] or self.g_s.shapes[-1].channels != 3:
            raise ValueError(f"transforms of 3 and {m} channels are expected, got inputs of {inputs}")
        entries = [network.entry is not None for network in (self.g_a, self.h_a, self.g_s)]
        bits = [network.shapes[-1].bits for network in (self.g_a, self.h_a, self.g_s)]
        if entries != [False, True, True] or bits != [LATENT_BITS, LATENT_BITS, PIXEL_BITS]:
            raise ValueError("g_a reads pixels, the others latents; g_s gives pixels, the others latents")
        if self.g_a.exit is None or self.g_s.exit is None or bool(self.g_s.exit.negative.any()):
            raise ValueError("g_a and g_s end in layers, and no pixel is below 0")
        if (self.forward is None) != (self.inverse is None):
            raise ValueError("gains go both ways")
        for gains in (self.forward, self.inverse):
            if gains is not None and gains.factors.shape != (len(self.qualities), m):
                raise ValueError(f"gains are [{len(self.qualities)}, {m}], got {list(gains.factors.shape)}")

    @property
    def parts(self) -> tuple[Mapping[str, Network], Gains | None]:
        return {"g_a": self.g_a, "h_a": self.h_a, "g_s": self.g_s}, self.forward

    def analyse(
        self,
        pixels: Tensor,
        quality: float | None = None,
        *,
        threads: int = 1,
        backend: Literal["reference", "cpp", "triton"] = "cpp",
    ) -> Tensor:
        """Pixels uint8 [3, 16h, 16w] -> latents int32 [M, h, w] in units of 2^-6, gained.

        Args:
            threads: that the engine may use; the integers do not depend on it.
            backend: the plain reference; the engine; or ``triton``, which takes images of one size together, [B, 3,
                16h, 16w] on any device, and gives [B, M, h, w] on its own.

        Raises:
            ValueError: no such pixels or quality.
            BackendUnavailable: no device.
        """
        together = self._together(backend)
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 + together or pixels.shape[-2] % 16 or pixels.shape[-1] % 16:
            sizes = "[B, 3, 16h, 16w]" if together else "[3, 16h, 16w]"
            raise ValueError(f"expected uint8 {sizes}, got {pixels.dtype} {list(pixels.shape)}")
        self._check_quality(quality)

        def gained() -> Requantiser:
            return self._gained(self.g_a.exit, self.forward, quality)

        def changes() -> dict[str, np.ndarray]:
            return gained().to_arrays("g_a.exit")

        if backend != "reference":
            x = pixels if together else pixels.cpu()
            return self._engines.run("g_a", x, threads, quality=quality, changes=changes, way=backend)
        last = self.g_a.steps[-1]
        assert isinstance(last, LayerStep)
        step = LayerStep(replace(last.layer, requantiser=gained()))
        return replace(self.g_a, steps=(*self.g_a.steps[:-1], step))(pixels.long()).int()

    def hyper(
        self, latents: Tensor, *, threads: int = 1, backend: Literal["reference", "cpp", "triton"] = "cpp"
    ) -> Tensor:
        """Latents [M, h, w] in units of 2^-6 -> hyper latents int32 [C, h', w'] in the same, not rounded yet.

        Rows and columns are repeated up to multiples of 4. Other arguments, and batches, as for ``analyse``.
        """
        together, (rows, columns) = self._together(backend), (-n % 4 for n in latents.shape[-2:])
        whole = extended(latents.int(), latents.shape[-2] + rows, latents.shape[-1] + columns)
        if self.of_magnitude:
            whole = whole.abs()
        if backend == "reference":
            return self.h_a(whole.long()).int()
        return self._engines.run("h_a", whole if together else whole.cpu(), threads, way=backend)

    def synthesise(
        self,
        latents: Tensor,
        quality: float | None = None,
        size: tuple[int, int] | None = None,
        *,
        threads: int = 1,
        backend: Literal["reference", "cpp", "triton"] = "cpp",
    ) -> Tensor:
        """Latents [M, h, w] in units of 2^-6, gained -> pixels uint8 [3, 16h, 16w].

        Args:
            size: height and width of the pixels that are wanted, from the left and top; None: all.
            threads, backend: as for ``analyse``, batches too.
        """
        self._check_quality(quality)

        def gained() -> Requantiser:
            return self._gained(self.g_s.entry, self.inverse, quality)

        def changes() -> dict[str, np.ndarray]:
            return gained().to_arrays("g_s.entry")

        if backend != "reference":
            x = latents.int() if self._together(backend) else latents.int().cpu()
            return self._engines.run("g_s", x, threads, size=size, quality=quality, changes=changes, way=backend)
        height, width = size or (16 * latents.shape[1], 16 * latents.shape[2])
        return replace(self.g_s, entry=gained())(latents.long())[:, :height, :width].to(torch.uint8)

    def check_model(self, model: Any) -> None:
        """Raise ValueError unless these are of a model of that configuration."""
        own = (self.g_a.shapes[-1].channels, len(self.qualities), self.of_magnitude)
        expected = (model.M, model.qualities, getattr(model, "hyper_of_magnitude", False))
        if own != expected:
            raise ValueError(f"transforms of M, qualities, magnitudes = {own} for a model of {expected}")

    @staticmethod
    def _gained(requantiser: Requantiser | None, gains: Gains | None, quality: float | None) -> Requantiser:
        assert requantiser is not None
        return requantiser if gains is None or quality is None else gains.into(requantiser, quality)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Named arrays for storage; ``from_arrays`` reads them back."""
        arrays = self.g_a.to_arrays("g_a") | self.h_a.to_arrays("h_a") | self.g_s.to_arrays("g_s")
        arrays["h_a.magnitude"] = np.array([self.of_magnitude], np.uint8)
        if self.forward is not None and self.inverse is not None:
            arrays["gain.forward"] = self.forward.factors.view(np.int32)
            arrays["gain.inverse"] = self.inverse.factors.view(np.int32)
        return arrays

    def deciding(self) -> dict[str, np.ndarray]:
        """What pixels depend on: the arrays of g_s but for its units, and the gains on the way to it."""
        arrays = self.to_arrays()
        chosen = {name: array for name, array in arrays.items() if name.startswith("g_s.") and name != "g_s.units"}
        return chosen | {name: array for name, array in arrays.items() if name == "gain.inverse"}

    def restore(self, model: Any) -> None:
        """Set the float g_a, h_a, g_s and gains of a model, in place, to what these integers stand for.

        Raises:
            ValueError: networks without units, or of another model.
        """
        for name, network in (("g_a", self.g_a), ("h_a", self.h_a), ("g_s", self.g_s)):
            restore(getattr(model, name), name, network)
        if (self.forward is None) != (model.gain is None):
            raise ValueError("either the integers or the model have gains")
        if self.forward is not None and self.inverse is not None:
            with torch.no_grad():
                for table, gains in ((model.gain.log_gain, self.forward), (model.gain.log_inverse, self.inverse)):
                    if tuple(table.shape) != gains.factors.shape:
                        raise ValueError(f"gains are {list(table.shape)}, their integers {list(gains.factors.shape)}")
                    table.copy_(torch.from_numpy(np.log(gains.factors.astype(np.float64))))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> IntegerTransforms:
        """Read what ``to_arrays`` wrote.

        Raises:
            KeyError: an array is missing.
            ValueError: arrays that make no transforms.
        """
        g_a, h_a, g_s = (Network.from_arrays(arrays, name) for name in ("g_a", "h_a", "g_s"))
        forward, inverse = (
            Gains(arrays[key].view(np.float32)) if "gain.forward" in arrays else None
            for key in ("gain.forward", "gain.inverse")
        )
        magnitude = arrays["h_a.magnitude"]
        if magnitude.shape != (1,) or magnitude[0] not in (0, 1):
            raise ValueError(f"h_a.magnitude is 0 or 1, got {magnitude}")
        return cls(g_a, h_a, g_s, forward, inverse, bool(magnitude[0]))


def extended(x: Tensor, height: int, width: int) -> Tensor:
    """Maps [..., C, h, w] with their last row and column repeated up to that size; channels that lay last do so."""
    channels, rows, columns = x.shape[-3:]
    if (rows, columns) == (height, width):
        return x
    sides = (height, width, channels) if x.stride(-3) == 1 else (channels, height, width)
    out = x.new_empty(*x.shape[:-3], *sides)
    if x.stride(-3) == 1:
        out = out.movedim(-1, -3)
    out[..., :rows, :columns] = x
    out[..., :rows, columns:] = x[..., -1:]
    out[..., rows:, :] = out[..., rows - 1 : rows, :]
    return out


def convert_transforms(
    parts: Any,
    images: Sequence[Tensor],
    precision: Precision | None = None,
    qualities: Sequence[int] | None = None,
) -> IntegerTransforms:
    """The integers of trained transforms.

    Args:
        parts: with the float ``g_a``, ``g_s``, ``h_a`` and ``gain`` (or None), and ``hyper_of_magnitude``.
        images: for calibration, [3, H, W] in [0, 1], sides multiples of 64; every quality sees all of them.
        qualities: those that calibrate; None: all whole ones.
        precision: None: the default one.

    Raises:
        ValueError: a module that has no integer form, or a sum that could leave int32.
    """
    precision = precision or Precision()
    gain, g_a, h_a, g_s = parts.gain, *(Graph.of(getattr(parts, n), n) for n in ("g_a", "h_a", "g_s"))
    with torch.no_grad():
        pixels = [image[None].float() for image in images]
        levels = (
            [torch.tensor([float(q)]) for q in qualities or range(1, gain.qualities + 1)]
            if gain is not None
            else [None]
        )
        latents, gained, decoded = [g_a.run(x) for x in pixels], [], []
        for y in latents:
            for level in levels:
                forward, inverse = (1.0, 1.0) if level is None else (gain(level), gain.inverse(level))
                gained.append((y * forward).abs() if parts.hyper_of_magnitude else y * forward)
                decoded.append(torch.round(y * forward) * inverse)
        forward, inverse = (None, None) if gain is None else (_gains(gain.log_gain), _gains(gain.log_inverse))
        step = np.full(latents[0].shape[1], LATENT_UNIT)
        least = step if inverse is None else step * inverse.factors.min(0)
        made = [
            convert(graph, calibrated(graph, maps, _some(maps) if p.learned else ()), p, finest=unit, pixels_out=out)
            for graph, maps, p, unit, out in (
                (g_a, pixels, precision, None, False),
                (h_a, gained, precision, step, False),
                (g_s, decoded, precision, least, True),
            )
        ]
    return IntegerTransforms(made[0], made[1], made[2], forward, inverse, bool(parts.hyper_of_magnitude))


def _some(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """At most so many as rounding learns from, of all images and qualities."""
    return inputs[:: -(-len(inputs) // _LEARNED)]


def _gains(logarithms: Tensor) -> Gains:
    return Gains(logarithms.double().exp().float().cpu().numpy())
