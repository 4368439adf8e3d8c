"""The MLIC family: two sections, z and then y, slice by slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.codec import mlic_drivers
from fastlic.codec.calibration import default_calibration
from fastlic.codec.drivers import Target, zones_of
from fastlic.codec.families.base import Backend, FamilyCoder, Preview, Sections, Size, frozen, sizes_of
from fastlic.codec.families.hyperprior import widest_map
from fastlic.codec.mlic_drivers import MlicLatents
from fastlic.entropy.mlic.convert import convert
from fastlic.entropy.mlic.model import IntegerMLIC
from fastlic.entropy.mlic.rate import float_bits, table_bits
from fastlic.entropy.schedule import HYPER_STRIDE
from fastlic.entropy.zones import worth_at, zones_for
from fastlic.integers.fixed import MEAN_BITS
from fastlic.models.mlic import MLIC, MLICPlus, MLICPlusPlus
from fastlic.models.sizes import build, check_config

LATENT_STRIDE = 16  # image pixels per latent position
# The checkerboard needs both its colours: an even number of columns gives every row some of each.
PADDING = (LATENT_STRIDE, 2 * LATENT_STRIDE)


class Transforms(nn.Module):
    """The floating-point parts: g_a, g_s, h_a and the gains."""

    def __init__(self, model: MLICPlusPlus) -> None:
        super().__init__()
        self.g_a, self.g_s, self.h_a, self.gain = model.g_a, model.g_s, model.h_a, model.gain


def latent_size(size: Size) -> tuple[int, int]:
    """Rows and columns of y for an image of that size."""
    rows, columns = (-(-length // multiple) for length, multiple in zip(size, PADDING, strict=True))
    return rows, 2 * columns


class MlicCoder(FamilyCoder[Target, MlicLatents]):
    """See :class:`FamilyCoder`. The entropy model is :class:`IntegerMLIC`; ``mlic_drivers`` runs it."""

    models: ClassVar[Mapping[str, type[MLICPlusPlus]]] = {cls.family: cls for cls in (MLIC, MLICPlus, MLICPlusPlus)}
    deciding = ("g_s.*", "gain.log_inverse")
    entropy: IntegerMLIC

    def __init__(self, model: MLICPlusPlus, entropy: IntegerMLIC, whole: bool) -> None:
        self.family = model.family
        self.config: dict[str, Any] = model.config
        self.qualities = model.qualities
        self.previews = {"slices": model.slices}
        self.entropy = entropy
        self.model: MLICPlusPlus | None = model if whole else None
        self.transforms = frozen(Transforms(model))
        self.bytes_per_pixel = 4.7 * widest_map(model.widths)

    @classmethod
    def from_model(cls, model: MLICPlusPlus, images: Sequence[Tensor] | None) -> MlicCoder:
        return cls(model, convert(model, default_calibration() if images is None else images), whole=True)

    @classmethod
    def from_stored(
        cls, family: str, config: dict[str, Any], floats: Mapping[str, Tensor], integers: dict[str, np.ndarray]
    ) -> MlicCoder:
        entropy = IntegerMLIC.from_arrays(integers)
        _ = entropy.engine  # checks every array
        check_config(cls.models[family], config)
        # Before any module is made: there are as many as these say.
        own = (entropy.family, entropy.slices, entropy.latent_channels)
        if own != (family, config.get("slices", entropy.slices), config["M"]) or config.get("blocks", 0) > len(floats):
            raise ValueError(f"integers of family, slices, M = {own} for a {family!r} model of {config}")
        model = build(cls.models[family], config, floats, sizes_of(integers))
        missing, _ = model.load_state_dict(floats, strict=False)
        buffers = dict(model.named_buffers())
        absent = [key for key in missing if key not in buffers]
        transforms = [k for k in absent if k.startswith(("g_a.", "g_s.", "h_a.", "gain."))]
        if transforms:
            raise ValueError(f"weights are missing: {', '.join(transforms)}")
        if entropy.hyper_channels != model.N:
            raise ValueError(f"integers of N = {entropy.hyper_channels} for a model of {config}")
        if entropy.early != model.early:
            raise ValueError(f"its integers have {'an' if entropy.early else 'no'} early context, unlike its model")
        # Files for coding alone leave out the float entropy network; a model with random parts must not be handed out.
        return cls(model, entropy, whole=not absent)

    def padded(self, size: Size) -> Size:
        rows, columns = latent_size(size)
        return LATENT_STRIDE * rows, LATENT_STRIDE * columns

    def analyse(self, parts: Transforms, image: Tensor, quality: float | None) -> Target:
        x = _pad(image[None], *PADDING).contiguous(memory_format=torch.channels_last)
        y = parts.g_a(x)
        if quality is not None and parts.gain is not None:
            y = y * parts.gain(torch.tensor([quality], device=y.device))
        z = parts.h_a(_pad(y, HYPER_STRIDE, HYPER_STRIDE))
        return Target(z[0].cpu(), y[0].cpu(), zones_for(worth_at(parts.gain, quality)))

    def encode_many(
        self, analysed: Sequence[Target], backend: Backend, threads: int
    ) -> list[tuple[list[bytes], MlicLatents]]:
        latents = [(z, y) for z, y, _ in analysed]
        return mlic_drivers.encode_many(self.entropy, latents, backend, threads, zones_of(analysed))

    def decode_many(
        self, streams: Sequence[tuple[Sections, Size]], backend: Backend, threads: int, preview: Preview
    ) -> list[MlicLatents]:
        sized = [(sections, *latent_size(size)) for sections, size in streams]
        return mlic_drivers.decode_many(self.entropy, sized, backend, threads, preview.get("slices"))

    def synthesise(
        self, parts: Transforms, latents: MlicLatents, quality: float | None, size: Size, preview: Preview
    ) -> Tensor:
        device = next(parts.g_s.parameters()).device
        y = (latents.y.to(device).double() / 2**MEAN_BITS).float()[None]
        if quality is not None and parts.gain is not None:
            y = y * parts.gain.inverse(torch.tensor([quality], device=y.device))
        x: Tensor = parts.g_s(y.contiguous(memory_format=torch.channels_last))
        return x[0, :, : size[0], : size[1]]

    def sections_needed(self, preview: Preview) -> int:
        return mlic_drivers.SECTIONS

    def named(self, latents: MlicLatents) -> dict[str, Tensor]:
        return {"z": latents.z, "y": latents.y, "symbols": latents.symbols}

    def estimate(self, latents: MlicLatents) -> dict[str, float]:
        if self.model is not None:
            y_bits, z_bits = float_bits(self.model, self.entropy, latents, latents.symbols)
        else:
            y_bits, z_bits = table_bits(self.entropy, latents.z, latents.symbols)
        return {"bits": y_bits + z_bits, "y_bits": y_bits, "z_bits": z_bits}


def _pad(x: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column up to multiples of ``rows`` and ``columns``; [N, C, H, W]."""
    return F.pad(x, (0, -x.shape[-1] % columns, 0, -x.shape[-2] % rows), mode="replicate")
