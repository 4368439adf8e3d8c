"""Accelerated models are trained and rebuilt: either the result is right, or an error says why."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn as nn

import fastlic
from fastlic.errors import CodecFileError, ModelMismatchError
from fastlic.integrations.compressai import snapshot
from fastlic.integrations.compressai.groups import group_parts
from fastlic.integrations.compressai.native_models import model_parts
from fastlic.integrations.compressai.swap import is_specialised, state_of

from .conftest import CALIBRATION, X, build, flip_last_bit, image
from .sliced import sliced


def layer(model, name):
    return model.get_submodule(name).weight


# ---- weights


def data_assigned(model, name):
    layer(model, name).data = layer(model, name).data * 1.01


def data_copied(model, name):
    layer(model, name).data.copy_(layer(model, name).data * 1.01)


def data_scaled(model, name):
    layer(model, name).data.mul_(1.01)


def data_of_one_weight(model, name):
    flip_last_bit(layer(model, name), 7)


def numpy_view(model, name):
    layer(model, name).detach().numpy()[0, 0, 0, 0] += 1e-3


@torch.no_grad()
def copied_without_gradients(model, name):
    layer(model, name).copy_(layer(model, name) * 1.01)


def parameter_replaced(model, name):
    model.get_submodule(name).weight = nn.Parameter(layer(model, name).detach() * 1.01)


def layer_replaced(model, name):
    own = model.get_submodule(name)
    twin = type(own)(own.in_channels, own.out_channels, own.kernel_size, own.stride, own.padding)
    model.set_submodule(name, twin)


def state_loaded(model, name):
    model.load_state_dict({**model.state_dict(), f"{name}.weight": layer(model, name).detach() * 1.01})


def state_assigned(model, name):
    state = {**model.state_dict(), f"{name}.weight": nn.Parameter(layer(model, name).detach() * 1.01)}
    nn.Module.load_state_dict(model, state, assign=True)


def optimised(kind, **options):
    def step(model, name):
        optimiser = kind(model.parameters(), lr=1e-6, **options)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimiser.step()

    step.__name__ = f"{kind.__name__} {options}"
    return step


CHANGES = [
    data_assigned,
    data_copied,
    data_scaled,
    data_of_one_weight,
    numpy_view,
    copied_without_gradients,
    parameter_replaced,
    layer_replaced,
    state_loaded,
    state_assigned,
    optimised(torch.optim.SGD),
    optimised(torch.optim.Adam, foreach=True),
    optimised(torch.optim.Adam, fused=True),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_weights_of_the_entropy_path_that_change_are_an_error_at_the_next_call(change, served):
    model = served()
    out = model.compress(X)
    change(model, "h_s.2")
    with pytest.raises(ModelMismatchError, match=r"fastlic\.accelerate\(model\) \(h_s\..*\): call it again"):
        model.compress(X)
    with pytest.raises(ModelMismatchError, match="call it again"):
        model.decompress(out["strings"], out["shape"])


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", ["g_a.0", "g_s.2"])
def test_weights_of_integer_transforms_that_change_are_an_error_at_the_next_call(name, change, served):
    model = served("bmshj2018-factorized", transforms="integer")
    out = model.compress(X)
    change(model, name)
    with pytest.raises(ModelMismatchError, match=rf"weights of {name[:3]} changed .*\({name[:3]}\..*call it again"):
        model.compress(X) if name == "g_a.0" else model.decompress(out["strings"], out["shape"])


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_exact_transforms_follow_the_weights(change, served):
    model = served("bmshj2018-factorized")
    change(model, "g_s.2")
    y = torch.round(4 * torch.randn(1, 12, 4, 4))
    with torch.no_grad():
        found = model.g_s(y)
        fastlic.restore(model)
        torch.testing.assert_close(found, model.g_s(y), rtol=1e-4, atol=1e-5)


OTHERS = ("bmshj2018-hyperprior", "cheng2020-anchor", "cheng2020-anchor-checkerboard", "mbt2018-vbr")


@pytest.mark.parametrize("name", ["mbt2018-mean", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_the_last_bit_of_every_weight_that_integers_are_made_of_counts(name, served):
    model = served(name, transforms="integer")
    coders = [(state_of(m).coder, m) for m in model.modules() if is_specialised(m) and state_of(m).coder]
    transforms = [(state_of(m).transform, m) for m in model.modules() if is_specialised(m) and state_of(m).transform]
    (coder, owner), seen = coders[0], 0
    parts = model_parts(model) if owner is model else group_parts(owner)

    def check():
        coder.check(parts)
        for transform, module in transforms:
            transform.check(module)

    check()
    for parameter in model.parameters():
        for place in {0, parameter.numel() // 2, parameter.numel() - 1}:
            flip_last_bit(parameter, place)
            with pytest.raises(ModelMismatchError):
                check()
            flip_last_bit(parameter, place)
        seen += 1
    check()
    assert seen == len(list(model.parameters()))


@pytest.mark.slow
def test_the_last_bit_of_every_weight_of_channel_slices_counts():
    model = sliced(supports=True)
    fastlic.accelerate(model, calibration=CALIBRATION, transforms="integer")
    strings = model.compress(X)["strings"]
    coder, parts = state_of(model).coder, model_parts(model)
    transforms = [(state_of(own).transform, own) for own in (model.g_a, model.h_a, model.g_s)]
    for parameter in model.parameters():
        flip_last_bit(parameter)
        with pytest.raises(ModelMismatchError, match=r"changed after fastlic\.accelerate"):
            coder.check(parts)
            for transform, module in transforms:
                transform.check(module)
        flip_last_bit(parameter)
    assert model.compress(X)["strings"] == strings


def test_averaged_weights_swapped_in_and_out_are_an_error_and_then_none(served):
    model = served(transforms="integer")
    out = model.compress(X)
    average = [parameter.data * 0.99 for parameter in model.parameters()]

    def swap():
        for i, parameter in enumerate(model.parameters()):
            parameter.data, average[i] = average[i], parameter.data

    for _ in range(2):
        swap()
        with pytest.raises(ModelMismatchError):
            model.compress(X)
        swap()
        assert model.compress(X)["strings"] == out["strings"]
        model.decompress(out["strings"], out["shape"])


@pytest.mark.parametrize(
    ("name", "transforms"),
    [
        ("bmshj2018-factorized", "integer"),
        pytest.param("mbt2018-mean", "exact", marks=pytest.mark.slow),
        pytest.param("mbt2018-mean", "integer", marks=pytest.mark.slow),
    ],
)
def test_training_after_accelerate_and_accelerate_again_is_as_if_it_had_been_plain(name, transforms, served, serve):
    plain, fast = build(name), served(name, transforms=transforms)
    results = []
    for model in (plain, fast):
        torch.manual_seed(5)
        optimiser = torch.optim.Adam(model.train().parameters(), lr=1e-3)
        for _ in range(2):
            optimiser.zero_grad()
            out = model(X)
            loss = (out["x_hat"] - X).square().mean() - sum(p.log().mean() for p in out["likelihoods"].values())
            (loss + model.aux_loss()).backward()
            optimiser.step()
        model.eval().update(force=True)
        serve(model, transforms=transforms, name=name)
        coded = model.compress(X)
        results.append((coded["strings"], model.decompress(coded["strings"], coded["shape"])["x_hat"]))
    assert results[0][0] == results[1][0]
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)


def test_other_activations_are_noticed_as_other_weights_are(served):
    def own_forward(model):
        model.h_s[1].forward = torch.tanh

    for change in (
        lambda m: m.h_s.__setitem__(1, nn.ReLU()),
        lambda m: setattr(m.h_s[1], "negative_slope", 0.3),
        own_forward,
    ):
        model = served()
        change(model)
        with pytest.raises(ModelMismatchError, match=r"\(h_s\.1\)"):
            model.compress(X)


def test_weights_on_a_device_have_a_checksum_of_every_bit():
    for tensor in (torch.randn(5, 7), torch.randn(33).half(), torch.randn(9).double(), torch.ones(3) > 0):
        before = int(snapshot.device_sum(tensor))
        raw = tensor.view(torch.uint8).reshape(-1)
        for place in range(len(raw)):
            raw[place] ^= 1 << place % 8
            assert int(snapshot.device_sum(tensor)) != before
            raw[place] ^= 1 << place % 8
    assert int(snapshot.device_sum(torch.arange(8.0))) != int(snapshot.device_sum(torch.arange(8.0).flip(0)))


# ---- modes, gradients, modules


@pytest.mark.parametrize("transforms", ["exact", "integer"])
def test_training_mode_codes_the_same_latents_and_runs_transforms_in_floats(transforms, served):
    model = served(transforms=transforms)
    out = model.compress(X)
    floats = copy.deepcopy(model)
    fastlic.restore(floats)
    model.train()
    with torch.no_grad():
        assert torch.equal(model.g_a(X), floats.g_a(X)) or transforms == "exact"
    coded = model.compress(X)
    model.eval().decompress(coded["strings"], coded["shape"])
    assert model.compress(X)["strings"] == out["strings"]


def test_a_forward_of_ones_own_on_a_network_stays_with_floats():
    model = build("bmshj2018-hyperprior")
    forward = model.h_s.forward
    model.h_s.forward = lambda z: 2 * forward(z)
    report = fastlic.accelerate(model, calibration=CALIBRATION)
    assert "h_s has a forward of its own" in next(row.note for row in report.rows if row.part == "entropy path")
    out = model.compress(X)
    model.decompress(out["strings"], out["shape"])


def test_gradients_switched_off_and_on_change_nothing(served):
    model = served(transforms="integer")
    out = model.compress(X)
    for requires in (False, True):
        model.requires_grad_(requires)
        again = model.compress(X)
        assert again["strings"] == out["strings"]
        assert not model.decompress(again["strings"], again["shape"])["x_hat"].requires_grad
    with torch.inference_mode():
        assert model.compress(X)["strings"] == out["strings"]


@pytest.mark.parametrize(
    ("name", "format", "transforms", "place"),
    [
        ("bmshj2018-factorized", "native", "exact", "entropy_bottleneck"),
        ("mbt2018-mean", "native", "integer", "g_s"),
        ("mbt2018-mean", "compressai", "integer", "h_a"),
        ("mbt2018", "compressai", "exact", "gaussian_conditional"),
        pytest.param("elic2022-official", "native", "exact", "latent_codec", marks=pytest.mark.slow),
    ],
)
def test_modules_put_in_the_place_of_served_ones_are_an_error(name, format, transforms, place, served, serve):
    model = served(name, format, transforms)
    out = model.compress(X)
    setattr(model, place, getattr(build(name), place))
    with pytest.raises(ModelMismatchError, match=f"{place}.* came after .*call it again"):
        model.compress(X)
    with pytest.raises(ModelMismatchError, match="call it again"):
        model.decompress(out["strings"], out["shape"])
    serve(model, format, transforms, name)
    assert model.compress(X)["strings"] == out["strings"]


def test_modules_replaced_in_exact_transforms_and_in_compressais_format_are_run(served):
    model, plain = served("mbt2018-mean", "compressai"), build("mbt2018-mean")
    torch.manual_seed(1)
    for key in ("g_s", "entropy_bottleneck"):
        setattr(model, key, getattr(plain, key))
    model.g_a[2] = plain.g_a[2] = nn.Conv2d(8, 8, 5, 2, 2)
    with torch.no_grad():
        assert model.compress(X)["strings"] == plain.compress(X)["strings"]
    fastlic.restore(model)
    assert not any(is_specialised(module) for module in model.modules())


def test_restore_after_changes_leaves_the_changes(served):
    model = served(transforms="integer")
    for parameter in model.parameters():
        parameter.data.mul_(1.01)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    fastlic.restore(model)
    plain = build("mbt2018-mean")
    plain.load_state_dict(state)
    with torch.no_grad():
        assert model.compress(X)["strings"] == plain.compress(X)["strings"]


def test_accelerate_that_fails_leaves_an_accelerated_model_as_it_was(served, tmp_path):
    model = served(transforms="integer")
    out = model.compress(X)
    (tmp_path / "none.safetensors").write_bytes(b"nothing")
    with pytest.raises(CodecFileError):
        fastlic.accelerate(model, calibration=tmp_path / "none.safetensors")
    assert model.compress(X)["strings"] == out["strings"]
    assert fastlic.restore(model) and not fastlic.restore(model)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mbt2018", "cheng2020-anchor-checkerboard"])
def test_a_forward_that_masks_its_weights_in_place_is_no_change(name, model_of, tmp_path):
    model, x = model_of(name), image(1, 64, 64)
    for module in model.modules():
        if hasattr(module, "mask"):
            module.weight.data += 0.01  # as an optimiser leaves what the mask hides
    fastlic.accelerate(model, calibration=[image(1)[0]]).save(tmp_path / "conversion.safetensors")
    coded = model.compress(x)
    model(x)
    assert model.compress(x)["strings"] == coded["strings"]
    model.decompress(coded["strings"], coded["shape"])
    fastlic.accelerate(model, calibration=tmp_path / "conversion.safetensors")  # of the weights before
    model.decompress(coded["strings"], coded["shape"])
