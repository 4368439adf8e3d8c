"""Networks of every kind of layer become integers that follow them, in units that hold what calibration saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn as nn

from fastlic.integers.builder import Builder
from fastlic.integers.functions import Tables
from fastlic.integers.layer import SHUFFLED
from fastlic.integers.ranges import Ranges
from fastlic.integers.stages import stages_of

from .test_stages import network

TABLES = Tables.make()


def built(inner_bits: int, **how) -> tuple[Builder, np.ndarray, np.ndarray, torch.Tensor]:
    ranges, stages = Ranges(), stages_of(network(), "n")
    x = torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        ranges.run(stages, ranges.see("x", x))
    build = Builder(ranges)
    given = ranges.scale("x")
    return build, given, build.stack("n", stages, given, inner_bits=inner_bits, **how), x


@pytest.mark.parametrize("outputs", [None, np.full(2, 2.0**-12)])
def test_a_network_of_integers_follows_its_float_one(outputs):
    build, given, units, x = built(12, **({} if outputs is None else {"outputs": outputs, "bits": 21}))
    activations = (x[0].double() / torch.from_numpy(given)[:, None, None]).round().long()
    for layer in build.made("n"):
        activations = layer(activations, TABLES)
        assert activations.abs().max() <= layer.requantiser.limit
    with torch.no_grad():
        want = network()(x)[0].double()
    got = activations.double() * torch.from_numpy(units)[:, None, None]
    assert (got - want).std() < 0.02 * want.std()
    assert outputs is None or np.array_equal(units, outputs)


def test_every_layer_reads_the_bits_that_the_one_before_writes():
    layers = built(13, outputs=np.ones(2), bits=21)[0].made("n")
    assert [layer.input_bits for layer in layers] == [12, *[13] * (len(layers) - 1)]
    assert [layer.requantiser.bits for layer in layers] == [*[13] * (len(layers) - 1), 21]


def test_cells_of_a_channel_share_its_unit():
    """What is shuffled is read as one channel."""
    for layer in built(12)[0].made("n"):
        if layer.kind is SHUFFLED and layer.exponents is not None:
            assert (layer.exponents.reshape(-1, 4) == layer.exponents[::4, None]).all()


def test_layers_are_rounded_for_the_inputs_that_were_remembered():
    ranges, stages = Ranges(), stages_of(nn.Sequential(nn.Conv2d(20, 6, 1)), "n")
    x = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(5)).repeat(1, 7, 1, 1)[:, :20]
    plain, learned = [], []
    for made in (plain, learned):
        if made is learned:
            ranges.remember_inputs("n.0", x)
        with torch.no_grad():
            ranges.run(stages, x)
        build = Builder(ranges)
        build.layer("n", stages[0], np.full(20, 0.01))
        made.append(build.layers["n"].weight)
    assert not np.array_equal(plain[0], learned[0])


def test_dead_channels_and_empty_calibration_have_units():
    ranges = Ranges()
    ranges.see("x", torch.tensor([0.0, 0.5, -4.0])[None, :, None, None])
    assert np.allclose(ranges.scale("x"), np.array([4e-3, 0.5, 4.0]) * 1.25 / 2047)
    assert np.allclose(ranges.scale("x", floor=1.0), np.array([1.0, 1.0, 4.0]) * 1.25 / 2047)
    assert np.allclose(ranges.scale("x", slope=0.1), np.array([5e-4, 0.5, 0.4]) * 1.25 / 2047)
    assert ranges.scale("never seen").tolist() == [1e-6 * 1.25 / 2047]
    assert ranges.exponents("x").tolist() == [15, 11, 8]
