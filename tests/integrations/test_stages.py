"""Models without g_a and g_s, as STF: channel slices and stages of Swin's blocks are integers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn as nn
from torch import Tensor

import fastlic
from fastlic.errors import ModelMismatchError

from .conftest import check_same_everywhere, elsewhere, image, settings
from .sliced import Staged, Swin, check_near, check_other_weights_are_refused, sliced

pytest.importorskip("compressai")

from fastlic.integrations.compressai.slices import slice_parts
from fastlic.integrations.compressai.stages import watch_synthesis
from fastlic.integrations.compressai.swap import state_of


@pytest.fixture(scope="module")
def made():
    """(the plain model, its twin on integers, the report)"""
    plain = sliced(Staged)
    model = copy.deepcopy(plain)
    return plain, model, fastlic.accelerate(model, calibration=[image(1)[0]])


def latents(model: Any, coded: dict[str, Any]) -> Tensor:
    """What its ``decompress`` synthesises."""
    seen: list[Tensor] = []
    hook = watch_synthesis(model, seen.append)
    with torch.no_grad():
        model.decompress(coded["strings"], coded["shape"])
    hook.remove()
    return torch.cat(seen)


def entropy_row(report: Any) -> Any:
    (row,) = (row for row in report.rows if row.part == "entropy path")
    return row


def test_the_entropy_path_between_stages_runs_on_integers_and_the_report_says_so(made):
    report = made[2]
    assert entropy_row(report).by == "integers, 3 slices"
    assert report.guarantee == "decodes to the same latents on any machine that holds this conversion"
    transforms = {row.part for row in report.replaced} - {"entropy path"}
    assert transforms == {"transform g_a", "transform g_s"}
    assert any(row.by == "attention in one pass" for row in report.replaced)


@torch.no_grad()
def test_latents_are_those_of_the_networks_in_float64_to_rounding(made):
    plain, model, _ = made
    x = image(1, 128, 192)
    networks = slice_parts(copy.deepcopy(plain)).slice_networks()
    for graph in networks.graphs.values():
        graph.double()
    networks.hyper_analysis.double()
    networks.bottleneck.double()
    expected = networks.decoded(plain.analyse(x).double(), lambda name, given: networks.graphs[name].run(given))
    apart = (latents(model, model.compress(x)) - expected).abs()
    assert float((apart > 0.05).double().mean()) < 0.02 and float(apart.median()) < 0.01


def test_pictures_and_sizes_are_nearly_those_of_the_plain_model(made):
    check_near(made[0], made[1], image(2, 128, 192))


@torch.no_grad()
def test_bytes_of_a_latent_are_the_same_with_every_thread_count_and_instruction_set_alone_and_among_others(made):
    coder = state_of(made[1]).coder
    y = made[0].analyse(image(2, 64, 128))
    z = made[0].h_a(y)
    ys, zs, y_hat = coder.encode(y, z)
    size = tuple(z.shape[2:])
    for _ in settings():
        for k in range(2):
            assert coder.encode(y[k : k + 1], z[k : k + 1])[:2] == (ys[k : k + 1], zs[k : k + 1])
        assert torch.equal(coder.decode(ys, zs, *size), y_hat)


@torch.no_grad()
def test_decoders_synthesise_the_latent_that_the_encoder_made(made):
    model, x = copy.deepcopy(made[1]), image(2, 64, 128)
    seen: list[Tensor] = []
    coder = state_of(model).coder
    encode = coder.encode
    coder.encode = lambda *given: seen.append((out := encode(*given))[2]) or out
    coded = model.compress(x)
    assert torch.equal(latents(model, coded), seen[0])


def test_a_plain_twin_and_a_restored_model_code_as_before(made):
    plain, x = made[0], image(1, 64, 64)
    model = copy.deepcopy(made[1])
    with torch.no_grad():
        coded = plain.compress(x)
        expected = plain.decompress(coded["strings"], coded["shape"])["x_hat"]
        model.compress(x)
        assert fastlic.restore(model)
        for own in (plain, model):
            assert own.compress(x) == coded
            assert torch.equal(own.decompress(coded["strings"], coded["shape"])["x_hat"], expected)


def test_a_saved_conversion_decodes_elsewhere_and_of_other_weights_is_refused(made, tmp_path):
    plain, model, report = made
    there = elsewhere(plain, report, tmp_path / "staged.safetensors")
    coded = model.compress(image(1, 64, 64))
    assert torch.equal(latents(there, coded), latents(model, coded))
    check_other_weights_are_refused(plain, tmp_path / "staged.safetensors")


@torch.no_grad()
def test_other_integers_and_changed_weights_raise_and_changed_stages_are_followed(made):
    plain, model = made[0], copy.deepcopy(made[1])
    coded = model.compress(image(1, 64, 64))
    other = copy.deepcopy(plain)
    other.h_scale_s[2].bias += 0.5
    fastlic.accelerate(other, calibration=[image(1)[0]])
    with pytest.raises(ModelMismatchError, match="other integers"):
        other.decompress(coded["strings"], coded["shape"])
    before = model.decompress(coded["strings"], coded["shape"])["x_hat"]
    model.end_conv[0].bias += 0.1
    assert not torch.equal(model.decompress(coded["strings"], coded["shape"])["x_hat"], before)
    model.h_mean_s[0].weight *= 1.5
    with pytest.raises(ModelMismatchError, match="entropy model changed"):
        model.decompress(coded["strings"], coded["shape"])


def transform_rows(report: Any) -> dict[str, list[Any]]:
    return {name: [row for row in report.rows if row.part == f"transform {name}"] for name in ("g_a", "h_a", "g_s")}


def test_stages_of_other_blocks_stay_floats_beside_integer_transforms_and_the_report_says_why():
    model = sliced(Staged)
    rows = transform_rows(fastlic.accelerate(model, calibration=[image(1)[0]], transforms="integer"))
    assert [row.by for row in rows["h_a"]] == ["integers"]
    assert "patch_embed has no proj" in rows["g_a"][0].note and "no stage of blocks" in rows["g_s"][0].note
    for name in ("g_a", "g_s"):
        assert {row.by for row in rows[name] if row.replaced} <= {"channels-last", "attention in one pass"}
    coded = model.compress(image(1, 64, 64))
    assert model.decompress(coded["strings"], coded["shape"])["x_hat"].shape == (1, 3, 64, 64)


@pytest.fixture(scope="module")
def swin():
    """(a plain model of Swin's blocks, its twin with integer transforms, the report)"""
    plain = sliced(Swin)
    model = copy.deepcopy(plain)
    return plain, model, fastlic.accelerate(model, calibration=[image(1)[0]], transforms="integer")


@torch.no_grad()
def test_stages_of_swins_blocks_are_integers_near_their_floats(swin):
    plain, model, report = swin
    rows = transform_rows(report)
    assert {row.by for own in rows.values() for row in own} == {"integers"}
    assert entropy_row(report).by == "integers, 4 slices" and "pixels from latents as integers" in report.guarantee
    x = image(2, 128, 192)
    coded = model.compress(x)
    found = model.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert torch.equal(found, (found * 255).round() / 255)
    for k, item in enumerate(x):
        theirs = plain.compress(item[None])
        expected = plain.decompress(theirs["strings"], theirs["shape"])["x_hat"]
        assert (found[k] - expected[0]).square().mean().sqrt() < 0.01
        assert len(coded["strings"][0][k]) < 1.05 * len(theirs["strings"][0][0]) + 16


@torch.no_grad()
def test_their_streams_and_pixels_are_the_same_everywhere_and_from_a_file(swin, tmp_path):
    plain, model, report = swin
    x = image(1, 64, 128)
    there = elsewhere(plain, report, tmp_path / "swin.safetensors", "integer")
    check_same_everywhere(x, model, there, copy.deepcopy(model))


@torch.no_grad()
def test_weights_of_integer_stages_that_change_raise_and_restoring_gives_the_plain_model_back(swin):
    plain, model = swin[0], copy.deepcopy(swin[1])
    x = image(1, 64, 64)
    coded = model.compress(x)
    model.layers[1].blocks[0].mlp[0].weight *= 1.01
    with pytest.raises(ModelMismatchError, match=r"g_a.*layers\.1\.blocks\.0\.mlp\.0\.weight"):
        model.compress(x)
    model.decompress(coded["strings"], coded["shape"])
    model.end_conv[0].bias += 0.1
    with pytest.raises(ModelMismatchError, match="g_s"):
        model.decompress(coded["strings"], coded["shape"])
    model = copy.deepcopy(swin[1])
    assert fastlic.restore(model) and type(model.layers) is nn.ModuleList
    assert model.compress(x) == plain.compress(x)


@torch.no_grad()
def test_maps_that_windows_do_not_divide_are_refused_in_words(swin):
    with pytest.raises(ValueError, match=r"multiples of 4, it is .* pad images to multiples of \d+ \(compressai"):
        swin[1].compress(image(1, 64, 96))


class Scaled(Staged):
    """Whose stages are not all of its analysis."""

    def analyse(self, x: Tensor) -> Tensor:
        return super().analyse(x) * 0.7


class Shifted(Staged):
    """Whose synthesis does more than its stages."""

    def synthesise(self, y: Tensor) -> Tensor:
        return super().synthesise(y) + 0.25


class Renamed(Staged):
    """Whose last stage has a name of its own."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.last = self.end_conv
        del self.end_conv

    def synthesise(self, y: Tensor) -> Tensor:
        vars(self)["end_conv"] = self.last
        try:
            return super().synthesise(y)
        finally:
            del vars(self)["end_conv"]


@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        (Scaled, "something else than the usual one"),
        (Shifted, "more than to run its synthesis"),
        (Renamed, "neither g_a and g_s nor stages"),
    ],
)
def test_stages_that_are_run_in_another_way_keep_their_floats_and_the_report_says_why(cls, reason):
    model = sliced(cls)
    plain = copy.deepcopy(model)
    report = fastlic.accelerate(model, calibration=[image(1)[0]])
    assert not entropy_row(report).replaced and reason in entropy_row(report).note
    x = image(1, 64, 64)
    with torch.no_grad():
        coded, theirs = model.compress(x), plain.compress(x)
        expected = plain.decompress(theirs["strings"], theirs["shape"])["x_hat"]
        found = model.decompress(coded["strings"], coded["shape"])["x_hat"]
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("transforms", ["exact", "integer"])
def test_a_sliced_model_whose_stages_are_no_stages_is_refused_in_words(transforms):
    model = sliced(Staged)
    model.layers[1] = nn.Sequential(nn.Conv2d(12, 12, 3))
    report = fastlic.accelerate(model, calibration=[image(1)[0]], transforms=transforms)
    assert not entropy_row(report).replaced and "do not run" in entropy_row(report).note
    h_a = [row for row in report.rows if row.part == "transform h_a"]
    assert not any(row.replaced for row in h_a) and len(h_a) == (transforms == "integer")
    assert all("do not run" in row.note for row in h_a)


def test_hyper_analysis_stays_float_behind_stages_that_are_run_in_another_way():
    report = fastlic.accelerate(sliced(Scaled), calibration=[image(1)[0]], transforms="integer")
    (row,) = (row for row in report.rows if row.part == "transform h_a")
    assert not row.replaced and "its stages are called in another way than the usual one" in row.note
