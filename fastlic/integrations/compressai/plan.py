"""Which module of a CompressAI model is served by what: decided for the whole model before any of it is touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch.nn as nn
from compressai.entropy_models import (
    EntropyBottleneck,
    EntropyBottleneckVbr,
    EntropyModel,
    EntropyModelVbr,
    GaussianConditional,
    GaussianMixtureConditional,
)
from compressai.latent_codecs import CheckerboardLatentCodec, GaussianConditionalLatentCodec, RasterScanLatentCodec
from compressai.models import JointAutoregressiveHierarchicalPriors
from compressai.models.vbr import JointAutoregressiveHierarchicalPriorsVbr

from fastlic.integrations.compressai.entropy_models import FastEntropyModel, FastEntropyModelVbr, FastGaussian
from fastlic.integrations.compressai.latent_codecs import FastCheckerboardLatentCodec, FastGaussianLatentCodec
from fastlic.integrations.compressai.models import FastModel
from fastlic.integrations.compressai.raster import FastRaster, FastRasterLatentCodec, FastRasterVbr


@dataclass(frozen=True)
class Patch:
    """Serves instances of ``base`` whose ``methods`` are still those of ``owner`` (default: ``base``)."""

    part: str
    base: type
    by: str
    methods: tuple[str, ...] = ()
    front: tuple[type, ...] = ()
    back: tuple[type, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Step:
    """One module to specialise; no patch: why not."""

    name: str
    module: nn.Module
    part: str
    by: str
    note: str
    front: tuple[type, ...] = ()
    back: tuple[type, ...] = ()

    @property
    def replaces(self) -> bool:
        return bool(self.front or self.back)


_RASTER = "CompressAI's floats position by position, array coder"
# The first that fits a module serves it, so special classes come before general ones.
PATCHES = (
    Patch(
        "raster loops",
        JointAutoregressiveHierarchicalPriorsVbr,
        _RASTER,
        ("_compress_ar", "_decompress_ar"),
        (FastModel, FastRasterVbr),
    ),
    Patch(
        "raster loops",
        JointAutoregressiveHierarchicalPriors,
        _RASTER,
        ("_compress_ar", "_decompress_ar"),
        (FastModel, FastRaster),
    ),
    Patch("raster latent codec", RasterScanLatentCodec, _RASTER, ("compress", "decompress"), (FastRasterLatentCodec,)),
    Patch(
        "checkerboard codec",
        CheckerboardLatentCodec,
        "one context convolution in place of two",
        ("compress", "decompress", "embed", "unembed"),
        (FastCheckerboardLatentCodec,),
    ),
    Patch(
        "Gaussian latent codec",
        GaussianConditionalLatentCodec,
        "keeps its symbols, no decoding while encoding",
        ("compress", "_chunk"),
        (FastGaussianLatentCodec,),
    ),
    Patch(
        "Gaussian entropy model",
        GaussianConditional,
        "array coder, one search for all indexes",
        ("build_indexes", "quantize"),
        (FastGaussian,),
        (FastEntropyModel,),
    ),
    Patch("entropy bottleneck", EntropyBottleneck, "array coder", ("quantize",), (), (FastEntropyModel,)),
    Patch("entropy bottleneck", EntropyBottleneckVbr, "array coder", ("quantize",), (), (FastEntropyModelVbr,)),
    Patch("entropy model", EntropyModel, "array coder", ("quantize",), (), (FastEntropyModel,)),
    Patch("entropy model", EntropyModelVbr, "array coder", ("quantize",), (), (FastEntropyModelVbr,)),
)


def overridden(module: nn.Module, patch: Patch) -> list[str]:
    """Methods that a subclass, or the instance itself, has replaced with its own."""
    own = vars(module)
    return [
        name for name in patch.methods if name in own or getattr(type(module), name) is not getattr(patch.base, name)
    ]


def plan(model: nn.Module) -> Iterator[Step]:
    """Every module of ``model`` that is known, with what serves it or why nothing does."""
    for name, module in model.named_modules():
        if isinstance(module, GaussianMixtureConditional):
            yield Step(
                name, module, "Gaussian mixture", "", "it builds a table for each symbol; only its searches differ"
            )
            continue
        step = _patched(name, module)
        if step is None and module is model and _codes(module):
            step = Step(name, module, "model", "no gradients recorded", "", (FastModel,))
        if step is not None:
            yield step


def _patched(name: str, module: nn.Module) -> Step | None:
    for patch in PATCHES:
        if not isinstance(module, patch.base):
            continue
        if changed := overridden(module, patch):
            return Step(name, module, patch.part, "", f"{type(module).__name__} has its own {', '.join(changed)}")
        return Step(name, module, patch.part, patch.by, patch.note, patch.front, patch.back)
    return None


def _codes(module: Any) -> bool:
    return callable(getattr(module, "compress", None)) and callable(getattr(module, "decompress", None))
