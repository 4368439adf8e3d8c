"""Conversion of float models: what it costs in rate, what its fingerprint covers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import fastlic
from fastlic import Codec
from fastlic.entropy.convert import convert
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.passes import Latents, Pass, drive
from fastlic.entropy.rate import float_bits, table_bits
from fastlic.entropy.scales import scale_levels
from fastlic.ops import gaussian_tables


def drawn(model: IntegerEntropyModel, latents: Latents) -> Latents:
    """The same z, and a y as likely as the integer networks say it is."""
    generator, levels = torch.Generator().manual_seed(1), torch.from_numpy(scale_levels())

    def answer(step: Pass) -> torch.Tensor:
        if step.means is None:
            return latents.z.long().permute(1, 2, 0).reshape(-1, len(latents.z))
        spread = levels[step.indexes.long()]
        return (torch.randn(spread.shape, generator=generator, dtype=torch.float64) * spread).round().long()

    return drive(model.schedule(*latents.y.shape[1:]), answer)


def latents_of(codec: Codec, photo: torch.Tensor) -> tuple[bytes, Latents]:
    """One image's stream, and the latents in it."""
    ((data, latents),) = codec.encode([codec.analyse(photo, 5.0 if codec.qualities else None)])
    return data, Latents(latents["z"], latents["y"])


def test_integer_networks_predict_what_the_float_network_predicts(any_codec: Codec, photo: torch.Tensor):
    """One per cent of rate either way. On latents that no network expects, as an untrained one's are on a photo, rates
    differ by a third in the integers' favour, and nothing can be told."""
    latents = drawn(any_codec.entropy, latents_of(any_codec, photo)[1])
    plain = replace(any_codec.entropy, y_tables=gaussian_tables(scale_levels()))
    ours, theirs = table_bits(plain, latents), float_bits(any_codec.model, latents)
    assert ours == pytest.approx(theirs, rel=0.01)


def test_streams_have_the_bits_of_their_tables_and_the_coders_state(any_codec: Codec, photo: torch.Tensor):
    data, latents = latents_of(any_codec, photo)
    sections = fastlic.peek(data).section_bytes
    for size, bits in zip(sections, reversed(table_bits(any_codec.entropy, latents)), strict=True):
        assert 16 < 8 * size - bits < 64


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
