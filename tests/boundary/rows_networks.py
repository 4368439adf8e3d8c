"""One row for each public function, class and method of integer networks and transforms (rows.py)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn as nn
from values import Call
from values_library import image, jahp, maps, requantiser
from values_networks import (
    SHAPE,
    attention,
    codes,
    curve_step,
    depthwise_step,
    every_step,
    factors24,
    float_graph,
    float_ranges,
    floats,
    gains,
    gate_step,
    latents,
    layer_norm_step,
    layer_step,
    made,
    map_mean_step,
    module,
    network_arrays,
    norm_step,
    one_level,
    own_graph,
    photo,
    product_step,
    quantiser,
    reflecting,
    softmax_step,
    steps_arrays,
    sum_step,
    vq_transforms,
    whole,
    window_step,
)
from values_networks import ends as network_changes

from fastlic.codec.families.gaussian import Transforms
from fastlic.integers import (
    conversion,
    engines,
    functions,
    graph,
    layer,
    network,
    ranges,
    shapes,
    traced,
    transforms,
    vq,
    windows,
)
from fastlic.integers import floats as float_modules
from fastlic.models.layers import GDN


def curves() -> functions.Curves:
    return functions.Curves({curve: curve.tail() for curve in functions.Curve})


def exponents() -> np.ndarray:
    return np.arange(4, dtype=np.uint8)


def doubles() -> np.ndarray:
    return np.full(4, 0.01)


def float_norm() -> graph.Norm:
    return graph.Norm(torch.ones(4), torch.eye(4) / 9, False)


def pixels() -> torch.Tensor:
    return image()[:, :16, :32].contiguous()


def words() -> vq.Words:
    return vq_transforms().words[0]


def ranges_seen() -> ranges.Ranges:
    own = ranges.Ranges()
    own.see("a", floats())
    return own


def tensor_of(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).long()


NETWORKS: dict[str, Callable[[], Call]] = {
    "conversion.calibrated": lambda: Call(
        conversion.calibrated, {"graph": float_graph(), "inputs": [floats()], "learned": [floats()]}
    ),
    "conversion.convert": lambda: Call(
        conversion.convert,
        {
            **{"graph": float_graph(), "ranges": float_ranges(), "precision": conversion.Precision()},
            **{"finest": None, "pixels_out": False, "inputs": 1.0, "outputs": np.full(3, 0.01)},
        },
    ),
    "conversion.nearest": lambda: Call(
        conversion.nearest,
        {
            **{"graph": float_graph(), "ranges": float_ranges(), "error": lambda network: 1.0},
            **{"ends": {"finest": None, "pixels_out": False, "inputs": 1.0, "outputs": np.full(3, 0.01)}},
        },
    ),
    "conversion.norm_step": lambda: Call(
        conversion.norm_step,
        {"norm": float_norm(), "inputs": doubles(), "outputs": doubles(), "input_bits": 14, "bits": 14},
    ),
    "conversion.sum_step": lambda: Call(
        conversion.sum_step,
        {"left": doubles(), "right": doubles(), "outputs": doubles(), "input_bits": 14, "bits": 14},
    ),
    "conversion.layer_norm_step": lambda: Call(
        conversion.layer_norm_step,
        {
            **{"norm": graph.LayerNorm(torch.ones(4), torch.ones(4), 1e-5), "inputs": doubles(), "outputs": doubles()},
            **{"input_bits": 14, "bits": 14},
        },
    ),
    "conversion.softmax_step": lambda: Call(
        conversion.softmax_step,
        {"softmax": graph.Softmax(2), "inputs": np.full(2, 0.01), "outputs": doubles(), "bits": 14},
    ),
    "conversion.window_step": lambda: Call(
        conversion.window_step,
        {
            **{"windows": attention(), "products": np.full(2, 1e-4), "values": doubles(), "outputs": doubles()},
            **{"input_bits": 13, "bits": 14},
        },
    ),
    "floats.restore": lambda: Call(float_modules.restore, {"module": module(), "name": "t", "network": made()}),
    "functions.Curves.activate": lambda: Call(
        curves().activate,
        {"curve": functions.Curve.SILU, "x": maps(4).permute(1, 2, 0), "exponents": exponents()},
    ),
    "functions.Curves.gate": lambda: Call(
        curves().gate, {"x": maps(4).permute(1, 2, 0), "by": maps(4).permute(1, 2, 0), "exponents": exponents()}
    ),
    "functions.Curves.tail": lambda: Call(
        curves().tail,
        {"curve": functions.Curve.GELU, "magnitudes": torch.arange(4), "exponents": torch.arange(4)},
    ),
    "functions.Tables.activate": lambda: Call(
        functions.Tables.make().activate,
        {"curve": functions.Curve.GELU, "x": maps(4).permute(1, 2, 0), "exponents": exponents()},
    ),
    "functions.Curves.weights": lambda: Call(curves().weights, {"distances": torch.arange(9)}),
    "functions.powers_of_two": lambda: Call(functions.powers_of_two, {}),
    "graph.Graph.of": lambda: Call(graph.Graph.of, {"module": module(), "name": "t"}),
    "graph.Graph.trace": lambda: Call(own_graph().trace, {"module": nn.Conv2d(3, 3, 1), "x": 3, "name": "t"}),
    "graph.Graph.add": lambda: Call(
        lambda operation, reads: own_graph().add(operation, reads), {"operation": graph.Sum(), "reads": 1}
    ),
    "graph.Graph.hold": lambda: Call(own_graph().hold, {"x": 1}),
    "graph.Graph.channels": lambda: Call(own_graph().channels, {"x": 1}),
    "traced.traced": lambda: Call(traced.traced, {"graph": own_graph(), "module": module(), "x": 3, "name": "t"}),
    "graph.Graph.bare": lambda: Call(own_graph().bare, {"x": 1}),
    "graph.Graph.amend": lambda: Call(own_graph().amend, {"x": 1, "slope": 0.5}),
    "graph.Graph.run": lambda: Call(own_graph().run, {"x": floats(), "ranges": float_ranges(), "learn": False}),
    "graph.Graph.double": lambda: Call(own_graph().double, {}),
    "graph.Graph.end": lambda: Call(own_graph().end, {"channels": 3}),
    "graph.scaled": lambda: Call(graph.scaled, {"graph": own_graph(), "x": 1, "factor": torch.ones(4), "name": "t"}),
    "graph.shares": lambda: Call(graph.shares, {"graph": own_graph(), "x": 1, "each": [1, 3], "name": "t"}),
    "graph.residue": lambda: Call(lambda branch, skip: graph.residue(branch, skip=skip), {"branch": "0", "skip": "1"}),
    "graph.norm": lambda: Call(graph.norm, {"graph": own_graph(), "module": GDN(3), "x": 3, "name": "t"}),
    "ranges.Ranges.round_up": lambda: Call(ranges_seen().round_up, {}),
    "engines.Engines": lambda: Call(engines.Engines, {"networks": {"n": every_step()}}),
    "engines.Engines.run": lambda: Call(
        engines.Engines({"n": every_step()}).run,
        {
            **{"name": "n", "x": latents(), "threads": 2, "size": (9, 7), "quality": 1.5},
            **{"changes": network_changes, "way": "cpp"},
        },
    ),
    "engines.Engines.way": lambda: Call(engines.Engines({"n": every_step()}).way, {"backend": "triton"}),
    "graph.Graph.from_pixels": lambda: Call(reflecting().from_pixels, {}),
    "graph.Graph.to_pixels": lambda: Call(reflecting().to_pixels, {}),
    "layer.phases": lambda: Call(layer.phases, {"kind": layer.TRANSPOSED, "kernel": 5}),
    "layer.window": lambda: Call(layer.window, {"kind": layer.TRANSPOSED, "kernel": 5}),
    "network.LayerStep.shape": lambda: Call(layer_step().shape, {"x": SHAPE}),
    "network.LayerStep.to_arrays": lambda: Call(layer_step().to_arrays, {"prefix": "a"}),
    "network.LayerStep.from_arrays": lambda: Call(
        network.LayerStep.from_arrays, {"arrays": steps_arrays(layer_step()), "prefix": "a", "reflect": 1}
    ),
    "network.DepthwiseStep.shape": lambda: Call(depthwise_step().shape, {"x": SHAPE}),
    "network.DepthwiseStep.to_arrays": lambda: Call(depthwise_step().to_arrays, {"prefix": "a"}),
    "network.DepthwiseStep.from_arrays": lambda: Call(
        network.DepthwiseStep.from_arrays, {"arrays": steps_arrays(depthwise_step()), "prefix": "a"}
    ),
    "network.ProductStep.shape": lambda: Call(product_step().shape, {"a": SHAPE, "b": SHAPE}),
    "network.ProductStep.to_arrays": lambda: Call(product_step().to_arrays, {"prefix": "a"}),
    "network.ProductStep.from_arrays": lambda: Call(
        network.ProductStep.from_arrays, {"arrays": steps_arrays(product_step()), "prefix": "a"}
    ),
    "network.NormStep.norms": lambda: Call(norm_step().norms, {"x": maps(4)}),
    "network.NormStep.shape": lambda: Call(norm_step().shape, {"x": SHAPE}),
    "network.NormStep.to_arrays": lambda: Call(norm_step().to_arrays, {"prefix": "a"}),
    "network.NormStep.from_arrays": lambda: Call(
        network.NormStep.from_arrays,
        {"arrays": steps_arrays(norm_step()), "prefix": "a", "inverse": 1, "input_bits": 14, "bits": 14},
    ),
    "network.SumStep.shape": lambda: Call(sum_step().shape, {"a": SHAPE, "b": SHAPE}),
    "network.SumStep.to_arrays": lambda: Call(sum_step().to_arrays, {"prefix": "a"}),
    "network.SumStep.from_arrays": lambda: Call(
        network.SumStep.from_arrays, {"arrays": steps_arrays(sum_step()), "prefix": "a", "shift": 12, "bits": 14}
    ),
    "network.GateStep.shape": lambda: Call(gate_step().shape, {"a": SHAPE, "b": SHAPE}),
    "network.GateStep.to_arrays": lambda: Call(gate_step().to_arrays, {"prefix": "a"}),
    "network.GateStep.from_arrays": lambda: Call(
        network.GateStep.from_arrays, {"arrays": steps_arrays(gate_step()), "prefix": "a"}
    ),
    "network.CurveStep.shape": lambda: Call(curve_step().shape, {"x": SHAPE}),
    "network.CurveStep.to_arrays": lambda: Call(curve_step().to_arrays, {"prefix": "a"}),
    "network.CurveStep.from_arrays": lambda: Call(
        network.CurveStep.from_arrays, {"arrays": steps_arrays(curve_step()), "prefix": "a", "curve": 1}
    ),
    "network.Network": lambda: Call(
        network.Network,
        {
            **{"steps": every_step().steps, "reads": every_step().reads, "entry": every_step().entry},
            **{"units": tuple(np.ones(s.channels, np.float32) for s in every_step().shapes), "curves": curves()},
        },
    ),
    "network.Network.values": lambda: Call(every_step().values, {"x": tensor_of(latents())}),
    "network.Network.on_whole_windows": lambda: Call(
        every_step().on_whole_windows, {"x": tensor_of(latents()), "run": every_step()}
    ),
    "network.Network.to_arrays": lambda: Call(every_step().to_arrays, {"prefix": "a"}),
    "network.Network.from_arrays": lambda: Call(
        network.Network.from_arrays, {"arrays": network_arrays(), "prefix": "n"}
    ),
    "shapes.Factors.check": lambda: Call(factors24(4).check, {"count": 4, "signed": True}),
    "shapes.Factors.from_arrays": lambda: Call(
        shapes.Factors.from_arrays, {"arrays": factors24(4).to_arrays("a"), "prefix": "a"}
    ),
    "shapes.Factors.nearest": lambda: Call(shapes.Factors.nearest, {"numbers": doubles()}),
    "shapes.Factors.over": lambda: Call(factors24(4).over, {"x": maps(4)}),
    "shapes.Factors.to_arrays": lambda: Call(factors24(4).to_arrays, {"prefix": "a"}),
    "shapes.is_array": lambda: Call(
        lambda array, dtype, shape: shapes.is_array(array, dtype, shape),
        {"array": exponents(), "dtype": np.uint8, "shape": 4},
    ),
    "shapes.numbers_of": lambda: Call(
        lambda prefix, numbers: shapes.numbers_of(prefix, numbers), {"prefix": "a", "numbers": 3}
    ),
    "shapes.require": lambda: Call(shapes.require, {"holds": True, "what": "it holds"}),
    "transforms.Gains": lambda: Call(transforms.Gains, {"factors": gains().factors}),
    "transforms.Gains.at": lambda: Call(gains().at, {"quality": 1.5}),
    "transforms.Gains.into": lambda: Call(gains().into, {"requantiser": requantiser(), "quality": 1.5}),
    "transforms.IntegerTransforms": lambda: Call(
        transforms.IntegerTransforms,
        {
            **{"g_a": whole().g_a, "h_a": whole().h_a, "g_s": whole().g_s},
            **{"forward": whole().forward, "inverse": whole().inverse, "of_magnitude": whole().of_magnitude},
        },
    ),
    "transforms.IntegerTransforms.analyse": lambda: Call(
        whole().analyse, {"pixels": pixels(), "quality": 1.5, "threads": 2, "backend": "cpp"}
    ),
    "transforms.IntegerTransforms.hyper": lambda: Call(
        whole().hyper, {"latents": torch.from_numpy(y()), "threads": 2, "backend": "cpp"}
    ),
    "transforms.IntegerTransforms.synthesise": lambda: Call(
        whole().synthesise,
        {
            **{"latents": torch.from_numpy(y()), "quality": 1.5, "size": (30, 61), "threads": 2},
            "backend": "cpp",
        },
    ),
    "transforms.RatedTransforms.check": lambda: Call(whole().check, {}),
    "transforms.RatedTransforms.way": lambda: Call(whole().way, {"backend": "auto"}),
    "transforms.extended": lambda: Call(transforms.extended, {"x": pixels(), "height": 70, "width": 90}),
    "transforms.IntegerTransforms.check_model": lambda: Call(whole().check_model, {"model": jahp()}),
    "transforms.IntegerTransforms.deciding": lambda: Call(whole().deciding, {}),
    "transforms.IntegerTransforms.restore": lambda: Call(whole().restore, {"model": Transforms(jahp())}),
    "transforms.IntegerTransforms.to_arrays": lambda: Call(whole().to_arrays, {}),
    "transforms.IntegerTransforms.from_arrays": lambda: Call(
        transforms.IntegerTransforms.from_arrays, {"arrays": whole().to_arrays()}
    ),
    "vq.VqTransforms": lambda: Call(
        vq.VqTransforms,
        {
            **{"networks": dict(vq_transforms().networks), "words": vq_transforms().words},
            "prices": vq_transforms().prices,
        },
    ),
    "vq.VqTransforms.analyse": lambda: Call(
        vq_transforms().analyse, {"pixels": image(), "quality": 1.5, "threads": 2, "backend": "cpp"}
    ),
    "vq.VqTransforms.finest": lambda: Call(vq_transforms().finest, {"pixels": image(), "quality": 1.5, "threads": 2}),
    "vq.VqTransforms.below": lambda: Call(
        vq_transforms().below,
        {"finest": codes()[0], "rest": vq_transforms().finest(image(), 1.5)[1], "quality": 1.5, "threads": 2},
    ),
    "vq.VqTransforms.synthesise": lambda: Call(
        vq_transforms().synthesise, {"codes": codes(), "size": (60, 50), "threads": 2, "backend": "cpp"}
    ),
    "vq.VqTransforms.check_model": lambda: Call(vq_transforms().check_model, {"model": quantiser()}),
    "vq.VqTransforms.deciding": lambda: Call(vq_transforms().deciding, {}),
    "vq.VqTransforms.restore": lambda: Call(vq_transforms().restore, {"model": quantiser()}),
    "vq.VqTransforms.to_arrays": lambda: Call(vq_transforms().to_arrays, {}),
    "vq.VqTransforms.from_arrays": lambda: Call(vq.VqTransforms.from_arrays, {"arrays": vq_transforms().to_arrays()}),
    "vq.Words": lambda: Call(
        vq.Words,
        {"words": words().words, "exponents": words().exponents, "expected": words().expected},
    ),
    "vq.Words.vectors": lambda: Call(words().vectors, {"heads": maps(8).int(), "price": np.float32(0.5)}),
    "vq.Words.nearest": lambda: Call(
        words().nearest,
        {
            **{"heads": maps(8).int(), "price": np.float32(0.5), "threads": 2, "backend": "cpp"},
        },
    ),
    "vq.Words.expectation": lambda: Call(words().expectation, {"like": maps(8).int()}),
    "vq.Words.of": lambda: Call(words().of, {"codes": codes()[0]}),
    "windows.LayerNormStep.from_arrays": lambda: Call(
        windows.LayerNormStep.from_arrays,
        {"arrays": steps_arrays(layer_norm_step()), "prefix": "a", "input_bits": 14, "bits": 14},
    ),
    "windows.LayerNormStep.moments": lambda: Call(layer_norm_step().moments, {"x": maps(4)}),
    "windows.LayerNormStep.shape": lambda: Call(layer_norm_step().shape, {"x": SHAPE}),
    "windows.LayerNormStep.to_arrays": lambda: Call(layer_norm_step().to_arrays, {"prefix": "a"}),
    "windows.SoftmaxStep.shape": lambda: Call(softmax_step().shape, {"x": SHAPE}),
    "windows.SoftmaxStep.to_arrays": lambda: Call(softmax_step().to_arrays, {"prefix": "a"}),
    "windows.SoftmaxStep.from_arrays": lambda: Call(
        windows.SoftmaxStep.from_arrays,
        {"arrays": steps_arrays(softmax_step()), "prefix": "a", "groups": 2, "bits": 14},
    ),
    "windows.MapMeanStep.shape": lambda: Call(map_mean_step().shape, {"x": SHAPE}),
    "windows.MapMeanStep.to_arrays": lambda: Call(map_mean_step().to_arrays, {"prefix": "a"}),
    "windows.MapMeanStep.from_arrays": lambda: Call(
        windows.MapMeanStep.from_arrays, {"arrays": steps_arrays(map_mean_step()), "prefix": "a", "bits": 14}
    ),
    "windows.WindowStep.from_arrays": lambda: Call(
        windows.WindowStep.from_arrays,
        {
            **{"arrays": steps_arrays(window_step()), "prefix": "a", "size": 2, "offset": 1, "heads": 2},
            **{"input_bits": 13, "bits": 14},
        },
    ),
    "windows.WindowStep.shape": lambda: Call(window_step().shape, {"x": shapes.Shape(12, 13)}),
    "windows.WindowStep.to_arrays": lambda: Call(window_step().to_arrays, {"prefix": "a"}),
    "windows.on_grid": lambda: Call(windows.on_grid, {"x": maps(4), "size": 2, "offset": 1}),
    "windows.places": lambda: Call(windows.places, {"size": 2}),
    "windows.require_windows": lambda: Call(windows.require_windows, {"size": 2, "sides": (4, 6)}),
    "vq.convert_vq": lambda: Call(
        vq.convert_vq,
        {
            **{"model": one_level(), "images": [photo()[:, :32, :32]], "shares": [np.full((1, 5), 0.2)]},
            "precision": conversion.Precision(learned=False, margin=3.0),
        },
    ),
    "transforms.convert_transforms": lambda: Call(
        transforms.convert_transforms,
        {
            **{"parts": Transforms(jahp()), "images": [photo()], "precision": conversion.Precision()},
            "qualities": [1, 2],
        },
    ),
}


def y() -> np.ndarray:
    return np.random.default_rng(5).integers(-900, 900, (6, 2, 4)).astype(np.int32)
