"""CompressAI's checkerboards and channel groups on integers, and users' own models of the same codecs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn as nn

import fastlic
from fastlic.errors import ModelMismatchError

from .conftest import build, image, settings

codecs = pytest.importorskip("compressai.latent_codecs")
GROUPS = ("cheng2020-anchor-checkerboard", "elic2022-official", "elic2022-chandelier")


def coder_of(model):
    return vars(model.latent_codec)["_fastlic"].coder


@torch.no_grad()
def latents(model, x):
    return model.g_a(x), model.latent_codec["hyper"].h_a


@pytest.mark.parametrize("name", GROUPS)
def test_streams_do_not_depend_on_threads_backend_batch_or_instruction_set(name, native):
    model, x = native(name), image(3)
    coder, (y, h_a) = coder_of(model), latents(model, x)
    strings, y_hat, size = coder.encode_passes(y, h_a)
    assert len({len(part) for part in strings}) == 1
    alone = [coder.encode_passes(y[i : i + 1], h_a)[0] for i in range(3)]
    assert strings == [[own[part][0] for own in alone] for part in range(len(strings))]
    for _ in settings():
        assert coder.encode_passes(y, h_a)[0] == strings
        assert torch.equal(coder.decode_passes(strings, *size), y_hat)
    coder.settings.backend = "reference"
    slow = coder.encode_passes(y, h_a)
    assert slow[0] == strings and torch.equal(slow[1], y_hat)
    assert torch.equal(coder.decode_passes(strings, *size), y_hat)


@pytest.mark.parametrize("name", GROUPS)
def test_latents_stay_within_half_a_step(name, native):
    model = native(name)
    y, h_a = latents(model, image())
    y_hat = coder_of(model).encode_passes(y, h_a)[1]
    assert float((y_hat - y).abs().max()) <= 0.5 + 2**-6


def test_weights_changed_after_conversion_are_noticed(native):
    model, x = native("elic2022-official"), image(1, 64, 64)
    model.compress(x)
    with torch.no_grad():
        model.latent_codec["y"].channel_context["y2"][0].weight.mul_(1.2)
    with pytest.raises(ModelMismatchError, match="call it again"):
        model.compress(x)


def without_integer_form(name):
    """The model with an activation that integers do not have."""
    model = build(name)
    model.latent_codec["hyper"].h_s[1] = nn.SiLU()
    return model


@pytest.mark.parametrize("name", GROUPS)
def test_models_without_integer_form_stay_with_floats_and_say_why(name):
    model = without_integer_form(name)
    report = fastlic.accelerate(model, calibration=[image(1)[0]])
    assert "SiLU" in str(report) and "floats" in report.guarantee
    x = image()
    out = model.compress(x)
    assert model.decompress(out["strings"], out["shape"])["x_hat"].shape == x.shape
    with torch.no_grad():
        for parameter in model.latent_codec["hyper"].h_s.parameters():
            parameter.mul_(1.01)  # as if another kernel had rounded otherwise
    with pytest.raises(ModelMismatchError, match="floating point"):
        model.decompress(out["strings"], out["shape"])


def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def own_model(checkerboards: bool = True, odd: bool = False):
    """A model that nobody but its author knows: three groups of 6, 10 and 8 channels."""
    from compressai.entropy_models import EntropyBottleneck
    from compressai.layers import CheckerboardMaskedConv2d
    from compressai.models import SimpleVAECompressionModel

    groups, features = [6, 10, 8], 14

    def own(k: int):
        c, read = groups[k], 12 if k else 0
        if not checkerboards:  # channel-wise autoregression without spatial context
            net = nn.Sequential(conv(read + features, 20, 3), nn.GELU(), conv(20, 2 * c, 3))
            return codecs.GaussianConditionalLatentCodec(entropy_parameters=net, chunks=("means", "scales"))
        net = nn.Sequential(conv(9 + read + features, 30, 1), nn.Identity(), nn.LeakyReLU(0.2), conv(30, 16, 1))
        return codecs.CheckerboardLatentCodec(
            {"y": codecs.GaussianConditionalLatentCodec(entropy_parameters=conv(16, 2 * c, 1))},
            entropy_parameters=net,
            context_prediction=CheckerboardMaskedConv2d(c, 9, kernel_size=3, padding=1),
            anchor_parity="odd" if odd else "even",
        )

    class Mine(SimpleVAECompressionModel):
        def __init__(self):
            super().__init__()
            self.g_a = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU(), nn.Conv2d(8, 24, 5, 4, 2))
            self.g_s = nn.Sequential(nn.ConvTranspose2d(24, 8, 4, 4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 4))
            hyper = codecs.HyperLatentCodec(
                entropy_bottleneck=EntropyBottleneck(8),
                h_a=nn.Conv2d(24, 8, 5, 4, 2),
                h_s=nn.Sequential(
                    *(conv(8, 40, 3), nn.PixelShuffle(2), nn.GELU()),
                    *(nn.ConvTranspose2d(10, 12, 5, 2, 2, 1), nn.ReLU(), conv(12, features, 1)),
                ),
            )
            context = {f"y{k}": nn.Sequential(conv(sum(groups[:k]), 15, 5), nn.GELU(), conv(15, 12, 3)) for k in (1, 2)}
            y = codecs.ChannelGroupsLatentCodec({f"y{k}": own(k) for k in range(3)}, context, groups=groups)
            self.latent_codec = codecs.HyperpriorLatentCodec({"y": y, "hyper": hyper})

    torch.manual_seed(2)
    model = Mine().eval()
    with torch.no_grad():
        model.g_a[2].weight.mul_(30)
        model.latent_codec["hyper"].h_a.weight.mul_(4)
    model.update()
    return model


@pytest.mark.parametrize("kind", ["checkerboards", "odd checkerboards", "one pass"])
def test_users_own_groups_run_on_integers(kind):
    model, x = own_model(kind != "one pass", kind.startswith("odd")), image()
    with torch.no_grad():
        theirs = model.compress(x)
    report = fastlic.accelerate(model, calibration=[x[0]])
    assert "board engine" in str(report) and "any machine" in report.guarantee
    out = model.compress(x)
    assert out["shape"] == theirs["shape"] and [len(s) for s in out["strings"]] == [len(s) for s in theirs["strings"]]
    y, h_a = latents(model, x)
    coder = coder_of(model)
    strings, y_hat, _size = coder.encode_passes(y, h_a)
    coder.settings.backend = "reference"
    assert strings == out["strings"] == coder.encode_passes(y, h_a)[0]
    x_hat = model.decompress(out["strings"], out["shape"])["x_hat"]
    with torch.no_grad():
        assert torch.equal(x_hat, model.g_s(y_hat).clamp(0, 1))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["checkerboards", "odd checkerboards", "one pass"])
def test_the_float_networks_read_out_of_a_users_model_are_those_of_the_model(kind):
    """What conversion sees as [context, channel, hyper] -> [scales, means] gives CompressAI's own means."""
    from fastlic.entropy.groups.convert import _calibrate, _Stages
    from fastlic.integers.stages import stages_of
    from fastlic.integrations.compressai.groups import group_parts

    model = own_model(kind != "one pass", kind.startswith("odd"))
    y_codec = model.latent_codec["y"]
    merge = y_codec.merge_params
    y_codec.merge_params = lambda channel, side: merge(side, channel)  # another order of one's own
    networks = group_parts(model.latent_codec).group_networks()
    y = model.g_a(image(1))
    groups = [_Stages.of(i, own) for i, own in enumerate(networks.groups)]
    ranges = _calibrate(networks, stages_of(networks.h_s, "hyper"), groups, [y])
    got = ranges.largest("y")
    y_hat = model.latent_codec.compress(y)["y_hat"]
    np.testing.assert_allclose(got, y_hat.abs().amax((0, 2, 3)).numpy(), rtol=1e-4, atol=1e-4)


def test_what_merges_do_is_tried_out():
    from fastlic.integrations.compressai.groups import _merged

    assert _merged(lambda a, b: torch.cat([b, a], 1), [2, 3], "m") == [2, 3, 4, 0, 1]
    assert _merged(lambda a, b: a, [2, 3], "m") == [0, 1]
    for other in (
        lambda a, b: a[:, :2] + b[:, :2],
        lambda a, b: a * 0.5,
        lambda a: a,
        lambda a, b: torch.cat([a, b]) * 2,
    ):
        with pytest.raises(ValueError, match="m "):
            _merged(other, [2, 3], "m")
