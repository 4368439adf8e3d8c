"""Convolutions by Winograd's transform equal float64 to 1e-5 on every instruction set, size and stride."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fastlic.ops import convolution

KINDS = {"plain": {}, "halving": {"stride": 2}, "doubling": {"stride": 2, "transposed": True}}


def arguments(kind, inputs, outputs, size=(9, 13), batch=2):
    torch.manual_seed(inputs + 10 * outputs)
    side = 3 if kind == "plain" else 5
    shape = (inputs, outputs) if kind == "doubling" else (outputs, inputs)
    weight = torch.randn(*shape, side, side) / (side * inputs**0.5)
    return torch.randn(batch, inputs, *size), weight, torch.randn(outputs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("inputs", "outputs", "size"),
    [(16, 1, (1, 1)), (16, 20, (2, 9)), (32, 3, (4, 4)), (48, 33, (13, 5)), (208, 64, (7, 31))],
)
def test_equals_float64(kind, inputs, outputs, size, isa):
    x, weight, bias = arguments(kind, inputs, outputs, size)
    for own in (bias, None):
        expected = convolution(x, weight, own, **KINDS[kind], backend="reference")
        found = [convolution(x, weight, own, **KINDS[kind], threads=threads) for threads in (1, 3)]
        torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
        assert torch.equal(found[0], found[1]) and found[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_comes_out_alike_alone_and_among_others(kind, isa):
    x, weight, bias = arguments(kind, 32, 24, (30, 22), batch=5)
    together = convolution(x, weight, bias, **KINDS[kind])
    for i in range(5):
        assert torch.equal(convolution(x[i : i + 1], weight, bias, **KINDS[kind]), together[i : i + 1])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equals_torch_in_either_layout_of_map_and_weight(layout):
    for kind, plain in {
        "plain": lambda x, w, b: F.conv2d(x, w, b, padding=1),
        "halving": lambda x, w, b: F.conv2d(x, w, b, 2, padding=2),
        "doubling": lambda x, w, b: F.conv_transpose2d(x, w, b, 2, padding=2, output_padding=1),
    }.items():
        x, weight, bias = arguments(kind, 64, 16)
        x, weight = x.contiguous(memory_format=layout), weight.contiguous(memory_format=layout)
        for backend in ("cpp", "reference"):
            found = convolution(x, weight, bias, **KINDS[kind], backend=backend)
            torch.testing.assert_close(found, plain(x, weight, bias), rtol=1e-5, atol=1e-5)


def test_numbers_beyond_floats_reach_the_outputs_of_their_tiles_alone():
    x, weight, bias = arguments("plain", 16, 8, (12, 12), batch=1)
    expected = convolution(x, weight, bias)
    x[0, 3, 0, 0] = torch.nan
    found = convolution(x, weight, bias)
    assert found[..., :2, :2].isnan().all() and torch.equal(found[..., 5:, 5:], expected[..., 5:, 5:])


def test_maps_without_pixels_and_what_does_not_fit():
    x, weight, bias = arguments("plain", 32, 8)
    assert convolution(x[:0], weight, bias).shape == (0, 8, 9, 13)
    assert convolution(x[..., :0], weight, bias).shape == (2, 8, 9, 0)
    five = torch.zeros(8, 32, 5, 5)
    for wrong in (
        (x[:, :20], weight[:, :20], bias),
        (x[:, :16], weight, bias),
        (x[0], weight, bias),
        (x.double(), weight, bias),
        (x, weight, bias[1:]),
        (x, weight, bias, 3),
        (x, weight, bias, 2),
        (x, five, bias),
        (x, weight, bias, 1, True),
        (x, five, bias, 2, True),
    ):
        with pytest.raises(ValueError, match=r"must be|kernels are"):
            convolution(*wrong)
