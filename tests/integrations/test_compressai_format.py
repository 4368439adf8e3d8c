"""format="compressai": the bytes of plain CompressAI, both ways, for every one of its image models."""

from __future__ import annotations

import copy

import pytest
import torch

import fastlic
from fastlic.errors import CorruptStreamError

from .conftest import BUILDERS, RASTER, image

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def plain(model, x):
    with torch.no_grad():
        out = model.compress(x)
        return out, model.decompress(out["strings"], out["shape"])["x_hat"]


@pytest.mark.parametrize("name", BUILDERS)
def test_streams_are_those_of_plain_compressai_in_both_directions(name, model_of):
    model, x = model_of(name), image()
    theirs, x_hat = plain(model, x)
    size = sum(len(item) for part in theirs["strings"] for item in part)
    assert size > 300, "a stream of next to nothing proves nothing"
    fastlic.accelerate(model, "compressai")
    ours = model.compress(x)
    assert ours["strings"] == theirs["strings"]
    assert ours["shape"] == theirs["shape"]
    torch.testing.assert_close(model.decompress(theirs["strings"], theirs["shape"])["x_hat"], x_hat)
    fastlic.restore(model)
    with torch.no_grad():
        assert torch.equal(model.decompress(ours["strings"], ours["shape"])["x_hat"], x_hat)


@pytest.mark.parametrize("level", [0, 3, 7])
@pytest.mark.parametrize("name", [name for name in BUILDERS if name.endswith("vbr")])
def test_variable_rate_models_agree_at_every_level_and_stage(name, level, model_of):
    model, x = model_of(name), image(1, 64, 64)
    for arguments in ({"s": level}, {"stage": 1}, {"inputscale": torch.tensor(0.4)}):
        fastlic.restore(model)
        with torch.no_grad():
            theirs = model.compress(x, **arguments)
            x_hat = model.decompress(theirs["strings"], theirs["shape"], **arguments)["x_hat"]
        fastlic.accelerate(model, "compressai")
        assert model.compress(x, **arguments)["strings"] == theirs["strings"]
        again = model.decompress(theirs["strings"], theirs["shape"], **arguments)["x_hat"]
        torch.testing.assert_close(again, x_hat)


@pytest.mark.parametrize("offsets", [True, False])
def test_mbt2018_vbr_without_offsets_and_with_them(offsets, model_of):
    model, x = model_of("mbt2018-vbr"), image(1, 64, 64)
    model.no_quantoffset = not offsets
    model.scl2ctx = offsets
    theirs, x_hat = plain(model, x)
    fastlic.accelerate(model, "compressai")
    assert model.compress(x)["strings"] == theirs["strings"]
    torch.testing.assert_close(model.decompress(theirs["strings"], theirs["shape"])["x_hat"], x_hat)


@pytest.mark.parametrize("name", ["mbt2018-mean", "cheng2020-anchor-checkerboard", "mbt2018"])
def test_the_plain_python_coder_gives_the_same_bytes(name, model_of):
    model, x = model_of(name), image(1, 64, 64)
    fastlic.accelerate(model, "compressai")
    fast = model.compress(x)
    fastlic.accelerate(model, "compressai", backend="reference")
    slow = model.compress(x)
    assert fast["strings"] == slow["strings"]
    x_hat = model.decompress(slow["strings"], slow["shape"])["x_hat"]
    fastlic.accelerate(model, "compressai")
    assert torch.equal(model.decompress(fast["strings"], fast["shape"])["x_hat"], x_hat)


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018-mean", "mbt2018", "cheng2020-anchor-checkerboard"])
def test_damaged_streams_are_errors(name, model_of):
    model = model_of(name)
    fastlic.accelerate(model, "compressai")
    out = model.compress(image(1, 64, 64))
    for part, (stream,) in enumerate(out["strings"]):
        if len(stream) < 16:
            continue
        for damaged in (b"", stream[:-4], stream[:7], stream + b"\0\0\0\0"):
            strings = [list(items) for items in out["strings"]]
            strings[part] = [damaged]
            with pytest.raises(CorruptStreamError):
                model.decompress(strings, out["shape"])


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018-mean", "mbt2018", "elic2022-official"])
def test_latents_that_are_not_finite_are_an_error_and_never_a_hang(name, model_of):
    model = model_of(name)
    fastlic.accelerate(model, "compressai")
    for value in (float("nan"), float("inf")):
        x = image(1, 64, 64)
        x[0, 0, 5, 5] = value
        with pytest.raises(ValueError, match="not finite"):
            model.compress(x)


def test_entropy_models_code_single_symbols_and_none_at_all(model_of):
    model = model_of("mbt2018-mean")
    fastlic.accelerate(model, "compressai")
    gaussian = model.gaussian_conditional
    for shape in ((1, 1), (3, 1), (2, 0), (0, 4), (1, 1, 1, 1)):
        values = torch.full(shape, 2.3)
        indexes = gaussian.build_indexes(torch.full(shape, 1.5))
        strings = gaussian.compress(values, indexes)
        assert len(strings) == shape[0]
        assert torch.equal(gaussian.decompress(strings, indexes), torch.round(values))


def test_symbols_that_make_compressai_loop_forever_survive(model_of):
    gaussian = model_of("mbt2018-mean").gaussian_conditional
    fastlic.accelerate(gaussian, "compressai")
    values = torch.tensor([[2.0**28, -(2.0**30), 5.0]])
    indexes = torch.zeros(1, 3, dtype=torch.int32)
    assert torch.equal(gaussian.decompress(gaussian.compress(values, indexes), indexes), values)


def test_scale_indexes_equal_those_of_63_comparisons(model_of):
    gaussian = model_of("mbt2018-mean").gaussian_conditional
    table = gaussian.scale_table
    special = torch.tensor([0.0, -1.0, 0.05, 0.11, 256.0, 1e9, float("inf"), float("nan")])
    scales = torch.cat([table, torch.nextafter(table, table + 1), torch.nextafter(table, table - 1), special])
    scales = torch.cat([scales, torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 300]).reshape(1, -1)
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        expected = gaussian.build_indexes(scales.to(dtype))
        with fastlic.accelerated(gaussian, "compressai"):
            found = gaussian.build_indexes(scales.to(dtype))
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


def test_new_tables_are_noticed(model_of):
    model, x = model_of("mbt2018-mean"), image(1, 64, 64)
    fastlic.accelerate(model, "compressai")
    first = model.compress(x)["strings"]
    model.update(scale_table=torch.tensor([0.5, 2.0, 8.0]), force=True)
    second = model.compress(x)["strings"]
    fastlic.restore(model)
    assert second == model.compress(x)["strings"] != first
    state = {name: value.clone() for name, value in model.state_dict().items()}
    fastlic.accelerate(model, "compressai")
    model.compress(x)
    state["gaussian_conditional._offset"] += 1  # written in place by load_state_dict
    model.load_state_dict(state)
    third = model.compress(x)["strings"]
    fastlic.restore(model)
    assert third == model.compress(x)["strings"] != second


@pytest.mark.parametrize("name", ["bmshj2018-hyperprior", "mbt2018-mean", "bmshj2018-factorized"])
def test_half_precision_and_channels_last_models(name, model_of):
    for change in (lambda m: m.half(), lambda m: m.to(memory_format=torch.channels_last), lambda m: m.double()):
        model = change(model_of(name))
        x = image().to(next(model.parameters()).dtype)
        theirs, x_hat = plain(model, x)
        fastlic.accelerate(model, "compressai")
        assert model.compress(x)["strings"] == theirs["strings"]
        torch.testing.assert_close(model.decompress(theirs["strings"], theirs["shape"])["x_hat"], x_hat)


@pytest.mark.gpu
@pytest.mark.parametrize("name", BUILDERS)
def test_models_on_a_gpu(name, model_of):
    model, x = model_of(name).cuda(), image().cuda()
    torch.backends.cudnn.deterministic = True
    theirs, x_hat = plain(model, x)
    fastlic.accelerate(model, "compressai")
    ours = model.compress(x)
    assert [len(part) for part in ours["strings"]] == [len(part) for part in theirs["strings"]]
    if name not in RASTER:
        assert ours["strings"] == theirs["strings"]
    torch.testing.assert_close(model.decompress(**{k: ours[k] for k in ("strings", "shape")})["x_hat"], x_hat)


def test_images_padded_by_the_user_come_back(model_of):
    from compressai.ops import compute_padding

    model = model_of("mbt2018-mean")
    x = image(1, 72, 104)
    pad, unpad = compute_padding(72, 104, min_div=2**6)
    fastlic.accelerate(model, "compressai")
    out = model.compress(torch.nn.functional.pad(x, pad))
    x_hat = torch.nn.functional.pad(model.decompress(out["strings"], out["shape"])["x_hat"], unpad)
    assert x_hat.shape == x.shape


@pytest.mark.parametrize("name", BUILDERS)
def test_models_in_half_precision_do_what_plain_compressai_does(name, model_of):
    """The same strings and pictures, or the same error: its raster loops, groups and vbr models mix precisions."""
    x = image(1, 64, 64).half()

    def outcome(model):
        try:
            out = model.compress(x)
            return out["strings"], model.decompress(out["strings"], out["shape"])["x_hat"]
        except RuntimeError as error:
            return str(error), torch.zeros(0, dtype=torch.float16)

    plain = model_of(name).half()
    with torch.no_grad():
        theirs = outcome(plain)
    ours = model_of(name)
    fastlic.accelerate(ours, "compressai")
    coded = outcome(ours.half())
    assert coded[0] == theirs[0]
    assert coded[1].dtype == torch.float16 and torch.equal(coded[1], theirs[1])


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("mbt2018-mean", "gaussian_conditional"),
        ("mbt2018", "gaussian_conditional"),
        ("mbt2018", "entropy_bottleneck"),
        ("elic2022-chandelier", "latent_codec.hyper.entropy_bottleneck"),
    ],
)
def test_coders_of_another_precision_are_left_alone_and_the_report_says_so(name, path, model_of):
    plain = model_of(name)
    plain.get_submodule(path).entropy_coder_precision = 12
    plain.update(force=True)
    model, x = copy.deepcopy(plain), image(1, 64, 64)
    report = fastlic.accelerate(model, "compressai")
    said = f"entropy_coder_precision of {path} is 12; the array coder has 16"
    assert said in {row.note for row in report.left} and report.replaced
    expected, coded = plain.compress(x), model.compress(x)
    assert coded["strings"] == expected["strings"]
    pixels = plain.decompress(coded["strings"], coded["shape"])["x_hat"]
    decoded = model.decompress(coded["strings"], coded["shape"])["x_hat"]
    torch.testing.assert_close(decoded, pixels, rtol=0, atol=1e-4)
    fastlic.accelerate(model, calibration=[x[0]])  # native tables are of any precision
    coded = model.compress(x)
    assert model.decompress(coded["strings"], coded["shape"])["x_hat"].shape == x.shape


def test_a_model_whose_coders_all_have_another_precision_is_refused_with_that_reason():
    from compressai.entropy_models import EntropyBottleneck

    with pytest.raises(TypeError, match=r"serve \(entropy bottleneck: .* is 12; .*\): it is left as it was"):
        fastlic.accelerate(EntropyBottleneck(4, entropy_coder_precision=12), "compressai")
