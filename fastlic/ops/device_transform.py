"""Transforms of integers on a GPU: the same numbers as fastlic.ops.transforms, in Triton kernels, whole maps at a time.

Under TRITON_INTERPRET=1 kernels run on the CPU, slowly, for tests.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastlic.ops import _arguments as arguments
from fastlic.ops.backends import require_triton, triton_device
from fastlic.ops.transforms import MAX_SIDE, TransformEngine, _rebuilt

if TYPE_CHECKING:  # triton is loaded when a device transform is made, not before
    from fastlic.kernels.convolution import Layer
    from fastlic.kernels.packing import Map, Requantiser
    from fastlic.kernels.steps import Step
    from fastlic.kernels.windows import LayerNorm, Mean, Softmax, Windows

    AnyStep = Layer | Step | LayerNorm | Windows | Softmax | Mean

Arrays = Mapping[str, NDArray[Any]]
_LAYER, _NORM, _SUM, _GATE, _CURVE, _LAYER_NORM, _WINDOWS, _DEPTHWISE, _PRODUCT, _SOFTMAX, _MAP_MEAN = range(11)
_CURVES = (("gelu", 12), ("silu", 11))  # names of their tails, and their F: docs/transforms.md
_SILU = 1
_PIXEL_BITS = 9
_NARROW = 16  # columns of layers of few outputs
_MOST_BYTES = _INT32 = (1 << 31) - 1


@dataclass(frozen=True)
class _Value:
    """What is known of a value without an input.

    Attributes:
        border: what the layers that read it ask for.
        last: the step that reads it last; -1: none does.
    """

    channels: int
    bits: int
    border: int = 0
    last: int = -1


class DeviceTransform:
    """One network, validated and packed for a GPU. Maps are held whole, so it takes more memory than the CPU's bands.

    Args:
        name, arrays: as of ``TransformEngine``.
        device: of the kernels; by default the current GPU, or the CPU in Triton's interpreter.

    Raises:
        BackendUnavailable: neither a GPU nor the interpreter is there.
        ValueError: as of ``TransformEngine``.
    """

    def __init__(self, name: str, arrays: Arrays, device: Any = None) -> None:
        require_triton()
        self._cpu = TransformEngine(name, arrays)  # checks every array
        self.device = torch.device(device or triton_device())
        self._name = name
        self._arrays = {key: array for key, array in arrays.items() if key.startswith(f"{name}.")}
        self._tails: dict[str, Tensor] = {}
        self._entry = self._requantiser(f"{name}.entry") if f"{name}.entry.bits" in self._arrays else None
        self._reads: list[tuple[int, ...]] = []
        self._steps: list[AnyStep] = []
        self._gathered: dict[int, tuple[int, int, bool]] = {}  # of layers that read pixels: side, stride, reflect
        self._values: list[_Value] = [self._first()]
        while f"{name}.{len(self._steps)}.step" in self._arrays:
            self._add(f"{name}.{len(self._steps)}")
        self._exit = f"{name}.{len(self._steps) - 1}.requantise"  # of the last layer

    def vary(self, changes: Arrays) -> DeviceTransform:
        """As ``TransformEngine.vary``."""
        own, name = arguments.named_arrays("changes", changes), self._name
        new = copy.copy(self)
        new._cpu = self._cpu.vary(own)
        new._arrays = {**self._arrays, **own}
        if f"{name}.entry.bits" in own:
            new._entry = new._requantiser(f"{name}.entry")
        if f"{name}.exit.bits" in own:
            last: Any = self._steps[-1]
            new._exit = f"{name}.exit"
            new._steps = [*self._steps[:-1], replace(last, requantiser=new._of_layer(len(self._steps) - 1, new._exit))]
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (partial(DeviceTransform, device=str(self.device)), self._name, self._arrays)

    def run(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """The network over images of one size.

        Args:
            x: pixels uint8 [B, C, h, w], or latents int32 [B, C, h, w] if the network has an entry for them, on any
                device.
            size: as of ``TransformEngine.run``.

        Returns:
            On the device: pixels uint8 [B, C', h', w'], or int32 [B, C', h', w'] if the network ends with anything
            else.

        Raises:
            TypeError, ValueError: another type, shape or size; ValueError: a map of one image of 2^31 bytes and more.
        """
        given, crop = arguments.tensor("x", x), arguments.size("size", size, MAX_SIDE)
        dtype, channels = torch.uint8 if self._entry is None else torch.int32, self._values[0].channels
        if given.ndim != 4 or given.dtype != dtype or given.shape[1] != channels or 0 in given.shape:
            raise ValueError(f"x must be {dtype} [B, {channels}, h, w], got {given.dtype} {list(given.shape)}")
        sizes = self._sizes(given.shape[2], given.shape[3])
        if crop is not None and (crop[0] > sizes[-1][0] or crop[1] > sizes[-1][1]):
            raise ValueError(f"the network's output is {sizes[-1][0]} x {sizes[-1][1]}, {crop} is larger")
        # So many images that no map of theirs has 2^31 bytes, beyond which kernels do not count.
        together = max(1, _MOST_BYTES // max(map(self._bytes, range(len(sizes)), sizes)))
        parts = [self._run(part, crop) for part in given.to(self.device).split(together)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _run(self, x: Tensor, crop: tuple[int, int] | None) -> Tensor:
        from fastlic.kernels import convolution, steps

        held: dict[int, Map] = {}
        first = self._values[0]
        if self._entry is not None:
            latents, planes = x.permute(0, 2, 3, 1), self._planes(0)
            held[0] = convolution.enter(latents, None, self._entry, first.border, planes)
        elif first.last >= 0:
            held[0] = convolution.gather(x.contiguous(), 1, 1, False, first.border)
        out: Any = None
        for i, (step, reads) in enumerate(zip(self._steps, self._reads, strict=True)):
            made, last = self._values[i + 1], i == len(self._steps) - 1
            planes = 0 if last else self._planes(i + 1)
            if isinstance(step, steps.Step):
                out = steps.combine(step, held[reads[0]], held[reads[-1]], made.border, planes)
            elif isinstance(step, convolution.Layer):
                mode = "planes" if not last else "pixels" if self._ends_in_pixels else "values"
                how = self._gathered.get(i)
                source = held[reads[0]] if how is None else convolution.gather(x.contiguous(), *how)
                out = convolution.convolve(source, step, mode, crop if last else None, made.border, planes)
            else:
                out = step(held[reads[0]], made.border, planes)
            held[i + 1] = out
            for value in [value for value in held if self._values[value].last <= i and value <= i]:
                del held[value]
        if self._ends_in_pixels:
            return torch.as_tensor(out)
        out = out if crop is None else out[:, : crop[0], : crop[1]]
        return torch.as_tensor(out[..., : self._values[-1].channels].permute(0, 3, 1, 2))

    def _planes(self, value: int) -> int:
        from fastlic.kernels.packing import planes_of

        return planes_of(self._values[value].bits)

    def _sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Of every value.

        Raises:
            ValueError: a step joins values of two sizes, or windows do not fill a map.
        """
        from fastlic.kernels.convolution import Layer
        from fastlic.kernels.windows import Windows

        sizes = [(height, width)]
        for i, (step, reads) in enumerate(zip(self._steps, self._reads, strict=True)):
            own = {sizes[r] for r in reads}
            if len(own) > 1:
                raise ValueError("a network of integers joins maps of different sizes: pad its input")
            up, down = (step.up, step.down) if isinstance(step, Layer) else (1, 1)
            down = self._gathered[i][1] if i in self._gathered else down
            rows, columns = own.pop()
            if rows % (side := step.side if isinstance(step, Windows) else 1) or columns % side:
                sides = f"multiples of {side}, it is {rows} x {columns}"
                raise ValueError(f"windows of {side} x {side} need a map whose sides are {sides}")
            sizes.append((-(-rows * up // down), -(-columns * up // down)))
        return sizes

    def _bytes(self, value: int, size: tuple[int, int]) -> int:
        """Of a map of one image, or of what a layer reads of the image."""
        from fastlic.kernels.packing import padded

        own = self._values[value]
        of_map = (size[0] + 2 * own.border) * (size[1] + 2 * own.border) * self._planes(value) * padded(own.channels)
        layer: Any = self._steps[value - 1] if value - 1 in self._gathered else None
        return of_map if layer is None else max(of_map, size[0] * size[1] * 2 * layer.C // layer.up**2)

    def _requantiser(self, name: str, **more: Any) -> Requantiser:
        from fastlic.kernels.packing import Requantiser

        multiplier, negative, shift = (self._arrays[f"{name}.{part}"] for part in ("multiplier", "negative", "shift"))
        return Requantiser.of(multiplier, negative, shift, int(self._arrays[f"{name}.bits"][0]), self.device, **more)

    def _of_layer(self, number: int, name: str) -> Requantiser:
        """The requantiser of that name, with the bias and the exponents of a layer."""
        own = f"{self._name}.{number}"
        bias, exponents = self._arrays[f"{own}.bias"], self._arrays.get(f"{own}.exponents")
        cells = int(self._arrays[f"{own}.geometry"][3]) ** 2
        pad = self._pad(own, len(bias) // cells)
        return self._requantiser(name, bias=bias, exponents=exponents, cells=cells, pad=pad)

    def _pad(self, own: str, outputs: int) -> int:
        """Columns of a layer's weights are a multiple of this; those of depthwise ones are a map's."""
        from fastlic.kernels.packing import PAD

        return _NARROW if outputs <= _NARROW and self._arrays[f"{own}.step"][0] == _LAYER else PAD

    def _tail(self, number: int) -> tuple[Tensor, int]:
        """Of a curve, and its F."""
        name, fine = _CURVES[number]
        if name not in self._tails:
            self._tails[name] = torch.from_numpy(self._arrays[f"{self._name}.{name}"].astype(np.int32)).to(self.device)
        return self._tails[name], fine

    def _first(self) -> _Value:
        name = self._name
        if self._entry is not None:
            entry = f"{name}.entry"
            return _Value(len(self._arrays[f"{entry}.multiplier"]), int(self._arrays[f"{entry}.bits"][0]))
        weight, transposed = self._arrays[f"{name}.0.weight"], int(self._arrays[f"{name}.0.geometry"][1])
        return _Value(weight.shape[0 if transposed else 1], _PIXEL_BITS)

    def _add(self, own: str) -> None:
        """Pack the next step."""
        from fastlic.kernels import convolution
        from fastlic.kernels.steps import Step

        number, arrays, device = len(self._steps), self._arrays, self.device
        op, *numbers = (int(v) for v in arrays[f"{own}.step"])
        reads = tuple(int(v) for v in arrays[f"{own}.from"])
        x = self._values[reads[0]]
        border = 0
        step: AnyStep
        if op in (_LAYER, _DEPTHWISE):
            step, made = self._layer(own, reads, numbers == [1], op == _DEPTHWISE)
            border = step.border
        elif op == _NORM:
            inverse, input_bits, bits = numbers
            factors = np.ldexp(
                arrays[f"{own}.multiplier"].astype(np.float32), -arrays[f"{own}.shift"].astype(np.int32)
            ).astype(np.float32)
            gamma, beta = arrays[f"{own}.gamma"], arrays[f"{own}.beta"]
            step = convolution.pack_norm(gamma, beta, factors, bool(inverse), input_bits, bits, device)
            made = _Value(x.channels, bits)
        elif op == _SUM:
            shift, bits = numbers
            step = Step.sum(arrays[f"{own}.left"], arrays[f"{own}.right"], shift, bits, device)
            made = _Value(x.channels, bits)
        elif op == _PRODUCT:
            rows = [arrays[f"{own}.requantise.{part}"] for part in ("multiplier", "negative", "shift")]
            bits = int(arrays[f"{own}.requantise.bits"][0])
            step, made = Step.product(rows[0], rows[1], rows[2], bits, device), _Value(x.channels, bits)
        elif op in (_LAYER_NORM, _WINDOWS, _SOFTMAX, _MAP_MEAN):
            step, made = self._over_channels(op, own, numbers, x.channels)
        elif op == _GATE:
            step, made = Step.gate(arrays[f"{own}.exponents"], *self._tail(_SILU), device), x
        else:
            step, made = Step.curve(arrays[f"{own}.exponents"], *self._tail(numbers[0]), device), x
        for value in reads:
            if number not in self._gathered:
                seen = self._values[value]
                self._values[value] = replace(seen, border=max(seen.border, border), last=number)
        self._steps.append(step)
        self._reads.append(reads)
        self._values.append(_Value(made.channels, made.bits))

    def _layer(self, own: str, reads: tuple[int, ...], reflect: bool, depthwise: bool) -> tuple[Layer, _Value]:
        from fastlic.kernels.convolution import gathered, pack_layer

        number = len(self._steps)
        weight, geometry = self._arrays[f"{own}.weight"], self._arrays[f"{own}.geometry"]
        stride, transposed, _, shuffle = (int(v) for v in geometry)
        requantiser = self._of_layer(number, f"{own}.requantise")
        bits, outputs = int(self._arrays[f"{own}.requantise.bits"][0]), len(self._arrays[f"{own}.bias"]) // shuffle**2
        curve = self._tail(int(self._arrays[f"{own}.curve"][0])) if f"{own}.exponents" in self._arrays else None
        if reads == (0,) and self._entry is None and not transposed and not depthwise:
            self._gathered[number] = (weight.shape[-1], stride, reflect)
            weight, stride, reflect = gathered(weight), 1, False
        layer = pack_layer(
            weight, stride, bool(transposed), requantiser, self.device, shuffle=shuffle, reflect=reflect, curve=curve,
            pad=self._pad(own, outputs), depthwise=depthwise,
        )  # fmt: skip
        return layer, _Value(outputs, bits)

    def _over_channels(self, op: int, own: str, numbers: list[int], channels: int) -> tuple[AnyStep, _Value]:
        """Layer norm, windows, softmax or a mean of a map of so many channels."""
        from fastlic.kernels import windows
        from fastlic.kernels.packing import padded

        arrays, device, C = self._arrays, self.device, padded(channels)

        def factors(name: str, columns: int = 0) -> Tensor:
            return windows.factors(arrays[f"{name}.multiplier"], arrays[f"{name}.shift"], device, columns)

        limit = (1 << (numbers[-1] - 1)) - 1
        step: AnyStep
        if op == _LAYER_NORM:
            weights, bias = np.zeros(C, np.int32), arrays[f"{own}.bias"]
            weights[:channels] = arrays[f"{own}.weight"]
            low, raised = (int(v) for v in arrays[f"{own}.epsilon"])
            rows = factors(f"{own}.scale", C), factors(own, C), windows.factors(bias, np.full_like(bias, 8), device, C)
            step = windows.LayerNorm(
                torch.from_numpy(weights).to(device), torch.stack(rows), channels, 16 - numbers[0], (low, raised), limit
            )
        elif op == _MAP_MEAN:
            step = windows.Mean(factors(own, C), limit)
        else:
            powers = torch.from_numpy(arrays[f"{self._name}.powers"].astype(np.int32)).to(device)
            sharpness, of_channels = factors(f"{own}.sharpness"), factors(own)
            step = windows.Softmax(sharpness, of_channels, powers, limit)
            if op == _WINDOWS:
                side, offset, _, input_bits, _ = numbers
                channels //= 3
                most = _INT32 // ((1 << (input_bits - 1)) - 1) - side**2
                of_places = torch.from_numpy(arrays[f"{own}.bias"].astype(np.int32, order="C")).to(device)
                step = windows.Windows(side, offset, of_places, sharpness, of_channels, powers, most, limit)
        return step, _Value(channels, numbers[-1])

    @property
    def _ends_in_pixels(self) -> bool:
        """Whether the last step is a layer, not a depthwise one, of at most 9 bits whose outputs are never below 0."""
        from fastlic.kernels.convolution import Layer

        last = self._steps[-1]
        if not isinstance(last, Layer) or last.depthwise or f"{self._exit}.negative" not in self._arrays:
            return False
        multiplier, negative = self._arrays[f"{self._exit}.multiplier"], self._arrays[f"{self._exit}.negative"]
        never = bool((multiplier >= 0).all()) and not negative.any() and last.tail is None
        return never and self._values[-1].bits <= _PIXEL_BITS
