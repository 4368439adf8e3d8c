"""Networks of integers: every step as its formula says, proven bounds, whole in storage, close to the float modules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlic.integers.conversion import (
    LATENT_UNIT,
    PIXEL_UNIT,
    WINOGRAD,
    Precision,
    calibrated,
    convert,
    norm_step,
    sum_step,
)
from fastlic.integers.fixed import Requantiser, largest
from fastlic.integers.functions import Curve, Curves
from fastlic.integers.graph import TRACES, Graph, Norm
from fastlic.integers.layer import HALVED, TRANSPOSED, Layer, phases, window
from fastlic.integers.network import CurveStep, GateStep, LayerStep, Network, NormStep, SumStep
from fastlic.integers.rounding import second_moments
from fastlic.integers.transforms import Gains, IntegerTransforms, convert_transforms
from fastlic.models import JAHP, ScaleHyperprior
from fastlic.models.layers import GDN, conv, deconv
from fastlic.models.mcquic import layers as mcquic
from fastlic.models.mlic import transforms as mlic

from .made_networks import chain

CURVES = Curves({curve: curve.tail() for curve in Curve})
C = 8


def maps(shape: tuple[int, ...], bits: int, seed: int) -> torch.Tensor:
    limit = largest(bits)
    return torch.randint(-limit, limit + 1, shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- steps by their formulas, in Python's integers


def tail_of(curve: Curve, magnitude: int, exponent: int) -> int:
    """As the definition words it: saturate, shift into units of 2^-12 or 2^-11, then along the line."""
    reach = {Curve.GELU: 4, Curve.SILU: 8}[curve]
    m, fine_bits = min(magnitude, reach << exponent), {Curve.GELU: 12, Curve.SILU: 11}[curve]
    fine = m << (fine_bits - exponent) if exponent <= fine_bits else m >> (exponent - fine_bits)
    line, part = divmod(min(fine, (1 << 14) - 1), 256)
    start, end = (int(v) for v in curve.tail()[line : line + 2])
    return start - (((start - end) * (part << 7) + (1 << 14)) >> 15)


@pytest.mark.parametrize("curve", Curve)
def test_curves_of_fourteen_bits_follow_their_lines(curve):
    x = maps((60, 1, 16), 14, 1)
    x[:3] = torch.tensor([0, 8191, -8191])[:, None, None]
    exponents = np.arange(16, dtype=np.uint8)
    got = CURVES.activate(curve, x, exponents)
    for row, out in zip(x[:, 0].tolist(), got[:, 0].tolist(), strict=True):
        for exponent, (value, of) in enumerate(zip(row, out, strict=True)):
            share = (abs(value) * tail_of(curve, abs(value), exponent) + (1 << 14)) >> 15
            assert of == max(value, 0) - share


@pytest.mark.parametrize("curve", Curve)
@pytest.mark.parametrize("exponent", range(16))
def test_curves_are_right_to_their_lines(curve, exponent):
    a = torch.arange(-8191, 8192)[:, None]
    got = CURVES.activate(curve, a, np.array([exponent], np.uint8))[:, 0].double()
    real = a[:, 0].double() * 2.0**-exponent
    want = torch.nn.functional.gelu(real) if curve is Curve.GELU else torch.nn.functional.silu(real)
    # Lines leave GELU's tail by 1.3e-4 and SiLU's by 1.9e-4; beyond 8 the logistic function stays at its last line.
    off = {Curve.GELU: 1.5e-4, Curve.SILU: 3.6e-4}[curve]
    assert ((got - want * 2.0**exponent).abs() / (1 + off * a[:, 0].abs())).max() < 1


def test_gates_multiply_by_the_logistic_function_of_the_other_value():
    a, b = maps((16, 5, 6), 14, 2), maps((16, 5, 6), 14, 3)
    exponents = np.arange(16, dtype=np.uint8)
    got = GateStep(exponents)(CURVES, a, b)
    for x, by, c, out in zip(
        a.flatten().tolist(), b.flatten().tolist(), np.arange(16).repeat(30), got.flatten(), strict=True
    ):
        small = (x * tail_of(Curve.SILU, abs(by), int(c)) + (1 << 14)) >> 15
        assert int(out) == (x - small if by >= 0 else small)
    want = a.double() * torch.sigmoid(b.double() * 2.0 ** -torch.arange(16.0)[:, None, None])
    assert ((got - want).abs() / (1 + 3.6e-4 * a.abs())).max() < 1


def made_norm(inverse: bool, input_bits: int = 14, bits: int = 14) -> tuple[NormStep, Norm, np.ndarray, np.ndarray]:
    gamma = normal(C, C, seed=4).abs() * 0.05 + 0.1 * torch.eye(C)
    norm = Norm(torch.rand(C, generator=torch.Generator().manual_seed(5)) + 0.1, gamma, inverse)
    inputs = np.linspace(2.0, 9.0, C) / largest(input_bits)
    outputs = np.linspace(40.0, 60.0, C) / largest(bits) if inverse else np.full(C, 9.0 / largest(bits))
    return norm_step(norm, inputs, outputs, input_bits, bits), norm, inputs, outputs


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("input_bits", [9, 13, 14, 16])
def test_norms_are_their_formula_one_rounded_operation_at_a_time(inverse, input_bits):
    step, *_ = made_norm(inverse, input_bits, 13)
    x = maps((C, 3, 4), input_bits, 6)
    got = step(CURVES, x)
    drop = 2 * input_bits - 17
    squares = (x.numpy().astype(object) ** 2 + (1 << (drop - 1))) // (1 << drop)
    assert squares.max() <= 32767
    norms = np.tensordot(step.gamma.astype(object), squares, 1) + step.beta.astype(object)[:, None, None]
    assert norms.max() <= 2**31 - 1 and np.array_equal(norms, step.norms(x).numpy())
    root = np.sqrt(norms.astype(np.float64).astype(np.float32))
    values = x.numpy().astype(np.float32)
    values = values * root if inverse else values / root
    factor = step.multiplier.astype(np.float32) * np.float32(2.0) ** -step.shift.astype(np.float32)
    values = values * factor[:, None, None]
    assert values.dtype == np.float32
    assert np.array_equal(np.rint(values.clip(-4095, 4095)), got.numpy())


@pytest.mark.parametrize("inverse", [False, True])
def test_norms_stay_close_to_the_float_ones(inverse):
    step, norm, inputs, outputs = made_norm(inverse)
    x = maps((C, 20, 20), 14, 7)
    real = x.double() * torch.from_numpy(inputs)[:, None, None]
    exact = Norm(norm.beta.double(), norm.gamma.double(), inverse)(real[None])[0]
    got = step(CURVES, x).double() * torch.from_numpy(outputs)[:, None, None]
    # A unit of the output, and what gamma's 15 bits and the squares' leave: half a step of 2^-15 of the largest.
    bound = torch.from_numpy(outputs)[:, None, None] + exact.abs() * 2.0**-12
    assert ((got - exact).abs() <= bound).all()


def test_sums_are_their_formula():
    step = sum_step(np.linspace(0.5, 2, C), np.linspace(3, 0.1, C), np.full(C, 2.5), 14, 13)
    a, b = maps((C, 4, 5), 14, 8), maps((C, 4, 5), 14, 9)
    left, right = (f.astype(object)[:, None, None] for f in (step.left, step.right))
    want = (a.numpy().astype(object) * left + b.numpy().astype(object) * right + 2 ** (step.shift - 1)) >> step.shift
    assert np.array_equal(step(CURVES, a, b).numpy(), want.clip(-4095, 4095).astype(np.int64))
    units = torch.from_numpy(np.linspace(0.5, 2, C)), torch.from_numpy(np.linspace(3, 0.1, C))
    real = sum(v.double() * u[:, None, None] for v, u in zip((a, b), units, strict=True)) / 2.5
    assert (step(CURVES, a, b) - real.clamp(-4095, 4095)).abs().max() < 1.5


def test_reflected_layers_repeat_what_lies_inside():
    torch.manual_seed(1)
    module = mcquic.Conv3(C, C, 2)
    layer = Layer.from_float(
        module.weight, module.bias, np.full(C, 2.0**-9), np.full(C, 2.0**-9), kind=HALVED, reflect=True
    )
    x = maps((C, 7, 10), 12, 10)
    plain = replace(layer, reflect=False, kind=HALVED)
    padded = torch.nn.functional.pad(x.double(), (1, 1, 1, 1), mode="reflect").long()
    # A frame more, so that the plain layer pads nothing that counts: its outputs begin one pair later.
    framed = torch.nn.functional.pad(padded, (1, 1, 1, 1))
    assert torch.equal(layer.accumulate(x), plain.accumulate(framed)[:, 1:5, 1:6])


# ---- bounds


def chained(layer: Layer) -> Network:
    return chain([LayerStep(layer)], Requantiser.from_factors(np.ones(C), layer.input_bits))


def test_what_could_overflow_is_refused():
    wide = Layer(
        np.full((1, C, 3, 3), 32767, np.int16), np.zeros(1, np.int32), Requantiser.from_factors(np.ones(1), 14)
    )
    with pytest.raises(ValueError, match=r"step 0: a sum could leave int32"):
        chained(wide)
    step = made_norm(True)[0]
    given = Requantiser.from_factors(np.ones(C), 14)
    with pytest.raises(ValueError, match="a norm could leave int32"):
        chain([replace(step, gamma=np.full((C, C), 32767, np.int16))], given)
    with pytest.raises(ValueError, match="beta is int32"):
        chain([replace(step, beta=step.beta * 0)], given)
    with pytest.raises(ValueError, match="inputs have 9 to 16 bits"):
        chain([replace(step, input_bits=13)], given)
    full = np.full(C, 32767, np.int16)
    with pytest.raises(ValueError, match="a sum could leave int32"):
        Network((SumStep(30, 14, full, full),), ((0, 0),), replace(given, bits=16))
    with pytest.raises(ValueError, match="curves read up to 14 bits"):
        chain([CurveStep(Curve.SILU, np.zeros(C, np.uint8))], replace(given, bits=15))
    with pytest.raises(ValueError, match="values before it"):
        Network((step,), ((1,),), given)
    with pytest.raises(ValueError, match="channels"):
        chained(replace(wide, weight=np.ones((1, C + 1, 3, 3), np.int8)))


@pytest.mark.parametrize("kind", ["plain", "transposed"])
@pytest.mark.parametrize("learned", [False, True])
def test_weights_are_as_coarse_as_a_bound_takes_and_no_coarser(kind, learned):
    torch.manual_seed(2)
    module = nn.ConvTranspose2d(64, 6, 5, 2, 2, 1) if kind == "transposed" else nn.Conv2d(64, 6, 5, padding=2)
    how = {"kind": TRANSPOSED} if kind == "transposed" else {}
    moments = second_moments(normal(1, 64, 12, 12), 3 if kind == "transposed" else 5) if learned else None
    scale = np.full(64, 2.0**-11)
    layer = Layer.from_float(
        module.weight,
        module.bias,
        scale,
        np.ones(6),
        input_bits=14,
        weight_bits=12,
        bound=WINOGRAD,
        moments=moments,
        **how,
    )
    weight = np.abs(layer.weight.astype(np.int64))
    if kind == "transposed":
        flat = weight.swapaxes(0, 1).reshape(6, 64, 25)
        sums = np.stack([flat[:, :, taps].sum((1, 2)) for taps, _ in phases(TRANSPOSED, 5)]).max(0)
    else:
        sums = weight.sum((1, 2, 3))
    reach = sums * largest(14) + np.abs(layer.bias.astype(np.int64))
    assert (reach <= WINOGRAD).all() and (reach > 0.95 * WINOGRAD).all()


def test_phases_of_a_transposed_kernel_are_its_taps_once_and_look_where_the_sum_does():
    for kernel in (3, 5, 7, 9):
        taps = np.concatenate([own for own, _ in phases(TRANSPOSED, kernel)])
        assert sorted(taps) == list(range(kernel * kernel))
        torch.manual_seed(kernel)
        module = nn.ConvTranspose2d(3, 4, kernel, 2, kernel // 2, 1, bias=False)
        x, side = normal(1, 3, 6, 7), window(TRANSPOSED, kernel)
        seen = torch.nn.functional.unfold(x, side, padding=side // 2)[0].view(3, side * side, -1)
        want = module(x)[0]
        for phase, (own, places) in enumerate(phases(TRANSPOSED, kernel)):
            rows = module.weight.flatten(2)[:, :, own]
            got = torch.einsum("iot,itp->op", rows, seen[:, places]).view(4, 6, 7)
            assert torch.allclose(got, want[:, phase // 2 :: 2, phase % 2 :: 2], atol=1e-5)


# ---- conversion


class Weighed(nn.Module):
    """Channels times what the mean of the map makes of them."""

    def __init__(self):
        super().__init__()
        self.mean, self.weight = nn.AdaptiveAvgPool2d(1), nn.Conv2d(C, C, 1)

    def forward(self, x):
        return x * self.weight(self.mean(x))


def analysis() -> nn.Module:
    return nn.Sequential(conv(3, C), GDN(C), conv(C, 6), nn.LeakyReLU(0.01), conv(6, 5, 3, 1))


MODULES = {
    "analysis": (analysis, False),
    "synthesis": (lambda: nn.Sequential(deconv(5, C), GDN(C, True), deconv(C, 6), nn.ReLU(), deconv(6, 3)), True),
    "refined": (
        lambda: nn.Sequential(deconv(5, C), mlic.RefinedGDN(C, True, 2), conv(C, 3, 3, 1)), True,
    ),
    "official analysis": (lambda: mlic.AnalysisTransform(C, 5), False),
    "official synthesis": (lambda: mlic.SynthesisTransform(C, 5, 5), True),
    "official synthesis of 2023": (lambda: mlic.SynthesisTransform(C, 5, C), True),
    "official hyper analysis": (lambda: mlic.HyperAnalysis(5, C), True),
    "mean of a map": (lambda: nn.Sequential(conv(3, C), Weighed(), conv(C, 5)), False),
    "curve on latents": (lambda: nn.Sequential(nn.GELU(), conv(5, C, 3, 1)), True),
    "mcquic encoder": (
        lambda: nn.Sequential(
            mcquic.Conv3(3, C, 2), mcquic.ResidualBlock(C), mcquic.ResidualBlockWithStride(C), mcquic.Attention(C),
            mcquic.Conv3(C, 5),
        ), False,
    ),
    "mcquic decoder": (
        lambda: nn.Sequential(
            mcquic.Conv3(5, C), mcquic.ResidualBlockShuffle(C), mcquic.Attention(C), mcquic.upsampling_conv(C, 3)
        ), True,
    ),
}  # fmt: skip


def built(name: str, **how) -> tuple[nn.Module, Network, torch.Tensor, Graph]:
    """A module of random weights, its integers, and an input in integers."""
    make, latents = MODULES[name]
    torch.manual_seed(3)
    module = make().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 4:
                parameter.mul_(1.5)
    graph = Graph.of(module, "m")
    if latents:
        x = (normal(5, 6, 8, seed=11) * 200).round().long()
        real = x.float() * LATENT_UNIT
    else:
        x = torch.randint(0, 256, (3, 32, 48), generator=torch.Generator().manual_seed(12))
        real = x.float() / 255
    precision = Precision(learned=False, **how)
    network = convert(
        graph, calibrated(graph, [real[None]]), precision,
        finest=np.full(5, LATENT_UNIT) if latents else None, pixels_out=False,
    )  # fmt: skip
    return module, network, x, graph


@pytest.mark.parametrize("name", MODULES)
def test_networks_of_integers_follow_their_float_modules(name):
    module, network, x, graph = built(name)
    real = x.float() * (LATENT_UNIT if MODULES[name][1] else PIXEL_UNIT)
    with torch.no_grad():
        want = module(real[None])[0].double()
        assert torch.allclose(graph.run(real[None])[0].double(), want, atol=1e-4 * want.abs().max().item())
    got = network(x).double() * LATENT_UNIT
    assert got.shape == want.shape
    assert (got - want).square().mean().sqrt() <= 2.0**-7 + 4e-3 * want.std()


@pytest.mark.parametrize("name", MODULES)
def test_a_network_read_back_from_its_arrays_is_the_same_network(name):
    _, network, x, _ = built(name)
    arrays = network.to_arrays("m")
    again = Network.from_arrays(arrays, "m")
    assert torch.equal(again(x), network(x)) and again.shapes == network.shapes
    stored = again.to_arrays("m")
    assert list(stored) == list(arrays)
    for key, array in arrays.items():
        assert array.dtype == stored[key].dtype and np.array_equal(array, stored[key]), key
    for key in arrays:
        if key != "m.entry.bits" and not key.endswith((".exponents", ".step", ".units")):
            with pytest.raises((KeyError, ValueError)):
                Network.from_arrays({k: v for k, v in arrays.items() if k != key}, "m")


def test_values_stay_inside_what_their_shapes_say():
    for name in MODULES:
        _, network, x, _ = built(name)
        for value, shape in zip(network.values(x), network.shapes, strict=True):
            assert len(value) == shape.channels and int(value.abs().max()) <= shape.limit


def test_every_module_that_is_traced_is_among_the_cases():
    seen = {type(part) for make, _ in MODULES.values() for part in make().modules()}
    rest = {nn.Identity, nn.Dropout, nn.ConvTranspose2d, nn.GELU}
    # CompressAI's, and stages of its models, are in the table if something in this process has accelerated a model.
    theirs = ("compressai", "fastlic.integrations")
    ours = {kind for kind in TRACES if not kind.__module__.startswith(theirs)}
    assert ours - rest <= seen


@pytest.mark.parametrize(
    ("module", "fault"),
    [
        (nn.Sequential(conv(3, 4), nn.Tanh()), r"m\.1 is a Tanh"),
        (nn.Sequential(conv(3, 4), GDN(4), nn.LeakyReLU(), conv(4, 4)), r"m\.2 is a LeakyReLU"),
        (nn.Sequential(conv(3, 8), GDN(8), nn.PixelShuffle(2)), r"m\.2 is a PixelShuffle"),
        (nn.Sequential(conv(3, 4), nn.GELU("tanh")), r"m\.1 is an approximate GELU"),
        (nn.Sequential(nn.Conv2d(3, 4, 4)), r"m\.0 is a convolution of a kind"),
    ],
)
def test_what_has_no_integer_form_is_named(module, fault):
    with pytest.raises(ValueError, match=fault):
        Graph.of(module, "m")


def test_an_activation_never_enters_a_layer_whose_output_others_read():
    """McQuic's residual block adds the value that its branch bends."""
    module = nn.Sequential(mcquic.Conv3(3, C), mcquic.ResidualBlock(C), mcquic.Conv3(C, 3))
    graph = Graph.of(module, "m")
    kinds = [type(operation).__name__ for operation in graph.operations]
    assert kinds == ["Stage", "Bend", "Stage", "Stage", "Sum", "Stage"]
    assert graph.reads == [(0,), (1,), (2,), (3,), (4, 1), (5,)]
    assert [operation.curve for operation in graph.operations if hasattr(operation, "weight")] == [
        None, Curve.SILU, None, None,
    ]  # fmt: skip


def test_numbers_around_zero_become_pixels_at_both_ends():
    module = nn.Sequential(mcquic.Conv3(3, C, 2), mcquic.ResidualBlock(C), mcquic.upsampling_conv(C, 3)).eval()
    graph = Graph.of(module, "m")
    pixels = torch.randint(0, 256, (3, 16, 24), generator=torch.Generator().manual_seed(16), dtype=torch.uint8)
    with torch.no_grad():
        want = (module(pixels[None] / 127.5 - 1)[0] + 1) / 2
        both = graph.from_pixels().to_pixels()
        assert torch.allclose(both.run(pixels[None] / 255)[0], want, atol=1e-5)
    ranges = calibrated(both, [pixels[None] / 255])
    got = convert(both, ranges, Precision(), finest=None, pixels_out=True)(pixels.long())
    assert (got - (want * 255).clamp(0, 255)).abs().max() <= 1
    with pytest.raises(ValueError, match="pad by reflection"):
        Graph.of(nn.Sequential(conv(3, 4)), "m").from_pixels()
    with pytest.raises(ValueError, match="ends in a layer"):
        Graph.of(nn.Sequential(conv(3, 4), GDN(4)), "m").to_pixels()


# ---- damaged arrays


ARRAYS = built("mcquic decoder")[1].to_arrays("m")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_arrays_are_refused_or_make_a_network_that_runs_in_bounds(data):
    key = data.draw(st.sampled_from(sorted(ARRAYS)))
    array = ARRAYS[key].copy()
    at = data.draw(st.integers(0, max(array.size - 1, 0)))
    info = np.iinfo(array.dtype)
    if array.size:
        array.reshape(-1)[at] = data.draw(st.integers(int(info.min), int(info.max)))
    try:
        network = Network.from_arrays({**ARRAYS, key: array}, "m")
    except (ValueError, KeyError):
        return
    for value, shape in zip(network.values(maps((5, 4, 6), 16, 1)), network.shapes, strict=True):
        assert int(value.abs().max()) <= shape.limit


@pytest.mark.parametrize("key", sorted(ARRAYS))
def test_arrays_of_other_dimensions_are_refused(key):
    array = ARRAYS[key]
    for other in (array[None], array[:0], array.reshape(-1)[0], array.astype(np.float64)[None]):
        with pytest.raises((ValueError, KeyError)):
            Network.from_arrays({**ARRAYS, key: other}, "m")


# ---- whole codecs


@pytest.fixture(scope="module")
def transforms() -> tuple[nn.Module, IntegerTransforms, torch.Tensor]:
    torch.manual_seed(4)
    model = JAHP(8, 12, widths=(8, 8, 8), qualities=3).eval()
    with torch.no_grad():
        model.gain.log_gain.copy_(torch.tensor([0.0, 1.0, 2.0])[:, None].expand(3, 12))
        model.gain.log_inverse.copy_(-model.gain.log_gain)
        for parameter in model.parameters():
            if parameter.ndim == 4:
                parameter.mul_(2)
    model.hyper_of_magnitude = False
    pixels = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(13), dtype=torch.uint8)
    return model, convert_transforms(model, [pixels / 255]), pixels


def test_transforms_of_a_codec_follow_its_float_ones(transforms):
    model, integers, pixels = transforms
    with torch.no_grad():
        for quality in (1.0, 2.5, 3.0):
            level = torch.tensor([quality])
            y = model.g_a(pixels[None] / 255) * model.gain(level)
            latents = integers.analyse(pixels, quality)
            assert (latents * LATENT_UNIT - y[0]).abs().max() < 0.02 * y.abs().max() + 2 * LATENT_UNIT
            x = (model.g_s(latents[None] * LATENT_UNIT * model.gain.inverse(level))[0] * 255).clamp(0, 255)
            assert (integers.synthesise(latents, quality) - x).abs().max() < 2
            z = model.h_a(latents[None] * LATENT_UNIT)
            assert (integers.hyper(latents) * LATENT_UNIT - z[0]).abs().max() < 0.01 * z.abs().max() + 2 * LATENT_UNIT


def test_transforms_read_back_from_their_arrays_are_the_same(transforms):
    _, integers, pixels = transforms
    again = IntegerTransforms.from_arrays(integers.to_arrays())
    for quality in (1, 2.0625, 3):
        latents = integers.analyse(pixels, quality)
        assert torch.equal(again.analyse(pixels, quality), latents)
        assert torch.equal(again.hyper(latents), integers.hyper(latents))
        assert torch.equal(again.synthesise(latents, quality), integers.synthesise(latents, quality))


def test_hyper_latents_of_any_size_repeat_the_last_row_and_column(transforms):
    _, integers, _ = transforms
    latents = maps((12, 5, 6), 12, 14)
    whole = torch.cat([latents, latents[:, -1:].expand(-1, 3, -1)], 1)
    whole = torch.cat([whole, whole[:, :, -1:].expand(-1, -1, 2)], 2)
    assert torch.equal(integers.hyper(latents), integers.h_a(whole))


def test_scale_hyperpriors_read_magnitudes():
    torch.manual_seed(5)
    model = ScaleHyperprior(8, 12).eval()
    pixels = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(15), dtype=torch.uint8)
    integers = convert_transforms(model, [pixels / 255])
    again = IntegerTransforms.from_arrays(integers.to_arrays())
    latents = integers.analyse(pixels)
    assert again.of_magnitude and torch.equal(again.hyper(-latents), again.hyper(latents))
    with pytest.raises(ValueError, match="qualities are none"):
        integers.analyse(pixels, 1)


def test_gains_between_qualities_are_geometric_and_end_where_the_next_begins():
    factors = np.array([[1.0, 2.0], [4.0, 0.5], [5.0, 0.25]], np.float32)
    gains = Gains(factors)
    assert np.array_equal(gains.at(2), factors[1].astype(np.float64)) and np.array_equal(gains.at(3), factors[2])
    assert np.allclose(gains.at(1.5), [2.0, 1.0], rtol=1e-12)
    assert np.allclose(gains.at(2.0625), factors[1] * (factors[2] / factors[1]) ** (1 / 16), rtol=1e-7)
    for quality in (0.5, 3.0625, 1.01):
        with pytest.raises(ValueError, match="qualities are 1 to 3"):
            gains.at(quality)
    with pytest.raises(ValueError, match="positive and finite"):
        Gains(np.array([[0.0]], np.float32))


@pytest.mark.parametrize("pixels", [torch.zeros(3, 16, 20, dtype=torch.uint8), torch.zeros(3, 16, 16)])
def test_pixels_of_another_kind_are_refused(transforms, pixels):
    with pytest.raises(ValueError, match="expected uint8"):
        transforms[1].analyse(pixels, 1)
