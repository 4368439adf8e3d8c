"""MLIC, MLIC+ and MLIC++ as CompressAI's main branch builds them, on integers: the same latents everywhere."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.utils import parametrize

from fastlic.entropy.fitting import coded_symbols
from fastlic.entropy.rate import coded_bits
from fastlic.entropy.scales import scale_levels, scale_thresholds
from fastlic.errors import CodecFileError, ModelMismatchError
from fastlic.integers.fixed import SCALE_BITS, fixed_point
from fastlic.ops.tables import gaussian_tables

from .conftest import check_damage_is_an_error, image, kept, settings
from .many_contexts import LATENT, VARIANTS, contextual, conv


@pytest.fixture(scope="module")
def plain(branch):
    return kept(lambda variant: contextual(variant, branch))


@pytest.fixture(scope="module")
def served(plain, branch):
    """(an accelerated model, its report)"""

    def make(variant: str) -> Any:
        model = plain(variant)
        return model, branch.accelerate(model, calibration=[image(1)[0]])

    return kept(make)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_the_family_is_told_apart_and_pictures_and_sizes_stay_near_those_of_the_floats(variant, plain, served):
    model, report = served(variant)
    (row,) = (row for row in report.rows if row.part == "entropy path")
    assert row.by == f"integers, 3 slices of {variant.upper()}"
    assert report.guarantee == "decodes to the same latents on any machine that holds this conversion"
    x, theirs = image(2, 128, 192), plain(variant)
    out = model.compress(x)
    expected = theirs.compress(x)
    assert out["shape"] == expected["shape"] and [len(part) for part in out["strings"]] == [2, 2]
    sizes = [sum(len(item) for part in own["strings"] for item in part) for own in (out, expected)]
    assert sizes[0] < 1.02 * sizes[1] + 32
    off = (out["y_hat"] - expected["y_hat"]).abs() > 0.25
    assert off.float().mean() < 0.02


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_parameters_as_integers_cost_next_to_nothing_under_the_same_tables(variant, plain, served, monkeypatch):
    model, theirs = served(variant)[0], plain(variant).latent_codec
    y = model.g_a(image(1, 256, 256))
    z, codec = model.latent_codec.h_a(y), vars(model.latent_codec)["_fastlic"].coder.integers
    scales, symbols = [], []
    for own in (leaf.y.gaussian_conditional for leaf in theirs.y.latent_codec.values()):

        def build(given: Tensor, before: Any = own.build_indexes) -> Tensor:
            scales.append(given.flatten())
            return before(given)

        def code(inputs: Tensor, indexes: Tensor, means: Tensor, before: Any = own.compress) -> Any:
            symbols.append((inputs - means).round().flatten().int())
            return before(inputs, indexes, means)

        monkeypatch.setattr(own, "build_indexes", build)
        monkeypatch.setattr(own, "compress", code)
    theirs.compress(y)
    tables, thresholds = gaussian_tables(scale_levels()), torch.from_numpy(scale_thresholds(scale_levels()))
    indexes = torch.searchsorted(thresholds, (torch.cat(scales) * 2**SCALE_BITS).round().int()).to(torch.uint8)
    floats = coded_bits(tables, indexes.numpy(), torch.cat(symbols).numpy())
    integers = coded_bits(tables, *coded_symbols(codec, fixed_point(z[0]), fixed_point(y[0])))
    assert floats > 8000 and integers < 1.002 * floats


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_streams_and_latents_do_not_depend_on_instruction_set_thread_count_batch_or_backend(variant, served):
    model, _ = served(variant)
    y = model.g_a(image(2, 64, 128))
    codec = model.latent_codec
    out = codec.compress(y)

    def check() -> None:
        assert codec.compress(y)["strings"] == out["strings"]
        assert torch.equal(codec.decompress(out["strings"], out["shape"])["y_hat"], out["y_hat"])

    for _ in settings():
        check()
    vars(codec)["_fastlic"].coder.settings.backend = "reference"
    check()
    alone = codec.compress(y[1:])
    assert [part[1:] for part in out["strings"]] == alone["strings"]


@torch.no_grad()
def test_a_saved_conversion_decodes_elsewhere_and_of_other_weights_or_families_is_refused(
    plain, served, branch, tmp_path
):
    model, report = served("mlic++")
    report.save(tmp_path / "contexts.safetensors")
    out = model.compress(image(1, 64, 64))
    elsewhere = plain("mlic++")
    branch.accelerate(elsewhere, calibration=tmp_path / "contexts.safetensors")
    again = elsewhere.decompress(out["strings"], out["shape"])["x_hat"]
    assert torch.equal(again, model.decompress(out["strings"], out["shape"])["x_hat"])
    softmax = plain("mlic+")  # which has weights of the same names and shapes
    softmax.load_state_dict(plain("mlic++").state_dict())
    with pytest.raises(CodecFileError, match=r"integers of mlic\+\+ for a model of mlic\+"):
        branch.accelerate(softmax, calibration=tmp_path / "contexts.safetensors")
    other = plain("mlic++")
    other.latent_codec.y.channel_context["y2"].channel_part.fushion[0].weight.mul_(1.5)
    with pytest.raises(ModelMismatchError, match="other weights"):
        branch.accelerate(other, calibration=tmp_path / "contexts.safetensors")


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_damage_and_changed_weights_are_errors_and_other_precisions_are_none(variant, served):
    model, _ = served(variant)
    out = check_damage_is_an_error(model)
    assert model.double().compress(image(1, 64, 64).double())["strings"] == out["strings"]
    layer = model.float().latent_codec.y.latent_codec.y1.intra_channel_context_nonanchor.keys[0]
    before = layer.weight.clone()
    layer.weight.mul_(1.5)
    for call in (lambda: model.compress(image(1, 64, 64)), lambda: model.decompress(out["strings"], out["shape"])):
        with pytest.raises(ModelMismatchError, match=r"\(y\.latent_codec\.y1\..*keys\.0\.weight\): call it again"):
            call()
    layer.weight.copy_(before)
    assert model.compress(image(1, 64, 64))["strings"] == out["strings"]


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@torch.no_grad()
def test_parametrized_weights_are_converted_as_what_they_compute(plain, served, branch):
    model, (expected, _) = plain("mlic"), served("mlic")
    layer = model.latent_codec.y.latent_codec.y2.lrp_anchor.lrp_transform[0]
    layer.weight.mul_(0.5)
    parametrize.register_parametrization(layer, "weight", Doubled())
    report = branch.accelerate(model, calibration=[image(1)[0]])
    assert "slices of MLIC" in str(report), str(report)
    assert model.compress(image())["strings"] == expected.compress(image())["strings"]
    layer.parametrizations.weight.original.mul_(1.5)
    with pytest.raises(ModelMismatchError, match="call it again"):
        model.compress(image())


def leaf(model: Any, k: int) -> Any:
    return model.latent_codec.y.latent_codec[f"y{k}"]


def other_parity(model: Any) -> None:
    leaf(model, 0).anchor_parity = "even"


def other_heads(model: Any) -> None:
    model.latent_codec.y.channel_context["y2"].global_inter_part.num_heads = 1


def wider_mask(model: Any) -> None:
    leaf(model, 1).intra_channel_context_nonanchor.local_mask_radius = 3


def larger_windows(model: Any) -> None:
    leaf(model, 2).spatial_context_nonanchor.relative_position_table = nn.Parameter(torch.randn(169, 2))


def symbols_left_out(model: Any) -> None:
    leaf(model, 0).selective_predictor = nn.Identity()


def anchors_with_a_context(model: Any) -> None:
    leaf(model, 0).spatial_context_anchor = conv(8, 8)


def other_activation(model: Any) -> None:
    leaf(model, 1).entropy_parameters_nonanchor.fusion[3] = nn.ReLU()


def other_attention(model: Any) -> None:
    leaf(model, 2).intra_channel_context_nonanchor.linear = True


def other_local_context(model: Any) -> None:
    leaf(model, 1).spatial_context_nonanchor.context[1] = nn.Identity()


def attention_between(model: Any) -> None:
    model.latent_codec.y.channel_context["y1"].global_inter_part = conv(8, 6)


def uneven_slices(model: Any) -> None:
    model.latent_codec.y.groups = [8, 10, 6]


def smaller_residue(model: Any) -> None:
    leaf(model, 2).lrp_scale = 0.1


def other_coder(model: Any) -> None:
    leaf(model, 1).latent_codec["y"].entropy_parameters = conv(16, 16, 1)


def own_forward(model: Any) -> None:
    model.latent_codec.h_s.forward = model.latent_codec.h_s.increase.forward


def hook_made(model: Any) -> None:
    torch.nn.utils.weight_norm(leaf(model, 1).lrp_anchor.lrp_transform[0])


def other_hyper_synthesis(model: Any) -> None:
    model.latent_codec.h_s = nn.Sequential(nn.ConvTranspose2d(8, 2 * LATENT, 4, 4))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize(
    ("variant", "change", "reason"),
    [
        ("mlic", other_parity, "anchors of slice 0 are at even sums of row and column"),
        ("mlic++", other_heads, "the inter context of slice 2 has num_heads = 1, that of the family 2"),
        ("mlic+", wider_mask, "the intra context of slice 1 has local_mask_radius = 3, that of the family 2"),
        ("mlic+", larger_windows, r"relative_position_table is \[169, 2\] in place of \[81, 2\]"),
        ("mlic++", symbols_left_out, "which symbols are left out, as in MLICv2"),
        ("mlic++", anchors_with_a_context, "anchors of slice 0 have a context of their own"),
        ("mlic", other_activation, "the network of the others' parameters of slice 1 computes something else"),
        ("mlic", other_attention, "the intra context of slice 2 computes something else than that of MLIC"),
        ("mlic+", other_attention, "of slice . computes something else than that of MLIC\\+\\+ and MLIC\\+"),
        ("mlic", other_local_context, "the local context of slice 1 computes something else"),
        ("mlic", attention_between, "do not come together, as in the family"),
        ("mlic", uneven_slices, r"its slices have different sizes: \[8, 10, 6\]"),
        ("mlic", smaller_residue, "coded in another way than the usual one"),
        ("mlic", other_coder, "slice 1 is coded by a GaussianConditionalLatentCodec that is no plain one"),
        ("mlic", own_forward, "h_s has a forward of its own"),
        ("mlic", hook_made, r"a hook makes the weight of y\.latent_codec\.y1\.lrp_anchor"),
        ("mlic", other_hyper_synthesis, "state dict does not fit MLIC"),
    ],
    ids=lambda value: value if isinstance(value, str) and value in VARIANTS else getattr(value, "__name__", ""),
)
def test_what_differs_from_the_family_stays_with_floats_and_the_report_says_what(
    variant, change, reason, plain, branch
):
    model = plain(variant)
    change(model)
    report = branch.accelerate(model, calibration=[image(1)[0]])
    (row,) = (row for row in report.rows if row.part == "entropy path")
    assert not row.replaced and row.note.startswith("floats, as it has no integer form: ")
    assert report.guarantee == "parameters stay floats; where they come out differently, ModelMismatchError says so"
    assert re.search(reason, row.note), row.note
