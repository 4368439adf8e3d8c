"""Configurations: read, merged, refused with reasons; every shipped recipe builds."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from fastlic.models.jahp import Sizes
from fastlic.train import config
from fastlic.train.config import RunConfig
from fastlic.train.objectives import OBJECTIVES, build


@pytest.mark.parametrize("path", sorted(config.RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_builds_its_model(path):
    settings = config.read(path)
    assert config.recipe(settings["family"])["family"] == settings["family"]
    objective = build(RunConfig.from_dict(config.merged(settings, {"steps": 1, "start": "random"})))
    assert sum(p.numel() for p in objective.model.parameters()) > 10**6


def test_the_page_of_training_explains_every_setting_and_names_every_family():
    page = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
    rows = [
        line.split("|")[1]
        for line in page.partition("## Settings")[2].partition("\n## ")[0].splitlines()
        if "|" in line
    ]
    told = set(re.findall(r"\w+", " ".join(rows))) | {"family"}
    assert {one.name for one in fields(RunConfig)} <= told
    families = page.partition("Families: ")[2].partition(".")[0]
    assert set(re.findall("`([^`]+)`", families)) == set(OBJECTIVES)


STAGES = sorted(config.RECIPES.glob("stages/*.toml"))
DECODER = config.RECIPES / "stages/decoder.toml"
FIRST = config.RECIPES / "stages/first.toml"
SLIM = config.RECIPES / "stages/slim.toml"
MS_SSIM = config.RECIPES / "stages/ms-ssim.toml"


def test_the_stage_of_mcquics_decoder_leaves_the_codes_alone():
    merged = config.merged(config.recipe("mcquic"), config.read(DECODER))
    objective = build(RunConfig.from_dict(config.merged(merged, {"steps": 1, "start": "random"})))
    assert objective.decay == 1 and merged["rates"] == {"_encoder": 0.0, "_quantizer._encoders": 0.0}


def test_the_stage_of_the_first_slice_trains_what_mlicpp_does_not_have():
    merged = config.merged(config.recipe("mlic"), config.read(FIRST))
    objective = build(RunConfig.from_dict(config.merged(merged, {"steps": 1, "start": "random"})))
    assert objective.first_slices == 1 and merged["stored"]
    assert not any(merged["rates"].get(name) for name in ("g_", "h_", "lrp_", "entropy_parameters_anchor"))


def test_the_stage_of_narrow_entropy_networks_trains_them_alone_on_stored_latents():
    merged = config.merged(config.recipe("jahp"), config.read(SLIM))
    objective = build(RunConfig.from_dict(config.merged(merged, {"steps": 1, "start": "random"})))
    learning = {name.split(".")[0] for name, _ in objective.model.named_parameters()} - {"g_a", "g_s", "h_a", "gain"}
    assert learning - {"entropy_bottleneck"} == {"h_s", "context_prediction", "entropy_parameters"}
    assert set(merged["rates"]) == {"g_", "h_a", "gain", "entropy_bottleneck"} and not any(merged["rates"].values())
    assert objective.distortion == "latents" and merged["stored"]
    assert objective.model.sizes.products(64, 192) < 1.2e6 < Sizes.published(192).products(64, 192) / 2


def test_the_stage_for_ms_ssim_trains_all_of_the_narrow_model():
    merged = config.merged(config.recipe("jahp"), config.read(MS_SSIM))
    run = RunConfig.from_dict(config.merged(merged, {"steps": 1, "start": "random"}))
    objective = build(run)
    assert run.metric == "ms-ssim" and run.model["sizes"] == config.read(SLIM)["model"]["sizes"]
    assert objective.distortion == "pixels" and not run.stored and not run.rates


@pytest.mark.parametrize("family", ["mlic", "mlic+", "mlic++"])
@pytest.mark.parametrize(
    "path", [path for path in STAGES if path not in (DECODER, FIRST, SLIM, MS_SSIM)], ids=lambda path: path.stem
)
def test_every_later_stage_goes_over_the_families_it_is_for(path, family):
    merged = config.merged(config.merged(config.recipe(family), config.read(path)), {"steps": 1, "start": "random"})
    objective = build(RunConfig.from_dict(merged))
    assert objective.distortion == "pixels" and not merged.get("stored", 0) and min(merged["rates"].values()) > 0


def test_toml_and_json_say_the_same(tmp_path):
    (tmp_path / "a.toml").write_text('family = "jahp"\nlr = 1e-4\n[model]\nwidths = [1, 2, 3]\n')
    (tmp_path / "a.json").write_text(json.dumps({"family": "jahp", "lr": 1e-4, "model": {"widths": [1, 2, 3]}}))
    assert config.read(tmp_path / "a.toml") == config.read(tmp_path / "a.json")


@pytest.mark.parametrize(("name", "text"), [("a.toml", "lr = "), ("a.json", "{"), ("a.yaml", "lr: 1")])
def test_unreadable_files_are_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        config.read(tmp_path / name)


def test_tables_are_merged_and_lengths_replaced():
    base = {"family": "jahp", "minutes": 5.0, "model": {"N": 8, "M": 12}}
    assert config.merged(base, {"steps": 3, "model": {"M": 16}}) == {
        "family": "jahp", "minutes": 0.0, "steps": 3, "model": {"N": 8, "M": 16},
    }  # fmt: skip


def test_a_configuration_survives_its_dictionary():
    run = RunConfig("jahp", model={"N": 8}, steps=3, rates={"g_a": 0.5})
    assert RunConfig.from_dict(json.loads(json.dumps(run.to_dict()))) == run
