"""Operations of graphs that follow no layer: ReLU is exact, and a graph may end in what is no layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn as nn

from fastlic.integers.conversion import Precision, calibrated, convert
from fastlic.integers.functions import CURVE_BITS, Curve, Curves
from fastlic.integers.graph import Graph, Rectify, Stage, Sum
from fastlic.integers.network import CurveStep
from fastlic.ops import instruction_set, instruction_sets
from fastlic.ops.transforms import TransformEngine


def test_gelu_of_whole_numbers_is_relu():
    limit = (1 << (CURVE_BITS - 1)) - 1
    x = torch.arange(-limit, limit + 1)[None, None]
    step = CurveStep(Curve.GELU, np.zeros(1, np.uint8))
    assert torch.equal(step(Curves({curve: curve.tail() for curve in Curve}), x), x.clamp(min=0))


def rectified_sum() -> Graph:
    """Two layers over pixels, ReLU behind their sum and behind what others read too; ends in a sum."""
    torch.manual_seed(0)
    graph = Graph()
    first = graph.hold(graph.trace(nn.Conv2d(3, 8, 3, padding=1), 0, "first"))
    second = graph.trace(nn.ReLU(), first, "relu")
    third = graph.trace(nn.Conv2d(8, 8, 3, padding=1), second, "third")
    total = graph.trace(nn.ReLU(), graph.add(Sum(), third, first), "relu")
    graph.add(Sum(), total, first)
    return graph


def test_relu_behind_no_layer_is_a_step_and_the_exit_a_layer():
    graph = rectified_sum()
    kinds = [Stage, Rectify, Stage, Sum, Rectify, Sum]
    assert [type(operation) for operation in graph.operations] == kinds
    graph.end(8)
    graph.end(8)
    assert [type(operation) for operation in graph.operations] == [*kinds, Stage]
    x = torch.rand(1, 3, 24, 40)
    pixels = (x * 255).round()
    with torch.no_grad():
        expected = graph.run(pixels / 255)[0].numpy()
    ranges = calibrated(graph, [pixels / 255])
    network = convert(graph, ranges, Precision(learned=False), finest=None, pixels_out=False)
    made = network(pixels[0].long())
    assert np.abs(made.numpy() / 64 - expected).max() < 0.02
    engine = TransformEngine("g_a", network.to_arrays("g_a"))
    for name in instruction_sets():
        with instruction_set(name):
            assert np.array_equal(engine.run(pixels[0].to(torch.uint8).numpy()), made.numpy())


def test_a_leaky_relu_behind_no_layer_has_no_integer_form():
    graph = rectified_sum()
    with pytest.raises(ValueError, match="behind anything but a layer"):
        graph.trace(nn.LeakyReLU(), len(graph.operations), "leaky")
