"""Modules of classes that nobody named, as graphs: torch.fx follows their ``forward``, one module at a time.

What a module holds is traced as modules are (fastlic.integers.graph), so that only its own lines are followed:
sums, products with a gate, a map or a constant, activations, concatenations and splits by channel. Whoever converts
such a graph compares it with the module on real inputs: ``Graph.traced`` says that this is due.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx as fx
import torch.nn as nn
from torch import Tensor

from fastlic.integers.graph import Gate, Graph, Product, Sum, scaled, shares
from fastlic.integers.stages import Stage, stage_of


class _Map(int):
    """A value of the graph, by its number; other numbers are a forward's own."""


@dataclass(frozen=True)
class _Joined:
    """Values one after the other along the channels."""

    values: tuple[int, ...]


@dataclass(frozen=True)
class _Logistic:
    """Of a value, which a product makes a gate of."""

    value: int


class _OwnLines(fx.Tracer):
    """Follows a module's own forward and calls what it holds."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def traced(graph: Graph, module: nn.Module, x: int, name: str) -> int:
    """Add what ``module`` makes of value x, as its forward says; returns the number of its output.

    Raises:
        ValueError: its forward does something that has no integer form, or that torch.fx cannot follow.
    """
    no_form = _no_form(module, name)
    if not any(True for _ in module.children()) and type(module).__module__.startswith("torch."):
        raise ValueError(no_form)  # a layer of torch's that no graph knows
    given = list(inspect.signature(module.forward).parameters.values())
    optional = {own.name: own.default for own in given[1:] if own.default is not inspect.Parameter.empty}
    try:
        lines = _OwnLines().trace(module, concrete_args=optional or None)
    except Exception as error:  # a forward may do anything with what it takes for a tensor
        raise ValueError(f"{no_form}: torch.fx cannot follow its forward ({error})") from error
    graph.traced = True
    return _Reader(graph, module, name).output(lines, x)


def _no_form(module: nn.Module, name: str) -> str:
    return f"{name} is a {type(module).__name__}, which has no integer form"


class _Reader:
    """The lines of one module."""

    def __init__(self, graph: Graph, module: nn.Module, name: str) -> None:
        self.graph, self.module, self.name = graph, module, name

    def output(self, lines: fx.Graph, x: int) -> int:
        values: dict[fx.Node, Any] = {}
        for node in lines.nodes:
            if node.op == "output":
                out = values.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
                return self._one(out, "its output")
            if node.op == "placeholder":
                value = values.setdefault(node, _Map(x) if not values else None)
            else:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
                value = self._line(node, list(args), dict(kwargs))
                value = values[node] = _Map(value) if isinstance(value, int) else value
            if isinstance(value, _Map) and len(node.users) > 1:
                self.graph.hold(value)
        raise ValueError(f"{self.name} gives nothing")

    def _line(self, node: fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if node.op == "get_attr":
            return _Constant(operator.attrgetter(str(node.target))(self.module))
        if node.op == "call_module":
            return self._call(str(node.target), *args, **kwargs)
        word = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        read = _LINES.get(word)
        if read is None:
            raise self._refused(f"its forward calls {word}")
        return read(self, *args, **kwargs)

    def _call(self, target: str, x: Any, *rest: Any, **more: Any) -> Any:
        module, path = self.module.get_submodule(target), f"{self.name}.{target}"
        if rest or more:
            raise ValueError(f"{path} reads more than one value")
        if isinstance(module, nn.Sequential) and len(module) and isinstance(module[-1], nn.Sigmoid):
            for key in list(module._modules)[:-1]:
                x = _Map(self._call(f"{target}.{key}", x))
            return self.sigmoid(x)
        if isinstance(module, nn.Sigmoid):
            return self.sigmoid(x)
        if isinstance(x, _Joined):
            return self._joined(module, x, path)
        return self.graph.trace(module, self._one(x, path), path)

    def _joined(self, module: nn.Module, x: _Joined, path: str) -> int:
        """A layer over several values: a sum of layers over one each."""
        if isinstance(module, nn.Sequential) and len(module):
            first, *others = module._modules.items()
            value = self._joined(first[1], x, f"{path}.{first[0]}")  # type: ignore[arg-type]
            for key, child in others:
                value = self.graph.trace(child, value, f"{path}.{key}")
            return value
        if not isinstance(module, nn.Conv2d):
            raise ValueError(f"{path} is a {type(module).__name__}, which has no integer form over joined values")
        stage = stage_of(module, path)
        known = [self.graph.channels(value) for value in x.values]
        if known.count(None) > 1:
            raise ValueError(f"{path} reads joined values of unknown channels")
        sizes = [stage.inputs - sum(c or 0 for c in known) if c is None else c for c in known]
        if min(sizes) < 1 or sum(sizes) != stage.inputs:
            raise ValueError(f"{path} reads {stage.inputs} channels where {sum(sizes)} are")
        whole: int | None = None
        for weight, value in zip(stage.weight.split(sizes, 1), x.values, strict=True):
            bias = stage.bias if whole is None else torch.zeros_like(stage.bias)
            part = self.graph.add(Stage(path, weight.contiguous(), bias, stage.kind), value)
            whole = part if whole is None else self.graph.add(Sum(), whole, part)
        assert whole is not None
        return whole

    def _one(self, value: Any, what: str) -> int:
        if not isinstance(value, _Map):
            raise self._refused(f"{what} is not one map")
        return value

    def _refused(self, why: str) -> ValueError:
        return ValueError(f"{_no_form(self.module, self.name)}: {why}")

    # ---- lines

    def add(self, a: Any, b: Any, **_: Any) -> int:
        if isinstance(a, _Map) and isinstance(b, _Map):
            return self.graph.add(Sum(), a, b)
        value, constant = (a, b) if isinstance(a, _Map) else (b, a)
        stage = self.graph.bare(self._one(value, "a term"))
        if stage is None or not isinstance(constant, (_Constant, float, int)):
            raise self._refused("it adds a constant to something else than a layer's outputs")
        shift = _per_channel(constant, len(stage.bias), self.name)
        return self.graph.amend(value, bias=stage.bias + shift)

    def mul(self, a: Any, b: Any) -> int:
        if isinstance(a, _Logistic) or isinstance(b, _Logistic):
            value, gate = (b, a) if isinstance(a, _Logistic) else (a, b)
            return self.graph.add(Gate(), self._one(value, "what a gate lets through"), gate.value)
        if isinstance(a, _Map) and isinstance(b, _Map):
            return self.graph.add(Product(), self.graph.hold(a), self.graph.hold(b))
        value, constant = (a, b) if isinstance(a, _Map) else (b, a)
        channels = self.graph.channels(self._one(value, "a factor"))
        if channels is None or not isinstance(constant, (_Constant, float, int)):
            raise self._refused("it multiplies a map by what is no constant")
        return scaled(self.graph, value, _per_channel(constant, channels, self.name), self.name)

    def sigmoid(self, x: Any) -> _Logistic:
        return _Logistic(self.graph.hold(self._one(x, "what a gate reads")))

    def cat(self, tensors: Sequence[Any], dim: int = 0) -> Any:
        if dim not in (1, -3):
            raise self._refused(f"it concatenates along dimension {dim}, not along the channels")
        values: list[int] = []
        for own in tensors:
            values += own.values if isinstance(own, _Joined) else [self._one(own, "a joined value")]
        return _Joined(tuple(map(self.graph.hold, values)))

    def chunk(self, x: Any, chunks: int, dim: int = 0) -> tuple[_Map, ...]:
        channels = self.graph.channels(self._one(x, "what is split"))
        if channels is None or channels % chunks:
            raise self._refused(f"it splits a map of {channels} channels into {chunks}")
        return self.split(x, channels // chunks, dim)

    def split(self, x: Any, sizes: Any, dim: int = 0) -> tuple[_Map, ...]:
        channels = self.graph.channels(self._one(x, "what is split"))
        if dim not in (1, -3) or channels is None:
            raise self._refused("it splits something else than channels")
        each = [sizes] * (channels // sizes) if isinstance(sizes, int) else list(sizes)
        if sum(each) != channels:
            raise self._refused(f"it splits {channels} channels into {each}")
        return tuple(map(_Map, shares(self.graph, x, each, self.name)))

    def getitem(self, x: Any, index: Any) -> Any:
        if not isinstance(x, tuple) or not isinstance(index, int):
            raise self._refused("it takes parts of maps")
        return x[index]

    def same(self, x: Any, *_: Any, **__: Any) -> Any:
        return x

    def layer(self, module: nn.Module, x: Any) -> int:
        return self.graph.trace(module, self._one(x, f"what {type(module).__name__} reads"), self.name)


@dataclass(frozen=True)
class _Constant:
    """A parameter or buffer."""

    tensor: Tensor


def _per_channel(constant: Any, channels: int, name: str) -> Tensor:
    """float [channels] of a constant of one value, or of one for each channel."""
    tensor = torch.as_tensor(constant.tensor.detach() if isinstance(constant, _Constant) else float(constant))
    shape = [n for n in tensor.shape if n != 1]
    if shape not in ([], [channels]) or (shape and tensor.ndim > 2 and tensor.shape[-3] != channels):
        raise ValueError(f"{name} has a constant of shape {list(tensor.shape)} for {channels} channels")
    return tensor.float().reshape(-1).expand(channels).clone()


def _leaky(reader: _Reader, x: Any, negative_slope: float = 0.01, inplace: bool = False) -> int:
    return reader.layer(nn.LeakyReLU(negative_slope), x)


_Line = Callable[..., Any]
# By the name of a function of torch, torch.nn.functional or operator, or of a method of tensors.
_LINES: dict[str, _Line] = {
    **dict.fromkeys(("add", "iadd", "add_", "__add__"), _Reader.add),
    **dict.fromkeys(("mul", "imul", "mul_", "multiply"), _Reader.mul),
    **dict.fromkeys(("sigmoid", "sigmoid_"), _Reader.sigmoid),
    **dict.fromkeys(("cat", "concat", "concatenate"), _Reader.cat),
    **dict.fromkeys(("contiguous", "clone", "detach", "dropout"), _Reader.same),
    **dict.fromkeys(("relu", "relu_"), lambda reader, x, inplace=False: reader.layer(nn.ReLU(), x)),
    **dict.fromkeys(("leaky_relu", "leaky_relu_"), _leaky),
    "gelu": lambda reader, x, approximate="none": reader.layer(nn.GELU(approximate), x),
    "silu": lambda reader, x, inplace=False: reader.layer(nn.SiLU(), x),
    "pixel_shuffle": lambda reader, x, upscale_factor: reader.layer(nn.PixelShuffle(upscale_factor), x),
    "chunk": _Reader.chunk,
    "split": _Reader.split,
    "getitem": _Reader.getitem,
    **dict.fromkeys(("eq", "_assert"), lambda *_: None),  # torch.fx holds arguments to their defaults by these
}
