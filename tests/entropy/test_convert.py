"""Conversion of float models: what it costs in rate, what its fingerprint covers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastlic import Codec
from fastlic.entropy.convert import convert
from fastlic.entropy.model import IntegerEntropyModel


def test_integer_path_costs_at_most_one_percent_over_the_float_network(any_codec: Codec, photo: torch.Tensor):
    quality = 5.0 if any_codec.qualities else None
    data = any_codec.compress(photo, quality)
    estimate = any_codec.estimate(photo, quality)["bits"]
    # 48 bytes of framing are counted apart; the factorised prior of an untrained model is wide, so its tables escape.
    assert 8 * (len(data) - 48) <= 1.01 * estimate


def test_model_read_back_from_its_arrays_has_the_same_fingerprint_and_streams(any_codec: Codec):
    arrays = any_codec.entropy.to_arrays()
    again = IntegerEntropyModel.from_arrays(arrays)
    assert again.fingerprint() == any_codec.entropy_fingerprint
    assert (again.context is None) == (any_codec.family != "jahp")


def test_fingerprint_changes_with_any_array(codec: Codec):
    arrays = codec.entropy.to_arrays()
    for name, array in arrays.items():
        if "tables." in name:
            continue  # validated rows: a changed entry is refused when the tables are built
        changed = array.copy()
        flat = changed.reshape(-1)
        flat[-1] = flat[-1] ^ 1
        assert IntegerEntropyModel.from_arrays({**arrays, name: changed}).fingerprint() != codec.entropy_fingerprint, (
            name
        )


def test_conversion_is_deterministic(codec: Codec, photo: torch.Tensor):
    again = convert(codec.model, [photo.float() / 255])
    for name, array in codec.entropy.to_arrays().items():
        assert np.array_equal(array, again.to_arrays()[name]), name


def test_conversion_without_images_is_refused(codec: Codec):
    with pytest.raises(ValueError, match="at least one image"):
        convert(codec.model, [])
