"""JAHP's sizes: those of narrow entropy networks travel in configurations and are read off weights."""

from __future__ import annotations

import pytest
import torch

from fastlic.models import JAHP

SIZES = {"hyper": [10, 9, 13], "context": 11, "parameters": [35, 12]}


def test_sizes_are_in_the_configuration_and_read_off_the_weights():
    model = JAHP(4, 6, (4, 5, 6), qualities=2, sizes=SIZES).eval()
    assert model.config["sizes"] == SIZES
    again = JAHP.from_state_dict(model.state_dict())
    assert again.config == model.config == JAHP(**model.config).config
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(x, 1.5)["likelihoods"]["y"], model(x, 1.5)["likelihoods"]["y"])


def test_published_sizes_are_in_no_configuration():
    published = {"hyper": [6, 9, 12], "context": 12, "parameters": [20, 16]}
    for model in (JAHP(4, 6), JAHP(4, 6, sizes=published), JAHP(4, 6, sizes={"context": 12})):
        assert "sizes" not in model.config
        assert "sizes" not in JAHP.infer_config(model.state_dict())


def test_sizes_that_are_left_out_are_the_published_ones():
    assert JAHP(4, 6, sizes={"context": 3}).config["sizes"] == {
        "hyper": [6, 9, 12],
        "context": 3,
        "parameters": [20, 16],
    }


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"hyper": [1, 2]}, "hyper of sizes takes 3 numbers"),
        ({"context": [3]}, "context of sizes takes one number"),
        ({"parameters": 3}, "parameters of sizes takes 2 numbers"),
        ({"depth": 3}, "sizes know hyper, context, parameters; got depth"),
    ],
)
def test_sizes_of_another_form_are_refused(sizes, words):
    with pytest.raises(ValueError, match=words):
        JAHP(4, 6, sizes=sizes)


def test_weights_of_which_a_layer_is_missing_are_told_by_name():
    state = JAHP(4, 6, sizes=SIZES).state_dict()
    del state["context_prediction.bias"]
    with pytest.raises(ValueError, match="state dict does not fit JAHP"):
        JAHP.from_state_dict(state)
