"""The schedule: each symbol once, causally, and the same latents whatever the order of steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastlic import Codec
from fastlic.codec import drivers
from fastlic.entropy.schedule import hyper_size, steps

SIZES = [(1, 1), (1, 7), (6, 1), (2, 2), (5, 9), (8, 6), (3, 13)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_wavefront_visits_every_position_once_after_all_it_reads(height: int, width: int):
    seen = np.full((height, width), -1)
    for number, positions in enumerate(steps(height, width, "wavefront")):
        rows, columns = positions // width, positions % width
        assert (seen[rows, columns] == -1).all()
        seen[rows, columns] = number
    assert (seen >= 0).all() and seen.max() < width + 3 * (height - 1)
    for r in range(height):
        for c in range(width):
            above = seen[max(r - 2, 0) : r, max(c - 2, 0) : c + 3]
            assert (above < seen[r, c]).all() and (seen[r, max(c - 2, 0) : c] < seen[r, c]).all()


def test_wavefront_of_a_512x768_latent_takes_141_steps():
    assert len(list(steps(32, 48, "wavefront"))) == 141


def random_latents(codec: Codec, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * 100 + width)
    rows, columns = hyper_size(height, width)
    z = torch.randn(codec.entropy.hyper_channels, rows, columns, generator=generator) * 2
    y = torch.randn(codec.entropy.latent_channels, height, width, generator=generator) * 8
    return z, y


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("order", ["wavefront", "raster"])
def test_decoder_sees_the_encoders_latents_at_every_size_and_order(any_codec: Codec, height: int, width: int, order):
    z, y = random_latents(any_codec, height, width)
    sections, latents = drivers.encode(any_codec.entropy, z, y, order)
    decoded = drivers.decode(any_codec.entropy, sections, height, width, order)
    assert torch.equal(decoded.z, latents.z) and torch.equal(decoded.y, latents.y)
    # The latent is the encoder's own, to half a quantiser step (and half a unit of its fixed point).
    assert (latents.y / 64 - y).abs().max() <= 0.5 + 1 / 64


def test_raster_and_wavefront_order_give_the_same_latents(codec: Codec):
    z, y = random_latents(codec, 7, 11)
    (_, wavefront), (_, raster) = (drivers.encode(codec.entropy, z, y, order) for order in ("wavefront", "raster"))
    assert torch.equal(wavefront.y, raster.y)


def test_extreme_latents_survive(codec: Codec):
    z, y = random_latents(codec, 4, 4)
    y[0], y[1], z[0] = 1e30, -1e30, 1e30
    sections, latents = drivers.encode(codec.entropy, z, y)
    decoded = drivers.decode(codec.entropy, sections, 4, 4)
    assert torch.equal(decoded.y, latents.y) and torch.equal(decoded.z, latents.z)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_are_refused(codec: Codec, bad: float):
    z, y = random_latents(codec, 4, 4)
    y[2, 1, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        drivers.encode(codec.entropy, z, y)
