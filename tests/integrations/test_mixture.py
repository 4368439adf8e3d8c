"""Gaussian mixtures: the streams of plain CompressAI, byte for byte, both ways."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn as nn

import fastlic
from fastlic.errors import CorruptStreamError
from fastlic.ops.mixture import mixture_rows

from .conftest import compressai_models  # noqa: F401  # skips without CompressAI

entropy_models = pytest.importorskip("compressai.entropy_models")


class Mixture(nn.Module):
    """The smallest model that has one."""

    def __init__(self, k: int = 3) -> None:
        super().__init__()
        self.mixture = entropy_models.GaussianMixtureConditional(K=k)


def parameters(channels: int, height: int, width: int, spread: float, k: int = 3, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    shape = (1, k * channels, height, width)
    y = torch.randn(1, channels, height, width, generator=generator) * spread
    y[:, ::3] *= 1e-3  # channels of zeros are left out of the stream
    scales = torch.rand(shape, generator=generator) * spread - 0.1
    means = torch.randn(shape, generator=generator) * spread / 2
    weights = torch.randn(1, k, channels, height, width, generator=generator).softmax(1).reshape(shape)
    return y, scales, means, weights


@pytest.mark.parametrize("format", ["compressai", "native"])
@pytest.mark.parametrize(("channels", "height", "width", "spread", "k"), [
    (8, 4, 6, 2.0, 3), (5, 3, 5, 0.4, 3), (12, 8, 8, 30.0, 3), (4, 5, 7, 200.0, 2), (6, 16, 16, 5.0, 1),
])  # fmt: skip
def test_streams_are_those_of_plain_compressai(channels, height, width, spread, k, format):
    model = Mixture(k)
    given = parameters(channels, height, width, spread, k)
    untouched = copy.deepcopy(given)
    (data, abs_max, bitmap), y_hat = model.mixture.compress(*given)
    report = fastlic.accelerate(model, format)
    assert "Gaussian mixture" in str(report) and not report.updated
    assert "every float" in report.guarantee
    (ours, our_max, our_bitmap), our_y_hat = model.mixture.compress(*given)
    assert ours == data and our_max == abs_max
    assert torch.equal(our_bitmap, bitmap) and torch.equal(our_y_hat, y_hat)
    assert torch.equal(model.mixture.decompress(data, abs_max, bitmap, *given[1:]), y_hat)
    assert all(torch.equal(a, b) for a, b in zip(given, untouched, strict=True))
    fastlic.accelerate(model, format, backend="reference")
    if spread < 10:
        assert model.mixture.compress(*given)[0][0] == data
        assert torch.equal(model.mixture.decompress(data, abs_max, bitmap, *given[1:]), y_hat)
    assert fastlic.restore(model)
    assert torch.equal(model.mixture.decompress(ours, abs_max, bitmap, *given[1:]), y_hat)


@pytest.mark.parametrize("backend", ["reference", "cpp"])
@pytest.mark.parametrize("slots", [3, 5, 41, 1001])
def test_rows_are_compressais(slots, backend):
    mixture = entropy_models.GaussianMixtureConditional(K=2)
    generator = torch.Generator().manual_seed(slots)
    scales, means, weights = (torch.rand(2, 60, generator=generator) for _ in range(3))
    scales, means, weights = scales * slots / 4, (means - 0.5) * slots, weights / weights.sum(0)
    from fastlic.integrations.compressai.mixture import _probabilities

    (pieces,) = zip(*[_probabilities(mixture, *(p.reshape(1, -1, 1, 1) for p in (scales, means, weights)),
                                     list(range(60)), slots // 2)], strict=True)  # fmt: skip
    rows = mixture_rows(np.concatenate(pieces), backend)
    theirs = mixture._build_cdf(scales.clone(), means.clone(), weights, slots // 2)
    assert np.array_equal(rows, theirs.numpy())


def test_damage_and_nonsense_are_errors():
    model = Mixture()
    fastlic.accelerate(model)
    given = parameters(6, 4, 4, 3.0)
    (data, abs_max, bitmap), _ = model.mixture.compress(*given)
    for damaged in (b"", data[:-4], data + bytes(4), data[:9]):
        with pytest.raises(CorruptStreamError):
            model.mixture.decompress(damaged, abs_max, bitmap, *given[1:])
    for wrong in (0, -3, 10**6):
        with pytest.raises(ValueError, match="abs_max"):
            model.mixture.decompress(data, wrong, bitmap, *given[1:])
    y = given[0].clone()
    y[0, 1, 2, 3] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        model.mixture.compress(y, *given[1:])
    with pytest.raises(ValueError, match="not a number"):
        model.mixture.compress(given[0], given[1] * float("nan"), *given[2:])


def test_a_latent_of_zeros_has_a_stream():
    """CompressAI's coder crashes on one without symbols."""
    model = Mixture()
    fastlic.accelerate(model)
    _, *rest = parameters(6, 4, 4, 3.0)
    (data, abs_max, bitmap), y_hat = model.mixture.compress(torch.zeros(1, 6, 4, 4), *rest)
    assert len(data) == 8 and not bitmap.any()
    assert torch.equal(model.mixture.decompress(data, abs_max, bitmap, *rest), y_hat)


def test_own_methods_of_a_mixture_are_respected():
    class Own(entropy_models.GaussianMixtureConditional):
        def _build_cdf(self, *args):
            return super()._build_cdf(*args)

    model = Mixture()
    model.mixture = Own()
    model.bottleneck = entropy_models.EntropyBottleneck(4)
    report = fastlic.accelerate(model)
    assert any("_build_cdf" in row.note for row in report.left)
