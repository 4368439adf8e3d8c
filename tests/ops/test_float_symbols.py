"""Rows of scales and rounded differences: every implementation against torch's own operations."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from fastlic.ops.float_symbols import ScaleSearch, round_differences

BACKENDS = ("reference", "cpp")
TABLE = torch.exp(torch.linspace(np.log(0.11), np.log(256), 64))
BOUNDS = {
    "CompressAI's": TABLE[:-1],
    "one": torch.tensor([0.5]),
    "none": torch.tensor([]),
    "equal and close": torch.tensor([0.5, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 0.500001, 3.0]),
    "negative and huge": torch.tensor([-3.0, -1.0, 0.0, 1e-40, 1e38, float("inf")]),
}


def values() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(999, generator=generator) * torch.logspace(-5, 3, 999)
    edges = torch.tensor([0.0, -0.0, 0.11, 1e-45, 1e-38, 3e38, np.inf, -np.inf, np.nan])
    neighbours = torch.cat([torch.nextafter(TABLE, torch.tensor(way)) for way in (0.0, 999.0)])
    return torch.cat([random, edges, TABLE, neighbours])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("least", [-np.inf, 0.0, 0.11, 2.0])
@pytest.mark.parametrize("name", BOUNDS)
def test_indexes_are_torchs_searchsorted(name, least, backend):
    scales = values()
    expected = torch.searchsorted(BOUNDS[name], torch.max(scales, torch.tensor([least], dtype=torch.float32)))
    found = ScaleSearch(BOUNDS[name].numpy(), least)(scales.numpy(), backend=backend)
    assert found.dtype == np.int32
    assert np.array_equal(found, expected.numpy())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 64, 1001])
def test_symbols_are_torchs_rounded_differences(count, backend):
    generator = torch.Generator().manual_seed(count)
    inputs = torch.randn(count, generator=generator) * 50
    inputs[: count // 2] = torch.round(inputs[: count // 2]) + 0.5  # ties
    means = torch.randn(count, generator=generator)
    means[: count // 3] = 0
    for m in (means, None):
        expected = torch.round(inputs if m is None else inputs - m).int()
        found = round_differences(inputs.numpy(), None if m is None else m.numpy(), backend=backend)
        assert np.array_equal(found, expected.numpy())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**31, -(2.0**31), 1e30])
@pytest.mark.parametrize("position", [0, 5, 8])
def test_values_that_do_not_fit_are_an_error(position, bad, backend):
    inputs = np.zeros(9, np.float32)
    inputs[position] = bad
    with pytest.raises(OverflowError):
        round_differences(inputs, backend=backend)
    with pytest.raises(OverflowError):
        round_differences(np.zeros(9, np.float32), -inputs, backend=backend)
    inputs[position] = 2.0**31 - 128
    assert round_differences(inputs, backend=backend)[position] == 2**31 - 128


def test_arguments_are_checked_in_words():
    for bounds in ([2.0, 1.0], [np.nan]):
        with pytest.raises(ValueError, match="ascending"):
            ScaleSearch(bounds)
    with pytest.raises(TypeError, match="float32"):
        ScaleSearch([1.0])(np.zeros(3))
    with pytest.raises(ValueError, match="one shape"):
        round_differences(np.zeros(3, np.float32), np.zeros(4, np.float32))
    search = pickle.loads(pickle.dumps(ScaleSearch(TABLE[:-1].numpy(), 0.11)))
    assert search(np.array([[0.2]], np.float32)).shape == (1, 1)
