"""CompressAI's classes, as far as the package that is imported has them.

Forks bring CompressAI of 2021 along, under its own name: entropy models, GDN and some models, but no latent codecs, no
variable rate, no mixtures. Of a class that is not there nothing is an instance, and that is all that its stand-in says.
"""

from __future__ import annotations

import dis
import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from compressai.entropy_models import EntropyBottleneck, EntropyModel, GaussianConditional
from torch import Tensor

__all__ = ["EntropyBottleneck", "EntropyModel", "GaussianConditional"]


def _found(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(f"compressai.{module}"), name, None)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("compressai"):  # something that CompressAI imports
            raise
        return None


def _class(module: str, name: str) -> Any:
    return _found(module, name) or type(name, (), {"__doc__": "Not in this CompressAI."})


EntropyModelVbr = _class("entropy_models", "EntropyModelVbr")
EntropyBottleneckVbr = _class("entropy_models", "EntropyBottleneckVbr")
GaussianMixtureConditional = _class("entropy_models", "GaussianMixtureConditional")

ChannelGroupsLatentCodec = _class("latent_codecs", "ChannelGroupsLatentCodec")
CheckerboardLatentCodec = _class("latent_codecs", "CheckerboardLatentCodec")
EntropyBottleneckLatentCodec = _class("latent_codecs", "EntropyBottleneckLatentCodec")
GaussianConditionalLatentCodec = _class("latent_codecs", "GaussianConditionalLatentCodec")
HyperLatentCodec = _class("latent_codecs", "HyperLatentCodec")
HyperpriorLatentCodec = _class("latent_codecs", "HyperpriorLatentCodec")
MultiContextCheckerboardLatentCodec = _class("latent_codecs", "MultiContextCheckerboardLatentCodec")
RasterScanLatentCodec = _class("latent_codecs", "RasterScanLatentCodec")

ScaleHyperprior = _class("models", "ScaleHyperprior")
MeanScaleHyperprior = _class("models", "MeanScaleHyperprior")
JointAutoregressiveHierarchicalPriors = _class("models", "JointAutoregressiveHierarchicalPriors")
ScaleHyperpriorVbr = _class("models.vbr", "ScaleHyperpriorVbr")
MeanScaleHyperpriorVbr = _class("models.vbr", "MeanScaleHyperpriorVbr")
JointAutoregressiveHierarchicalPriorsVbr = _class("models.vbr", "JointAutoregressiveHierarchicalPriorsVbr")

GDN = _class("layers", "GDN")
ResidualBlock = _class("layers", "ResidualBlock")
ResidualBlockUpsample = _class("layers", "ResidualBlockUpsample")
ResidualBlockWithStride = _class("layers", "ResidualBlockWithStride")
ResidualBottleneckBlock = _class("models.sensetime", "ResidualBottleneckBlock")

quantize_ste = _found("ops", "quantize_ste")  # of variable rate alone


def get_scale_table() -> Tensor:
    """The 64 scales that CompressAI's models start from."""
    own = _found("models.base", "get_scale_table")
    table: Tensor = own() if own else torch.exp(torch.linspace(math.log(0.11), math.log(256), 64))
    return table


# EntropyModel.decompress has no dtype before 1.2, and in some forks arguments more.
DECOMPRESS = inspect.signature(EntropyModel.decompress)
COMPRESS = inspect.signature(EntropyModel.compress)
TYPED = "dtype" in inspect.signature(EntropyModel.dequantize).parameters
_KNOWN = {"self", "inputs", "strings", "indexes", "dtype", "means"}


def unknown_arguments() -> str:
    """Arguments of EntropyModel's methods that it reads and fastlic does not know; empty if there are none."""
    methods: tuple[Callable[..., Any], ...] = (EntropyModel.compress, EntropyModel.decompress)
    read = {
        instruction.argval
        for method in methods
        for instruction in dis.get_instructions(method)
        if instruction.opname.startswith("LOAD_FAST")
    }
    return ", ".join(sorted(({*COMPRESS.parameters, *DECOMPRESS.parameters} - _KNOWN) & read))
