"""Integer models of variable rate: what one gain changes, and that engines may share weights."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn as nn

from fastlic import _native
from fastlic.entropy.convert import networks_of
from fastlic.entropy.convert_variable import VariableNetworks, convert_variable, linear_layers
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.scales import scale_levels
from fastlic.entropy.variable import VariableRateModel, evaluate, scaled
from fastlic.integers.fixed import MEAN_BITS
from fastlic.models import JAHP, Hyperprior, MeanScaleHyperprior
from fastlic.ops.latents import Target

from .latent_models import decode, encode, random_floats, random_latents, same

GAINS = (0.2, 0.5, 1.0)


def offset_network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 1))


def latents_of(model: Hyperprior) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    m = model.h_a[0].in_channels
    return [torch.randn(1, m, 8, 12, generator=generator) * 8 for _ in range(2)]


@pytest.fixture(scope="module")
def models() -> dict[str, VariableRateModel]:
    made = {}
    for name, cls in {"context": JAHP, "no context": MeanScaleHyperprior}.items():
        floats = random_floats(cls, 6, 20)
        torch.manual_seed(2)
        shift = nn.Linear(1, 40) if cls is JAHP else None
        steps = () if cls is JAHP else (1.5, 1.5, 0.5)
        variable = VariableNetworks(networks_of(floats), GAINS, steps, shift, offset_network())
        made[name] = convert_variable(variable, latents_of(floats))
    return made


@pytest.mark.parametrize("name", ["context", "no context"])
def test_engines_that_share_weights_equal_the_reference_on_every_instruction_set(models, name):
    before = _native.get_isa()
    for gain in (0.2, 0.7, 3.0):
        model = models[name].at(gain)
        assert model.offsets is not None and model.offsets.any()
        z, y = random_latents(model, 7, 9)
        sections, latents = encode(model, z, y, "reference")
        assert same(decode(model, sections, 7, 9, "reference"), latents)
        try:
            for level in _native.supported_isas():
                _native.set_isa(level)
                fast, fast_latents = encode(model, z, y, "cpp")
                assert fast == sections and same(fast_latents, latents), (gain, level)
                assert same(decode(model, sections, 7, 9, "cpp"), latents)
        finally:
            _native.set_isa(before)


@pytest.mark.parametrize("name", ["context", "no context"])
def test_an_engine_that_shares_weights_is_the_one_built_from_all_arrays(models, name):
    model = models[name].at(0.5)
    fresh = IntegerEntropyModel.from_arrays(model.to_arrays())
    z, y = random_latents(model, 6, 6)
    assert encode(fresh, z, y)[0] == encode(model, z, y)[0]
    assert fresh.fingerprint() == model.fingerprint() != models[name].at(0.2).fingerprint()
    indexes, symbols = model.engine.symbols(Target((z * 64).int(), (y * 64).int()))
    assert indexes.shape == symbols.shape == (6 * 6 * 20,)


def test_coding_at_a_gain_is_plain_coding_of_the_multiplied_latent(models):
    """Without offsets: the latent comes back within half a step, and larger gains need more bytes."""
    model = models["no context"]
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(6, 2, 2, generator=generator), torch.randn(20, 8, 8, generator=generator) * 5
    sizes = []
    for gain in GAINS:
        sections, latents = encode(model.at(gain, offset=False), z / model.hyper_step(gain), y * gain)
        error = latents.y.double() / (2**MEAN_BITS * gain) - y
        assert error.abs().max() * gain <= 0.5 + 2**-MEAN_BITS
        sizes.append(len(sections[1]))
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_offsets_move_every_symbol_but_zero_towards_zero_by_what_the_network_says(models):
    model, gain = models["no context"], 0.5
    z, y = random_latents(model.base, 8, 8)
    with_offsets, plain = model.at(gain), model.at(gain, offset=False)
    moved = encode(with_offsets, z, y)[1].y - encode(plain, z, y)[1].y
    indexes, symbols = with_offsets.engine.symbols(Target(*((t.double() * 64).round().int() for t in (z, y))))
    lost = evaluate(model.offsets, [scale_levels(), np.full(64, gain)])
    expected = np.sign(symbols) * np.rint(-lost * 64)[indexes]
    assert np.array_equal(moved.permute(1, 2, 0).reshape(-1).numpy(), expected)
    assert (expected != 0).any() and (symbols == 0).any()


def test_z_takes_the_step_of_the_nearest_gain(models):
    model = models["no context"]
    assert [model.hyper_step(g) for g in (0.001, 0.2, 0.69, 0.72, 50.0)] == [1.5, 1.5, 1.5, 0.5, 0.5]
    assert model.at(1.0).z_tables == model.hyper_steps[2].tables
    assert model.at(1.0, stepped=False).z_tables == model.base.z_tables


def test_small_networks_are_evaluated_as_torch_does(models):
    network = offset_network().double()
    x = torch.rand(50, 2, dtype=torch.float64) * 4
    ours = evaluate(linear_layers(network), [x[:, 0].numpy(), x[:, 1].numpy()])
    with torch.no_grad():
        np.testing.assert_allclose(ours, network(x)[:, 0].numpy(), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="linear layers and ReLUs"):
        linear_layers(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)))


@pytest.mark.parametrize("name", ["context", "no context"])
def test_a_model_read_back_from_its_arrays_codes_the_same(models, name):
    model = models[name]
    for again in (VariableRateModel.from_arrays(model.to_arrays()), pickle.loads(pickle.dumps(model))):
        assert again.fingerprint() == model.fingerprint()
        for gain in (0.2, 0.33):
            assert again.at(gain).fingerprint() == model.at(gain).fingerprint()
    other = replace(model, gains=model.gains * 2)
    assert other.fingerprint() != model.fingerprint()


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan"), float("inf"), 1e-9, 1e6])
def test_gains_that_code_nothing_sensible_are_refused(models, gain):
    with pytest.raises(ValueError, match="gain must be"):
        models["context"].at(gain)


def test_what_cannot_differ_between_engines_that_share_weights_is_refused_by_name(models):
    base = models["context"].base
    arrays = base.to_arrays()

    def vary(**changes: np.ndarray) -> None:
        named = {name.replace("__", "."): array for name, array in changes.items()}
        base.engine.vary(named, base.z_tables, base.y_tables)

    with pytest.raises(ValueError, match=r"context\.weight.*cannot differ"):
        vary(context__weight=arrays["context.weight"])
    with pytest.raises(ValueError, match="can overflow"):
        vary(context__bias=np.full_like(arrays["context.bias"], 2**31 - 1))
    with pytest.raises(ValueError, match=r"y\.offsets.*64"):
        vary(y__offsets=np.zeros(5, np.int32))
    with pytest.raises(ValueError, match="within"):
        vary(y__offsets=np.full(64, 1 << 21, np.int32))
    with pytest.raises(ValueError, match=r"z\.median"):
        vary(z__median=arrays["z.median"][:-1])
    wide = {f"y__input__{k.rsplit('.', 1)[1]}": v for k, v in arrays.items() if k.startswith("y.input.")}
    with pytest.raises(ValueError, match=r"y\.input\.bits"):
        vary(**{**wide, "y__input__bits": np.array([14], np.uint8)})
    plain = models["no context"].base
    with pytest.raises(ValueError, match="cannot differ"):
        plain.engine.vary({"context.bias": arrays["context.bias"]}, plain.z_tables, plain.y_tables)


def test_a_scaled_requantiser_multiplies_its_outputs(models):
    requantiser = models["context"].base.parameters[-1].requantiser
    acc = torch.arange(-40, 40).repeat(40, 1).T * 100_000
    twice = scaled(requantiser, 0.25)(acc)
    assert int((4 * twice - requantiser(acc)).abs().max()) <= 3
