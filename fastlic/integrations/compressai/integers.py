"""CompressAI's Gaussian models on the integer entropy path: conversion, and coding through the wavefront engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file
from torch import Tensor

from fastlic import config
from fastlic.codec import drivers
from fastlic.codec.calibration import default_calibration
from fastlic.codec.images import as_batch
from fastlic.entropy.convert import EntropyNetworks, convert_networks
from fastlic.entropy.fixed import MEAN_BITS
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.schedule import HYPER_STRIDE, Latents
from fastlic.errors import CorruptStreamError, ModelMismatchError
from fastlic.integrations.compressai import native_stream
from fastlic.integrations.compressai.settings import Settings
from fastlic.integrations.compressai.swap import Cache
from fastlic.integrations.compressai.tables import versions
from fastlic.models.density import EntropyBottleneck
from fastlic.models.layers import CONTEXT_KERNEL, MaskedConv2d
from fastlic.ops.rans import crc32c

IMAGE_STRIDE = 64  # of z
_LATENT_STRIDE = 16
Calibration = Sequence[Tensor] | str | Path | None


@dataclass(frozen=True)
class Parts:
    """The modules of a model that make up its entropy path. ``modules`` are what conversion depends on."""

    h_a: Any
    h_s: Any
    bottleneck: Any
    context: Any = None
    head: Any = None
    of_magnitude: bool = False
    scales_alone: bool = False

    @property
    def modules(self) -> list[nn.Module]:
        return [m for m in (self.h_s, self.bottleneck, self.context, self.head) if m is not None]

    def networks(self) -> EntropyNetworks:
        """Copies on the CPU in float32, as conversion takes them.

        Raises:
            ValueError: a part is of a kind that has no integer form.
        """
        if self.bottleneck.filters != (3, 3, 3, 3):
            raise ValueError(f"the entropy bottleneck has filters {self.bottleneck.filters}")
        bottleneck = EntropyBottleneck(self.bottleneck.channels).eval()
        state = {k: v.detach().float().cpu() for k, v in self.bottleneck.state_dict().items() if not k.startswith("_")}
        missing, unknown = bottleneck.load_state_dict(state, strict=False)
        if unknown or any(not name.startswith("_") for name in missing):
            raise ValueError(f"the entropy bottleneck lacks {missing} and has {unknown} in their place")
        h_a, h_s = _copy(self.h_a), _sequence(self.h_s, "h_s")
        context = None if self.context is None else _context(self.context)
        head = None if self.head is None else _sequence(self.head, "entropy_parameters")

        def hyper_analysis(y: Tensor) -> Tensor:
            z: Tensor = h_a(y.abs() if self.of_magnitude else y)
            return z

        return EntropyNetworks(hyper_analysis, h_s, bottleneck, context, head, self.scales_alone)

    def digest(self) -> int:
        """Checksum of the weights at half precision, so that ``half()`` and ``double()`` do not count as changes."""
        crc = 0
        for module in self.modules:
            for parameter in module.parameters():
                values = parameter.detach().to("cpu", torch.float16).contiguous().numpy()
                crc = crc32c(values.reshape(-1).view(np.uint8), crc)
        return crc


def _copy(module: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(module).float().cpu().eval()


def _sequence(module: nn.Module, name: str) -> nn.Sequential:
    twin = _copy(module)
    if isinstance(twin, (nn.Conv2d, nn.ConvTranspose2d)):
        return nn.Sequential(twin)
    if not isinstance(twin, nn.Sequential):
        raise ValueError(f"{name} is a {type(module).__name__}, not a sequence of layers")
    return twin


def _context(conv: Any) -> MaskedConv2d:
    """CompressAI's masked convolution as fastlic's."""
    if conv.kernel_size != (CONTEXT_KERNEL,) * 2 or conv.bias is None or conv.out_channels != 2 * conv.in_channels:
        raise ValueError(f"the context is not a 5x5 convolution from M to 2M channels: {conv}")
    own = MaskedConv2d(conv.in_channels, conv.out_channels).eval()
    if not torch.equal(conv.mask.cpu().bool(), own.mask.bool()):
        raise ValueError("the context's mask is not that of raster order")
    own.weight.data = (conv.weight * conv.mask).detach().float().cpu()
    own.bias = nn.Parameter(conv.bias.detach().float().cpu())
    return own


@torch.no_grad()
def calibration_latents(g_a: nn.Module, images: Sequence[Tensor]) -> list[Tensor]:
    """What the analysis transform makes of images [3, H, W], padded to multiples of 64: [1, M, h, w] each."""
    reference = next(g_a.parameters())
    latents = []
    for image in images:
        x = as_batch(image)[:1].float()
        pad = (0, -x.shape[-1] % IMAGE_STRIDE, 0, -x.shape[-2] % IMAGE_STRIDE)
        x = F.pad(x, pad, mode="replicate").to(reference.device, reference.dtype)
        latents.append(g_a(x).float().cpu().contiguous())
    return latents


@dataclass
class IntegerCoder:
    """The converted entropy path of one model, and who codes with it.

    Pickles and copies carry the conversion along; ``digest`` is that of the weights it was made from.
    """

    integers: IntegerEntropyModel
    settings: Settings
    digest: int
    cache: Cache = field(default_factory=Cache)

    @classmethod
    def convert(cls, parts: Parts, g_a: nn.Module, calibration: Calibration, settings: Settings) -> IntegerCoder:
        """Convert, or read a conversion that was saved.

        Raises:
            ValueError: something has no integer form.
            ModelMismatchError: a saved conversion of other weights.
        """
        digest = parts.digest()
        if isinstance(calibration, (str, Path)):
            return cls(read(Path(calibration), digest), settings, digest)
        networks = parts.networks()
        images = default_calibration() if calibration is None else calibration
        try:
            latents = calibration_latents(g_a, images)
            return cls(convert_networks(networks, latents), settings, digest)
        except RuntimeError as error:  # shapes that do not fit each other
            raise ValueError(f"the networks do not run on calibration images: {error}") from error

    def check(self, parts: Parts) -> None:
        """Raise ModelMismatchError if the model's weights are no longer those that were converted."""
        tensors = tuple(p for module in parts.modules for p in module.parameters())
        seen = (tensors, versions(tensors))
        known = self.cache.values.get("weights")
        if known is not None and known[1] == seen[1] and all(a is b for a, b in zip(known[0], tensors, strict=True)):
            return
        if parts.digest() != self.digest:
            raise ModelMismatchError(
                "the weights of the entropy model changed after fastlic.accelerate(model): call it again, so that "
                "they are converted anew"
            )
        self.cache.values["weights"] = seen

    @property
    def _fingerprint(self) -> bytes:
        """Of the integers, which never change; hashing them all takes milliseconds."""
        if "fingerprint" not in self.cache.values:
            self.cache.values["fingerprint"] = self.integers.fingerprint()
        known: bytes = self.cache.values["fingerprint"]
        return known

    @property
    def _mismatch(self) -> str:
        return (
            f"the string was made with other integers than this model's ({self._fingerprint.hex()}): "
            "other weights, or the same ones converted on another machine. Save the conversion once with "
            "report.save(path), and give every machine accelerate(model, calibration=path)"
        )

    @property
    def _check(self) -> int:
        return int.from_bytes(self._fingerprint[:4], "little")

    def encode(self, y: Tensor, z: Tensor) -> tuple[list[bytes], list[bytes], Tensor]:
        """y [B, M, h, w] and z [B, N, h/4, w/4], before rounding, to (strings of y, of z, y_hat float32 on the CPU)."""
        if tuple(y.shape[2:]) != tuple(HYPER_STRIDE * n for n in z.shape[2:]):
            raise ValueError(
                f"the latent is {tuple(y.shape[2:])}, its hyper latent {tuple(z.shape[2:])}: pad images to multiples "
                f"of {IMAGE_STRIDE} (compressai.ops.compute_padding)"
            )
        pairs = [(a.float().cpu(), b.float().cpu()) for a, b in zip(z.detach(), y.detach(), strict=True)]
        coded = drivers.encode_many(self.integers, pairs, backend=self.settings.backend, threads=self.settings.threads)
        strings = [[native_stream.wrap(sections[i], self._check) for sections, _ in coded] for i in (1, 0)]
        return strings[0], strings[1], _latents([latents for _, latents in coded], y)

    def decode(self, y_strings: Sequence[bytes], z_strings: Sequence[bytes], rows: int, columns: int) -> Tensor:
        """y_hat [B, M, 4 rows, 4 columns] float32 on the CPU; rows and columns are z's."""
        if len(y_strings) != len(z_strings):
            raise ValueError(f"{len(y_strings)} strings of y and {len(z_strings)} of z: one of each for every image")
        limit = config.max_pixels()
        if not (rows > 0 and columns > 0 and rows * columns * IMAGE_STRIDE**2 <= limit):
            raise CorruptStreamError(
                f"a hyper latent of {rows} x {columns} is empty or beyond the limit of {limit} pixels"
            )
        height, width = HYPER_STRIDE * rows, HYPER_STRIDE * columns
        streams = [
            ([native_stream.unwrap(item, self._check, self._mismatch) for item in pair], height, width)
            for pair in zip(z_strings, y_strings, strict=True)
        ]
        decoded = drivers.decode_many(
            self.integers, streams, backend=self.settings.backend, threads=self.settings.threads
        )
        return _latents(decoded, torch.empty(0, self.integers.latent_channels, height, width))


def _latents(decoded: Sequence[Latents], like: Tensor) -> Tensor:
    if not decoded:
        return torch.empty(0, *like.shape[1:])
    return torch.stack([(item.y.double() / 2**MEAN_BITS).float() for item in decoded])


def save(coder: IntegerCoder, path: Path) -> None:
    """Write a conversion to one safetensors file."""
    arrays = {name: np.ascontiguousarray(array) for name, array in coder.integers.to_arrays().items()}
    save_file(arrays, path, metadata={"format": "fastlic-integers", "weights": f"{coder.digest:08x}"})


def read(path: Path, digest: int, kind: Any = IntegerEntropyModel) -> Any:
    """A conversion that :func:`save` wrote, of the weights with this digest; ``kind`` is the class of its integers."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        about = file.metadata() or {}
    if about.get("format") != "fastlic-integers":
        raise ValueError(f"{path} holds no conversion that report.save wrote")
    if about.get("weights") != f"{digest:08x}":
        raise ModelMismatchError(
            f"{path} is the conversion of other weights ({about.get('weights')}; this model's are {digest:08x})"
        )
    integers = kind.from_arrays(load_file(path))
    integers.engine  # validates every array  # noqa: B018
    return integers
