"""What CompressAI's layers are made of, for networks of integers: importing this adds them to the table of traces."""

from __future__ import annotations

from typing import Any

from fastlic.integers.graph import TRACES, Gate, Graph, Sum, norm, residue
from fastlic.integrations.compressai.theirs import (
    GDN,
    AttentionBlock,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    ResidualBottleneckBlock,
)


def _attention(graph: Graph, module: Any, x: int, name: str) -> int:
    main = graph.hold(_units(graph, module.conv_a, graph.hold(x), f"{name}.conv_a"))
    gate = _units(graph, module.conv_b, x, f"{name}.conv_b")
    return graph.add(Sum(), graph.add(Gate(), main, gate), x)


def _units(graph: Graph, sequence: Any, x: int, name: str) -> int:
    """A branch of attention, whose residual units are of a class that each block makes for itself."""
    for key, module in sequence._modules.items():
        path = f"{name}.{key}"
        if type(module).__qualname__ == f"{AttentionBlock.__qualname__}.__init__.<locals>.ResidualUnit":
            inner = graph.trace(module.conv, graph.hold(x), f"{path}.conv")
            x = graph.trace(module.relu, graph.add(Sum(), inner, x), f"{path}.relu")
        else:
            x = graph.trace(module, x, path)
    return x


TRACES.update(
    {
        GDN: norm,
        ResidualBlock: residue("conv1", "leaky_relu", "conv2", "leaky_relu", skip="skip"),
        ResidualBlockWithStride: residue("conv1", "leaky_relu", "conv2", "gdn", skip="skip"),
        ResidualBlockUpsample: residue("subpel_conv", "leaky_relu", "conv", "igdn", skip="upsample"),
        ResidualBottleneckBlock: residue("conv1", "relu1", "conv2", "relu2", "conv3", skip="skip"),
        AttentionBlock: _attention,
    }
)
