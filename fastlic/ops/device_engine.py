"""The entropy engine on a GPU: the same integers, sections and latents as fastlic.ops.latents, in Triton kernels.

z's symbols, hyper synthesis and the context's wavefront run on the device, and rANS but for that of few streams
(fastlic.ops._device_streams); the host reads headers and, at the end, whether the streams ended well. Under
TRITON_INTERPRET=1 it runs on the CPU, slowly, for tests.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastlic.ops import _arguments as arguments
from fastlic.ops import _device_streams as coder
from fastlic.ops._device_latents import Arrays, Coded, DeviceLatents, Maps
from fastlic.ops.latents import Stream, Target
from fastlic.ops.tables import CdfTables

if TYPE_CHECKING:  # triton is loaded when a device engine is made, not before
    from fastlic.kernels.convolution import Layer
    from fastlic.kernels.packing import Dense, Requantiser


class DeviceEngine(DeviceLatents):
    """One integer entropy model, packed for a GPU.

    Args:
        arrays: ``IntegerEntropyModel.to_arrays()``, already validated (LatentEngine does it).
        z_tables, y_tables: the coder's tables.
        device: of the kernels; by default the current GPU, or the CPU in Triton's interpreter.

    Raises:
        BackendUnavailable: neither a GPU nor the interpreter is there.
        ValueError: activations wider than 14 bits, or other than three parameter layers.
    """

    def __init__(self, arrays: Arrays, z_tables: CdfTables, y_tables: CdfTables, device: Any = None) -> None:
        super().__init__(arrays, "", "", z_tables, y_tables, device)
        self._contextual = "context.weight" in arrays
        last = "parameters.2" if self._contextual else f"hyper.{len(self._hyper) - 1}"
        if f"{last}.bias" not in arrays or "parameters.3.bias" in arrays:
            raise ValueError("the device engine runs models with three parameter layers")
        self.latent_channels = len(arrays[f"{last}.bias"]) // 2
        if self._contextual:
            self._make_context()

    def vary(self, changes: Arrays, z_tables: CdfTables, y_tables: CdfTables) -> DeviceEngine:
        """As ``LatentEngine.vary``: an engine that shares the packed weights of this one.

        Args:
            changes: which ``LatentEngine.vary`` takes; arrays that are the same as before may be among them.
            z_tables, y_tables: the tables of the new engine.
        """
        new = copy.copy(self)
        new._arrays = {**self._arrays, **arguments.named_arrays("changes", changes)}
        new._set_ends(z_tables, y_tables)
        if self._contextual:
            own = self._network
            new._network = replace(
                own,
                context=replace(own.context, requantiser=new._of_dense("context")),
                head=replace(own.head, requantiser=new._of_dense("parameters.2", pad_half=True)),
                y_input=new._requantiser("y.input"),
                offsets=new._offsets,
            )
        else:
            *first, last = self._hyper
            new._hyper = [*first, replace(last, requantiser=new._of_layer(f"hyper.{len(first)}"))]
        return new

    def _set_ends(self, z_tables: CdfTables, y_tables: CdfTables) -> None:
        super()._set_ends(z_tables, y_tables)
        offsets = self._arrays.get("y.offsets")
        self._offsets = None if offsets is None else torch.from_numpy(offsets.astype(np.int32)).to(self.device)

    def encode_many(
        self, targets: Sequence[Target], threads: int = 1, driver: str | None = None, lanes: int = 0
    ) -> list[Coded]:
        """As ``LatentEngine.encode_many``; images of one size go through the device together, of a model with a context
        those of other sizes along the wavefront, too. Results stay there.

        Args:
            threads: of no use here.
            driver: of the wavefront, ``persistent`` or ``launch``; by default what suits the device.
            lanes: of both streams; 0 chooses as the C++ engine does, which gives its bytes. A GPU decodes 64 lanes in
                the time of one.
        """
        if not self._contextual:
            return self._encode_many(targets, lanes)
        out: list[Any] = [None] * len(targets)
        for members, runs in self._along([_size(target.y) for target in targets]):
            own = [targets[i] for i in members]
            for i, coded in zip(members, self._encode_along(own, runs, lanes, driver), strict=True):
                out[i] = coded
        return out

    def decode_many(
        self, streams: Sequence[Stream], threads: int = 1, groups: int | None = None, driver: str | None = None
    ) -> list[Maps]:
        """As ``LatentEngine.decode_many``; images go together as in ``encode_many``.

        Raises:
            CorruptStreamError: the sections do not hold exactly these latents.
            ValueError: not all groups are to be read.
        """
        if groups is not None and groups < 1:
            raise ValueError("this model is decoded whole")
        if not self._contextual:
            return self._decode_many(streams, groups)
        out: list[Any] = [None] * len(streams)
        for members, runs in self._along([(height, width) for _, height, width in streams]):
            own = [streams[i][0] for i in members]
            for i, maps in zip(members, self._decode_along(own, runs, driver), strict=True):
                out[i] = maps
        return out

    # ---- without a context, images of one size

    def _encode(self, z: Tensor, y: Tensor, zones: Tensor | None, lanes: int) -> list[Coded]:
        from fastlic.kernels import quantize

        symbols, z_bytes = self._encode_z(z, lanes)
        head = self._head(symbols, *y.shape[1:3])
        indexes, coded, y_hat = quantize.quantise_head(y, head, self._thresholds, zones, self._offsets)
        y_bytes = coder.encode(coded.flatten(1), indexes.flatten(1), self._y_tables, lanes)
        return _coded(z_bytes, y_bytes, symbols, y_hat)

    def _decode(self, sections: Sequence[Sequence[Any]], height: int, width: int, groups: int | None) -> list[Maps]:
        from fastlic.kernels import quantize

        symbols, z_streams = self._open(sections, height, width)
        y_streams = coder.open_streams([y for _, y in sections], self._y_tables, self.device)
        indexes, means = quantize.head_indexes(self._head(symbols, height, width), self._thresholds)
        coded = y_streams.decode(indexes.flatten(1))
        latents = quantize.dequantise(coded.reshape(means.shape), means, indexes, self._offsets)
        z_streams.finish()
        y_streams.finish()
        return _maps(symbols, latents)

    def _open(self, sections: Sequence[Sequence[Any]], height: int, width: int) -> tuple[Tensor, coder.Decoder]:
        """As ``_decode_z``, of sections that are long enough for such latents."""
        self._check_sizes(sections, height, width, [height * width * self.latent_channels])
        return self._decode_z([z for z, _ in sections], height, width)

    # ---- with a context, images of several sizes; networks before the wavefront, and what is encoded, size by size

    def _along(self, sizes: Sequence[tuple[int, int]]) -> Iterator[tuple[list[int], list[_Run]]]:
        """Images that go along the wavefront together: their numbers, and what of them is of one size."""
        from fastlic.kernels import masked_context

        for members in masked_context.together(sizes, self.latent_channels):
            runs: list[_Run] = []
            first = image = 0
            for size, same in groupby(sizes[i] for i in members):
                count = len(list(same))
                end = first + count * size[0] * size[1]
                runs.append(_Run(size, slice(image, image + count), slice(first, end)))
                first, image = end, image + count
            yield members, runs

    def _encode_along(
        self, targets: Sequence[Target], runs: Sequence[_Run], lanes: int, driver: str | None
    ) -> list[Coded]:
        """Of targets one after another as they are in runs."""
        from fastlic.kernels import masked_context

        zs = [self._encode_z(self._together([own.z for own in targets[run.images]]), lanes) for run in runs]
        share = self._share([symbols for symbols, _ in zs], runs)
        y = torch.cat([self._together([own.y for own in targets[run.images]]).flatten(0, 2) for run in runs])
        zones = self._zones([own.zones for own in targets])
        indexes, coded, y_hat = masked_context.encode(self._network, _sizes(runs), y, share, driver, zones)
        out: list[Coded] = []
        for run, (symbols, z_bytes) in zip(runs, zs, strict=True):
            own, rows = (part[run.positions].reshape(len(symbols), -1) for part in (coded, indexes))
            y_bytes = coder.encode(own, rows, self._y_tables, lanes)
            out += _coded(z_bytes, y_bytes, symbols, run.whole(y_hat))
        return out

    def _decode_along(self, sections: Sequence[Sequence[Any]], runs: Sequence[_Run], driver: str | None) -> list[Maps]:
        """Of sections one after another as they are in runs."""
        from fastlic.kernels import masked_context, rans

        zs = [self._open(sections[run.images], *run.size) for run in runs]
        y = [y for _, y in sections]
        opened = rans.open_streams(y, self.device)
        share = self._share([symbols for symbols, _ in zs], runs)
        tables = self._y_tables.device
        latents = masked_context.decode(self._network, _sizes(runs), opened, tables, share, driver)
        for _, streams in zs:
            streams.finish()
        rans.finish(opened, y)
        found = (_maps(symbols, run.whole(latents)) for run, (symbols, _) in zip(runs, zs, strict=True))
        return [maps for own in found for maps in own]

    def _share(self, symbols: Sequence[Tensor], runs: Sequence[_Run]) -> Tensor:
        """int32 [positions, columns]: what z adds to the first parameter layer's sums."""
        from fastlic.kernels import masked_context

        features = (self._features(own, *run.size) for own, run in zip(symbols, runs, strict=True))
        parts = [masked_context.hyper_share(own, self._of_hyper).flatten(0, 2) for own in features]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    # ---- networks

    def _head(self, symbols: Tensor, height: int, width: int) -> Tensor:
        """Scales and means of a model without context, int32 [images, h, w, 2M]."""
        head = self._values_of(self._hyper, self._enter_z(symbols), (height, width))
        return head[..., : 2 * self.latent_channels]

    def _numbers(self, name: str) -> tuple[int, int, int]:
        """Stride, 1 if transposed, and shuffle of a layer, whose activations kernels can hold."""
        from fastlic.kernels.packing import MAX_ACTIVATION_BITS

        stride, transposed, bits, *shuffle = (int(v) for v in self._arrays[f"{name}.geometry"])
        if bits > MAX_ACTIVATION_BITS:
            raise ValueError(f"kernels read activations of up to {MAX_ACTIVATION_BITS} bits, {name} has {bits}")
        return stride, transposed, (*shuffle, 1)[0]

    def _layer(self, name: str, inputs: slice = slice(None)) -> Layer:
        """A layer, or the part of it that reads some of its inputs."""
        from fastlic.kernels.convolution import pack_layer

        stride, transposed, shuffle = self._numbers(name)
        weight = self._arrays[f"{name}.weight"]
        weight = weight[inputs] if transposed else weight[:, inputs]
        return pack_layer(weight, stride, bool(transposed), self._of_layer(name), self.device, shuffle=shuffle)

    def _of_layer(self, name: str) -> Requantiser:
        """Of a layer with its bias."""
        bias, shuffle = self._arrays[f"{name}.bias"], self._numbers(name)[2]
        return self._requantiser(f"{name}.requantise", bias=bias, cells=shuffle**2)

    def _dense(self, matrix: NDArray[Any], taps: int, name: str, pad_half: bool = False) -> Dense:
        """matrix: int8 [taps * inputs, outputs]; requantiser and bias of layer ``name``."""
        from fastlic.kernels.packing import Dense, pack_matrix, pad_halves, padded

        self._numbers(name)
        if pad_half:
            matrix = pad_halves(matrix.T, padded(matrix.shape[1] // 2)).T
        weights = torch.from_numpy(pack_matrix(matrix, taps)).to(self.device)
        return Dense(weights, self._of_dense(name, pad_half))

    def _of_dense(self, name: str, pad_half: bool = False) -> Requantiser:
        """Of a matrix with its bias; of halves, each is padded by itself."""
        from fastlic.kernels.packing import Requantiser, pad_halves, padded

        own, bias = f"{name}.requantise", self._arrays[f"{name}.bias"]
        if not pad_half:
            return self._requantiser(own, bias=bias)
        rows = [self._arrays[f"{own}.{field}"] for field in ("multiplier", "negative", "shift")]
        multiplier, negative, shift, bias = (pad_halves(row, padded(len(row) // 2)) for row in (*rows, bias))
        shift = np.maximum(shift, 1)  # padding still needs one
        return Requantiser.of(multiplier, negative, shift, int(self._arrays[f"{own}.bits"][0]), self.device, bias)

    def _make_context(self) -> None:
        from fastlic.kernels.masked_context import TAPS, ContextNetwork

        weight = self._arrays["context.weight"]  # [outputs, M, 12, 1]
        taps = weight.reshape(*weight.shape[:2], len(TAPS)).transpose(2, 1, 0).reshape(-1, weight.shape[0])
        matrices = [self._arrays[f"parameters.{i}.weight"][:, :, 0, 0].T for i in range(3)]
        hyper_inputs = len(self._arrays[f"hyper.{len(self._hyper) - 1}.bias"])
        self._network = ContextNetwork(
            context=self._dense(taps, len(TAPS), "context"),
            hidden=(
                self._dense(matrices[0][hyper_inputs:], 1, "parameters.0"),
                self._dense(matrices[1], 1, "parameters.1"),
            ),
            head=self._dense(matrices[2], 1, "parameters.2", pad_half=True),
            y_input=self._requantiser("y.input"),
            thresholds=self._thresholds,
            M=self.latent_channels,
            offsets=self._offsets,
        )
        # The first parameter layer is linear: the hyperprior's half, with the bias, is done once for all positions.
        self._of_hyper = self._layer("parameters.0", slice(hyper_inputs))


@dataclass(frozen=True)
class _Run:
    """Images of one size that are side by side in a batch, and their positions among those of the batch."""

    size: tuple[int, int]
    images: slice
    positions: slice

    def whole(self, y: Tensor) -> Tensor:
        """[images, h, w, M] of the batch's [positions, M]."""
        return y[self.positions].reshape(-1, *self.size, y.shape[1])


def _sizes(runs: Sequence[_Run]) -> tuple[tuple[int, int], ...]:
    """Of each image."""
    return tuple(run.size for run in runs for _ in range(run.images.stop - run.images.start))


def _size(y: Tensor) -> tuple[int, int]:
    return y.shape[1], y.shape[2]


def _coded(z_bytes: Sequence[bytes], y_bytes: Sequence[bytes], z: Tensor, y: Tensor) -> list[Coded]:
    """Of images with channels last."""
    maps = _maps(z, y)
    return [([a, b], *own) for a, b, own in zip(z_bytes, y_bytes, maps, strict=True)]


def _maps(z: Tensor, y: Tensor) -> list[Maps]:
    """Of images with channels last."""
    z_first, y_first = (t.permute(0, 3, 1, 2) for t in (z, y))
    return [(*maps, None) for maps in zip(z_first, y_first, strict=True)]
