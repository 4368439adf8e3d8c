"""Codebook search: every backend gives the index that float64 gives, lowest among equals."""

from __future__ import annotations

import pytest
import torch

from fastlic.ops.codebook import NEAREST, codebook_nearest

SIZES = [(37, 2, 100, 8), (5, 3, 16, 16), (20, 1, 150, 64), (1, 1, 1, 1), (18, 2, 129, 24), (3, 1, 40, 128)]


def problem(n: int, m: int, k: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors with strides of their own, every word twice, and some vectors in the middle between words."""
    generator = torch.Generator().manual_seed(n + k)
    x = torch.randn(m, n, d, generator=generator).transpose(0, 1)
    words = torch.randn(m, k, d, generator=generator)
    words[:, : k // 2] = (2 * words[:, : k // 2]).round() / 2
    words[:, k - k // 2 :] = words[:, : k // 2].clone()
    x[: n // 3] = (x[: n // 3] * 2).round() / 4
    return x, words


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_kernel_gives_float64s_index_and_the_residual(size, splits, device):
    from fastlic.kernels import codebook

    x, words = problem(*size)
    wanted = codebook_nearest(x, words, backend="reference")
    found, residual = codebook.nearest(x.to(device), words.to(device), residual=True, splits=splits)
    assert torch.equal(found.cpu(), wanted)
    picked = torch.stack([words[g][wanted[:, g]] for g in range(size[1])], 1)
    assert residual is not None
    assert torch.equal(residual.cpu(), x - picked)


def test_no_vectors_have_no_words(device):
    from fastlic.kernels import codebook

    found, _ = codebook.nearest(torch.empty(0, 2, 8, device=device), torch.ones(2, 4, 8, device=device))
    assert found.shape == (0, 2)


@pytest.mark.parametrize("backend", ["cpp", "triton"])
def test_every_backend_of_the_operation_agrees(backend, device):
    if backend not in NEAREST:
        pytest.skip(f"codebook_nearest has no backend {backend}")
    x, words = problem(21, 2, 70, 16)
    place = device if backend == "triton" else torch.device("cpu")
    found = codebook_nearest(x.to(place), words.to(place), backend=backend)
    assert torch.equal(found.cpu(), codebook_nearest(x, words, backend="reference"))


@pytest.mark.parametrize("precision", ["ieee", "tf32x3"])
def test_rounding_stays_within_the_stated_bound(precision, device):
    """tf32x3 emulated bit by bit (cut to 10 bits of fraction): interpreters compute it in float32."""
    from fastlic.kernels.codebook import error_factor

    generator = torch.Generator().manual_seed(1)
    x, c = (torch.randn(200, 64, generator=generator) for _ in range(2))

    def cut(v: torch.Tensor) -> torch.Tensor:
        return (v.view(torch.int32) & -(1 << 13)).view(torch.float32)

    half = c.square().sum(1) * 0.5
    if precision == "ieee":
        score = half - (x * c).sum(1)
    else:
        x_high, c_high = cut(x), cut(c)
        x_low, c_low = cut(x - x_high), cut(c - c_high)
        score = half - ((x_low * c_high).sum(1) + (x_high * c_low).sum(1) + (x_high * c_high).sum(1))
    true = c.double().square().sum(1) / 2 - (x.double() * c.double()).sum(1)
    reach = x.double().norm(dim=1) * c.double().norm(dim=1) + c.double().square().sum(1) / 2
    off = (score.double() - true).abs() / reach
    assert 0 < float(off.max()) < error_factor(64, precision)


def test_the_operation_passes_torchs_checks(device):
    x, words = torch.rand(5, 2, 4, device=device), torch.rand(2, 9, 4, device=device)
    torch.library.opcheck(torch.ops.fastlic.codebook_nearest.default, (x, words, "auto", 1))
    compiled = torch.compile(lambda x: codebook_nearest(x, words) + 1, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), codebook_nearest(x, words) + 1)
