"""Distortion between two 8-bit images."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from fastlic import light
from fastlic.errors import optional

# Four halvings must leave more than one 11-tap window: the smallest side for which MS-SSIM is defined.
MS_SSIM_MIN_SIDE = 161

# From here on, 30 dB, MS-SSIM is computed in float64. float32 is quicker and off by 2e-6 at most: below,
# that is 0.005 dB at most; close to 1, where the best codecs are, the index itself would lose digits.
_FLOAT64_FROM = 0.999


def psnr(a: Tensor, b: Tensor) -> float:
    """10 log10(255^2 / MSE) in dB over all samples of two uint8 images of one shape; infinite if they are equal."""
    if a.shape != b.shape or a.dtype != torch.uint8 or b.dtype != torch.uint8:
        raise ValueError(f"psnr compares uint8 images of one shape, got {_describe(a)} and {_describe(b)}")
    return light.psnr(a.cpu().numpy(), b.cpu().numpy())


def ms_ssim_available() -> bool:
    """Whether pytorch-msssim is installed."""
    return importlib.util.find_spec("pytorch_msssim") is not None


def ms_ssim(a: Tensor, b: Tensor) -> float | None:
    """Multi-scale SSIM (Wang et al. 2003, five scales) of two uint8 images [3, H, W]; None below 161 pixels a side.

    Raises:
        BackendUnavailable: pytorch-msssim is not installed.
    """
    pytorch_msssim = optional("pytorch_msssim", "eval")
    if min(a.shape[-2:]) < MS_SSIM_MIN_SIDE:
        return None
    index = 1.0
    for dtype in (torch.float32, torch.float64):
        index = pytorch_msssim.ms_ssim(a[None].to(dtype), b[None].to(dtype), data_range=255).item()
        if index < _FLOAT64_FROM:
            break
    return index


def _describe(x: Tensor) -> str:
    return f"{x.dtype} {list(x.shape)}"
