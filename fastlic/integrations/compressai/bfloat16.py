"""Transforms in bfloat16, and what that does to pictures.

torch's autocast gives convolutions and products of matrices copies of their weights at each call, so weights may change
at any time. The ends stay float32: pixels of 8 bits and latents above 256 have more digits than bfloat16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.codec.calibration import default_calibration
from fastlic.codec.images import as_batch
from fastlic.integrations.compressai.integers import IMAGE_STRIDE, Calibration, fitted
from fastlic.integrations.compressai.settings import Settings
from fastlic.integrations.compressai.swap import state_of
from fastlic.models.bfloat16 import supported

# Of the image on which pictures are compared, at most: four transforms run on it.
_ROWS, _COLUMNS = 256, 384


def why_not(weight: Tensor) -> str:
    """In words, where a transform of such weights does not run in bfloat16; or nothing."""
    if weight.dtype != torch.float32:
        return f"its weights are {weight.dtype}, not float32: as before"
    if supported(weight.device):
        return ""
    return f"{'this CPU has neither AVX512-BF16 nor AMX' if weight.device.type == 'cpu' else weight.device}: exact"


def _wanted(module: nn.Module) -> bool:
    state = state_of(module, None)
    return state is not None and state.settings.transforms == "fast"


def serves(module: nn.Module, x: Any) -> bool:
    """Whether a transform is to run in bfloat16, and may for this input."""
    weight = next(module.parameters(), None)
    return (
        _wanted(module)
        and type(x) is Tensor
        and x.dim() >= 3
        and weight is not None
        and x.device == weight.device
        and x.dtype == weight.dtype == torch.float32
        and not module.training
        and supported(x.device)
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled(x.device.type)
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


def inside(layer: nn.Module, x: Any, dims: int = 4) -> bool:
    """Whether a layer of a transform that runs in bfloat16 gets a tensor of so many dimensions on the CPU."""
    return (
        type(x) is Tensor
        and _wanted(layer)
        and x.dim() == dims
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") is torch.bfloat16
        and not torch.is_grad_enabled()
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


def run_layers(sequence: nn.Sequential, x: Tensor) -> Tensor:
    """nn.Sequential's ``forward`` under autocast, its ends in float32: float32 to float32."""
    layers = list(sequence)
    last = max((i for i, layer in enumerate(layers) if _resizes(layer)), default=len(layers) - 1)
    for i, layer in enumerate(layers):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=0 < i < last):
            x = layer(x if 0 < i < last else x.float())
    return x.float()


def _resizes(layer: nn.Module) -> bool:
    return any(
        isinstance(m, (nn.ConvTranspose2d, nn.PixelShuffle)) or (isinstance(m, nn.Conv2d) and max(m.stride) > 1)
        for m in layer.modules()
    )


@torch.no_grad()
def compare(model: Any, settings: Settings, calibration: Calibration) -> str:
    """PSNR of a picture through g_a, rounding and g_s in bfloat16 beside that in float32, in words.

    Not through ``forward``, but where there is neither: CompressAI's masked convolutions write to their weights there.

    ``settings`` are those that the model's modules hold.
    """
    own = calibration is None or isinstance(calibration, (str, Path))
    image = default_calibration()[0] if own else as_batch(calibration[0])[0]  # type: ignore[index]
    image = fitted(image[:, :_ROWS, :_COLUMNS], IMAGE_STRIDE)
    modes = [(module, module.training) for module in model.modules()]
    chosen, pictures = settings.transforms, []
    try:
        x = image.to(next(model.parameters()).device)
        model.eval()
        for settings.transforms in ("exact", "fast"):
            whole = not {"g_a", "g_s"} <= dict(model.named_children()).keys()
            pictures.append((model(x)["x_hat"] if whole else model.g_s(model.g_a(x).round())).clamp(0, 1))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:  # a model that is called otherwise
        return f"pictures could not be compared: {error!r:.100}"
    finally:
        settings.transforms = chosen
        for module, mode in modes:
            module.training = mode
    exact, fast = (_psnr(picture, x) for picture in pictures)
    where = "the demonstration photo" if own else "the first image given"
    return f"PSNR of the picture {fast - exact:+.2f} dB on {where}, {_psnr(*pictures):.0f} dB between both pictures"


def _psnr(a: Tensor, b: Tensor) -> float:
    error = (a.double() - b.double()).square().mean().clamp_min(1e-20)
    return float(-10 * torch.log10(error))
