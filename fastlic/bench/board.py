"""The parameter network of a late slice of MLIC++ on random integers, at its published size: for timing alone.

Four 1x1 layers, 1280-640-512-384-64 channels with GELU between them (Jiang et al. 2023, MLIC++'s
``entropy_parameters_nonanchor``), read five maps at one parity of the checkerboard and give scales and means of 32
channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.scales import scale_levels, scale_thresholds
from fastlic.integers.fixed import Requantiser
from fastlic.integers.functions import Tables
from fastlic.ops.checkerboard import as_map, pack_checkerboard

PARTS = (192, 192, 128, 128, 640)  # channels of the maps
HIDDEN = (640, 512, 384)
CHANNELS = 32  # of the slice


def problem(height: int, width: int, device: torch.device) -> tuple[Any, list[Any], list[Tensor], list[Any]]:
    """A network and what it reads.

    Returns:
        The packed network; its maps; the maps' values, int64 [1, h, w, c] in -2047..2047 each; arrays of its layers.
    """
    rng = np.random.default_rng(0)
    layers: list[Any] = []
    inputs = sum(PARTS)
    for i, outputs in enumerate((*HIDDEN, 2 * CHANNELS)):
        last = i == len(HIDDEN)
        bits = 21 if last else 12
        # 74 and 600: deviations of a weight and of an activation. Outputs fill two fifths of their range.
        factor = np.full(outputs, min(1 << (bits - 1), 1 << 16) / (2.5 * 74 * 600 * inputs**0.5))
        arrays = {
            "weight": rng.integers(-127, 128, (outputs, inputs)).astype(np.int8),
            "bias": np.zeros(outputs, np.int32),
            **Requantiser.from_factors(factor, bits).to_arrays("requantise"),
        }
        layers.append(arrays if last else {**arrays, "exponents": np.full(outputs, 8, np.uint8)})
        inputs = outputs
    network = pack_checkerboard(layers, PARTS, scale_thresholds(scale_levels()), Tables.make().gelu_table, device)
    values = [torch.from_numpy(rng.integers(-2047, 2048, (1, height, width, c))).to(device) for c in PARTS]
    return network, [as_map(v, 0) for v in values], values, layers
