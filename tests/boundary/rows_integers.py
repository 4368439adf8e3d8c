"""One row for each public function, class and method of ``fastlic.integers`` (rows.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from values import F32, Call, H, W
from values_library import float_latents, group_networks, maps, requantiser, seen

from fastlic.integers import builder, fixed, functions, layer, layouts, ranges, rounding, stages


def moments() -> torch.Tensor:
    return rounding.second_moments(torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(1)))


def float_layer() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    weight = torch.from_numpy(rng.normal(size=(4, 3, 1, 1)).astype(F32))
    bias = torch.from_numpy(rng.normal(size=4).astype(F32))
    return {"weight": weight, "bias": bias, "input_scale": np.full(3, 0.01), "output_scale": np.full(4, 0.02)}


@cache
def integer_layer() -> layer.Layer:
    return layer.Layer.from_float(**float_layer())


def built() -> builder.Builder:
    return builder.Builder(seen())


def stage() -> stages.Stage:
    torch.manual_seed(1)
    return stages.stage_of(nn.Conv2d(3, 4, 1), "a")


def pair(a: int, b: int) -> dict[str, torch.Tensor]:
    return {"sums": torch.arange(a, a + 6), "totals": torch.arange(b, b + 6)}


INTEGERS: dict[str, Callable[[], Call]] = {
    "builder.Builder": lambda: Call(builder.Builder, {"ranges": seen()}),
    "builder.Builder.layer": lambda: Call(
        built().layer,
        {
            **{"name": "a", "stage": stage(), "inputs": np.full(3, 0.01), "outputs": np.full(4, 0.02), "bits": 12},
        },
    ),
    "builder.Builder.made": lambda: Call(built().made, {"name": "a"}),
    "builder.Builder.stack": lambda: Call(
        built().stack,
        {
            **{"name": "a", "stages": [stage()], "inputs": np.full(3, 0.01), "outputs": np.full(4, 0.02), "bits": 12},
            "inner_bits": 12,
        },
    ),
    "fixed.Requantiser.from_arrays": lambda: Call(
        fixed.Requantiser.from_arrays, {"arrays": requantiser().to_arrays("a"), "prefix": "a"}
    ),
    "fixed.Requantiser.from_factors": lambda: Call(
        fixed.Requantiser.from_factors, {"factors": np.full(4, 0.3), "bits": 12, "negative_slope": 0.5}
    ),
    "fixed.Requantiser.to_arrays": lambda: Call(requantiser().to_arrays, {"prefix": "a"}),
    "fixed.extremes": lambda: Call(fixed.extremes, {"x": float_latents()[0]}),
    "fixed.fixed_point": lambda: Call(fixed.fixed_point, {"y": float_latents()[0], "dtype": torch.int32}),
    "fixed.largest": lambda: Call(fixed.largest, {"bits": 12}),
    "fixed.quantise": lambda: Call(fixed.quantise, {"latent": maps(3), "means": maps(3), "zones": maps(3).abs()}),
    "fixed.reconstruct": lambda: Call(fixed.reconstruct, {"symbols": maps(3), "means": maps(3)}),
    "functions.Tables.exp_of": lambda: Call(tables().exp_of, {"distances": torch.arange(9)}),
    "functions.Tables.from_arrays": lambda: Call(functions.Tables.from_arrays, {"arrays": tables().to_arrays()}),
    "functions.Tables.gelu": lambda: Call(
        tables().gelu, {"x": maps(5).permute(1, 2, 0), "exponents": np.arange(5, dtype=np.uint8)}
    ),
    "functions.Tables.make": lambda: Call(functions.Tables.make, {}),
    "functions.Tables.residue": lambda: Call(tables().residue, {"x": maps(5)}),
    "functions.Tables.to_arrays": lambda: Call(tables().to_arrays, {}),
    "functions.Tables.weights": lambda: Call(
        tables().weights, {"scores": maps(5), "dim": 0, "allowed": torch.ones(5, H, W, dtype=torch.bool)}
    ),
    "functions.epsilon_of": lambda: Call(functions.epsilon_of, {"real": 1e-5, "channels": 8, "unit": 0.01}),
    "functions.mean_of_few": lambda: Call(functions.mean_of_few, pair(5, 1)),
    "functions.mean_of_many": lambda: Call(functions.mean_of_many, pair(5, 1)),
    "functions.normalise": lambda: Call(functions.normalise, {"x": maps(5), "epsilon": 3}),
    "functions.square_root": lambda: Call(functions.square_root, {"x": torch.arange(9)}),
    "layer.Layer.accumulate": lambda: Call(integer_layer().accumulate, {"x": maps(3)}),
    "layer.Layer.as_matrix": lambda: Call(integer_layer().as_matrix, {}),
    "layer.Layer.from_float": lambda: Call(
        layer.Layer.from_float,
        {
            **float_layer(),
            **{"input_bits": 12, "output_bits": 12, "weight_bits": 8, "kind": layer.PLAIN, "groups": 1, "slope": 0.5},
            **{"exponents": np.zeros(4, np.uint8), "moments": torch.eye(4, dtype=torch.float64) * 9},
            **{"biases_up_to": np.ones(4), "curve": functions.Curve.GELU, "reflect": False, "bound": 1 << 29},
        },
    ),
    "layer.Layer.rows": lambda: Call(integer_layer().rows, {"x": maps(3)[:, 0].T, "tables": tables()}),
    "layer.Layer.split_inputs": lambda: Call(integer_layer().split_inputs, {"first": 2}),
    "layer.convolve": lambda: Call(
        layer.convolve,
        {
            **{"x": doubles(1, 3, H, W), "weight": doubles(4, 3, 1, 1), "bias": doubles(4)},
            **{"kind": layer.PLAIN, "groups": 1, "reflect": False},
        },
    ),
    "ranges.Ranges": lambda: Call(ranges.Ranges, {"margin": 1.25}),
    "ranges.Ranges.exponents": lambda: Call(
        seen().exponents, {"name": "y", "curve": functions.Curve.GELU, "bits": 12, "most": 8.0}
    ),
    "ranges.Ranges.largest": lambda: Call(seen().largest, {"name": "y", "slope": 0.5}),
    "ranges.Ranges.remember_inputs": lambda: Call(
        ranges.Ranges().remember_inputs,
        {"name": "a", "x": float_latents()[0], "kernel": 3, "stride": 2, "reflect": True},
    ),
    "ranges.Ranges.run": lambda: Call(ranges.Ranges().run, {"stages": [stage()], "x": float_latents()[0][:, :3]}),
    "ranges.Ranges.scale": lambda: Call(seen().scale, {"name": "y", "floor": 1.0, "bits": 12, "slope": 0.5}),
    "ranges.Ranges.see": lambda: Call(ranges.Ranges().see, {"name": "a", "x": float_latents()[0], "dim": 1}),
    "rounding.round_rows": lambda: Call(
        rounding.round_rows,
        {
            **{"weight": doubles(3, 4), "bias": doubles(3), "unit": doubles(3).abs() / 50},
            **{"moments": moments(), "limit": 127},
        },
    ),
    "rounding.second_moments": lambda: Call(
        rounding.second_moments, {"x": float_latents()[0], "kernel": 3, "stride": 2, "reflect": True}
    ),
    "stages.Stage.activate": lambda: Call(stage().activate, {"x": float_latents()[0]}),
    "stages.Stage.convolve": lambda: Call(stage().convolve, {"x": float_latents()[0][:, :3]}),
    "stages.Stage.of": lambda: Call(stages.Stage.of, {"module": nn.Conv2d(3, 4, 1), "name": "a"}),
    "stages.Stage.shuffled": lambda: Call(stage().shuffled, {"x": float_latents()[0]}),
    "stages.Stage.turned": lambda: Call(stage().turned, {}),
    "stages.stage_of": lambda: Call(stages.stage_of, {"module": nn.Conv2d(3, 4, 1), "name": "a", "depthwise": True}),
    "stages.stages_of": lambda: Call(stages.stages_of, {"network": group_networks().h_s, "name": "a"}),
    "layouts.Layout": lambda: Call(layouts.Layout, {}),
    "layouts.Layout.from_arrays": lambda: Call(
        layouts.STRIDES.from_arrays, {"arrays": layouts.STRIDES.to_arrays(integer_layer(), "a"), "prefix": "a"}
    ),
    "layouts.Layout.from_arrays (kinds)": lambda: Call(
        layouts.KINDS.from_arrays, {"arrays": layouts.KINDS.to_arrays(integer_layer(), "a"), "prefix": "a"}
    ),
    "layouts.Layout.from_arrays (matrices)": lambda: Call(
        layouts.MATRICES.from_arrays, {"arrays": layouts.MATRICES.to_arrays(integer_layer(), "a"), "prefix": "a"}
    ),
    "layouts.Layout.to_arrays": lambda: Call(layouts.STRIDES.to_arrays, {"layer": integer_layer(), "prefix": "a"}),
    "layouts.Layout.to_arrays (kinds)": lambda: Call(
        layouts.KINDS.to_arrays, {"layer": integer_layer(), "prefix": "a"}
    ),
}


@cache
def tables() -> functions.Tables:
    return functions.Tables.make()


def doubles(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=shape))
