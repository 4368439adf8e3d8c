"""Between network and coder: kernels and twins agree, integer heads and float ones; torch.library's checks."""

from __future__ import annotations

import pytest
import torch

from fastlic.kernels.packing import pad_thresholds
from fastlic.kernels.reference import quantize as reference
from fastlic.ops.codebook import codebook_nearest
from fastlic.ops.quantise import dequantise, quantise

BACKENDS = ["reference", "triton"]


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


@pytest.mark.parametrize("shape", [(3, 5, 7), (1500,), (0, 4)])
@pytest.mark.parametrize("limit", [127, 2**31 - 1])
def test_float_heads(shape, limit, device):
    generator = torch.Generator().manual_seed(4)
    y, means = (torch.randn(*shape, generator=generator) * 300 for _ in range(2))
    y.view(-1)[::3] = (means.view(-1)[::3] + 0.5).clone()  # halves go to the even number
    y.view(-1)[5::50] *= 1e9
    scales = torch.rand(*shape, generator=generator) * 70
    scales.view(-1)[::7] = 10.0  # at a threshold
    thresholds = torch.arange(1.0, 64.0)
    found = [[t.cpu() for t in quantise(y.to(device), scales.to(device), means.to(device), thresholds.to(device),
                                        limit=limit, backend=backend)] for backend in BACKENDS]  # fmt: skip
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)
    symbols, indexes, y_hat = found[0]
    assert torch.equal(indexes.float(), (scales[..., None] > thresholds).sum(-1).float())
    assert not symbols.numel() or (int(symbols.max()) <= limit and int(symbols.min()) >= -limit - 1)
    near = (y - means).abs() < 100
    assert bool(((y_hat - y).abs()[near] <= 0.5001).all())
    for backend in BACKENDS:
        back = dequantise(symbols.to(device), means.to(device), backend=backend)
        assert torch.equal(back.cpu()[near], y_hat[near])


def test_operations_pass_torchs_checks(device):
    y, scales, means = (torch.rand(3, 4, device=device) for _ in range(3))
    thresholds = torch.arange(3.0, device=device)
    torch.library.opcheck(torch.ops.fastlic.quantise.default, (y, scales, means, thresholds, 127, "triton"))
    symbols = torch.ones(3, 4, dtype=torch.int32, device=device)
    torch.library.opcheck(torch.ops.fastlic.dequantise.default, (symbols, means, "triton"))
    x, words = torch.rand(5, 2, 4, device=device), torch.rand(2, 9, 4, device=device)
    torch.library.opcheck(torch.ops.fastlic.codebook_nearest.default, (x, words, "auto", 1))
    compiled = torch.compile(lambda x: codebook_nearest(x, words) + 1, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), codebook_nearest(x, words) + 1)


def test_arguments_that_do_not_fit_say_what_came():
    y, thresholds = torch.zeros(2, 3), torch.arange(3.0)
    with pytest.raises(ValueError, match=r"means must be torch.float32 \[2, 3\]"):
        quantise(y, y, y[:1], thresholds)
    with pytest.raises(ValueError, match="thresholds must be"):
        quantise(y, y, y, torch.zeros(0))
    with pytest.raises(ValueError, match="limit must be"):
        quantise(y, y, y, thresholds, limit=0)
    with pytest.raises(ValueError, match="symbols must be"):
        dequantise(y, y)
