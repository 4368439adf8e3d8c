"""Integer layers: exact sums, proven bounds, and close to the float layers they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from fastlic.entropy.layers import IntegerConv

UNIT = np.full(6, 2.0**-8)


def make(module: nn.Module, **options) -> IntegerConv:
    outputs = module.out_channels
    return IntegerConv.from_float(
        module.weight, module.bias, UNIT, 12, np.full(outputs, 2.0**-8), 12, stride=module.stride[0], **options
    )


CASES = {
    "conv3": nn.Conv2d(6, 8, 3, padding=1),
    "conv5 stride 2": nn.Conv2d(6, 8, 5, 2, padding=2),
    "1x1": nn.Conv2d(6, 8, 1),
    "deconv5 stride 2": nn.ConvTranspose2d(6, 8, 5, 2, padding=2, output_padding=1),
}


@pytest.mark.parametrize("name", CASES)
def test_integer_layer_stays_within_quantisation_error_of_the_float_layer(name: str):
    module = CASES[name]
    layer = make(module, transposed="deconv" in name, negative_slope=0.01)
    x = torch.randint(-500, 500, (6, 9, 7), generator=torch.Generator().manual_seed(1))
    got = layer(x).double() * 2.0**-8
    want = F.leaky_relu(module(x[None].float() * 2.0**-8), 0.01)[0].double()
    assert got.shape == want.shape
    # Each weight is off by at most half of 1/127 of its row's largest; inputs are below 2 in magnitude.
    taps = module.weight[0].numel() * (8 if "deconv" in name else 1) / 1
    bound = taps * module.weight.abs().max().item() / 254 * 2 + 2.0**-8
    assert (got - want).abs().max() <= bound


def test_accumulators_are_exact_integer_sums():
    layer = make(CASES["conv3"])
    x = torch.randint(-2047, 2048, (6, 5, 4), generator=torch.Generator().manual_seed(2))
    acc = layer.accumulate(x)
    padded = np.pad(x.numpy(), ((0, 0), (1, 1), (1, 1))).astype(object)
    weight = layer.weight.astype(object)
    for o, r, c in [(0, 0, 0), (3, 2, 1), (7, 4, 3)]:
        assert int(acc[o, r, c]) == int(layer.bias[o]) + int((padded[:, r : r + 3, c : c + 3] * weight[o]).sum())


def test_a_layer_whose_sums_could_leave_int32_is_refused():
    wide = nn.Conv2d(2000, 1, 3)
    nn.init.constant_(wide.weight, 1.0)
    with pytest.raises(ValueError, match="int32"):
        IntegerConv.from_float(wide.weight, wide.bias, np.ones(2000), 12, np.ones(1), 12)


def test_split_inputs_add_up_to_the_whole_layer():
    layer = make(nn.Conv2d(6, 8, 1))
    x = torch.randint(-2047, 2048, (6, 3, 3), generator=torch.Generator().manual_seed(3))
    head, tail = layer.split_inputs(4)
    assert torch.equal(head.accumulate(x[:4]) + tail.accumulate(x[4:]), layer.accumulate(x))


def test_a_layer_read_back_from_its_arrays_is_the_same_layer():
    layer = make(CASES["deconv5 stride 2"], transposed=True)
    again = IntegerConv.from_arrays(layer.to_arrays("h"), "h")
    x = torch.randint(-2047, 2048, (6, 3, 3), generator=torch.Generator().manual_seed(4))
    assert torch.equal(layer(x), again(x))
