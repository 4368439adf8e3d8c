"""What families have in common whose latent y is coded as Gaussians under a hyperprior: z first, then y.

A family of this kind is a class of models, a converter to integers, and the checks that a stored file's integers belong
to its model. Everything else is here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from fastlic.codec import drivers
from fastlic.codec.calibration import default_calibration
from fastlic.codec.effort import refined as effort_of
from fastlic.codec.families.base import Backend, FamilyCoder, Preview, Size, Streams, frozen, sizes_of
from fastlic.codec.storage import StoredCodec
from fastlic.entropy.fitting import symbols_of
from fastlic.entropy.passes import LatentModel, Latents
from fastlic.entropy.rate import table_bits
from fastlic.entropy.zones import worth_at, zones_for
from fastlic.integers.conversion import Precision
from fastlic.integers.engines import Way
from fastlic.integers.fixed import MEAN_BITS
from fastlic.integers.transforms import IntegerTransforms, convert_transforms, extended
from fastlic.models.sizes import build, check_config
from fastlic.ops.latents import HYPER_STRIDE, Target

LATENT_STRIDE = 16  # image pixels per latent position
_CALIBRATED = 256  # pixels, in both directions, of what transforms are calibrated on


class Transforms(nn.Module):
    """The floating-point parts: g_a, g_s, h_a and the gains."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.g_a, self.g_s, self.h_a, self.gain = model.g_a, model.g_s, model.h_a, model.gain
        self.hyper_of_magnitude = getattr(model, "hyper_of_magnitude", False)


class GaussianCoder(FamilyCoder[Target, Latents]):
    """See :class:`FamilyCoder`.

    Class attributes:
        integers: class of the entropy model.
        columns: latents have a multiple of so many columns; a checkerboard needs both its colours in every row.
        memory: bytes that transforms take at their peak, over those of the largest map.
    """

    restored = ("g_a.*", "g_s.*", "h_a.*", "gain.log_*")
    deciding = ("g_s.*", "gain.log_inverse")
    integers: ClassVar[type[LatentModel]]
    columns: ClassVar[int] = 1
    memory: ClassVar[float]
    entropy: Any

    pixels: IntegerTransforms | None

    def __init__(self, model: Any, entropy: LatentModel, whole: bool, pixels: IntegerTransforms | None = None) -> None:
        self.family = model.family
        self.config: dict[str, Any] = model.config
        self.qualities = model.qualities
        self.entropy = entropy
        self.model: Any = model if whole else None
        self.transforms = frozen(Transforms(model))
        self.pixels = pixels
        # Float maps of so many channels, each with half the sides of the one before.
        self.bytes_per_pixel = self.memory * max(4 * c / 4 ** (depth + 1) for depth, c in enumerate(model.widths))

    @staticmethod
    @abstractmethod
    def convert(model: Any, images: Sequence[Tensor]) -> LatentModel:
        """The integers of a trained model, calibrated on images [3, H, W] in [0, 1]."""

    @abstractmethod
    def float_bits(self, latents: Latents) -> tuple[float, float]:
        """Bits of y and z under the float model, ``self.model``."""

    @classmethod
    def check_integers(cls, entropy: Any, family: str, config: dict[str, Any], floats: Mapping[str, Tensor]) -> None:
        """Raise ValueError unless the integers fit the configuration; asked before any module is made."""

    @classmethod
    @abstractmethod
    def check_model(cls, entropy: Any, model: Any) -> None:
        """Raise ValueError unless the integers fit the model."""

    @classmethod
    def from_model(cls, model: Any, images: Sequence[Tensor] | None) -> GaussianCoder:
        images = default_calibration() if images is None else images
        entropy = cls.convert(model, images)
        return cls(model, entropy, True).with_pixels(images)

    def convert_pixels(self, images: Sequence[Tensor], precision: Precision | None) -> IntegerTransforms:
        if not images:
            raise ValueError("calibration needs at least one image")
        some = sorted({1, (1 + self.qualities) // 2, self.qualities}) if self.qualities else None
        return convert_transforms(self.transforms, [_calibration(x) for x in images], precision, qualities=some)

    @classmethod
    def from_stored(cls, stored: StoredCodec) -> Self:
        entropy: Any = cls.integers.from_arrays(stored.integers)
        _ = entropy.engine  # checks every array
        model_class, floats = cls.models[stored.family], stored.floats
        check_config(model_class, stored.config)
        cls.check_integers(entropy, stored.family, stored.config, floats)
        made = IntegerTransforms.from_arrays(stored.transforms) if stored.transforms else None
        model = build(model_class, stored.config, floats, sizes_of(stored.integers) + sizes_of(stored.transforms))
        missing, _ = model.load_state_dict(floats, strict=False)
        buffers = dict(model.named_buffers())
        absent = [key for key in missing if key not in buffers]
        transforms = [key for key in absent if key.startswith(("g_a.", "g_s.", "h_a.", "gain."))]
        if made is not None:
            made.check_model(model)
            made.check()
            if transforms:
                made.restore(model)
        elif transforms:
            raise ValueError(f"weights are missing: {', '.join(transforms)}")
        cls.check_model(entropy, model)
        # Files for coding alone leave out the float entropy network; a model with random parts must not be handed out.
        return cls(model, entropy, not absent, made)

    def latent_size(self, size: Size) -> Size:
        """Rows and columns of y for an image of that size."""
        height, width = size
        return -(-height // LATENT_STRIDE), self.columns * -(-width // (self.columns * LATENT_STRIDE))

    def padded(self, size: Size) -> Size:
        rows, columns = self.latent_size(size)
        return LATENT_STRIDE * rows, LATENT_STRIDE * columns

    def analyse(
        self, pixels: Tensor, quality: float | None, threads: int, worth: float = 1.0, way: Way = "cpp"
    ) -> Target:
        assert self.pixels is not None
        whole = extended(pixels if way == "triton" else pixels.cpu(), *self.padded(_size(pixels)))
        y = self.pixels.analyse(whole, quality, threads=threads, backend=way)
        return Target(self.pixels.hyper(y, threads=threads, backend=way), y, self._zones(quality, worth))

    def apart(self, analysed: Target) -> list[Target]:
        return [Target(z, y, analysed.zones) for z, y in zip(analysed.z, analysed.y, strict=True)]

    def _zones(self, quality: float | None, worth: float) -> np.ndarray | None:
        gain: Any = self.transforms.gain
        return zones_for(worth_at(gain, quality, worth))

    def analyse_floats(self, parts: Transforms, image: Tensor, quality: float | None, worth: float = 1.0) -> Target:
        height, width = image.shape[1:]
        x = _pad(image[None], *self.padded((height, width))).contiguous(memory_format=torch.channels_last)
        y = parts.g_a(x)
        if quality is not None and parts.gain is not None:
            y = y * parts.gain(torch.tensor([quality], device=y.device))
        whole = (-(-length // HYPER_STRIDE) * HYPER_STRIDE for length in y.shape[2:])
        z = parts.h_a(_pad(y.abs() if parts.hyper_of_magnitude else y, *whole))
        return Target(z[0].cpu(), y[0].cpu(), zones_for(worth_at(parts.gain, quality, worth)))

    def refined(
        self, pixels: Tensor, analysed: Target, quality: float | None, effort: int, threads: int
    ) -> tuple[Target, tuple[list[bytes], Latents]]:
        if quality is None:
            raise ValueError(f"a codec of one fixed rate has effort 0 alone, got {effort}")
        coded = effort_of(self, pixels, analysed, quality, effort, threads)
        return coded.target, (coded.sections, coded.latents)

    def encode_many(
        self, analysed: Sequence[Target], backend: Backend, threads: int
    ) -> list[tuple[list[bytes], Latents]]:
        return drivers.encode_many(self.entropy, analysed, backend, threads)

    def sections_many(self, analysed: Sequence[Target], backend: Backend, threads: int) -> list[list[bytes]]:
        return drivers.sections_many(self.entropy, analysed, backend, threads)

    def decode_many(
        self, streams: Streams, backend: Backend, threads: int, preview: Preview, pixels_only: bool = False
    ) -> list[Latents]:
        sized = [(sections, *self.latent_size(size)) for sections, size in streams]
        groups = preview.get("slices")
        return drivers.decode_many(self.entropy, sized, backend, threads, groups, symbols=not pixels_only)

    def together(self, latents: Sequence[Latents]) -> Latents:
        return Latents(torch.stack([own.z for own in latents]), torch.stack([own.y for own in latents]))

    def synthesise(self, latents: Latents, quality: float | None, size: Size, threads: int, way: Way = "cpp") -> Tensor:
        assert self.pixels is not None
        return self.pixels.synthesise(latents.y, quality, size, threads=threads, backend=way)

    def synthesise_floats(
        self, parts: Transforms, latents: Latents, quality: float | None, size: Size, preview: Preview
    ) -> Tensor:
        device = next(parts.g_s.parameters()).device
        y = (latents.y.to(device).double() / 2**MEAN_BITS).float()[None]
        if quality is not None and parts.gain is not None:
            y = y * parts.gain.inverse(torch.tensor([quality], device=y.device))
        x: Tensor = parts.g_s(y.contiguous(memory_format=torch.channels_last))
        return x[0, :, : size[0], : size[1]]

    def sections_needed(self, preview: Preview) -> int:
        return int(self.entropy.sections)

    def named(self, latents: Latents) -> dict[str, Tensor]:
        return latents.named()

    def symbols(self, analysed: Target) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return symbols_of(self.entropy, analysed)

    def estimate(self, latents: Latents) -> dict[str, float]:
        y_bits, z_bits = self.float_bits(latents) if self.model is not None else table_bits(self.entropy, latents)
        return {"bits": y_bits + z_bits, "y_bits": y_bits, "z_bits": z_bits}


def _size(image: Tensor) -> Size:
    return image.shape[-2], image.shape[-1]


def _calibration(image: Tensor) -> Tensor:
    """A part of an image [3, H, W] that transforms are calibrated on: both sides whole multiples of z's stride."""
    height, width = (min(n, _CALIBRATED) for n in _size(image))
    stride = LATENT_STRIDE * HYPER_STRIDE
    part = image[None, :, :height, :width]
    return _pad(part, -(-height // stride) * stride, -(-width // stride) * stride)[0]


def _pad(x: Tensor, height: int, width: int) -> Tensor:
    """Repeat the last row and column of [N, C, H, W] up to that size."""
    return F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]), mode="replicate")
