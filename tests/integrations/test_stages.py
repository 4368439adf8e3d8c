"""Models without g_a and g_s, as STF: stages stay floats, the channel slices between them run on integers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn as nn
from torch import Tensor

import fastlic
from fastlic.errors import ModelMismatchError
from fastlic.ops import instruction_set, instruction_sets

from .conftest import image
from .sliced import Staged, sliced

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


@torch.no_grad()
def test_pictures_and_sizes_are_nearly_those_of_the_plain_model(made):
    plain, model, _ = made
    x = image(2, 128, 192)
    coded, single = model.compress(x), [plain.compress(item[None]) for item in x]
    assert coded.keys() == single[0].keys() and coded["shape"] == single[0]["shape"]
    found = model.decompress(coded["strings"], coded["shape"])["x_hat"]
    for k, theirs in enumerate(single):
        expected = plain.decompress(theirs["strings"], theirs["shape"])["x_hat"]
        assert (found[k] - expected[0]).square().mean().sqrt() < 0.01
        assert len(coded["strings"][0][k]) < 1.05 * len(theirs["strings"][0][0]) + 16


@torch.no_grad()
def test_bytes_of_a_latent_are_the_same_with_every_thread_count_and_instruction_set_alone_and_among_others(made):
    coder = state_of(made[1]).coder
    y = made[0].analyse(image(2, 64, 128))
    z = made[0].h_a(y)
    ys, zs, y_hat = coder.encode(y, z)
    size = tuple(z.shape[2:])
    threads = torch.get_num_threads()
    for own in instruction_sets():
        with instruction_set(own):
            for count in (1, 2):
                torch.set_num_threads(count)
                try:
                    for k in range(2):
                        assert coder.encode(y[k : k + 1], z[k : k + 1])[:2] == (ys[k : k + 1], zs[k : k + 1])
                    assert torch.equal(coder.decode(ys, zs, *size), y_hat)
                finally:
                    torch.set_num_threads(threads)


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
    report.save(tmp_path / "staged.safetensors")
    coded = model.compress(image(1, 64, 64))
    elsewhere = copy.deepcopy(plain)
    fastlic.accelerate(elsewhere, calibration=tmp_path / "staged.safetensors")
    assert torch.equal(latents(elsewhere, coded), latents(model, coded))
    other = copy.deepcopy(plain)
    other.cc_mean_transforms[1][0].weight.data *= 1.5
    with pytest.raises(ModelMismatchError, match="other weights"):
        fastlic.accelerate(other, calibration=tmp_path / "staged.safetensors")


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


def test_integer_transforms_leave_stages_to_floats_and_say_why():
    model = sliced(Staged)
    report = fastlic.accelerate(model, calibration=[image(1)[0]], transforms="integer")
    rows = {name: [row for row in report.rows if row.part == f"transform {name}"] for name in ("g_a", "h_a", "g_s")}
    assert [row.by for row in rows["h_a"]] == ["integers"]
    for name in ("g_a", "g_s"):
        assert "its stages are called one by one" in rows[name][0].note
        assert {row.by for row in rows[name]} <= {"channels-last", "attention in one pass"}
    coded = model.compress(image(1, 64, 64))
    assert model.decompress(coded["strings"], coded["shape"])["x_hat"].shape == (1, 3, 64, 64)


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


def test_a_sliced_model_whose_stages_are_no_stages_is_refused_in_words():
    model = sliced(Staged)
    model.layers[1] = nn.Sequential(nn.Conv2d(12, 12, 3))
    report = fastlic.accelerate(model, calibration=[image(1)[0]])
    assert not entropy_row(report).replaced and "do not run" in entropy_row(report).note
