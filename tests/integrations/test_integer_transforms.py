"""transforms="integer": pixels in and pixels out by integers, the same on every machine; floats wherever those run."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
import torch.nn as nn

import fastlic
from fastlic.errors import CodecFileError, ModelMismatchError
from fastlic.integrations.compressai import integer_transforms
from fastlic.integrations.compressai.integers import read_arrays

from .conftest import BUILDERS, build, check_same_everywhere, image

ANALYSED = ("cheng2020-anchor-checkerboard", "elic2022-official", "elic2022-chandelier")  # by the entropy path


@pytest.fixture
def integer(converted):
    """(a fresh copy of a model on integers, the report)"""
    return lambda name: converted(name, transforms="integer")


def psnr(a, b) -> float:
    return -10 * math.log10(float((a - b).square().mean()))


@pytest.mark.parametrize("name", BUILDERS)
def test_symbols_and_pixels_are_the_same_on_every_instruction_set(name, integer):
    model, x = integer(name)[0], image(1, 64, 128)
    _, pixels = check_same_everywhere(x, model)
    assert torch.equal(pixels, (pixels * 255).round() / 255)


@torch.no_grad()
@pytest.mark.parametrize("name", BUILDERS)
def test_latents_and_pictures_are_nearly_those_of_the_floats(name, integer, model_of):
    plain, fast, x = model_of(name), integer(name)[0], image(2, 64, 192)
    pixels = (x * 255).round() / 255
    y = plain.g_a(pixels)
    assert float((fast.g_a(x) - y).square().mean().sqrt()) < 0.02
    expected, found = (plain.g_s(torch.round(y)).clamp(0, 1) * 255).round() / 255, fast.g_s(torch.round(y))
    assert psnr(found, expected) > 50
    assert abs(psnr(found, x) - psnr(expected, x)) < 0.05


@pytest.mark.parametrize("name", BUILDERS)
def test_reports_say_which_networks_are_integers_and_of_what(name, integer):
    report = integer(name)[1]
    rows = {row.part: row for row in report.rows}
    for part in ("transform g_a", "transform g_s"):
        assert rows[part].by == "integers" and "strong colours" in rows[part].note
    assert report.guarantee.endswith("the same on any machine that holds this conversion")
    if name in ANALYSED:
        assert "entropy path" in rows["transform latent_codec.hyper.h_a"].note
    else:
        assert ("transform h_a" in rows) == hasattr(build(name), "h_a")


@torch.no_grad()
@pytest.mark.parametrize("name", BUILDERS)
def test_restore_gives_the_floats_back(name, integer, model_of):
    plain, model = model_of(name), integer(name)[0]
    assert fastlic.restore(model) and not fastlic.restore(model)
    assert [type(module) for module in model.modules()] == [type(module) for module in plain.modules()] or (
        "attn" in name or "elic" in name  # whose copies share the class that an attention block makes for itself
    )
    x = image(1, 64, 64)
    assert torch.equal(model.g_a(x), plain.g_a(x))
    assert torch.equal(model(x)["x_hat"], plain(x)["x_hat"])


@pytest.mark.parametrize("name", ["bmshj2018-factorized-relu", "mbt2018", "cheng2020-attn"])
def test_threads_batches_and_the_plain_reference_change_nothing(name, integer):
    model, x = integer(name)[0], image(2, 64, 64)
    with torch.no_grad():
        y = model.g_a(x)
        pixels = model.g_s(torch.round(y))
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(3)
            assert torch.equal(model.g_a(x[1:]), y[1:])
            assert torch.equal(model.g_s(torch.round(y[1:])), pixels[1:])
        finally:
            torch.set_num_threads(threads)
        fastlic.accelerate(model, calibration=[image(1)[0]], backend="reference", transforms="integer")
        assert torch.equal(model.g_a(x), y)
        assert torch.equal(model.g_s(torch.round(y)), pixels)


def test_gradients_training_and_other_precisions_are_as_before(integer, model_of):
    plain, model, x = model_of("mbt2018-mean"), integer("mbt2018-mean")[0], image(1, 64, 64)
    for own in (plain, model):
        own.g_s(own.g_a(x)).square().sum().backward()
    pairs = zip(plain.parameters(), model.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs if a.grad is not None)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model.g_a(x), plain.g_a(x))
        assert torch.equal(model.train().g_a(x), plain.g_a(x))
        assert torch.equal(model.eval().double().g_a(x.double()), plain.double().g_a(x.double()))


def test_forward_without_gradients_is_by_integers(integer):
    model, x = integer("mbt2018-mean")[0], image(1, 64, 64)
    with torch.no_grad():
        found = model(x)["x_hat"]
        assert torch.equal(found, (found * 255).round() / 255)
        assert torch.equal(model.g_a(x), model.g_a((x * 255).round() / 255))
        assert torch.equal(model.g_a(x), (model.g_a(x) * 64).round() / 64)
        assert torch.equal(model.g_a(2 * x - 0.5), model.g_a((2 * x - 0.5).clamp(0, 1)))


def test_images_that_are_not_finite_are_an_error(integer):
    x = image(1, 64, 64)
    x[0, 0, 5, 5] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        integer("bmshj2018-factorized")[0].compress(x)


@torch.no_grad()
def test_weights_changed_after_conversion_are_noticed(integer):
    model, x = integer("bmshj2018-factorized")[0], image(1, 64, 64)
    out = model.compress(x)
    model.half().float()
    model.compress(x)
    model.g_s[2].weight.data *= 1.2
    model.load_state_dict(model.state_dict())
    model.compress(x)
    with pytest.raises(ModelMismatchError, match="weights of g_s changed"):
        model.decompress(out["strings"], out["shape"])


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018", "elic2022-chandelier"])
def test_a_saved_conversion_gives_the_same_symbols_and_pixels_elsewhere(name, integer, tmp_path):
    model, report = integer(name)
    path, x = tmp_path / "conversion.safetensors", image(1, 64, 64)
    report.save(path)
    coded = model.compress(x)
    elsewhere = build(name)
    found = fastlic.accelerate(elsewhere, calibration=path, transforms="integer")
    assert any("read from" in row.note for row in found.replaced)
    assert elsewhere.compress(x)["strings"] == coded["strings"]
    pixels = elsewhere.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert torch.equal(pixels, model.decompress(coded["strings"], coded["shape"])["x_hat"])
    fastlic.accelerate(elsewhere, calibration=path)  # the same latents, in floats
    assert psnr(elsewhere.decompress(coded["strings"], coded["shape"])["x_hat"], pixels) > 45
    elsewhere.g_s[-1].weight.data *= 1.5
    with pytest.raises(ModelMismatchError, match="other weights of g_s"):
        fastlic.accelerate(elsewhere, calibration=path, transforms="integer")


def test_a_conversion_without_transforms_is_refused_for_them(integer, tmp_path):
    model = build("mbt2018-mean")
    fastlic.accelerate(model, calibration=[image(1)[0]]).save(tmp_path / "entropy.safetensors")
    with pytest.raises(CodecFileError, match="no integers of g_a"):
        fastlic.accelerate(model, calibration=tmp_path / "entropy.safetensors", transforms="integer")
    report = integer("mbt2018-mean")[1]
    report.save(tmp_path / "whole.safetensors")
    data = bytearray((tmp_path / "whole.safetensors").read_bytes())
    data[-5] ^= 1
    (tmp_path / "whole.safetensors").write_bytes(data)
    with pytest.raises(CodecFileError, match="damaged"):
        fastlic.accelerate(model, calibration=tmp_path / "whole.safetensors", transforms="integer")


@pytest.mark.parametrize("name", ["g_a", "g_s"])
def test_a_conversion_loads_into_its_model_though_a_transform_was_refused(name, model_of, tmp_path, monkeypatch):
    def refuse(graph, ranges, error, ends):
        if (ends["finest"] is None) == (name == "g_a") and ends["pixels_out"] == (name == "g_s"):
            raise ValueError("step 3: a sum\nmay leave int32")
        return nearest(graph, ranges, error, ends)

    nearest, path = integer_transforms.nearest, tmp_path / "conversion.safetensors"
    plain, model = model_of("mbt2018-mean"), model_of("mbt2018-mean")
    with monkeypatch.context() as patched:
        patched.setattr(integer_transforms, "nearest", refuse)
        report = fastlic.accelerate(model, calibration=[image(1)[0]], transforms="integer")
    report.save(path)
    twin = copy.deepcopy(plain)
    again = fastlic.accelerate(twin, calibration=path, transforms="integer")
    assert [own.name for own in again.transforms] == [own.name for own in report.transforms]
    notes = {row.part: row.note for row in reversed(again.rows)}
    assert notes[f"transform {name}"].startswith("floats, as it has no integer form: step 3: a sum may leave int32")
    again.save(tmp_path / "again.safetensors")
    assert read_arrays(tmp_path / "again.safetensors")[1] == read_arrays(path)[1]
    getattr(plain, name)[0].weight.data.mul_(1.5)
    with pytest.raises(ModelMismatchError, match=f"other weights of {name}"):
        fastlic.accelerate(plain, calibration=path, transforms="integer")


def test_a_transform_may_end_with_a_product(model_of, tmp_path):
    class Scale(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.factor = nn.Parameter(torch.linspace(0.5, 2, channels).view(1, -1, 1, 1))

        def forward(self, x):
            return x * self.factor

    plain = model_of("mbt2018-mean")
    plain.g_a.append(Scale(12))
    plain.g_s.append(Scale(3))
    model, twin = copy.deepcopy(plain), copy.deepcopy(plain)
    report = fastlic.accelerate(model, calibration=[image(1)[0]], transforms="integer")
    assert {own.name for own in report.transforms} == {"g_a", "h_a", "g_s"}
    report.save(tmp_path / "conversion.safetensors")
    fastlic.accelerate(twin, calibration=tmp_path / "conversion.safetensors", transforms="integer")
    coded, _ = check_same_everywhere(image(1), model, twin)
    with torch.no_grad():
        torch.testing.assert_close(model.g_a(image()), plain.g_a(image()), rtol=0, atol=0.05)
    assert coded["shape"] == (2, 1)


def test_a_conversion_of_transforms_alone_is_told_where_an_entropy_path_is_wanted(model_of, tmp_path):
    path = tmp_path / "transforms.safetensors"
    fastlic.accelerate(model_of("mbt2018-mean"), "compressai", [image(1)[0]], transforms="integer").save(path)
    with pytest.raises(CodecFileError, match="holds no integers of the entropy path: save it from format='native'"):
        fastlic.accelerate(model_of("mbt2018-mean"), calibration=path, transforms="integer")
    report = fastlic.accelerate(model_of("mbt2018-mean"), "compressai", path, transforms="integer")
    assert {own.name for own in report.transforms} == {"g_a", "h_a", "g_s"}


def test_what_has_no_integer_form_stays_float_and_is_named(model_of):
    from compressai.layers import GDN1

    plain = model_of("mbt2018-mean")
    plain.g_s[3] = GDN1(8, inverse=True)
    plain.h_a[1] = nn.Tanh()
    model = copy.deepcopy(plain)
    report = fastlic.accelerate(model, calibration=[image(1)[0]], transforms="integer")
    rows = {row.part: row for row in report.rows}
    reasons = [row.note for row in report.rows if row.part == "transform g_s"]
    assert any("g_s.3 is a GDN1, which has no integer form" in reason for reason in reasons)
    assert "h_a.1 is a Tanh" in rows["transform h_a"].note and not rows["transform h_a"].replaced
    assert rows["transform g_a"].by == "integers"
    assert "pixels" not in report.guarantee
    with torch.no_grad():
        y = torch.round(plain.g_a(image()))
        torch.testing.assert_close(model.g_s(y), plain.g_s(y), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018-mean"])
def test_in_compressais_format_plain_models_read_the_streams(name, model_of):
    plain, model = model_of(name), model_of(name)
    report = fastlic.accelerate(model, "compressai", [image(1)[0]], transforms="integer")
    assert "byte for byte" not in report.guarantee
    coded = model.compress(image(1, 64, 64))
    expected = plain.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert psnr(model.decompress(coded["strings"], coded["shape"])["x_hat"], expected) > 45


@torch.no_grad()
def test_copies_and_pickles_stay_on_integers_and_exact_takes_over(integer, model_of):
    model, x = integer("mbt2018-mean")[0], image(1, 64, 64)
    y = model.g_a(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin.g_a(x), y)
    fastlic.accelerate(model, calibration=[image(1)[0]])
    plain = model_of("mbt2018-mean").g_a(x)
    assert (model.g_a(x) - plain).abs().max() <= 1e-5 * plain.abs().max()
    with fastlic.accelerated(model, calibration=[image(1)[0]], transforms="integer"):
        assert torch.equal(model.g_a(x), y)
    assert (model.g_a(x) - plain).abs().max() <= 1e-5 * plain.abs().max()
    fastlic.restore(model)
    assert torch.equal(model.g_a(x), plain)
