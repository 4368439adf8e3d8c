"""What arguments of ``decompress`` claim about sizes, held to what came before memory is reserved; and words for it."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastlic import config
from fastlic.eager import uncompiled
from fastlic.errors import CorruptStreamError, memory_errors
from fastlic.forks import held_off
from fastlic.integrations.compressai.layout import hyper_channels, hyper_key, shapes_name_channels
from fastlic.integrations.compressai.native_tables import native_tables
from fastlic.integrations.compressai.settings import Settings
from fastlic.integrations.compressai.snapshot import check_places
from fastlic.integrations.compressai.swap import state_of
from fastlic.integrations.compressai.tables import cached


def whole_numbers(shape: Any, count: int | None = 2, name: str = "shape") -> tuple[int, ...]:
    """``shape`` as positive integers.

    Raises:
        ValueError: it is none, or of another length than ``count``.
    """
    wanted = f"{'some' if count is None else count} whole numbers above 0, as compress returned them"
    try:
        if isinstance(shape, (str, bytes, Mapping)):
            raise TypeError
        numbers = tuple(operator.index(n) for n in shape)
    except TypeError:
        raise ValueError(f"{name} must be {wanted}; got {shape!r:.200}") from None
    if not numbers or len(numbers) != (count or len(numbers)) or min(numbers) < 1:
        raise ValueError(f"{name} must be {wanted}; got {shape!r:.200}")
    return numbers


def hyper_shape(codec: Any, shape: Any) -> tuple[int, ...]:
    """Rows and columns of the hyper latent from what the ``compress`` of a HyperpriorLatentCodec calls the shape.

    Raises:
        ValueError: it is nothing of that kind, or names other channels than z has.
    """
    key, channels = hyper_key(codec), hyper_channels(codec)
    named = shapes_name_channels()
    if not isinstance(shape, Mapping) or not {"y", key} <= set(shape):
        form = "(channels, rows, columns)" if named else "(rows, columns)"
        raise ValueError(f"shape must be {{'y': ..., '{key}': {form}}}, as compress returned it; got {shape!r:.200}")
    name = f"shape['{key}']"
    numbers = whole_numbers(shape[key], 3 if named else 2, name)
    if named and channels is not None and numbers[0] != channels:
        raise ValueError(f"{name} is {shape[key]!r:.200}, but the hyper latent has {channels} channels")
    return numbers[-2:]


def lists_of_strings(strings: Any, count: int | None = None) -> int:
    """How many images ``strings`` [parts][images] are of.

    Raises:
        ValueError: they are not ``count`` lists (default: any number above 0) of as many each.
        TypeError: what the lists hold is no bytes.
    """
    parts = list(strings) if isinstance(strings, (list, tuple)) else []
    lists = all(isinstance(part, (list, tuple)) for part in parts)
    if not parts or not lists or len(parts) != (count or len(parts)) or len({len(part) for part in parts}) > 1:
        wanted = "lists" if count is None else "1 list" if count == 1 else f"{count} lists"
        got = [len(part) for part in parts] if lists else type(strings).__name__
        raise ValueError(f"strings must be {wanted} of bytes, one string in each for every image; got {got}")
    for part in parts:
        hold_bytes(part)
    return len(parts[0])


def hold_bytes(strings: Sequence[Any]) -> None:
    """Raises TypeError unless each of ``strings`` is bytes or a view of bytes."""
    for data in strings:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"strings must hold bytes, got {type(data).__name__}")


def check_like(shape: Any, expected: Sequence[int], name: str = "shape['y']") -> None:
    """Raises ValueError unless a latent's ``shape`` is what its side information says."""
    if whole_numbers(shape, len(expected), name) != tuple(expected):
        raise ValueError(f"{name} is {shape!r:.200}, but the hyper latent is that of {tuple(expected)}")


def check_bottleneck(module: Any, strings: Any, size: Any) -> tuple[int, ...]:
    """The size of a latent that an entropy bottleneck is to decode, if the strings can hold so much.

    Raises:
        ValueError: it is no size, or there are no strings.
        PixelLimitError: the image would be above the limit.
        CorruptStreamError: no symbol is so cheap that as many fit the bytes.
    """
    numbers = whole_numbers(size, None)
    settings: Settings = state_of(module).settings
    if len(numbers) == 2:
        config.check_pixels(numbers[0] * settings.stride, numbers[1] * settings.stride)
    if not isinstance(strings, (list, tuple)):
        raise ValueError(f"strings must be a list of bytes, got {type(strings).__name__}")
    hold_bytes(strings)
    least = math.prod(numbers) * _cheapest(module, settings.format == "native")
    for data in strings:
        if least > 8 * len(data) + 64:
            raise CorruptStreamError(f"a string of {len(data)} bytes is too short for a latent of {numbers}")
    return numbers


def _cheapest(module: Any, native: bool) -> float:
    """A lower bound of the bits of one position, all channels: of each channel's row the likeliest symbol.

    Half of it: of a symbol of nearly the whole table, rounding in the coder's state can save as much.
    """
    buffers = (module._quantized_cdf, module._cdf_length, module._offset)

    def make() -> float:
        if native:
            rows = [(part.row(r), part.precision) for part in native_tables(module).parts for r in range(part.rows)]
        else:
            cdf, lengths = (buffer.detach().cpu().numpy().astype(np.int64) for buffer in buffers[:2])
            rows = [(row[:n], 16) for row, n in zip(cdf, lengths.reshape(-1), strict=True)]
        return 0.5 * sum(precision - math.log2(max(np.diff(row).max(initial=1), 1)) for row, precision in rows)

    return cached(state_of(module).cache, f"cheapest {native}", buffers, make)


def in_words(method: Callable[..., Any]) -> Callable[..., Any]:
    """A model's ``compress`` or ``decompress``, of the modules that were accelerated, whose memory errors are ours and
    say how large the images are. It records no gradients, forks wait for it, and inside of ``torch.compile`` it runs as
    outside.
    """
    alone = held_off(torch.no_grad()(method))

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        check_places(self, getattr(state_of(self, None), "places", ()))
        given = [*args, *kwargs.values()]
        if images := [tuple(x.shape) for x in given if isinstance(x, Tensor) and x.dim() > 1]:
            task = f"compressing images of {images[0]}"
        else:
            task = f"decompressing latents of {(given[1] if len(given) > 1 else None)!r:.200}"
        with memory_errors(task):
            return alone(self, *args, **kwargs)

    return uncompiled(run)
