"""Codec: a trained model, its integer entropy model, and the way from image tensors to ``.flic`` bytes and back."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.codec import container, drivers, storage
from fastlic.codec.calibration import default_calibration
from fastlic.codec.drivers import Backend
from fastlic.codec.images import as_batch, check_dtype, to_dtype
from fastlic.entropy.convert import convert
from fastlic.entropy.fixed import MEAN_BITS
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.rate import float_bits, table_bits
from fastlic.entropy.schedule import HYPER_STRIDE, Latents
from fastlic.errors import CorruptStreamError, ModelMismatchError
from fastlic.models import FAMILIES, Hyperprior
from fastlic.models.layers import channels_last

LATENT_STRIDE = 16  # image pixels per latent position, of every family here

Bytes = container.Bytes


class _Transforms(nn.Module):
    """The floating-point parts: g_a, g_s, h_a and the gains. Their rounding cannot desynchronise a stream."""

    def __init__(self, model: Hyperprior) -> None:
        super().__init__()
        self.g_a, self.g_s, self.h_a, self.gain = model.g_a, model.g_s, model.h_a, model.gain
        self.hyper_of_magnitude = model.hyper_of_magnitude


class Codec:
    """Compresses and decompresses images with one set of weights.

    Args:
        model: a trained model of ``fastlic.models`` (or a state dict loaded through its ``from_state_dict``).
        calibration: images [3, H, W] on which the ranges of the integer entropy path are measured, float in [0, 1] or
            uint8; a handful of varied photographs. Default: the package's own demonstration photo.
        name: what the codec calls itself in messages; default: the family's name.

    The conversion to integers happens here, once. ``save`` stores its result and ``fastlic.load`` reads it back, so the
    same file gives the same streams on every machine.
    """

    def __init__(self, model: Hyperprior, calibration: Sequence[Tensor] | None = None, name: str | None = None) -> None:
        if not isinstance(model, Hyperprior):
            raise TypeError(f"expected a model of fastlic.models ({', '.join(FAMILIES)}); got {type(model).__name__}")
        model = model.float().cpu().eval()
        images = default_calibration() if calibration is None else [as_batch(x)[0].cpu() for x in calibration]
        self._setup(model, convert(model, images), name or model.family)
        self.model: Hyperprior | None = model

    def _setup(self, model: Hyperprior, entropy: IntegerEntropyModel, name: str) -> None:
        self.name: str = name
        self.family: str = model.family
        self.config: dict[str, Any] = model.config
        self.qualities: int = model.qualities
        self.entropy = entropy
        self.fingerprint: bytes = entropy.fingerprint()
        transforms = copy.deepcopy(_Transforms(model)).eval().requires_grad_(False)
        channels_last(transforms)
        self._transforms = {"cpu": transforms}

    def __repr__(self) -> str:
        rates = f"qualities 1..{self.qualities}" if self.qualities else "one rate"
        return f"Codec({self.name!r}, {self.family}, {rates}, fingerprint {self.fingerprint.hex()})"

    # ---- storage

    @classmethod
    def load(cls, path: str | Path) -> Codec:
        """Read a codec that ``save`` wrote. Raises FileNotFoundError or ValueError with the reason."""
        stored = storage.read(Path(path))
        if stored.family not in FAMILIES:
            raise ValueError(f"{path} holds a {stored.family!r} codec, which this fastlic does not know")
        model = FAMILIES[stored.family](**stored.config).eval()
        missing, unknown = model.load_state_dict(stored.floats, strict=False)
        transforms = [k for k in missing if k.startswith(("g_a.", "g_s.", "h_a.", "gain."))]
        if transforms or unknown:
            raise ValueError(f"{path} does not fit its own description: missing {transforms}, unknown {unknown}")
        codec = cls.__new__(cls)
        codec._setup(model, IntegerEntropyModel.from_arrays(stored.integers), stored.name)
        # Files for coding alone leave out the float entropy network; a model with random parts must not be handed out.
        codec.model = model if not any(k.startswith(("h_s.", "entropy_bottleneck.matrices")) for k in missing) else None
        return codec

    def save(self, path: str | Path, *, half: bool = False, training: bool = True) -> None:
        """Write everything to one safetensors file.

        Args:
            half: float weights as float16. Streams stay the same; reconstructions differ in the last digits.
            training: keep the float entropy network, which coding never reads but training and estimates do.
        """
        source = self.model if self.model is not None and training else self._transforms["cpu"]
        floats = {k: v for k, v in source.state_dict().items() if v.is_floating_point() and v.numel()}
        stored = storage.StoredCodec(self.name, self.family, self.config, floats, self.entropy.to_arrays())
        storage.write(Path(path), stored, half)

    # ---- transforms

    def _on(self, device: torch.device | str) -> _Transforms:
        key = str(torch.device(device))
        if key not in self._transforms:
            self._transforms[key] = copy.deepcopy(self._transforms["cpu"]).to(key)
        return self._transforms[key]

    def _quality(self, quality: float | None) -> float | None:
        if not self.qualities:
            if quality is not None:
                raise ValueError(f"codec {self.name!r} has one fixed rate: leave quality out, got {quality}")
            return None
        if quality is None:
            raise ValueError(f"codec {self.name!r} serves qualities 1 to {self.qualities}: say which")
        if not 1 <= quality <= self.qualities:
            raise ValueError(f"quality must be from 1 to {self.qualities}, got {quality}")
        return container.round_quality(quality)

    @torch.no_grad()
    def _analyse(self, image: Tensor, quality: float | None) -> tuple[Tensor, Tensor]:
        """image [3, H, W] -> float latents z [N, hz, wz] and y [M, ceil(H/16), ceil(W/16)], on the CPU."""
        parts = self._on(image.device)
        x = _pad(image[None], LATENT_STRIDE).contiguous(memory_format=torch.channels_last)
        y = parts.g_a(x)
        if quality is not None and parts.gain is not None:
            y = y * parts.gain(torch.tensor([quality], device=y.device))
        z = parts.h_a(_pad(y.abs() if parts.hyper_of_magnitude else y, HYPER_STRIDE))
        return z[0].cpu(), y[0].cpu()

    @torch.no_grad()
    def _synthesise(self, latents: Latents, quality: float | None, size: tuple[int, int], device: str) -> Tensor:
        parts = self._on(device)
        y = (latents.y.to(device).double() / 2**MEAN_BITS).float()[None]
        if quality is not None and parts.gain is not None:
            y = y * parts.gain.inverse(torch.tensor([quality], device=y.device))
        x: Tensor = parts.g_s(y.contiguous(memory_format=torch.channels_last))
        return x[0, :, : size[0], : size[1]]

    # ---- coding

    def compress(self, x: Tensor, quality: float | None = None, backend: Backend = "auto") -> bytes | list[bytes]:
        """Compress an image, or each image of a batch.

        Args:
            x: [3, H, W] or [1, 3, H, W], uint8 or floating point in [0, 1], on any device; any H, W >= 1.
                [B, 3, H, W] with B > 1 gives a list.
            quality: 1 to ``qualities``, fractions allowed (kept to 1/16); None for a codec of one rate.
            backend: who codes the latents; the bytes do not depend on it.

        Returns:
            ``.flic`` bytes (docs/format.md), or a list of them.

        Raises:
            TypeError, ValueError: what was received and what is expected.
        """
        batch = as_batch(x)
        level = self._quality(quality)
        streams = [stream for stream, _ in self._compress_many(list(batch), level, backend)]
        return streams if len(streams) > 1 else streams[0]

    def _compress_many(
        self, images: Sequence[Tensor], quality: float | None, backend: Backend = "auto"
    ) -> list[tuple[bytes, Latents]]:
        # Headers first: they refuse what cannot be stored, before the work.
        headers = [self._header(image.shape[1], image.shape[2], quality) for image in images]
        # One image at a time, so that a batch gives each image the floats, and the bytes, that it has alone.
        analysed = [self._analyse(image, quality) for image in images]
        coded = drivers.encode_many(self.entropy, analysed, backend=backend, threads=torch.get_num_threads())
        return [
            (container.pack(header, sections), latents)
            for header, (sections, latents) in zip(headers, coded, strict=True)
        ]

    def _header(self, height: int, width: int, quality: float | None) -> container.Header:
        return container.Header(container.MODEL_IDS[self.family], quality, self.fingerprint, height, width)

    def _read(self, data: Bytes) -> tuple[container.Header, list[bytes]]:
        header, sections = container.unpack(data)
        if header.fingerprint != self.fingerprint or header.model_id != container.MODEL_IDS[self.family]:
            raise ModelMismatchError(
                f"the stream was made with weights {header.fingerprint.hex()} of family "
                f"{container.model_name(header.model_id)!r}; this codec is {self.name!r}, {self.fingerprint.hex()}"
            )
        if (header.quality is None) != (self.qualities == 0) or (header.quality or 1) > max(self.qualities, 1):
            raise CorruptStreamError(f"quality {header.quality} is none that this codec's streams can have")
        return header, sections

    def _decode_many(
        self, streams: Sequence[Bytes], backend: Backend = "auto"
    ) -> list[tuple[Latents, container.Header]]:
        read = [self._read(data) for data in streams]
        sized = [(sections, -(-h.height // LATENT_STRIDE), -(-h.width // LATENT_STRIDE)) for h, sections in read]
        latents = drivers.decode_many(self.entropy, sized, backend=backend, threads=torch.get_num_threads())
        return [(decoded, header) for decoded, (header, _) in zip(latents, read, strict=True)]

    def decompress(
        self,
        data: Bytes | Sequence[Bytes],
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        backend: Backend = "auto",
    ) -> Tensor | list[Tensor]:
        """Decompress one stream to [3, H, W], or a list of streams to a list of tensors.

        Args:
            data: what ``compress`` returned.
            device: where the synthesis transform runs and the result lies.
            dtype: floating point in [0, 1], or torch.uint8 in 0..255.
            backend: who decodes the latents; the result does not depend on it.

        Raises:
            CorruptStreamError: damaged bytes; the message says where.
            ModelMismatchError: the stream was made with other weights; the message names them.
        """
        check_dtype(dtype)
        streams = [data] if isinstance(data, (bytes, bytearray, memoryview)) else list(data)
        images = [
            to_dtype(self._synthesise(latents, header.quality, (header.height, header.width), str(device)), dtype)
            for latents, header in self._decode_many(streams, backend)
        ]
        images = [image.contiguous() for image in images]
        return images[0] if streams and streams[0] is data else images

    # ---- looking inside

    def latents(self, x: Tensor, quality: float | None = None) -> dict[str, Tensor]:
        """The quantised latents that ``compress`` codes for one image: z symbols and y in units of 2^-6, int64."""
        return _named(self._compress_many([_single(x)], self._quality(quality))[0][1])

    def decode_latents(self, data: Bytes) -> dict[str, Tensor]:
        """The latents in a stream; equal to ``latents`` of the image it was made from, bit for bit."""
        return _named(self._decode_many([data])[0][0])

    def estimate(self, x: Tensor, quality: float | None = None) -> dict[str, float]:
        """Estimated bits of one image: the cross-entropy of the latents that are coded, without any coder.

        Probabilities come from the float entropy network where the codec still has one (so that real bytes show the
        whole cost of integers and coder), else from the exact Gaussians of the integer path's scale levels.

        Returns:
            ``bits``, ``y_bits`` and ``z_bits``.
        """
        _, latents = self._compress_many([_single(x)], self._quality(quality))[0]
        y_bits, z_bits = float_bits(self.model, latents) if self.model else table_bits(self.entropy, latents)
        return {"bits": y_bits + z_bits, "y_bits": y_bits, "z_bits": z_bits}


def _named(latents: Latents) -> dict[str, Tensor]:
    return {"z": latents.z, "y": latents.y}


def _single(x: Tensor) -> Tensor:
    batch = as_batch(x)
    if len(batch) != 1:
        raise ValueError(f"expected one image, got a batch of {len(batch)}")
    return batch[0]


def _pad(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until height and width are multiples of ``multiple``; [N, C, H, W]."""
    return F.pad(x, (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple), mode="replicate")
