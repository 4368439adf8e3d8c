"""What CompressAI's layers are made of, for networks of integers: importing this adds them to the table of traces."""

from __future__ import annotations

from typing import Any

from compressai.layers import GDN, AttentionBlock, ResidualBlock, ResidualBlockUpsample, ResidualBlockWithStride
from compressai.models.sensetime import ResidualBottleneckBlock

from fastlic.integers.graph import TRACES, Gate, Graph, Sum, norm


def _with_stride(graph: Graph, module: Any, x: int, name: str) -> int:
    inner = graph.trace(module.conv1, graph.hold(x), f"{name}.conv1")
    inner = graph.trace(module.leaky_relu, inner, f"{name}.leaky_relu")
    inner = graph.trace(module.conv2, inner, f"{name}.conv2")
    inner = graph.hold(graph.trace(module.gdn, inner, f"{name}.gdn"))
    return graph.add(Sum(), inner, _skip(graph, module.skip, x, name))


def _upsample(graph: Graph, module: Any, x: int, name: str) -> int:
    inner = graph.trace(module.subpel_conv, graph.hold(x), f"{name}.subpel_conv")
    inner = graph.trace(module.leaky_relu, inner, f"{name}.leaky_relu")
    inner = graph.trace(module.conv, inner, f"{name}.conv")
    inner = graph.hold(graph.trace(module.igdn, inner, f"{name}.igdn"))
    return graph.add(Sum(), inner, graph.trace(module.upsample, x, f"{name}.upsample"))


def _residual(graph: Graph, module: Any, x: int, name: str) -> int:
    inner = graph.trace(module.conv1, graph.hold(x), f"{name}.conv1")
    inner = graph.trace(module.leaky_relu, inner, f"{name}.leaky_relu")
    inner = graph.trace(module.conv2, inner, f"{name}.conv2")
    inner = graph.hold(graph.trace(module.leaky_relu, inner, f"{name}.leaky_relu"))
    return graph.add(Sum(), inner, _skip(graph, module.skip, x, name))


def _bottleneck(graph: Graph, module: Any, x: int, name: str) -> int:
    inner = graph.hold(x)
    for own in ("conv1", "relu1", "conv2", "relu2", "conv3"):
        inner = graph.trace(getattr(module, own), inner, f"{name}.{own}")
    return graph.add(Sum(), graph.hold(inner), _skip(graph, module.skip, x, name))


def _skip(graph: Graph, module: Any, x: int, name: str) -> int:
    return x if module is None else graph.trace(module, x, f"{name}.skip")


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
        ResidualBlock: _residual,
        ResidualBlockWithStride: _with_stride,
        ResidualBlockUpsample: _upsample,
        ResidualBottleneckBlock: _bottleneck,
        AttentionBlock: _attention,
    }
)
