"""Streams of the official MLIC++ code: one rANS string for z and one for y, in CompressAI's coder.

These streams are bound to floating point: the decoder must arrive at the same scale index for every symbol as the
encoder did, and nothing in them tells if it does not. fastlic's own streams (``fastlic.Codec(model)``) have neither
weakness; this module reads and writes what the official code left behind.

    out = compress(model, x)                                  # {"strings": [[y], [z]], "shape": (hz, wz)}
    x_hat = decompress(model, out["strings"], out["shape"])
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic import config
from fastlic.arguments import checked
from fastlic.errors import CorruptStreamError
from fastlic.models.mlic.checkerboard import anchors, positions
from fastlic.models.mlic.model import MLICPlusPlus
from fastlic.ops.compressai_rans import CompressAiDecoder, CompressAiTables, decode_with_indexes, encode_with_indexes
from fastlic.ops.compressai_tables import bottleneck_tables, compressai_gaussian_tables, scale_table

_UPSAMPLING = 4  # z is at 1/4 of the latent
_PADDING = 64
_SHAPE = struct.Struct(">5I")  # height, width, rows and columns of z, number of strings
_LENGTH = struct.Struct(">I")

# Answers symbols [n, channels] to (indexes, means) of one pass, both [channels, n].
_Answer = Callable[[np.ndarray, Tensor, Tensor, int], Tensor]


@checked
def update(model: MLICPlusPlus) -> None:
    """Make the coding tables of a checkpoint that came without them, as CompressAI's ``update()`` does, in place."""
    scales = scale_table()
    for module, tables in (
        (model.entropy_bottleneck, bottleneck_tables(model.entropy_bottleneck)),
        (model.gaussian_conditional, compressai_gaussian_tables(scales)),
    ):
        module._quantized_cdf = torch.from_numpy(np.array(tables.quantized_cdf))
        module._cdf_length = torch.from_numpy(np.array(tables.lengths))
        module._offset = torch.from_numpy(np.array(tables.offsets))
    model.gaussian_conditional.scale_table = torch.from_numpy(scales)


def _tables(module: Any, name: str) -> CompressAiTables:
    if not module._quantized_cdf.numel():
        raise ValueError(f"the model has no coding tables for {name}: call fastlic.codec.mlicpp_official.update(model)")
    return CompressAiTables(module._quantized_cdf, module._cdf_length, module._offset)


def _walk(model: MLICPlusPlus, z_hat: Tensor, answer: _Answer) -> Tensor:
    """All passes in coding order; ``answer(indexes, means, positions, first channel)`` gives values. Returns y_hat."""
    if model.early:
        raise ValueError("the official code knows no early context: such a model has no official streams")
    hyper = model.h_s(z_hat)
    hyper_means = hyper.chunk(2, 1)[1]
    height, width = hyper.shape[2:]
    c = model.slice_channels
    bound = model.gaussian_conditional.lower_bound_scale
    levels = model.gaussian_conditional.get_buffer("scale_table")[:-1]
    decoded: list[Tensor] = []
    for index in range(model.slices):
        contexts = [*model.past_contexts(index, decoded), hyper]
        current = torch.zeros(1, c, height, width, device=hyper.device)
        for network, residual, parity in (
            (model.entropy_parameters_anchor, model.lrp_anchor, 1),
            (model.entropy_parameters_nonanchor, model.lrp_nonanchor, 0),
        ):
            if not parity:
                contexts = [*model.near_contexts(index, decoded, current), *contexts]
            where = positions(height, width, parity, hyper.device)
            scales, means = network[index](torch.cat(contexts, 1)).flatten(2)[0][:, where].chunk(2)
            indexes = torch.searchsorted(levels, bound(scales).contiguous()).to(torch.uint8).cpu().numpy()
            values = torch.zeros_like(current).flatten(2)
            values[0][:, where] = answer(indexes, means, where, index * c)
            current = current + values.reshape(current.shape)
            residue = residual[index](torch.cat([hyper_means, *decoded, current], 1))
            current = current + (anchors(residue) if parity else residue - anchors(residue))
        decoded.append(current)
    return torch.cat(decoded, 1)


@torch.no_grad()
@checked
def compress(model: MLICPlusPlus, x: Tensor, *, max_pixels: int | None = None) -> dict[str, Any]:
    """Code one image as the official code does.

    Args:
        x: [1, 3, H, W] float in [0, 1]; padded with zeros to multiples of 64.
        max_pixels: as of ``Codec.compress``.

    Returns:
        ``strings`` [[y], [z]] and ``shape``, rows and columns of z.

    Raises:
        ValueError: another shape, or a model without tables.
        PixelLimitError: a larger image.
    """
    if x.ndim != 4 or x.shape[:2] != (1, 3):
        raise ValueError(f"expected one image [1, 3, H, W], got {list(x.shape)}")
    height, width = x.shape[2:]
    below, right = -height % _PADDING, -width % _PADDING
    config.check_pixels(height, width, max_pixels, (height + below, width + right))
    y = model.g_a(F.pad(x, (0, right, 0, below)))
    z = model.h_a(y)
    medians = model.entropy_bottleneck.medians[:, None, None]
    z_symbols = torch.round(z - medians)[0]
    z_string = encode_with_indexes(*_z_pass(z_symbols), _tables(model.entropy_bottleneck, "z"))
    symbols: list[np.ndarray] = []
    indexes: list[np.ndarray] = []
    latent = y[0].flatten(1)

    def answer(rows: np.ndarray, means: Tensor, where: Tensor, first: int) -> Tensor:
        rounded = torch.round(latent[first : first + len(means), where] - means)
        symbols.append(rounded.int().cpu().numpy().ravel())
        indexes.append(rows.ravel())
        return rounded + means

    _walk(model, z_symbols[None] + medians, answer)
    tables = _tables(model.gaussian_conditional, "y")
    y_string = encode_with_indexes(np.concatenate(symbols), np.concatenate(indexes), tables)
    return {"strings": [[y_string], [z_string]], "shape": tuple(z.shape[2:])}


def _z_pass(z: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(symbols, indexes) of z [N, hz, wz], channel by channel."""
    symbols = z.int().cpu().numpy()
    return symbols, _z_indexes(symbols.shape)


def _z_indexes(shape: Sequence[int]) -> np.ndarray:
    return np.broadcast_to(np.arange(shape[0], dtype=np.int32)[:, None, None], tuple(shape))


@torch.no_grad()
@checked
def decompress(
    model: MLICPlusPlus, strings: Sequence[Sequence[bytes]], shape: Sequence[int], *, max_pixels: int | None = None
) -> Tensor:
    """The image [1, 3, 64 hz, 64 wz] of ``strings`` [[y], [z]], not clamped, as the official code returns it.

    Args:
        max_pixels: as of ``Codec.decompress``. Strings do not tell how much of the image is padding: it is held
            against the smallest that ``shape`` may stand for.

    Raises:
        CorruptStreamError: the strings do not hold exactly such a latent.
        PixelLimitError: a larger image, before anything is decoded.
        ValueError: strings or shape that no such stream has, or a model without tables.
    """
    if len(strings) != 2 or any(len(part) != 1 for part in strings):
        raise ValueError("MLIC++ streams of one image are [[y], [z]]")
    rows, columns = (int(v) for v in shape)
    if rows < 1 or columns < 1:
        raise CorruptStreamError(f"a hyper latent of {rows} x {columns} is none")
    least, padded = ((rows - 1) * _PADDING + 1, (columns - 1) * _PADDING + 1), (rows * _PADDING, columns * _PADDING)
    config.check_pixels(*least, max_pixels, padded)
    (y_string,), (z_string,) = strings
    tables = _tables(model.entropy_bottleneck, "z")
    z = decode_with_indexes(z_string, _z_indexes((tables.rows, rows, columns)), tables)
    device = next(model.g_s.parameters()).device
    medians = model.entropy_bottleneck.medians[:, None, None]
    z_hat = torch.from_numpy(z).to(device).float()[None] + medians
    decoder = CompressAiDecoder(y_string, _tables(model.gaussian_conditional, "y"))

    def answer(indexes: np.ndarray, means: Tensor, where: Tensor, first: int) -> Tensor:
        return torch.from_numpy(decoder.decode(np.ascontiguousarray(indexes))).to(means) + means

    y_hat = _walk(model, z_hat, answer)
    decoder.finish()
    x_hat: Tensor = model.g_s(y_hat)
    return x_hat


@checked
def write_file(compressed: dict[str, Any], height: int, width: int) -> bytes:
    """The official code's file: sizes, then each string behind its length; big-endian, 28 bytes in all."""
    strings, shape = compressed.get("strings"), compressed.get("shape")
    try:
        (y,), (z,) = strings  # type: ignore[misc]
        head = _SHAPE.pack(height, width, *shape, 2)  # type: ignore[misc]
        return b"".join([head, _LENGTH.pack(len(y)), y, _LENGTH.pack(len(z)), z])
    except (TypeError, ValueError, struct.error) as error:
        raise ValueError(f"a file needs sizes of 32 bits, strings [[y], [z]] and a shape of two: {error}") from error


@checked
def read_file(data: bytes) -> tuple[dict[str, Any], int, int]:
    """What ``write_file`` wrote: (compressed, height, width).

    Raises:
        CorruptStreamError: truncated, extended, or sizes that do not belong together.
    """
    if len(data) < _SHAPE.size:
        raise CorruptStreamError(f"the file has {len(data)} bytes, its head alone {_SHAPE.size}")
    height, width, rows, columns, count = _SHAPE.unpack_from(data)
    if count != 2 or -(-height // _PADDING) != rows or -(-width // _PADDING) != columns or not rows * columns:
        raise CorruptStreamError(
            f"{height} x {width} pixels, z {rows} x {columns} and {count} strings are no MLIC++ file"
        )
    strings, at = [], _SHAPE.size
    for name in ("y", "z"):
        if at + _LENGTH.size > len(data):
            raise CorruptStreamError(f"the file ends before the length of {name}, at byte {len(data)}")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            raise CorruptStreamError(f"string {name} ends at byte {at + length}, the file at {len(data)}")
        strings.append([bytes(data[at : at + length])])
        at += length
    if at != len(data):
        raise CorruptStreamError(f"{len(data) - at} extra bytes follow the last string")
    return {"strings": strings, "shape": (rows, columns)}, height, width
