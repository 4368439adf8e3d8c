"""Every set of weights that ships: found by name, described by its card, small, and right on a real photo."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fastlic
from fastlic import light
from fastlic.codec import storage
from fastlic.codec.calibration import PHOTO
from fastlic.codec.image_files import read_image
from fastlic.codec.registry import WEIGHTS, cards
from fastlic.evaluate import psnr
from fastlic.train.weights import read_state

NAMES = sorted(cards())
# Bits per pixel and dB on a 256x256 part of the demo photo, far from which something is broken.
CHECKPOINTS = {"jahp": "jahp_slim", "jahp-wide": "jahp"}  # the others are called as the weights are
BOUNDS = {name: (0.5, 28.0) for name in ("jahp", "jahp-wide", "mlic", "mlic+", "mlic++")} | {
    "jahp-ms-ssim": (0.5, 26.5),
    "mcquic": (0.16, 20.0),
}


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return read_image(PHOTO).pixels[:, :256, :256]


def test_the_families_ship():
    assert sorted(BOUNDS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_photo_survives(name, photo):
    data = fastlic.compress(photo, model=name)
    x_hat = fastlic.decompress(data, dtype=torch.uint8)
    most, least = BOUNDS[name]
    assert 8 * len(data) / photo[0].numel() <= most
    assert psnr(photo, x_hat) >= least


@pytest.mark.parametrize("name", NAMES)
def test_a_higher_quality_takes_more_bytes_and_restores_more(name, photo):
    codec = fastlic.load(name)
    assert codec.qualities == 8
    streams = [codec.compress(photo, quality) for quality in (1, 2.5, 4, 6, 8)]
    sizes = [len(data) for data in streams]
    errors = [-psnr(photo, codec.decompress(data, dtype=torch.uint8)) for data in streams]
    assert sizes == sorted(set(sizes)) and errors == sorted(set(errors), reverse=True)
    assert fastlic.compress(photo, model=name) == streams[2]


@pytest.mark.parametrize("name", NAMES)
def test_the_card_tells_what_the_file_holds(name):
    file, codec, card = WEIGHTS / f"{name}.safetensors", fastlic.load(name), cards()[name]
    assert file.stat().st_size <= 10**7
    assert (card["name"], card["family"], card["fingerprint"]) == (name, codec.family, codec.fingerprint.hex())
    assert [fingerprint.hex() for fingerprint in codec.reads] == card.get("reads", [])
    assert json.loads(json.dumps(codec.config)) == card["architecture"]
    assert {"data", "licences", "hardware", "hours", "history", "steps_done"} <= card["training"].keys()
    rows = card["results"]["averages"]
    assert len(rows) >= 4 if codec.qualities else [row["quality"] for row in rows] == [None]
    assert all(row["images"] == 24 and row["ms_ssim_db"] is not None for row in rows)
    assert card["growth"]["qualities"] and max(card["growth"]["qualities"].values()) <= 0.5


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_from_what_ships(name):
    path = Path(__file__).parents[2] / "checkpoints" / f"{CHECKPOINTS.get(name, name)}_float16.safetensors"
    checkpoint = read_state(path)
    shipped = storage.read(WEIGHTS / f"{name}.safetensors").floats
    both = checkpoint.keys() & shipped.keys()
    assert [key for key in both if not torch.equal(checkpoint[key].float(), shipped[key])] == []
    # Transforms ship as integers of 12 bits: what these stand for is near what training goes on from.
    restored = {key: p for key, p in fastlic.load(name).transforms().named_parameters() if p.ndim == 4}
    assert len(restored) > 10
    for key, weight in restored.items():
        trained = checkpoint[key].float()
        assert (weight - trained).square().mean().sqrt() <= 0.05 * trained.square().mean().sqrt(), key


def test_streams_of_the_jahp_that_had_wide_entropy_networks_give_the_pixels_that_they_gave():
    data = (Path(__file__).parents[1] / "golden" / "shipped_jahp_wide.flic").read_bytes()
    pixels = light.decompress(data)
    assert (
        hashlib.sha256(pixels.tobytes()).hexdigest()
        == "759659844140d737a56372b80e0fec0e2ff89383569ac8d4df74692a9b485d10"
    )
    x_hat = fastlic.decompress(data, dtype=torch.uint8)
    assert isinstance(x_hat, torch.Tensor)
    assert np.array_equal(x_hat.permute(1, 2, 0).numpy(), pixels)
