"""``fastlic train``: a short run ends in a codec that the other commands take, and resumes."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

import fastlic

SMALL = ["--N", 8, "--M", 8, "--batch", 1, "--crop", 64]


@pytest.fixture
def data(tmp_path):
    """A folder with two parts of a photo, as large as tiles are drawn of."""
    from fastlic.codec.calibration import PHOTO

    (tmp_path / "data").mkdir()
    with Image.open(PHOTO) as photo:
        for name, left in (("left", 0), ("right", 320)):
            photo.crop((left, 0, left + 256, 256)).save(tmp_path / "data" / f"{name}.png")
    return tmp_path / "data"


def test_a_run_ends_in_a_codec_and_resumes(fastlic_command, data, tmp_path, photos):
    first = fastlic_command("train", "--data", data, "--out", "run", "--steps", 1, *SMALL)
    assert first.code == 0, first.err
    assert re.search(r"1 steps in .* steps a second, .* % of the time waiting for data", first.err)
    assert (tmp_path / "run" / "codec.safetensors").exists()
    packed = fastlic_command("compress", photos / "chelsea.png", "a.flic", "-m", "run/codec.safetensors")
    assert packed.code == 0, packed.err

    again = fastlic_command("train", "--data", data, "--out", "run", "--steps", 2, *SMALL)
    assert again.code == 2
    assert "run holds a run: go on with --resume" in again.err

    resumed = fastlic_command("train", "--data", data, "--out", "run", "--steps", 2, "--resume")
    assert resumed.code == 0, resumed.err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["model"]["N"], config["steps"]) == (8, 2)


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        (["--N", 16], "model.N was 8 and is 16"),
        (["--family", "mean-scale"], "family was 'jahp' and is 'mean-scale'"),
        (["--seed", 7], "seed was 1 and is 7"),
        (["--config", "rates.toml"], "rates.g_ was None and is 0.5"),
    ],
)
def test_a_run_that_cannot_be_resumed_so_is_left_as_it_was(fastlic_command, data, tmp_path, options, setting):
    run = ["train", "--data", data, "--out", "run", "--steps"]
    (tmp_path / "rates.toml").write_text('[rates]\n"g_" = 0.5\n')
    assert fastlic_command(*run, 1, *SMALL).code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    refused = fastlic_command(*run, 2, "--resume", *options)
    assert refused.code == 1
    assert refused.err.splitlines()[-1].endswith(f"run cannot be resumed with other settings: {setting}")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    assert fastlic_command(*run, 2, "--resume").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "either --minutes or --steps"),
        (["--steps", 1, "--minutes", 1], "either --minutes or --steps"),
        (["--steps", 1, "--resume"], "holds no run to resume"),
    ],
)
def test_wrong_usage_exits_with_2(fastlic_command, data, options, message):
    result = fastlic_command("train", "--data", data, "--out", "run", *options)
    assert result.code == 2
    assert message in result.err


@pytest.mark.parametrize(
    ("options", "message"), [(["--family", "nonesuch"], "family must be one of"), (["--crop", 65], "multiple of 64")]
)
def test_bad_settings_are_told(fastlic_command, data, options, message):
    result = fastlic_command("train", "--data", data, "--out", "run", "--steps", 1, *options)
    assert result.code == 1
    assert message in result.err


def test_a_run_is_exported_for_shipping_with_its_card(fastlic_command, data, tmp_path, photos):
    assert fastlic_command("train", "--data", data, "--out", "run", "--steps", 1, *SMALL).code == 0
    (tmp_path / "notes.json").write_text('{"data": "one photo"}')
    export = ["export", "run", "-o", "small.safetensors", "--data", data, "--coding-only", "--notes", "notes.json"]
    done = fastlic_command(*export, "--checkpoint", "weights.safetensors")
    assert done.code == 0, done.err
    card = json.loads((tmp_path / "small.json").read_text())
    assert card["training"]["data"] == "one photo" and card["training"]["steps_done"] == 1
    packed = fastlic_command("compress", photos / "chelsea.png", "a.flic", "-m", "small.safetensors")
    assert packed.code == 0, packed.err

    from safetensors.torch import load_file

    from fastlic.models import JAHP

    assert JAHP.from_state_dict(load_file(tmp_path / "weights.safetensors")).N == 8


def test_a_run_beside_frozen_transforms_is_exported_with_those_that_it_began_with(fastlic_command, data, tmp_path):
    assert fastlic_command("train", "--data", data, "--out", "run", "--steps", 1, *SMALL).code == 0
    export, kept = ["--data", data, "--coding-only"], ["--checkpoint", "first.safetensors"]
    assert fastlic_command("export", "run", "-o", "a.safetensors", *export, *kept).code == 0
    (tmp_path / "frozen.toml").write_text('[rates]\n"g_" = 0.0\n"h_a" = 0.0\ngain = 0.0\n')
    begun = ["--start", "first.safetensors", "--config", "frozen.toml"]
    assert fastlic_command("train", "--data", data, "--out", "next", "--steps", 1, *SMALL, *begun).code == 0
    beside = ["--transforms", "a.safetensors", "--checkpoint", "second.safetensors", "--beside", "first.safetensors"]
    done = fastlic_command("export", "next", "-o", "b.safetensors", *export, *beside)
    assert done.code == 0, done.err
    first, second = (fastlic.load(tmp_path / f"{name}.safetensors") for name in "ab")
    assert first.fingerprint != second.fingerprint
    arrays = first.pixels.to_arrays(), second.pixels.to_arrays()
    assert arrays[0].keys() == arrays[1].keys() and all((arrays[0][k] == arrays[1][k]).all() for k in arrays[0])
    assert (tmp_path / "second.safetensors").stat().st_size < (tmp_path / "first.safetensors").stat().st_size
    refused = fastlic_command("export", "next", "-o", "c.safetensors", *export, "--transforms", "jahp")
    assert refused.code == 2 and "for a model of" in refused.err


def test_codebooks_are_refined_at_export_and_the_card_says_so(fastlic_command, data, tmp_path):
    from fastlic.train.weights import load_checkpoint

    small = ["--steps", 1, "--config", tmp_path / "small.toml"]
    (tmp_path / "small.toml").write_text('batch = 1\nstart = "random"\n[model]\nchannel = 8\nm = 1\nk = [16, 8, 4]\n')
    done = fastlic_command("train", "--family", "mcquic", "--data", data, "--out", "run", *small)
    assert done.code == 0, done.err
    done = fastlic_command("export", "run", "-o", "small.safetensors", "--data", data, "--refine", 2)
    assert done.code == 0, done.err
    card = json.loads((tmp_path / "small.json").read_text())
    assert card["training"]["codebooks_refined_on"] == 2 and card["held_out"] is None
    before, after = (load_checkpoint(tmp_path / "run" / name)["model"] for name in ("best.pt", "refined.pt"))
    moved = {name for name, value in before.items() if not value.equal(after[name])}
    assert moved and all("_quantizer" in name for name in moved)


def test_a_context_is_fitted_at_export_and_used_again(fastlic_command, data, tmp_path):
    small = ["--steps", 1, "--config", tmp_path / "small.toml"]
    (tmp_path / "small.toml").write_text('batch = 1\nstart = "random"\n[model]\nchannel = 8\nm = 1\nk = [16, 8, 4]\n')
    assert fastlic_command("train", "--family", "mcquic", "--data", data, "--out", "run", *small).code == 0
    export = ["export", "run", "-o", "small.safetensors", "--data", data, "--coding-only"]
    refused = fastlic_command(*export, "--context", "context.safetensors")
    assert refused.code == 2 and "--context-steps" in refused.err
    done = fastlic_command(*export, "--context-steps", 2, "--context", "context.safetensors")
    assert done.code == 0, done.err
    first = fastlic.load(tmp_path / "small.safetensors")
    assert any(name.startswith("context.") for name in first.entropy.to_arrays())
    assert (tmp_path / "context.safetensors").read_bytes() == (tmp_path / "run" / "context.safetensors").read_bytes()
    assert fastlic_command(*export).code == 0
    assert fastlic.load(tmp_path / "small.safetensors").fingerprint == first.fingerprint


def test_only_mcquic_has_codes_that_a_context_is_fitted_to(fastlic_command, data):
    assert fastlic_command("train", "--data", data, "--out", "run", "--steps", 1, *SMALL).code == 0
    refused = fastlic_command("export", "run", "-o", "small.safetensors", "--data", data, "--context-steps", 2)
    assert refused.code == 2
    assert "code contexts are McQuic's" in refused.err


def test_only_mcquic_has_codebooks_to_refine(fastlic_command, data):
    assert fastlic_command("train", "--data", data, "--out", "run", "--steps", 1, *SMALL).code == 0
    refused = fastlic_command("export", "run", "-o", "small.safetensors", "--data", data, "--refine", 2)
    assert refused.code == 2
    assert "codebooks are McQuic's" in refused.err
