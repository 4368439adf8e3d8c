"""Fixed-point arithmetic against Python's unbounded integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from fastlic.integers.fixed import LATENT_LIMIT, Requantiser, quantise, reconstruct

FACTORS = np.array([1e-9, 3.7e-5, 0.01, 0.5, 1.0, 1.999, 1234.5])


def test_requantisation_equals_exact_integer_arithmetic_over_the_whole_int32_range():
    requantiser = Requantiser.from_factors(FACTORS, bits=12, negative_slope=0.01)
    generator = np.random.default_rng(0)
    acc = generator.integers(-(2**31) + 1, 2**31 - 1, (500, len(FACTORS)))
    acc[:6] = [[v] * len(FACTORS) for v in (0, 1, -1, 2**31 - 1, -(2**31) + 1, 7)]
    got = requantiser(torch.from_numpy(acc)).numpy()
    for channel in range(len(FACTORS)):
        m, n, s = (int(a[channel]) for a in (requantiser.multiplier, requantiser.negative, requantiser.shift))
        for value, result in zip(acc[:, channel].tolist(), got[:, channel].tolist(), strict=True):
            exact = (value * (m if value >= 0 else n) + (1 << (s - 1))) >> s
            assert result == max(-2047, min(2047, exact))


def test_requantiser_is_within_2_to_minus_29_of_its_factor():
    requantiser = Requantiser.from_factors(FACTORS, bits=12)
    for factor, m, s in zip(FACTORS, requantiser.multiplier, requantiser.shift, strict=True):
        if factor > 1e-8:  # below, the shift is at its limit and the factor turns everything to zero anyway
            assert abs(Fraction(int(m), 2 ** int(s)) / Fraction(factor) - 1) < Fraction(1, 2**29)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), 2.0**31])
def test_a_factor_that_cannot_be_represented_is_refused(factor: float):
    with pytest.raises(ValueError, match="factor"):
        Requantiser.from_factors(np.array([factor]), bits=12)


def test_decoder_reconstructs_within_half_a_unit_of_what_the_encoder_quantised():
    generator = torch.Generator().manual_seed(0)
    latent = torch.randint(-(2**20), 2**20, (1000,), generator=generator)
    means = torch.randint(-(2**20), 2**20, (1000,), generator=generator)
    difference = reconstruct(quantise(latent, means), means) - latent
    assert difference.min() >= -32 and difference.max() <= 32


def test_hostile_symbols_are_clipped_before_they_can_overflow():
    symbols = torch.tensor([2**31 - 1, -(2**31)])
    assert reconstruct(symbols, torch.tensor([2**20, -(2**20)])).tolist() == [LATENT_LIMIT, -LATENT_LIMIT]
