"""Attention within windows equals float64 to 1e-5 on every instruction set, size and shift."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fastlic.ops import window_attention


def arguments(side, heads, depth, windows=(3, 2), batch=2):
    torch.manual_seed(side + 10 * heads + depth)
    qkv = torch.randn(batch, windows[0] * side, windows[1] * side, 3 * heads * depth) * 2
    return qkv, torch.randn(heads, side**2, side**2)


@pytest.mark.parametrize(
    ("side", "heads", "depth"), [(1, 1, 1), (2, 3, 5), (3, 1, 16), (4, 8, 24), (8, 2, 8), (8, 3, 33)]
)
def test_equals_float64(side, heads, depth, isa):
    qkv, bias = arguments(side, heads, depth)
    mask = torch.randn(4, side**2, side**2)
    for more in ({}, {"shift": side // 2}, {"shift": side - 1, "apart": -100.0}, {"mask": mask, "scale": 0.3}):
        expected = window_attention(qkv, bias, **more, backend="reference")
        for threads in (1, 3):
            found = window_attention(qkv, bias, **more, threads=threads)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_equals_torch_window_by_window():
    qkv, bias = arguments(4, 2, 6, (1, 1))
    q, k, v = qkv.reshape(2, 16, 3, 2, 6).permute(2, 0, 3, 1, 4)
    expected = F.scaled_dot_product_attention(q, k, v, bias[None]).transpose(1, 2).reshape(2, 4, 4, 12)
    torch.testing.assert_close(window_attention(qkv, bias), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(window_attention(qkv, bias, backend="reference"), expected, rtol=1e-5, atol=1e-5)


def test_large_scores_and_places_that_are_shut_out(isa):
    qkv, bias = arguments(4, 2, 8)
    bias = torch.where(torch.rand(bias.shape) < 0.5, bias, torch.tensor(-torch.inf))
    bias.diagonal(dim1=1, dim2=2).zero_()  # everyone sees itself
    for scaled in (qkv, 100 * qkv):
        expected = window_attention(scaled, bias, shift=2, backend="reference")
        torch.testing.assert_close(window_attention(scaled, bias, shift=2), expected, rtol=1e-4, atol=1e-4)


def test_maps_without_pixels_and_what_does_not_fit():
    qkv, bias = arguments(4, 2, 8)
    assert window_attention(qkv[:0], bias).shape == (0, 12, 8, 16)
    for wrong in (
        (qkv[:, 1:], bias),
        (qkv[..., 1:], bias),
        (qkv.double(), bias),
        (qkv, bias[:, :8, :8]),
        (qkv, bias, torch.zeros(2, 4, 4)),
        (qkv, bias, None, 4),
    ):
        with pytest.raises(ValueError, match=r"must be|is not whole windows"):
            window_attention(*wrong)
