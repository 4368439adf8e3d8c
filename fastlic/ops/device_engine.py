"""The entropy engine on a GPU: the same integers, sections and latents as fastlic.ops.latents, in Triton kernels.

z's symbols, hyper synthesis, the context's wavefront and both rANS coders run on the device; the host reads headers
and, at the end, whether the streams ended well. Under TRITON_INTERPRET=1 it runs on the CPU, slowly, for tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fastlic.errors import CorruptStreamError
from fastlic.ops.backends import require_triton
from fastlic.ops.latents import HYPER_STRIDE, Stream, Target
from fastlic.ops.tables import CdfTables

if TYPE_CHECKING:  # triton is loaded when a device engine is made, not before
    from fastlic.kernels.convolution import Layer
    from fastlic.kernels.packing import Dense, Map, Requantiser
    from fastlic.kernels.rans import DeviceTables

MEAN_BITS = 6
Arrays = Mapping[str, NDArray[Any]]


def _fewest_bits(tables: CdfTables) -> float:
    return float(tables.precision - np.log2(np.diff(tables.cdf).max()))


class DeviceEngine:
    """One integer entropy model, packed for a GPU.

    Args:
        arrays: ``IntegerEntropyModel.to_arrays()``, already validated (LatentEngine does it).
        z_tables, y_tables: the coder's tables.
        device: of the kernels; by default the current GPU, or the CPU in Triton's interpreter.

    Raises:
        BackendUnavailable: neither a GPU nor the interpreter is there.
        ValueError: activations wider than 14 bits, other than three parameter layers, or reconstruction offsets.
    """

    def __init__(self, arrays: Arrays, z_tables: CdfTables, y_tables: CdfTables, device: Any = None) -> None:
        require_triton()
        if "y.offsets" in arrays:
            raise ValueError("the device engine knows no reconstruction offsets")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._arrays = arrays
        self._fewest = _fewest_bits(z_tables), _fewest_bits(y_tables)
        self._z_tables, self._y_tables = self._tables(z_tables), self._tables(y_tables)
        self._median = torch.from_numpy(arrays["z.median"].astype(np.int32)).to(self.device)
        self._z_input = self._requantiser("z.input")
        count = sum(name.startswith("hyper.") and name.endswith(".geometry") for name in arrays)
        self._hyper = [self._layer(f"hyper.{i}") for i in range(count)]
        self.hyper_channels = len(self._median)
        self._contextual = "context.weight" in arrays
        last = "parameters.2" if self._contextual else f"hyper.{count - 1}"
        if f"{last}.bias" not in arrays or "parameters.3.bias" in arrays:
            raise ValueError("the device engine runs models with three parameter layers")
        self.latent_channels = len(arrays[f"{last}.bias"]) // 2
        if self._contextual:
            self._make_context()
        from fastlic.kernels.packing import pad_thresholds

        self._thresholds = pad_thresholds(arrays["y.thresholds"], self.device)

    def encode_many(
        self, targets: Sequence[Target], threads: int = 1, driver: str | None = None, lanes: int = 0
    ) -> list[tuple[list[bytes], Tensor, Tensor, None]]:
        """As ``LatentEngine.encode_many``; images of one size go through the device together, results stay there.

        Args:
            threads: of no use here.
            driver: of the wavefront, ``persistent`` or ``launch``; by default what suits the device.
            lanes: of both streams; 0 chooses as the C++ engine does, which gives its bytes. A GPU decodes 64 lanes in
                the time of one.
        """
        out: list[Any] = [None] * len(targets)
        for members in _by_shape([tuple(target.y.shape) for target in targets]):
            z, y = (self._stack(maps) for maps in zip(*(targets[i][:2] for i in members), strict=True))
            zones = self._zones([targets[i].zones for i in members])
            for i, coded in zip(members, self._encode(z, y, driver, lanes, zones), strict=True):
                out[i] = coded
        return out

    def decode_many(
        self, streams: Sequence[Stream], threads: int = 1, groups: int | None = None, driver: str | None = None
    ) -> list[tuple[Tensor, Tensor, None]]:
        """As ``LatentEngine.decode_many``; images of one size go through the device together.

        Raises:
            CorruptStreamError: the sections do not hold exactly these latents.
            ValueError: not all groups are to be read.
        """
        if groups is not None and groups < 1:
            raise ValueError("this model is decoded whole")
        out: list[Any] = [None] * len(streams)
        for members in _by_shape([(height, width) for _, height, width in streams]):
            _, height, width = streams[members[0]]
            z, y = ([streams[i][0][part] for i in members] for part in range(2))
            for i, latents in zip(members, self._decode(z, y, height, width, driver), strict=True):
                out[i] = latents
        return out

    def _encode(
        self, z: Tensor, y: Tensor, driver: str | None, lanes: int, zones: Tensor | None
    ) -> list[tuple[list[bytes], Tensor, Tensor, None]]:
        """z, y: int32, images and channels last."""
        from fastlic.kernels import masked_context, quantize
        from fastlic.kernels.rans_encode import encode

        height, width = y.shape[1:3]
        symbols = (z - self._median + (1 << (MEAN_BITS - 1))) >> MEAN_BITS
        z_bytes = encode(symbols.flatten(1), self._by_channel(symbols), self._z_tables, lanes)
        if self._contextual:
            share = masked_context.hyper_share(self._features(symbols, height, width), self._of_hyper)
            indexes, coded, y_hat = masked_context.encode(self._network, y, share, driver, zones)
        else:
            head = self._head(symbols, height, width)
            indexes, coded, y_hat = quantize.quantise_head(y, head, self._thresholds, zones)
        y_bytes = encode(coded.flatten(1), indexes.flatten(1), self._y_tables, lanes)
        z_first, y_first = (t.permute(0, 3, 1, 2) for t in (symbols, y_hat))
        return [([a, b], *maps, None) for a, b, *maps in zip(z_bytes, y_bytes, z_first, y_first, strict=True)]

    def _decode(
        self, z: Sequence[Any], y: Sequence[Any], height: int, width: int, driver: str | None
    ) -> list[tuple[Tensor, Tensor, None]]:
        from fastlic.kernels import masked_context, quantize, rans

        rows, columns = -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)
        counts = (rows * columns * self.hyper_channels, height * width * self.latent_channels)
        for name, sections, count, fewest in zip("zy", (z, y), counts, self._fewest, strict=True):
            for section in sections:
                if count * fewest > 8 * len(section) + 64:
                    raise CorruptStreamError(f"section {name} has {len(section)} bytes, too few for {count} symbols")
        z_streams, y_streams = (rans.open_streams(sections, self.device) for sections in (z, y))
        shape = (len(z), rows, columns, self.hyper_channels)
        by_channel = self._by_channel(torch.empty(shape, device="meta"))
        symbols = rans.decode(z_streams, by_channel, self._z_tables).reshape(shape)
        if self._contextual:
            share = masked_context.hyper_share(self._features(symbols, height, width), self._of_hyper)
            latents = masked_context.decode(self._network, y_streams, self._y_tables, share, driver)
        else:
            indexes, means = quantize.head_indexes(self._head(symbols, height, width), self._thresholds)
            coded = rans.decode(y_streams, indexes.flatten(1), self._y_tables)
            latents = quantize.dequantise(coded.reshape(means.shape), means)
        rans.finish(z_streams, z)
        rans.finish(y_streams, y)
        z_first, y_first = (t.permute(0, 3, 1, 2) for t in (symbols, latents))
        return [(*maps, None) for maps in zip(z_first, y_first, strict=True)]

    def _zones(self, zones: Sequence[NDArray[Any] | None]) -> Tensor | None:
        """int32 [images, rows of y's table, padded as thresholds are]; None where all are rounded to the nearest."""
        if all(own is None for own in zones):
            return None
        rows = self._thresholds.numel() + 1
        given = [np.zeros(0, np.int32) if own is None else own for own in zones]
        if any(own.ndim != 1 or len(own) > rows or (own < 0).any() for own in given):
            raise ValueError(f"zones must be up to {rows} numbers of at least 0 for each image")
        return torch.stack([F.pad(torch.from_numpy(own.astype(np.int32)), (0, rows - len(own))) for own in given]).to(
            self.device
        )

    def _by_channel(self, symbols: Tensor) -> Tensor:
        """uint8 [images, positions * N]: the table row of each symbol of z is its channel."""
        images, rows, columns, n = symbols.shape
        one = torch.arange(n, device=self.device).to(torch.uint8).repeat(rows * columns)
        return one.expand(images, -1)

    def _enter(self, symbols: Tensor) -> Map:
        from fastlic.kernels import convolution

        return convolution.enter(symbols, self._median, self._z_input, self._hyper[0].border)

    def _features(self, symbols: Tensor, height: int, width: int) -> Map:
        """Hyper synthesis up to its last activations, without border."""
        x = self._enter(symbols)
        for i in range(len(self._hyper)):
            x = self._apply(x, i, height, width)
        return x

    def _head(self, symbols: Tensor, height: int, width: int) -> Tensor:
        """Scales and means of a model without context, int32 [images, h, w, 2M]."""
        from fastlic.kernels import convolution

        x = self._enter(symbols)
        for i in range(len(self._hyper) - 1):
            x = self._apply(x, i, height, width)
        head = convolution.convolve(x, self._hyper[-1], "values", (height, width))
        assert isinstance(head, Tensor)
        return head[..., : 2 * self.latent_channels]

    def _apply(self, x: Map, i: int, height: int, width: int) -> Map:
        """Layer i of hyper synthesis; the last one's result is cut to height x width and has no border."""
        from fastlic.kernels import convolution

        last = i == len(self._hyper) - 1
        border = 0 if last else self._hyper[i + 1].border
        out = convolution.convolve(x, self._hyper[i], "planes", (height, width) if last else None, border)
        assert not isinstance(out, Tensor)
        return out

    def _stack(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.stack([t.to(self.device, torch.int32) for t in maps]).permute(0, 2, 3, 1).contiguous()

    def _tables(self, tables: CdfTables) -> DeviceTables:
        from fastlic.kernels.rans import DeviceTables

        return DeviceTables.of(tables.cdf, tables.lengths, tables.offsets, tables.shifts, tables.precision, self.device)

    def _requantiser(
        self, name: str, bias: NDArray[Any] | None = None, pad_half: bool = False, cells: int = 1
    ) -> Requantiser:
        from fastlic.kernels.packing import Requantiser, pad_halves, padded

        fields = [self._arrays[f"{name}.{part}"] for part in ("multiplier", "negative", "shift")]
        if pad_half:
            halves = [pad_halves(field, padded(len(field) // 2)) for field in fields]
            halves[2] = np.maximum(halves[2], 1)  # padding still needs a shift
            fields, bias = halves, None if bias is None else pad_halves(bias, padded(len(bias) // 2))
        multiplier, negative, shift = fields
        bits = int(self._arrays[f"{name}.bits"][0])
        return Requantiser.of(multiplier, negative, shift, bits, self.device, bias, cells=cells)

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
        requantiser = self._requantiser(f"{name}.requantise", self._arrays[f"{name}.bias"], cells=shuffle**2)
        weight = self._arrays[f"{name}.weight"]
        weight = weight[inputs] if transposed else weight[:, inputs]
        return pack_layer(weight, stride, bool(transposed), requantiser, self.device, shuffle=shuffle)

    def _dense(self, matrix: NDArray[Any], taps: int, name: str, pad_half: bool = False) -> Dense:
        """matrix: int8 [taps * inputs, outputs]; requantiser and bias of layer ``name``."""
        from fastlic.kernels.packing import Dense, pack_matrix, pad_halves, padded

        self._numbers(name)
        if pad_half:
            matrix = pad_halves(matrix.T, padded(matrix.shape[1] // 2)).T
        weights = torch.from_numpy(pack_matrix(matrix, taps)).to(self.device)
        return Dense(weights, self._requantiser(f"{name}.requantise", self._arrays[f"{name}.bias"], pad_half))

    def _make_context(self) -> None:
        from fastlic.kernels.masked_context import TAPS, ContextNetwork
        from fastlic.kernels.packing import pad_thresholds

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
            thresholds=pad_thresholds(self._arrays["y.thresholds"], self.device),
            M=self.latent_channels,
        )
        # The first parameter layer is linear: the hyperprior's half, with the bias, is done once for all positions.
        self._of_hyper = self._layer("parameters.0", slice(hyper_inputs))


def _by_shape(shapes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Indexes of equal shapes, side by side."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for i, shape in enumerate(shapes):
        alike.setdefault(shape, []).append(i)
    return list(alike.values())
