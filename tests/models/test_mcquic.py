"""McQuic: the published network, key by key and code by code; images of any size; what training relies on."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from fastlic.models import McQuic
from fastlic.models.mcquic import load_published
from fastlic.models.mcquic.padding import crop, pad
from fastlic.models.mcquic.quantizer import Codebooks, lookup

GOLDEN = Path(__file__).parents[1] / "golden" / "mcquic_official.safetensors"
# Digest of the lines "name shape type" of McQuic 0.1.40's own state dict, Compressor(128, 2, [8192, 2048, 512]).
PUBLISHED_KEYS = "c3cbd1de6c865eefbaf4fad1fdbd978a"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    """Weights of a random Compressor(8, 2, [64, 32, 16]) of McQuic 0.1.40, an image, and what that code made of it."""
    return load_file(GOLDEN)


def state_of(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix("model/"): v.float() for k, v in golden.items() if k.startswith("model/")}


@pytest.fixture(scope="module")
def model(golden: dict[str, Tensor]) -> McQuic:
    return McQuic.from_state_dict(state_of(golden))


def small(seed: int = 0) -> McQuic:
    torch.manual_seed(seed)
    return McQuic(8, 2, [32, 16, 8])


@pytest.mark.golden
def test_official_weights_give_the_official_codes_and_reconstruction(model: McQuic, golden: dict[str, Tensor]):
    x = (golden["image"][None].float() / 255 - 0.5) * 2
    codes = model.encode(x)
    assert [c.tolist() for c in codes] == [golden[f"codes/{level}"].tolist() for level in range(3)]
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            restored = model.decode(codes, (100, 140)).detach()
        torch.testing.assert_close(restored[0, :, ::3, ::3], golden["restored_every_third"], rtol=1e-4, atol=1e-4)


@pytest.mark.golden
def test_keys_shapes_and_their_order_are_those_of_the_published_checkpoint():
    with torch.device("meta"):
        state = McQuic(128, 2).state_dict()
    lines = [f"{name} {tuple(value.shape)} {value.dtype}" for name, value in state.items()]
    assert len(lines) == 718
    assert hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest() == PUBLISHED_KEYS


# ---- qualities

PRICES = [2.0, 1.0, 0.25]


def priced() -> McQuic:
    torch.manual_seed(0)
    return McQuic(8, 2, [32, 16], PRICES).eval()


def test_qualities_are_prices_and_geometric_between_whole_ones():
    model = priced()
    assert [model.price(quality) for quality in (None, 1, 2, 3)] == [1.0, *PRICES]
    assert model.price(1.5) == pytest.approx(2**0.5) and model.price(2.5) == pytest.approx(0.5)
    for quality in (0.5, 3.5):
        with pytest.raises(ValueError, match="3 qualities"):
            model.price(quality)
    assert small().price(None) == 1.0
    with pytest.raises(ValueError, match="0 qualities"):
        small().price(1)


def test_prices_travel_with_the_weights():
    model = priced()
    assert McQuic.from_state_dict(model.state_dict()).config == model.config
    assert model.config["prices"] == PRICES and "prices" not in small().config


@pytest.mark.parametrize("prices", [[1.0], [1.0, 1.0], [1.0, 2.0], [2.0, 0.0], [65.0, 1.0]])
def test_prices_that_make_no_qualities_are_refused(prices):
    with pytest.raises(ValueError, match="prices must be"):
        McQuic(8, 2, [32], prices)


@torch.no_grad()
def test_a_price_is_a_factor_on_the_last_channel_of_each_group():
    model, x = priced(), torch.rand(1, 3, 128, 128) * 2 - 1
    finest = model._quantizer.encoders[0]
    head = finest._quantizationHead(finest._latentStageEncoder(model._encoder(x)))
    assert torch.equal(model.encode(x, 32)[0], finest._quantizer.nearest(head))
    head[:, 3::4] *= 40
    codes = model.encode(x, 32, 40.0)
    assert torch.equal(codes[0], finest._quantizer.nearest(head))
    assert not torch.equal(codes[0], model.encode(x, 32)[0])


# ---- images of any size


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (43, 44), (44, 43), (128, 128), (129, 257), (256, 130)])
def test_images_of_any_size_are_coded_and_come_back_at_their_size(size: tuple[int, int]):
    model = small().eval()
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for multiple, least in ((128, 128), (64, 128)):
        codes = model.encode(x, multiple)
        height, width = (max(-(-s // multiple) * multiple, least) for s in size)
        assert [tuple(c.shape) for c in codes] == [(2, 2, height >> s, width >> s) for s in (4, 5, 6)]
        assert model.decode(codes, size).shape == x.shape
        assert all(torch.equal(a, b[:1]) for a, b in zip(model.encode(x[:1], multiple), codes, strict=True))


@pytest.mark.parametrize("size", [(44, 300), (127, 129), (128, 128), (5, 7), (1, 3), (1, 1)])
def test_padding_reflects_around_the_image_and_is_cropped_away(size: tuple[int, int]):
    x = torch.rand(1, 3, *size)
    padded = pad(x, 128, 128)
    assert padded.shape[-2] % 128 == 0 and padded.shape[-1] % 128 == 0
    assert torch.equal(crop(padded, *size), x)
    if min(size) >= 44:  # what torch can reflect in one go
        h, w = (-s % 128 for s in size)
        assert torch.equal(padded, F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2), mode="reflect"))
    else:  # mirrored as often as needed: the period is 2 (size - 1)
        for axis, s in ((-2, size[0]), (-1, size[1])):
            period = max(2 * (s - 1), 1)
            line = padded.movedim(axis, 0)
            assert torch.equal(line[: 128 - period], line[period:128])


def test_gradients_or_not_the_same_codes_and_nearly_the_same_sums(model: McQuic):
    x = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(2)) * 2 - 1
    for layout in (torch.contiguous_format, torch.channels_last):
        y = x.contiguous(memory_format=layout)
        with torch.no_grad():
            fast = model._encoder(y)
        torch.testing.assert_close(fast, model._encoder(y).detach(), rtol=1e-5, atol=1e-5)
        with torch.no_grad():
            back = model._decoder(fast)
        torch.testing.assert_close(back, model._decoder(fast).detach(), rtol=1e-4, atol=1e-4)


def test_fewer_levels_give_a_coarser_image(model: McQuic, golden: dict[str, Tensor]):
    x = (golden["image"][None].float() / 255 - 0.5) * 2
    codes = model.encode(x)
    with torch.no_grad():
        images = [model.decode(codes[-n:], (100, 140)) for n in (1, 2, 3)]
    whole = images[-1]
    distances = [float((image - whole).square().mean()) for image in images]
    assert distances[0] > 0 and distances[1] > 0 and distances[2] == 0


def test_codes_that_do_not_fit_are_refused(model: McQuic):
    codes = [torch.zeros(1, 2, 8 >> i, 8 >> i, dtype=torch.int64) for i in range(3)]
    with pytest.raises(ValueError, match="1 to 3 levels"):
        model.decode([])
    with pytest.raises(ValueError, match=r"must be \[1, 2, 4, 4\]"):
        model.decode([codes[0], codes[0], codes[2]])
    with pytest.raises(ValueError, match=r"0\.\.15, got 0\.\.16"):
        model.decode([*codes[:2], codes[2] + torch.tensor([[0, 16], [0, 0]])])
    with pytest.raises(ValueError, match=r"\[B, 3, H, W\]"):
        model.encode(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="multiple of 64"):
        model.encode(torch.zeros(1, 3, 8, 8), multiple=100)


# ---- checkpoints


def write_published(path: Path, state: dict[str, Tensor]) -> Path:
    params = {"channel": 8, "m": 2, "k": [64, 32, 16]}
    content = {"model": state, "config": {"model": {"key": "x", "params": params}}, "version": "0.1.40"}
    torch.save(content, path)
    return path


def test_a_published_file_and_a_training_checkpoint_load(model: McQuic, tmp_path: Path):
    state = model.state_dict()
    published = load_published(write_published(tmp_path / "qp_2_msssim_00000000.mcquic", state))
    training = {f"module._compressor.{name}": value for name, value in state.items()}
    training["module._distortion._formatter.x"] = torch.zeros(1)
    torch.save({"trainer": {"_model": training, "_step": 3}, "config": {}}, tmp_path / "last.ckpt")
    for loaded in (published, load_published(tmp_path / "last.ckpt")):
        assert loaded.config == model.config
        found = loaded.state_dict()
        assert all(torch.equal(found[name], value) for name, value in state.items())


class Payload:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return print, ("a pickle was executed",)


def test_a_file_that_would_run_code_is_refused_unrun(tmp_path: Path, capsys: pytest.CaptureFixture):
    torch.save({"model": {}, "config": Payload()}, tmp_path / "hostile.mcquic")
    (tmp_path / "raw.mcquic").write_bytes(pickle.dumps(Payload(), protocol=2))
    for name in ("hostile.mcquic", "raw.mcquic"):
        with pytest.raises(ValueError, match="no checkpoint of tensors"):
            load_published(tmp_path / name)
    assert "executed" not in capsys.readouterr().out


def test_files_without_a_model_say_what_is_missing(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        load_published(tmp_path / "nowhere.mcquic")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ValueError, match="no checkpoint"):
        load_published(tmp_path / "empty")
    torch.save([1, 2], tmp_path / "list")
    with pytest.raises(ValueError, match="state dict under 'model'"):
        load_published(tmp_path / "list")
    torch.save({"model": {"a.weight": torch.zeros(1)}}, tmp_path / "other")
    with pytest.raises(ValueError, match="not a state dict of McQuic"):
        load_published(tmp_path / "other")


def test_a_state_dict_with_a_wrong_shape_names_the_key(model: McQuic):
    state = model.state_dict() | {"_encoder.0.bias": torch.zeros(9)}
    with pytest.raises(ValueError, match=r"_encoder\.0\.bias"):
        McQuic.from_state_dict(state)


@pytest.mark.parametrize("arguments", [(8, 3, [4]), (0, 1, [4]), (8, 2, []), (8, 2, [1]), (8, 2, [65537])])
def test_sizes_that_make_no_model_are_refused(arguments):
    with pytest.raises(ValueError):
        McQuic(*arguments)


# ---- training


def test_a_training_step_reaches_every_parameter_and_lowers_the_loss():
    model = small().train()
    x = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(3)) * 2 - 1
    x = F.avg_pool2d(x, 9, 1, 4)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, 2e-3)
    losses = []
    for _ in range(12):
        loss = (model(x)["x_hat"] - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in trained)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_forward_in_eval_mode_decodes_the_nearest_words(model: McQuic):
    x = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(4)) * 2 - 1
    before = [f.clone() for f in model.frequencies()]
    with torch.no_grad():
        out = model(x)
        codes = model.encode(x)
        torch.testing.assert_close(out["x_hat"], model.decode(codes), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(out["codes"], codes, strict=True))
    assert out["logits"] == [None] * 3
    assert all(torch.equal(a, b) for a, b in zip(before, model.frequencies(), strict=True))


def test_the_straight_through_gradient_is_that_of_the_one_hot_formula():
    torch.manual_seed(5)
    books = Codebooks(2, 7, 3)
    x = torch.randn(2, 6, 4, 5)
    weights = torch.randn(2, 6, 4, 5)

    def gradients(words: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad((words * weights).sum(), [inputs, books._codebook, books._temperature]))

    inputs = x.clone().requires_grad_()
    torch.manual_seed(6)
    words, codes, logits = books.sample(inputs, 0.7)
    own = gradients(words)

    # The same by the book: y_hard - y_soft.detach() + y_soft over distances that keep their |x|^2.
    inputs = x.clone().requires_grad_()
    torch.manual_seed(6)
    vectors = inputs.reshape(2, 2, 3, 4, 5).permute(1, 0, 3, 4, 2).reshape(2, 40, 1, 3)
    distance = (vectors - books._codebook[:, None]).square().sum(-1)
    expected = -distance / 7**0.5 * books._temperature[:, :, :, 0]
    noise = torch.empty_like(expected).exponential_().log()
    soft = ((expected - noise) / 0.7).softmax(-1)
    hard = F.one_hot(soft.argmax(-1), 7) - soft.detach() + soft
    plain = (hard @ books._codebook).reshape(2, 2, 4, 5, 3).permute(1, 0, 4, 2, 3).reshape(2, 6, 4, 5)
    torch.testing.assert_close(words, plain)
    for a, b in zip(own, gradients(plain), strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(codes, books.nearest(x))
    torch.testing.assert_close(logits.softmax(-1), expected.softmax(-1))


def test_running_frequencies_follow_what_was_used():
    model = small().train()
    x = torch.rand(2, 3, 128, 128) * 2 - 1
    out = model(x)
    for level, (code, share) in enumerate(zip(out["codes"], out["frequencies"], strict=True)):
        k = model.k[level]
        for group in range(2):
            used = torch.bincount(code[:, group].flatten(), minlength=k).double()
            expected = 0.9 / k + 0.1 * used / used.sum()
            torch.testing.assert_close(share[group], expected, rtol=1e-5, atol=1e-7)


def test_dead_words_move_beside_living_ones_and_count_as_alive():
    model = small()
    ema = model._quantizer._entropyCoder._freqEMA[0]
    ema.zero_()
    ema[:, 3], ema[:, 5] = 0.75, 0.25
    words = model._quantizer.codebooks[0]._codebook
    before = words.detach().clone()
    assert model.usage()[0] == 2 / 32
    # At most half a codebook at a time: 16 of 32 words in each of 2 groups, of 112 words in all.
    assert model.keep_alive(torch.Generator().manual_seed(0)) == pytest.approx(32 / 112)
    moved = (words != before).any(-1)
    assert int(moved.sum()) == 32 and not moved[:, [3, 5]].any()
    gap = torch.cdist(words.detach()[:, moved[0]], before[:, [3, 5]]).amin(-1)
    assert float(gap.max()) < 0.1 * float(before.std()) and float(gap.min()) > 0
    assert model.usage()[0] == 18 / 32
    torch.testing.assert_close(ema.sum(1), torch.ones(2))


def test_lookup_gathers_each_groups_word_with_channels_last():
    torch.manual_seed(10)
    codebook, codes = torch.randn(3, 5, 4), torch.randint(5, (2, 3, 6, 7))
    words = lookup(codebook, codes)
    assert words.shape == (2, 12, 6, 7) and words.is_contiguous(memory_format=torch.channels_last)
    for group in range(3):
        assert torch.equal(words[:, 4 * group : 4 * group + 4].permute(0, 2, 3, 1), codebook[group][codes[:, group]])
