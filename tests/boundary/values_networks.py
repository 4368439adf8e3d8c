"""What valid calls of integer networks and transforms are made of, beside values_library.py."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from values import I32, U8
from values_library import image, jahp

from fastlic.codec.families.gaussian import Transforms
from fastlic.integers import conversion, functions, graph, layer, network, ranges, shapes, transforms, vq, windows
from fastlic.integers.fixed import Requantiser
from fastlic.models import McQuic
from fastlic.models.layers import GDN


@cache
def module() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), GDN(4), nn.SiLU(), nn.Conv2d(4, 3, 1)).eval()


def floats() -> torch.Tensor:
    return image()[None, :, :16, :32].float() / 255


@cache
def float_graph() -> graph.Graph:
    return graph.Graph.of(module(), "t")


def reflecting() -> graph.Graph:
    own = own_graph()
    own.amend(1, reflect=True)
    return own


def own_graph() -> graph.Graph:
    return graph.Graph.of(module(), "t")


@cache
def float_ranges() -> ranges.Ranges:
    return conversion.calibrated(float_graph(), [floats()], [floats()])


@cache
def made() -> network.Network:
    return conversion.convert(float_graph(), float_ranges(), conversion.Precision(), finest=None, pixels_out=False)


@cache
def factors(channels: int, bits: int) -> Requantiser:
    return Requantiser.from_factors(np.full(channels, 0.3), bits)


def layer_step(outputs: int = 4, kind: layer.Kind = layer.PLAIN, bits: int = 14) -> network.LayerStep:
    rng = np.random.default_rng(outputs)
    weight = rng.integers(-99, 100, (4, outputs, 3, 3) if kind.transposed else (outputs, 4, 3, 3)).astype(np.int8)
    own = layer.Layer(weight, np.arange(outputs, dtype=I32), factors(outputs, bits), kind, input_bits=14)
    return network.LayerStep(own)


def norm_step() -> network.NormStep:
    gamma = np.random.default_rng(1).integers(0, 99, (4, 4)).astype(np.int16)
    ones = np.ones(4, I32)
    return network.NormStep(False, 14, 14, gamma, 999 * ones, 9999 * ones, np.full(4, 9, U8))


def sum_step() -> network.SumStep:
    return network.SumStep(12, 14, np.full(4, 2000, np.int16), np.full(4, -900, np.int16))


def gate_step() -> network.GateStep:
    return network.GateStep(np.arange(4, dtype=U8))


def curve_step() -> network.CurveStep:
    return network.CurveStep(functions.Curve.SILU, np.arange(4, dtype=U8))


def factors24(count: int) -> shapes.Factors:
    return shapes.Factors(np.full(count, 9999, I32), np.full(count, 9, U8))


def layer_norm_step() -> windows.LayerNormStep:
    epsilon = np.array([9, 3], I32)
    return windows.LayerNormStep(
        14, 14, np.full(4, 20000, np.int16), epsilon, factors24(4), factors24(4), np.arange(4, dtype=I32)
    )


def window_step() -> windows.WindowStep:
    bias = np.arange(18, dtype=I32).reshape(2, 9)
    return windows.WindowStep(2, 1, 2, 13, 14, bias, factors24(2), factors24(4))


def depthwise_step() -> network.DepthwiseStep:
    own = layer_step().layer
    return network.DepthwiseStep(replace(own, weight=own.weight[:, :1].copy(), groups=4))


def product_step() -> network.ProductStep:
    return network.ProductStep(factors(4, 14))


def softmax_step() -> windows.SoftmaxStep:
    return windows.SoftmaxStep(2, 14, factors24(2), factors24(4))


def map_mean_step() -> windows.MapMeanStep:
    return windows.MapMeanStep(14, factors24(4))


def attention() -> graph.WindowAttention:
    return graph.WindowAttention(2, 1, 2, 0.5, torch.arange(18.0).view(2, 3, 3))


SHAPE = shapes.Shape(4, 14)


@cache
def every_step() -> network.Network:
    """From latents to pixels over steps of every kind."""
    steps = (
        layer_step(), norm_step(), sum_step(), gate_step(), curve_step(), layer_step(4, layer.TRANSPOSED),
        layer_step(3, bits=9),
    )  # fmt: skip
    return network.Network(steps, ((0,), (1,), (2, 1), (3, 0), (4,), (5,), (6,)), factors(4, 14))


def network_arrays() -> dict[str, Any]:
    return every_step().to_arrays("n")


def ends() -> dict[str, Any]:
    return {**factors(4, 14).to_arrays("n.entry"), **factors(3, 9).to_arrays("n.exit")}


def latents() -> np.ndarray:
    return np.random.default_rng(3).integers(-30000, 30000, (4, 5, 6)).astype(I32)


@cache
def pixel_arrays() -> dict[str, Any]:
    return network.Network((layer_of_pixels(),), ((0,),)).to_arrays("p")


def layer_of_pixels() -> network.LayerStep:
    weight = np.random.default_rng(2).integers(-99, 100, (40, 3, 5, 5)).astype(np.int16)
    return network.LayerStep(
        layer.Layer(weight, np.zeros(40, I32), factors(40, 27), layer.HALVED, input_bits=9, reflect=True)
    )


def pixels() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (3, 7, 6)).astype(U8)


@cache
def whole() -> transforms.IntegerTransforms:
    return transforms.convert_transforms(Transforms(jahp()), [photo()])


@cache
def quantiser() -> McQuic:
    torch.manual_seed(2)
    return McQuic(8, 2, [7, 5], [2.0, 0.5]).eval()


@cache
def one_level() -> McQuic:
    torch.manual_seed(3)
    return McQuic(4, 1, [5]).eval()


@cache
def vq_transforms() -> vq.VqTransforms:
    return vq.convert_vq(quantiser(), [photo()], shares())


def photo() -> torch.Tensor:
    return image()[:, :16, :32].float().repeat(1, 4, 2) / 255


def shares() -> list[np.ndarray]:
    return [np.full((2, k), 1 / k) for k in (7, 5)]


def codes() -> list[torch.Tensor]:
    rng = np.random.default_rng(6)
    return [torch.from_numpy(rng.integers(0, k, (2, n, n))) for k, n in ((7, 4), (5, 2))]


def gains() -> transforms.Gains:
    return transforms.Gains(np.linspace(0.5, 2, 12).astype(np.float32).reshape(3, 4))


def steps_arrays(step: Any) -> dict[str, Any]:
    return step.to_arrays("a")
