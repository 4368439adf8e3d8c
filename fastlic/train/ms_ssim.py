"""MS-SSIM as a loss: differentiable, per image, for crops of any training size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli, Bovik 2003
_TAPS, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def _blur(x: Tensor) -> Tensor:
    """Separable Gaussian window without padding; [N, C, H, W] -> [N, C, H-10, W-10]."""
    at = torch.arange(_TAPS, dtype=x.dtype, device=x.device) - _TAPS // 2
    window = torch.exp(-(at**2) / (2 * _SIGMA**2))
    window = (window / window.sum()).expand(x.shape[1], 1, 1, _TAPS)
    x = F.conv2d(x, window, groups=x.shape[1])
    return F.conv2d(x, window.transpose(2, 3), groups=x.shape[1])


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """MS-SSIM of each pair, [N]; ``a`` and ``b`` are [N, 3, H, W] float in [0, 1].

    At least float32 whatever autocast says: variances are small differences of large means, which bfloat16 loses. Five
    scales need a side of 161; smaller crops use as many as keep the window inside, their weights rescaled to the same
    sum. With five it is the published measure.

    Raises:
        ValueError: a side below 11.
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (a, b))
        return _ms_ssim(a, b)


def _ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    side = min(a.shape[-2:])
    if side < _TAPS:
        raise ValueError(f"MS-SSIM needs sides of at least {_TAPS}, got {tuple(a.shape[-2:])}")
    scales = max(n for n in range(1, len(WEIGHTS) + 1) if -(-side >> (n - 1)) >= _TAPS)
    whole = sum(WEIGHTS) / sum(WEIGHTS[:scales])
    weights = [weight * whole for weight in WEIGHTS[:scales]]  # numbers of Python: a GPU need not be sent any
    result = torch.ones(a.shape[0], a.shape[1], dtype=a.dtype, device=a.device)
    for scale in range(scales):
        if scale:
            pad = (a.shape[-2] % 2, a.shape[-1] % 2)
            a, b = (F.avg_pool2d(x, 2, padding=pad) for x in (a, b))
        mean_a, mean_b, square_a, square_b, product = _blur(torch.cat([a, b, a * a, b * b, a * b], 1)).chunk(5, 1)
        variance = square_a - mean_a**2 + square_b - mean_b**2
        structure = (2 * (product - mean_a * mean_b) + _C2) / (variance + _C2)
        if scale == scales - 1:
            structure = structure * (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
        # Negative correlation has no real power; where it is clipped the other scales still give a gradient.
        result = result * structure.mean((2, 3)).clamp_min(1e-4) ** weights[scale]
    return result.mean(1)
