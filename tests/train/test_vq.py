"""McQuic's start in closed form: entropy-constrained codebooks and a decoder by least squares."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fastlic.models import McQuic
from fastlic.models.mcquic.quantizer import split_groups
from fastlic.ops.codebook import codebook_nearest
from fastlic.train import vq, vq_contrast, vq_decoder, vq_words
from fastlic.train.config import RunConfig
from fastlic.train.objectives import build

WEIGHT = 1e-2


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """[128, 3, 128, 128] in [-1, 1]: tiles of two photos."""
    tiles = []
    for name in ("astronaut", "chelsea"):
        with Image.open(Path(__file__).parents[1] / "images" / f"{name}.png") as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB").resize((1024, 1024)))).permute(2, 0, 1)
        tiles.append(pixels.unfold(1, 128, 128).unfold(2, 128, 128).permute(1, 2, 0, 3, 4).reshape(-1, 3, 128, 128))
    return torch.cat(tiles).float() / 127.5 - 1


_started: dict[float, McQuic] = {}


def started(images: torch.Tensor, rate_weight: float) -> McQuic:
    """A model that knows every second tile, to change at will."""
    if rate_weight not in _started:
        torch.manual_seed(0)
        model = McQuic(16, 2, [32, 16, 8]).eval()
        vq.initialise(model, images[::2], torch.Generator().manual_seed(0), rate_weight)
        _started[rate_weight] = model
    return copy.deepcopy(_started[rate_weight])


def figures(model: McQuic, images: torch.Tensor) -> tuple[float, float]:
    """(squared error, bits per image under the model's frequencies)."""
    with torch.no_grad():
        codes = model.encode(images, model.stride)
        error = F.mse_loss(model.decode(codes), images).item()
    bits = sum(
        -share[g].log2()[code[:, g]].sum().item()
        for share, code in zip(model.frequencies(), codes, strict=True)
        for g in range(model.m)
    )
    return error, bits / len(images)


def test_the_nearest_word_is_the_one_of_least_error_and_priced_information():
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(500, 2, 6, generator=generator)
    price = torch.rand(500, 2, generator=generator) + 0.2
    vectors[..., -1] = -price * 0.5 / (2 * vq_words.BIT)
    words, counts = vq_words.k_means(vectors, 32, generator, 0.5)
    shares = (counts + 0.5) / (counts + 0.5).sum(1, keepdim=True)
    error = (vectors.transpose(0, 1)[:, :, None, :-1] - words[:, None, :, :-1]).square().sum(-1).double()  # [m, n, k]
    cost = error - 0.5 * price.t()[..., None] * shares.double().log2()[:, None]
    chosen = codebook_nearest(vectors, words).t()
    found = cost.gather(2, chosen[..., None])[..., 0]
    torch.testing.assert_close(found, cost.amin(2), rtol=0, atol=5e-4)


def test_words_are_means_whose_vectors_weigh_as_much_as_their_bits_are_cheap():
    vectors = torch.zeros(4, 1, 2)
    vectors[:, 0, 0] = torch.tensor([0.0, 3.0, 10.0, 16.0])
    price = torch.tensor([1.0, 2.0, 0.5, 1.0])
    vectors[:, 0, 1] = -price * 1e-3 / (2 * vq_words.BIT)
    words, _ = vq_words.k_means(vectors, 2, torch.Generator().manual_seed(0), 1e-3)
    assert words[0, :, 0].sort().values.tolist() == pytest.approx([1.0, 12.0], rel=1e-5)


def test_the_price_of_a_bit_follows_the_contrast_of_images_never_seen(images: torch.Tensor):
    model = started(images, WEIGHT)
    level = model._quantizer.encoders[0]
    with torch.no_grad():
        z = level._latentStageEncoder(model._encoder(images[1::2]))
        head = level._quantizationHead(z)
    wanted = vq_contrast.price(z)
    for group in split_groups(head, model.m).unbind(1):
        price = group[:, -1] * (-2 * vq_words.BIT / WEIGHT)
        assert torch.corrcoef(torch.stack([price, wanted.permute(0, 2, 3, 1).flatten()]))[0, 1] > 0.8


def test_errors_weigh_less_where_there_is_contrast():
    x = torch.full((1, 3, 64, 64), 0.5)
    x[..., 32:] += 0.2 * (torch.arange(32) % 2)
    weight = vq_contrast.visibility(x)[0, 0]
    assert weight.shape == (64, 64)
    assert weight[32, 4] > 5 * weight[32, 60]
    assert weight[32, 60] == pytest.approx(1.0, rel=0.05)


def test_information_that_costs_lowers_the_rate_by_more_than_the_error_pays(images: torch.Tensor):
    free, weighed = (figures(started(images, weight), images) for weight in (0.0, WEIGHT))
    assert weighed[1] < 0.85 * free[1]
    # What the search makes small at a price of 1, latents being shrunk to an eighth: 64 times less than pixels'.
    cost = [error * images[0].numel() / 64 + WEIGHT * bits for error, bits in (free, weighed)]
    assert cost[1] < cost[0]


def test_words_tell_their_information_while_they_are_trained(images: torch.Tensor):
    settings = {"sampled": False, "rate_weight": WEIGHT, "reassign_every": 0}
    config = RunConfig.from_dict(
        {
            "family": "mcquic",
            "metric": "ms-ssim",
            "steps": 1,
            "start": "random",
            "model": {"channel": 16, "m": 2, "k": [32, 16, 8]},
            "objective": settings,
        }
    )
    objective = build(config)
    model = objective.model
    model.load_state_dict(started(images, WEIGHT).state_dict())
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = F.interpolate((images[:2] + 1) / 2, scale_factor=2)
    model.train()
    for step in range(2):
        measured = objective.measure(x, objective.draw(2, torch.Generator()))
        optimiser.zero_grad()
        (measured.loss + measured.auxiliary).backward()
        optimiser.step()
        objective.after_step(step, torch.Generator())
    model.eval()
    for book, shares in zip(model._quantizer.codebooks, model.frequencies(), strict=True):
        expected = vq_words.BIT * -shares.log2()
        torch.testing.assert_close(book._codebook[..., -1].double(), expected, rtol=1e-4, atol=1e-6)


def objective_with_prices(**settings: float):
    settings = {"sampled": False, "rate_weight": WEIGHT, **settings}
    return build(
        RunConfig.from_dict(
            {
                "family": "mcquic",
                "steps": 1,
                "metric": "ms-ssim",
                "model": {"channel": 16, "m": 2, "k": [32, 16, 8]},
                "objective": settings,
            }
        )
    )


def test_no_gradient_passes_straight_through_to_a_price():
    book = objective_with_prices().model._quantizer.codebooks[0]
    x = torch.randn(1, 16, 4, 4, requires_grad=True)
    words, _ = book.straight_through(x)
    words.sum().backward()
    assert x.grad is not None
    assert (x.grad[:, [7, 15]] == 0).all() and (x.grad[:, [0, 6, 8, 14]] == 1).all()


def test_prices_rise_while_the_rate_is_above_its_target_and_fall_below():
    codes = [torch.randint(k, (1, 2, 32 >> level, 32 >> level)) for level, k in enumerate((32, 16, 8))]
    for target, rises in ((0.01, True), (1.0, False)):
        objective = objective_with_prices(rate_target=target)
        objective.model._quantizer._entropyCoder.update(codes, 0.0)
        for step in range(20):
            objective.after_step(step, torch.Generator())
        assert (objective.scale > 1.1) if rises else (objective.scale < 0.95)
        shares = objective.model.frequencies()[0].clamp_min(2.0**-24)
        written = objective.model._quantizer.codebooks[0]._codebook[..., -1].double()
        torch.testing.assert_close(written, -shares.log2() * vq_words.BIT * objective.scale, rtol=1e-4, atol=1e-6)
        again = objective_with_prices(rate_target=target)
        again.load_state(objective.state())
        assert again.scale == objective.scale


def test_held_prices_cost_nothing_until_they_move(images: torch.Tensor):
    objective = objective_with_prices(price_hold=1.0)
    objective._hold(objective.model.state_dict())
    x = F.interpolate((images[:1] + 1) / 2, scale_factor=2)
    objective.model.train()
    heads = objective.model(2 * x - 1, sampled=False)["heads"]
    assert objective._price_error(objective.first, x, heads) < 1e-9  # without gradients, sums have another order
    with torch.no_grad():
        objective.model._quantizer._encoders[0]._quantizationHead[2].bias[7] += 0.1
    moved = objective.model(2 * x - 1, sampled=False)["heads"]
    assert objective._price_error(objective.first, x, moved) > 1e-4


def test_prices_without_a_rate_weight_are_refused():
    with pytest.raises(ValueError, match="need a rate_weight"):
        objective_with_prices(rate_weight=0.0, rate_target=0.1)


def test_the_fitted_decoder_is_nearer_to_images_it_has_not_seen(images: torch.Tensor):
    model = started(images, WEIGHT)
    seen, unseen = images[::2], images[1::2]
    visible = vq_contrast.visibility((unseen + 1) / 2)

    def error() -> float:
        with torch.no_grad():
            return ((model.decode(model.encode(unseen, model.stride)) - unseen).square() * visible).mean().item()

    before, bits = error(), figures(model, unseen)[1]
    vq_decoder.fit(model, seen)
    assert error() < 0.97 * before
    assert figures(model, unseen)[1] == bits  # encoder and words are as they were
