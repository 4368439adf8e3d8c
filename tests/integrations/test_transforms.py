"""Transforms of accelerated models: CompressAI's numbers to 1e-5, whatever happens to the model afterwards."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

pytest.importorskip("compressai")

from compressai.models import MeanScaleHyperprior

import fastlic
from fastlic.integrations.compressai.transforms import FastGDN, FastTransposed
from fastlic.models.inference import subpixel_weight
from fastlic.ops import convolution

from .conftest import BUILDERS, image


def accelerated(model, format="native"):
    fastlic.accelerate(model, format, calibration=[image(1)[0]])
    return model


@torch.no_grad()
def assert_same_numbers(fast, plain, x=None):
    x = image() if x is None else x
    for name, value in (("g_a", x), ("g_s", plain.g_a(x))):
        expected, found = getattr(plain, name)(value), getattr(fast, name)(value)
        assert found.dtype == expected.dtype and found.is_contiguous()
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", BUILDERS)
def test_numbers_are_those_of_compressai(name, model_of):
    plain = model_of(name)
    fast = accelerated(model_of(name))
    for transform in (fast.g_a, fast.g_s):
        assert all(type(layer) is not type(nn.Conv2d(1, 1, 1)) for layer in transform.modules())
    assert_same_numbers(fast, plain)
    assert_same_numbers(fast, plain, image(1, 64, 192))


@pytest.mark.parametrize("name", BUILDERS)
def test_in_compressais_format_only_the_synthesis_is_touched(name, model_of):
    plain = model_of(name)
    fast = model_of(name)
    report = fastlic.accelerate(fast, "compressai")
    assert [row.note for row in report.left if row.part == "transform g_a"]
    assert any(row.part == "transform g_s" for row in report.replaced)
    with torch.no_grad():
        assert torch.equal(fast.g_a(image()), plain.g_a(image()))
    assert_same_numbers(fast, plain)


def test_gdn_and_the_last_layer_take_their_own_ways(model_of):
    fast = accelerated(model_of("mbt2018-mean"))
    assert [isinstance(layer, FastGDN) for layer in fast.g_s] == [i in (1, 3, 5) for i in range(7)]
    seen = []
    last = fast.g_s[-1]
    assert isinstance(last, FastTransposed) and last.out_channels == 3
    hook = last.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    with torch.no_grad():
        fast.g_s(torch.randn(1, 12, 4, 6))
    hook.remove()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_wide_layers_take_fewer_products_to_the_same_numbers(monkeypatch):
    """The others go where they did: few channels, small maps, other strides, paddings and groups."""
    from fastlic.models import inference

    taken = []

    def counted(x, weight, *rest):
        taken.append(tuple(weight.shape))
        return convolution(x, weight, *rest)

    monkeypatch.setattr(inference, "convolution", counted)
    torch.manual_seed(3)
    model = MeanScaleHyperprior(32, 48).eval()
    model.g_a.append(nn.Sequential(nn.Conv2d(48, 48, 3, padding=1), nn.Conv2d(48, 48, 3, padding="same")))
    others = (
        *(nn.Conv2d(48, 48, 3, 1, 1, dilation=2), nn.Conv2d(48, 48, 3), nn.Conv2d(48, 48, 3, 2, 1)),
        *(nn.Conv2d(48, 48, 3, 1, 1, groups=2), nn.Conv2d(48, 48, 3, 1, 1, padding_mode="reflect")),
        *(nn.ConvTranspose2d(48, 48, 3, 1, 1), nn.ConvTranspose2d(48, 48, 5, 2, 2), nn.Conv2d(48, 8, 3, 1, 1)),
    )
    model.g_a.append(nn.Sequential(nn.ConvTranspose2d(48, 48, 5, 2, 2, 1), nn.GELU(), *others, nn.Conv2d(8, 48, 1)))
    model.update(force=True)
    fast = copy.deepcopy(model)
    fastlic.accelerate(fast, "native", transforms="exact", calibration=[image(1)[0]])
    x = torch.rand(1, 3, 384, 320)
    with torch.no_grad():
        y = fast.g_a(x)
        wide = [(32, 32, 5, 5)] * 2 + [(48, 32, 5, 5)] + [(48, 48, 3, 3)] * 2 + [(48, 48, 5, 5)]
        assert taken == wide
        assert (y - model.g_a(x)).abs().max() <= 1e-5 * y.abs().max()
        taken.clear()
        y = torch.randn(1, 48, 24, 20)
        pixels = fast.g_s(y)
        assert taken == [(48, 32, 5, 5), (32, 32, 5, 5), (32, 32, 5, 5), (12, 32, 3, 3)]
        assert (pixels - model.g_s(y)).abs().max() <= 1e-5 * pixels.abs().max()
        taken.clear()
        fast.g_s(y[..., :4, :4])
        assert taken == [(12, 32, 3, 3)]  # the other maps are 4x4, 8x8 and 16x16


def test_changed_weights_count_at_once_however_they_were_written(model_of):
    plain, fast = model_of("bmshj2018-factorized"), accelerated(model_of("bmshj2018-factorized"))
    with torch.no_grad():
        for model in (plain, fast):
            for parameter in [*model.g_a.parameters(), *model.g_s.parameters()]:
                parameter.data.mul_(1.1)
    assert_same_numbers(fast, plain)
    other = model_of("bmshj2018-factorized")
    fast.load_state_dict(other.state_dict())
    assert_same_numbers(fast, other)


def test_copies_pickles_and_restored_models(model_of):
    plain, fast = model_of("mbt2018"), accelerated(model_of("mbt2018"))
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert isinstance(twin.g_s[1], FastGDN)
        assert_same_numbers(twin, plain)
    fastlic.restore(fast)
    with torch.no_grad():
        assert torch.equal(fast.g_a(image()), plain.g_a(image()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_run_as_before(dtype, model_of):
    plain, fast = model_of("mbt2018-mean").to(dtype), accelerated(model_of("mbt2018-mean")).to(dtype)
    x = image().to(dtype)
    with torch.no_grad():
        assert torch.equal(fast.g_a(x), plain.g_a(x))


def test_gradients_are_those_of_compressai(model_of):
    plain, fast = model_of("mbt2018-mean"), accelerated(model_of("mbt2018-mean"))
    for model in (plain, fast):
        model.g_s(model.g_a(image())).square().sum().backward()
    pairs = zip(plain.named_parameters(), fast.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for (name, a), b in pairs if name.startswith(("g_a", "g_s")))


def test_autocast_and_tracing_run_as_before(model_of):
    plain, fast = model_of("mbt2018-mean"), accelerated(model_of("mbt2018-mean"))
    y = torch.randn(1, 12, 4, 4)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(fast.g_s(y), plain.g_s(y))
        traced = torch.jit.trace(fast.g_s, y, check_trace=False)
        assert torch.equal(traced(2 * y), plain.g_s(2 * y))


def test_layers_that_the_entropy_model_shares_are_left_alone(model_of):
    model = model_of("mbt2018-mean")
    model.g_s[4] = model.h_s[2] = nn.ConvTranspose2d(8, 8, 5, 2, 2, 1)
    model.h_s[0] = nn.ConvTranspose2d(8, 8, 5, 2, 2, 1)
    model.h_s[4] = nn.Conv2d(8, 24, 3, 1, 1)
    report = fastlic.accelerate(model, "compressai")
    assert any(row.part == "transform g_s" and "use it too" in row.note for row in report.left)
    assert type(model.h_s[2]) is nn.ConvTranspose2d


@pytest.mark.parametrize("outputs", [1, 3, 4])
def test_a_transposed_convolution_is_a_plain_one_and_a_shuffle(outputs):
    torch.manual_seed(0)
    weight, x = torch.randn(7, outputs, 5, 5, dtype=torch.double), torch.randn(2, 7, 3, 6, dtype=torch.double)
    expected = F.conv_transpose2d(x, weight, None, 2, 2, 1)
    found = F.pixel_shuffle(F.conv2d(x, subpixel_weight(weight), padding=1), 2)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
