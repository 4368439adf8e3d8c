"""CompressAI's models of variable rate on integers: every rate, exactly the same on both sides."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import fastlic
from fastlic.errors import CorruptStreamError, ModelMismatchError

from .conftest import build, image, vbr_models

NAMES = ("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr", "mbt2018-vbr")
RATES = ({}, {"s": 0}, {"s": 7}, {"inputscale": torch.tensor(0.37)}, {"inputscale": 0.37}, {"stage": 1})


@pytest.fixture(scope="module")
def accelerated_models():
    made = {}
    for name in NAMES:
        model = build(name)
        with torch.no_grad():  # an untrained network's offsets are larger than half a step
            model.QuantABCD[-1].weight.mul_(0.3)
            model.QuantABCD[-1].bias.fill_(0.08)
        plain = copy.deepcopy(model)
        made[name] = plain, model, fastlic.accelerate(model, calibration=list(image(2)))
    return made


@pytest.fixture
def native(accelerated_models):
    return lambda name: copy.deepcopy(accelerated_models[name][1])


def synthesised(model):
    """Latents in place of pictures."""
    seen = []
    model.g_s.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    return seen


@pytest.mark.parametrize("name", NAMES)
def test_they_run_on_integers(name, accelerated_models):
    report = accelerated_models[name][2]
    assert "integers" in report.replaced[0].by
    assert "any machine" in report.guarantee
    assert len(report.conversions) == 1


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_latents_are_those_of_plain_compressai_up_to_the_means_fixed_point(name, rate, accelerated_models, native):
    plain, model, x = copy.deepcopy(accelerated_models[name][0]), native(name), image(2)
    gain = float(rate.get("inputscale", plain.Gain[rate.get("s", 1)].detach())) if rate.get("stage") != 1 else 1.0
    theirs, ours = synthesised(plain), synthesised(model)
    as_tensor = {k: torch.as_tensor(v) if k == "inputscale" else v for k, v in rate.items()}  # plain needs a tensor
    with torch.no_grad():
        out = plain.compress(x, **as_tensor)
        plain.decompress(out["strings"], out["shape"], **as_tensor)
    out = model.compress(x, **rate)
    x_hat = model.decompress(out["strings"], out["shape"], **rate)["x_hat"]
    assert x_hat.shape == x.shape
    apart = ((theirs[0] - ours[0]) * gain).abs()  # in steps
    # Symbols differ where the latent lies half-way; then the latent does by at most about a step.
    assert float((apart > 0.1).float().mean()) < 0.1
    assert float(apart.mean()) < 0.1
    with torch.no_grad():
        y = plain.g_a(x)
    assert float(((ours[0] - y) * gain).abs().max()) < 1.5


@pytest.mark.parametrize("name", NAMES)
def test_batches_threads_backends_and_both_spellings_of_a_rate_make_no_difference(name, native):
    model, x = native(name), image(2)
    out = model.compress(x, s=4)
    scale = model.Gain[4].detach().clone()
    assert model.compress(x, inputscale=scale)["strings"] == out["strings"]
    alone = [model.compress(x[i : i + 1], s=4)["strings"] for i in range(2)]
    assert [part[0] + part[1] for part in zip(alone[0], alone[1], strict=True)] == out["strings"]
    x_hat = model.decompress(out["strings"], out["shape"], inputscale=scale)["x_hat"]
    vars(model)["_fastlic"].coder.settings.backend = "reference"
    small = image(1, 64, 64)
    slow = model.compress(small, s=6)
    vars(model)["_fastlic"].coder.settings.backend = "auto"
    assert model.compress(small, s=6)["strings"] == slow["strings"]
    twin = pickle.loads(pickle.dumps(model))
    assert torch.equal(twin.decompress(out["strings"], out["shape"], s=4)["x_hat"], x_hat)
    rounded = model.half().float()  # other last bits of the gains, which are the conversion's own
    torch.testing.assert_close(rounded.decompress(out["strings"], out["shape"], s=4)["x_hat"], x_hat, atol=0.01, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_another_rate_at_the_decoder_is_an_error_and_never_garbage(name, native):
    model = native(name)
    out = model.compress(image(1, 64, 64), s=3)
    for rate in ({"s": 4}, {}, {"stage": 1}, {"inputscale": 0.9}):
        with pytest.raises(ModelMismatchError, match="another rate"):
            model.decompress(out["strings"], out["shape"], **rate)
    model.no_quantoffset = True
    with pytest.raises(ModelMismatchError, match="another rate"):
        model.decompress(out["strings"], out["shape"], s=3)


@pytest.mark.parametrize("name", NAMES)
def test_switches_of_the_model_are_followed(name, native, accelerated_models):
    model, plain, x = native(name), copy.deepcopy(accelerated_models[name][0]), image(1)
    model.no_quantoffset = plain.no_quantoffset = True
    theirs, ours = synthesised(plain), synthesised(model)
    with torch.no_grad():
        out = plain.compress(x, s=5)
        plain.decompress(out["strings"], out["shape"], s=5)
    out = model.compress(x, s=5)
    model.decompress(out["strings"], out["shape"], s=5)
    apart = ((theirs[0] - ours[0]) * float(plain.Gain[5].detach())).abs()
    assert float((apart > 0.1).float().mean()) < 0.1


def test_damage_other_weights_and_a_saved_conversion(native, accelerated_models, tmp_path):
    name = "mbt2018-vbr"
    model, x = native(name), image(1, 64, 64)
    out = model.compress(x, s=2)
    for part in (0, 1):
        stream = out["strings"][part][0]
        for damaged in (b"", stream[:-1], stream + b"\0", stream[:9] + bytes([stream[9] ^ 4]) + stream[10:]):
            strings = [list(items) for items in out["strings"]]
            strings[part] = [damaged]
            with pytest.raises(CorruptStreamError):
                model.decompress(strings, out["shape"], s=2)
    accelerated_models[name][2].save(tmp_path / "vbr.safetensors")
    elsewhere = copy.deepcopy(accelerated_models[name][0])
    fastlic.accelerate(elsewhere, calibration=tmp_path / "vbr.safetensors")
    x_hat = elsewhere.decompress(out["strings"], out["shape"], s=2)["x_hat"]
    assert torch.equal(x_hat, model.decompress(out["strings"], out["shape"], s=2)["x_hat"])
    with torch.no_grad():
        elsewhere.Gain[2] *= 1.1
    with pytest.raises(ModelMismatchError, match="call it again"):
        elsewhere.compress(x)
    with pytest.raises(ModelMismatchError, match="other weights"):
        fastlic.accelerate(elsewhere, calibration=tmp_path / "vbr.safetensors")


@pytest.mark.parametrize(
    ("rate", "message"),
    [({"s": 8}, "s must be from 0 to 7"), ({"s": -1}, "s must be"), ({"stage": 3}, "stage must be 1 or 2")]
    + [({"inputscale": value}, "gain must be") for value in (-0.5, float("nan"), 1e9)],
    ids=str,
)
def test_rates_that_do_not_exist_are_named(rate, message, native):
    with pytest.raises(ValueError, match=message):
        native("mbt2018-mean-vbr").compress(image(1, 64, 64), **rate)


def test_z_in_steps_needs_no_update_for_each_rate(native, accelerated_models):
    """CompressAI's tables of z serve one rate at a time; the conversion holds those of all."""
    name = "bmshj2018-hyperprior-vbr"
    plain, model, x = copy.deepcopy(accelerated_models[name][0]), native(name), image(2)
    assert plain.vr_entbttlnck
    with torch.no_grad():
        for s in (0, 7):
            plain.update(force=True, scale=plain.Gain[s])
            theirs = plain.compress(x, s=s)
            ours = model.compress(x, s=s)
            assert sum(map(len, ours["strings"][1])) <= sum(map(len, theirs["strings"][1])) + 2 * 7


def test_a_model_whose_context_and_picture_see_different_latents_stays_with_floats():
    model = build("mbt2018-vbr")
    model.ste_recursive = False
    report = fastlic.accelerate(model, calibration=[image(1)[0]])
    assert any("ste_recursive" in row.note for row in report.rows)
    assert "raster" in report.replaced[0].part
    assert isinstance(model, vbr_models.JointAutoregressiveHierarchicalPriorsVbr)
