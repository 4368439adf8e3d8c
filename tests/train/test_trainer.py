"""The trainer: it learns, it resumes exactly, it survives bad steps, and its codec codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from fastlic.codec.image_files import read_image
from fastlic.models import JAHP
from fastlic.train import klt
from fastlic.train.data import Sampler, load_tiles
from fastlic.train.export import export, write_card
from fastlic.train.optim import orthogonalise
from fastlic.train.trainer import LAMBDAS, TrainConfig, Trainer

SMALL = {"N": 8, "M": 12, "widths": (12, 16, 24), "batch": 2, "crop": 64, "validate_every": 10**6}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos of at least 256x256, made from the shipped ones."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "chelsea"):
        source = Path(__file__).parents[1] / "images" / f"{name}.png"
        with Image.open(source) as image:
            image.resize((520, 512)).save(folder / f"{name}.png")
    return folder


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.mark.parametrize("optimiser", ["muon", "adam"])
def test_a_resumed_run_equals_an_uninterrupted_one(tiles: Path, tmp_path: Path, optimiser: str):
    config = TrainConfig(**SMALL, optimiser=optimiser, steps=8, warmup=2)
    whole = Trainer(config, tiles, tmp_path / "whole", device="cpu")
    for _ in range(6):
        whole.train_step()
    first = Trainer(config, tiles, tmp_path / "parts", device="cpu")
    for _ in range(3):
        first.train_step()
    first.save()
    torch.manual_seed(99)  # whatever the new process did before
    second = Trainer(config, tiles, tmp_path / "parts", device="cpu")
    assert second.resume() and second.step == 3
    for _ in range(3):
        second.train_step()
    assert torch.equal(weights(second), weights(whole))
    assert all(torch.equal(second.ema[k], whole.ema[k]) for k in whole.ema)


def test_training_lowers_the_held_out_loss(tiles: Path, tmp_path: Path):
    trainer = Trainer(TrainConfig(**SMALL, steps=60, warmup=5), tiles, tmp_path, device="cpu")
    before = sum(row["loss"] for row in trainer.validate())
    trainer.run()
    after = sum(row["loss"] for row in trainer.validate())
    assert after < 0.95 * before
    assert (tmp_path / "best.pt").is_file() and len((tmp_path / "log.csv").read_text().splitlines()) == 9


def test_karhunen_loeve_start_reconstructs_where_random_weights_do_not():
    x = read_image(Path(__file__).parents[1] / "images" / "astronaut.png").pixels.float()[None, :, :192, :256] / 255
    errors = []
    for start in (False, True):
        torch.manual_seed(0)
        model = JAHP(16, 48, (12, 24, 48), qualities=8).eval()
        if start:
            klt.initialise(model, x, LAMBDAS)
        with torch.no_grad():
            errors.append((model.g_s(model.g_a(x)) - x).square().mean().item())
    assert errors[1] < 0.003 < 0.02 < errors[0]


def test_a_step_that_is_not_finite_changes_nothing(tiles: Path, tmp_path: Path):
    trainer = Trainer(TrainConfig(**SMALL, steps=8), tiles, tmp_path, device="cpu")
    before = weights(trainer)
    trainer.sampler.next = lambda: torch.full((2, 3, 64, 64), float("nan"))  # type: ignore[method-assign]
    trainer.train_step()
    assert torch.equal(weights(trainer), before) and trainer.step == 1


def test_a_finished_run_becomes_a_codec_with_a_card(tiles: Path, tmp_path: Path):
    trainer = Trainer(TrainConfig(**SMALL, steps=2), tiles, tmp_path / "run", device="cpu")
    trainer.run()
    best = tmp_path / "run" / "best.pt"
    codec = export(best, trainer.sampler.tiles, tmp_path / "tiny.safetensors", "tiny")
    write_card(tmp_path / "tiny.json", codec, best, {"data": "two photos"})
    x = torch.rand(3, 40, 50)
    assert codec.decompress(codec.compress(x, 3)).shape == x.shape
    assert codec.fingerprint.hex() in (tmp_path / "tiny.json").read_text()


def test_tiles_of_one_photograph_never_fall_on_both_sides(tiles: Path):
    train, validation = load_tiles(tiles, validation_share=0.5)
    assert len(train) + len(validation) == 8 and len(train) % 4 == 0


def test_sampler_repeats_itself_from_its_stored_state():
    sampler = Sampler(torch.randint(0, 256, (3, 3, 256, 256), dtype=torch.uint8), batch=2, crop=64, seed=5)
    state = sampler.generator.get_state()
    first = sampler.next()
    sampler.generator.set_state(state)
    assert torch.equal(first, sampler.next())
    assert first.shape == (2, 3, 64, 64) and first.min() >= 0 and first.max() <= 1


@pytest.mark.parametrize(
    "wrong", [{}, {"steps": 3, "minutes": 1.0}, {"steps": 3, "family": "x"}, {"steps": 3, "optimiser": "sgd"}]
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError):
        TrainConfig(**wrong)


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (16, 16)])
def test_orthogonalised_updates_have_singular_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.min() > 0.4 and values.max() < 1.4
