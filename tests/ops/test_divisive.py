"""GDN in one pass equals float64 to 1e-5 relative, on every instruction set, size and layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastlic import _native
from fastlic.models.layers import GDN
from fastlic.ops.divisive import gdn

SUPPORTED = _native.supported_isas()


@pytest.fixture(params=SUPPORTED)
def isa(request):
    before = _native.get_isa()
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa(before)


def arguments(channels, height, width, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed + channels)
    x = torch.randn(batch, channels, height, width, generator=generator) * 3
    beta = torch.rand(channels, generator=generator) + 1e-6
    gamma = torch.rand(channels, channels, generator=generator) * 0.1
    return x, beta, gamma


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 15, 16, 31, 33, 64, 127, 192])
def test_equals_float64(channels, inverse, isa):
    for height, width in [(1, 1), (1, 5), (3, 4), (7, 13), (17, 50)]:
        x, beta, gamma = arguments(channels, height, width, batch=2)
        expected = gdn(x, beta, gamma, inverse, backend="reference")
        for threads in (1, 3):
            for layout in (torch.contiguous_format, torch.channels_last):
                found = gdn(x.contiguous(memory_format=layout), beta, gamma, inverse, threads=threads)
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
                assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("inverse", [False, True])
def test_equals_the_layer_that_trains(inverse):
    torch.manual_seed(0)
    layer = GDN(24, inverse)
    layer.gamma.data += torch.rand(24, 24) * 0.1
    x = torch.randn(2, 24, 9, 11)
    with torch.no_grad():
        expected = layer(x)
        beta, gamma = layer.beta_reparam(layer.beta), layer.gamma_reparam(layer.gamma)
    torch.testing.assert_close(gdn(x, beta, gamma, inverse), expected, rtol=1e-5, atol=1e-6)


def test_nothing_is_written_beyond_the_map_and_the_input_stays(isa):
    x, beta, gamma = arguments(19, 5, 7)
    before = x.clone()
    rows = np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())
    guarded = np.full(rows.size + 64, 7.0, np.float32)
    _native.gdn(rows, guarded[32:-32].reshape(rows.shape), beta.numpy(), gamma.numpy(), False, 2)
    assert (guarded[:32] == 7).all() and (guarded[-32:] == 7).all()
    assert torch.equal(x, before)


def test_values_that_are_not_finite_stay_where_they_are(isa):
    x, beta, gamma = arguments(16, 6, 6)
    x[0, 3, 2, 2] = float("nan")
    out = gdn(x, beta, gamma)
    bad = torch.isnan(out).any(1)[0]
    assert bad[2, 2] and bad.sum() == 1


def test_empty_maps_and_wrong_arguments():
    x, beta, gamma = arguments(4, 2, 2)
    assert gdn(x[:0], beta, gamma).shape == (0, 4, 2, 2)
    for wrong in ((x[0], beta, gamma), (x.double(), beta, gamma), (x, beta[:3], gamma), (x, beta, gamma[:3])):
        with pytest.raises(ValueError, match="must be"):
            gdn(*wrong)
    with pytest.raises(ValueError, match="channels do not fit"):
        _native.gdn(
            np.zeros(7, np.float32), np.zeros(7, np.float32), np.ones(2, np.float32), np.ones(4, np.float32), False
        )
