"""Rounding for given inputs: smaller output errors than to the nearest, and the same where nothing correlates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from fastlic.integers.layer import Layer
from fastlic.integers.rounding import round_rows, second_moments


def correlated(channels: int, positions: int, seed: int) -> torch.Tensor:
    """[1, channels, 1, positions]: a tenth of the dimensions explain most of them, with a common offset."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels // 10, generator=generator)
    x = mixing @ torch.randn(channels // 10, positions, generator=generator)
    return (F.leaky_relu(x + 1, 0.01) + 0.05 * torch.randn(channels, positions, generator=generator))[None, :, None]


def test_outputs_err_less_than_with_rounding_to_the_nearest():
    torch.manual_seed(0)
    module = nn.Conv2d(80, 24, 1)
    seen, unseen = correlated(80, 4000, 1), correlated(80, 1000, 1)
    scale = seen.abs().amax((0, 2, 3)).double().numpy() / 2047
    with torch.no_grad():
        outputs = module(unseen)[0].double()
    errors = []
    for moments in (None, second_moments(seen)):
        layer = Layer.from_float(
            module.weight, module.bias, scale, np.full(24, 2.0**-14), output_bits=21, moments=moments
        )
        given = (unseen[0].double() / torch.from_numpy(scale)[:, None, None]).round().long()
        errors.append((layer(given) * 2.0**-14 - outputs).square().mean().sqrt().item())
    nearest, learned = errors
    assert learned < nearest / 3


def test_inputs_that_do_not_correlate_are_rounded_to_the_nearest():
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(5, 12, generator=generator, dtype=torch.float64)
    bias, unit = torch.randn(5, generator=generator, dtype=torch.float64), weight.abs().amax(1) / 127
    rounded, kept = round_rows(weight, bias, unit, torch.eye(13, dtype=torch.float64), 127)
    assert torch.equal(rounded, (weight / unit[:, None]).round())
    assert torch.allclose(kept, bias)


@pytest.mark.parametrize("positions", [1, 7])
def test_fewer_positions_than_inputs_still_give_weights_within_their_limit(positions: int):
    x = correlated(30, positions, 4)
    weight = torch.randn(6, 30, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    unit = weight.abs().amax(1) / 127
    rounded, kept = round_rows(weight, torch.zeros(6, dtype=torch.float64), unit, second_moments(x), 127)
    assert torch.equal(rounded, rounded.round()) and rounded.abs().max() <= 127
    assert bool(kept.isfinite().all())


def test_moments_follow_the_order_of_a_convolutions_weights():
    module = nn.Conv2d(3, 4, 3, padding=1)
    x = torch.randn(1, 3, 5, 6, generator=torch.Generator().manual_seed(6))
    rows = torch.cat([module.weight.flatten(1), module.bias[:, None]], 1).double()
    energy = (rows @ second_moments(x, 3) @ rows.T).diagonal()
    assert torch.allclose(energy, module(x)[0].double().square().sum((1, 2)), rtol=1e-4)
