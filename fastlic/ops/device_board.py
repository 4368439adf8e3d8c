"""The board engine on a GPU: models whose latents are coded in zones, one after the other, of channels and of a
checkerboard's parities; the same integers, sections and latents as fastlic.ops.latents, in Triton kernels.

Context networks run over whole maps, parameter networks at the positions that are coded. rANS is on the device but for
that of few streams (fastlic.ops._device_streams); the host reads headers and, at the end, whether the streams ended
well. Under TRITON_INTERPRET=1 it runs on the CPU, slowly, for tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fastlic.ops._device_latents import Arrays, Coded, DeviceLatents, Maps, _by_shape
from fastlic.ops._device_streams import encode
from fastlic.ops._device_zones import Coder, Decoder, Encoder, Zone
from fastlic.ops.latents import Stream, Target
from fastlic.ops.tables import CdfTables

if TYPE_CHECKING:  # triton is loaded when a device engine is made, not before
    from fastlic.kernels.convolution import Layer
    from fastlic.kernels.packing import BoardNetwork, Map, Requantiser

_KINDS = ((1, False, 1), (2, True, 1), (1, False, 2), (2, False, 1))  # stride, transposed, shuffle (fastlic.integers)
_GELU_FINE = 12  # F of GELU's tail: docs/transforms.md
_WHOLE = 2  # stands in place of a parity where a group is coded in one pass
_EXPONENTS, _ENTRIES = 16, 4096  # of GELU's table


class DeviceBoard(DeviceLatents):
    """One integer entropy model of channel groups, packed for a GPU; arguments and errors as of ``DeviceEngine``.

    Args:
        arrays: ``IntegerGroups.to_arrays()``, already validated (LatentEngine does it).
    """

    _keeps_symbols = False  # residual prediction stands between them and latents, of MLIC alone

    def __init__(self, arrays: Arrays, z_tables: CdfTables, y_tables: CdfTables, device: Any = None) -> None:
        self._tail: Tensor | None = None
        super().__init__(arrays, "layers.", "requantisers.", z_tables, y_tables, device)
        self._features_count = self._outputs(self._hyper)
        self._analysis = self._stack("analysis")  # of y, of some models
        self._y_input = self._requantiser("requantisers.y.input")
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

    def analyse_many(self, y: Sequence[Tensor]) -> list[Tensor]:
        """As ``LatentEngine.analyse_many``, of int32 [M, h, w] each on any device; results stay on the engine's.

        Raises:
            ValueError: the model has no hyper analysis.
        """
        if not self._analysis:
            raise ValueError("this model has no analysis of y")
        from fastlic.kernels.convolution import enter

        out: list[Any] = [None] * len(y)
        for members in _by_shape([tuple(own.shape) for own in y]):
            given = enter(self._together([y[i] for i in members]), None, self._y_input, self._analysis[0].border)
            z = self._values_of(self._analysis, given)[..., : self.hyper_channels]
            for i, own in zip(members, z.permute(0, 3, 1, 2), strict=True):
                out[i] = own
        return out

    def _encode(self, z: Tensor, y: Tensor, zones: Tensor | None, lanes: int) -> list[Coded]:
        symbols, z_bytes = self._encode_z(z, lanes)
        coder = Encoder(y, zones, self._thresholds, self._keeps_symbols)
        self._schedule(coder, symbols, *y.shape[1:3])
        sections = [z_bytes]
        for _, coded in sorted(coder.coded.items()):
            indexes, given = (torch.cat([own.flatten(1) for own in parts], 1) for parts in zip(*coded, strict=True))
            sections.append(encode(given, indexes, self._y_tables, lanes))
        maps = self._maps(symbols, coder)
        return [(list(own), *one) for own, one in zip(zip(*sections, strict=True), maps, strict=True)]

    def _decode(self, sections: Sequence[Sequence[Any]], height: int, width: int, groups: int | None) -> list[Maps]:
        self._check_sizes(sections, height, width, self._counts(height, width))
        of_z = [image[0] for image in sections]
        symbols, z_streams = self._decode_z(of_z, height, width)
        known = self.latent_channels if groups is None else self._known_channels(groups)
        shape = (len(sections), height, width, self.latent_channels)
        y = torch.zeros(shape, dtype=torch.int32, device=self.device)
        coder = Decoder(y, sections, known, self._y_tables, self._thresholds, self._keeps_symbols)
        self._schedule(coder, symbols, height, width)
        z_streams.finish()
        coder.finish()
        return self._maps(symbols, coder)

    def _maps(self, z: Tensor, coder: Encoder | Decoder) -> list[Maps]:
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
            own = Zone(section + 1, first, count, None if parity == _WHOLE else parity)
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

    def _schedule(self, coder: Coder, z: Tensor, height: int, width: int) -> None:
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
                later = Zone(own.section + 1, own.first, own.channels, 1 - own.parity)
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
        from fastlic.ops.checkerboard import pack_checkerboard

        layers: list[dict[str, Any]] = []
        while f"layers.{name}.{len(layers)}.weight" in self._arrays:
            own = f"layers.{name}.{len(layers)}."
            layers.append({k.removeprefix(own): v for k, v in self._arrays.items() if k.startswith(own)})
        layers[0]["weight"] = layers[0]["weight"][:, first:]
        if len(layers) == 1:
            layers.insert(0, _identity(layers[0]["weight"].shape[1]))
        return pack_checkerboard(layers, parts, self._arrays["y.thresholds"], self._gelu, self.device)

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

    zone: Zone
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
