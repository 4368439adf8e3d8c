"""CompressAI's g_a, h_a and g_s as networks of integers: conversion, and ``forward`` through their engines.

Pixels, latents and hyper latents are then the same on every machine that holds the same conversion. What a network
does not serve (a GPU but under ``backend="triton"``, another precision, gradients, training, tracing, autocast) the
module's floats do, as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.codec.calibration import default_calibration
from fastlic.eager import uncompiled
from fastlic.entropy.fingerprint import of_arrays
from fastlic.errors import CodecFileError, ModelMismatchError
from fastlic.forks import held_off
from fastlic.integers.conversion import LATENT_UNIT, nearest
from fastlic.integers.engines import Engines, Way
from fastlic.integers.fixed import fixed_point
from fastlic.integers.graph import Graph
from fastlic.integers.network import LATENT_BITS, PIXEL_BITS, Network
from fastlic.integers.ranges import Ranges
from fastlic.integrations.compressai import traces  # noqa: F401  (adds CompressAI's layers to the table)
from fastlic.integrations.compressai.integers import (
    IMAGE_STRIDE,
    STORED_TRANSFORMS,
    Cache,
    Calibration,
    Digests,
    _copy,
    digest_of,
    divided,
    fitted,
    read_arrays,
)
from fastlic.integrations.compressai.settings import Settings
from fastlic.integrations.compressai.snapshot import Snapshot
from fastlic.integrations.compressai.stages import analysis_of
from fastlic.integrations.compressai.swap import is_compiled, state_of
from fastlic.models.inference import servable


@dataclass
class IntegerTransform:
    """The integers of one transform.

    Attributes:
        name: path of the module in its model; the last part, g_a, h_a or g_s, says what goes in and out.
        arrays: of the network, under the prefix "n".
        digest: of the weights that they were made of, at half precision, as files have it.
        origin: on what ranges were measured, in words.
        snapshot: tells every change of the weights.
    """

    name: str
    arrays: dict[str, np.ndarray]
    digest: int
    origin: str
    cache: Cache = field(default_factory=Cache)
    snapshot: Snapshot | None = None

    @property
    def kind(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def engines(self) -> Engines:
        """Those of this network, whose name there is its kind. Raises ValueError for arrays that they do not run."""
        if "engines" not in self.cache.values:
            self.cache.values["engines"] = Engines({self.kind: self.reference})
        made: Engines = self.cache.values["engines"]
        return made

    @property
    def reference(self) -> Network:
        """The plain definition, as ``backend="reference"`` runs it."""
        if "reference" not in self.cache.values:
            self.cache.values["reference"] = Network.from_arrays(self.arrays, _PREFIX)
        made: Network = self.cache.values["reference"]
        return made

    def fingerprint(self) -> bytes:
        """Of the integers."""
        return of_arrays(self.arrays)

    def check(self, module: nn.Module) -> None:
        """Raise ModelMismatchError if the weights are no longer those that were converted."""
        if self.snapshot is None and digest_of(module.parameters()) == self.digest:  # pickled by an older fastlic
            self.watch(module)
        changed = "all of them" if self.snapshot is None else self.snapshot.change([(self.name, module)])
        if changed:
            raise ModelMismatchError(
                f"the weights of {self.name} changed after fastlic.accelerate(model, transforms='integer') "
                f"({changed}): call it again, so that they are converted anew, or fastlic.restore(model)"
            )

    def watch(self, module: nn.Module) -> IntegerTransform:
        """From now on tell changes of ``module``; returns itself."""
        self.snapshot = Snapshot.of([(self.name, module)], (self.name,))
        return self

    def __call__(self, x: Tensor, settings: Settings) -> Tensor:
        """float32 [B, C, h, w] to float32 [B, C', h', w'] on the same device; ``Engines.way`` says where between.

        g_a reads pixels in [0, 1], rounded to 8 bits, the others latents, rounded to 2^-6; g_s gives pixels, n / 255,
        the others latents in units of 2^-6.

        Raises:
            ValueError: values that are not finite, another number of channels, or, of g_a and g_s, maps that windows
                do not fill. Those of h_a go on as zeros: decoders have its outputs, however they came about.
        """
        if self.kind != "g_a":
            given = fixed_point(x, torch.int32)
        elif bool(torch.isfinite(x).all()):
            given = (x * 255).round_().clamp_(0, 255).to(torch.uint8)
        else:
            raise ValueError("the image holds values that are not finite")
        if (way := self.engines.way(settings.backend)) == "triton":
            out = self._run(given, settings, way)
        else:
            out = torch.stack([self._run(own, settings, way) for own in given.cpu()])
        out = out.to(x.device).float()
        return divided(out, 255) if self.kind == "g_s" else out.mul_(LATENT_UNIT)

    def _run(self, x: Tensor, settings: Settings, way: Way) -> Tensor:
        def run(x: Tensor) -> Tensor:
            if settings.backend == "reference":
                return self.reference(x.long())
            return self.engines.run(self.kind, x, settings.threads, way=way)

        if self.kind == "h_a":
            return self.reference.on_whole_windows(x, run)
        try:
            return run(x)
        except ValueError as error:
            side = self.reference.multiple
            if self.kind == "g_s" or not any(own % side for own in x.shape[-2:]):
                raise
            how = f"pad images to multiples of {side} (compressai.ops.compute_padding)"
            raise ValueError(f"{error}: {how}") from error


_PREFIX = "n"


@dataclass(frozen=True)
class Refusal:
    """Why a transform of weights with this ``digest`` stayed float; files tell it, as only calibration may show it."""

    name: str
    digest: int
    reason: str


class FastIntegerTransform:
    """A g_a, h_a or g_s whose floats a network of integers stands in for."""

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        module: Any = self
        if not (args or kwargs or module.training or torch.is_grad_enabled()):
            out = _by_integers(module, x)
            if out is not None:
                return out
        return super().forward(x, *args, **kwargs)  # type: ignore[misc]


@uncompiled  # which would take the floats, and other numbers with them
@held_off
def _by_integers(module: nn.Module, x: Any) -> Tensor | None:
    """None where the module's floats are to run."""
    weight = next(module.parameters(), None)  # replicas of DataParallel have none of their own
    state = state_of(module)
    devices = ("cpu", "cuda") if state.settings.backend == "triton" else ("cpu",)
    if weight is None or not servable(x, weight, devices) or not len(x):
        return None
    integers: IntegerTransform = state.transform
    integers.check(module)
    return integers(x, state.settings)


# ---- conversion


@dataclass
class Converter:
    """The transforms of one model to integers, in the order g_a, h_a, g_s: calibration goes through all of them.

    Args:
        model: with an analysis transform.
        calibration: images, or the path of a conversion that holds transforms.
        of_magnitude: whether h_a reads magnitudes.
        stride: images have sides that are multiples of it.
    """

    model: Any
    calibration: Calibration
    of_magnitude: bool = False
    stride: int = IMAGE_STRIDE
    _latents: list[Tensor] = field(default_factory=list)

    def convert(self, name: str, module: nn.Module) -> IntegerTransform:
        """One of them.

        Raises:
            ValueError: something has no integer form, or had none when the file was made.
            CodecFileError: a file that is damaged, or holds no integers of this transform.
            ModelMismatchError: a file of other weights.
        """
        if is_compiled(module):
            raise ValueError(f"{name} is compiled: accelerate first, then torch.compile")
        if own := [path for path, inner in module.named_modules() if "forward" in vars(inner)]:
            raise ValueError(f"{'.'.join([name, own[0]]).rstrip('.')} has a forward of its own")
        twin = _copy(module, name)
        graph = Graph.of(twin, name)
        if isinstance(self.calibration, (str, Path)):
            return _read(Path(self.calibration), name, module, graph)
        try:
            return self._converted(name, twin, graph)
        except RuntimeError as error:  # shapes that do not fit each other
            raise ValueError(f"it does not run on calibration images: {error}") from error

    @torch.no_grad()
    def _converted(self, name: str, module: nn.Module, graph: Graph) -> IntegerTransform:
        kind = name.rpartition(".")[2]
        inputs, ranges = list(self._inputs(kind)), Ranges()
        outputs = [graph.run(x, ranges) for x in inputs]
        if graph.traced:
            check_reading(outputs[0], module(inputs[0]), name)
        if kind == "g_a":
            self._latents = outputs
        graph.end(outputs[0].shape[1])  # an exit, whose own unit is given
        images = "the demonstration photo" if self.calibration is None else f"images given, {len(inputs) - 1},"

        def transform(network: Network, bits: int = 0) -> IntegerTransform:
            arrays = {key: array for key, array in network.to_arrays(_PREFIX).items() if key != f"{_PREFIX}.units"}
            origin = f"{bits} bits, ranges of {images} and strong colours"
            return IntegerTransform(name, arrays, digest_of(module.parameters()), origin)

        def error(network: Network) -> float:
            expected = outputs[0].clamp(0, 1) if kind == "g_s" else outputs[0]
            return float((transform(network)(inputs[0], Settings("native")) - expected).square().mean())

        finest = None if kind == "g_a" else np.full(inputs[0].shape[1], LATENT_UNIT)
        return transform(*nearest(graph, ranges, error, {"finest": finest, "pixels_out": kind == "g_s"}))

    def _inputs(self, kind: str) -> Iterator[Tensor]:
        """What calibration brings to a transform: float32 [1, C, h, w] each."""
        if kind == "g_a":
            yield from self._images()
            return
        if not self._latents:
            analysis = _copy(analysis_of(self.model), "g_a")
            self._latents = [analysis(x) for x in self._images()]
        for y in self._latents:
            if kind == "h_a":
                yield y.abs() if self.of_magnitude else y
            else:
                yield torch.round(y)

    def _images(self) -> Iterator[Tensor]:
        assert not isinstance(self.calibration, (str, Path))
        given = _photos() if self.calibration is None else self.calibration
        for image in (*given, _colours()):
            yield fitted(image, self.stride)


def check_reading(found: Tensor, expected: Tensor, name: str) -> None:
    """Raise ValueError unless a graph gives what its module gives."""
    if found.shape != expected.shape or bool((found - expected).abs().max() > 1e-4 * expected.abs().max()):
        raise ValueError(f"what was read of {name} does not compute what it computes")


def _photos() -> list[Tensor]:
    """The demonstration photo in its usual three ways, and crops of strong colours: it has few."""
    photos = default_calibration()
    crop = photos[0][:, 64:320, 128:512]
    grey = crop.mean(0, keepdim=True)
    return [*photos, *((grey + 3 * (crop.roll(turn, 0) - grey)).clamp(0, 1) for turn in (1, 2))]


def _colours() -> Tensor:
    """Soft patches of black, white and the six full colours, which few photos have and some reach."""
    bits = np.random.RandomState(0).randint(0, 2, (1, 3, 8, 12)).astype(np.float32)
    return F.interpolate(torch.from_numpy(bits), scale_factor=32, mode="bicubic")[0].clamp(0, 1)


# ---- files: beside the integers of the entropy path, under names of their own


def stored(transforms: Sequence[IntegerTransform], refused: Sequence[Refusal]) -> tuple[dict[str, np.ndarray], Digests]:
    """Their arrays by the names that files have for them, and the digests of their weights: words, and lines."""
    arrays = {
        f"{STORED_TRANSFORMS}{own.name}.{key}": np.ascontiguousarray(array)
        for own in transforms
        for key, array in own.arrays.items()
    }
    words = " ".join(f"{own.name}:{own.digest:08x}" for own in transforms)
    lines = "\n".join(f"{own.name}:{own.digest:08x} {' '.join(own.reason.split())}" for own in refused)
    return arrays, {"transforms": words, "refused": lines}


def _read(path: Path, name: str, module: nn.Module, graph: Graph) -> IntegerTransform:
    arrays, about = read_arrays(path)
    told = [(word, "") for word in str(about.get("transforms", "")).split()]
    told += [line.partition(" ")[::2] for line in str(about.get("refused", "")).splitlines()]
    known = {word.rpartition(":")[0]: (word.rpartition(":")[2], reason) for word, reason in told if ":" in word}
    if name not in known:
        raise CodecFileError(
            f"{path} holds no integers of {name}: save it from accelerate(model, ..., transforms='integer')"
        )
    digest, (of, reason) = digest_of(module.parameters()), known[name]
    if of != f"{digest:08x}":
        raise ModelMismatchError(f"{path} is the conversion of other weights of {name} ({of}; {digest:08x} here)")
    if reason:
        raise ValueError(reason)
    prefix = f"{STORED_TRANSFORMS}{name}."
    own = {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}
    made = IntegerTransform(name, own, digest, f"read from {path}")
    try:
        _check_fits(made, graph)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise CodecFileError(f"{path} holds no integers of this model's {name}: {error}") from error
    return made


def _check_fits(made: IntegerTransform, graph: Graph) -> None:
    """Raise ValueError unless the network has the steps of the module's graph, and ends of its kind."""
    _ = made.engines
    network, kind = made.reference, made.kind
    if (network.entry is None) != (kind == "g_a"):
        raise ValueError("it reads latents where pixels are, or pixels where latents are")
    if network.exit is None or network.exit.bits != (PIXEL_BITS if kind == "g_s" else LATENT_BITS):
        raise ValueError("it gives latents where pixels are, or pixels where latents are")
    if graph.reads != list(network.reads)[: len(graph.reads)]:
        raise ValueError("its steps are not those of the module")
