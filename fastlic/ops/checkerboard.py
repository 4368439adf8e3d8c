"""One colour of a checkerboard, integers only: parameter networks at those positions, and placing what was decoded.

network = pack_checkerboard(layers, sources, thresholds)  # arrays of 1x1 layers, as IntegerMLIC.to_arrays() names them
indexes, means = checkerboard_parameters(network, maps, ANCHOR["mlic"])  # for the coder: [images, n, M]
checkerboard_place(symbols, means, y, ANCHOR["mlic"])  # latents into y [images, h, w, M]

Positions are those of one parity, (row + column) % 2, in raster order. Every backend gives the same integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastlic.kernels.packing import (
    BoardNetwork,
    Dense,
    Map,
    Requantiser,
    as_map,
    pack_matrix,
    pad_halves,
    pad_thresholds,
    padded,
)
from fastlic.kernels.reference import checkerboard as reference
from fastlic.kernels.reference.checkerboard import ANCHOR, count_of, positions
from fastlic.ops import _arguments as arguments
from fastlic.ops.backends import choose

__all__ = [
    "ANCHOR",
    "BoardNetwork",
    "Map",
    "as_map",
    "checkerboard_encode",
    "checkerboard_parameters",
    "checkerboard_place",
    "count_of",
    "pack_checkerboard",
    "positions",
]

Backend = Literal["auto", "reference", "triton"]
Arrays = Mapping[str, NDArray[Any]]
GELU_ENTRIES = 16 * 4096


def pack_checkerboard(
    layers: Sequence[Arrays],
    channels: Sequence[int],
    thresholds: NDArray[Any],
    gelu: NDArray[Any] | None = None,
    device: Any = "cpu",
) -> BoardNetwork:
    """Lay a network out for kernels.

    Args:
        layers: for each ``weight`` int8 [out, in, 1, 1] or [out, in], ``bias`` int32 [out], ``requantise.multiplier``,
            ``.negative``, ``.shift``, ``.bits``, and ``exponents`` uint8 [out] where a GELU follows. The last layer has
            2 M outputs, scales before means.
        channels: of each map that the first layer reads, in the order of its inputs.
        thresholds: int32, ascending scales in units of 2^-10 between table rows.
        gelu: int16 [16 * 4096], its table.

    Raises:
        ValueError: layers that do not fit together.
    """
    layers, channels = arguments.sequence("layers", layers), arguments.sequence("channels", channels)
    if not layers:
        raise ValueError("a network has at least one layer")
    for each in channels:
        arguments.integer("channels", each, 1, 1 << 16)
    layers = [_checked_layer(i, arrays) for i, arrays in enumerate(layers)]
    if layers[-1]["bias"].size % 2:
        raise ValueError(f"the last layer gives scales and means, an even number, got {layers[-1]['bias'].size}")
    thresholds = arguments.array("thresholds", thresholds, "iu")
    if thresholds.ndim != 1 or thresholds.size > 255:
        raise ValueError(f"thresholds must be int32 [up to 255], got {list(thresholds.shape)}")
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch's words for devices that are not there
        raise ValueError(f"device {device!r:.100} cannot be had: {error}") from error
    gelu = None if gelu is None else arguments.array("gelu", gelu, "iu")
    if gelu is not None and gelu.shape != (GELU_ENTRIES,):
        raise ValueError(f"gelu must be int16 [{GELU_ENTRIES}], got {list(gelu.shape)}")
    packed, exponents = [], []
    for i, arrays in enumerate(layers):
        weight = np.asarray(arrays["weight"], np.int8).reshape(len(arrays["weight"]), -1)
        fields = [np.asarray(arrays[f"requantise.{name}"]) for name in ("multiplier", "negative", "shift")]
        bias, bits = np.asarray(arrays["bias"]), int(np.ravel(arrays["requantise.bits"])[0])
        of_gelu = arrays.get("exponents")
        if i == len(layers) - 1:
            half = padded(len(bias) // 2)
            weight, bias, *fields = (pad_halves(a, half) for a in (weight, bias, *fields))
            fields[2] = np.maximum(fields[2], 1)
        matrix = pack_matrix(weight.T, 1) if i else _first(weight, channels)
        multiplier, negative, shift = fields
        requantiser = Requantiser.of(multiplier, negative, shift, bits, device, bias)
        packed.append(Dense(torch.from_numpy(matrix).to(device), requantiser))
        row = None if of_gelu is None else np.pad(np.asarray(of_gelu, np.uint8), (0, packed[-1].columns - len(of_gelu)))
        exponents.append(None if row is None else torch.from_numpy(row).to(device))
    table = None if gelu is None else torch.from_numpy(np.asarray(gelu, np.int16)).to(device)
    return BoardNetwork(
        tuple(map(padded, channels)),
        tuple(packed),
        tuple(exponents),
        table,
        pad_thresholds(np.asarray(thresholds), device),
        len(layers[-1]["bias"]) // 2,
    )


def _checked_layer(i: int, arrays: Arrays) -> dict[str, NDArray[Any]]:
    names = {"weight", "bias", *(f"requantise.{name}" for name in ("multiplier", "negative", "shift", "bits"))}
    missing = names - set(arguments.instance(f"layer {i}", arrays, Mapping))
    if missing:
        raise ValueError(f"layer {i} lacks {', '.join(sorted(missing))}")
    own = {name: arguments.array(name, arrays[name], "iu") for name in (names | {"exponents"}) & set(arrays)}
    outputs = own["bias"].size
    for name, array in own.items():
        fits = array.size == 1 if name == "requantise.bits" else len(array) == outputs if array.ndim else False
        if not fits or (name != "weight" and array.ndim != 1) or not outputs:
            raise ValueError(f"{name} of layer {i} must serve {outputs} outputs, got {list(array.shape)}")
    if not 2 <= int(own["requantise.bits"][0]) <= 27:
        raise ValueError(f"requantise.bits of layer {i} must be 2 to 27, got {own['requantise.bits'][0]}")
    return own


def _first(weight: NDArray[np.int8], channels: Sequence[int]) -> NDArray[np.int8]:
    """[out, inputs] with every map's channels padded by themselves."""
    if sum(channels) != weight.shape[1]:
        raise ValueError(f"the first layer reads {weight.shape[1]} channels, its maps have {sum(channels)}")
    ends = np.cumsum(channels)[:-1]
    return np.concatenate([pack_matrix(part.T, 1) for part in np.split(weight, ends, 1)], 1)


def _on_device(name: str) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        from fastlic.kernels import checkerboard

        return getattr(checkerboard, name)(*arguments)

    return run


PARAMETERS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "reference": reference.parameters,
    "triton": _on_device("parameters"),
}
ENCODE: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "reference": reference.encode,
    "triton": _on_device("encode"),
}
PLACE: dict[str, Callable[..., None]] = {"reference": reference.place, "triton": _on_device("place")}


def _check(network: BoardNetwork, maps: Sequence[Map], parity: int, rows: int | None) -> None:
    _check_parity(parity, rows)
    arguments.instance("network", network, BoardNetwork)
    for given in arguments.sequence("maps", maps):
        arguments.instance("maps", given, Map)
    channels = tuple(given.planes.shape[-1] for given in maps)
    if channels != network.channels:
        raise ValueError(f"the network reads maps of {list(network.channels)} channels, got {list(channels)}")
    sizes = {(len(m.planes), m.height, m.width) for m in maps}
    if len(sizes) != 1:
        raise ValueError(f"maps must be of one size, got {sorted(sizes)}")


def _check_parity(parity: int, rows: int | None) -> None:
    for name, value in (("parity", parity), ("rows", 0 if rows is None else rows)):
        if arguments.integer(name, value, 0) > 1:
            raise ValueError(f"{name} must be 0 (even) or 1 (odd), got {value!r}")


def _check_latent(name: str, y: Tensor, channels: int) -> None:
    arguments.tensor(name, y)
    if y.dtype != torch.int32 or y.dim() != 4 or y.shape[3] != channels:
        raise ValueError(f"{name} must be int32 [images, h, w, {channels}], got {y.dtype} {list(y.shape)}")
    rows = y.stride(3) == 1 and y.stride(1) == y.shape[2] * y.stride(2)
    if not rows or (y.shape[0] > 1 and y.stride(0) != y.shape[1] * y.stride(1)):
        raise ValueError(f"{name} must be contiguous, or a slice of channels of a contiguous tensor")


def checkerboard_parameters(
    network: BoardNetwork,
    maps: Sequence[Map],
    parity: int,
    rows: int | None = None,
    *,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """What the coder needs at the positions of one parity.

    Args:
        maps: activations, one map for each of the network's ``channels``, all [images, h, w].
        parity: 0 or 1, e.g. ``ANCHOR["compressai"]`` for that library's first pass.
        rows: 0 or 1, positions in even or in odd rows alone; None: in all.

    Returns:
        indexes uint8 and means int32 in units of 2^-6, [images, n, M].
    """
    _check(network, maps, parity, rows)
    return choose(PARAMETERS, backend, network.thresholds.device)(network, maps, parity, rows)


def checkerboard_encode(
    network: BoardNetwork,
    maps: Sequence[Map],
    parity: int,
    target: Tensor,
    y: Tensor,
    rows: int | None = None,
    zones: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """``checkerboard_parameters`` and, in the same pass, symbols of the latents ``target`` and what a decoder reads.

    Args:
        target: int32 [images, h, w, M] in units of 2^-6.
        y: like target, strides included; the positions of this parity are filled in.
        zones: int32 [images, 2^levels] of at least 0 (fastlic.entropy.zones); None rounds to the nearest.

    Returns:
        indexes uint8 and symbols int32 [images, n, M].
    """
    _check(network, maps, parity, rows)
    if zones is not None:
        wanted = (len(y), 1 << network.levels)
        if arguments.tensor("zones", zones).dtype != torch.int32 or zones.shape != wanted or not zones.is_contiguous():
            raise ValueError(f"zones must be int32 {list(wanted)}, got {zones.dtype} {list(zones.shape)}")
    _check_latent("target", target, network.M)
    _check_latent("y", y, network.M)
    if target.shape != y.shape or target.stride() != y.stride():
        raise ValueError(f"target and y must agree in shape and strides, got {list(target.shape)} and {list(y.shape)}")
    arguments.apart("y", y, target=target, zones=zones, **{f"maps[{i}]": m.planes for i, m in enumerate(maps)})
    return choose(ENCODE, backend, y.device)(network, maps, parity, target, y, rows, zones)


def checkerboard_place(
    symbols: Tensor, means: Tensor, y: Tensor, parity: int, rows: int | None = None, *, backend: Backend = "auto"
) -> None:
    """Latents = symbols + means, written at the positions of one parity of y.

    Args:
        symbols, means: int32 [images, n, M].
        y: int32 [images, h, w, M].
        rows: as of ``checkerboard_parameters``.
    """
    _check_parity(parity, rows)
    if arguments.tensor("y", y).dim() != 4:
        raise ValueError(f"y must be int32 [images, h, w, M], got {list(y.shape)}")
    _check_latent("y", y, y.shape[3])
    shape = (y.shape[0], count_of(y.shape[1], y.shape[2], parity, rows), y.shape[3])
    for name, value in (("symbols", symbols), ("means", means)):
        if arguments.tensor(name, value).dtype != torch.int32 or value.shape != shape:
            raise ValueError(f"{name} must be int32 {list(shape)}, got {value.dtype} {list(value.shape)}")
    arguments.apart("y", y, symbols=symbols, means=means)
    choose(PLACE, backend, y.device)(symbols, means, y, parity, rows)
