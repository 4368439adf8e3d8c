"""format="native": fastlic's own streams in the strings of every image model."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import fastlic
from fastlic.errors import CorruptStreamError, ModelMismatchError, PixelLimitError
from fastlic.ops.backends import torch_threads

from .conftest import BUILDERS, build, compressai_models, image, spread

INTEGER = ("bmshj2018-hyperprior", "mbt2018-mean", "mbt2018", "cheng2020-anchor", "cheng2020-attn")
GROUPS = ("cheng2020-anchor-checkerboard", "elic2022-official", "elic2022-chandelier")  # more in test_groups.py


def size(out) -> int:
    return sum(len(item) for part in out["strings"] for item in part)


@pytest.mark.parametrize("name", BUILDERS)
def test_round_trip_has_the_shapes_of_plain_compressai_and_its_picture(name, native, model_of):
    plain, x = model_of(name), image()
    with torch.no_grad():
        theirs = plain.compress(x)
        x_hat = plain.decompress(theirs["strings"], theirs["shape"])["x_hat"]
    model = native(name)
    ours = model.compress(x)
    assert ours["shape"] == theirs["shape"]
    assert [[type(item) for item in part] for part in ours["strings"]] == [
        [type(item) for item in part] for part in theirs["strings"]
    ]
    back = model.decompress(ours["strings"], ours["shape"])["x_hat"]
    assert back.shape == x_hat.shape
    # Latents that the integer path quantises about other means differ by up to a half, here as there around y.
    assert float((back - x_hat).abs().mean()) < 0.02
    assert size(ours) < 1.05 * size(theirs) + 20 * len(ours["strings"])


@pytest.mark.parametrize("name", [*INTEGER, *GROUPS])
def test_which_models_run_on_integers(name, converted):
    report = converted(name)[1]
    assert any("integers" in row.by for row in report.replaced)
    assert "any machine" in report.guarantee


@pytest.mark.parametrize("name", INTEGER)
def test_streams_do_not_depend_on_threads_backend_or_batch(name, native):
    model, x = native(name), image(3)
    ours = model.compress(x)
    with torch_threads(3):
        assert model.decompress(ours["strings"], ours["shape"])["x_hat"].shape == x.shape
    coder = vars(model)["_fastlic"].coder
    with torch.no_grad():
        y = model.g_a(x)
        z = model.h_a(y.abs() if name == "bmshj2018-hyperprior" else y)
    fast = coder.encode(y, z)
    alone = [coder.encode(y[i : i + 1], z[i : i + 1]) for i in range(3)]
    assert fast[0] == [a[0][0] for a in alone] and fast[1] == [a[1][0] for a in alone]
    coder.settings.backend = "reference"
    slow = coder.encode(y, z)
    assert slow[:2] == fast[:2]
    assert torch.equal(slow[2], fast[2])
    assert torch.equal(coder.decode(*fast[:2], *z.shape[2:]), fast[2])


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018", *GROUPS])
def test_every_damaged_byte_is_reported(name, native):
    model = native(name)
    out = model.compress(image(1, 64, 64))
    rng = np.random.default_rng(0)
    for part, (stream,) in enumerate(out["strings"]):
        cases = [b"", stream[:6], stream[:-1], stream + b"\0"]
        for position in [*range(8), *rng.integers(8, max(len(stream), 9), 4)]:
            if position < len(stream):
                flipped = bytearray(stream)
                flipped[position] ^= 1 << int(rng.integers(8))
                cases.append(bytes(flipped))
        for damaged in cases:
            strings = [list(items) for items in out["strings"]]
            strings[part] = [damaged]
            with pytest.raises((CorruptStreamError, ModelMismatchError)):
                model.decompress(strings, out["shape"])


@pytest.mark.parametrize("name", ["bmshj2018-factorized", *INTEGER[:3], *GROUPS])
def test_streams_of_other_weights_are_named_as_such(name, native):
    model = native(name)
    out = model.compress(image(1, 64, 64))
    other = build(name)
    with torch.no_grad():
        for module in other.modules():
            if type(module).__name__.startswith("EntropyBottleneck"):
                module.quantiles[:, :, 1] += 0.3
                for parameter in module.parameters():
                    if parameter is not module.quantiles:
                        parameter.mul_(1.3)
        other.update(force=True)
    fastlic.accelerate(other, "native", calibration=[image(1)[0]])
    with pytest.raises(ModelMismatchError):
        other.decompress(out["strings"], out["shape"])


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018-mean", "elic2022-official"])
def test_streams_of_plain_compressai_are_named_as_such(name, native, model_of):
    with torch.no_grad():
        out = model_of(name).compress(image(1, 64, 64))
    with pytest.raises(CorruptStreamError, match="plain CompressAI"):
        native(name).decompress(out["strings"], out["shape"])


def test_parameters_that_came_out_differently_are_an_error_and_never_garbage():
    model = build("mbt2018-mean")
    model.h_s.append(torch.nn.Softplus(50))  # which has no integer form
    assert any("no integer form" in row.note for row in fastlic.accelerate(model).rows)
    out = model.compress(image(1, 64, 64))
    with torch.no_grad():
        for parameter in model.h_s.parameters():
            parameter.mul_(1.01)  # as if another kernel had rounded otherwise
    with pytest.raises(ModelMismatchError, match="floating point"):
        model.decompress(out["strings"], out["shape"])


@pytest.mark.parametrize(
    ("name", "part"),
    [("mbt2018", "h_s.0"), ("elic2022-chandelier", "latent_codec.y.latent_codec.y3.entropy_parameters.0")],
)
def test_a_saved_conversion_decodes_elsewhere(name, part, converted, model_of, tmp_path):
    model, report = converted(name)
    out = model.compress(image())
    report.save(tmp_path / "saved.safetensors")
    elsewhere = model_of(name)
    fastlic.accelerate(elsewhere, calibration=[torch.rand(3, 64, 64)])
    with pytest.raises(ModelMismatchError, match=r"report\.save"):
        elsewhere.decompress(out["strings"], out["shape"])
    fastlic.accelerate(elsewhere, calibration=tmp_path / "saved.safetensors")
    x_hat = elsewhere.decompress(out["strings"], out["shape"])["x_hat"]
    assert torch.equal(x_hat, model.decompress(out["strings"], out["shape"])["x_hat"])
    another = model_of(name)
    another.get_submodule(part).weight.data *= 1.5
    with pytest.raises(ModelMismatchError, match="other weights"):
        fastlic.accelerate(another, calibration=tmp_path / "saved.safetensors")


def test_a_report_without_integers_is_not_saved(model_of, tmp_path):
    with pytest.raises(ValueError, match="no integer conversion"):
        fastlic.accelerate(model_of("bmshj2018-factorized")).save(tmp_path / "none")


def test_weights_changed_after_conversion_are_noticed(native):
    model, x = native("mbt2018-mean"), image(1, 64, 64)
    model.compress(x)
    model.half().float()
    model.compress(x)  # another precision of the same weights is no change
    model.h_s[2].weight.data *= 1.2
    model.h_s[2].bias.data.add_(0)
    state = model.state_dict()
    model.load_state_dict(state)
    with pytest.raises(ModelMismatchError, match="call it again"):
        model.compress(x)


@pytest.mark.parametrize("name", ["mbt2018", "bmshj2018-factorized", "elic2022-chandelier"])
def test_latents_that_are_not_finite_are_an_error(name, native):
    x = image(1, 64, 64)
    x[0, 0, 5, 5] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        native(name).compress(x)


def test_more_than_256_channels_are_coded_in_parts():
    torch.manual_seed(0)
    model = compressai_models.FactorizedPrior(8, 320).eval()
    x = image(2)
    with torch.no_grad():
        spread(model.g_a, lambda: model.g_a(x), 4.0)
        model.update(force=True)
        theirs = model.compress(x)
        x_hat = model.decompress(theirs["strings"], theirs["shape"])["x_hat"]
    for backend in ("auto", "reference"):
        fastlic.accelerate(model, backend=backend)
        ours = model.compress(x)
        decoded = model.decompress(ours["strings"], ours["shape"])["x_hat"]
        torch.testing.assert_close(decoded, x_hat, rtol=0, atol=1e-4)
    with pytest.raises(CorruptStreamError):
        model.decompress([[ours["strings"][0][0][:40], ours["strings"][0][1]]], ours["shape"])


@pytest.mark.parametrize("name", ["mbt2018", "elic2022-official"])
def test_hostile_shapes_and_missing_strings_are_refused_before_memory_is_reserved(name, native):
    model = native(name)
    out = model.compress(image(1, 64, 64))

    def decompress(shape):
        model.decompress(out["strings"], {**out["shape"], "hyper": shape} if isinstance(out["shape"], dict) else shape)

    for shape, error in [((10**6, 10**6), PixelLimitError), ((0, 1), ValueError), ((-1, 4), ValueError)]:
        with pytest.raises(error):
            decompress(shape)
    for shape in [(2, 1), (40, 40)]:
        with pytest.raises(CorruptStreamError):
            decompress(shape)
    with pytest.raises(ValueError, match="lists of bytes"):
        model.decompress(out["strings"][1:], out["shape"])


def test_images_that_need_padding_are_told_so(native):
    with pytest.raises(ValueError, match="multiples of 64"):
        native("mbt2018").compress(image(1, 64, 96))


@pytest.mark.parametrize("name", BUILDERS)
def test_models_in_half_precision_code_even_where_plain_compressai_cannot(name, native):
    """Raster loops, channel groups and vbr models of CompressAI mix precisions and fail; integers have none."""
    model, x = native(name), image(1, 64, 64)
    half = copy.deepcopy(model).half()
    out = half.compress(x.half())
    x_hat = half.decompress(out["strings"], out["shape"])["x_hat"]
    assert x_hat.dtype == torch.float16
    if name.startswith("bmshj2018-factorized"):
        return  # the medians themselves are rounded
    # A string of the one decodes with the other: both hold the same conversion.
    whole = model.decompress(out["strings"], out["shape"])["x_hat"]
    torch.testing.assert_close(x_hat.float(), whole, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ["mbt2018", "bmshj2018-factorized"])
def test_double_and_channels_last_models(name, native):
    model = native(name).double()
    out = model.compress(image(1, 64, 64).double())
    assert model.decompress(out["strings"], out["shape"])["x_hat"].dtype == torch.float64
    model = native(name).to(memory_format=torch.channels_last)
    out = model.compress(image(1, 64, 64).contiguous(memory_format=torch.channels_last))
    assert model.decompress(out["strings"], out["shape"])["x_hat"].dtype == torch.float32


def test_a_users_own_raster_codec_runs_on_integers():
    from .test_accelerate import own_raster_model

    model, x = own_raster_model(), image()
    report = fastlic.accelerate(model, calibration=[x[0]])
    assert "wavefront" in str(report)
    out = model.compress(x)
    assert set(out) == {"strings", "shape", "y_hat"}
    x_hat = model.decompress(out["strings"], out["shape"])["x_hat"]
    with torch.no_grad():
        assert torch.equal(x_hat, model.g_s(out["y_hat"]).clamp(0, 1))


def test_why_a_model_stays_with_floats_is_said():
    from .test_accelerate import own_raster_model

    model = own_raster_model()
    model.latent_codec["hyper"].h_s = torch.nn.ConvTranspose2d(8, 16, 4, 4)
    report = fastlic.accelerate(model)
    assert any("no integer form" in row.note and "ConvTranspose2d" in row.note for row in report.left)
    out = model.compress(image())
    assert model.decompress(out["strings"], out["shape"])["x_hat"].shape == image().shape


@pytest.mark.gpu
@pytest.mark.parametrize("name", BUILDERS)
def test_models_on_a_gpu(name, native):
    model = native(name).cuda()
    out = model.compress(image().cuda())
    x_hat = model.decompress(out["strings"], out["shape"])["x_hat"]
    assert x_hat.is_cuda
    if name in INTEGER:
        on_cpu = model.cpu().decompress(out["strings"], out["shape"])["x_hat"]
        torch.testing.assert_close(x_hat.cpu(), on_cpu, rtol=1e-3, atol=1e-3)
