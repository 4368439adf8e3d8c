"""Between network and coder: kernels and twins agree."""

from __future__ import annotations

import pytest
import torch

from fastlic.kernels.packing import pad_thresholds
from fastlic.kernels.reference import quantize as reference


def integers(*shape: int, reach: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-reach, reach + 1, shape, generator=generator, dtype=torch.int32)


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 1, 1, 1), (2, 0, 4, 3)])
def test_integer_heads(shape, device):
    from fastlic.kernels import quantize

    images, height, width, M = shape
    target = integers(*shape, reach=1 << 26, seed=1)
    target[..., ::2] >>= 14
    head = integers(images, height, width, 2 * M + 3, reach=1 << 20, seed=2)[..., : 2 * M]  # rows apart
    thresholds = pad_thresholds(torch.arange(100, 60000, 950).numpy(), device)
    zones = integers(images, thresholds.numel() + 1, reach=100, seed=3).abs()
    offsets = integers(thresholds.numel() + 1, reach=1 << 20, seed=4)
    nearest = reference.quantise_head(target, head, thresholds.cpu(), torch.zeros_like(zones))
    for a, b in zip(nearest, quantize.quantise_head(target.to(device), head.to(device), thresholds), strict=True):
        assert torch.equal(a, b.cpu())
    wanted = reference.quantise_head(target, head, thresholds.cpu(), zones)
    found = quantize.quantise_head(target.to(device), head.to(device), thresholds, zones.to(device))
    indexes, means = quantize.head_indexes(head.to(device), thresholds)
    for a, b in zip(wanted, found, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b.cpu())
    for a, b in zip(reference.head_indexes(head, thresholds.cpu()), (indexes, means), strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b.cpu())
    y = quantize.dequantise(found[1].reshape(shape), means)
    assert torch.equal(y.cpu(), wanted[2])
    moved = reference.quantise_head(target, head, thresholds.cpu(), zones, offsets)
    found = quantize.quantise_head(target.to(device), head.to(device), thresholds, zones.to(device), offsets.to(device))
    for a, b in zip(moved, found, strict=True):
        assert torch.equal(a, b.cpu())
    y = quantize.dequantise(found[1].reshape(shape), means, indexes, offsets.to(device))
    assert torch.equal(y.cpu(), moved[2])
