"""Gaussian models with a hyperprior (scale, mean-scale, JAHP): two sections, z and then y."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.codec import drivers
from fastlic.codec.calibration import default_calibration
from fastlic.codec.drivers import Target
from fastlic.codec.families.base import Backend, FamilyCoder, Preview, Sections, Size, frozen, sizes_of
from fastlic.entropy.convert import convert
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.rate import float_bits, table_bits
from fastlic.entropy.schedule import HYPER_STRIDE, Latents
from fastlic.entropy.zones import worth_at, zones_for
from fastlic.integers.fixed import MEAN_BITS
from fastlic.models import JAHP, Hyperprior, MeanScaleHyperprior, ScaleHyperprior
from fastlic.models.sizes import build, check_config

LATENT_STRIDE = 16  # image pixels per latent position


class Transforms(nn.Module):
    """The floating-point parts: g_a, g_s, h_a and the gains."""

    def __init__(self, model: Hyperprior) -> None:
        super().__init__()
        self.g_a, self.g_s, self.h_a, self.gain = model.g_a, model.g_s, model.h_a, model.gain
        self.hyper_of_magnitude = model.hyper_of_magnitude


def widest_map(widths: Sequence[int]) -> float:
    """Bytes by image pixel of the largest of float maps of so many channels, each with half the sides of the last."""
    return max(4 * channels / 4 ** (depth + 1) for depth, channels in enumerate(widths))


class HyperpriorCoder(FamilyCoder[Target, Latents]):
    """See :class:`FamilyCoder`. The entropy model is :class:`IntegerEntropyModel`; ``drivers`` runs it."""

    models: ClassVar[Mapping[str, type[Hyperprior]]] = {
        cls.family: cls for cls in (ScaleHyperprior, MeanScaleHyperprior, JAHP)
    }
    deciding = ("g_s.*", "gain.log_inverse")
    entropy: IntegerEntropyModel

    def __init__(self, model: Hyperprior, entropy: IntegerEntropyModel, whole: bool) -> None:
        self.family = model.family
        self.config: dict[str, Any] = model.config
        self.qualities = model.qualities
        self.entropy = entropy
        self.model: Hyperprior | None = model if whole else None
        self.transforms = frozen(Transforms(model))
        self.bytes_per_pixel = 2.6 * widest_map(model.widths)

    @classmethod
    def from_model(cls, model: Hyperprior, images: Sequence[Tensor] | None) -> HyperpriorCoder:
        return cls(model, convert(model, default_calibration() if images is None else images), whole=True)

    @classmethod
    def from_stored(
        cls, family: str, config: dict[str, Any], floats: Mapping[str, Tensor], integers: dict[str, np.ndarray]
    ) -> HyperpriorCoder:
        entropy = IntegerEntropyModel.from_arrays(integers)
        _ = entropy.engine  # checks every array
        model = build(cls.models[family], check_config(cls.models[family], config), floats, sizes_of(integers))
        missing, _ = model.load_state_dict(floats, strict=False)
        transforms = [k for k in missing if k.startswith(("g_a.", "g_s.", "h_a.", "gain."))]
        if transforms:
            raise ValueError(f"weights are missing: {', '.join(transforms)}")
        own = (entropy.hyper_channels, entropy.latent_channels, entropy.context is not None)
        if own != (model.N, model.M, isinstance(model, JAHP)):
            raise ValueError(f"integers of N, M, context = {own} for a model of {config}")
        # Files for coding alone leave out the float entropy network; a model with random parts must not be handed out.
        whole = not any(k.startswith(("h_s.", "entropy_bottleneck.matrices")) for k in missing)
        return cls(model, entropy, whole)

    def padded(self, size: Size) -> Size:
        return size[0] + -size[0] % LATENT_STRIDE, size[1] + -size[1] % LATENT_STRIDE

    def analyse(self, parts: Transforms, image: Tensor, quality: float | None) -> Target:
        x = _pad(image[None], LATENT_STRIDE).contiguous(memory_format=torch.channels_last)
        y = parts.g_a(x)
        if quality is not None and parts.gain is not None:
            y = y * parts.gain(torch.tensor([quality], device=y.device))
        z = parts.h_a(_pad(y.abs() if parts.hyper_of_magnitude else y, HYPER_STRIDE))
        return Target(z[0].cpu(), y[0].cpu(), zones_for(worth_at(parts.gain, quality)))

    def encode_many(
        self, analysed: Sequence[Target], backend: Backend, threads: int
    ) -> list[tuple[list[bytes], Latents]]:
        latents = [(z, y) for z, y, _ in analysed]
        return drivers.encode_many(
            self.entropy, latents, backend=backend, threads=threads, zones=drivers.zones_of(analysed)
        )

    def decode_many(
        self, streams: Sequence[tuple[Sections, Size]], backend: Backend, threads: int, preview: Preview
    ) -> list[Latents]:
        sized = [(sections, -(-h // LATENT_STRIDE), -(-w // LATENT_STRIDE)) for sections, (h, w) in streams]
        return drivers.decode_many(self.entropy, sized, backend=backend, threads=threads)

    def synthesise(
        self, parts: Transforms, latents: Latents, quality: float | None, size: Size, preview: Preview
    ) -> Tensor:
        device = next(parts.g_s.parameters()).device
        y = (latents.y.to(device).double() / 2**MEAN_BITS).float()[None]
        if quality is not None and parts.gain is not None:
            y = y * parts.gain.inverse(torch.tensor([quality], device=y.device))
        x: Tensor = parts.g_s(y.contiguous(memory_format=torch.channels_last))
        return x[0, :, : size[0], : size[1]]

    def sections_needed(self, preview: Preview) -> int:
        return drivers.SECTIONS

    def named(self, latents: Latents) -> dict[str, Tensor]:
        return {"z": latents.z, "y": latents.y}

    def estimate(self, latents: Latents) -> dict[str, float]:
        y_bits, z_bits = float_bits(self.model, latents) if self.model else table_bits(self.entropy, latents)
        return {"bits": y_bits + z_bits, "y_bits": y_bits, "z_bits": z_bits}


def _pad(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until height and width are multiples of ``multiple``; [N, C, H, W]."""
    return F.pad(x, (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple), mode="replicate")
