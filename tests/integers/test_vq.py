"""McQuic by integers: engines that equal the plain reference, close to the floats they were made of."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fastlic.integers.vq import VqTransforms, Words, convert_vq
from fastlic.models import McQuic
from fastlic.ops import backends
from fastlic.ops.codebook import codebook_nearest

PRICES = [3.0, 1.0, 0.5]


def shares(model: McQuic) -> list[np.ndarray]:
    return [share.numpy() for share in model.frequencies()]


@pytest.fixture(scope="module")
def image() -> Tensor:
    """Smooth, with some noise: [3, 80, 100] uint8."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 10, 12, generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, (80, 100), mode="bicubic").clamp(0, 1)[0]
    return (255 * (0.9 * smooth + 0.1 * torch.rand(smooth.shape, generator=draw))).round().to(torch.uint8)


@pytest.fixture(scope="module")
def model() -> McQuic:
    torch.manual_seed(0)
    return McQuic(8, 2, [32, 16], PRICES).eval()


@pytest.fixture(scope="module")
def made(model: McQuic, image: Tensor) -> VqTransforms:
    return convert_vq(model, [image.float() / 255], shares(model))


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("size", [(1, 1), (33, 5), (80, 100)])
def test_the_engine_gives_the_references_codes_and_pixels(made: VqTransforms, image: Tensor, size: tuple[int, int]):
    x = image[:, : size[0], : size[1]]
    codes = made.analyse(x, 1.5, backend="reference")
    assert same(made.analyse(x, 1.5), codes) and same(made.analyse(x, 1.5, threads=2), codes)
    for seen in (codes, codes[1:]):
        pixels = made.synthesise(seen, size, backend="reference")
        assert pixels.shape == x.shape and pixels.dtype == torch.uint8
        assert torch.equal(made.synthesise(seen, size), pixels)
        assert torch.equal(made.synthesise(seen, size, threads=2), pixels)


def test_every_instruction_set_gives_the_same_codes_and_pixels(made: VqTransforms, image: Tensor):
    codes = made.analyse(image, 2)
    pixels = made.synthesise(codes, (80, 100))
    for isa in backends.instruction_sets():
        with backends.instruction_set(isa):
            own = VqTransforms(made.networks, made.words, made.prices)
            assert same(own.analyse(image, 2), codes) and torch.equal(own.synthesise(codes, (80, 100)), pixels)


def test_integers_are_close_to_the_floats(made: VqTransforms, model: McQuic, image: Tensor):
    x = image[None].float() / 255
    codes = [code[0] for code in model.encode(2 * x - 1, model.stride)]
    mine = made.analyse(image, 2)
    assert all((a != b).float().mean() < 0.1 for a, b in zip(mine, codes, strict=True))
    for seen in (codes, codes[1:]):
        with torch.no_grad():
            expected = ((model.decode([code[None] for code in seen], (80, 100))[0] + 1) * 127.5).clamp(0, 255)
        assert (made.synthesise(seen, (80, 100)) - expected).square().mean().sqrt() < 1


def test_a_price_acts_on_the_last_channel_and_is_geometric_between_qualities(made: VqTransforms):
    words = made.words[0]
    heads = torch.from_numpy(np.random.default_rng(0).integers(-30000, 30000, (8, 6, 5))).int()
    assert made.prices is not None
    assert made.prices.at(1.5)[0] == pytest.approx(3**0.5, rel=1e-14)
    vectors = (heads.permute(1, 2, 0).numpy() * words.units.astype(np.float32)).reshape(30, 2, 4)
    vectors[:, :, 3] *= np.float32(0.5)
    distances = ((vectors[:, :, None].astype(np.float64) - words.floats.numpy().astype(np.float64)) ** 2).sum(-1)
    nearest = torch.from_numpy(distances.argmin(-1)).T.reshape(2, 6, 5)
    assert torch.equal(words.nearest(heads, np.float32(0.5), 1, "cpp"), nearest)
    assert not torch.equal(words.nearest(heads, None, 1, "cpp"), nearest)


@pytest.mark.parametrize("levels", [1, 2])
def test_levels_below_follow_from_any_finest_codes(model: McQuic, made: VqTransforms, image: Tensor, levels: int):
    if levels == 1:
        torch.manual_seed(0)
        single = McQuic(8, 2, [32], PRICES).eval()
        made = convert_vq(single, [image.float() / 255], shares(single))
    codes = made.analyse(image, 1.5)
    vectors, rest = made.finest(image, 1.5, threads=2)
    _, h, w = codes[0].shape
    assert vectors.shape == (h, w, 2, 4) and vectors.dtype == np.float32
    nearest = codebook_nearest(torch.from_numpy(vectors).view(h * w, 2, 4), made.words[0].floats)
    assert torch.equal(nearest.T.reshape(2, h, w), codes[0])
    assert same(made.below(codes[0], rest, 1.5), codes[1:])
    if levels == 2:
        others = made.below(codes[0].flip(1), rest, 1.5)
        assert not same(others, codes[1:]) and same(made.below(codes[0].flip(1), rest, 1.5, threads=2), others)


def test_arrays_are_read_back_and_pixels_depend_on_none_but_the_deciding(made: VqTransforms, image: Tensor):
    arrays = made.to_arrays()
    again = VqTransforms.from_arrays(arrays)
    assert again.to_arrays().keys() == arrays.keys()
    assert all(np.array_equal(array, arrays[name]) for name, array in again.to_arrays().items())
    assert same(again.analyse(image, 3), made.analyse(image, 3))
    deciding = made.deciding()
    assert not any(name.startswith(("down.", "head.", "rest.", "prices")) for name in deciding)
    assert {"up.0.0.weight", "side.0.0.weight", "words.1.0.weight", "level.0.words"} < deciding.keys()


def test_copies_of_words_on_devices_do_not_travel(made: VqTransforms):
    own = replace(made.words[0])
    assert own._on(torch.device("meta"), "words").shape == own.words.shape
    assert own._on(torch.device("meta"), "words") is own._on(torch.device("meta"), "words")
    again = pickle.loads(pickle.dumps(own))
    assert not again._kept and np.array_equal(again.words, own.words)


def test_floats_are_restored_to_what_integers_stand_for(made: VqTransforms, model: McQuic, image: Tensor):
    other = McQuic(8, 2, [32, 16], PRICES).eval()
    made.restore(other)
    x = image[None].float() / 127.5 - 1
    with torch.no_grad():
        codes = model.encode(x, model.stride)
        torch.testing.assert_close(other.decode(codes), model.decode(codes), rtol=0, atol=0.02)
        mine, theirs = (one._encoder(x) for one in (other, model))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0.02 * float(theirs.abs().max()))
    assert torch.equal(other._quantizer.codebooks[0]._codebook, made.words[0].floats)
    with pytest.raises(ValueError, match="for a model of"):
        made.restore(McQuic(8, 2, [32, 32], PRICES))
    with pytest.raises(ValueError, match="prices"):
        made.restore(McQuic(8, 2, [32, 16]))


def test_conversion_does_not_depend_on_the_order_of_float_sums(model: McQuic, made: VqTransforms, image: Tensor):
    other = McQuic(8, 2, [32, 16], PRICES).eval()
    other.load_state_dict(model.state_dict())
    again = convert_vq(other.to(memory_format=torch.channels_last), [image.float() / 255], shares(model)).to_arrays()
    assert all(np.array_equal(array, again[name]) for name, array in made.to_arrays().items())


def test_what_does_not_fit_is_refused(made: VqTransforms, model: McQuic, image: Tensor):
    with pytest.raises(ValueError, match="uint8"):
        made.analyse(image.float(), 1)
    with pytest.raises(ValueError, match="qualities"):
        made.analyse(image)
    with pytest.raises(ValueError, match="qualities are 1 to 3"):
        made.analyse(image, 4)
    with pytest.raises(ValueError, match="at least one image"):
        convert_vq(model, [], shares(model))
    with pytest.raises(ValueError, match="networks of 2 levels"):
        replace(made, networks={name: one for name, one in made.networks.items() if name != "side.0"})
    with pytest.raises(ValueError, match=r"down\.0 changes sides"):
        replace(made, networks={**made.networks, "down.0": made.networks["down.1"]})
    own = made.words[0]
    for damaged in (
        {"words": own.words.astype(np.int32)},
        {"exponents": own.exponents[1:]},
        {"exponents": np.full(8, 41, np.int8)},
        {"expected": own.expected.astype(np.int32)},
    ):
        with pytest.raises(ValueError, match="are int"):
            Words(**{"words": own.words, "exponents": own.exponents, "expected": own.expected, **damaged})
