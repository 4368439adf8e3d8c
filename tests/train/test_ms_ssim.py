"""The loss is the published measure where that is defined, and has a gradient everywhere."""

from __future__ import annotations

import pytest
import torch

from fastlic.train.ms_ssim import ms_ssim


@pytest.mark.parametrize("size", [(161, 170), (256, 192)])
def test_equals_pytorch_msssim(size):
    peer = pytest.importorskip("pytorch_msssim")
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(2, 3, *size, generator=generator, dtype=torch.float64)
    b = (a + 0.1 * torch.randn(a.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
    assert torch.allclose(ms_ssim(a, b), peer.ms_ssim(a, b, data_range=1, size_average=False), atol=1e-6)


@pytest.mark.parametrize("side", [64, 128])
def test_small_crops_use_fewer_scales(side):
    a = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert ms_ssim(a, a).item() == pytest.approx(1, abs=1e-5)
    b = (1 - a).requires_grad_()
    ms_ssim(a, b).sum().backward()
    assert torch.isfinite(b.grad).all()
    with pytest.raises(ValueError, match="at least 11"):
        ms_ssim(a[..., :10], a[..., :10])


def test_autocast_does_not_reach_it():
    a = torch.rand(1, 3, 176, 176, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.5
    b = (a + 0.02).clamp(0, 1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = ms_ssim(a, b.requires_grad_())
    assert inside.dtype == torch.float32
    assert torch.equal(inside, ms_ssim(a, b))
