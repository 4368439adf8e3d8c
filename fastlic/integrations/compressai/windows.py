"""Blocks with attention within windows, and norms over channels, of whatever class: recognised, and proven by trial.

WACNN, TCM, DCAE and CompressAI's versions of them name their parts alike, or nearly so, but their classes are the
models' own and cut maps into windows, or turn their axes, in lines of their own. So a module is read by its attributes,
and the reading is believed only if it computes what the module does: on random maps of two sizes, to 1e-4 of the
largest value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.integers.functions import Curve
from fastlic.integers.graph import Graph, LayerNorm, Product, Sum, WindowAttention, scaled
from fastlic.integers.layer import HALVED, SHUFFLED
from fastlic.integers.stages import Stage, stage_of

# Maps that a reading is tried on, in windows.
_TRIALS = ((2, 3), (3, 2))
_TOLERANCE = 1e-4
_Read = Callable[[Graph, Any, int, str], int]


def recognise(graph: Graph, module: Any, x: int, name: str) -> int | None:
    """Add what a block with windows, or a norm, makes of value x.

    Returns:
        The number of its output; None: the module is neither.

    Raises:
        ValueError: it looks like one, but does not compute what such a block does, or holds what has no integer form.
    """
    found = _channel_norm(module) or _reading(module)
    if found is None:
        return None
    prove(module, found.read, found.channels, name, found.size, found.what)
    return found.read(graph, module, x, name)


@dataclass(frozen=True)
class _Reading:
    """How to read a module, and what to try it on: its channels, and the side of its windows."""

    read: _Read
    channels: int
    size: int
    what: str = "block with windows"


def _reading(module: Any) -> _Reading | None:
    block = _block(getattr(module, "trans_block", None))
    if (
        block is not None
        and _holds(module, nn.Conv2d, "conv1_1", "conv1_2")
        and _holds(module, nn.Module, "conv_block")
    ):
        return _Reading(_mixed, module.conv1_1.in_channels, block.attention.size)
    first, second = (_block(getattr(module, part, None)) for part in ("block_1", "block_2"))
    if first is not None and second is not None:
        return _Reading(_pair, first.attention.qkv.in_features, first.attention.size)
    own = _residual_attention(module)
    if own is not None:
        return _Reading(_beside, own.qkv.in_features, own.size)
    blocks = _stack(module)
    return (
        None if blocks is None else _Reading(_convolved, blocks[0].attention.qkv.in_features, blocks[0].attention.size)
    )


def _channel_norm(module: Any) -> _Reading | None:
    """Of a norm over the channels of maps, which holds a weight and a bias and no layers."""
    own = {name for name, _ in module.named_parameters()} if isinstance(module, nn.Module) else set()
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    plain = own == {"weight", "bias"} and not any(True for _ in module.buffers()) and type(module) is not nn.LayerNorm
    if not plain or not isinstance(weight, Tensor) or not isinstance(bias, Tensor) or {weight.ndim, bias.ndim} != {1}:
        return None
    if not isinstance(getattr(module, "eps", None), float):
        return None
    return _Reading(_normed, len(weight), 4, "norm over channels")


@torch.no_grad()
def prove(
    module: nn.Module, read: _Read, channels: int, name: str, size: int = 4, what: str = "attention to a dictionary"
) -> None:
    """Raise ValueError unless a module computes what was read of it, on random maps.

    Args:
        channels: of the maps.
        size: that their sides are multiples of.
        what: it has the parts of.
    """
    graph = Graph()
    read(graph, module, 0, name)
    weight = next(module.parameters())
    for high, wide in _TRIALS:
        generator = torch.Generator().manual_seed(high)
        x = torch.randn(1, channels, high * size, wide * size, generator=generator).to(weight)
        try:
            want = module(x.clone())
        except Exception as error:  # a forward may do anything with what it takes for its input
            raise ValueError(f"{name} is a {type(module).__name__}, which does not run on a map: {error}") from error
        got = graph.run(x)
        same = isinstance(want, Tensor) and want.shape == got.shape
        if not same or bool((got - want).abs().max() > _TOLERANCE * want.abs().max()):
            raise ValueError(
                f"{name} is a {type(module).__name__}, which has the parts of a {what} but does not compute what such "
                "a one does: it has no integer form"
            )


# ---- what blocks hold


@dataclass(frozen=True)
class _Attention:
    """Attention within windows, from a linear layer over channels to others.

    Attributes:
        bias: [heads, 2 size - 1, 2 size - 1].
        after: linear layers behind it, in their order.
    """

    qkv: nn.Linear
    size: int
    offset: int
    heads: int
    scale: float
    bias: Tensor
    after: tuple[nn.Linear, ...]


@dataclass(frozen=True)
class _Block:
    """A transformer's block: two norms, attention, two linear layers with a GELU between them.

    Attributes:
        depthwise: between both, over one half of the first one's outputs; the GELU stands behind it, and the other half
            is what its outputs are multiplied by.
        past: what the way past the second part takes.
        scales: [C] by which the ways past both parts are multiplied.
    """

    norms: tuple[nn.LayerNorm, nn.LayerNorm]
    attention: _Attention
    mlp: tuple[nn.Linear, nn.Linear]
    depthwise: nn.Conv2d | None
    past: nn.Linear | None
    scales: tuple[Tensor | None, Tensor | None]


def _holds(module: Any, kind: type, *names: str) -> bool:
    return all(isinstance(getattr(module, name, None), kind) for name in names)


def _one_of(module: Any, kind: type, *names: str) -> Any:
    """The first attribute of that kind under one of these names, or None."""
    return next((own for own in (getattr(module, name, None) for name in names) if isinstance(own, kind)), None)


def _attention(module: Any) -> _Attention | None:
    """Attention as it is, or wrapped in what shifts its windows."""
    inner = _attention(module.attn) if _holds(module, nn.Module, "attn") else None
    if inner is not None:
        after = _one_of(module, nn.Linear, "output_proj")
        return replace(
            inner, offset=_offset(module, inner), after=inner.after if after is None else (*inner.after, after)
        )
    qkv, proj = _one_of(module, nn.Linear, "qkv", "embedding_layer"), _one_of(module, nn.Linear, "proj", "linear")
    bias = _one_of(module, Tensor, "relative_position_bias_table", "relative_position_params")
    if qkv is None or proj is None or bias is None or qkv.out_features != 3 * qkv.in_features:
        return None
    table = bias.detach()
    if table.ndim == 2:  # [(2 p - 1)^2, heads]
        side = round(len(table) ** 0.5)
        if side * side != len(table):
            return None
        table = table.T.reshape(-1, side, side)
    heads, side, other = table.shape if table.ndim == 3 else (0, 0, 0)
    if heads < 1 or side != other or side % 2 == 0 or qkv.in_features % heads:
        return None
    scale = getattr(module, "scale", (qkv.in_features // heads) ** -0.5)
    if not isinstance(scale, (int, float)):
        return None
    own = _Attention(qkv, (side + 1) // 2, 0, heads, float(scale), table.contiguous(), (proj,))
    return replace(own, offset=_offset(module, own))


def _offset(module: Any, attention: _Attention) -> int:
    """Where its windows begin: ``shift_size``, or half a window where its ``type`` says that they are shifted."""
    shift = getattr(module, "shift_size", None)
    if isinstance(shift, (tuple, list)) and len(set(shift)) == 1:
        shift = shift[0]
    if isinstance(shift, int):
        return shift % attention.size
    return attention.size // 2 if getattr(module, "type", None) == "SW" else attention.offset


def _block(module: Any) -> _Block | None:
    norms = tuple(_one_of(module, nn.LayerNorm, f"norm{k}", f"ln{k}") for k in (1, 2))
    own = next((a for a in map(_attention, (getattr(module, n, None) for n in ("msa", "attn"))) if a is not None), None)
    mlp = getattr(module, "mlp", None)
    leaves = [m for m in mlp.modules() if not any(True for _ in m.children())] if isinstance(mlp, nn.Module) else []
    kinds = [leaf for leaf in leaves if not isinstance(leaf, (nn.Dropout, nn.Identity))]
    depthwise = next((leaf for leaf in kinds if type(leaf) is nn.Conv2d and leaf.groups == leaf.out_channels), None)
    kinds = [leaf for leaf in kinds if leaf is not depthwise]
    good = [type(leaf) for leaf in kinds] == [nn.Linear, nn.GELU, nn.Linear]
    if own is None or None in norms or not good or kinds[1].approximate != "none":  # type: ignore[union-attr]
        return None
    past = _one_of(module, nn.Linear, "residual_proj")
    scales = tuple(_one_of(getattr(module, f"res_scale_{k}", None), Tensor, "scale") for k in (1, 2))
    own = replace(own, offset=_offset(module, own))
    return _Block(norms, own, (kinds[0], kinds[2]), depthwise, past, scales)  # type: ignore[arg-type]


def _stack(module: Any) -> list[_Block] | None:
    """Of a module that runs transformers' blocks, and a layer over the last one's outputs, beside its input."""
    layers = getattr(module, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers) or not _holds(module, nn.Conv2d, "conv"):
        return None
    blocks = [_block(own) for own in layers]
    return None if None in blocks else blocks  # type: ignore[return-value]


def _residual_attention(module: Any) -> _Attention | None:
    """Of a block that adds attention to its input, and does nothing else."""
    norms = any(isinstance(child, nn.LayerNorm) for child in module.children()) if isinstance(module, nn.Module) else 1
    return None if norms else _attention(module)


# ---- what they are made of


def linear(graph: Graph, layer: nn.Linear, x: int, name: str, **how: Any) -> int:
    stage = Stage.of(layer, name, **how)
    return graph.add(replace(stage, weight=stage.weight[:, :, None, None]), x)


def _attend(graph: Graph, own: _Attention, x: int, name: str) -> int:
    qkv = graph.hold(linear(graph, own.qkv, x, f"{name}.qkv"))
    out = graph.add(WindowAttention(own.size, own.offset, own.heads, own.scale, own.bias), qkv)
    stages = [Stage.of(layer, f"{name}.proj") for layer in own.after]
    weight, bias = stages[0].weight, stages[0].bias
    for stage in stages[1:]:  # nothing stands between them: they are one
        weight, bias = stage.weight @ weight, stage.weight @ bias + stage.bias
    return graph.hold(graph.add(Stage(f"{name}.proj", weight[:, :, None, None], bias), out))


def layer_norm(graph: Graph, module: nn.LayerNorm, x: int) -> int:
    ones = torch.ones(module.normalized_shape)
    weight = ones if module.weight is None else module.weight.detach()
    bias = 0 * ones if module.bias is None else module.bias.detach()
    return graph.add(LayerNorm(weight, bias, module.eps), x)


def _transformer(graph: Graph, own: _Block, x: int, name: str) -> int:
    x = graph.hold(x)
    inner = _attend(graph, own.attention, layer_norm(graph, own.norms[0], x), f"{name}.attention")
    y = graph.hold(graph.add(Sum(), inner, _scaled(graph, x, own.scales[0], f"{name}.res_scale_1")))
    inner = layer_norm(graph, own.norms[1], y)
    if own.depthwise is None:
        inner = linear(graph, own.mlp[0], inner, f"{name}.mlp.0", curve=Curve.GELU)
    else:
        inner = gated(graph, own.mlp[0], own.depthwise, inner, f"{name}.mlp")
    inner = graph.hold(linear(graph, own.mlp[1], inner, f"{name}.mlp.1"))
    past = y if own.past is None else graph.hold(linear(graph, own.past, y, f"{name}.residual_proj"))
    return graph.add(Sum(), inner, _scaled(graph, past, own.scales[1], f"{name}.res_scale_2"))


def gated(graph: Graph, first: nn.Linear, depthwise: nn.Conv2d, x: int, name: str) -> int:
    """GELU of a depthwise layer over one half of a linear one's outputs, times the other half."""
    stage = Stage.of(first, f"{name}.0")
    halves = [
        graph.hold(graph.add(replace(stage, weight=weight[:, :, None, None].contiguous(), bias=bias.contiguous()), x))
        for weight, bias in zip(stage.weight.chunk(2), stage.bias.chunk(2), strict=True)
    ]
    bent = replace(stage_of(depthwise, f"{name}.depthwise", depthwise=True), curve=Curve.GELU)
    return graph.add(Product(), graph.add(bent, halves[0]), halves[1])


def _scaled(graph: Graph, x: int, factor: Tensor | None, name: str) -> int:
    return x if factor is None else graph.hold(scaled(graph, x, factor.detach().reshape(-1), name))


def _known(module: Any) -> _Block:
    own = _block(module)
    assert own is not None
    return own


def _pair(graph: Graph, module: Any, x: int, name: str) -> int:
    for part in ("block_1", "block_2"):
        x = _transformer(graph, _known(getattr(module, part)), x, f"{name}.{part}")
    return x


def _convolved(graph: Graph, module: Any, x: int, name: str) -> int:
    blocks, y = _stack(module), graph.hold(x)
    assert blocks is not None
    for k, own in enumerate(blocks):
        y = _transformer(graph, own, y, f"{name}.layers.{k}")
    return graph.add(Sum(), graph.hold(graph.trace(module.conv, y, f"{name}.conv")), x)


def _normed(graph: Graph, module: Any, x: int, name: str) -> int:
    return graph.add(LayerNorm(module.weight.detach(), module.bias.detach(), module.eps), x)


def _beside(graph: Graph, module: Any, x: int, name: str) -> int:
    own = _residual_attention(module)
    assert own is not None
    return graph.add(Sum(), _attend(graph, own, graph.hold(x), f"{name}.attn"), x)


def _mixed(graph: Graph, module: Any, x: int, name: str) -> int:
    """A layer whose outputs go to a convolutional block and a transformer's, and one over both of theirs."""
    first, last = stage_of(module.conv1_1, f"{name}.conv1_1"), stage_of(module.conv1_2, f"{name}.conv1_2")
    own = _known(module.trans_block)
    channels = len(first.bias) - own.attention.qkv.in_features
    x = graph.hold(x)

    def layer(stage: Stage, reads: int, **parts: Any) -> int:
        return graph.hold(graph.add(replace(stage, **{key: part.contiguous() for key, part in parts.items()}), reads))

    one = layer(first, x, weight=first.weight[:channels], bias=first.bias[:channels])
    one = graph.add(Sum(), graph.hold(graph.trace(module.conv_block, one, f"{name}.conv_block")), one)
    two = layer(first, x, weight=first.weight[channels:], bias=first.bias[channels:])
    two = _transformer(graph, own, two, f"{name}.trans_block")
    one = layer(last, one, weight=last.weight[:, :channels])
    two = layer(last, two, weight=last.weight[:, channels:], bias=torch.zeros_like(last.bias))
    return graph.add(Sum(), graph.add(Sum(), one, two), x)


# ---- stages of blocks that a model calls one by one, as STF has them


def read_analysis(graph: Graph, module: Any, x: int, name: str) -> int:
    """Of a ``stages.Analysis``: an embedding of patches and stages."""
    embedding, graph.traced = module.patch_embed, True  # held against the module as a whole
    if not _holds(embedding, nn.Conv2d, "proj"):
        raise ValueError(f"{name}.patch_embed has no proj, which would be a convolution")
    proj, norm = embedding.proj, getattr(embedding, "norm", None)
    if (proj.kernel_size, proj.stride, proj.padding, proj.groups) != ((2, 2), (2, 2), (0, 0), 1):
        raise ValueError(f"{name}.patch_embed.proj is a convolution of a kind that has no integer form: {proj}")
    # The same with a 3x3 kernel around the first of the four pixels.
    weight = torch.nn.functional.pad(proj.weight.detach(), (1, 0, 1, 0))
    x = graph.add(replace(Stage.of(proj, f"{name}.patch_embed.proj", kind=HALVED), weight=weight), x)
    if norm is not None:
        x = layer_norm(graph, norm, x)
    return _stages(graph, module.layers, x, f"{name}.layers")


def read_synthesis(graph: Graph, module: Any, x: int, name: str) -> int:
    """Of a ``stages.Synthesis``: stages and what makes pixels of the last one's map."""
    graph.traced = True
    x = _stages(graph, module.syn_layers, x, f"{name}.syn_layers")
    return graph.trace(module.end_conv, x, f"{name}.end_conv")


def _stages(graph: Graph, modules: nn.Module, x: int, name: str) -> int:
    for key, module in modules.named_children():
        path, blocks = f"{name}.{key}", getattr(module, "blocks", None)
        if not isinstance(blocks, nn.ModuleList) or not len(blocks) or any(_block(own) is None for own in blocks):
            raise ValueError(f"{path} is a {type(module).__name__}, which is no stage of blocks with windows")
        for k, own in enumerate(blocks):
            x = _transformer(graph, _known(own), x, f"{path}.blocks.{k}")
        channels = _known(blocks[0]).attention.qkv.in_features
        if (resize := getattr(module, "downsample", None)) is not None:
            x = _resized(graph, resize, x, channels, f"{path}.downsample")
    return x


def _resized(graph: Graph, module: Any, x: int, channels: int, name: str) -> int:
    """A norm and a linear layer: over four neighbours as one position, or before a shuffle that makes four of one."""
    norm, layer = (_one_of(module, kind, own) for kind, own in ((nn.LayerNorm, "norm"), (nn.Linear, "reduction")))
    if norm is None or layer is None or layer.in_features not in (channels, 4 * channels) or layer.out_features % 4:
        raise ValueError(f"{name} is a {type(module).__name__}, which has no integer form")
    if layer.in_features == channels:
        return linear(graph, layer, layer_norm(graph, norm, x), f"{name}.reduction", kind=SHUFFLED)
    gather = torch.zeros(4, channels, channels, 3, 3)
    for k, (column, row) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):  # Swin goes down first, then right
        gather[k, :, :, 1 + row, 1 + column] = torch.eye(channels)
    four = Stage(f"{name}.gather", gather.flatten(0, 1), torch.zeros(4 * channels), kind=HALVED)
    return linear(graph, layer, layer_norm(graph, norm, graph.add(four, x)), f"{name}.reduction")
