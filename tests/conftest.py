"""Fixtures for all tests: shipped photos, a small codec that needs no training, Kodak where it is at hand."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load
from torch import Tensor

from fastlic import config
from fastlic.codec import storage
from fastlic.codec.calibration import PHOTO
from fastlic.codec.codec import Codec
from fastlic.codec.image_files import read_image
from fastlic.models import FAMILIES, JAHP, Hyperprior
from fastlic.train import klt
from fastlic.train.objectives.gaussian import LAMBDAS

ROOT = Path(__file__).resolve().parents[1]

# CompressAI, where it is installed, imports packages that our comparisons with it do not need.
if importlib.util.find_spec("torchvision") is None:
    sys.path.append(str(ROOT / "tests" / "compat" / "stubs"))

# Test images are small: on a busy machine, threads that wait for each other cost more than they bring.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def photos() -> Path:
    """Folder with two small photos of odd sizes, astronaut.png and chelsea.png."""
    return ROOT / "tests" / "images"


@pytest.fixture(scope="session")
def tiny_codec() -> Codec:
    """An untrained JAHP on eight qualities whose transforms are the best linear block transform of the demo photo."""
    torch.manual_seed(1)
    model = JAHP(8, 24, (8, 12, 16), qualities=len(LAMBDAS["mse"]))
    photo = read_image(PHOTO).pixels[:, :384, :576].float() / 255
    tiles = photo.unfold(1, 64, 64).unfold(2, 64, 64).permute(1, 2, 0, 3, 4).reshape(-1, 3, 64, 64)
    klt.initialise(model, tiles, LAMBDAS["mse"])
    return Codec(model, name="tiny")


@pytest.fixture(scope="session")
def tiny_codec_file(tiny_codec, tmp_path_factory) -> Path:
    """``tiny_codec`` as a codec file."""
    path = tmp_path_factory.mktemp("codec") / "tiny.safetensors"
    tiny_codec.save(path)
    return path


Damage = Callable[[dict[str, Tensor], dict[str, Any]], None]


@pytest.fixture(scope="session")
def reseal() -> Callable[[Path, Path, Damage], None]:
    """``reseal(source, target, change)``: a codec file whose tensors and description were changed, its digest right."""

    def apply(source: Path, target: Path, change: Damage) -> None:
        with safe_open(source, framework="pt") as file:
            description = json.loads(file.metadata()["fastlic"])
        tensors = load(source.read_bytes())
        change(tensors, description)
        target.write_bytes(storage.sealed(tensors, description))

    return apply


@pytest.fixture(scope="session")
def official_mlicpp() -> dict[str, Any]:
    """What the official code made of a small random MLIC++ (weights of 11 MB); skips where that file is not."""
    for folder in (os.environ.get("FASTLIC_GOLDEN"), ROOT.parent / "shared" / "golden"):
        if folder and (file := Path(folder) / "mlicpp_small.pt").is_file():
            stored = torch.load(file, weights_only=True)
            state = stored["state_dict"]
            stored["state_dict"] = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
            return stored
    pytest.skip("the official outputs (mlicpp_small.pt) are not here; FASTLIC_GOLDEN names their folder")


@pytest.fixture(scope="session")
def fresh_process() -> Callable[[str], list[str]]:
    """What a script prints, line by line, in a process of its own; one that fails fails the test."""

    def run(script: str) -> list[str]:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


@pytest.fixture(scope="session")
def kodak() -> Path:
    """Folder of the 24 Kodak images; skips where there is none."""
    for folder in (config.kodak_folder(), ROOT.parent / "shared" / "data" / "kodak"):
        if folder is not None and len(list(folder.glob("kodim*.png"))) == 24:
            return folder
    pytest.skip(f"the Kodak images are not at hand: name their folder in {config.KODAK_VARIABLE}")


def small_model(cls: type[Hyperprior], qualities: int = 8, seed: int = 0) -> Hyperprior:
    """N=8, M=12: random entropy network, Karhunen-Loève transforms, so latents look like a trained model's."""
    torch.manual_seed(seed)
    model = cls(8, 12, (12, 16, 24), qualities=qualities)
    crops = read_image(ROOT / "tests" / "images" / "astronaut.png").pixels.float()[None, :, :224, :304] / 255
    klt.initialise(model, crops, LAMBDAS["mse"])
    if not qualities:  # without gains the orthonormal latents would round to nothing
        model.g_a[6].weight.data *= 10
        model.g_a[6].bias.data *= 10
        model.g_s[0].weight.data /= 10
    return model.eval()


@pytest.fixture(scope="session")
def photo() -> Tensor:
    """A real photo, [3, 96, 136] uint8: neither side a multiple of 64, one not of 16."""
    return read_image(ROOT / "tests" / "images" / "chelsea.png").pixels[:, :96, :136]


@pytest.fixture(scope="session")
def codec(photo: Tensor) -> Codec:
    """A small JAHP codec of eight qualities."""
    return Codec(small_model(JAHP), calibration=[photo])


@pytest.fixture(scope="session", params=["jahp", "mean-scale", "scale", "jahp-fixed-rate"])
def any_codec(request: pytest.FixtureRequest, photo: Tensor) -> Codec:
    """Each kind of Gaussian codec in turn."""
    cls = FAMILIES[request.param.removesuffix("-fixed-rate")]
    return Codec(small_model(cls, qualities=0 if "fixed" in request.param else 8), calibration=[photo])
