"""The board engine of the MLIC family on a GPU: slices, whose contexts are convolutions and attention on integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fastlic.ops._device_latents import Maps
from fastlic.ops._device_zones import Coder, Decoder, Encoder, Zone
from fastlic.ops.device_board import DeviceBoard

if TYPE_CHECKING:  # triton is loaded when a device engine is made, not before
    from fastlic.kernels.attention import Where
    from fastlic.kernels.convolution import Layer
    from fastlic.kernels.packing import BoardNetwork, Map, Requantiser
    from fastlic.kernels.steps import Step

_FAMILIES = ("mlic", "mlic+", "mlic++")
_OTHERS, _ANCHORS = 0, 1  # parities
_HEADS_INTRA = 2


class DeviceSlices(DeviceBoard):
    """One integer entropy model of the MLIC family, packed for a GPU; arguments and errors as of ``DeviceEngine``.

    Args:
        arrays: ``IntegerMLIC.to_arrays()``, already validated (LatentEngine does it).

    Raises:
        ValueError: attention of more than 64 channels a head.
    """

    _keeps_symbols = True

    def _make(self) -> None:
        family, self._slices = (int(v) for v in self._arrays["shape"])
        self.family = _FAMILIES[family]
        self.latent_channels = len(self._arrays["requantisers.y.input.shift"])
        self._channels = self.latent_channels // self._slices
        self._exp = self._on_device("tables.exp", np.int32)
        self._tanh = self._on_device("tables.tanh", np.int8)
        self._early = self._stack("early")
        self._early_network: BoardNetwork | None = None
        if self._early:
            self._early_network = self._network("parameters.e.0", [self._outputs(self._early), self._features_count])
        self._made = [self._slice(i) for i in range(self._slices)]
        for own in self._made:
            self._surround(own.channel, self._early, *(residual for _, residual in own.turns))
            for attention in (own.inter, own.intra):
                self._surround(*([attention.query, attention.key, attention.value] if attention else []))
            if isinstance(own.local, list):
                self._surround(own.local)

    def _slice(self, i: int) -> _Slice:
        local = self._local(i)
        near = [self._outputs(local) if isinstance(local, list) else local.outputs]
        past, inter, intra = [], None, None
        channel = self._stack(f"channel.{i}")
        if i:
            past.append(self._outputs(channel))
            intra = self._attention(f"intra.{i}", _HEADS_INTRA)
            near.append(intra.outputs)
            if self.family != "mlic":
                inter = self._attention(f"inter.{i}", i)
                past.insert(0, inter.outputs)
        known = [*past, self._features_count]
        return _Slice(
            Zone(1, i * self._channels, self._channels, _ANCHORS),
            self._requantiser("requantisers.y.input", slice(i * self._channels, (i + 1) * self._channels)),
            channel,
            local,
            inter,
            intra,
            (
                (self._network(f"parameters.a.{i}", known), self._stack(f"residual.a.{i}")),
                (self._network(f"parameters.n.{i}", [*near, *known]), self._stack(f"residual.n.{i}")),
            ),
        )

    def _attention(self, name: str, heads: int) -> _Attention:
        from fastlic.kernels.attention import check_heads
        from fastlic.kernels.steps import Step

        query, key, value = (self._stack(f"{name}.{part}") for part in ("query", "key", "value"))
        channels = self._outputs(query)
        check_heads(channels // heads)
        reprojection, mlp = [self._layer(f"{name}.reprojection")], self._stack(f"{name}.mlp")
        limit, outputs = self._bits_of(f"requantisers.{name}.attended"), self._outputs(mlp)
        skip: list[Layer] = []
        if f"layers.{name}.skip.weight" in self._arrays:
            skip = [self._layer(f"{name}.skip")]
            twice = np.full(outputs, 2)
            join = Step.sum(twice, twice, 1, limit, self.device)
        else:
            own = f"requantisers.{name}.residual"
            multiplier, negative, shift = (self._arrays[f"{own}.{row}"] for row in ("multiplier", "negative", "shift"))
            join = Step.residual(multiplier, negative, shift, self._bits_of(own), limit, self.device)
        score = None if self.family == "mlic++" else self._requantiser(f"requantisers.{name}.score")
        attended = self._requantiser(f"requantisers.{name}.attended")
        return _Attention(
            heads, channels, outputs, query, key, value, score, attended, reprojection, mlp, skip, join
        )  # fmt: skip

    def _local(self, i: int) -> list[Layer] | _Windows:
        name = f"local.{i}"
        if self.family == "mlic":
            return self._stack(name)
        from fastlic.kernels.attention import check_heads

        check_heads(self._channels // 2)
        weight = self._arrays[f"layers.{name}.fusion.weight"]
        epsilon = [int(v) for v in self._arrays[f"{name}.epsilon"]]
        score, attended, output = (
            self._requantiser(f"requantisers.{name}.{part}") for part in ("score", "attended", "output")
        )
        proj = self._layer(f"{name}.proj")
        return _Windows(
            proj.outputs,
            (epsilon[0], epsilon[1]),
            self._on_device(f"{name}.bias", np.int32),
            score,
            attended,
            output,
            self._layer(f"{name}.qkv"),
            [self._layer(f"{name}.fusion", weight=weight.reshape(len(weight), -1, 1, 1)), proj],
            [self._layer(f"{name}.mlp.0"), self._layer(f"{name}.mlp.1")],
        )

    def _counts(self, height: int, width: int) -> list[int]:
        return [height * width * self.latent_channels]

    def _known_channels(self, groups: int) -> int:
        return min(groups, self._slices) * self._channels

    def _maps(self, z: Tensor, coder: Encoder | Decoder) -> list[Maps]:
        assert coder.symbols is not None
        first = (t.permute(0, 3, 1, 2) for t in (z, coder.y, coder.symbols))
        return list(zip(*first, strict=True))

    def _schedule(self, coder: Coder, z: Tensor, height: int, width: int) -> None:
        """As fastlic.entropy.mlic.schedule."""
        from fastlic.kernels import checkerboard, convolution

        board = self._board(z, height, width)
        hyper, y_first = board.part(0, self._features_count), self._features_count
        for i, own in enumerate(self._made):
            zone, y = own.zone, coder.y[..., own.zone.part]
            seen = board.part(y_first + zone.first, zone.channels)
            contexts = [hyper]
            if i:
                decoded = board.part(y_first, zone.first)
                contexts.insert(0, self._planes_of(own.channel, decoded))
                if own.inter is not None:
                    contexts.insert(0, self._attend(own.inter, decoded, decoded, decoded))
            for parity, (network, residual) in zip((_ANCHORS, _OTHERS), own.turns, strict=True):
                if parity == _OTHERS:
                    convolution.enter(y, None, own.requantiser, 0, into=seen)
                    near = [self._near(own.local, y, seen)]
                    if own.intra is not None:
                        near.append(self._within(own.intra, self._made[i - 1], coder.y, seen))
                    contexts = [*near, *contexts]
                if parity == _ANCHORS and i == 0 and self._early_network is not None:
                    coder.board(Zone(1, 0, zone.channels, _ANCHORS, 0), network, contexts)
                    convolution.enter(y, None, own.requantiser, 0, into=seen)
                    early = self._planes_of(self._early, seen)
                    coder.board(Zone(1, 0, zone.channels, _ANCHORS, 1), self._early_network, [early, hyper])
                else:
                    coder.board(Zone(1, zone.first, zone.channels, parity), network, contexts)
                convolution.enter(y, None, own.requantiser, 0, into=seen)
                # The hyperprior's means, earlier slices and this one lie side by side.
                first = self.latent_channels
                joined = board.part(first, y_first - first + zone.first + zone.channels)
                checkerboard.refine(self._values_of(residual, joined), self._tanh, y, parity)
            convolution.enter(y, None, own.requantiser, 0, into=seen)

    # ---- contexts

    def _near(self, local: list[Layer] | _Windows, y: Tensor, seen: Map) -> Map:
        """Local context; the latents y and their activations ``seen`` are zero but at anchors."""
        from fastlic.kernels import attention, convolution

        if isinstance(local, list):
            return self._planes_of(local, seen)
        normal = attention.normalise(y, self._channels, local.epsilon[0])
        qkv = convolution.convolve(normal, local.qkv, border=2)
        assert not isinstance(qkv, Tensor)
        fused = attention.windows(qkv, self._channels, local.bias, local.score, local.attended, self._exp)
        x = self._values_of(local.fusion, fused)
        hidden = attention.normalise(x, local.outputs, local.epsilon[1])
        more = self._values_of(local.mlp, hidden)
        return attention.place_sum(x, more, local.outputs, local.output, len(y), (seen.height, seen.width))

    def _within(self, own: _Attention, before: _Slice, y: Tensor, current: Map) -> Map:
        """Attention inside a slice, guided by the one before."""
        from fastlic.kernels.attention import Where
        from fastlic.kernels.convolution import enter

        previous = y[..., before.zone.part]
        q, k = (enter(previous, None, before.requantiser, 0, parity=parity) for parity in (_OTHERS, _ANCHORS))
        return self._attend(own, q, k, current, Where(_OTHERS, _ANCHORS, far=self.family != "mlic++"))

    def _attend(self, own: _Attention, q: Map, k: Map, v: Map, where: Where | None = None) -> Map:
        from fastlic.kernels import attention, steps

        where = attention.Where() if where is None else where
        planes = 3 if own.score is None else 2
        q, k = (self._planes_of(layers, x, planes=planes) for layers, x in ((own.query, q), (own.key, k)))
        v = self._planes_of(own.value, v)
        border, common = own.reprojection[0].border, (q, k, v, own.channels, own.heads, where)
        if own.score is None:
            x = attention.linear(*common, own.attended, self._exp, border)
        else:
            x = attention.softmax(*common, own.score, own.attended, self._exp, border)
        x = self._planes_of(own.reprojection, x)
        more = self._planes_of(own.mlp, x, planes=3)
        beside = self._planes_of(own.skip, x, planes=3) if own.skip else x
        out = steps.combine(own.join, beside, more, planes=2)
        assert not isinstance(out, Tensor)
        return out

    def _bits_of(self, name: str) -> int:
        return int(self._arrays[f"{name}.bits"][0])

    def _on_device(self, name: str, dtype: type) -> Tensor:
        return torch.from_numpy(self._arrays[name].astype(dtype)).to(self.device)


@dataclass(frozen=True)
class _Windows:
    """Local attention of MLIC+ and MLIC++; ``fusion`` is followed by the projection."""

    outputs: int
    epsilon: tuple[int, int]
    bias: Tensor
    score: Requantiser
    attended: Requantiser
    output: Requantiser
    qkv: Layer
    fusion: list[Layer]
    mlp: list[Layer]


@dataclass(frozen=True)
class _Attention:
    """Attention over a map. ``score``: None where weights are those of queries and keys apart."""

    heads: int
    channels: int
    outputs: int
    query: list[Layer]
    key: list[Layer]
    value: list[Layer]
    score: Requantiser | None
    attended: Requantiser
    reprojection: list[Layer]
    mlp: list[Layer]
    skip: list[Layer]
    join: Step


@dataclass(frozen=True)
class _Slice:
    """``turns``: parameters and residual prediction of anchors, and of the others."""

    zone: Zone
    requantiser: Requantiser
    channel: list[Layer]
    local: list[Layer] | _Windows
    inter: _Attention | None
    intra: _Attention | None
    turns: tuple[tuple[BoardNetwork, list[Layer]], tuple[BoardNetwork, list[Layer]]]
