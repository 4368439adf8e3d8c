"""The wavefront: each symbol once, causally, and the same latents whatever the order of steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fastlic import Codec
from fastlic.entropy import wavefront
from fastlic.entropy.wavefront import steps

from .latent_models import decode, encode, random_latents, same

SIZES = [(1, 1), (1, 7), (6, 1), (2, 2), (5, 9), (8, 6), (3, 13)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_wavefront_visits_every_position_once_after_all_it_reads(height: int, width: int):
    seen = np.full((height, width), -1)
    for number, positions in enumerate(steps(height, width)):
        rows, columns = positions // width, positions % width
        assert (seen[rows, columns] == -1).all()
        seen[rows, columns] = number
    assert (seen >= 0).all() and seen.max() < width + 3 * (height - 1)
    for r in range(height):
        for c in range(width):
            above = seen[max(r - 2, 0) : r, max(c - 2, 0) : c + 3]
            assert (above < seen[r, c]).all() and (seen[r, max(c - 2, 0) : c] < seen[r, c]).all()


def test_wavefront_of_a_512x768_latent_takes_141_steps():
    assert len(list(steps(32, 48))) == 141


def raster(height: int, width: int) -> Iterator[np.ndarray]:
    """One position after the other: what the wavefront must agree with."""
    yield from np.arange(height * width)[:, None]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("order", [steps, raster])
def test_decoder_sees_the_encoders_latents_at_every_size_and_order(
    any_codec: Codec, height: int, width: int, order, monkeypatch
):
    z, y = random_latents(any_codec.entropy, height, width)
    _, expected = encode(any_codec.entropy, z, y)
    monkeypatch.setattr(wavefront, "steps", order)
    sections, latents = encode(any_codec.entropy, z, y, "reference")
    assert same(decode(any_codec.entropy, sections, height, width, "reference"), latents)
    assert same(latents, expected)
    # The latent is the encoder's own, to half a quantiser step (and half a unit of its fixed point).
    assert (latents.y / 64 - y).abs().max() <= 0.5 + 1 / 64


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_are_refused(codec: Codec, bad: float):
    z, y = random_latents(codec.entropy, 4, 4)
    y[2, 1, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        encode(codec.entropy, z, y)
