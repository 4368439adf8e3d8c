"""Accelerated models are trained, loaded, cast, moved and rebuilt: either the result is right, or an error says why."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import pytest
import torch
import torch.nn as nn
from torch.nn.utils import parametrizations, prune, weight_norm

import fastlic
from fastlic.errors import CodecFileError, ModelMismatchError
from fastlic.integrations.compressai import snapshot
from fastlic.integrations.compressai.groups import group_parts
from fastlic.integrations.compressai.native_models import model_parts
from fastlic.integrations.compressai.swap import is_specialised, state_of

from .conftest import BUILDERS, build, image
from .sliced import sliced

CALIBRATION = [image(1)[0]]
X = image(1, 64, 64)


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Accelerates a model. Models of the weights of ``build(name)`` share a saved conversion, as that is quick."""
    folder = tmp_path_factory.mktemp("conversions")

    def accelerate(model, format="native", transforms="exact", name="mbt2018-mean"):
        if format == "compressai" and transforms == "exact":
            return fastlic.accelerate(model, format)
        path = folder / f"{name} {transforms}"
        if not path.exists():
            report = fastlic.accelerate(build(name), calibration=CALIBRATION, transforms=transforms)
            if not report.conversions + report.transforms:
                return fastlic.accelerate(model, format)
            report.save(path)
        try:
            return fastlic.accelerate(model, format, path, transforms=transforms)
        except ModelMismatchError:
            return fastlic.accelerate(model, format, CALIBRATION, transforms=transforms)

    return accelerate


@pytest.fixture(scope="module")
def made(serve):
    """(name, format, transforms) -> an accelerated model of one's own."""
    known = {}

    def get(name="mbt2018-mean", format="native", transforms="exact"):
        key = (name, format, transforms)
        if key not in known:
            known[key] = build(name)
            serve(known[key], format, transforms, name)
        return copy.deepcopy(known[key])

    return get


def flip_last_bit(parameter, place=-1):
    """The smallest change there is, and one that torch is not told of."""
    parameter.data.view(-1).view(torch.int32)[place] ^= 1


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
def test_weights_of_the_entropy_path_that_change_are_an_error_at_the_next_call(change, made):
    model = made()
    out = model.compress(X)
    change(model, "h_s.2")
    with pytest.raises(ModelMismatchError, match=r"fastlic\.accelerate\(model\) \(h_s\..*\): call it again"):
        model.compress(X)
    with pytest.raises(ModelMismatchError, match="call it again"):
        model.decompress(out["strings"], out["shape"])


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", ["g_a.0", "g_s.2"])
def test_weights_of_integer_transforms_that_change_are_an_error_at_the_next_call(name, change, made):
    model = made("bmshj2018-factorized", transforms="integer")
    out = model.compress(X)
    change(model, name)
    with pytest.raises(ModelMismatchError, match=rf"weights of {name[:3]} changed .*\({name[:3]}\..*call it again"):
        model.compress(X) if name == "g_a.0" else model.decompress(out["strings"], out["shape"])


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_exact_transforms_follow_the_weights(change, made):
    model = made("bmshj2018-factorized")
    change(model, "g_s.2")
    y = torch.round(4 * torch.randn(1, 12, 4, 4))
    with torch.no_grad():
        found = model.g_s(y)
        fastlic.restore(model)
        torch.testing.assert_close(found, model.g_s(y), rtol=1e-4, atol=1e-5)


OTHERS = ("bmshj2018-hyperprior", "cheng2020-anchor", "cheng2020-anchor-checkerboard", "mbt2018-vbr")


@pytest.mark.parametrize("name", ["mbt2018-mean", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_the_last_bit_of_every_weight_that_integers_are_made_of_counts(name, made):
    model = made(name, transforms="integer")
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


def test_averaged_weights_swapped_in_and_out_are_an_error_and_then_none(made):
    model = made(transforms="integer")
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
def test_training_after_accelerate_and_accelerate_again_is_as_if_it_had_been_plain(name, transforms, made, serve):
    plain, fast = build(name), made(name, transforms=transforms)
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


def test_other_activations_are_noticed_as_other_weights_are(made):
    def own_forward(model):
        model.h_s[1].forward = torch.tanh

    for change in (
        lambda m: m.h_s.__setitem__(1, nn.ReLU()),
        lambda m: setattr(m.h_s[1], "negative_slope", 0.3),
        own_forward,
    ):
        model = made()
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
def test_state_dicts_with_tables_of_other_sizes_are_loaded(name, format, made, serve):
    model, other = made(name, format), other_tables(name)
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


def test_a_state_dict_without_tables_asks_for_update(made):
    model = made("bmshj2018-factorized")
    strings = model.compress(X)["strings"]
    model.load_state_dict(build("bmshj2018-factorized", update=False).state_dict())
    with pytest.raises(ValueError, match=r"update\(\)"):
        model.compress(X)
    model.update()
    assert model.compress(X)["strings"] == strings


@pytest.mark.parametrize("format", ["native", "compressai"])
def test_update_after_training_is_followed(format, made, serve):
    model, plain = made("bmshj2018-factorized", format), build("bmshj2018-factorized")
    strings = model.compress(X)["strings"]
    for own in (model, plain):
        own.entropy_bottleneck.quantiles.data.sub_(3)
        own.update(force=True)
    serve(plain, format, name="bmshj2018-factorized")
    assert model.compress(X)["strings"] == plain.compress(X)["strings"] != strings


def test_update_of_a_model_on_integers_changes_nothing(made):
    model = made()
    out = model.compress(X)
    model.update(scale_table=torch.linspace(0.2, 30, 20), force=True)
    assert model.compress(X)["strings"] == out["strings"]


@pytest.mark.parametrize("format", ["native", "compressai"])
def test_tables_written_through_data_are_followed(format, made, serve):
    model = made("bmshj2018-factorized", format)
    model.compress(X)
    model.entropy_bottleneck._offset.data.sub_(1)
    plain = build("bmshj2018-factorized")
    plain.entropy_bottleneck._offset.sub_(1)
    serve(plain, format, name="bmshj2018-factorized")
    assert model.compress(X)["strings"] == plain.compress(X)["strings"]


@pytest.mark.parametrize("name", ["mbt2018-mean", "mbt2018", pytest.param("elic2022-official", marks=pytest.mark.slow)])
def test_from_state_dict_of_an_accelerated_model_makes_a_plain_one(name, made):
    model = made(name, "compressai")
    if name == "mbt2018-mean":
        plain = type(model).from_state_dict(model.state_dict())
    else:  # their from_state_dict assumes sizes that this model does not have
        plain = type(model)(*{"mbt2018": (8, 12), "elic2022-official": (8, 40, [4, 4, 8, 8, 16])}[name])
        plain.load_state_dict(model.state_dict())
    assert type(plain) is type(BUILDERS[name]())
    assert not any(is_specialised(module) for module in plain.modules())
    with torch.no_grad():
        assert plain.compress(X)["strings"] == model.compress(X)["strings"]


def test_classes_derived_of_an_accelerated_one_say_so(made, serve):
    model = made()
    derived = type("Derived", (type(model),), {})(8, 12)
    with pytest.raises(TypeError, match="Derived was not accelerated"):
        derived.compress(X)
    serve(derived, "compressai")
    derived.compress(X)


@pytest.mark.parametrize("transforms", ["exact", "integer"])
def test_copies_pickles_and_saved_models_notice_changes_too(transforms, made):
    model = made(transforms=transforms)
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


def test_pickles_of_before_snapshots_are_read(made):
    model = made(transforms="integer")
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
def test_other_precisions_and_back_are_no_changes(cast, made):
    model = made(transforms="integer")
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


def test_one_network_in_another_precision_and_another_layout_is_no_change(made):
    model = made()
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


def test_models_on_the_meta_device_are_refused(made):
    for format in ("native", "compressai"):
        for name in ("bmshj2018-factorized", "mbt2018-mean"):
            with pytest.raises(ValueError, match=r"entropy_bottleneck\.\w+ is on the meta device"):
                fastlic.accelerate(build(name).to("meta"), format, CALIBRATION)
            model = made(name, format)
            out = model.compress(X)
            model.to("meta")
            with pytest.raises(ValueError, match="meta device"):
                model.compress(X)
            with pytest.raises(ValueError, match="meta device"):
                model.decompress(out["strings"], out["shape"])


def test_transforms_without_weights_of_their_own_run_their_floats(made):
    model = made(transforms="integer")
    y = torch.round(4 * torch.randn(1, 12, 4, 4))
    for module in model.g_s.modules():  # as in replicas of DataParallel
        for name, parameter in list(module._parameters.items()):
            del module._parameters[name]
            setattr(module, name, parameter.detach())
    assert not list(model.g_s.parameters())
    plain = build("mbt2018-mean")
    with torch.no_grad():
        assert torch.equal(model.g_s(y), plain.g_s(y))


def test_averaged_models_are_looked_through_and_accelerated_ones_stay_so(made, serve):
    averaged = torch.optim.swa_utils.AveragedModel(build("mbt2018-mean"))
    assert serve(averaged).model == "MeanScaleHyperprior"
    model = made()
    averaged = torch.optim.swa_utils.AveragedModel(model)
    assert averaged.module.compress(X)["strings"] == model.compress(X)["strings"]
    flip_last_bit(model.h_s[0].weight)
    averaged.update_parameters(model)
    with pytest.raises(ModelMismatchError):
        averaged.module.compress(X)


# ---- compilers


def test_compiled_models_are_looked_through(made, serve):
    plain = build("mbt2018-mean")
    compiled = torch.compile(plain, backend="eager")
    report = serve(compiled)
    assert report.model == "MeanScaleHyperprior" and "integers" in report.replaced[0].by
    assert compiled.compress(X)["strings"] == made().compress(X)["strings"]
    assert fastlic.restore(compiled) and not fastlic.restore(plain)


@pytest.mark.slow
def test_compiled_networks_are_converted_and_compiled_transforms_named(made, serve):
    model = build("mbt2018-mean")
    model.h_s = torch.compile(model.h_s, backend="eager")
    assert "integers" in serve(model).replaced[0].by
    assert model.compress(X)["strings"] == made().compress(X)["strings"]
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
def test_accelerated_models_can_be_compiled_and_compute_what_they_did(transforms, made):
    model = made(transforms=transforms)
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


def test_what_torch_jit_made_is_refused_and_accelerated_models_are_not_scripted(made):
    model = made()
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
def test_hooks_that_come_later_and_do_not_run_are_a_warning_once(made):
    model, seen = made(), []
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
def test_computed_weights_put_on_later_are_noticed(made):
    for put in (weight_norm, parametrizations.weight_norm, parametrizations.spectral_norm, COMPUTED[1]):
        for where, transforms in (("h_s.0", "exact"), ("g_a.0", "integer")):
            model = made(transforms=transforms)
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


def test_restore_takes_away_what_lies_under_a_parametrization(made):
    model, plain = made(), build("mbt2018-mean")
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


# ---- modes, gradients, modules


@pytest.mark.parametrize("transforms", ["exact", "integer"])
def test_training_mode_codes_the_same_latents_and_runs_transforms_in_floats(transforms, made):
    model = made(transforms=transforms)
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


def test_gradients_switched_off_and_on_change_nothing(made):
    model = made(transforms="integer")
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
def test_modules_put_in_the_place_of_served_ones_are_an_error(name, format, transforms, place, made, serve):
    model = made(name, format, transforms)
    out = model.compress(X)
    setattr(model, place, getattr(build(name), place))
    with pytest.raises(ModelMismatchError, match=f"{place}.* came after .*call it again"):
        model.compress(X)
    with pytest.raises(ModelMismatchError, match="call it again"):
        model.decompress(out["strings"], out["shape"])
    serve(model, format, transforms, name)
    assert model.compress(X)["strings"] == out["strings"]


def test_modules_replaced_in_exact_transforms_and_in_compressais_format_are_run(made):
    model, plain = made("mbt2018-mean", "compressai"), build("mbt2018-mean")
    torch.manual_seed(1)
    for key in ("g_s", "entropy_bottleneck"):
        setattr(model, key, getattr(plain, key))
    model.g_a[2] = plain.g_a[2] = nn.Conv2d(8, 8, 5, 2, 2)
    with torch.no_grad():
        assert model.compress(X)["strings"] == plain.compress(X)["strings"]
    fastlic.restore(model)
    assert not any(is_specialised(module) for module in model.modules())


def test_restore_after_changes_leaves_the_changes(made):
    model = made(transforms="integer")
    for parameter in model.parameters():
        parameter.data.mul_(1.01)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    fastlic.restore(model)
    plain = build("mbt2018-mean")
    plain.load_state_dict(state)
    with torch.no_grad():
        assert model.compress(X)["strings"] == plain.compress(X)["strings"]


def test_accelerate_that_fails_leaves_an_accelerated_model_as_it_was(made, tmp_path):
    model = made(transforms="integer")
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
