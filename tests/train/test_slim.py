"""Narrow entropy networks start from a wider model's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fastlic.models import JAHP, MeanScaleHyperprior
from fastlic.models.jahp import Sizes
from fastlic.train import slim
from fastlic.train.config import RunConfig
from fastlic.train.objectives import build

NARROW = {"hyper": [4, 5, 7], "context": 6, "parameters": [9, 8]}


@torch.no_grad()
def padded(narrow: JAHP) -> JAHP:
    """A model of the published sizes that computes what ``narrow`` does: what it has more of is never read, and
    features and context are mixed."""
    torch.manual_seed(5)
    wide = JAHP(narrow.N, narrow.M, narrow.widths, narrow.qualities).eval()
    state = wide.state_dict()
    for name, value in narrow.state_dict().items():
        if state[name].shape == value.shape:
            state[name] = value
    a, b, c = narrow.sizes.hyper
    first, second = narrow.sizes.parameters
    sizes = {"h_s.4": (wide.sizes.hyper[2], c), "context_prediction": (wide.sizes.context, narrow.sizes.context)}
    turn = {name: torch.linalg.qr(torch.randn(many, many))[0][:, :few] for name, (many, few) in sizes.items()}

    def put(name: str, rows: int, columns: int | None) -> None:
        """``narrow``'s kernel in the first rows; they read nothing beyond the first columns."""
        own, swapped = narrow.get_submodule(name), name in ("h_s.0", "h_s.2")
        weight, source = (t.transpose(0, 1) if swapped else t for t in (state[f"{name}.weight"], own.weight))
        weight[:rows] = 0
        weight[:rows, :columns] = source
        state[f"{name}.bias"][:rows] = own.bias

    put("h_s.0", a, None)
    put("h_s.2", b, a)
    for name, inputs in (("h_s.4", b), ("context_prediction", narrow.M)):
        own = narrow.get_submodule(name)
        state[f"{name}.weight"][:] = 0
        state[f"{name}.weight"][:, :inputs] = torch.einsum("ab,b...->a...", turn[name], own.weight)
        state[f"{name}.bias"] = turn[name] @ own.bias
    reads = narrow.entropy_parameters[0].weight[:, :, 0, 0].split([c, narrow.sizes.context], 1)
    joined = torch.cat([reads[0] @ turn["h_s.4"].T, reads[1] @ turn["context_prediction"].T], 1)
    state["entropy_parameters.0.weight"][:first] = joined[:, :, None, None]
    state["entropy_parameters.0.bias"][:first] = narrow.entropy_parameters[0].bias
    put("entropy_parameters.2", second, first)
    put("entropy_parameters.4", 2 * narrow.M, second)
    wide.load_state_dict(state)
    return wide


@pytest.fixture(scope="module")
def models() -> tuple[JAHP, JAHP]:
    """A model with narrow entropy networks whose outputs vary, and its wide twin."""
    torch.manual_seed(2)
    narrow = JAHP(4, 12, (4, 4, 4), qualities=2, sizes=NARROW).eval()
    with torch.no_grad():
        for name, weight in narrow.named_parameters():
            if name.endswith("weight") and not name.startswith("g_"):
                weight *= 2
        narrow.gain.log_gain.fill_(2.0)
    return narrow, padded(narrow)


def difference(model: JAHP, other: JAHP, x: torch.Tensor) -> float:
    """Largest difference of scales and means, beside their own spread."""
    with torch.no_grad():
        z, latent, *_ = slim._latents(other, x)
        found, wanted = (torch.cat(m._scales_and_means(m.h_s(z), latent), 1) for m in (model, other))
        return float((found - wanted).abs().max() / wanted.std())


def test_what_a_wider_model_computes_with_few_channels_is_found_exactly(models):
    narrow, wide = models
    x = torch.rand(12, 3, 128, 128)
    assert difference(narrow, wide, x) < 1e-4
    torch.manual_seed(8)
    model = JAHP(4, 12, (4, 4, 4), qualities=2, sizes=NARROW).eval()
    slim.initialise(model, wide, x)
    assert difference(model, wide, torch.rand(2, 3, 128, 128)) < 0.02


def test_a_run_starts_from_the_wider_weights_and_keeps_the_rest(models, tmp_path: Path):
    _, wide = models
    torch.save({"model": wide.state_dict()}, tmp_path / "best.pt")
    config = RunConfig(
        "jahp", model={**wide.config, "sizes": NARROW}, steps=1, start=str(tmp_path / "best.pt"),
        objective={"lambdas": [0.01, 0.02]},
    )  # fmt: skip
    del config.model["qualities"]
    objective = build(config)
    tiles = (torch.rand(12, 3, 128, 128) * 255).to(torch.uint8)
    objective.start(tiles)
    assert isinstance(objective.model, JAHP) and objective.model.sizes == Sizes.of(NARROW, 12)
    assert difference(objective.model.eval(), wide, tiles.float() / 255) < 0.05
    state = objective.model.state_dict()
    for name, value in wide.state_dict().items():
        if name.startswith(("g_", "h_a", "gain", "entropy_bottleneck")):
            assert torch.equal(state[name], value), name


def test_only_narrower_models_of_its_own_family_start_so(models, tmp_path: Path):
    narrow, wide = models
    torch.save({"model": wide.state_dict()}, tmp_path / "wide.pt")
    torch.save({"model": narrow.state_dict()}, tmp_path / "narrow.pt")
    assert slim.wider(narrow, tmp_path / "wide.pt") is not None
    assert slim.wider(wide, tmp_path / "wide.pt") is None
    assert slim.wider(wide, tmp_path / "narrow.pt") is None
    assert slim.wider(torch.nn.Identity(), tmp_path / "wide.pt") is None


def test_models_of_another_size_or_family_are_no_start_for_narrow_networks(models, tmp_path: Path):
    narrow, wide = models
    others = {
        "hyper": JAHP(wide.N + 1, wide.M, wide.widths, wide.qualities),
        "rates": JAHP(wide.N, wide.M, wide.widths, wide.qualities + 1),
        "family": MeanScaleHyperprior(wide.N, wide.M, wide.widths, wide.qualities),
    }
    for name, other in others.items():
        torch.save({"model": other.state_dict()}, tmp_path / f"{name}.pt")
        assert slim.wider(narrow, tmp_path / f"{name}.pt") is None
