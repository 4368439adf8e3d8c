"""CompressAI's main branch of 2026: other latent codecs, other shapes, models of channel slices.

Where 1.2.8 is installed the interface is rebuilt (main_branch.py). ``FASTLIC_COMPRESSAI_MAIN=FOLDER`` names a checkout
of the branch with its extensions built and timm at hand: the same tests run on it, and on its models.
"""

from __future__ import annotations

import copy
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn as nn
from torch import Tensor

from fastlic.errors import CorruptStreamError, ModelMismatchError, PixelLimitError

from .conftest import image, kept

pytest.importorskip("compressai")

from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.layers import CheckerboardMaskedConv2d, MaskedConv2d
from compressai.models import CompressionModel, SimpleVAECompressionModel

from . import main_branch, many_contexts
from .branch_blocks import Dictionary, Mixing, Pooled, Projected, ToDictionary
from .staged import InStages, stages

INTEGERS = {
    "board": "board engine",
    "groups": "board engine",
    "raster": "wavefront engine",
    "gaussian": "one-pass engine",
    "heads": "integers, 3 slices",
    "pooled": "integers, 3 slices",
    "dictionary": "integers, 3 slices",
    **{variant: f"integers, 3 slices of {variant.upper()}" for variant in many_contexts.VARIANTS},
}
FLOATS = ("slices", "contexts")
GROUPS = (6, 10, 8)


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def network(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(conv(inputs, 12, kernel), nn.GELU(), conv(12, outputs, kernel))


class Halves(nn.Module):
    """Means and scales by a network each."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.h_mean_s, self.h_scale_s = (upwards(inputs, outputs) for _ in range(2))

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([self.h_mean_s(z), self.h_scale_s(z)], 1)


class Head(nn.Module):
    """Of a slice: means and scales from those of the hyper latent and from earlier slices, and what means came from."""

    def __init__(self, latent: int, earlier: int, own: int) -> None:
        super().__init__()
        self.latent = latent
        self.mean_cc, self.scale_cc = (network(latent + earlier, own) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        means, scales, earlier = x.tensor_split([self.latent, 2 * self.latent], 1)
        support = torch.cat([means, earlier], 1)
        return torch.cat([self.scale_cc(torch.cat([scales, earlier], 1)), self.mean_cc(support), support], 1)


class NamedHead(Head):
    """The same with the names that the branch's own heads have, and a network before the two."""

    emit_mean_support = "pre"

    def __init__(self, latent: int, earlier: int, own: int) -> None:
        super().__init__(latent, earlier, own)
        self.side_split = latent
        self.mean_support_transform, self.scale_support_transform = (
            conv(latent + earlier, latent + earlier, 1) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        means, scales, earlier = x.tensor_split([self.latent, 2 * self.latent], 1)
        support = torch.cat([means, earlier], 1)
        scales = self.scale_cc(self.scale_support_transform(torch.cat([scales, earlier], 1)))
        return torch.cat([scales, self.mean_cc(self.mean_support_transform(support)), support], 1)


class PooledHead(NamedHead):
    """The same with networks that read means of whole maps, as CCA has them; residues read what these make."""

    emit_mean_support = "post"

    def __init__(self, latent: int, earlier: int, own: int) -> None:
        super().__init__(latent, earlier, own)
        self.mean_support_transform, self.scale_support_transform = (
            Projected(latent + earlier, latent + earlier) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        means, scales, earlier = x.tensor_split([self.latent, 2 * self.latent], 1)
        support = self.mean_support_transform(torch.cat([means, earlier], 1))
        scales = self.scale_cc(self.scale_support_transform(torch.cat([scales, earlier], 1)))
        return torch.cat([scales, self.mean_cc(support), support], 1)


class DictionaryHead(nn.Module):
    """Means and scales from all that a slice knows and what attention to a dictionary makes of it, as DCAE has them."""

    emit_mean_support = True

    def __init__(self, known: int, own: int, dictionary: Dictionary) -> None:
        super().__init__()
        self.cross_attention = ToDictionary(known, 5)
        self.mean_cc, self.scale_cc = (network(known + 5, own) for _ in range(2))
        self._dictionary_provider = lambda images: dictionary.dt.unsqueeze(0).expand(images, -1, -1)

    def forward(self, x: Tensor) -> Tensor:
        support = torch.cat([x, self.cross_attention(x, self._dictionary_provider(len(x)))], 1)
        return torch.cat([self.scale_cc(support), self.mean_cc(support), support], 1)


class Whole(nn.Module):
    """A slice's context that is all there is before it."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def side_context(codecs: Any) -> Any:
    """Channel groups whose contexts read the hyper parameters and hand out all that their codec gets."""

    class _SideContext(codecs.ChannelGroupsLatentCodec):
        def _get_ctx_params(self, k: int, side_params: Tensor, y_hat_: Any) -> Tensor:
            earlier = [y_hat_[i] for i in self.support_slices[k]]
            return self.channel_context[f"y{k}"](self.merge_params(side_params, *earlier))

    return _SideContext


def refined(codecs: Any) -> Any:
    """A Gaussian codec with a latent residual prediction behind."""

    class _Refined(codecs.GaussianConditionalLatentCodec):
        def __init__(self, lrp_transform: nn.Module, trail: int) -> None:
            super().__init__(quantizer="ste")
            self.lrp_transform, self.lrp_scale, self.trail = lrp_transform, 0.5, trail

        def _more(self, out: Any, support: Tensor) -> Any:
            residual = self.lrp_transform(torch.cat([support, out["y_hat"]], 1))
            return {**out, "y_hat": out["y_hat"] + 0.5 * torch.tanh(residual)}

        def compress(self, y: Tensor, ctx_params: Tensor) -> Any:
            return self._more(super().compress(y, ctx_params[:, : -self.trail]), ctx_params[:, -self.trail :])

        def decompress(self, strings: Any, shape: Any, ctx_params: Tensor, **kwargs: Any) -> Any:
            out = super().decompress(strings, shape, ctx_params[:, : -self.trail], **kwargs)
            return self._more(out, ctx_params[:, -self.trail :])

    return _Refined


def upwards(inputs: int, outputs: int) -> nn.Sequential:
    layers = [nn.ConvTranspose2d(inputs, 10, 5, 2, 2, 1), nn.ReLU(), nn.ConvTranspose2d(10, 12, 5, 2, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, conv(12, outputs))


def codec_of_y(kind: str, codecs: Any) -> tuple[Any, int]:
    """(latent codec of 24 channels, channels of hyper parameters)."""
    sizes, latent = list(GROUPS), sum(GROUPS)
    before = [[], [0], [0]]  # the third group knows of the first alone
    if kind == "gaussian":
        return codecs.GaussianConditionalLatentCodec(), 2 * latent
    if kind == "raster":
        context = MaskedConv2d(latent, 2 * latent, kernel_size=5, padding=2)
        head = nn.Sequential(conv(4 * latent, 12, 1), nn.LeakyReLU(), conv(12, 2 * latent, 1))
        return codecs.RasterScanLatentCodec(GaussianConditional(None), head, context), 2 * latent
    if kind in ("board", "groups"):
        features = 14

        def board(c: int, inputs: int) -> Any:
            return codecs.CheckerboardLatentCodec(
                {"y": codecs.GaussianConditionalLatentCodec(quantizer="ste", chunks=("means", "scales"))},
                entropy_parameters=nn.Sequential(conv(9 + inputs, 20, 1), nn.LeakyReLU(), conv(20, 2 * c, 1)),
                context_prediction=CheckerboardMaskedConv2d(c, 9, kernel_size=3, padding=1),
            )

        if kind == "board":
            return board(latent, features), features
        leaves = {f"y{k}": board(c, features + 12 * (k > 0)) for k, c in enumerate(sizes)}
        contexts = {f"y{k}": network(sizes[0], 12, 5) for k in (1, 2)}
        return codecs.ChannelGroupsLatentCodec(leaves, contexts, groups=sizes, support_slices=before), features
    earlier = [sum(sizes[i] for i in own) for own in before]
    if kind in ("slices", "heads", "pooled"):
        head = {"slices": Head, "heads": NamedHead, "pooled": PooledHead}[kind]
        contexts = {f"y{k}": head(latent, earlier[k], c) for k, c in enumerate(sizes)}
        leaves = {
            f"y{k}": refined(codecs)(network(latent + earlier[k] + c, c), latent + earlier[k])
            for k, c in enumerate(sizes)
        }
    elif kind == "dictionary":
        words = Dictionary(7, 10)
        known = [2 * latent + own for own in earlier]
        contexts = {f"y{k}": DictionaryHead(known[k], c, words) for k, c in enumerate(sizes)}
        leaves = {f"y{k}": refined(codecs)(network(known[k] + 5 + c, c), known[k] + 5) for k, c in enumerate(sizes)}
    else:
        contexts = {f"y{k}": Whole() for k in range(3)}
        leaves = {
            f"y{k}": codecs.MultiContextCheckerboardLatentCodec(
                entropy_parameters_anchor=network(2 * latent + earlier[k], 2 * c, 1),
                entropy_parameters_nonanchor=network(2 * latent + earlier[k] + 8, 2 * c, 1),
                spatial_context_nonanchor=conv(c, 8),
                lrp_anchor=network(2 * latent + earlier[k] + c, c),
                lrp_nonanchor=network(2 * latent + earlier[k] + c, c),
                anchor_parity="odd",
            )
            for k, c in enumerate(sizes)
        }
    return side_context(codecs)(leaves, contexts, groups=sizes, support_slices=before), 2 * latent


@torch.no_grad()
def model_of(kind: str, codecs: Any) -> Any:
    if kind in many_contexts.VARIANTS:
        return many_contexts.contextual(kind, codecs)

    class Mine(SimpleVAECompressionModel):
        def __init__(self) -> None:
            super().__init__()
            self.g_a = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU(), nn.Conv2d(8, 24, 5, 4, 2))
            self.g_s = nn.Sequential(nn.ConvTranspose2d(24, 8, 4, 4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 4))
            if kind == "bottleneck":
                self.latent_codec = codecs.EntropyBottleneckLatentCodec(EntropyBottleneck(24))
                return
            y, features = codec_of_y(kind, codecs)
            z = codecs.EntropyBottleneckLatentCodec(EntropyBottleneck(8), quantizer="ste")
            h_s = (
                Halves(8, features // 2) if kind in (*FLOATS, "heads", "pooled", "dictionary") else upwards(8, features)
            )
            self.latent_codec = codecs.HyperpriorLatentCodec({"y": y, "z": z}, h_a=nn.Conv2d(24, 8, 5, 4, 2), h_s=h_s)

    torch.manual_seed(2)
    model = Mine().eval()
    model.g_a[2].weight.mul_(30)
    if kind != "bottleneck":
        model.latent_codec.h_a.weight.mul_(4)
    for name, module in model.named_modules():
        if name.endswith(
            ("scale_cc", "mean_cc", "lrp_transform", "entropy_parameters", "h_s", "_anchor", "_nonanchor")
        ):
            layers = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
            if layers:
                layers[-1].weight.mul_(6)
                layers[-1].bias.add_(0.5)
    model.update()
    return model


@pytest.fixture(scope="module")
def made(branch):
    return kept(lambda kind: model_of(kind, branch))


@pytest.fixture(scope="module")
def fast(made, branch):
    """(an accelerated model of that kind, its report)"""

    def make(kind: str, format: str = "native") -> Any:
        model = made(kind)
        return model, branch.accelerate(model, format, calibration=[image(1, 64, 64)[0]])

    return kept(make)


@torch.no_grad()
def plain(model: Any, x: Tensor) -> tuple[Any, Tensor]:
    out = model.compress(x)
    return out, model.decompress(out["strings"], out["shape"])["x_hat"]


KINDS = (*INTEGERS, *FLOATS, "bottleneck")


@pytest.mark.parametrize("kind", KINDS)
def test_streams_shapes_and_pixels_are_those_of_the_plain_model(kind, made, fast, branch):
    model, x = made(kind), image(1, 64, 64) if kind == "raster" else image()
    theirs, x_hat = plain(model, x)
    assert sum(len(item) for part in theirs["strings"] for item in part) > 300
    model, _ = fast(kind, "compressai")
    ours = model.compress(x)
    assert ours["strings"] == theirs["strings"] and ours["shape"] == theirs["shape"] and ours.keys() == theirs.keys()
    again = model.decompress(theirs["strings"], theirs["shape"])["x_hat"]
    torch.testing.assert_close(again, x_hat)
    branch.module("api").restore(model)
    assert torch.equal(plain(model, x)[1], x_hat)


@pytest.mark.parametrize(
    ("kind", "format"),
    [*((kind, "compressai") for kind in KINDS if kind != "raster"), *((k, "native") for k in FLOATS)],
)
def test_an_encoder_decodes_nothing(kind, format, fast, branch, monkeypatch):
    model, _ = fast(kind, format)
    expected = model.compress(image())

    def decode(*_args: Any, **_kwargs: Any) -> Any:
        raise AssertionError("a stream is decoded")

    monkeypatch.setattr(branch.module("coder"), "decode", decode)
    out = model.compress(image())
    assert out["strings"] == expected["strings"] and torch.equal(out["y_hat"], expected["y_hat"])


@pytest.mark.parametrize("kind", INTEGERS)
def test_codecs_of_known_networks_run_on_integers(kind, made, fast):
    x = image(1, 64, 64)
    shape = plain(made(kind), x)[0]["shape"]
    model, report = fast(kind)
    assert INTEGERS[kind] in str(report) and "any machine that holds this conversion" in report.guarantee
    out = model.compress(x)
    assert out["shape"] == shape
    with torch.no_grad():
        x_hat = model.g_s(out["y_hat"]).clamp(0, 1)
    assert torch.equal(model.decompress(out["strings"], out["shape"])["x_hat"], x_hat)
    coder = vars(model.latent_codec)["_fastlic"].coder
    coder.settings.backend = "reference"
    assert model.compress(x)["strings"] == out["strings"]


@pytest.mark.parametrize("kind", FLOATS)
def test_codecs_without_integers_keep_their_floats_and_every_stream_is_checked(kind, made, fast):
    x = image()
    _, x_hat = plain(made(kind), x)
    model, report = fast(kind)
    assert "its latent codec is a _SideContext" in str(report) and "ModelMismatchError" in report.guarantee
    out = model.compress(x)
    torch.testing.assert_close(model.decompress(out["strings"], out["shape"])["x_hat"], x_hat)
    with torch.no_grad():
        model.latent_codec.h_s.h_scale_s[-1].weight.mul_(1.02)
    with pytest.raises(ModelMismatchError):
        model.decompress(out["strings"], out["shape"])


def test_the_report_names_what_runs_around_a_codec(made, fast, branch):
    rows = {row.part: row for row in fast("slices", "compressai")[1].rows}
    assert rows["Gaussian latent codec"].replaced
    assert rows["Gaussian latent codec"].note == "behind _Refined's own compress, decompress"
    assert len(rows["Gaussian latent codec"].modules) == 3
    assert rows["bottleneck latent codec"].modules == ("latent_codec.z",)
    rows = {row.part: row for row in fast("contexts", "compressai")[1].rows}
    assert rows["checkerboard of many contexts"].replaced and rows["Gaussian latent codec"].note == ""
    nothing = made("slices")
    nothing.transform = nothing.__dict__["_modules"].pop("g_a")
    assert "no g_a" in str(branch.accelerate(nothing))


@pytest.mark.parametrize("format", ["native", "compressai"])
@pytest.mark.parametrize("kind", [*INTEGERS, *FLOATS])
def test_a_wrong_shape_is_refused_in_words(kind, format, fast):
    model, _ = fast(kind, format)
    out = model.compress(image(1, 64, 64))
    y, z = out["shape"]["y"], out["shape"]["z"]
    assert (tuple(y), tuple(z)) == ((24, 4, 4), (8, 1, 1))
    integers = format == "native" and kind in INTEGERS  # which read z's size alone
    sizes: list[Any] = [None, 7, (), (1, 1), (7, 1, 1), (8, 0, 1), (8, 1, 2), (8, 1.5, 1), (8, 40, 40), [8, [1], 1]]
    cases = [{"y": y, "z": own} for own in sizes] + [None, (1, 1), {"y": y}, {"z": z}, {"y": y, "hyper": (1, 1)}]
    if not integers:
        cases += [{"y": own, "z": z} for own in [None, 3, (4, 4), (24, 4, 8), (10**9, 4, 4), (20, 4, 4), (24, -4, 4)]]
    for shape in cases:
        with pytest.raises((ValueError, CorruptStreamError, ModelMismatchError), match=r".{20}"):
            model.decompress(out["strings"], shape)
    with pytest.raises(PixelLimitError):
        model.decompress(out["strings"], {"y": (24, 12000, 12000), "z": (8, 3000, 3000)})
    for strings in (None, [], out["strings"][:-1], [*out["strings"], out["strings"][0]], [None] * len(out["strings"])):
        with pytest.raises((ValueError, AssertionError, TypeError, ModelMismatchError)):
            model.decompress(strings, out["shape"])
    listed = {"y": list(y), "z": list(z)}  # as files of JSON have it
    assert model.decompress(out["strings"], listed)["x_hat"].shape[2:] == (64, 64)


def test_a_codec_that_has_hyper_parameters_in_its_contexts_is_not_taken_for_elics(made, branch):
    """Versions on the way to the branch have the same class do both, by an argument."""
    codec = made("groups").latent_codec.y
    codec.channel_context["y0"] = conv(14, 14)
    side = side_context(branch)._get_ctx_params

    class SideInContext(branch.ChannelGroupsLatentCodec):
        _get_ctx_params = side

    codec.__class__ = SideInContext
    with pytest.raises(ValueError, match="group 0"):
        branch.module("groups")._channel_groups(codec, 14)
    del codec.channel_context["y0"]
    SideInContext._get_ctx_params = lambda self, k, own, y: own if k == 0 else side(self, k, own, y)
    with pytest.raises(ValueError, match="reads the hyper latent's parameters too"):
        branch.module("groups")._channel_groups(codec, 14)


def test_which_earlier_groups_a_context_reads_is_tried_out(made, branch):
    groups = branch.module("groups")
    codec = made("groups").latent_codec.y
    assert groups.context_reads(codec, 2, 14) == list(range(14, 20))
    assert groups.params_of(codec, 2, 12, 14) == list(range(26))
    codec.merge_y = lambda *parts: torch.cat(parts[::-1], 1)
    codec.support_slices = [[], [0], [1, 0]]
    assert groups.context_reads(codec, 2, 2) == [*range(2, 8), *range(8, 18)]
    codec.merge_params = lambda made, side: torch.cat([side, made], 1)
    assert groups.params_of(codec, 1, 2, 3) == [2, 3, 4, 0, 1]
    slices = made("slices").latent_codec.y
    assert groups.context_reads(slices, 0, 4) == [0, 1, 2, 3]
    assert groups.context_reads(slices, 2, 4) == list(range(4 + GROUPS[0]))
    assert groups.params_of(slices, 2, 5, 4) == [0, 1, 2, 3, 4]
    codec._get_ctx_params = lambda k, side, y: y[k + 1]
    with pytest.raises(ValueError, match="cannot be tried out"):
        groups.context_reads(codec, 1, 2)


@pytest.mark.skipif(main_branch.REAL, reason="of 1.2.8 with parts of the branch")
def test_versions_on_the_way_to_the_branch_are_served_by_what_they_have():
    """The branch had z's codec and h_a in their new places before shapes had channels."""
    with main_branch.codecs(rebuilt=("HyperpriorLatentCodec",)) as found:
        model, x = model_of("board", found), image(1, 64, 64)
        theirs, x_hat = plain(model, x)
        assert theirs["shape"] == {"y": (24, 4, 4), "z": (1, 1)}
        for format in ("compressai", "native"):
            report = found.accelerate(model, format, calibration=[x[0]])
            ours = model.compress(x)
            assert ours["shape"] == theirs["shape"] and (ours["strings"] == theirs["strings"]) == (format != "native")
            assert model.decompress(ours["strings"], ours["shape"])["x_hat"].shape == x_hat.shape
        assert "board engine" in str(report)


class Staged(InStages, CompressionModel):
    """As the branch's STF: no g_a and no g_s, and a ``compress`` that calls stages one by one."""

    def __init__(self, codec: Any) -> None:
        super().__init__()
        for name, own in stages(24).items():
            setattr(self, name, own)
        self.latent_codec = codec

    def compress(self, x: Tensor) -> Any:
        return self.latent_codec.compress(self.analyse(x))

    def decompress(self, strings: Any, shape: Any) -> dict[str, Tensor]:
        y_hat = self.latent_codec.decompress(strings, shape)["y_hat"]
        return {"x_hat": self.synthesise(y_hat).clamp_(0, 1)}


class Halved(Staged):
    def analyse(self, x: Tensor) -> Tensor:
        return super().analyse(x) / 2


@torch.no_grad()
def staged(made: Any, cls: type = Staged) -> Any:
    torch.manual_seed(3)
    model = cls(made("heads").latent_codec).eval()
    model.layers[-1].layer.weight.mul_(30)
    return model


def test_channel_slices_between_stages_run_on_integers(made, branch, tmp_path):
    plain, x = staged(made), image(2, 64, 128)
    model, elsewhere = copy.deepcopy(plain), copy.deepcopy(plain)
    report = branch.accelerate(model, calibration=[image(1)[0]])
    assert "integers, 3 slices" in str(report) and "any machine that holds this conversion" in report.guarantee
    assert {row.part for row in report.replaced} >= {"entropy path", "transform g_a", "transform g_s"}
    report.save(tmp_path / "staged.safetensors")
    branch.accelerate(elsewhere, calibration=tmp_path / "staged.safetensors")
    with torch.no_grad():
        theirs = plain.compress(x)
        ours = model.compress(x)
        assert ours["shape"] == theirs["shape"] and sum(len(item) for part in ours["strings"] for item in part) > 300
        x_hat = plain.decompress(theirs["strings"], theirs["shape"])["x_hat"]
        again, there = (own.decompress(ours["strings"], ours["shape"])["x_hat"] for own in (model, elsewhere))
    assert torch.equal(again, there) and (again - x_hat).square().mean().sqrt() < 0.02
    for k in range(len(x)):
        alone = model.compress(x[k : k + 1])["strings"]
        assert [part[k : k + 1] for part in ours["strings"]] == alone


def test_integer_transforms_leave_stages_that_the_model_calls_itself_to_floats(made, branch):
    model = staged(made)
    report = branch.accelerate(model, calibration=[image(1, 64, 64)[0]], transforms="integer")
    for name in ("g_a", "g_s"):
        first = next(row for row in report.rows if row.part == f"transform {name}")
        assert "call its stages one by one" in first.note and first.by != "integers"
    assert "integers, 3 slices" in str(report) and "pixels" not in report.guarantee


def test_stages_that_a_model_runs_in_another_way_keep_their_floats(made, branch):
    model, x = staged(made, Halved), image(1, 64, 64)
    report = branch.accelerate(model, calibration=[image(1)[0]])
    (row,) = (row for row in report.left if row.part == "entropy path")
    assert "called in another way" in row.note and "ModelMismatchError" in report.guarantee
    with torch.no_grad():
        out = model.compress(x)
        assert model.decompress(out["strings"], out["shape"])["x_hat"].shape == x.shape


def test_h_a_is_converted_with_the_transforms(made, branch):
    model = made("slices")
    model.latent_codec.h_a = nn.Sequential(nn.Conv2d(24, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
    model.g_a = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU(), nn.Conv2d(8, 24, 5, 4, 2))
    report = branch.accelerate(model, transforms="integer", calibration=[image(1)[0]])
    served = {row.part: row for row in report.rows if row.part.startswith("transform")}
    assert served["transform latent_codec.h_a"].by == "integers"
    out = model.compress(image())
    assert model.decompress(out["strings"], out["shape"])["x_hat"].shape == image().shape
    model.g_a.insert(1, Whole())  # has no integer form: h_a alone then decides over bytes
    report = branch.accelerate(model, "compressai", transforms="integer", calibration=[image(1)[0]])
    assert "of latents by integers" in report.guarantee and "byte for byte" not in report.guarantee


def test_attention_to_a_dictionary_that_computes_something_else_keeps_its_floats(made, branch):
    class Other(ToDictionary):
        def forward(self, x: Tensor, dictionary: Tensor) -> Tensor:
            return 2 * super().forward(x, dictionary)

    model, x = made("dictionary"), image(1, 64, 64)
    model.latent_codec.y.channel_context["y1"].cross_attention.__class__ = Other
    report = branch.accelerate(model, calibration=[x[0]])
    (row,) = (row for row in report.left if row.part == "entropy path")
    assert "shared.1 is a Looked" in row.note and "ModelMismatchError" in report.guarantee


def test_another_dictionary_is_noticed(made, branch):
    model, x = made("dictionary"), image(1, 64, 64)
    branch.accelerate(model, calibration=[x[0]])
    model.compress(x)
    with torch.no_grad():
        provider = model.latent_codec.y.channel_context["y0"]._dictionary_provider
        provider(1)._base[3, 4] += 1
    with pytest.raises(ModelMismatchError, match="words"):
        model.compress(x)


@pytest.mark.parametrize("block", [Pooled, Mixing])
def test_transforms_of_the_branch_s_blocks_are_integers(block, made, branch):
    model, x = made("gaussian"), image(1, 64, 64)
    down = [nn.Conv2d(c, 8, 5, 2, 2) for c in (3, 8, 8)]
    model.g_a = nn.Sequential(*down, block(8), nn.ReLU(), nn.Conv2d(8, 24, 5, 2, 2)).eval()
    up = [nn.ConvTranspose2d(8, c, 5, 2, 2, 1) for c in (8, 8, 3)]
    model.g_s = nn.Sequential(block(24), nn.ConvTranspose2d(24, 8, 5, 2, 2, 1), block(8), *up).eval()
    with torch.no_grad():
        up[-1].bias.add_(0.5)
        y = model.g_a(x).round()
        picture = model.g_s(y).clamp(0, 1)
    report = branch.accelerate(model, transforms="integer", calibration=[image(1)[0], x[0]])
    served = {row.part: row.by for row in report.rows if row.part.startswith("transform")}
    assert served["transform g_a"] == served["transform g_s"] == "integers"
    with torch.no_grad():
        assert (model.g_s(y) - picture).square().mean() < 1e-4 < picture.var()
        out = model.compress(x)
        assert torch.equal(model.decompress(out["strings"], out["shape"])["x_hat"], model.g_s(out["y_hat"]))


# ---- the real thing


_SMALL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "wacnn": ("stf", "WACNN", dict(N=16, M=32, num_slices=4, max_support_slices=2)),
    "stf": (
        "stf",
        "SymmetricalTransFormer",
        dict(embed_dim=8, num_heads=[1, 2, 2, 4], depths=[1, 1, 2, 1], num_slices=4),
    ),
    "tcm": ("tcm", "TCM", dict(N=16, M=40, hyper_channels=16, config=[1] * 6, head_dim=[8] * 6, hyper_head_dim=8)),
    "cca": ("cca", "CCAModel", dict(latent_channels=32, hyper_channels=16, slice_proportions=(1, 2, 5))),
    "dcae": (
        "dcae",
        "DCAE",
        dict(N=16, M=40, hyper_channels=16, head_dim=[8] * 6, hyper_head_dim=8, block_num=(1, 1, 1)),
    ),
    "saaf": (
        "saaf",
        "SAAF",
        dict(N=16, M=40, hyper_channels=16, head_dim=[8] * 6, hyper_head_dim=8, block_num=(1, 1, 1)),
    ),
    "mlic": ("mlic", "MLIC", dict(N=16, M=64, slice_num=2)),
    "mlic+": ("mlic", "MLICPlus", dict(N=16, M=64, slice_num=2)),
    "mlic++": ("mlic", "MLICPlusPlus", dict(N=16, M=64, slice_num=2)),
    "mlicv2": ("mlic", "MLICv2", dict(N=16, M=32, slice_num=4)),
    "elic": ("sensetime", "Elic2022Official", dict(N=16, M=32, groups=[4, 4, 8, 16])),
    "elic-chandelier": ("sensetime", "Elic2022Chandelier", dict(N=16, M=32, groups=[4, 4, 8, 16])),
    "checkerboard": ("sensetime", "Cheng2020AnchorCheckerboard", dict(N=16)),
}
_ON_INTEGERS = {
    **dict.fromkeys(("elic", "elic-chandelier", "checkerboard"), "board engine"),
    **{variant: f"integers, 2 slices of {variant.upper()}" for variant in many_contexts.VARIANTS},
}


@pytest.mark.skipif(not main_branch.REAL, reason="CompressAI's main branch is not what is imported")
@pytest.mark.parametrize("name", _SMALL)
def test_models_of_the_branch_are_served_in_both_formats(name, branch):
    module, cls, arguments = _SMALL[name]
    torch.manual_seed(0)
    model = getattr(importlib.import_module(f"compressai.models.{module}"), cls)(**arguments).eval()
    with torch.no_grad():
        for key, own in model.named_parameters():
            if key.endswith("step_bias"):  # MLICv2 leaves out the symbols that a network says are sure
                own[:, ::2] += 8
            elif own.dim() > 1 and key.startswith("latent_codec.y"):
                own.mul_(1.4)  # far from constant, and far from where CompressAI's coder writes beyond its buffer
    model.update()
    x = image(2, 128, 64)
    theirs, x_hat = plain(model, x)
    fast = copy.deepcopy(model)
    branch.accelerate(fast, "compressai")
    ours = fast.compress(x)
    assert ours["strings"] == theirs["strings"] and ours["shape"] == theirs["shape"]
    again = fast.decompress(ours["strings"], ours["shape"])["x_hat"]
    torch.testing.assert_close(again, x_hat, atol=1e-5, rtol=0)
    report = branch.accelerate(fast, "native", calibration=[image(1)[0]])
    assert _ON_INTEGERS.get(name, "") in str(report)
    assert ("board engine" in str(report)) == (_ON_INTEGERS.get(name) == "board engine")
    ours = fast.compress(x)
    again = fast.decompress(ours["strings"], ours["shape"])["x_hat"]
    assert ours["shape"] == theirs["shape"] and again.shape == x.shape
    if name not in _ON_INTEGERS:
        far = 0.05 if "entropy path" in {row.part for row in report.replaced} else 1e-5
        # Of slices some symbols are others, and where windows do not fill maps the integers fill them otherwise.
        assert ((again - x_hat).abs() > far).float().mean() < (0.02 if far > 1e-5 else 1e-9)


@pytest.mark.skipif("FASTLIC_COMPRESSAI_MAIN" not in os.environ, reason="FASTLIC_COMPRESSAI_MAIN names no checkout")
@pytest.mark.skipif(main_branch.REAL, reason="these are the tests on the checkout")
def test_all_of_this_holds_on_a_checkout_of_the_branch():
    folder = Path(os.environ["FASTLIC_COMPRESSAI_MAIN"])
    assert (folder / "compressai").is_dir(), f"{folder} holds no compressai"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout[-5000:] + done.stderr[-2000:]
