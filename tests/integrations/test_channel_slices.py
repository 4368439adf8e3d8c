"""Channel-slice models with loops of their own, on integers: the same latents everywhere, of whatever class."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import fastlic
from fastlic.errors import CorruptStreamError, ModelMismatchError

from .conftest import check_damage_is_an_error, check_same_everywhere, elsewhere, image
from .grouped import grouped
from .sliced import check_near, check_other_weights_are_refused, sliced


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "supports"])
def made(request):
    """(the plain model, its twin on integers, the report)"""
    plain = sliced(supports=request.param)
    model = copy.deepcopy(plain)
    return plain, model, fastlic.accelerate(model, calibration=[image(1)[0]], transforms="integer")


def test_the_loop_is_recognised_and_runs_on_integers(made):
    rows = {row.part: row for row in made[2].rows}
    assert rows["entropy path"].by == "integers, 3 slices"
    assert all(rows[f"transform {name}"].by == "integers" for name in ("g_a", "h_a", "g_s"))
    assert made[2].guarantee.startswith("decodes to the same latents on any machine")


def test_pictures_and_sizes_are_nearly_those_of_the_loop(made):
    check_near(made[0], made[1], image(2, 128, 192))


@torch.no_grad()
def test_streams_and_latents_are_the_same_on_every_instruction_set_thread_count_and_reference(made):
    model, x = made[1], image(1, 64, 128)
    coded, pixels = check_same_everywhere(x, model)
    twin = copy.deepcopy(made[0])
    fastlic.accelerate(twin, calibration=[image(1)[0]], transforms="integer", backend="reference")
    assert twin.compress(x)["strings"] == coded["strings"]
    assert torch.equal(twin.decompress(coded["strings"], coded["shape"])["x_hat"], pixels)


def test_a_saved_conversion_decodes_elsewhere_and_of_other_weights_is_refused(made, tmp_path):
    plain, model, report = made
    there = elsewhere(plain, report, tmp_path / "slices.safetensors", "integer")
    check_same_everywhere(image(1, 64, 64), model, there, pickle.loads(pickle.dumps(there)))
    check_other_weights_are_refused(plain, tmp_path / "slices.safetensors")


@torch.no_grad()
def test_damage_and_changed_weights_are_errors(made):
    model = copy.deepcopy(made[1])
    coded = check_damage_is_an_error(model)
    model.lrp_transforms[0][0].weight.mul_(1.5)
    with pytest.raises(ModelMismatchError, match="entropy model changed"):
        model.decompress(coded["strings"], coded["shape"])


def test_a_loop_that_computes_something_else_stays_with_floats_and_the_report_says_why():
    class Halved(type(sliced())):  # type: ignore[misc]
        def _loop(self, z_hat, code):
            return super()._loop(z_hat, code) * 0.5

    model = sliced()
    model.__class__ = Halved
    plain = copy.deepcopy(model)
    report = fastlic.accelerate(model, calibration=[image(1)[0]])
    (row,) = (row for row in report.rows if row.part == "entropy path")
    assert not row.replaced and "something else than the usual one" in row.note
    x = image(1, 64, 64)
    coded, theirs = model.compress(x), plain.compress(x)
    expected = plain.decompress(theirs["strings"], theirs["shape"])["x_hat"]
    torch.testing.assert_close(model.decompress(coded["strings"], coded["shape"])["x_hat"], expected, rtol=0, atol=0.02)


def test_checkerboards_in_a_loop_run_on_the_board_engine_and_keep_the_shape_of_their_results():
    plain = grouped()
    model = copy.deepcopy(plain)
    report = fastlic.accelerate(model, calibration=[image(1)[0]])
    assert next(row for row in report.rows if row.part == "entropy path").by == "integers, board engine"
    x = image(2, 64, 128)
    with torch.no_grad():
        theirs = plain.compress(x)
        expected = plain.decompress(theirs["strings"], theirs["shape"])["x_hat"]
    coded = model.compress(x)
    assert [[len(part) for part in group] for group in coded["strings"][0]] == [[2, 2]] * 3
    assert coded["shape"] == theirs["shape"] and coded.keys() == theirs.keys()
    assert (model.decompress(coded["strings"], coded["shape"])["x_hat"] - expected).square().mean().sqrt() < 0.01
    with pytest.raises(ValueError, match="3 groups, got 2"):
        model.decompress([coded["strings"][0][:2], coded["strings"][1]], coded["shape"])
    with pytest.raises(ValueError, match="pair of lists"):
        model.decompress([coded["strings"][1], coded["strings"][1]], coded["shape"])
    with pytest.raises(CorruptStreamError):
        model.decompress(theirs["strings"], theirs["shape"])


def test_another_order_of_means_and_scales_is_noticed():
    class Turned(type(grouped())):  # type: ignore[misc]
        def _loop(self, z_hat, code):
            return super()._loop(z_hat, lambda k, turn, here, indexes, means: code(k, turn, here, indexes, -means))

    model = grouped()
    model.__class__ = Turned
    report = fastlic.accelerate(model, calibration=[image(1)[0]])
    (row,) = (row for row in report.rows if row.part == "entropy path")
    assert not row.replaced and "something else than the usual one" in row.note
