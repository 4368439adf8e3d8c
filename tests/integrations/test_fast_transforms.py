"""transforms="fast": bfloat16 in g_a and g_s, and nothing of it on the way from stream to latent."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import fastlic
from fastlic.integrations.compressai import bfloat16, heap
from fastlic.models import inference
from fastlic.ops.backends import torch_threads

from .conftest import BUILDERS, image

# One of each way from stream to latent: tables alone, integers, raster loops, checkerboards, rates.
_WAYS = ("bmshj2018-factorized", "mbt2018-mean", "cheng2020-attn", "elic2022-official", "mbt2018-mean-vbr")
_LONG = ("mbt2018-mean", "cheng2020-attn", "elic2022-official", "mbt2018-mean-vbr")
_RATE = {"mbt2018-mean-vbr": {"stage": 2, "s": 1}}


@pytest.fixture(autouse=True)
def any_processor(monkeypatch):
    """torch computes bfloat16 everywhere, only not faster."""
    monkeypatch.setattr(bfloat16, "supported", lambda device: device.type == "cpu")


def accelerated(model, transforms="fast", format="native"):
    fastlic.accelerate(model, format, calibration=[image(1)[0]], transforms=transforms)
    return model


def decoded(model, out, name):
    """The latent that reaches g_s, and the picture."""
    seen = []
    hook = model.g_s.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    picture = model.decompress(out["strings"], out["shape"], **_RATE.get(name, {}))["x_hat"]
    hook.remove()
    return seen[0], picture


@pytest.mark.parametrize(
    ("name", "format"),
    [
        pytest.param(name, format, marks=pytest.mark.slow if name in _LONG and format == "native" else ())
        for name in _WAYS
        for format in ("native", "compressai")
    ],
)
def test_either_end_may_have_it(name, format, model_of):
    exact, fast = (accelerated(model_of(name), way, format) for way in ("exact", "fast"))
    rate = _RATE.get(name, {})
    x = image()
    for encoder in (exact, fast):
        out = encoder.compress(x, **rate)
        latents, pictures = zip(*(decoded(decoder, out, name) for decoder in (exact, fast)), strict=True)
        assert torch.equal(*latents)
        assert pictures[1].dtype == torch.float32 and pictures[1].is_contiguous()
        assert not torch.equal(*pictures)
        torch.testing.assert_close(pictures[1], pictures[0], atol=0.1, rtol=0)


def test_compressai_reads_its_own_streams_of_latents_in_bfloat16(model_of):
    plain, fast = model_of("mbt2018-mean"), model_of("mbt2018-mean")
    report = fastlic.accelerate(fast, "compressai", calibration=[image(1)[0]], transforms="fast")
    assert report.guarantee.startswith("CompressAI's streams, of latents by bfloat16")
    out = fast.compress(image())
    with torch.no_grad():
        theirs = plain.decompress(out["strings"], out["shape"])["x_hat"]
    torch.testing.assert_close(fast.decompress(out["strings"], out["shape"])["x_hat"], theirs, atol=0.1, rtol=0)


def test_the_report_says_what_it_does_to_a_picture(model_of):
    for name in BUILDERS:
        report = fastlic.accelerate(model_of(name), "compressai", calibration=[image(1)[0]], transforms="fast")
        rows = [row for row in report.replaced if row.by.startswith("bfloat16")]
        assert [row.part for row in rows] == ["transform g_a", "transform g_s"], name
        assert all("dB on the first image given" in row.note for row in rows), name
    assert "dB between both pictures" in str(report)


def test_comparing_pictures_touches_no_weight_of_the_entropy_path(model_of):
    fast = model_of("mbt2018")
    before = {name: value.clone() for name, value in fast.state_dict().items()}
    fastlic.accelerate(fast, "compressai", calibration=[image(1)[0]], transforms="fast")
    assert all(torch.equal(value, before[name]) for name, value in fast.state_dict().items())


def test_processors_without_it_stay_exact_and_the_report_says_so(monkeypatch, model_of):
    monkeypatch.setattr(bfloat16, "supported", lambda device: False)
    exact, fast = accelerated(model_of("mbt2018-mean"), "exact"), model_of("mbt2018-mean")
    report = fastlic.accelerate(fast, calibration=[image(1)[0]], transforms="fast")
    assert any("neither AVX512-BF16 nor AMX: exact" in row.note for row in report.rows)
    with torch.no_grad():
        assert torch.equal(fast.g_s(exact.g_a(image())), exact.g_s(exact.g_a(image())))
    report = fastlic.accelerate(fast, "compressai", transforms="fast")  # and the bytes are CompressAI's
    assert any(row.part == "transform g_a" and "symbols" in row.note for row in report.left)


def test_layers_that_the_entropy_model_shares_are_refused(model_of):
    model = model_of("mbt2018-mean")
    model.h_s[0] = model.g_s[0]
    report = fastlic.accelerate(model, "compressai", transforms="fast", calibration=[image(1)[0]])
    assert any(row.part == "transform g_s" and "use it too" in row.note for row in report.left)


def test_weights_count_at_once_however_they_were_written(model_of):
    fast = accelerated(model_of("bmshj2018-factorized"))
    with torch.no_grad():
        for parameter in [*fast.g_a.parameters(), *fast.g_s.parameters()]:
            parameter.data.mul_(1.05)
        other = copy.deepcopy(fast)
        fastlic.restore(other)
        accelerated(other)
        assert torch.equal(fast.g_a(image()), other.g_a(image()))
        twin = pickle.loads(pickle.dumps(fast))
        assert torch.equal(fast.g_a(image()), twin.g_a(image()))


def test_training_gradients_and_the_users_autocast_are_as_before(model_of):
    plain, fast = model_of("mbt2018-mean"), accelerated(model_of("mbt2018-mean"))
    x = image()
    assert torch.equal(fast.g_a(x), plain.g_a(x))
    with torch.no_grad():
        fast.train()
        plain.train()
        torch.testing.assert_close(fast.g_a(x), plain.g_a(x), rtol=0, atol=1e-5 * float(plain.g_a(x).abs().max()))
        with torch.autocast("cpu", torch.bfloat16):
            assert fast.g_s(plain.g_a(x)).dtype == plain.g_s(plain.g_a(x)).dtype


def test_large_maps_come_out_the_same_with_memory_kept(model_of):
    plain, exact = model_of("bmshj2018-factorized"), accelerated(model_of("bmshj2018-factorized"), "exact")
    x = image(1, 256, 256)
    assert x.numel() > 2**17
    with torch.no_grad():
        found, expected = exact.g_a(x), plain.g_a(x)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert heap._users == 0


def test_memory_is_kept_until_the_last_user_leaves(monkeypatch):
    told = []

    class Library:
        def mallopt(self, name, value):
            told.append((name, value))

        def malloc_trim(self, _pad):
            told.append("trim")

    monkeypatch.setattr(heap, "_glibc", Library)
    with heap.kept():
        with heap.kept():
            assert len(told) == 2
        assert len(told) == 2
    assert told[-1] == "trim" and heap._users == 0
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    with heap.kept():
        assert told[-1] == "trim"


def test_one_by_one_layers_go_to_onednn_and_agree():
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(7, 5, 1)
    with torch_threads(1), torch.no_grad():
        for x in (torch.randn(2, 7, 9, 11), torch.randn(0, 7, 9, 11), torch.randn(1, 7, 64, 64)):
            torch.testing.assert_close(inference.convolved(x, layer, layer.forward), layer(x))
