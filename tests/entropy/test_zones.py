"""Dead zones: what an encoder rounds down, and that nobody else need know."""

import numpy as np
import pytest
import torch

import fastlic
from fastlic.codec.codec import Codec
from fastlic.entropy.scales import LEVELS, scale_levels
from fastlic.entropy.zones import worth_at, zones_for
from fastlic.integers.fixed import MEAN_BITS, quantise
from fastlic.models.density import GaussianConditional, dead_zone, round_down
from fastlic.models.gain import Gain

UNIT = 1 << MEAN_BITS


def bits(symbol: int, scale: float) -> float:
    p = GaussianConditional().eval().likelihood(*(torch.tensor([v], dtype=torch.float64) for v in (symbol, scale, 0)))
    return float(-p.clamp_min(2.0**-16).log2())


@pytest.mark.parametrize("name", ["jahp", "mlic++"])
def test_no_zone_of_a_shipped_codec_is_near_a_half_where_libraries_could_round_it_apart(name):
    gain = fastlic.load(name).transforms().gain
    for sixteenth in range(16, 16 * gain.qualities + 1):
        zones = dead_zone(torch.from_numpy(scale_levels()), worth_at(gain, sixteenth / 16)).numpy() * UNIT
        assert np.abs(zones - np.floor(zones) - 0.5).min() > 1e-4


@pytest.mark.parametrize("worth", [8.0, 25.0, 100.0])
def test_between_0_and_1_the_cheaper_symbol_is_chosen_bits_and_squared_error_together(worth):
    zones = zones_for(worth)
    for index in range(0, 40, 3):
        scale = float(scale_levels()[index])
        differences = torch.arange(UNIT // 2, UNIT, dtype=torch.int64)
        chosen = quantise(differences, torch.zeros_like(differences), torch.full_like(differences, int(zones[index])))
        for difference, symbol in zip(differences.tolist(), chosen.tolist(), strict=True):
            x = difference / UNIT
            costs = [bits(k, scale) + worth * (x - k) ** 2 for k in (0, 1)]
            # The zone itself is rounded to 1/64; within half of that both cost alike.
            if abs(costs[0] - costs[1]) > worth / UNIT:
                assert symbol == int(np.argmin(costs)), (scale, x)


def test_integers_and_floats_round_alike_both_signs():
    zones = zones_for(20.0)
    indexes = torch.arange(LEVELS).repeat_interleave(1001)
    differences = torch.arange(-500, 501).repeat(LEVELS)
    own = torch.from_numpy(zones.astype(np.int64))[indexes]
    symbols = quantise(differences, torch.zeros_like(differences), own)
    floats = round_down(differences.double() / UNIT, own.double() / UNIT)
    halves = (differences.abs() - own) % UNIT == UNIT // 2  # integers round these up, floats away from zero
    assert torch.equal(symbols[~halves], floats[~halves].long())
    assert bool((symbols.abs() <= (differences.abs() + UNIT // 2) >> MEAN_BITS).all())


def test_narrow_scales_have_the_widest_zones_and_wide_ones_none():
    zones = zones_for(20.0)
    assert zones.dtype == np.int32 and zones.shape == (LEVELS,)
    assert (np.diff(zones) <= 0).all() and zones[0] > 20 and zones[-1] == 0


def test_a_worth_of_zero_is_rounding_to_the_nearest():
    assert zones_for(worth_at(Gain(2, 4), 1.5)) is None
    assert float(dead_zone(torch.tensor([0.2]), 0.0)) == 0
    x = torch.tensor([-1.4, -0.6, 0.4, 0.6, 2.4])
    assert torch.equal(round_down(x, torch.zeros(5)), torch.round(x))


def test_between_trained_qualities_the_worth_is_in_between():
    gain = Gain(3, 4)
    gain.worth.copy_(torch.tensor([10.0, 20.0, 60.0]))
    assert [worth_at(gain, q) for q in (1, 1.5, 2.25, 3)] == [10, 15, 30, 60]
    assert worth_at(None, None) is None


@pytest.fixture(scope="module")
def zoned(tiny_codec: Codec) -> Codec:
    model = type(tiny_codec.model).from_state_dict(tiny_codec.model.state_dict())
    model.gain.worth.fill_(20.0)
    return Codec(model, name="zoned")


def test_dead_zones_save_bytes_and_any_decoder_reads_them(zoned: Codec, photo: torch.Tensor, tmp_path):
    x = photo
    plain = type(zoned.model).from_state_dict(zoned.model.state_dict())
    data = zoned.compress(x, 3)
    zoned.save(tmp_path / "zoned.safetensors", training=False)
    again = fastlic.load(tmp_path / "zoned.safetensors")
    assert again.compress(x, 3) == zoned.compress(x, 3, backend="reference") == data
    # The same integers without zones: another encoder of the same streams.
    again._coder.transforms.gain.worth.zero_()
    again._transforms = {"cpu": again._coder.transforms}
    nearest = again.compress(x, 3)
    assert len(data) < len(nearest)
    assert torch.equal(again.decompress(data), zoned.decompress(data))
    assert bool(plain.gain.worth.eq(20).all())


def test_weights_from_before_dead_zones_round_to_the_nearest(tiny_codec: Codec):
    state = {name: value for name, value in tiny_codec.model.state_dict().items() if name != "gain.worth"}
    model = type(tiny_codec.model).from_state_dict(state)
    assert not model.gain.worth.any() and model.worths(2.0, 1) is None
