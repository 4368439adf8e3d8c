"""Functions of the integer paths beside their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fastlic.integers.functions import Tables, epsilon_of, mean_of_few, mean_of_many, normalise, square_root

TABLES = Tables.make()


def test_gelu_is_right_to_a_unit_at_every_exponent():
    a = torch.arange(-2047, 2048)
    for exponent in range(16):
        got = TABLES.gelu(a[:, None], np.array([exponent], np.uint8))[:, 0]
        real = torch.nn.functional.gelu(a.double() * 2.0**-exponent)
        error = (got - real * 2.0**exponent).abs() / (1 + 1.5e-4 * a.abs())  # the lines leave the curve by 1.3e-4
        assert error.max() < 1.0


def test_residues_are_half_a_tanh():
    a = torch.arange(-2047, 2048)
    assert (TABLES.residue(a) / 64 - 0.5 * torch.tanh(a / 256)).abs().max() <= 1 / 128


def test_square_roots_are_exact():
    values = [0, 1, 2, 3, 4, 2**52 - 1, 2**52, 2**61 + 12345]
    for root in (5, 2**26 - 1, 2**26, 2**26 + 1, 2**30, 2**31 - 2):
        values += [root * root - 1, root * root, root * root + 1]
    assert square_root(torch.tensor(values)).tolist() == [math.isqrt(v) for v in values]


def test_layer_norm_is_close_to_the_float_one():
    x = torch.randn(200, 32) * torch.tensor([0.05, 0.5, 5.0, 50.0]).repeat(50)[:, None]
    units = (x * 64).round()
    want = torch.nn.functional.layer_norm(units.double() / 64, (32,))
    got = normalise(units.long(), epsilon_of(1e-5, 32, 2.0**-6)) / 256
    assert (got - want).abs().max() < 0.01
    assert (normalise(torch.zeros(1, 32, dtype=torch.long), 42) == 0).all()
    huge = torch.full((1, 32), 2**26).index_fill(1, torch.tensor([3]), -(2**26))
    assert normalise(huge, 42).abs().max() <= 2047


@pytest.mark.parametrize("mean", [mean_of_few, mean_of_many])
def test_weighted_means_are_rounded_quotients(mean):
    weights = torch.randint(1, 32768, (500, 25))
    values = torch.randint(-2047, 2048, (500, 25))
    sums, totals = (weights * values).sum(1), weights.sum(1)
    want = sums.double() / totals * 256
    assert (mean(sums, totals) - want).abs().max() <= (1 if mean is mean_of_few else 0.501)


def test_softmax_weights_are_exponentials():
    scores = (torch.randn(50, 20) * 512).round().long()
    weights = TABLES.weights(scores, 1).double()
    want = (scores / 256).double().softmax(1)
    assert (weights / weights.sum(1, keepdim=True) - want).abs().max() < 1e-4
    allowed = torch.arange(20) % 2 == 0
    masked = TABLES.weights(scores, 1, allowed)
    assert (masked[:, 1::2] == 0).all() and (masked.amax(1) == 32767).all()
