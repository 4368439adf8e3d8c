"""``accelerate``, ``restore`` and ``accelerated``: the front door."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

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
from fastlic.integrations.compressai.swap import is_compiled
from fastlic.ops.backends import require_triton


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
        model: any module of CompressAI's classes, or one built from them. DataParallel, AveragedModel and what
            torch.compile returns are looked through.
        format: "native" for fastlic's own streams, "compressai" for streams that plain CompressAI reads and writes.
        calibration: for what is converted to integers (entropy networks in format "native", transforms if asked for):
            images [3, H, W] in [0, 1] to measure ranges on (default: the package's demonstration photo), or the path
            of a conversion that ``report.save`` wrote, so that other machines decode with the very same integers.
        backend: "auto" or "cpp", or "reference" for the plain Python coder. "triton" for latents and transforms of
            integers in kernels, on the current GPU or in Triton's interpreter, with the same streams and pixels: format
            "native" or ``transforms="integer"``. What has no kernels stays on the CPU, and the report says why.
        transforms: "exact" for g_a and g_s in floats, CompressAI's numbers to 1e-5. "fast" for bfloat16 where the CPU
            has AVX512-BF16 or AMX, and on GPUs: pictures and the choice of symbols change a little, the report says by
            how much, and whether both ends of a stream have it makes no difference to its latents. "integer" for
            networks of integers: pixels in and out have 8 bits, latents count 2^-6, and both are the same on every
            machine that holds the same conversion. The encoder and the decoder of an image must both have them for
            that.

    Returns:
        a report, printable as a table, of what was replaced by what, and what was not and why.

    Raises:
        BackendUnavailable: CompressAI cannot be imported; or ``backend="triton"`` without a GPU or Triton, or for a
            model none of which has kernels, which is left as it was.
        TypeError: nothing in the model is known, or it is a program of torch.jit; it is left as it was.
        ValueError: an argument is none of those above, calibration has no images, or some of another shape or range;
            or the model is on the meta device.
        ModelMismatchError: ``calibration`` is a conversion of other weights.
        CodecFileError: ``calibration`` is a file that is damaged or no conversion.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be {' or '.join(map(repr, FORMATS))}, got {format!r}")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be {', '.join(map(repr, BACKENDS))}, got {backend!r}")
    if transforms not in TRANSFORMS:
        raise ValueError(f"transforms must be {' or '.join(map(repr, TRANSFORMS))}, got {transforms!r}")
    model = unwrap(model)
    _check_live(model)
    if backend == "triton":
        require_triton()
    try:
        from fastlic.integrations.compressai.bfloat16 import compare
        from fastlic.integrations.compressai.integers import checked_calibration
        from fastlic.integrations.compressai.plan import BFLOAT16, LOOPS, TRANSFORM, plan
    except ImportError as error:
        raise BackendUnavailable(INSTALL.format(reason=error)) from error

    calibration = checked_calibration(calibration)
    with swap.undone(model):
        updated = _update(model)
        settings = Settings(format, backend, _stride(model), transforms)
        steps = list(plan(model, settings, calibration))
        if not any(step.replaces for step in steps if not step.part.startswith(("model", TRANSFORM))):
            why = "; ".join(dict.fromkeys(f"{step.part}: {step.note}" for step in steps if not step.by and step.note))
            does = f"knows how to serve ({why})" if why else "knows"
            raise TypeError(
                f"{type(model).__name__} holds nothing of CompressAI that fastlic {does}: it is left as it was. "
                "accelerate serves models of compressai.zoo, compressai.models and what is built from its entropy "
                "models and latent codecs"
            )
        if backend == "triton" and not any(step.on_device for step in steps):
            raise BackendUnavailable(_nothing_on_a_device(model, settings, steps))
    # What a raster loop codes stays CompressAI's stream even in format "native", and so does what loops of the model's
    # own code: all indexes below such a loop are CompressAI's, as nothing says which of them it takes.
    loops = {id(step.module.gaussian_conditional) for step in steps if step.replaces and step.part.startswith("raster")}
    loops |= {
        id(module) for step in steps if step.part == LOOPS for module in step.module.modules() if _is_gaussian(module)
    }
    as_theirs = replace(settings, format="compressai")
    second = {id(step.module): step for step in steps if step.part == LOOPS and step.replaces}
    # Where another module than accelerate's would change streams or pixels in kind. Raster loops ask for its tables.
    kept = [step for step in steps if step.replaces and not step.part.startswith(TRANSFORM)]
    kept = kept if format == "native" or loops else []
    places = [step.name for step in (*kept, *(step for step in steps if step.transform is not None))]
    for step in steps:
        if step.replaces and not swap.is_specialised(step.module):
            own = as_theirs if id(step.module) in loops else settings
            front, back = step.front, step.back
            if step.part != LOOPS and id(step.module) in second:  # a module with two steps
                front, back = (*front, *second[id(step.module)].front), (*second[id(step.module)].back, *back)
            state = State(own, coder=step.coder, transform=step.transform, places=_below(step.name, places))
            swap.specialise(step.module, front, back, state)
    coders = [step.coder for step in steps if step.coder is not None]
    if any(step.by == BFLOAT16 for step in steps):
        found = compare(model, settings, calibration)
        steps = [replace(step, note=found) if step.by == BFLOAT16 else step for step in steps]
    guarantee, made = _guarantee(steps, format), [step.transform for step in steps if step.transform is not None]
    rows = _rows(steps) + _hooks(model, steps)
    refused = [step.refusal for step in steps if step.refusal is not None]
    return Report(type(model).__name__, format, guarantee, rows, updated, coders, made, refused)


def restore(model: nn.Module) -> bool:
    """Give a model its own methods back; whether it had been accelerated.

    Raises:
        TypeError: no torch.nn.Module.
    """
    return any([swap.restore(module) for module in unwrap(model).modules()])


@contextmanager
def accelerated(
    model: nn.Module,
    format: Format = "native",
    calibration: Sequence[Tensor] | str | Path | None = None,
    backend: Backend = "auto",
    transforms: Transforms = "exact",
) -> Iterator[Report]:
    """``accelerate`` for the length of a ``with`` block, which receives the report.

    Behind it the model is as it was before: plain, or accelerated as it had been.

    Raises:
        BackendUnavailable, TypeError, ValueError, ModelMismatchError, CodecFileError: as :func:`accelerate`, before the
            block begins.
    """
    before = swap.specialised(unwrap(model))
    report = accelerate(model, format, calibration, backend, transforms)
    try:
        yield report
    finally:
        restore(model)
        swap.put_back(before)


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DataParallel, DistributedDataParallel, AveragedModel and torch.compile.

    Raises:
        TypeError: no module at all.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)):
            model = model.module
        elif is_compiled(model):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def _check_live(model: nn.Module) -> None:
    """Raises TypeError for a program of torch.jit, ValueError for weights on the meta device."""
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            f"expected a model of Python classes, got a {type(model).__name__} of torch.jit: accelerate the model "
            "that was scripted or traced"
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta:
            raise ValueError(
                f"{name} is on the meta device, where weights have no values: load them (model.to_empty(device='cpu'), "
                "then load_state_dict) before accelerate"
            )


def _nothing_on_a_device(model: nn.Module, settings: Settings, steps: list[Any]) -> str:
    """Why, and what would be right."""
    reasons = dict.fromkeys(f"{step.part}: {step.lacks or step.note}" for step in steps if step.lacks or not step.by)
    right = "backend='auto' or 'cpp', which code on the CPU"
    if settings.transforms != "integer":
        right = f"transforms='integer', whose networks have kernels, or {right}"
    if settings.format != "native":
        right = f"format='native', in which latents of integers have kernels, or {right}"
    return (
        f"backend 'triton' has no kernels for anything of this {type(model).__name__} ({'; '.join(reasons)}); "
        f"ask for {right}"
    )


def _below(name: str, paths: Iterable[str]) -> tuple[str, ...]:
    prefix = f"{name}." if name else ""
    return tuple(path[len(prefix) :] for path in paths if path.startswith(prefix) and path != name)


def _hooks(model: nn.Module, steps: list[Any]) -> list[Row]:
    """A row that names the modules whose forward hooks do not run any more."""
    silent = {id(module) for step in steps for module in step.silent}
    names = tuple(
        name
        for name, module in model.named_modules()
        if id(module) in silent and (module._forward_hooks or module._forward_pre_hooks)
    )
    note = "integers stand in for these modules, which compress and decompress do not call"
    return [Row("forward hooks", names, "do not run", note)] if names else []


def _stride(model: Any) -> int:
    """Image pixels by row and column of z, or of y where there is no z."""
    from fastlic.integrations.compressai.theirs import HyperLatentCodec, HyperpriorLatentCodec

    hyper = any(isinstance(module, (HyperLatentCodec, HyperpriorLatentCodec)) for module in model.modules())
    return int(getattr(model, "downsampling_factor", 64 if hyper else 16))


@torch.no_grad()
def _update(model: Any) -> bool:
    """Build the coding tables where they are missing, as CompressAI's ``update()`` does."""
    from fastlic.integrations.compressai.theirs import (
        EntropyBottleneck,
        EntropyBottleneckVbr,
        GaussianConditional,
        GaussianMixtureConditional,
        get_scale_table,
    )

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


def _is_gaussian(module: nn.Module) -> bool:
    from fastlic.integrations.compressai.theirs import GaussianConditional

    return isinstance(module, GaussianConditional)


def _guarantee(steps: list[Any], format: Format) -> str:
    integers = {step.part.rpartition(" ")[2] for step in steps if step.transform is not None}
    halved = {step.part.rpartition(" ")[2] for step in steps if step.by.startswith("bfloat16")}
    # h_a's latents are coded as well.
    analysis = "integers" if integers - {"g_s"} else "bfloat16" if "g_a" in halved else ""
    streams = _of_streams(steps, format, analysis)
    if "g_s" not in integers:
        return streams
    return f"{streams}; pixels from latents as integers, the same on any machine that holds this conversion"


def _of_streams(steps: list[Any], format: Format, analysis: str) -> str:
    from fastlic.integrations.compressai.plan import LOOPS

    parts = {step.part for step in steps if step.replaces}
    raster = any(step.part.startswith("raster") for step in steps)  # replaced or not: they code by CompressAI's rules
    loops = any(step.part == LOOPS for step in steps)
    theirs = raster or loops or "Gaussian mixture" in parts  # in both formats
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
