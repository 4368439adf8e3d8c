"""accelerate and restore: what they promise about the model itself, whatever the format."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn as nn

import fastlic

from .conftest import BUILDERS, build, image


def modules_and_methods(model):
    return [(type(module), dict(vars(module))) for module in model.modules()]


def test_every_class_of_the_registry_that_codes_images_is_tested():
    from compressai.registry import MODELS

    others = {"ssf2020", "hrtzxf2022-pcc-rec", "sfu2023-pcc-rec-pointnet", "sfu2024-pcc-rec-pointnet2-ssg"}
    assert set(BUILDERS) == set(MODELS) - others


@pytest.mark.parametrize("format", ["compressai", "native"])
@pytest.mark.parametrize("name", BUILDERS)
def test_restore_leaves_no_trace(name, format, model_of):
    model = model_of(name)
    before, state = modules_and_methods(model), copy.deepcopy(model.state_dict())
    fastlic.accelerate(model, format, calibration=[image(1)[0]])
    assert any(type(module) is not cls for module, (cls, _) in zip(model.modules(), before, strict=True))
    assert all(isinstance(module, cls) for module, (cls, _) in zip(model.modules(), before, strict=True))
    accelerated = model.state_dict()
    assert list(accelerated) == list(state)
    assert all(torch.equal(accelerated[key], state[key]) for key in state)
    assert fastlic.restore(model)
    assert not fastlic.restore(model)
    after = modules_and_methods(model)
    assert [cls for cls, _ in after] == [cls for cls, _ in before]
    assert [list(attributes) for _, attributes in after] == [list(attributes) for _, attributes in before]


def test_accelerating_twice_changes_nothing_and_another_format_takes_over(model_of):
    model = model_of("mbt2018-mean")
    first = str(fastlic.accelerate(model, "compressai"))
    classes = [type(module) for module in model.modules()]
    assert str(fastlic.accelerate(model, "compressai")) == first
    assert [type(module) for module in model.modules()] == classes
    x = image(1, 64, 64)
    old = model.compress(x)["strings"]
    fastlic.accelerate(model, "native")
    assert model.compress(x)["strings"] != old
    fastlic.accelerate(model, "compressai")
    assert model.compress(x)["strings"] == old


@pytest.mark.parametrize("format", ["compressai", "native"])
@pytest.mark.parametrize("name", ["mbt2018-mean", "mbt2018", "elic2022-chandelier"])
def test_copies_and_pickles_stay_accelerated(name, format, model_of):
    model, x = model_of(name), image(1, 64, 64)
    fastlic.accelerate(model, format, calibration=[image(1)[0]])
    strings = model.compress(x)["strings"]
    twins = [copy.deepcopy(model)]
    if name != "elic2022-chandelier":  # its attention blocks hold a class that no pickle can name
        twins.append(pickle.loads(pickle.dumps(model)))
    for twin in twins:
        assert [type(a) for a in twin.modules()] == [type(a) for a in model.modules()]
        assert twin.compress(x)["strings"] == strings
        assert fastlic.restore(twin)
        assert type(model) is not type(twin)
    assert model.compress(x)["strings"] == strings


@pytest.mark.parametrize("call", [fastlic.accelerate, fastlic.restore])
def test_what_is_no_module_is_refused(call):
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module, got NoneType"):
        call(None)


def test_context_manager_restores_even_after_an_error(model_of):
    model = model_of("mbt2018-mean")
    cls = type(model)
    with pytest.raises(RuntimeError, match="inside"), fastlic.accelerated(model, "compressai") as report:
        assert report.replaced
        assert type(model) is not cls
        raise RuntimeError("inside")
    assert type(model) is cls


@pytest.mark.parametrize(("outer", "inner"), [("native", "compressai"), ("compressai", "native"), ("native", "native")])
def test_behind_a_block_a_model_is_accelerated_as_it_was_before(outer, inner, model_of):
    model, x = model_of("mbt2018-mean"), image(1, 64, 64)
    fastlic.accelerate(model, outer, calibration=[x[0]])
    before, coded = modules_and_methods(model), model.compress(x)
    pixels = model.decompress(coded["strings"], coded["shape"])["x_hat"]
    with fastlic.accelerated(model, inner), fastlic.accelerated(model, outer):
        pass
    with pytest.raises(RuntimeError, match="inside"), fastlic.accelerated(model, inner):
        fastlic.restore(model)
        raise RuntimeError("inside")
    assert modules_and_methods(model) == before
    assert model.compress(x)["strings"] == coded["strings"]
    assert torch.equal(model.decompress(coded["strings"], coded["shape"])["x_hat"], pixels)


def test_data_parallel_is_looked_through(model_of):
    model = model_of("mbt2018-mean")
    wrapped = nn.DataParallel(model)
    fastlic.accelerate(wrapped, "compressai")
    assert type(model) is not BUILDERS["mbt2018-mean"]().__class__
    wrapped.module.compress(image(1, 64, 64))
    assert fastlic.restore(wrapped)


def test_forgotten_update_is_done_and_said():
    model = build("mbt2018-mean", update=False)
    report = fastlic.accelerate(model, "compressai")
    assert report.updated
    assert "update()" in str(report)
    strings = model.compress(image(1, 64, 64))["strings"]
    twin = build("mbt2018-mean")
    assert not fastlic.accelerate(twin, "compressai").updated
    assert twin.compress(image(1, 64, 64))["strings"] == strings


def test_report_is_a_table_of_what_happened(model_of):
    report = fastlic.accelerate(model_of("elic2022-official"), "compressai")
    text = str(report)
    assert "Elic2022Official" in text.splitlines()[0]
    for part in ("checkerboard codec", "Gaussian entropy model", "entropy bottleneck"):
        assert part in text
    assert [row.part for row in report.left] == ["transform g_a"]


def test_own_methods_of_a_subclass_are_respected_and_reported(model_of):
    from compressai.entropy_models import GaussianConditional

    class Own(GaussianConditional):
        def build_indexes(self, scales):
            return super().build_indexes(scales) * 0

    model = model_of("mbt2018-mean")
    own = Own(None)
    own.update_scale_table([0.5, 1.0, 2.0] and torch.tensor([0.5, 1.0, 2.0]))
    model.gaussian_conditional = own
    x = image(1, 64, 64)
    with torch.no_grad():
        strings = model.compress(x)["strings"]
    report = fastlic.accelerate(model, "compressai")
    assert any("build_indexes" in row.note for row in report.left)
    assert type(own) is Own
    assert model.compress(x)["strings"] == strings


def own_raster_model():
    """A model that nobody but its author knows, of CompressAI's latent codecs."""
    from compressai.entropy_models import EntropyBottleneck, GaussianConditional
    from compressai.latent_codecs import HyperLatentCodec, HyperpriorLatentCodec, RasterScanLatentCodec
    from compressai.layers import MaskedConv2d
    from compressai.models import SimpleVAECompressionModel

    class Mine(SimpleVAECompressionModel):
        def __init__(self):
            super().__init__()
            self.g_a = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU(), nn.Conv2d(8, 8, 5, 4, 2))
            self.g_s = nn.Sequential(nn.ConvTranspose2d(8, 8, 4, 4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 4))
            raster = RasterScanLatentCodec(
                gaussian_conditional=GaussianConditional(None),
                entropy_parameters=nn.Sequential(nn.Conv2d(32, 24, 1), nn.ReLU(), nn.Conv2d(24, 16, 1)),
                context_prediction=MaskedConv2d(8, 16, kernel_size=5, padding=2, stride=1),
            )
            hyper = HyperLatentCodec(
                entropy_bottleneck=EntropyBottleneck(8),
                h_a=nn.Conv2d(8, 8, 5, 4, 2),
                h_s=nn.Sequential(
                    nn.ConvTranspose2d(8, 8, 5, 2, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 16, 5, 2, 2, 1)
                ),
            )
            self.latent_codec = HyperpriorLatentCodec({"y": raster, "hyper": hyper})

    torch.manual_seed(0)
    model = Mine().eval()
    model.g_a[2].weight.data *= 30
    model.update()
    return model


def test_a_users_own_model_of_latent_codecs_is_served_batches_included():
    model, x = own_raster_model(), image(1)
    with torch.no_grad():
        theirs = model.compress(x)
        x_hat = model.decompress(theirs["strings"], theirs["shape"])["x_hat"]
    report = fastlic.accelerate(model, "compressai")
    assert "raster latent codec" in str(report)
    assert model.compress(x)["strings"] == theirs["strings"]
    torch.testing.assert_close(model.decompress(theirs["strings"], theirs["shape"])["x_hat"], x_hat)
    batch = model.compress(image(2))
    assert model.decompress(batch["strings"], batch["shape"])["x_hat"].shape == (2, 3, 128, 64)


def test_what_cannot_be_served_is_refused_and_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    before = modules_and_methods(model)
    with pytest.raises(TypeError, match="left as it was"):
        fastlic.accelerate(model)
    assert modules_and_methods(model) == before
    with pytest.raises(TypeError, match="got str"):
        fastlic.accelerate("mbt2018")


@pytest.mark.parametrize(("argument", "value"), [("format", "zip"), ("backend", "cuda"), ("transforms", "quick")])
def test_wrong_arguments_are_named(argument, value, model_of):
    with pytest.raises(ValueError, match=f"{argument} must be .*{value}"):
        fastlic.accelerate(model_of("mbt2018-mean"), **{argument: value})


@pytest.mark.parametrize("options", [{}, {"transforms": "integer"}, {"format": "compressai"}])
@pytest.mark.parametrize(
    ("calibration", "told"),
    [
        (lambda x: [x * 255], "divide by 255"),
        (lambda x: [x, x * 2 - 1], r"calibration\[1\]: .* \(x \+ 1\) / 2"),
        (lambda x: x, r"put it into a list, \[x\]"),
        (lambda _: [], "got none"),
        (lambda x: [x * float("nan")], "not finite"),
        (lambda x: [x.permute(1, 2, 0)], "channels come first"),
        (lambda x: [x.numpy()], r"calibration\[0\]: expected a torch.Tensor"),
        (lambda _: "", "'' is no path"),
        (lambda _: Path(__file__).parent, "is a folder"),
        (lambda _: 3, "got int"),
    ],
)  # fmt: skip
def test_calibration_that_no_range_can_be_measured_on_is_refused(calibration, told, options, model_of):
    model = model_of("mbt2018-mean")
    before = modules_and_methods(model)
    with pytest.raises(ValueError, match=told):
        fastlic.accelerate(model, calibration=calibration(image(1)[0]), **options)
    assert modules_and_methods(model) == before


def test_every_image_of_a_batch_and_of_a_generator_is_calibrated_on(model_of):
    model = model_of("mbt2018-mean")
    reports = [fastlic.accelerate(model, calibration=c) for c in (list(image(2)), [image(2)], iter(image(2)))]
    assert len({str(report) for report in reports}) == 1


def test_without_compressai_the_message_says_how_to_install_it(fresh_process):
    script = (
        "import sys, torch, fastlic\n"
        "assert 'compressai' not in sys.modules and 'fastlic.integrations' not in sys.modules\n"
        "sys.modules['compressai'] = None\n"
        "try:\n    fastlic.accelerate(torch.nn.Identity())\n"
        "except fastlic.errors.BackendUnavailable as error:\n    print(error)\n"
    )
    assert "pip install" in "".join(fresh_process(script))


def test_gradients_are_not_recorded(model_of):
    model = model_of("mbt2018-mean")
    fastlic.accelerate(model, "compressai")
    out = model.compress(image(1, 64, 64))
    assert not model.decompress(out["strings"], out["shape"])["x_hat"].requires_grad


def test_training_still_works_on_an_accelerated_model(model_of):
    model = model_of("mbt2018-mean").train()
    fastlic.accelerate(model, "compressai")
    out = model(image(1, 64, 64))
    (out["x_hat"].mean() + sum(likelihood.log().mean() for likelihood in out["likelihoods"].values())).backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if not name.endswith("quantiles"))
