"""Accelerated models are compiled, and get hooks: either the result is right, or an error says why."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn as nn
from torch.nn.utils import parametrizations, prune, weight_norm

import fastlic
from fastlic.errors import ModelMismatchError
from fastlic.integrations.compressai.swap import is_specialised, state_of

from .conftest import CALIBRATION, X, build, flip_last_bit

# ---- compilers


def test_compiled_models_are_looked_through(served, serve):
    plain = build("mbt2018-mean")
    compiled = torch.compile(plain, backend="eager")
    report = serve(compiled)
    assert report.model == "MeanScaleHyperprior" and "integers" in report.replaced[0].by
    assert compiled.compress(X)["strings"] == served().compress(X)["strings"]
    assert fastlic.restore(compiled) and not fastlic.restore(plain)


@pytest.mark.slow
def test_compiled_networks_are_converted_and_compiled_transforms_named(served, serve):
    model = build("mbt2018-mean")
    model.h_s = torch.compile(model.h_s, backend="eager")
    assert "integers" in serve(model).replaced[0].by
    assert model.compress(X)["strings"] == served().compress(X)["strings"]
    flip_last_bit(model.h_s._orig_mod[0].weight)
    with pytest.raises(ModelMismatchError, match="h_s"):
        model.compress(X)
    model = build("mbt2018-mean")
    model.g_s = torch.compile(model.g_s, backend="eager")
    for transforms in ("exact", "integer"):
        report = fastlic.accelerate(model, calibration=CALIBRATION, transforms=transforms)
        (row,) = (row for row in report.rows if row.part == "transform g_s")
        assert "compiled: accelerate first" in row.note and not row.replaced
        out = model.compress(X)
        model.decompress(out["strings"], out["shape"])


@pytest.mark.slow
@pytest.mark.parametrize("transforms", ["exact", "integer"])
def test_accelerated_models_can_be_compiled_and_compute_what_they_did(transforms, served):
    model = served(transforms=transforms)
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(X)["x_hat"], model(X)["x_hat"])
    with torch.no_grad():
        torch.testing.assert_close(compiled(X)["x_hat"], model(X)["x_hat"])
        if transforms == "integer":
            assert torch.equal(compiled(X)["x_hat"], model(X)["x_hat"])  # integers there too
    out = compiled.compress(X)
    assert out["strings"] == model.compress(X)["strings"]
    assert torch.compile(model.compress, backend="eager")(X)["strings"] == out["strings"]
    pixels = torch.compile(model.decompress, backend="eager")(out["strings"], out["shape"])["x_hat"]
    assert torch.equal(pixels, model.decompress(out["strings"], out["shape"])["x_hat"])
    flip_last_bit(model.h_s[0].weight)
    with pytest.raises(ModelMismatchError):
        compiled.compress(X)


def test_what_torch_jit_made_is_refused_and_accelerated_models_are_not_scripted(served):
    model = served()
    traced = torch.jit.trace(model.g_a, X)
    with pytest.raises(TypeError, match=r"torch\.jit: accelerate the model"):
        fastlic.accelerate(traced)
    classes = [type(module) for module in model.modules()]
    for own in (model, model.g_s):
        with warnings.catch_warnings(), pytest.raises(TypeError, match=r"call fastlic\.restore\(model\) first"):
            warnings.simplefilter("ignore")
            torch.jit.script(own)
    assert [type(module) for module in model.modules()] == classes
    with torch.no_grad():
        torch.testing.assert_close(traced(X), model.g_a(X), rtol=1e-4, atol=1e-4)


# ---- hooks and computed weights


@pytest.mark.parametrize(
    "name", ["mbt2018-mean", pytest.param("cheng2020-anchor-checkerboard", marks=pytest.mark.slow)]
)
def test_reports_name_modules_whose_hooks_do_not_run(name, serve):
    model, seen = build(name), []
    hyper, prefix = (model, "") if name == "mbt2018-mean" else (model.latent_codec["hyper"], "latent_codec.hyper.")
    for own in (model.g_a, model.g_a[0], model.g_s, hyper.h_a, hyper.h_s, hyper.h_s[2]):
        own.register_forward_hook(lambda module, inputs, output: seen.append(module))
    hyper.h_s[0].register_forward_pre_hook(lambda module, inputs: seen.append(module))

    def named(report):
        return {name for row in report.rows if row.part == "forward hooks" for name in row.modules}

    report = serve(model, name=name)
    analysed = set() if hyper is model else {f"{prefix}h_a"}
    assert named(report) == {f"{prefix}h_s", f"{prefix}h_s.0", f"{prefix}h_s.2"} | analysed
    assert "do not run" in str(report)
    seen.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # they were named
        out = model.compress(X)
        model.decompress(out["strings"], out["shape"])
    assert set(seen) == {model.g_a, model.g_a[0], model.g_s} | ({hyper.h_a} if hyper is model else set())
    assert not named(serve(model, "compressai"))
    assert "g_a.0" in named(serve(model, transforms="integer", name=name))


@pytest.mark.filterwarnings("error")
def test_hooks_that_come_later_and_do_not_run_are_a_warning_once(served):
    model, seen = served(), []
    handle = model.h_s[0].register_forward_hook(lambda module, inputs, output: seen.append(module))
    with pytest.warns(UserWarning, match=r"forward hooks on h_s\.0 do not run"):
        model.compress(X)
    model.compress(X)
    assert not seen
    model(X)
    assert seen
    handle.remove()
    model.g_a[0].register_forward_hook(lambda module, inputs, output: seen.append(module))
    seen.clear()
    model.compress(X)
    assert len(seen) == 1


@pytest.mark.slow
def test_conversion_does_not_run_or_copy_hooks():
    class Owner:
        def __deepcopy__(self, memo):
            raise AssertionError("a hook was copied")

        def hook(self, module, inputs, output):
            raise AssertionError("a hook ran")

    model, owner = build("mbt2018-mean"), Owner()
    handles = [model.h_s[0].register_forward_hook(owner.hook), model.g_s[0].register_forward_hook(owner.hook)]
    fastlic.accelerate(model, calibration=CALIBRATION, transforms="integer")
    assert handles[0].id in model.h_s[0]._forward_hooks and handles[1].id in model.g_s[0]._forward_hooks
    out = model.compress(X)
    model.decompress(out["strings"], out["shape"])


COMPUTED = [
    weight_norm,
    lambda own: prune.l1_unstructured(own, "weight", 0.3),
    torch.nn.utils.spectral_norm,
]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("put", COMPUTED, ids=["weight_norm", "prune", "spectral_norm"])
@pytest.mark.parametrize("where", [pytest.param("h_s.0", marks=pytest.mark.slow), "h_a.0", "g_s.0"])
def test_weights_that_hooks_make_stay_with_floats_and_are_named(where, put):
    model = build("bmshj2018-factorized" if where == "g_s.0" else "mbt2018-mean")
    put(model.get_submodule(where))
    report = fastlic.accelerate(model.eval(), calibration=CALIBRATION, transforms="integer")
    refused = "transform g_s" if where == "g_s.0" else "entropy path"
    row = next(row for row in report.rows if row.part == refused)
    assert f"a hook makes the weight of {where}" in row.note and row.by != "integers"
    fast, plain = model, copy.deepcopy(model) if put is COMPUTED[2] else None
    if plain is not None:  # torch copies no others
        fastlic.restore(plain)
    for _ in range(2):
        out = fast.compress(X)
        found = fast.decompress(out["strings"], out["shape"])["x_hat"]
        if plain is not None and where == "g_s.0":
            with torch.no_grad():
                expected = plain.g_s(plain.entropy_bottleneck(plain.g_a(X))[0]).clamp(0, 1)
            assert float((found - expected).abs().mean()) < 0.02
        for own in (fast, plain):  # and followed
            if own is not None:
                next(p for key, p in own.get_submodule(where).named_parameters() if key[:7] == "weight_").data.mul_(1.5)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*", "ignore:forward hooks")
def test_computed_weights_put_on_later_are_noticed(served):
    for put in (weight_norm, parametrizations.weight_norm, parametrizations.spectral_norm, COMPUTED[1]):
        for where, transforms in (("h_s.0", "exact"), ("g_a.0", "integer")):
            model = served(transforms=transforms)
            put(model.get_submodule(where))
            with pytest.raises(ModelMismatchError, match=f"changed after .*{where}"):
                model.compress(X)


@pytest.mark.slow
@pytest.mark.parametrize("put", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrized_layers_are_converted_as_they_compute(put):
    model, twin = build("mbt2018-mean"), build("mbt2018-mean")
    put(model.h_s[0])
    twin.h_s[0].weight.data.copy_(model.eval().h_s[0].weight.detach())
    for own in (model, twin):
        fastlic.accelerate(own, calibration=CALIBRATION)
    assert model.compress(X)["strings"] == twin.compress(X)["strings"]
    for tensor in (*model.h_s[0].parametrizations.parameters(), *model.h_s[0].parametrizations.buffers()):
        flip_last_bit(tensor)
        with pytest.raises(ModelMismatchError, match=r"h_s\.0\.parametrizations"):
            model.compress(X)
        flip_last_bit(tensor)


def test_restore_takes_away_what_lies_under_a_parametrization(served):
    model, plain = served(), build("mbt2018-mean")
    for own in (model, plain):
        parametrizations.weight_norm(own.g_s[0])
    y = torch.round(4 * torch.randn(1, 12, 4, 4))
    with torch.no_grad():
        torch.testing.assert_close(model.g_s(y), plain.g_s(y), rtol=1e-4, atol=1e-5)
        assert fastlic.restore(model)
        assert torch.equal(model.g_s(y), plain.g_s(y))
    assert not any(is_specialised(module) or state_of(module, None) for module in model.modules())
    for own in (model, plain):
        torch.nn.utils.parametrize.remove_parametrizations(own.g_s[0], "weight")
    assert type(model.g_s[0]) is type(plain.g_s[0]) is nn.ConvTranspose2d
