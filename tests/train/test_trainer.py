"""The trainer: it learns, it resumes exactly, it survives bad steps, and its codec codes."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fastlic.codec.image_files import read_image
from fastlic.models import JAHP, MLIC, McQuic, MLICPlusPlus, bfloat16
from fastlic.models.mlic import Sizes
from fastlic.train import klt, vq, vq_contrast, vq_words
from fastlic.train.config import RunConfig
from fastlic.train.data import Sampler, load_tiles
from fastlic.train.export import export, write_card, write_checkpoint
from fastlic.train.guard import PATIENCE
from fastlic.train.objectives.gaussian import LAMBDAS
from fastlic.train.optim import orthogonalise
from fastlic.train.stored import StoredSampler, store
from fastlic.train.trainer import Trainer
from fastlic.train.weights import load_into, read_state

MODELS = {
    "jahp": {"N": 8, "M": 12, "widths": [12, 16, 24]},
    "mean-scale": {"N": 8, "M": 12, "widths": [12, 16, 24]},
    "mlic++": {"N": 8, "M": 24, "widths": [12, 16, 24], "slices": 3},
    "mcquic": {"channel": 8, "m": 2, "k": [16, 8, 4]},
}


def small(family: str = "jahp", **settings: Any) -> RunConfig:
    """A run whose steps take milliseconds."""
    start = "klt" if family in ("jahp", "mean-scale") else "random"
    crop = 128 if family == "mcquic" else 64
    base = {"family": family, "model": MODELS[family], "start": start, "batch": 2, "crop": crop}
    base |= {"validate_every": 10**6}
    return RunConfig.from_dict({**base, **settings})


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
    named = trainer.model.named_parameters()
    return torch.cat([p.detach().flatten() for name, p in named if "_freqEMA." not in name])


def frequencies(trainer: Trainer) -> torch.Tensor:
    """Running shares of McQuic's words, which no gradient moves; empty for the other families."""
    running = [p for name, p in trainer.model.named_parameters() if "_freqEMA." in name]
    return torch.cat([p.detach().flatten() for p in running]) if running else torch.empty(0)


@pytest.mark.parametrize(("family", "optimiser"), [*((family, "muon") for family in MODELS), ("jahp", "adam")])
def test_a_resumed_run_equals_an_uninterrupted_one(tiles: Path, tmp_path: Path, family: str, optimiser: str):
    config = small(family, optimiser=optimiser, steps=8, warmup=2)
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
    assert torch.equal(weights(second), weights(whole)) and torch.equal(frequencies(second), frequencies(whole))
    assert all(torch.equal(second.ema[k], whole.ema[k]) for k in whole.ema)


def test_training_lowers_the_held_out_loss(tiles: Path, tmp_path: Path):
    trainer = Trainer(small(steps=60, warmup=5), tiles, tmp_path, device="cpu")
    before = sum(row["loss"] for row in trainer.validate())
    trainer.run()
    after = sum(row["loss"] for row in trainer.validate())
    assert after < 0.95 * before
    assert (tmp_path / "best.pt").is_file() and len((tmp_path / "log.csv").read_text().splitlines()) == 9
    assert len((tmp_path / "train.csv").read_text().splitlines()) == 2


def test_karhunen_loeve_start_reconstructs_where_random_weights_do_not():
    x = read_image(Path(__file__).parents[1] / "images" / "astronaut.png").pixels.float()[None, :, :192, :256] / 255
    errors = []
    for start in (False, True):
        torch.manual_seed(0)
        model = JAHP(16, 48, (12, 24, 48), qualities=8).eval()
        if start:
            klt.initialise(model, x, LAMBDAS["mse"])
        with torch.no_grad():
            errors.append((model.g_s(model.g_a(x)) - x).square().mean().item())
    assert errors[1] < 0.003 < 0.02 < errors[0]


def test_an_early_context_starts_with_the_scales_of_the_first_slice():
    sizes = Sizes((8, 8, 8), (8, 8, 8), (8, 8), (8, 8), (8, 8, 8), (8, 8))
    model = MLICPlusPlus(8, 24, (8, 12, 16), slices=3, sizes=sizes, early=True)
    klt.start_densities(model, torch.randn(1, 24, 8, 8) * torch.linspace(1, 9, 24)[:, None, None])
    head, coded, hyper = model.entropy_parameters_anchor[0], torch.randn(1, 8, 8, 8), torch.randn(1, 48, 8, 8)
    with torch.no_grad():
        want = head(hyper)
        torch.testing.assert_close(model.refined_anchors(want, coded, hyper), want)


def test_a_step_that_is_not_finite_changes_nothing(tiles: Path, tmp_path: Path):
    trainer = Trainer(small(steps=8), tiles, tmp_path, device="cpu")
    before = weights(trainer)
    trainer.sampler.next = lambda: torch.full((2, 3, 64, 64), float("nan"))  # type: ignore[method-assign]
    trainer.train_step()
    assert torch.equal(weights(trainer), before) and trainer.step == 1


def test_repeated_bad_steps_bring_back_the_last_good_state_at_half_the_rate(tiles: Path, tmp_path: Path):
    trainer = Trainer(small(steps=100), tiles, tmp_path, device="cpu")
    trainer.train_step()
    trainer.save()
    kept = weights(trainer)
    trainer.train_step()
    assert not torch.equal(weights(trainer), kept)
    trainer.sampler.next = lambda: torch.full((2, 3, 64, 64), float("nan"))  # type: ignore[method-assign]
    for _ in range(PATIENCE):
        trainer.train_step()
    assert torch.equal(weights(trainer), kept) and trainer.guard.caution == 0.5
    with pytest.raises(RuntimeError, match="training diverges"):
        for _ in range(5 * PATIENCE):
            trainer.train_step()


def test_bad_steps_that_are_looked_for_later_are_found_all_the_same(tiles: Path, tmp_path: Path):
    trainer = Trainer(small(steps=100), tiles, tmp_path, device="cpu")
    trainer.look_every = 3 * PATIENCE  # as on a GPU, which is not waited for
    kept = weights(trainer)
    good = trainer.sampler.next
    for step in range(3 * PATIENCE):
        bad = PATIENCE <= step < 2 * PATIENCE
        trainer.sampler.next = (lambda: torch.full((2, 3, 64, 64), float("nan"))) if bad else good  # type: ignore[method-assign]
        trainer.train_step()
        assert bool(torch.isfinite(weights(trainer)).all())
    assert torch.equal(weights(trainer), kept) and trainer.guard.caution == 0.5


@pytest.mark.gpu
@pytest.mark.parametrize("family", MODELS)
def test_a_gpu_replays_its_passes_from_a_graph(tiles: Path, tmp_path: Path, family: str):
    trainer = Trainer(small(family, steps=9), tiles, tmp_path, device="cuda")
    before = weights(trainer)
    for _ in range(3):
        measured = trainer.train_step()
    assert trainer.gradients._captured is not None
    assert bool(torch.isfinite(measured.loss)) and not torch.equal(weights(trainer), before)
    trainer.save()
    expected = [trainer.train_step() and (weights(trainer), frequencies(trainer)) for _ in range(2)]
    again = Trainer(small(family, steps=9), tiles, tmp_path, device="cuda")
    assert again.resume()
    for trained, shares in expected:
        again.train_step()
        torch.testing.assert_close(weights(again), trained, rtol=1e-3, atol=1e-5)
        # Between two words about equally near, last bits decide: on an H200 one code of 32 was another, which moved two
        # shares of McQuic by (1 - decay) / 32.
        torch.testing.assert_close(frequencies(again), shares, rtol=0, atol=2 * 0.02 / 32)


def test_sigterm_stops_cleanly_and_the_run_can_be_resumed(tiles: Path, tmp_path: Path):
    trainer = Trainer(small(steps=10**6), tiles, tmp_path, device="cpu")
    done = trainer.train_step

    def interrupted():
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return done()

    trainer.train_step = interrupted  # type: ignore[method-assign]
    before = signal.getsignal(signal.SIGTERM)
    trainer.run()
    assert signal.getsignal(signal.SIGTERM) is before
    again = Trainer(small(steps=10**6), tiles, tmp_path, device="cpu")
    assert again.resume() and again.step == trainer.step == 4
    assert torch.equal(weights(again), weights(trainer))


def test_a_factor_of_zero_freezes_and_a_start_takes_what_fits(tiles: Path, tmp_path: Path):
    first = Trainer(small(steps=1), tiles, tmp_path / "first", device="cpu")
    first.run()
    config = small("mean-scale", steps=2, start=str(tmp_path / "first" / "best.pt"), rates={"g_": 0.0, "gain": 0.0})
    second = Trainer(config, tiles, tmp_path / "second", device="cpu")
    for _ in range(2):
        second.train_step()
    best, now = torch.load(tmp_path / "first" / "best.pt")["model"], second.model.state_dict()
    same = {name for name in now if name in best and torch.equal(now[name], best[name])}
    assert {"g_a.0.weight", "g_s.6.bias", "gain.log_gain"} <= same
    assert not same & {"h_a.0.weight", "h_s.0.weight"}


BESIDE: dict[str, Any] = {"stored": 2, "rates": {"g_": 0.0}, "objective": {"distortion": "latents"}}


def test_a_run_on_stored_latents_resumes_exactly_and_without_the_file_too(tiles: Path, tmp_path: Path):
    config = small("mlic++", steps=8, warmup=2, **BESIDE)
    whole = Trainer(config, tiles, tmp_path / "whole", device="cpu")
    before = weights(whole)
    for _ in range(4):
        whole.train_step()
    assert not torch.equal(weights(whole), before)
    first = Trainer(config, tiles, tmp_path / "parts", device="cpu")
    for _ in range(2):
        first.train_step()
    first.save()
    (tmp_path / "parts" / "latents.npy").unlink()
    torch.manual_seed(99)
    second = Trainer(config, tiles, tmp_path / "parts", device="cpu")
    assert second.resume() and second.step == 2
    for _ in range(2):
        second.train_step()
    assert torch.equal(weights(second), weights(whole))
    assert (tmp_path / "parts" / "latents.npy").read_bytes() == (tmp_path / "whole" / "latents.npy").read_bytes()


def test_a_new_run_does_not_learn_from_the_latents_of_another(tiles: Path, tmp_path: Path):
    Trainer(small(steps=1, **BESIDE), tiles, tmp_path, device="cpu")
    wanted = (tmp_path / "latents.npy").read_bytes()
    Trainer(small(steps=1, **{**BESIDE, "stored": 1}), tiles, tmp_path, device="cpu")
    assert len((tmp_path / "latents.npy").read_bytes()) < len(wanted) / 1.9
    Trainer(small(steps=1, **BESIDE), tiles, tmp_path, device="cpu")
    assert (tmp_path / "latents.npy").read_bytes() == wanted


def test_stored_latents_are_those_that_a_step_would_compute(tiles: Path, tmp_path: Path):
    losses = []
    for stored in (0, 1):
        trainer = Trainer(small(steps=1, **{**BESIDE, "stored": stored}), tiles, tmp_path / str(stored), device="cpu")
        trainer.model.eval()
        x = trainer.tiles[:2].float() / 255
        if stored:
            x = trainer.objective.analyse(x)
        losses.append(trainer.objective.measure(x, torch.tensor([0, 7])).loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_run_on_the_first_slice_moves_nothing_behind_it(tiles: Path, tmp_path: Path):
    settings = {**BESIDE, "objective": {"distortion": "latents", "first_slices": 1}}
    trainer = Trainer(small("mlic++", steps=1, **settings), tiles, tmp_path, device="cpu")
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    measured = trainer.train_step()
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[1] for name in moved if name.startswith(("local_", "entropy_parameters_"))} == {"0"}
    assert not any(name.startswith(("channel_", "global_")) for name in moved)
    assert bool(torch.isfinite(measured.loss))
    with pytest.raises(ValueError, match="first_slices is for MLIC"):
        Trainer(small(steps=1, **settings), tiles, tmp_path / "jahp", device="cpu")


@pytest.mark.parametrize("family", ["mcquic", "jahp"])
def test_latents_are_not_stored_where_they_would_change(tiles: Path, tmp_path: Path, family: str):
    with pytest.raises(ValueError, match="stored"):
        Trainer(small(family, steps=1, stored=1), tiles, tmp_path, device="cpu")


def test_every_orientation_of_a_tile_is_stored_once_and_drawn(tmp_path: Path):
    tiles = torch.arange(2 * 3 * 16, dtype=torch.uint8).reshape(2, 3, 4, 4)
    store(lambda x: x * 255, tiles, 8, 1, tmp_path / "latents.npy")
    sampler = StoredSampler(tmp_path / "latents.npy", batch=200, seed=3)
    drawn = {tuple(x.flatten().int().tolist()) for x in sampler.next()}
    turned = [tile.rot90(k, (1, 2)) for tile in tiles for k in range(4)]
    assert drawn == {tuple(t.flatten().tolist()) for tile in turned for t in (tile, tile.flip(2))}
    (tmp_path / "latents.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no latents"):
        StoredSampler(tmp_path / "latents.npy", batch=1, seed=3)


def test_mlic_starts_as_an_mlicpp_whose_inter_context_says_nothing(tmp_path: Path):
    torch.manual_seed(0)
    source = MLICPlusPlus(8, 24, (12, 16, 24), slices=3).eval()
    torch.save({"model": source.state_dict()}, tmp_path / "best.pt")
    model = MLIC(8, 24, (12, 16, 24), slices=3).eval()
    missing = load_into(model, tmp_path / "best.pt")
    assert missing and all(name.startswith("local_context.") for name in missing)
    decoded, hyper, near = torch.randn(1, 16, 4, 4), torch.randn(1, 48, 4, 4), torch.randn(1, 64, 4, 4)
    channel = source.channel_context[2](decoded)  # type: ignore[operator]
    silent = torch.zeros(1, source.sizes.inter[-1], 4, 4)
    for name, here in (("entropy_parameters_anchor", []), ("entropy_parameters_nonanchor", [near])):
        want = getattr(source, name)[2](torch.cat([*here, silent, channel, hyper], 1))
        torch.testing.assert_close(getattr(model, name)[2](torch.cat([*here, channel, hyper], 1)), want)


@pytest.mark.parametrize(
    "settings",
    [
        {"metric": "ms-ssim", "crop": 128},
        {"objective": {"distortion": "latents"}},
        {"objective": {"worth": [20] * 8}},
        {"objective": {"distortion": "latents", "worth": [20] * 8}},
    ],
)
def test_other_distortions_train(tiles: Path, tmp_path: Path, settings):
    trainer = Trainer(small(steps=2, **settings), tiles, tmp_path, device="cpu")
    before = weights(trainer)
    assert all(torch.isfinite(trainer.train_step().loss) for _ in range(2))
    assert not torch.equal(weights(trainer), before)


@pytest.mark.parametrize(("quick", "asked", "dtype"), [
    (True, True, torch.bfloat16), (True, False, torch.float32), (False, True, torch.float32)
])  # fmt: skip
def test_steps_are_in_bfloat16_only_where_it_is_quicker(tiles: Path, tmp_path: Path, monkeypatch, quick, asked, dtype):
    monkeypatch.setattr(bfloat16, "supported", lambda device: quick)
    trainer = Trainer(small(steps=1, autocast=asked), tiles, tmp_path, device="cpu")
    seen = []
    trainer.model.g_a[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    trainer.train_step()
    assert seen == [dtype]


@pytest.mark.parametrize(("decay", "middle"), [("linear", 0.5), ("cosine", 0.5)])
def test_the_rate_warms_up_and_decays(tiles: Path, tmp_path: Path, decay: str, middle: float):
    config = small(steps=100, warmup=10, decay=decay, decay_from=0.2, lr=1.0)
    trainer = Trainer(config, tiles, tmp_path, device="cpu")
    rates = []
    for trainer.step in range(101):
        rates.append(trainer.rate())
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[20] == 1.0
    assert rates[60] == pytest.approx(middle) and rates[100] == pytest.approx(0.02)
    assert all(a >= b for a, b in pairwise(rates[9:]))


def test_a_finished_run_becomes_a_codec_with_a_card(tiles: Path, tmp_path: Path):
    trainer = Trainer(small(steps=2), tiles, tmp_path / "run", device="cpu")
    trainer.run()
    best = tmp_path / "run" / "best.pt"
    codec = export(best, trainer.tiles, tmp_path / "tiny.safetensors", "tiny")
    write_card(tmp_path / "tiny.json", codec, best, {"data": "two photos"})
    x = torch.rand(3, 40, 50)
    assert codec.decompress(codec.compress(x, 3)).shape == x.shape
    assert codec.fingerprint.hex() in (tmp_path / "tiny.json").read_text()


def test_what_errors_are_worth_travels_from_the_configuration_to_the_codec_and_to_the_next_run(tiles, tmp_path):
    worth = [30.0, 20, 20, 20, 25, 40, 80, 100]
    trainer = Trainer(small(steps=1, objective={"worth": worth}), tiles, tmp_path / "run", device="cpu")
    trainer.run()
    best = tmp_path / "run" / "best.pt"
    codec = export(best, trainer.tiles, tmp_path / "tiny.safetensors", "tiny", coding_only=True)
    assert codec._coder.transforms.gain.worth.tolist() == worth
    write_checkpoint(best, tmp_path / "half.safetensors")
    later = Trainer(small(steps=1, start=str(tmp_path / "half.safetensors")), tiles, tmp_path / "later", device="cpu")
    assert later.objective.model.gain.worth.tolist() == worth
    settings = {"start": str(tmp_path / "half.safetensors"), "objective": {"worth": [9] * 8}}
    other = Trainer(small(steps=1, **settings), tiles, tmp_path / "other", device="cpu")
    assert other.objective.model.gain.worth.tolist() == [9] * 8


def test_weights_too_large_for_one_file_are_cut_and_read_as_one(tiles: Path, tmp_path: Path):
    Trainer(small(steps=1), tiles, tmp_path / "run", device="cpu").run()
    best = tmp_path / "run" / "best.pt"
    (whole,) = write_checkpoint(best, tmp_path / "whole.safetensors")
    parts = write_checkpoint(best, tmp_path / "cut.safetensors", most=230_000)
    assert len(parts) > 1 and all(part.stat().st_size <= 230_000 for part in parts)
    cut, kept = read_state(tmp_path / "cut.safetensors"), read_state(whole)
    assert cut.keys() == kept.keys() and all(torch.equal(cut[name], kept[name]) for name in kept)
    parts[0].unlink()
    with pytest.raises(ValueError, match="of its parts there are"):
        read_state(tmp_path / "cut.safetensors")


def test_a_checkpoint_leaves_out_what_the_one_beside_it_has(tiles: Path, tmp_path: Path):
    first = tmp_path / "first.safetensors"
    Trainer(small(steps=1), tiles, tmp_path / "run", device="cpu").run()
    write_checkpoint(tmp_path / "run" / "best.pt", first)
    config = small(steps=1, start=str(first), rates={"g_": 0.0, "gain": 0.0})
    Trainer(config, tiles, tmp_path / "next", device="cpu").run()
    best, second = tmp_path / "next" / "best.pt", tmp_path / "second.safetensors"
    assert write_checkpoint(best, second, beside=first) == [second]
    (whole,) = write_checkpoint(best, tmp_path / "whole.safetensors")
    assert second.stat().st_size < 0.7 * whole.stat().st_size
    read, want = read_state(second), read_state(whole)
    assert read.keys() == want.keys() and all(torch.equal(read[name], want[name]) for name in want)
    with pytest.raises(ValueError, match="must lie in the folder"):
        write_checkpoint(best, tmp_path / "run" / "third.safetensors", beside=first)
    with pytest.raises(ValueError, match="beside another"):
        write_checkpoint(best, tmp_path / "third.safetensors", beside=second)
        read_state(tmp_path / "third.safetensors")
    first.unlink()
    with pytest.raises(ValueError, match="no weights at"):
        read_state(second)


@pytest.mark.parametrize(
    "text", ["nothing", "[]", '{"file": "../a.safetensors", "names": []}', '{"file": "a", "names": 1}']
)
def test_a_checkpoint_beside_nothing_sensible_is_refused(tmp_path: Path, text: str):
    save_file({"a": torch.zeros(1)}, tmp_path / "b.safetensors", {"beside": text})
    with pytest.raises(ValueError, match="does not say what it is beside"):
        read_state(tmp_path / "b.safetensors")


def test_frequencies_of_rare_words_survive_the_checkpoint(tmp_path: Path):
    config = small("mcquic", steps=1)
    model = McQuic(**config.model)
    name = "_quantizer._entropyCoder._freqEMA.0"
    rare = torch.full_like(model.state_dict()[name], 1e-9)
    stored = {"model": {**model.state_dict(), name: rare}, "config": config.to_dict(), "step": 1, "validation": []}
    torch.save(stored, tmp_path / "best.pt")
    write_checkpoint(tmp_path / "best.pt", tmp_path / "half.safetensors")
    kept = read_state(tmp_path / "half.safetensors")
    assert torch.equal(kept[name], rare)
    assert kept["_encoder.0.weight"].dtype == torch.float16


def test_a_wider_model_starts_as_the_narrower_one(tmp_path: Path):
    torch.manual_seed(0)
    narrow = JAHP(8, 12, (12, 16, 24), qualities=8).eval()
    torch.save({"model": narrow.state_dict()}, tmp_path / "best.pt")
    wide = JAHP(12, 12, (20, 16, 32), qualities=8).eval()
    assert load_into(wide, tmp_path / "best.pt") == []
    x = torch.rand(1, 3, 128, 64)
    with torch.no_grad():
        y, other = narrow.g_a(x), wide.g_a(x)
        torch.testing.assert_close(other, y, rtol=0, atol=1e-6)
        torch.testing.assert_close(wide.g_s(y), narrow.g_s(y), rtol=0, atol=1e-6)
        z, other_z = narrow.h_a(y), wide.h_a(y)
        torch.testing.assert_close(other_z[:, :8], z, rtol=0, atol=1e-6)
        assert (other_z[:, 8:] == other_z[:, 8:, :1, :1]).all()
        torch.testing.assert_close(wide.h_s(other_z), narrow.h_s(z), rtol=0, atol=1e-6)
    assert not torch.equal(wide.g_a[0].weight[12:], torch.zeros_like(wide.g_a[0].weight[12:]))


def test_only_layers_that_follow_each_other_are_widened(tmp_path: Path):
    torch.manual_seed(0)
    narrow = JAHP(8, 12, (12, 16, 24), qualities=8)
    torch.save({"model": narrow.state_dict()}, tmp_path / "best.pt")
    missing = load_into(JAHP(8, 16, (12, 16, 24), qualities=8), tmp_path / "best.pt")  # scales and means change places
    assert {"g_a.6.weight", "h_s.4.weight", "entropy_parameters.4.weight", "context_prediction.weight"} <= set(missing)
    sizes = {"channel": (8, 8, 8), "inter": (8, 8, 8), "intra": (8, 8), "local": (8, 8), "parameters": (8, 8, 8)}
    small_model = MLICPlusPlus(8, 24, (12, 16, 24), slices=3, sizes={**sizes, "residual": (8, 8)})
    torch.save({"model": small_model.state_dict()}, tmp_path / "best.pt")
    larger = MLICPlusPlus(8, 24, (16, 16, 24), slices=3, sizes={**sizes, "channel": (8, 8, 16), "residual": (8, 8)})
    missing = load_into(larger, tmp_path / "best.pt")
    assert "entropy_parameters_anchor.1.fusion.0.weight" in missing and not any(n.startswith("g_") for n in missing)


def test_what_the_host_does_for_a_batch_is_waiting(monkeypatch: pytest.MonkeyPatch):
    sampler = Sampler(torch.zeros(3, 3, 256, 256, dtype=torch.uint8), batch=8, crop=256, seed=5)
    clock, cut = [0.0], sampler._cut

    def slowly(drawn: torch.Tensor) -> torch.Tensor:
        clock[0] += 10
        return cut(drawn)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(sampler, "_cut", slowly)
    sampler.next()
    assert sampler.seconds == 10


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


def test_crops_are_pieces_of_tiles_in_all_eight_orientations():
    tile = torch.arange(3 * 256 * 256).reshape(1, 3, 256, 256)
    sampler = Sampler(torch.zeros(1, 3, 256, 256, dtype=torch.uint8), batch=256, crop=64, seed=1)
    sampler.tiles = tile  # positions in place of pixels
    crops = (sampler.next() * 255).double().round().long()
    assert (crops[:, 1] - crops[:, 0] == 256 * 256).all()
    steps = {(int(c[0, 0, 1] - c[0, 0, 0]), int(c[0, 1, 0] - c[0, 0, 0])) for c in crops}
    assert steps == {(a, b) for a in (1, -1) for b in (256, -256)} | {(b, a) for a in (1, -1) for b in (256, -256)}
    corners = crops[:, 0].flatten(1).min(1).values
    assert len(set((corners % 256).tolist())) > 50 and len(set((corners // 256).tolist())) > 50


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "either in minutes or in steps"),
        ({"steps": 3, "minutes": 1.0}, "either in minutes or in steps"),
        ({"steps": 3, "optimiser": "sgd"}, "optimiser must be 'muon' or 'adam'"),
        ({"steps": 3, "metric": "vmaf"}, "metric must be 'mse' or 'ms-ssim'"),
        ({"steps": 3, "learning_rate": 1}, "no such setting: learning_rate"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        small(**wrong)


def test_an_unknown_family_or_argument_is_named(tiles: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="family must be one of"):
        Trainer(RunConfig("nonesuch", steps=1), tiles, tmp_path)
    with pytest.raises(ValueError, match="depth"):
        Trainer(RunConfig("jahp", model={**MODELS["jahp"], "depth": 3}, steps=1), tiles, tmp_path)
    with pytest.raises(ValueError, match="no such setting of the objective: lamdas"):
        Trainer(small(steps=1, objective={"lamdas": [1.0]}), tiles, tmp_path)
    with pytest.raises(ValueError, match="worth needs one number per quality, 8; got 2"):
        Trainer(small(steps=1, objective={"worth": [20, 30]}), tiles, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (16, 16)])
def test_orthogonalised_updates_have_singular_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.min() > 0.4 and values.max() < 1.4


def test_mcquic_starts_as_a_block_transform_and_exports(tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vq_contrast, "_STEPS", 50)
    settings = {"sampled": False, "reassign_every": 1}
    config = small("mcquic", start="klt", steps=2, metric="ms-ssim", objective=settings)
    trainer = Trainer(config, tiles, tmp_path, device="cpu")
    (row,) = trainer.validate()
    assert row["psnr"] > 20 and row["bpp"] <= 2 * (4 / 256 + 3 / 1024 + 2 / 4096)
    assert [row[f"used_{level}"] for level in range(3)] == [1, 1, 1]
    trainer.run()
    codec = export(tmp_path / "best.pt", trainer.tiles, tmp_path / "tiny.safetensors", "tiny")
    x = torch.rand(3, 40, 50)
    assert codec.decompress(codec.compress(x)).shape == x.shape


def test_refined_words_are_nearer_to_what_they_stand_for():
    generator = torch.Generator().manual_seed(3)
    images = torch.nn.functional.interpolate(torch.randn(12, 3, 16, 16, generator=generator), 128).tanh()
    torch.manual_seed(0)
    model = McQuic(channel=8, m=2, k=[16, 8, 4])
    vq.initialise(model, images[:4], generator)

    def error() -> float:
        with torch.no_grad():
            out = model.eval()(images, sampled=False)
            return float((out["x_hat"] - images).square().mean())

    before = error()
    vq_words.refine(model, images)
    assert error() < before
    assert all((share.sum(-1) - 1).abs().max() < 1e-5 for share in model.frequencies())


def test_the_best_weights_are_the_averages_under_every_name(tiles: Path, tmp_path: Path):
    trainer = Trainer(small("mcquic", steps=3, ema=0.5), tiles, tmp_path, device="cpu")
    trainer.run()
    stored = torch.load(tmp_path / "best.pt")["model"]
    for name in trainer.ema:
        assert torch.equal(stored[name], trainer.ema[name])
    book = trainer.ema["_quantizer._encoders.0._quantizer._codebook"]
    assert not torch.equal(book, trainer.model._quantizer.codebooks[0]._codebook)
    assert torch.equal(stored["_quantizer._decoders.0._dequantizer._codebook"], book)
