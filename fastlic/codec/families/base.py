"""What one model family contributes to a codec: the protocol that ``fastlic.Codec`` drives.

A codec knows images, streams, files and devices, and nothing of any model. All that depends on the family is a
:class:`FamilyCoder`: one small file in this folder and one line in its ``__init__``. An image takes this way:

    pixels [3, H, W] --analyse--> A --encode_many--> (sections, L)                    compress
    sections, (H, W) --decode_many--> L --synthesise--> pixels [3, H, W]              decompress

``A`` is whatever analysis yields (float latents, codebook indexes); ``L`` is what encoder and decoder must agree on to
the bit. Sections are byte strings; the container adds lengths and checksums, and a reader has verified them before
``decode_many`` sees a byte. The checksums find damage, not malice: ``decode_many`` treats sections as hostile.
"""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np
import torch.nn as nn
from torch import Tensor
from typing_extensions import Self

from fastlic.codec.calibration import default_calibration
from fastlic.codec.storage import StoredCodec
from fastlic.entropy.fingerprint import of_codec
from fastlic.integers.conversion import Precision
from fastlic.integers.engines import Way
from fastlic.models.layers import channels_last

Backend = Literal["auto", "reference", "cpp", "triton"]
Sections = Sequence[bytes]
Size = tuple[int, int]  # height, width in pixels
Streams = Sequence[tuple[Sections, Size]]
Preview = Mapping[str, int]  # what a caller asked for, e.g. {"levels": 1}; empty: the whole image

A = TypeVar("A")
L = TypeVar("L")


class EntropyIntegers(Protocol):
    """The frozen integers that encoder and decoder share: made once from the float model, stored, never recomputed."""

    def fingerprint(self) -> bytes:
        """8 bytes that name them (``fastlic.entropy.fingerprint.of_arrays``)."""

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Every integer under a stable name, for the codec file and the fingerprint."""


class PixelIntegers(Protocol):
    """The transforms of a codec as integers, made once from the float ones."""

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Every integer under a stable name, for the codec file."""

    def deciding(self) -> dict[str, np.ndarray]:
        """Those that a decoder's pixels depend on, for the fingerprint."""

    def way(self, backend: str) -> Way:
        """What runs them if ``backend`` was asked for (``fastlic.integers.engines.Engines.way``)."""


M = TypeVar("M", bound=nn.Module)


def frozen(module: M, copied: bool = True) -> M:
    """``module``, or a copy of it, as ``FamilyCoder.transforms`` wants it; convolution kernels lie channels-last."""
    parts = (copy.deepcopy(module) if copied else module).eval().requires_grad_(False)
    channels_last(parts)
    return parts


def sizes_of(arrays: Mapping[str, np.ndarray]) -> int:
    """How many numbers the arrays hold."""
    return sum(array.size for array in arrays.values())


class FamilyCoder(ABC, Generic[A, L]):
    """One set of weights of one family, as a codec uses it.

    Subclasses set, before the first use:

    Class attributes:
        models: family name (a key of ``container.MODEL_IDS``) -> class of fastlic.models, for every family served.
            A model's class has ``family`` (that name) and ``config`` (its constructor's arguments, as JSON holds them).
        restored: patterns of the names of weights that integers of transforms stand for.
        deciding: patterns (``fnmatch``) of the names, in ``floats``, of weights that the decoder reads: the pixels of a
            decoded image depend on these, and so does the codec's fingerprint.
        previews: option -> how many there are, e.g. ``{"levels": 3}``, if a stream can be decoded in part; a caller
            may then ask for 1 to that number. May be an instance attribute where it depends on the model.

    Attributes:
        family, config: which model.
        qualities: number of qualities that the weights serve, 0 for one fixed rate.
        entropy: the integers.
        pixels: the transforms as integers (a ``PixelIntegers``): they give the same pixels and files on every machine.
            None: files from before there were any, whose transforms are floats.
        transforms: the transforms as floats, on the CPU, in eval mode, without gradients (``frozen``). The codec keeps
            a copy per device and hands it back as ``parts``. Rounding in there cannot desynchronise a stream. Names in
            its state dict are those in the model's.
        model: the whole float model, or None if only its coding parts are at hand.
        bytes_per_pixel: memory that analysis or synthesis takes on the CPU at its peak, by padded pixel
            (``python -m fastlic.bench.memory`` measures it).
    """

    models: ClassVar[Mapping[str, type[nn.Module]]]
    restored: ClassVar[Sequence[str]] = ()
    deciding: ClassVar[Sequence[str]]
    previews: Mapping[str, int] = {}

    family: str
    config: dict[str, Any]
    qualities: int
    entropy: EntropyIntegers
    pixels: PixelIntegers | None = None
    transforms: nn.Module
    model: nn.Module | None
    bytes_per_pixel: float

    # ---- making one

    @classmethod
    @abstractmethod
    def from_model(cls, model: Any, images: Sequence[Tensor] | None) -> FamilyCoder[A, L]:
        """Convert a trained model: float32, on the CPU, in eval mode.

        Args:
            images: calibration images, each [3, H, W] float in [0, 1]; None: the caller named none.

        Raises:
            ValueError: the model cannot be converted; the message says why.
        """

    def with_context(self, context: nn.Module, images: Sequence[Tensor] | None) -> FamilyCoder[A, L]:
        """A coder of the same model with a context model that was trained apart from it, for families that have one.

        Args:
            context: float32, trained.
            images: calibration images as for :meth:`from_model`.

        Raises:
            TypeError, ValueError: there is no such context for this family, or it does not fit the model.
        """
        raise ValueError(f"models of family {self.family!r} have no context that is trained apart")

    def with_pixels(self, images: Sequence[Tensor] | None, precision: Precision | None = None) -> Self:
        """A coder of the same entropy integers whose transforms are integers, calibrated as for :meth:`from_model`."""
        made = copy.copy(self)
        images = default_calibration() if images is None else images
        made.pixels = self.convert_pixels(images, precision)
        return made

    @abstractmethod
    def convert_pixels(self, images: Sequence[Tensor], precision: Precision | None) -> PixelIntegers:
        """The integers of the float transforms, calibrated on images [3, H, W] in [0, 1]."""

    @classmethod
    @abstractmethod
    def from_stored(cls, stored: StoredCodec) -> Self:
        """Rebuild what a codec file holds: floats as :meth:`floats` gave them, integers and transforms as ``to_arrays``
        of ``entropy`` and ``pixels`` did; no transforms: of an earlier release.

        Nothing is recomputed: the fingerprint of the result is the stored one.

        Raises:
            ValueError: the arrays do not fit the description.
        """

    def floats(self, training: bool) -> dict[str, Tensor]:
        """Float tensors for the codec file, by state-dict name.

        Args:
            training: include what only training and estimates read, where this coder has it; and float transforms,
                which a file for coding alone has as integers.
        """
        source = self.model if self.model is not None and training else self.transforms
        kept = {k: v for k, v in source.state_dict().items() if v.is_floating_point() and v.numel()}
        if training or self.pixels is None:
            return kept
        return {k: v for k, v in kept.items() if not any(fnmatchcase(k, pattern) for pattern in self.restored)}

    def fingerprint(self) -> bytes:
        """8 bytes over all that decides over pixels (``fastlic.entropy.fingerprint.of_codec``)."""
        integers = dict(self.entropy.to_arrays())
        floats: dict[str, np.ndarray] = {}
        if self.pixels is not None:
            integers |= {f"transforms/{name}": array for name, array in self.pixels.deciding().items()}
        else:
            floats = {
                name: value.detach().float().cpu().numpy()
                for name, value in self.floats(training=False).items()
                if any(fnmatchcase(name, pattern) for pattern in self.deciding)
            }
        defaults = inspect.signature(self.models[self.family]).parameters
        # Without defaults: an argument that a later release adds changes no name of what exists.
        config = {name: value for name, value in self.config.items() if value != defaults[name].default}
        return of_codec(self.family, config, integers, floats)

    # ---- coding

    @abstractmethod
    def padded(self, size: Size) -> Size:
        """Height and width in pixels that an image of ``size`` is coded as: what analysis and synthesis work on."""

    @abstractmethod
    def analyse(self, pixels: Tensor, quality: float | None, threads: int, worth: float = 1.0, way: Way = "cpp") -> A:
        """Pixels uint8 [3, H, W], any H, W >= 1, on the CPU -> what ``encode_many`` codes, by ``self.pixels``.

        Padding is the family's own business. ``worth``: factor of what a unit of squared error is taken to be worth, in
        families with dead zones (fastlic.entropy.zones); others do not heed it. ``way``: ``"triton"`` takes images of
        one size together, [B, 3, H, W] on any device, and so does what it gives lie together.
        """

    @abstractmethod
    def apart(self, analysed: A) -> list[A]:
        """Each image of what was analysed together."""

    def analyse_many(
        self, pixels: Tensor, quality: float | None, threads: int, worth: float = 1.0, backend: Backend = "auto"
    ) -> list[A]:
        """The same of images of one size, uint8 [B, 3, H, W] on any device: together where ``backend`` runs transforms
        on a device (``Engines.way``), one after the other elsewhere."""
        assert self.pixels is not None
        if (way := self.pixels.way(backend)) == "triton":
            return self.apart(self.analyse(pixels, quality, threads, worth, way))
        return [self.analyse(one.cpu().contiguous(), quality, threads, worth) for one in pixels]

    @abstractmethod
    def analyse_floats(self, parts: Any, image: Tensor, quality: float | None, worth: float = 1.0) -> A:
        """The same of an image [3, H, W] in [0, 1] on the device of ``parts``, by these; under ``torch.no_grad()``."""

    def refined(
        self, pixels: Tensor, analysed: A, quality: float | None, effort: int, threads: int
    ) -> tuple[A, tuple[list[bytes], L]]:
        """What an effort from 1 on makes of an analysis of the same pixels, and what ``encode_many`` gives of that.

        Raises:
            ValueError: this family, or this codec, has effort 0 alone.
        """
        raise ValueError(f"codecs of family {self.family!r} have effort 0 alone, got {effort}")

    @abstractmethod
    def encode_many(self, analysed: Sequence[A], backend: Backend, threads: int) -> list[tuple[list[bytes], L]]:
        """(sections, latents that the decoder will see) of each image; bytes depend on neither backend nor threads.

        Raises:
            ValueError: an unknown backend.
        """

    def sections_many(self, analysed: Sequence[A], backend: Backend, threads: int) -> list[list[bytes]]:
        """The sections that ``encode_many`` gives, in no more memory."""
        return [sections for sections, _ in self.encode_many(analysed, backend, threads)]

    @abstractmethod
    def decode_many(
        self, streams: Streams, backend: Backend, threads: int, preview: Preview, pixels_only: bool = False
    ) -> list[L]:
        """Latents of each image from its sections and its size.

        With a ``preview`` only the first ``sections_needed(preview)`` sections are given. With ``pixels_only`` they go
        to ``synthesise`` or ``synthesise_floats`` and nowhere else.

        Raises:
            CorruptStreamError: the sections do not hold exactly these latents. Memory that is allocated before that is
                known stays in proportion to the bytes that came.
        """

    @abstractmethod
    def together(self, latents: Sequence[L]) -> L:
        """Those of images of one size as ``synthesise`` takes them with ``way="triton"``."""

    @abstractmethod
    def synthesise(self, latents: L, quality: float | None, size: Size, threads: int, way: Way = "cpp") -> Tensor:
        """Pixels uint8 [3, H, W] by ``self.pixels``; they depend on nothing but the arguments. ``way``: as of
        ``analyse``."""

    def synthesise_many(
        self, latents: Sequence[L], quality: float | None, size: Size, threads: int, backend: Backend = "auto"
    ) -> list[Tensor]:
        """The same of images of one quality and size, as ``analyse_many``; where pixels are made, they stay."""
        assert self.pixels is not None
        if (way := self.pixels.way(backend)) == "triton":
            return list(self.synthesise(self.together(latents), quality, size, threads, way))
        return [self.synthesise(one, quality, size, threads) for one in latents]

    @abstractmethod
    def synthesise_floats(self, parts: Any, latents: L, quality: float | None, size: Size, preview: Preview) -> Tensor:
        """The image [3, H, W], roughly in [0, 1] (the codec clips), on the device of ``parts``; under no_grad."""

    @abstractmethod
    def sections_needed(self, preview: Preview) -> int:
        """How many leading sections a decode reads: all sections of a stream for an empty ``preview``."""

    # ---- looking inside

    @abstractmethod
    def named(self, latents: L) -> dict[str, Tensor]:
        """The latents as int64 tensors by name, for whoever compares both sides."""

    def symbols(self, analysed: A) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """(table rows uint8, symbols int64) of z and y, both [count], as ``encode_many`` codes them.

        Raises:
            ValueError: this family's latents have no scales.
        """
        raise ValueError(f"codecs of family {self.family!r} code no symbols of z and y")

    @abstractmethod
    def estimate(self, latents: L) -> dict[str, float]:
        """Bits that an ideal coder would need: ``bits``, and its parts as ``<name>_bits``."""
