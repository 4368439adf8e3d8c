"""Float transforms as graphs of operations that have an integer form, whatever modules they are made of.

``TRACES`` has one function per type of module, which says what the module is made of: a new module is one more of them.
Graphs run in floats, so that calibration sees every value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.integers.functions import Curve
from fastlic.integers.layer import HALVED, PLAIN, SHUFFLED, window
from fastlic.integers.ranges import Ranges
from fastlic.integers.stages import Stage, stage_of
from fastlic.integers.windows import on_grid, places, require_windows
from fastlic.models import layers
from fastlic.models.inference import Gelu
from fastlic.models.mcquic import layers as mcquic
from fastlic.models.mlic import transforms as mlic


@dataclass(frozen=True)
class Norm:
    """GDN or its inverse.

    Attributes:
        beta, gamma: [C] and [C, C], as they act.
        module: that has their parameters.
    """

    beta: Tensor
    gamma: Tensor
    inverse: bool
    module: Any = field(default=None, compare=False, repr=False)

    def __call__(self, x: Tensor) -> Tensor:
        norm = F.conv2d(x * x, self.gamma[:, :, None, None], self.beta)
        return x * norm.sqrt() if self.inverse else x / norm.sqrt()


@dataclass(frozen=True)
class Sum:
    """Of two values."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


@dataclass(frozen=True)
class Product:
    """Of two values."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


@dataclass(frozen=True)
class Gate:
    """The first value times the logistic function of the second."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b.sigmoid()


@dataclass(frozen=True)
class Bend:
    """A curve that follows no layer, or one whose outputs others read too."""

    curve: Curve

    def __call__(self, x: Tensor) -> Tensor:
        return F.gelu(x) if self.curve is Curve.GELU else F.silu(x)


@dataclass(frozen=True)
class Rectify:
    """ReLU that follows no layer, or one whose outputs others read too."""

    def __call__(self, x: Tensor) -> Tensor:
        return F.relu(x)


@dataclass(frozen=True)
class LayerNorm:
    """Over the channels of each position.

    Attributes:
        weight, bias: [C].
    """

    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.movedim(1, -1), x.shape[1:2], self.weight, self.bias, self.epsilon).movedim(-1, 1)


@dataclass(frozen=True)
class WindowAttention:
    """Softmax attention of the positions of a window to each other, from queries, keys and values, C channels of each.

    Attributes:
        size: of square windows; sides of maps are multiples of it.
        offset: where windows begin, less than that: those at the edges of a map are cut.
        heads: that have C / heads channels each, one head after the other.
        scale: of the products of queries and keys.
        bias: [heads, 2 size - 1, 2 size - 1], by how many rows and columns a query lies behind its key, plus size - 1.
    """

    size: int
    offset: int
    heads: int
    scale: float
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x [1, 3 C, h, w] -> [1, C, h, w]. Raises ValueError for sides that are no multiples of the windows'."""
        height, width = require_windows(self.size, (x.shape[2], x.shape[3]))
        whole, there = on_grid(x[0], self.size, self.offset)
        above = (self.size - self.offset) % self.size
        rows = [self._row(*of) for of in zip(whole.split(self.size, 1), there.split(self.size), strict=True)]
        return torch.cat(rows, 1)[None, :, above : above + height, above : above + width]

    def _row(self, x: Tensor, there: Tensor) -> Tensor:
        p, dims = self.size, len(x) // 3 // self.heads
        q, k, v = x.view(3, self.heads, dims, p, -1, p).permute(0, 4, 1, 3, 5, 2).flatten(3, 4)
        keys = there.view(p, -1, p).permute(1, 0, 2).flatten(1)[:, None, None]
        bias = self.bias.flatten(1)[:, torch.from_numpy(places(p))]
        scores = (q * self.scale) @ k.transpose(-1, -2) + bias
        means = scores.masked_fill(~keys, float("-inf")).softmax(-1) @ v
        return means.permute(1, 3, 2, 0).reshape(len(x) // 3, p, p, -1).movedim(3, 2).flatten(2)


@dataclass(frozen=True)
class Softmax:
    """Over each of several groups of channels, one after the other."""

    groups: int

    def __call__(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.groups, -1)).softmax(2).flatten(1, 2)


@dataclass(frozen=True)
class MapMean:
    """The mean of a map's positions, at each of them: what is pooled goes on as a map."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True).expand_as(x)


Operation = Stage | Norm | Sum | Product | Gate | Bend | Rectify | LayerNorm | WindowAttention | Softmax | MapMean


@dataclass
class Graph:
    """Operations over values: value 0 is the input, value k + 1 what operation k makes of earlier values."""

    operations: list[Operation] = field(default_factory=list)
    reads: list[tuple[int, ...]] = field(default_factory=list)
    traced: bool = False  # whether a part was read off a forward, which has to be compared with it
    _held: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, module: nn.Module, name: str) -> Graph:
        """The graph of a transform.

        Raises:
            ValueError: a module that has no integer form, named by its path.
        """
        graph = cls()
        graph.trace(module, 0, name)
        return graph

    def trace(self, module: Any, x: int, name: str) -> int:
        """Add what ``module`` makes of value x; returns the number of its output."""
        found = TRACES.get(type(module))  # not of a base class: a subclass may compute anything
        if found is not None:
            return found(self, module, x, name)
        for recognise in RECOGNISERS:
            if (out := recognise(self, module, x, name)) is not None:
                return out
        from fastlic.integers.traced import traced

        return traced(self, module, x, name)

    def add(self, operation: Operation, *reads: int) -> int:
        """Returns the number of the operation's output."""
        self.operations.append(operation)
        self.reads.append(reads)
        return len(self.operations)

    def hold(self, x: int) -> int:
        """Say that x will be read again, so what follows must not become a part of the layer that makes it."""
        self._held.add(x)
        return x

    def bare(self, x: int) -> Stage | None:
        """The layer that makes x if an activation may become a part of it."""
        stage = self.operations[x - 1] if x > 0 else None
        alone = isinstance(stage, Stage) and x == len(self.operations) and x not in self._held
        return stage if alone and isinstance(stage, Stage) and stage.slope == 1 and stage.curve is None else None

    def channels(self, x: int) -> int | None:
        """Of value x; None for the input, of which nothing is known."""
        while x > 0:
            operation = self.operations[x - 1]
            if isinstance(operation, Stage):
                return len(operation.bias) // operation.kind.cells
            if isinstance(operation, Norm):
                return len(operation.beta)
            if isinstance(operation, WindowAttention):
                inputs = self.channels(self.reads[x - 1][0])
                return None if inputs is None else inputs // 3
            x = self.reads[x - 1][0]
        return None

    def amend(self, x: int, **changes: Any) -> int:
        """Change the layer that makes x."""
        self.operations[x - 1] = replace(self.operations[x - 1], **changes)  # type: ignore[type-var]
        return x

    def from_pixels(self) -> Graph:
        """The graph of inputs in [0, 1] from one of inputs in [-1, 1].

        Raises:
            ValueError: value 0 is read by anything but layers that pad it by reflection: zeros would change.
        """
        out = Graph(list(self.operations), list(self.reads))
        for k, (stage, reads) in enumerate(zip(self.operations, self.reads, strict=True), 1):
            if 0 in reads:
                if not isinstance(stage, Stage) or not (stage.reflect or stage.weight.shape[-1] == 1):
                    raise ValueError("only layers that pad by reflection can take pixels for numbers around zero")
                shift = stage.weight.double().sum((1, 2, 3))
                out.amend(k, weight=2 * stage.weight, bias=(stage.bias.double() - shift).to(stage.bias.dtype))
        return out

    def to_pixels(self) -> Graph:
        """The graph of outputs in [0, 1] from one of outputs in [-1, 1].

        Raises:
            ValueError: its last operation is no layer without an activation.
        """
        out, last = Graph(list(self.operations), list(self.reads)), self.operations[-1]
        if not isinstance(last, Stage) or last.slope != 1 or last.curve is not None:
            raise ValueError("a transform ends in a layer without activation")
        out.amend(len(self.operations), weight=last.weight / 2, bias=(last.bias + 1) / 2)
        return out

    def double(self) -> None:
        """Go on in float64, by copies of the weights."""
        for i, operation in enumerate(self.operations):
            if isinstance(operation, Stage):
                weight = operation.weight.double().contiguous()
                self.operations[i] = replace(operation, weight=weight, bias=operation.bias.double())
            elif isinstance(operation, Norm):
                self.operations[i] = replace(operation, beta=operation.beta.double(), gamma=operation.gamma.double())
            elif isinstance(operation, LayerNorm):
                self.operations[i] = replace(operation, weight=operation.weight.double(), bias=operation.bias.double())
            elif isinstance(operation, WindowAttention):
                self.operations[i] = replace(operation, bias=operation.bias.double())

    def end(self, channels: int) -> None:
        """Have the last operation be a bare layer of one group, as exits want it: one more that changes none of so many
        channels."""
        last = self.bare(len(self.operations))
        if last is None or last.groups > 1:
            self.add(Stage("the exit", torch.eye(channels)[:, :, None, None], torch.zeros(channels)), len(self.reads))

    @torch.no_grad()
    def run(self, x: Tensor, ranges: Ranges | None = None, learn: bool = False) -> Tensor:
        """x [1, C, h, w] -> the last value.

        Args:
            ranges: see every value, under its number; of layers with a curve what the curve reads, of shuffled ones the
                outputs in front of the shuffle.
            learn: whether they remember the moments of layers' inputs, too.
        """
        see = (lambda name, x: x) if ranges is None else ranges.see
        values = [see("0", x)]
        for k, (operation, reads) in enumerate(zip(self.operations, self.reads, strict=True), 1):
            inputs = [values[r] for r in reads]
            if isinstance(operation, Stage):
                if ranges is not None and learn and operation.groups == 1:
                    transposed = operation.kind.transposed
                    side = window(operation.kind, operation.weight.shape[-1])
                    stride = 1 if transposed else operation.kind.stride
                    ranges.remember_inputs(str(k), inputs[0], side, stride, operation.reflect)
                x = operation.convolve(inputs[0])
                bent = operation.curve is not None
                x = operation.activate(see(str(k), x)) if bent else see(str(k), operation.activate(x))
                values.append(operation.shuffled(x))
            else:
                values.append(see(str(k), operation(*inputs)))
        return values[-1]


# ---- what modules are made of

Trace = Callable[
    [Graph, Any, int, str], int
]  # of a module that reads a value, under a name: adds operations, gives the output


Recogniser = Callable[[Graph, Any, int, str], int | None]  # the same; None: the module is not of its kind
# Asked about modules of types that TRACES does not know.
RECOGNISERS: list[Recogniser] = []


def _sequence(graph: Graph, module: nn.Sequential, x: int, name: str) -> int:
    for key, child in module._modules.items():
        x = graph.trace(child, x, f"{name}.{key}")
    return x


def _convolution(graph: Graph, module: Any, x: int, name: str) -> int:
    return graph.add(stage_of(module, name, depthwise=True).turned(), x)


def _leaky(graph: Graph, module: nn.ReLU | nn.LeakyReLU, x: int, name: str) -> int:
    slope = float(getattr(module, "negative_slope", 0.0))
    if graph.bare(x) is not None:
        return graph.amend(x, slope=slope)
    if slope != 0:
        raise ValueError(f"{name} is a {type(module).__name__}, which has no integer form behind anything but a layer")
    return graph.add(Rectify(), x)


def _bend(graph: Graph, curve: Curve, x: int) -> int:
    return graph.add(Bend(curve), x) if graph.bare(x) is None else graph.amend(x, curve=curve)


def _gelu(graph: Graph, module: nn.GELU, x: int, name: str) -> int:
    if module.approximate != "none":
        raise ValueError(f"{name} is an approximate GELU, which has no integer form")
    return _bend(graph, Curve.GELU, x)


def _pool(graph: Graph, module: nn.AdaptiveAvgPool2d, x: int, name: str) -> int:
    if module.output_size not in (1, (1, 1)):
        raise ValueError(f"{name} is an AdaptiveAvgPool2d, which has no integer form but over whole maps")
    graph.traced = True  # nothing but what works position by position may read it
    return graph.add(MapMean(), x)


def _shuffle(graph: Graph, module: nn.PixelShuffle, x: int, name: str) -> int:
    stage = graph.bare(x)
    if stage is None or stage.kind is not PLAIN or module.upscale_factor != 2 or len(stage.bias) % 4:
        raise ValueError(f"{name} is a PixelShuffle, which has no integer form but by 2 and behind a layer")
    return graph.amend(x, kind=SHUFFLED)


def norm(graph: Graph, module: Any, x: int, name: str) -> int:
    beta, gamma = module.beta_reparam(module.beta).detach(), module.gamma_reparam(module.gamma).detach()
    return graph.add(Norm(beta, gamma, module.inverse, module), x)


def _refined_norm(graph: Graph, module: mlic.RefinedGDN, x: int, name: str) -> int:
    return _sequence(graph, module.blocks, norm(graph, module, x, name), f"{name}.blocks")


def scaled(graph: Graph, x: int, factor: Tensor, name: str) -> int:
    """Add value x times a factor [C] for each channel: into the layer that makes it, if nothing stands between."""
    stage = graph.bare(x)
    if stage is not None and stage.kind is PLAIN:
        return graph.amend(x, weight=stage.weight * factor[:, None, None, None], bias=stage.bias * factor)
    return graph.add(Stage(name, factor[:, None, None, None], 0 * factor, groups=len(factor)), x)


def shares(graph: Graph, x: int, each: Sequence[int], name: str) -> list[int]:
    """Add values of so many channels each, those of value x one after the other; gives their numbers.

    Shares of a layer's outputs are layers of their own, of others' 1x1 layers that choose channels.
    """
    stage = graph.bare(x)
    if stage is not None and stage.kind is PLAIN:
        (read,) = graph.reads.pop()
        graph.operations.pop()
        given = [read] * len(each) if stage.groups == 1 else shares(graph, read, each, name)
        parts = zip(given, stage.weight.split(list(each)), stage.bias.split(list(each)), strict=True)
        made = [
            replace(stage, weight=weight.contiguous(), bias=bias.contiguous(), groups=min(stage.groups, len(bias)))
            for _, weight, bias in parts
        ]
    else:
        given = [graph.hold(x)] * len(each)
        rows = torch.eye(sum(each))[:, :, None, None].split(list(each))
        made = [Stage(name, own.contiguous(), torch.zeros(len(own))) for own in rows]
    # Each but the last is followed by another layer.
    return [graph.hold(graph.add(own, at)) for own, at in zip(made, given, strict=True)]


def residue(*branch: str, skip: str | None = None) -> Trace:
    """Of a block that adds what it makes of its input, part by part, to its input.

    Args:
        branch: the block's attributes, in the order of execution.
        skip: the attribute that the input takes on the way past, if it is not None; None: there is none.
    """

    def trace(graph: Graph, module: Any, x: int, name: str) -> int:
        inner = graph.hold(x)
        for part in branch:
            inner = graph.trace(getattr(module, part), inner, f"{name}.{part}")
        past = getattr(module, skip) if skip is not None else None
        return graph.add(Sum(), graph.hold(inner), x if past is None else graph.trace(past, x, f"{name}.{skip}"))

    return trace


def _reflected(graph: Graph, module: mcquic.Conv3, x: int, name: str) -> int:
    kind = PLAIN if module.stride == (1, 1) else HALVED
    return graph.add(Stage.of(module, name, kind=kind, reflect=True), x)


def _attention(graph: Graph, module: mcquic.Attention, x: int, name: str) -> int:
    main = _sequence(graph, module._mainBranch, graph.hold(x), f"{name}._mainBranch")
    side = _sequence(graph, module._sideBranch, x, f"{name}._sideBranch")
    return graph.add(Sum(), graph.add(Gate(), main, side), x)


TRACES: dict[type[nn.Module], Trace] = {
    nn.Sequential: _sequence,
    nn.Identity: lambda graph, module, x, name: x,
    nn.Dropout: lambda graph, module, x, name: x,
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _convolution,
    layers.Deconv: _convolution,
    nn.ReLU: _leaky,
    nn.LeakyReLU: _leaky,
    nn.GELU: _gelu,
    Gelu: _gelu,
    nn.SiLU: lambda graph, module, x, name: _bend(graph, Curve.SILU, x),
    nn.PixelShuffle: _shuffle,
    nn.AdaptiveAvgPool2d: _pool,
    layers.GDN: norm,
    mlic.RefinedGDN: _refined_norm,
    mlic.ResidualBlock: residue("conv1", "act", "conv2", "act", skip="skip"),
    mlic.ResidualBlockWithStride: residue("conv1", "act", "conv2", "gdn", skip="skip"),
    mlic.ResidualBlockUpsample: residue("subpel_conv", "act", "conv", "igdn", skip="upsample"),
    mlic.AnalysisTransform: lambda graph, module, x, name: _sequence(graph, module.analysis_transform, x, name),
    mlic.SynthesisTransform: lambda graph, module, x, name: _sequence(graph, module.synthesis_transform, x, name),
    mlic.HyperAnalysis: lambda graph, module, x, name: _sequence(graph, module.reduction, x, name),
    mcquic.Conv3: _reflected,
    mcquic.GDN: norm,
    mcquic.ResidualBlock: residue("_branch"),
    mcquic.ResidualBlockWithStride: residue("_branch", skip="_skip"),
    mcquic.ResidualBlockShuffle: residue("_branch", skip="_skip"),
    mcquic.Attention: _attention,
}
