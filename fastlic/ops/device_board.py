"""The board engine on a GPU: models whose latents are coded in zones, one after the other, of channels and of a
checkerboard's parities; the same integers, sections and latents as fastlic.ops.latents, in Triton kernels.

Context networks run over whole maps, parameter networks at the positions that are coded. All rANS coding is on the
device; the host reads headers and, at the end, whether the streams ended well. Under TRITON_INTERPRET=1 it runs on the
CPU, slowly, for tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fastlic.ops._device_latents import Arrays, Coded, DeviceLatents, Maps
from fastlic.ops.latents import Stream, Target
from fastlic.ops.tables import CdfTables

if TYPE_CHECKING:  # triton is loaded when a device engine is made, not before
    from fastlic.kernels.convolution import Layer
    from fastlic.kernels.packing import BoardNetwork, Map, Requantiser
    from fastlic.kernels.rans import Streams

_KINDS = ((1, False, 1), (2, True, 1), (1, False, 2), (2, False, 1))  # stride, transposed, shuffle (fastlic.integers)
_GELU_FINE = 12  # F of GELU's tail: docs/transforms.md
_WHOLE = 2  # stands in place of a parity where a group is coded in one pass
_EXPONENTS, _ENTRIES = 16, 4096  # of GELU's table


@dataclass(frozen=True)
class _Zone:
    """What is coded together.

    Attributes:
        section: of the stream.
        first, channels: of the latent.
        parity: of the positions; None: all of them.
        rows: even (0) or odd (1) ones alone; None: all.
    """

    section: int
    first: int
    channels: int
    parity: int | None
    rows: int | None = None

    @property
    def part(self) -> slice:
        return slice(self.first, self.first + self.channels)


class _Coder(Protocol):
    """One direction. ``y``: what a decoder has so far, int32 [images, h, w, M]."""

    y: Tensor

    def board(self, zone: _Zone, network: BoardNetwork, maps: Sequence[Map]) -> None:
        """The positions of one parity, whose network reads these maps."""

    def whole(self, zone: _Zone, head: Tensor) -> None:
        """All positions, of scales and means int32 [images, h, w, 2 channels]."""


class _Encoder:
    """Collects table rows and symbols of every section."""

    def __init__(self, target: Tensor, zones: Tensor | None, thresholds: Tensor) -> None:
        self.y = torch.zeros_like(target)
        self.symbols = torch.zeros_like(target)
        self.coded: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._target, self._zones, self._thresholds = target, zones, thresholds

    def board(self, zone: _Zone, network: BoardNetwork, maps: Sequence[Map]) -> None:
        from fastlic.kernels import checkerboard

        assert zone.parity is not None
        target, y = self._target[..., zone.part], self.y[..., zone.part]
        indexes, symbols = checkerboard.encode(network, maps, zone.parity, target, y, None, zone.rows, self._zones)
        _spread(symbols, self.symbols[..., zone.part], zone)
        self.coded.setdefault(zone.section, []).append((indexes, symbols))

    def whole(self, zone: _Zone, head: Tensor) -> None:
        from fastlic.kernels import quantize

        target = self._target[..., zone.part]
        indexes, symbols, y = quantize.quantise_head(target, head, self._thresholds, self._zones)
        self.y[..., zone.part] = y
        self.coded.setdefault(zone.section, []).append((indexes, symbols))


class _Decoder:
    """Reads symbols of the first ``known`` channels, and takes those of the others for 0."""

    def __init__(
        self, model: DeviceBoard, sections: Sequence[Sequence[Any]], size: tuple[int, int], known: int
    ) -> None:
        shape = (len(sections), *size, model.latent_channels)
        self.y = torch.zeros(shape, dtype=torch.int32, device=model.device)
        self.symbols = torch.zeros_like(self.y)
        self._model, self._sections, self._known = model, sections, known
        self._streams: dict[int, Streams] = {}
        self._partly: set[int] = set()

    def board(self, zone: _Zone, network: BoardNetwork, maps: Sequence[Map]) -> None:
        from fastlic.kernels import checkerboard

        assert zone.parity is not None
        indexes, means = checkerboard.parameters(network, maps, zone.parity, None, zone.rows)
        symbols = self._read(zone, indexes)
        checkerboard.place(symbols, means, self.y[..., zone.part], zone.parity, zone.rows)
        _spread(symbols, self.symbols[..., zone.part], zone)

    def whole(self, zone: _Zone, head: Tensor) -> None:
        from fastlic.kernels import quantize

        indexes, means = quantize.head_indexes(head, self._model._thresholds)
        symbols = self._read(zone, indexes)
        self.y[..., zone.part] = quantize.dequantise(symbols.reshape(means.shape), means)

    def _read(self, zone: _Zone, indexes: Tensor) -> Tensor:
        from fastlic.kernels import rans

        number = zone.section
        if zone.first >= self._known:
            self._partly.add(number)
            return torch.zeros(indexes.shape, dtype=torch.int32, device=indexes.device)
        if number not in self._streams:
            self._streams[number] = rans.open_streams([image[number] for image in self._sections], indexes.device)
        return rans.decode(self._streams[number], indexes.flatten(1), self._model._y_tables).reshape(indexes.shape)

    def finish(self) -> None:
        """Demand that all that was read to its end ended well."""
        from fastlic.kernels import rans

        for number, streams in self._streams.items():
            if number not in self._partly:
                rans.finish(streams, [image[number] for image in self._sections])


class DeviceBoard(DeviceLatents):
    """One integer entropy model of channel groups, packed for a GPU.

    Args:
        arrays: ``IntegerGroups.to_arrays()``, already validated (LatentEngine does it).
        z_tables, y_tables: the coder's tables.
        device: of the kernels; by default the current GPU, or the CPU in Triton's interpreter.

    Raises:
        BackendUnavailable: neither a GPU nor the interpreter is there.
    """

    def __init__(self, arrays: Arrays, z_tables: CdfTables, y_tables: CdfTables, device: Any = None) -> None:
        self._tail: Tensor | None = None
        super().__init__(arrays, "layers.", "requantisers.", z_tables, y_tables, device)
        self._features_count = self._outputs(self._hyper)
        self._gelu = self._gelu_table()
        self._room = self._border = 0  # in front of the features in the map that networks read, and around it
        self._make()

    def encode_many(self, targets: Sequence[Target], threads: int = 1, lanes: int = 0) -> list[Coded]:
        """As ``LatentEngine.encode_many``; images of one size go through the device together, results stay there.

        Args:
            threads: of no use here.
            lanes: of every stream; 0 chooses as the C++ engine does, which gives its bytes.
        """
        return self._encode_many(targets, lanes)

    def decode_many(self, streams: Sequence[Stream], threads: int = 1, groups: int | None = None) -> list[Maps]:
        """As ``LatentEngine.decode_many``; images of one size go through the device together.

        Raises:
            CorruptStreamError: the sections do not hold exactly these latents.
        """
        return self._decode_many(streams, groups)

    def _encode(self, z: Tensor, y: Tensor, zones: Tensor | None, lanes: int, **how: Any) -> list[Coded]:
        from fastlic.kernels.rans_encode import encode

        symbols, z_bytes = self._encode_z(z, lanes)
        coder = _Encoder(y, zones, self._thresholds)
        self._schedule(coder, symbols, *y.shape[1:3])
        sections = [z_bytes]
        for _, coded in sorted(coder.coded.items()):
            indexes, given = (torch.cat([own.flatten(1) for own in parts], 1) for parts in zip(*coded, strict=True))
            sections.append(encode(given, indexes, self._y_tables, lanes))
        maps = self._maps(symbols, coder)
        return [(list(own), *one) for own, one in zip(zip(*sections, strict=True), maps, strict=True)]

    def _decode(
        self, sections: Sequence[Sequence[Any]], height: int, width: int, groups: int | None, **how: Any
    ) -> list[Maps]:
        from fastlic.kernels import rans

        self._check_sizes(sections, height, width, self._counts(height, width))
        of_z = [image[0] for image in sections]
        symbols, z_streams = self._decode_z(of_z, height, width)
        known = self.latent_channels if groups is None else self._known_channels(groups)
        coder = _Decoder(self, sections, (height, width), known)
        self._schedule(coder, symbols, height, width)
        rans.finish(z_streams, of_z)
        coder.finish()
        return self._maps(symbols, coder)

    def _maps(self, z: Tensor, coder: _Encoder | _Decoder) -> list[Maps]:
        z_first, y_first = (t.permute(0, 3, 1, 2) for t in (z, coder.y))
        return [(*maps, None) for maps in zip(z_first, y_first, strict=True)]

    # ---- channel groups

    def _make(self) -> None:
        """Networks, and ``latent_channels``, ``_room`` and ``_border``."""
        channels = [int(c) for c in self._arrays["groups.channels"]]
        parities = [int(p) for p in self._arrays["groups.parity"]]
        self.latent_channels = sum(channels)
        self._groups: list[_Group] = []
        first = section = 0
        for k, (count, parity) in enumerate(zip(channels, parities, strict=True)):
            own = _Zone(section + 1, first, count, None if parity == _WHOLE else parity)
            section += 1 if own.parity is None else 2
            channel = []
            if k:
                reads = [int(r) for r in self._arrays[f"groups.reads.{k}"]]
                where = np.concatenate([sum(channels[:r]) + np.arange(channels[r]) for r in reads])
                channel = self._stack(f"channel.{k}")
                channel[0] = self._layer(f"channel.{k}.0", where)
            context = [] if own.parity is None else [self._layer(f"context.{k}")]
            known = [self._outputs(layers) for layers in (context, channel) if layers] + [self._features_count]
            parameters, boards = [], []
            if own.parity is None:
                parameters = self._stack(f"parameters.{k}")
            else:  # anchors know no context yet
                boards = [self._network(f"parameters.{k}", known[turn:], sum(known[:turn])) for turn in (1, 0)]
            self._surround(channel, context, parameters)
            requantiser = self._requantiser("requantisers.y.input", own.part)
            self._groups.append(_Group(own, channel, context, parameters, boards, requantiser))
            first += count
        self._room = max((self._outputs(g.channel) for g in self._groups if g.channel and g.parameters), default=0)

    def _counts(self, height: int, width: int) -> list[int]:
        """Symbols of each section of y, or a few less."""
        each = ((g.zone.channels, 1 if g.parameters else 2) for g in self._groups)
        return [height * width // passes * channels for channels, passes in each for _ in range(passes)]

    def _known_channels(self, groups: int) -> int:
        """Channels of y in the first groups."""
        return sum(g.zone.channels for g in self._groups[:groups])

    def _schedule(self, coder: _Coder, z: Tensor, height: int, width: int) -> None:
        """As fastlic.entropy.groups.schedule."""
        from fastlic.kernels import convolution

        board = self._board(z, height, width)
        y_first, hyper = self._room + self._features_count, board.part(self._room, self._features_count)
        for group in self._groups:
            own = group.zone
            seen = board.part(y_first + own.first, own.channels)
            known = [hyper]
            if group.channel:
                known.insert(0, self._planes_of(group.channel, board.part(y_first, group.channel[0].inputs)))
            if own.parity is None:
                inputs = self._features_count
                if group.channel:
                    inputs += self._outputs(group.channel)
                    _write(board, self._room + self._features_count - inputs, inputs - self._features_count, known[0])
                head = self._values_of(group.parameters, board.part(y_first - inputs, inputs))
                coder.whole(own, head[..., : 2 * own.channels])
            else:
                coder.board(own, group.boards[0], known)
                convolution.enter(coder.y[..., own.part], None, group.requantiser, 0, into=seen)
                known.insert(0, self._planes_of(group.context, seen))
                later = _Zone(own.section + 1, own.first, own.channels, 1 - own.parity)
                coder.board(later, group.boards[1], known)
            convolution.enter(coder.y[..., own.part], None, group.requantiser, 0, into=seen)

    # ---- networks

    def _board(self, z: Tensor, height: int, width: int) -> Map:
        """The map that networks read parts of: room for a context, the hyperprior's features, latents as they come."""
        from fastlic.kernels.packing import PAD, Map

        if width < 2:
            raise ValueError(f"y must have 2 or more columns, so that every row has both colours, got {width}")
        # What a layer reads is padded: behind the last latents, too.
        channels = self._room + self._features_count + self.latent_channels + PAD
        board = Map.zeros(len(z), height, width, channels, self._border, self.device)
        _write(board, self._room, self._features_count, self._features(z, height, width))
        return board

    def _surround(self, *stacks: Sequence[Layer]) -> None:
        """These read the board beyond its edges."""
        self._border = max([self._border, *(layers[0].border for layers in stacks if layers)])

    def _geometry(self, name: str) -> tuple[int, bool, int, int]:
        """Stride, whether it is transposed, shuffle, and groups of a layer."""
        kind, groups = (int(v) for v in self._arrays[f"layers.{name}.geometry"])
        return *_KINDS[kind], groups

    @staticmethod
    def _outputs(layers: Sequence[Layer]) -> int:
        return layers[-1].outputs

    def _layer(self, name: str, where: np.ndarray | None = None, weight: np.ndarray | None = None) -> Layer:
        """A layer; ``where``: its inputs stand there in what it is given. weight: in another shape than is stored."""
        from fastlic.kernels.convolution import pack_layer

        own = f"layers.{name}"
        stride, transposed, shuffle, groups = self._geometry(name)
        exponents = self._arrays.get(f"{own}.exponents")
        weight = self._arrays[f"{own}.weight"] if weight is None else weight
        if where is not None:
            inputs = 0 if transposed else 1
            shape = list(weight.shape)
            shape[inputs] = int(where.max()) + 1
            wide = np.zeros(shape, weight.dtype)
            wide[(slice(None),) * inputs + (where,)] = weight
            weight = wide
        requantiser = self._requantiser(
            f"{own}.requantise", bias=self._arrays[f"{own}.bias"], exponents=exponents, cells=shuffle**2
        )
        curve = None if exponents is None else (self._gelu_tail(), _GELU_FINE)
        return pack_layer(
            weight, stride, transposed, requantiser, self.device, shuffle=shuffle, curve=curve, depthwise=groups > 1
        )

    def _network(self, name: str, parts: Sequence[int], first: int = 0) -> BoardNetwork:
        """A parameter network that reads maps of so many channels; its inputs before ``first`` are zero."""
        from fastlic.ops.checkerboard import HERE, pack_checkerboard

        layers: list[dict[str, Any]] = []
        while f"layers.{name}.{len(layers)}.weight" in self._arrays:
            own = f"layers.{name}.{len(layers)}."
            layers.append({k.removeprefix(own): v for k, v in self._arrays.items() if k.startswith(own)})
        layers[0]["weight"] = layers[0]["weight"][:, first:]
        if len(layers) == 1:
            layers.insert(0, _identity(layers[0]["weight"].shape[1]))
        sources = [(channels, HERE) for channels in parts]
        return pack_checkerboard(layers, sources, self._arrays["y.thresholds"], self._gelu, self.device)

    def _gelu_tail(self) -> Tensor:
        if self._tail is None:
            self._tail = torch.from_numpy(self._arrays["tables.tail"].astype(np.int32)).to(self.device)
        return self._tail

    def _gelu_table(self) -> np.ndarray:
        """int16 [16 * 4096]: GELU at every exponent of every activation of 12 bits, of its tail."""
        from fastlic.kernels.packing import as_map
        from fastlic.kernels.steps import Step, combine

        line = torch.arange(-_ENTRIES // 2, _ENTRIES // 2, device=self.device)[None, None, :, None]
        given = as_map(line.expand(-1, -1, -1, _EXPONENTS), 0)
        step = Step.curve(np.arange(_EXPONENTS), self._gelu_tail(), _GELU_FINE, self.device)
        values = combine(step, given, given)
        assert isinstance(values, Tensor)
        return values[0, 0, :, :_EXPONENTS].T.flatten().cpu().numpy().astype(np.int16)


@dataclass(frozen=True)
class _Group:
    """Networks of a group: ``boards`` of its anchors and of the others, or ``parameters`` of all positions."""

    zone: _Zone
    channel: list[Layer]
    context: list[Layer]
    parameters: list[Layer]
    boards: list[BoardNetwork]
    requantiser: Requantiser


def _identity(channels: int) -> dict[str, Any]:
    """A layer that changes nothing: a network of the checkerboard has two or more."""
    return {
        "weight": np.eye(channels, dtype=np.int8),
        "bias": np.zeros(channels, np.int32),
        "requantise.multiplier": np.full(channels, 2, np.int32),
        "requantise.negative": np.full(channels, 2, np.int32),
        "requantise.shift": np.ones(channels, np.uint8),
        "requantise.bits": np.array([12], np.uint8),
    }


def _write(board: Map, first: int, channels: int, given: Map) -> None:
    """Channels of a map without border into the board."""
    border = board.border
    inner = board.planes[:, border : border + board.height, border : border + board.width]
    inner[..., first : first + channels] = given.planes[..., :channels]


def _spread(symbols: Tensor, out: Tensor, zone: _Zone) -> None:
    """[images, n, channels] to their positions."""
    from fastlic.kernels.checkerboard import positions

    assert zone.parity is not None
    at = positions(out.shape[1], out.shape[2], zone.parity, out.device, zone.rows)
    out[:, at // out.shape[2], at % out.shape[2]] = symbols
