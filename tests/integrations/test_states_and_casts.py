"""Accelerated models are loaded, saved, copied, cast and moved: either the result is right, or an error says why."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch.nn as nn

import fastlic
from fastlic.errors import ModelMismatchError
from fastlic.integrations.compressai.swap import is_specialised, state_of

from .conftest import BUILDERS, CALIBRATION, X, build, flip_last_bit

# ---- tables, state dicts, copies


def other_tables(name):
    """A model whose tables are larger than those of ``build``."""
    model = build(name, update=False)
    for module in model.modules():
        if hasattr(module, "quantiles"):
            module.quantiles.data[:, 0, 0] -= 7
    model.update(force=True)
    return model


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("bmshj2018-factorized", "native"),
        ("bmshj2018-factorized", "compressai"),
        ("bmshj2018-hyperprior-vbr", "compressai"),
        ("mbt2018-mean", "native"),
        pytest.param("elic2022-official", "native", marks=pytest.mark.slow),
        pytest.param("elic2022-official", "compressai", marks=pytest.mark.slow),
        pytest.param("bmshj2018-hyperprior-vbr", "native", marks=pytest.mark.slow),
    ],
)
def test_state_dicts_with_tables_of_other_sizes_are_loaded(name, format, served, serve):
    model, other = served(name, format), other_tables(name)
    sizes = {key: value.shape for key, value in model.state_dict().items()}
    state = other.state_dict()
    assert any(sizes[key] != value.shape for key, value in state.items())
    wrapped = nn.ModuleDict({"codec": model})  # as a trainer holds it
    wrapped.load_state_dict({f"codec.{key}": value for key, value in state.items()})
    model.load_state_dict(state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    if format == "native" and name != "bmshj2018-factorized":  # integers, of the quantiles too
        with pytest.raises(ModelMismatchError, match="quantiles"):
            model.compress(X)
        return
    serve(other, format, name=name)
    assert model.compress(X)["strings"] == other.compress(X)["strings"]


def test_a_state_dict_without_tables_asks_for_update(served):
    model = served("bmshj2018-factorized")
    strings = model.compress(X)["strings"]
    model.load_state_dict(build("bmshj2018-factorized", update=False).state_dict())
    with pytest.raises(ValueError, match=r"update\(\)"):
        model.compress(X)
    model.update()
    assert model.compress(X)["strings"] == strings


@pytest.mark.parametrize("format", ["native", "compressai"])
def test_update_after_training_is_followed(format, served, serve):
    model, plain = served("bmshj2018-factorized", format), build("bmshj2018-factorized")
    strings = model.compress(X)["strings"]
    for own in (model, plain):
        own.entropy_bottleneck.quantiles.data.sub_(3)
        own.update(force=True)
    serve(plain, format, name="bmshj2018-factorized")
    assert model.compress(X)["strings"] == plain.compress(X)["strings"] != strings


def test_update_of_a_model_on_integers_changes_nothing(served):
    model = served()
    out = model.compress(X)
    model.update(scale_table=torch.linspace(0.2, 30, 20), force=True)
    assert model.compress(X)["strings"] == out["strings"]


@pytest.mark.parametrize("format", ["native", "compressai"])
def test_tables_written_through_data_are_followed(format, served, serve):
    model = served("bmshj2018-factorized", format)
    model.compress(X)
    model.entropy_bottleneck._offset.data.sub_(1)
    plain = build("bmshj2018-factorized")
    plain.entropy_bottleneck._offset.sub_(1)
    serve(plain, format, name="bmshj2018-factorized")
    assert model.compress(X)["strings"] == plain.compress(X)["strings"]


@pytest.mark.parametrize("name", ["mbt2018-mean", "mbt2018", pytest.param("elic2022-official", marks=pytest.mark.slow)])
def test_from_state_dict_of_an_accelerated_model_makes_a_plain_one(name, served):
    model = served(name, "compressai")
    if name == "mbt2018-mean":
        plain = type(model).from_state_dict(model.state_dict())
    else:  # their from_state_dict assumes sizes that this model does not have
        plain = type(model)(*{"mbt2018": (8, 12), "elic2022-official": (8, 40, [4, 4, 8, 8, 16])}[name])
        plain.load_state_dict(model.state_dict())
    assert type(plain) is type(BUILDERS[name]())
    assert not any(is_specialised(module) for module in plain.modules())
    with torch.no_grad():
        assert plain.compress(X)["strings"] == model.compress(X)["strings"]


def test_classes_derived_of_an_accelerated_one_say_so(served, serve):
    model = served()
    derived = type("Derived", (type(model),), {})(8, 12)
    with pytest.raises(TypeError, match="Derived was not accelerated"):
        derived.compress(X)
    serve(derived, "compressai")
    derived.compress(X)


@pytest.mark.parametrize("transforms", ["exact", "integer"])
def test_copies_pickles_and_saved_models_notice_changes_too(transforms, served):
    model = served(transforms=transforms)
    strings = model.compress(X)["strings"]
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)]
    for twin in (copy.copy(model), *twins):
        assert twin.compress(X)["strings"] == strings
    for twin in twins:
        flip_last_bit(twin.h_s[0].weight)
        with pytest.raises(ModelMismatchError):
            twin.compress(X)
    assert model.compress(X)["strings"] == strings


def test_pickles_of_before_snapshots_are_read(served):
    model = served(transforms="integer")
    strings = model.compress(X)["strings"]
    for module in model.modules():
        state = state_of(module, None)
        for own in (getattr(state, "coder", None), getattr(state, "transform", None)):
            if own is not None:
                del own.__dict__["snapshot"]
    twin = pickle.loads(pickle.dumps(model))
    assert twin.compress(X)["strings"] == strings
    flip_last_bit(twin.h_s[0].weight)
    with pytest.raises(ModelMismatchError):
        twin.compress(X)
    model.h_s[0].weight.data.mul_(1.1)
    with pytest.raises(ModelMismatchError, match="all of them"):
        model.compress(X)


# ---- precisions, devices, layouts


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
def test_other_precisions_and_back_are_no_changes(cast, served):
    model = served(transforms="integer")
    out = model.compress(X)
    latents = [p.clone() for p in model.h_s.parameters()]
    x = X.to(next(getattr(model, cast)().parameters()).dtype)
    coded = model.compress(x)
    for own in (out, coded):
        x_hat = model.decompress(own["strings"], own["shape"])["x_hat"]
        assert x_hat.dtype == x.dtype and bool(x_hat.isfinite().all())
    model.float()
    assert cast == "double" or not torch.equal(model.h_s[0].weight, latents[0])
    model.decompress(out["strings"], out["shape"])
    assert model.compress(X)["strings"] == out["strings"]  # by the same integers
    flip_last_bit(model.h_s[0].weight)
    with pytest.raises(ModelMismatchError):
        model.compress(X)


def test_one_network_in_another_precision_and_another_layout_is_no_change(served):
    model = served()
    strings = model.compress(X)["strings"]
    model.h_s.double()
    assert model.compress(X)["strings"] == strings
    model.float().to(memory_format=torch.channels_last)
    assert model.compress(X)["strings"] == strings
    model.h_s[0].weight.data[0, 0, 0, 0] += 1
    with pytest.raises(ModelMismatchError, match=r"h_s\.0\.weight"):
        model.compress(X)


@pytest.mark.slow
@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
def test_models_of_other_precisions_are_converted_as_they_are(cast, serve):
    model = getattr(build("mbt2018-mean"), cast)()
    x = X.to(model.h_s[0].weight.dtype)
    serve(model)
    coded = model.compress(x)
    assert model.float().compress(X)["shape"] == coded["shape"]  # the same values, so no change
    model.decompress(coded["strings"], coded["shape"])


def test_models_on_the_meta_device_are_refused(served):
    for format in ("native", "compressai"):
        for name in ("bmshj2018-factorized", "mbt2018-mean"):
            with pytest.raises(ValueError, match=r"entropy_bottleneck\.\w+ is on the meta device"):
                fastlic.accelerate(build(name).to("meta"), format, CALIBRATION)
            model = served(name, format)
            out = model.compress(X)
            model.to("meta")
            with pytest.raises(ValueError, match="meta device"):
                model.compress(X)
            with pytest.raises(ValueError, match="meta device"):
                model.decompress(out["strings"], out["shape"])


def test_transforms_without_weights_of_their_own_run_their_floats(served):
    model = served(transforms="integer")
    y = torch.round(4 * torch.randn(1, 12, 4, 4))
    for module in model.g_s.modules():  # as in replicas of DataParallel
        for name, parameter in list(module._parameters.items()):
            del module._parameters[name]
            setattr(module, name, parameter.detach())
    assert not list(model.g_s.parameters())
    plain = build("mbt2018-mean")
    with torch.no_grad():
        assert torch.equal(model.g_s(y), plain.g_s(y))


def test_averaged_models_are_looked_through_and_accelerated_ones_stay_so(served, serve):
    averaged = torch.optim.swa_utils.AveragedModel(build("mbt2018-mean"))
    assert serve(averaged).model == "MeanScaleHyperprior"
    model = served()
    averaged = torch.optim.swa_utils.AveragedModel(model)
    assert averaged.module.compress(X)["strings"] == model.compress(X)["strings"]
    flip_last_bit(model.h_s[0].weight)
    averaged.update_parameters(model)
    with pytest.raises(ModelMismatchError):
        averaged.module.compress(X)
