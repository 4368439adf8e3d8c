"""Codec: a trained model, its frozen entropy integers, and the way from image tensors to ``.flic`` bytes and back.

What depends on the model's family is in ``fastlic.codec.families``; here is what all of them share.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from fastlic import config
from fastlic.arguments import as_device, checked, is_whole
from fastlic.codec import container, storage
from fastlic.codec.container import KINDS, Metadata
from fastlic.codec.effort import EFFORTS
from fastlic.codec.families import BY_FAMILY, PREVIEWS, Backend, FamilyCoder
from fastlic.codec.images import (
    ANY_CHANNELS,
    as_batch,
    as_float,
    as_images,
    as_pixels,
    check_dtype,
    check_range,
    colours,
    with_channels,
)
from fastlic.codec.sources import Picturable, Stream, picture_of, streams_of
from fastlic.codec.targets import Found, Goal, goal_of, psnr, quality_of, search
from fastlic.errors import CodecFileError, CorruptStreamError, ModelMismatchError, memory_errors
from fastlic.forks import held_off
from fastlic.integers.conversion import Precision
from fastlic.models.defaults import undisturbed
from fastlic.models.state_files import MALFORMED
from fastlic.ops.plane import plane_decode, plane_encode

Bytes = container.Bytes
Transforms = Literal["integer", "float"]
_SINGLE = (bytes, bytearray, memoryview)
# Of a batch, as many images go through a stage together as have this many pixels: enough for every thread, and what is
# held between the stages does not grow with the batch.
_TOGETHER = 1 << 24

_RESERVED = 1 << 18  # pixels from which on memory is asked for beforehand
_KERNELS = 16 << 20  # bytes beside the maps: oneDNN's code and scratch


@dataclass(frozen=True)
class Analysis:
    """One image between the transforms and the coder: what :meth:`Codec.analyse` gives and :meth:`Codec.encode` takes.

    Attributes:
        target: of Gaussian families ``(z, y, zones)``: [N, hz, wz] and [M, h, w] on the CPU, gains applied, not yet
            rounded: int32 in units of 2^-6, or float32 of float transforms; int32 [64], the dead zones by scale index
            in units of 2^-6, or None (fastlic.entropy.zones).
            Of McQuic int64 codes [m, h, w], one tensor per level, the finest level first.
        header: as the stream will have it: quality, height and width of the image, the codec's fingerprint.
        attachments: kinds and bytes, coded alpha and metadata, as the stream will have them.
        coded: sections and latents, where an effort has made them already.
    """

    target: Any
    header: container.Header
    attachments: tuple[tuple[int, bytes], ...] = ()
    coded: tuple[list[bytes], Any] | None = None


@dataclass(frozen=True)
class _Read:
    """A stream that was read and may be decoded."""

    header: container.Header
    sections: list[bytes]
    alpha: bytes | None


class Codec:
    """Compresses and decompresses images with one set of weights.

    Args:
        model: a trained model of ``fastlic.models`` (or a state dict loaded through its ``from_state_dict``), of any
            floating type, on any device. The codec takes a copy, float32, on the CPU, in eval mode; the model itself
            stays as it is, and what is done to it later changes no codec.
        calibration: images [3, H, W] on which the ranges of the integer entropy path are measured, float in [0, 1] or
            uint8; a handful of varied photographs. Default: the package's own demonstration photo, or what the model
            itself remembers of its training images.
        name: what the codec calls itself in messages; default: the family's name.
        context: for McQuic, a trained ``fastlic.models.mcquic.context.CodeContext``: it codes the finest level's codes,
            with fewer bits than tables would take. It is copied, too.

    Raises:
        TypeError: another kind of model or context.
        ValueError: a model that cannot be converted, no calibration images, or a context that does not fit the model.

    Attributes:
        fingerprint: 8 bytes that name all that decides over the pixels of a decoded image: its streams carry them.
        entropy_fingerprint: 8 bytes that name the entropy integers alone, as streams of format version 1 do.
        reads: fingerprints of other codecs whose streams it decodes too: predecessors with the same entropy integers.
            May be set; ``save`` stores it.

    The conversion to integers happens here, once. ``save`` stores its result and ``fastlic.load`` reads it back, so the
    same file gives the same streams on every machine.
    """

    @undisturbed
    @held_off
    @checked
    def __init__(
        self,
        model: nn.Module,
        calibration: Sequence[Tensor] | None = None,
        name: str | None = None,
        context: nn.Module | None = None,
    ) -> None:
        coder = BY_FAMILY.get(str(getattr(model, "family", "")))
        if coder is None or not isinstance(model, tuple(coder.models.values())):
            known = ", ".join(BY_FAMILY)
            raise TypeError(f"expected a model of fastlic.models ({known}); got {type(model).__name__}")
        images = None if calibration is None else [as_batch(x)[0].cpu() for x in calibration]
        made = coder.from_model(copy.deepcopy(model).float().cpu().eval(), images)
        self._setup(made if context is None else made.with_context(context, images), name)

    @classmethod
    def _of(cls, coder: FamilyCoder[Any, Any], name: str | None, reads: tuple[bytes, ...] = ()) -> Codec:
        """A codec of a coder that is made already."""
        codec = cls.__new__(cls)
        codec._setup(coder, name, reads)
        return codec

    def _setup(self, coder: FamilyCoder[Any, Any], name: str | None, reads: tuple[bytes, ...] = ()) -> None:
        self.name: str = name or coder.family
        self._coder = coder
        self.fingerprint: bytes = coder.fingerprint()
        self.entropy_fingerprint: bytes = coder.entropy.fingerprint()
        self.reads: tuple[bytes, ...] = reads
        self._transforms: dict[str, Any] = {"cpu": coder.transforms}

    @property
    def family(self) -> str:
        """Which kind of model, e.g. ``"jahp"``; the container stores its number."""
        return self._coder.family

    @property
    def config(self) -> dict[str, Any]:
        """The model's constructor arguments."""
        return self._coder.config

    @property
    def qualities(self) -> int:
        """How many qualities the weights serve; 0: one fixed rate."""
        return self._coder.qualities

    @property
    def entropy(self) -> Any:
        """The frozen integers, e.g. an ``IntegerEntropyModel``."""
        return self._coder.entropy

    @property
    def pixels(self) -> Any:
        """The transforms as integers, an ``IntegerTransforms`` of Gaussian families; None: only floats are there."""
        return self._coder.pixels

    @property
    def model(self) -> nn.Module | None:
        """The whole float model, or None for a codec file that was saved for coding alone.

        It is the codec's own, which ``save`` writes: train a copy.
        """
        return self._coder.model

    @property
    def previews(self) -> Mapping[str, int]:
        """Options for decoding in part and their largest values, e.g. ``{"levels": 3}``; mostly empty."""
        return self._coder.previews

    def __repr__(self) -> str:
        rates = f"qualities 1..{self.qualities}" if self.qualities else "one rate"
        return f"Codec({self.name!r}, {self.family}, {rates}, fingerprint {self.fingerprint.hex()})"

    @undisturbed
    @checked
    def with_integer_transforms(
        self, calibration: Sequence[Tensor] | None = None, precision: Precision | None = None
    ) -> Codec:
        """A codec of the same entropy integers whose transforms are integers, made of this one's floats.

        Files of earlier releases have floats only. The result has another fingerprint and reads this codec's streams
        too; latents are those that they always had, pixels those of the integers.

        Args:
            calibration: as of the constructor.
            precision: how finely they count; None: as the constructor has it. Of many images ``Precision(margin=2,
                learned=True)`` makes the most (docs/transforms.md).

        Raises:
            TypeError, ValueError: no calibration images, or others than of the constructor; floats that cannot be
                converted.
        """
        images = None if calibration is None else [as_batch(x)[0].cpu() for x in calibration]
        return self._of(self._coder.with_pixels(images, precision), self.name, (self.fingerprint, *self.reads))

    # ---- storage

    @classmethod
    @undisturbed
    @checked
    def load(cls, path: str | os.PathLike[str]) -> Codec:
        """Read a codec that ``save`` wrote; the file may change or go afterwards.

        Raises:
            FileNotFoundError: no such file.
            CodecFileError: no codec file, or a damaged one; the message says what is wrong with it.
        """
        return cls._load(Path(path))

    @classmethod
    def _load(cls, path: Path, digest: str | None = None) -> Codec:
        stored = storage.read(path, digest)
        if stored.family not in BY_FAMILY:
            raise CodecFileError(f"{path} holds a {stored.family!r} codec, which this fastlic does not know")
        try:
            coder = BY_FAMILY[stored.family].from_stored(stored)
            known = {f"entropy/{name}" for name in coder.entropy.to_arrays()}
            known |= {f"transforms/{name}" for name in (coder.pixels.to_arrays() if coder.pixels else ())}
            given = {f"entropy/{name}" for name in stored.integers} | {f"transforms/{k}" for k in stored.transforms}
            if unknown := sorted(given - known):
                raise ValueError(f"{unknown[0]} is no array of a {stored.family!r} codec")
        except KeyError as error:
            raise CodecFileError(f"{path} does not fit its own description: {error} is missing") from error
        except MALFORMED as error:
            raise CodecFileError(f"{path} does not fit its own description: {error}") from error
        return cls._of(coder, stored.name, stored.reads)

    @checked
    def save(
        self, path: str | os.PathLike[str], *, half: bool = False, training: bool = True, packed: bool | None = None
    ) -> None:
        """Write everything to one safetensors file.

        Args:
            half: float weights as float16. Streams stay the same; of float transforms reconstructions differ in the
                last digits.
            training: keep what coding never reads but training and estimates do, and float transforms beside their
                integers.
            packed: integer weights losslessly in about 5 bits of 8 (docs/format.md); default: as ``half``.

        Raises:
            TypeError, ValueError: ``reads`` are no fingerprints.
        """
        floats = self._coder.floats(training)
        integers = self.entropy.to_arrays()
        own = self._coder.pixels
        pixels, deciding = ({}, {}) if own is None else (own.to_arrays(), own.deciding())
        encoding = frozenset(pixels) - frozenset(deciding)
        stored = storage.StoredCodec(
            self.name, self.family, self.config, floats, integers, pixels, self.reads, encoding
        )
        storage.write(Path(path), stored, half, half if packed is None else packed)

    # ---- transforms

    @undisturbed
    def transforms(self, device: torch.device | str = "cpu") -> Any:
        """The float networks that ``transforms="float"`` runs, as it runs them: in eval mode, without gradients.

        Files for coding alone hold integers of them; the floats are what those stand for.

        Args:
            device: where they are; one copy per device is made and kept.

        Returns:
            An ``nn.Module``: ``g_a``, ``g_s``, ``h_a`` and ``gain`` of Gaussian families, the ``McQuic`` of its own.

        Raises:
            TypeError, ValueError: no device, or one that cannot be had.
        """
        key = str(as_device(device))
        if key not in self._transforms:
            self._transforms[key] = copy.deepcopy(self._transforms["cpu"]).to(key)
        return self._transforms[key]

    def _reserve(
        self, sizes: Sequence[tuple[int, int]], device: torch.device | str, transforms: Transforms | None
    ) -> None:
        """Ask for what the transforms of the largest image will take, and give it back untouched.

        So memory that is not there is noticed before the work; and before oneDNN sees it, which after a failed
        allocation keeps half-made kernels and later calls them (a segmentation fault in torch 2.13).
        """
        if self._by_integers(transforms):
            return  # their maps are bands, and an allocation that fails leaves nothing behind
        height, width = max(map(self._coder.padded, sizes), key=lambda size: size[0] * size[1])
        if torch.device(device).type == "cpu" and height * width >= _RESERVED:
            torch.empty(int(height * width * self._coder.bytes_per_pixel) + _KERNELS, dtype=torch.uint8)

    def _quality(self, quality: float | None) -> float | None:
        if not self.qualities:
            if quality is not None:
                raise ValueError(f"codec {self.name!r} has one fixed rate: leave quality out, got {quality}")
            return None
        return quality_of(quality, self.qualities)

    def _preview(self, options: Mapping[str, int | None]) -> dict[str, int]:
        if unknown := [name for name in options if name not in PREVIEWS]:
            raise TypeError(f"decompress takes no {unknown[0]}; previews are by {' or '.join(PREVIEWS)}")
        asked = {option: count for option, count in options.items() if count is not None}
        for option, count in asked.items():
            if option not in self.previews:
                known = " or ".join(f"{name}=1..{n}" for name, n in self.previews.items())
                has = f"has previews by {known}" if known else "has no previews"
                raise ValueError(f"codec {self.name!r} ({self.family}) {has}; got {option}={count!r}")
            if not is_whole(count) or not 1 <= count <= self.previews[option]:
                raise ValueError(f"{option} must be a whole number from 1 to {self.previews[option]}, got {count!r}")
        return {option: count for option, count in asked.items() if count < self.previews[option]}

    def _by_integers(self, transforms: Transforms | None) -> bool:
        """Whether integer transforms run; ValueError if what was asked for is not there."""
        if transforms not in (None, "integer", "float"):
            raise ValueError(f"transforms must be 'integer', 'float' or None, got {transforms!r}")
        if transforms == "integer" and self._coder.pixels is None:
            raise ValueError(
                f"codec {self.name!r} has no integer transforms: it is of an earlier release, or of a family without"
            )
        return self._coder.pixels is not None and transforms != "float"

    @held_off
    @torch.no_grad()
    def _analyse(
        self,
        images: Tensor,
        header: container.Header,
        transforms: Transforms | None,
        metadata: Metadata | None = None,
        effort: int = 0,
        worth: float = 1.0,
        backend: Backend = "auto",
    ) -> list[Analysis]:
        """images [B, C, H, W] of what ``as_images`` gives, checked; ``worth`` as of ``FamilyCoder.analyse``."""
        if self._by_integers(transforms):
            found = self._analyse_integers(images, header.quality, effort, worth, backend)
        else:
            # One image at a time, so that a batch gives each image the floats, and the bytes, that it has alone.
            parts, quality = self.transforms(images.device), header.quality
            found = [
                (self._coder.analyse_floats(parts, as_float(colours(image)), quality, worth), None) for image in images
            ]
        made = []
        for image, (target, coded) in zip(images, found, strict=True):
            attachments = metadata.attachments if metadata else []
            if header.channels % 2 == 0:
                attachments.insert(0, (KINDS["alpha"], plane_encode(as_pixels(image[-1]).cpu().numpy())))
            made.append(Analysis(target, header, tuple(attachments), coded))
        return made

    def _analyse_integers(
        self, images: Tensor, quality: float | None, effort: int, worth: float, backend: Backend
    ) -> list[tuple[Any, Any]]:
        threads = torch.get_num_threads()
        pixels = as_pixels(colours(images)).contiguous()
        if not effort:
            targets = self._coder.analyse_many(pixels, quality, threads, worth, backend)
            return [(target, None) for target in targets]
        pixels = pixels.cpu()  # efforts are the CPU's
        return [
            self._coder.refined(one, self._coder.analyse(one, quality, threads, worth), quality, effort, threads)
            for one in pixels
        ]

    # ---- coding

    @undisturbed
    def compress(
        self,
        x: Tensor | Picturable,
        quality: float | None = None,
        backend: Backend = "auto",
        *,
        target_bpp: float | None = None,
        target_bytes: float | None = None,
        target_psnr: float | None = None,
        effort: int = 0,
        max_pixels: int | None = None,
        transforms: Transforms | None = None,
        metadata: Metadata | None = None,
    ) -> bytes | list[bytes]:
        """Compress an image, or each image of a batch.

        Args:
            x: a tensor [C, H, W], or a batch [B, C, H, W], uint8 or floating point in [0, 1], on any device; any
                H, W >= 1. C is 3, or 1 for grey, and one more with alpha, which is kept without loss. Or one image as
                an array uint8 [H, W, C] or [H, W], as an image of Pillow's, as the path of an image file or as a binary
                file that holds one: these upright as EXIF says (``fastlic.codec.image_files.read_image``).
            quality: 1 to ``qualities``, fractions allowed (kept to 1/16); None: 4, or the rate of a codec that has one.
            backend: who codes the latents; the bytes do not depend on it. ``"triton"``, of models whose latents it
                codes and of McQuic, runs integer transforms on a GPU too (docs/gpu.md).
            target_bpp, target_bytes, target_psnr: one of them in place of a quality, for each image of a batch: the
                quality is searched whose file has nearest to so many bits per pixel, at most so many bytes, or nearest
                to so many dB over RGB (docs/effort.md).
            effort: 0 to 9; a higher one needs fewer bytes for the same PSNR, and more time, with integer transforms and
                several qualities, of Gaussian families and of McQuic with a context (docs/effort.md); of Gaussian
                families other machines may find other bytes from 6 on. Decoders need not know.
            max_pixels: largest height x width of an image; default: 89,478,485, or ``FASTLIC_MAX_PIXELS``.
            transforms: ``"integer"`` gives the same bytes for the same pixels on every machine, and is the default
                where the codec has them; floats are rounded to 8 bits first. ``"float"`` runs torch's networks on the
                device of x.
            metadata: colour profile, EXIF and XMP to keep in the stream, of every image of a batch; None: those of an
                image of Pillow's or of a file.

        Returns:
            ``.flic`` bytes (docs/format.md); of a batch a list of them, one for each image, of a batch of one, too.

        Raises:
            TypeError, ValueError: what was received and what is expected; ValueError for a target out of reach, with
                what the first and the last quality give.
            OSError: a file that cannot be read.
            PixelLimitError: a larger image, before it is looked at.
            OutOfMemoryError: what it is named after.
        """
        if not isinstance(x, Tensor):
            with memory_errors("an image of this size"):
                pixels, own = picture_of(x, max_pixels)
                x = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).permute(2, 0, 1)
                metadata = own if metadata is None else metadata
        batch = as_images(x, ANY_CHANNELS)
        size = (batch.shape[2], batch.shape[3])
        config.check_pixels(*size, max_pixels, self._coder.padded(size))
        if not isinstance(metadata, Metadata | None):
            raise TypeError(f"metadata must be a fastlic.Metadata, got {type(metadata).__name__}")
        goal = goal_of(quality, target_bpp, target_bytes, target_psnr)
        self._check_effort(effort, transforms)
        level = None if goal is not None else self._quality(quality)
        with memory_errors(f"compressing {_words([size] * len(batch))}"):
            check_range(batch)
            if goal is not None:
                found = (self._search(x, goal, backend, max_pixels, transforms, effort, metadata) for x in batch)
                streams = [one.data for one in found]
            else:
                header = self._header(*size, level, batch.shape[1], bool(metadata))
                streams = [
                    stream
                    for part in _together([size] * len(batch))
                    for stream in self._compress_many(batch[part], header, backend, transforms, metadata, effort)
                ]
        return streams if x.ndim == 4 else streams[0]

    def _search(
        self,
        image: Tensor,
        goal: Goal,
        backend: Backend = "auto",
        max_pixels: int | None = None,
        transforms: Transforms | None = None,
        effort: int = 0,
        metadata: Metadata | None = None,
    ) -> Found:
        """An image [C, H, W] of what ``as_images`` gives, checked, at the quality that meets a target."""
        if not self.qualities:
            raise ValueError(f"codec {self.name!r} has one fixed rate, which {goal.kind} cannot change")
        height, width = image.shape[1:]
        pixels = as_pixels(colours(image)).cpu().numpy()

        def encode(quality: float, worth: float = 1.0, effort: int = effort) -> bytes:
            header = self._header(height, width, quality, image.shape[0], bool(metadata))
            return self._compress_many(image[None], header, backend, transforms, metadata, effort, worth)[0]

        def psnr_of(data: bytes) -> float:
            images = self.decompress(
                [data], image.device, torch.uint8, max_pixels=max_pixels, transforms=transforms, channels=3
            )
            return psnr(pixels, images[0].cpu().numpy())

        start = None
        if effort:  # that of no effort is near, and cheap to find
            quick = partial(encode, effort=0)
            start = search(goal, quick, psnr_of, self.qualities, height * width, finer=False).quality
        return search(goal, encode, psnr_of, self.qualities, height * width, start)

    def _check_effort(self, effort: int, transforms: Transforms | None) -> None:
        if not is_whole(effort) or not 0 <= effort <= EFFORTS:
            raise ValueError(f"effort must be a whole number from 0 to {EFFORTS}, got {effort!r}")
        if effort and not self._by_integers(transforms):
            raise ValueError(f"float transforms have effort 0 alone, got {effort}")

    def _compress_many(
        self,
        images: Tensor,
        header: container.Header,
        backend: Backend = "auto",
        transforms: Transforms | None = None,
        metadata: Metadata | None = None,
        effort: int = 0,
        worth: float = 1.0,
    ) -> list[bytes]:
        self._reserve([(images.shape[2], images.shape[3])], images.device, transforms)
        analysed = self._analyse(images, header, transforms, metadata, effort, worth, backend)

        def sections(targets: list[Any], backend: Backend, threads: int) -> list[tuple[list[bytes], None]]:
            return [(own, None) for own in self._coder.sections_many(targets, backend, threads)]

        return [data for data, _ in self._packed(analysed, backend, sections)]

    def _encode(self, analysed: Sequence[Analysis], backend: Backend = "auto") -> list[tuple[bytes, Any]]:
        return self._packed(analysed, backend, self._coder.encode_many)

    def _packed(
        self, analysed: Sequence[Analysis], backend: Backend, encode: Callable[..., Any]
    ) -> list[tuple[bytes, Any]]:
        """Each stream and what ``encode`` gives beside its sections; what an effort has coded is not coded again."""
        left = [one.target for one in analysed if one.coded is None]
        coded = iter(encode(left, backend, torch.get_num_threads()) if left else ())
        pairs = [(one, one.coded or next(coded)) for one in analysed]
        return [(container.pack(one.header, sections, one.attachments), seen) for one, (sections, seen) in pairs]

    def _header(
        self, height: int, width: int, quality: float | None, channels: int = 3, metadata: bool = False
    ) -> container.Header:
        version = container.VERSION if channels != 3 or metadata else container.PLAIN_VERSION
        model = container.MODEL_IDS[self.family]
        return container.Header(model, quality, self.fingerprint, height, width, version, channels)

    def _read(self, data: Bytes, preview: Mapping[str, int], max_pixels: int | None = None) -> _Read:
        head = container.peek(data)
        size = (head.height, head.width)
        config.check_pixels(*size, max_pixels, self._coder.padded(size))
        header, sections = container.unpack(data, self._coder.sections_needed(preview) if preview else None)
        accepted = (self.fingerprint, *self.reads) if header.version > 1 else (self.entropy_fingerprint,)
        if header.fingerprint not in accepted or header.model_id != container.MODEL_IDS[self.family]:
            own, *others = (fingerprint.hex() for fingerprint in accepted)
            also = f", which also reads streams of {', '.join(others)}" if others else ""
            raise ModelMismatchError(
                f"the stream was made with weights {header.fingerprint.hex()} of family "
                f"{container.model_name(header.model_id)!r}; this codec is {self.name!r}, {own}{also}"
            )
        if (header.quality is None) != (self.qualities == 0) or (header.quality or 1) > max(self.qualities, 1):
            raise CorruptStreamError(f"quality {header.quality} is none that this codec's streams can have")
        expected = self._coder.sections_needed(preview)
        if len(sections) != expected:
            raise CorruptStreamError(f"this model's streams have {expected} sections, this one has {len(sections)}")
        return _Read(header, sections, container.attachments(data).get(KINDS["alpha"]))

    def _decode_many(
        self,
        streams: Sequence[Bytes],
        backend: Backend = "auto",
        preview: Mapping[str, int] | None = None,
        max_pixels: int | None = None,
        device: str | torch.device = "cpu",
        transforms: Transforms | None = None,
        pixels_only: bool = False,
    ) -> Iterator[tuple[list[Any], list[_Read]]]:
        """Latents and what was read, of as many streams as go through a stage together."""
        preview = preview or {}
        # Every stream is read, checked and held to the limit before the first is decoded.
        read = [self._read(data, preview, max_pixels) for data in streams]
        sizes = [(one.header.height, one.header.width) for one in read]
        for part in _together(sizes):
            sized = [(one.sections, size) for one, size in zip(read[part], sizes[part], strict=True)]
            self._reserve(sizes[part], device, transforms)
            latents = self._coder.decode_many(sized, backend, torch.get_num_threads(), preview, pixels_only)
            yield latents, read[part]

    @undisturbed
    @torch.no_grad()
    def decompress(
        self,
        data: Stream | Sequence[Stream],
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        backend: Backend = "auto",
        *,
        max_pixels: int | None = None,
        transforms: Transforms | None = None,
        channels: int | None = None,
        **preview: int | None,
    ) -> Tensor | list[Tensor]:
        """Decompress one stream to [C, H, W], or a list of streams to a list of tensors.

        Args:
            data: what ``compress`` returned; or a path, or a binary file, which is read to its end; or a list of
                such.
            device: where the result lies, and where float transforms run.
            dtype: torch.uint8 in 0..255, or floating point: those pixels divided by 255.
            backend: who decodes the latents, as of ``compress``; the result does not depend on it.
            max_pixels: largest height x width of an image, which its header claims, of previews too; default:
                89,478,485, or ``FASTLIC_MAX_PIXELS``. A pixel takes some 10 bytes of memory while it is decoded, with
                float transforms up to 300 (docs/limits.md): allow strangers' streams what the process has.
            transforms: ``"integer"`` gives the same pixels on every machine, and is the default where the codec has
                them. ``"float"`` runs torch's networks on ``device``, whose pixels may differ in the last bits.
            channels: C, 1 for grey, 3 for RGB, 2 and 4 with alpha; default: those of the image that was compressed.
            preview: an option of ``previews``, e.g. ``levels=1``: a coarser image of full size from the first sections
                alone. What lies behind those may be damaged or missing.

        Raises:
            CorruptStreamError: damaged bytes; the message says where.
            OSError: a file that cannot be read.
            ModelMismatchError: the stream was made with other weights; the message names them.
            PixelLimitError: a larger image, before any stream is decoded.
            OutOfMemoryError: what it is named after.
            ValueError: a type or channels that make no image, or a preview that this codec does not have.
        """
        check_dtype(dtype)
        container.check_channels(channels)
        part = self._preview(preview)
        streams, single = streams_of(data)
        images: list[Tensor] = []
        heads = [container.peek(stream) for stream in streams]
        with memory_errors(f"decompressing {_words([(head.height, head.width) for head in heads])}"):
            to = as_device(device)
            for latents, read in self._decode_many(streams, backend, part, max_pixels, to, transforms, True):
                for image, one in zip(
                    self._synthesise(latents, read, part, transforms, to, backend), read, strict=True
                ):
                    header, size = one.header, (one.header.height, one.header.width)
                    count = header.channels if channels is None else channels
                    alpha = None
                    if one.alpha is not None and count % 2 == 0:
                        alpha = torch.from_numpy(plane_decode(one.alpha, *size)).to(image.device)
                    grey = header.channels < 3
                    whole = with_channels(image, count, grey=grey, alpha=alpha, dtype=dtype)
                    images.append(whole.to(to).contiguous())
        return images[0] if single else images

    def _synthesise(
        self,
        latents: Sequence[Any],
        read: Sequence[_Read],
        preview: Mapping[str, int],
        transforms: Transforms | None,
        device: torch.device,
        backend: Backend,
    ) -> Iterator[Tensor]:
        """Images of three channels: pixels, those of one quality and size together; or what floats give, each alone."""
        wanted = [(one.header.quality, (one.header.height, one.header.width)) for one in read]
        if not self._by_integers(transforms):
            for own, (quality, size) in zip(latents, wanted, strict=True):
                with held_off:
                    image = self._coder.synthesise_floats(self.transforms(device), own, quality, size, preview)
                yield image
            return
        made: dict[int, Tensor] = {}
        for quality, size in dict.fromkeys(wanted):
            members = [i for i, own in enumerate(wanted) if own == (quality, size)]
            with held_off:
                images = self._coder.synthesise_many(
                    [latents[i] for i in members], quality, size, torch.get_num_threads(), backend
                )
            made |= zip(members, images, strict=True)
        yield from (made[i] for i in range(len(read)))

    # ---- looking inside

    @undisturbed
    def analyse(self, x: Tensor, quality: float | None = None, *, transforms: Transforms | None = None) -> Analysis:
        """The first half of ``compress``: one image through the transforms.

        Args:
            x, quality, transforms: as for ``compress``; one image.

        Raises:
            TypeError, ValueError, PixelLimitError: as ``compress``; ValueError for a batch of several images.
        """
        batch = as_images(x, ANY_CHANNELS)
        if len(batch) != 1:
            raise ValueError(f"expected one image, got a batch of {len(batch)}")
        size = (batch.shape[2], batch.shape[3])
        config.check_pixels(*size, None, self._coder.padded(size))
        check_range(batch)
        header = self._header(*size, self._quality(quality), batch.shape[1])
        self._reserve([size], batch.device, transforms)
        return self._analyse(batch, header, transforms)[0]

    @undisturbed
    @checked
    def encode(self, analysed: Sequence[Analysis], backend: Backend = "auto") -> list[tuple[bytes, dict[str, Tensor]]]:
        """The second half of ``compress``: streams of analysed images, coded together on torch's threads.

        Args:
            analysed: what ``analyse`` of this codec gave.
            backend: as for ``compress``.

        Returns:
            For each image its ``.flic`` bytes, and the latents in them as the encoder sees them: :meth:`latents`.

        Raises:
            ValueError: another codec's analysis, or an unknown backend.
        """
        for one in analysed:
            self._check_own(one)
        return [(data, self._coder.named(seen)) for data, seen in self._encode(analysed, backend)]

    @undisturbed
    @checked
    def symbols(self, analysed: Analysis) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What the entropy coder gets of one image of a Gaussian family: table rows and symbols of ``z`` and ``y``.

        Returns:
            By latent (rows uint8, symbols int64), both [count]: symbol i is coded by row i of ``entropy.z_tables`` or
            ``entropy.y_tables``, whose rows are channels and scale levels. The order is one in which z can be coded,
            and y after it.

        Raises:
            ValueError: another family, or another codec's analysis.
        """
        self._check_own(analysed)
        return self._coder.symbols(analysed.target)

    def _check_own(self, analysed: Analysis) -> None:
        if analysed.header.fingerprint != self.fingerprint:
            raise ValueError(f"an analysis by weights {analysed.header.fingerprint.hex()}; this codec is {self!r}")

    @undisturbed
    def latents(self, x: Tensor, quality: float | None = None) -> dict[str, Tensor]:
        """The latents that ``compress`` codes for one image, int64 by name.

        Of hyperprior models: ``z`` symbols and ``y`` in units of 2^-6.

        Raises:
            TypeError, ValueError, PixelLimitError: as :meth:`analyse`.
        """
        return self._coder.named(self._encode([self.analyse(x, quality)])[0][1])

    @overload
    def decode_latents(self, data: Bytes) -> dict[str, Tensor]: ...

    @overload
    def decode_latents(self, data: Sequence[Bytes]) -> list[dict[str, Tensor]]: ...

    @undisturbed
    @checked
    def decode_latents(self, data: Bytes | Sequence[Bytes]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """The latents in a stream; equal to ``latents`` of the image it was made from, bit for bit.

        A list of streams, decoded together on torch's threads, gives a list.

        Raises:
            TypeError: no bytes.
            CorruptStreamError, ModelMismatchError, PixelLimitError: as :meth:`decompress`.
        """
        streams = [data] if isinstance(data, _SINGLE) else list(data)
        named = [self._coder.named(one) for latents, _ in self._decode_many(streams) for one in latents]
        return named[0] if isinstance(data, _SINGLE) else named

    @undisturbed
    def estimate(self, x: Tensor, quality: float | None = None) -> dict[str, float]:
        """Estimated bits of one image: the cross-entropy of the latents that are coded, without any coder.

        Probabilities come from the float entropy network where the codec still has one (so that real bytes show the
        whole cost of integers and coder), else from the tables of the integer path.

        Returns:
            ``bits``, and their parts by latent: ``y_bits`` and ``z_bits`` of hyperprior models.

        Raises:
            TypeError, ValueError, PixelLimitError: as :meth:`analyse`.
        """
        with held_off:
            return self._coder.estimate(self._encode([self.analyse(x, quality)])[0][1])


def _together(sizes: Sequence[tuple[int, int]]) -> Iterator[slice]:
    """Runs of images that go through a stage together: at least one, at most ``_TOGETHER`` pixels if more."""
    first = total = 0
    for index, (height, width) in enumerate(sizes):
        if index > first and total + height * width > _TOGETHER:
            yield slice(first, index)
            first, total = index, 0
        total += height * width
    if sizes:
        yield slice(first, len(sizes))


def _words(sizes: Sequence[tuple[int, int]]) -> str:
    height, width = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    one = f"an image of {height} x {width} (height x width)"
    return one if len(sizes) == 1 else f"{len(sizes)} images, the largest {one}"
