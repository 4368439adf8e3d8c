"""Alpha planes come back as they went, and the core's bytes are those of the plain coder, on damaged input too."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fastlic.errors import CorruptStreamError
from fastlic.ops import plane_decode, plane_encode
from fastlic.ops.reference import plane

sides = st.tuples(st.integers(1, 12), st.integers(1, 12))
samples = st.one_of(st.sampled_from([0, 255]), st.sampled_from([0, 100, 101, 255]), st.integers(0, 255))
planes = samples.flatmap(
    lambda some: arrays.arrays(
        np.uint8, sides, elements=st.one_of(st.just(some), st.sampled_from([0, 255]), st.integers(0, 255))
    )
)
SETTINGS = settings(deadline=None, derandomize=True, max_examples=60)


@SETTINGS
@given(planes)
def test_a_plane_comes_back_and_its_bytes_are_those_of_the_plain_coder(samples):
    data = plane_encode(samples)
    assert data == plane.encode(samples.tolist())
    assert np.array_equal(plane_decode(data, *samples.shape), samples)
    assert plane.decode(data, *samples.shape) == samples.tolist()


@SETTINGS
@given(sides, st.binary(max_size=40))
def test_hostile_bytes_are_an_error_or_the_same_samples_everywhere(size, data):
    try:
        expected = plane.decode(data, *size)
    except CorruptStreamError as error:
        with pytest.raises(CorruptStreamError, match=str(error)):
            plane_decode(data, *size)
    else:
        assert plane_decode(data, *size).tolist() == expected


@pytest.mark.parametrize(("value", "most"), [(255, 10), (0, 20), (128, 25)])
def test_a_plane_of_one_value_takes_a_few_bytes(value, most):
    assert len(plane_encode(np.full((512, 768), value, np.uint8))) <= most


def test_a_mask_takes_its_outline():
    y, x = np.mgrid[:512, :768]
    disc = (np.hypot(y - 256, x - 384) < 200).astype(np.uint8) * 255
    assert len(plane_encode(disc)) < 700  # some 1,250 samples long; as PNG 1,714 bytes


def test_what_is_no_plane_is_refused():
    with pytest.raises(ValueError, match=r"uint8 \[H, W\], got int64"):
        plane_encode(np.zeros((3, 3), np.int64))
    with pytest.raises(ValueError, match="height"):
        plane_decode(b"", -1, 3)
    with pytest.raises(ValueError, match="at most"):
        plane_decode(b"", 1, 1 << 40)
