"""``accelerate``, ``restore`` and ``accelerated``: the front door."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.errors import BackendUnavailable
from fastlic.integrations.compressai import swap
from fastlic.integrations.compressai.report import Report, Row
from fastlic.integrations.compressai.settings import BACKENDS, FORMATS, Backend, Format, Settings, State

INSTALL = (
    "fastlic.accelerate serves models of CompressAI, which is not installed or cannot be imported ({reason}). "
    "Install it beside the torch you have with:  pip install --no-deps compressai==1.2.8  and then its requirements "
    "(docs/compressai.md lists them)"
)


def accelerate(
    model: nn.Module,
    format: Format = "native",
    calibration: Sequence[Tensor] | None = None,
    backend: Backend = "auto",
) -> Report:
    """Make ``compress`` and ``decompress`` of a live CompressAI model fast; weights, state dict and API stay.

    Args:
        model: any module of CompressAI's classes, or one built from them; a DataParallel wrapper is looked through.
        format: "native" for fastlic's own streams, "compressai" for streams that plain CompressAI reads and writes.
        calibration: images [3, H, W] in [0, 1] for models whose entropy networks are converted to integers
            (format "native"); default: the package's demonstration photo.
        backend: "auto" or "cpp", or "reference" for the plain Python coder.

    Returns:
        a report, printable as a table, of what was replaced by what, and what was not and why.

    Raises:
        BackendUnavailable: CompressAI cannot be imported.
        TypeError: nothing in the model is known; it is left as it was.
        ValueError: an argument is none of those above, or the model cannot be converted.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be {' or '.join(map(repr, FORMATS))}, got {format!r}")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be {', '.join(map(repr, BACKENDS))}, got {backend!r}")
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    model = unwrap(model)
    try:
        from fastlic.integrations.compressai.plan import plan
    except ImportError as error:
        raise BackendUnavailable(INSTALL.format(reason=error)) from error

    restore(model)
    steps = list(plan(model))
    if not any(step.replaces for step in steps if step.part != "model"):
        raise TypeError(
            f"{type(model).__name__} holds nothing of CompressAI that fastlic knows: it is left as it was. "
            "accelerate serves models of compressai.zoo, compressai.models and what is built from its entropy models "
            "and latent codecs"
        )
    updated = _update(model)
    settings = Settings(format, backend)
    for step in steps:
        if step.replaces:
            swap.specialise(step.module, step.front, step.back, State(settings))
    return Report(type(model).__name__, format, _guarantee(steps), _rows(steps), updated)


def restore(model: nn.Module) -> bool:
    """Give a model its own methods back; whether it had been accelerated."""
    return any([swap.restore(module) for module in unwrap(model).modules()])


@contextmanager
def accelerated(
    model: nn.Module,
    format: Format = "native",
    calibration: Sequence[Tensor] | None = None,
    backend: Backend = "auto",
) -> Iterator[Report]:
    """``accelerate`` for the length of a ``with`` block, which receives the report."""
    report = accelerate(model, format, calibration, backend)
    try:
        yield report
    finally:
        restore(model)


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DataParallel and DistributedDataParallel."""
    while isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = model.module
    return model


@torch.no_grad()
def _update(model: Any) -> bool:
    """Build the coding tables where they are missing, as CompressAI's ``update()`` does."""
    from compressai.entropy_models import EntropyBottleneck, EntropyBottleneckVbr, GaussianConditional
    from compressai.models.base import get_scale_table

    updated = False
    for module in model.modules():
        if not isinstance(module, (EntropyBottleneck, EntropyBottleneckVbr, GaussianConditional)):
            continue
        if module._quantized_cdf.numel() == 0:
            if isinstance(module, GaussianConditional):
                module.update_scale_table(get_scale_table())
            else:
                module.update()
            updated = True
    return updated


def _guarantee(steps: list[Any]) -> str:
    if any(step.part.startswith("raster") for step in steps if step.replaces):
        return "streams are CompressAI's, bound like its own to the machine and thread count that made them"
    return "the very bytes of plain CompressAI, both ways"


def _rows(steps: list[Any]) -> list[Row]:
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for step in steps:
        kinds.setdefault((step.part, step.by, step.note), []).append(step.name)
    return [Row(part, tuple(names), by, note, bool(by)) for (part, by, note), names in kinds.items()]
