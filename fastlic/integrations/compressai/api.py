"""``accelerate``, ``restore`` and ``accelerated``: the front door."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.errors import BackendUnavailable
from fastlic.forks import held_off
from fastlic.integrations.compressai import swap
from fastlic.integrations.compressai.report import Report, Row
from fastlic.integrations.compressai.settings import (
    BACKENDS,
    FORMATS,
    INSTALL,
    TRANSFORMS,
    Backend,
    Format,
    Settings,
    State,
    Transforms,
)


@held_off
def accelerate(
    model: nn.Module,
    format: Format = "native",
    calibration: Sequence[Tensor] | str | Path | None = None,
    backend: Backend = "auto",
    transforms: Transforms = "exact",
) -> Report:
    """Make ``compress`` and ``decompress`` of a live CompressAI model fast; weights, state dict and API stay.

    Args:
        model: any module of CompressAI's classes, or one built from them; a DataParallel wrapper is looked through.
        format: "native" for fastlic's own streams, "compressai" for streams that plain CompressAI reads and writes.
        calibration: for what is converted to integers (entropy networks in format "native", transforms if asked for):
            images [3, H, W] in [0, 1] to measure ranges on (default: the package's demonstration photo), or the path
            of a conversion that ``report.save`` wrote, so that other machines decode with the very same integers.
        backend: "auto" or "cpp", or "reference" for the plain Python coder.
        transforms: "exact" for g_a and g_s in floats, CompressAI's numbers to 1e-5. "fast" for bfloat16 where the CPU
            has AVX512-BF16 or AMX, and on GPUs: pictures and the choice of symbols change a little, the report says by
            how much, and whether both ends of a stream have it makes no difference to its latents. "integer" for
            networks of integers: pixels in and out have 8 bits, latents count 2^-6, and both are the same on every
            machine that holds the same conversion. The encoder and the decoder of an image must both have them for
            that.

    Returns:
        a report, printable as a table, of what was replaced by what, and what was not and why.

    Raises:
        BackendUnavailable: CompressAI cannot be imported.
        TypeError: nothing in the model is known; it is left as it was.
        ValueError: an argument is none of those above.
        ModelMismatchError: ``calibration`` is a conversion of other weights.
        CodecFileError: ``calibration`` is a file that is damaged or no conversion.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be {' or '.join(map(repr, FORMATS))}, got {format!r}")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be {', '.join(map(repr, BACKENDS))}, got {backend!r}")
    if transforms not in TRANSFORMS:
        raise ValueError(f"transforms must be {' or '.join(map(repr, TRANSFORMS))}, got {transforms!r}")
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    model = unwrap(model)
    try:
        from fastlic.integrations.compressai.bfloat16 import compare
        from fastlic.integrations.compressai.plan import BFLOAT16, TRANSFORM, plan
    except ImportError as error:
        raise BackendUnavailable(INSTALL.format(reason=error)) from error

    restore(model)
    updated = _update(model)
    settings = Settings(format, backend, _stride(model), transforms)
    steps = list(plan(model, settings, calibration))
    if not any(step.replaces for step in steps if not step.part.startswith(("model", TRANSFORM))):
        raise TypeError(
            f"{type(model).__name__} holds nothing of CompressAI that fastlic knows: it is left as it was. "
            "accelerate serves models of compressai.zoo, compressai.models and what is built from its entropy models "
            "and latent codecs"
        )
    # What a raster loop codes stays CompressAI's stream even in format "native".
    loops = {id(step.module.gaussian_conditional) for step in steps if step.replaces and step.part.startswith("raster")}
    as_theirs = replace(settings, format="compressai")
    coders = []
    for step in steps:
        if step.replaces:
            own = as_theirs if id(step.module) in loops else settings
            swap.specialise(step.module, step.front, step.back, State(own, coder=step.coder, transform=step.transform))
        if step.coder is not None:
            coders.append(step.coder)
    if any(step.by == BFLOAT16 for step in steps):
        found = compare(model, settings, calibration)
        steps = [replace(step, note=found) if step.by == BFLOAT16 else step for step in steps]
    guarantee, made = _guarantee(steps, format), [step.transform for step in steps if step.transform is not None]
    return Report(type(model).__name__, format, guarantee, _rows(steps), updated, coders, made)


def restore(model: nn.Module) -> bool:
    """Give a model its own methods back; whether it had been accelerated."""
    return any([swap.restore(module) for module in unwrap(model).modules()])


@contextmanager
def accelerated(
    model: nn.Module,
    format: Format = "native",
    calibration: Sequence[Tensor] | str | Path | None = None,
    backend: Backend = "auto",
    transforms: Transforms = "exact",
) -> Iterator[Report]:
    """``accelerate`` for the length of a ``with`` block, which receives the report."""
    report = accelerate(model, format, calibration, backend, transforms)
    try:
        yield report
    finally:
        restore(model)


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DataParallel and DistributedDataParallel."""
    while isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = model.module
    return model


def _stride(model: Any) -> int:
    """Image pixels by row and column of z, or of y where there is no z."""
    from compressai.latent_codecs import HyperLatentCodec

    hyper = any(isinstance(module, HyperLatentCodec) for module in model.modules())
    return int(getattr(model, "downsampling_factor", 64 if hyper else 16))


@torch.no_grad()
def _update(model: Any) -> bool:
    """Build the coding tables where they are missing, as CompressAI's ``update()`` does."""
    from compressai.entropy_models import (
        EntropyBottleneck,
        EntropyBottleneckVbr,
        GaussianConditional,
        GaussianMixtureConditional,
    )
    from compressai.models.base import get_scale_table

    updated = False
    for module in model.modules():
        if not isinstance(module, (EntropyBottleneck, EntropyBottleneckVbr, GaussianConditional)):
            continue
        if isinstance(module, GaussianMixtureConditional):  # has tables and never reads them
            continue
        if module._quantized_cdf.numel() == 0:
            if isinstance(module, GaussianConditional):
                module.update_scale_table(get_scale_table())
            else:
                module.update()
            updated = True
    return updated


def _guarantee(steps: list[Any], format: Format) -> str:
    integers = {step.name for step in steps if step.transform is not None}
    halved = {step.part.rpartition(" ")[2] for step in steps if step.by.startswith("bfloat16")}
    analysis = "integers" if "g_a" in integers else "bfloat16" if "g_a" in halved else ""
    streams = _of_streams(steps, format, analysis)
    if "g_s" not in integers:
        return streams
    return f"{streams}; pixels from latents as integers, the same on any machine that holds this conversion"


def _of_streams(steps: list[Any], format: Format, analysis: str) -> str:
    parts = {step.part for step in steps if step.replaces}
    raster = any(part.startswith("raster") for part in parts)
    theirs = raster or "Gaussian mixture" in parts  # in both formats
    if format == "compressai":
        if theirs:
            return "CompressAI's streams, which like its own decode only where every float comes out the same"
        if analysis:
            return f"CompressAI's streams, of latents by {analysis}; they decode where its floats come out the same"
        return "CompressAI's streams, byte for byte; they decode where its floats come out the same"
    if "entropy path" in parts:
        return "decodes to the same latents on any machine that holds this conversion"
    if raster:
        return "raster streams of floats as CompressAI's; they decode only where every float comes out the same"
    if theirs:
        return "streams of floats as CompressAI's; they decode only where every float comes out the same"
    if "Gaussian entropy model" in parts:
        return "parameters stay floats; where they come out differently, ModelMismatchError says so"
    return "decodes to the same latents on any machine"


def _rows(steps: list[Any]) -> list[Row]:
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for step in steps:
        kinds.setdefault((step.part, step.by, step.note), []).append(step.name)
    return [Row(part, tuple(names), by, note, bool(by)) for (part, by, note), names in kinds.items()]
