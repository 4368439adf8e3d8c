"""What operations ask of their arguments before they touch them, what they make of them, and the words in which they
refuse.

Not ``fastlic.arguments``, which serves what is built on operations: it holds values against annotations and hands them
on as they came, and it loads neither numpy nor torch, since readers of headers use it. Operations take whatever numpy
calls an array, ask for kinds and ranges that no annotation tells, and give the core arrays, ints and floats of its own.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def array(name: str, value: Any, kinds: str, contiguous: bool = True) -> NDArray[Any]:
    """``value`` as a C-contiguous array of its own type, whose kind is one of ``kinds`` ('iu' are integers).

    Contiguous before anyone looks at its values: what a view of a few numbers claims must exist then, or cannot be had.
    With ``contiguous`` False that is left to the caller, who wants another order.

    Raises:
        TypeError: no array, or one of another kind.
        MemoryError: it claims more than there is.
    """
    if isinstance(value, Tensor) and (value.layout != torch.strided or value.device.type == "meta"):
        raise TypeError(f"{name} must be an array or a dense tensor, got {value.layout} on {value.device}")
    try:
        found = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    except (RuntimeError, OverflowError) as error:  # torch's and numpy's words for what they cannot convert
        raise TypeError(f"{name} must be an array of numbers: {error}") from error
    if found.size and found.dtype.kind not in kinds:
        wanted = "integers" if set(kinds) <= set("iu") else "real numbers"
        raise TypeError(f"{name} must be {wanted}, got {found.dtype}")
    return found if not contiguous or found.flags.c_contiguous else np.ascontiguousarray(found)


def exact(name: str, value: Any, dtype: Any, ndim: int) -> NDArray[Any]:
    """A copy of integers with ``ndim`` axes as a C-contiguous array of ``dtype``, for good: it is read-only.

    Raises:
        TypeError: no array of integers.
        ValueError: another number of axes, or integers that ``dtype`` does not hold.
    """
    given = array(name, value, "iu")
    if given.ndim != ndim:
        raise ValueError(f"{name} must be {ndim}-D, got {given.shape}")
    own = given.astype(dtype)
    if not np.can_cast(given.dtype, dtype) and not np.array_equal(own, given):
        raise ValueError(f"{name} must be integers within {np.dtype(dtype).name}, got {given.min()}..{given.max()}")
    own.flags.writeable = False
    return own


def instance(name: str, value: Any, kind: Any) -> Any:
    """``value``, if it is of that type."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {kind.__name__}, got {type(value).__name__}")
    return value


def integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    """``value`` as an int from ``least`` to ``most``."""
    try:
        number = operator.index(value)
    except Exception as error:  # torch raises a RuntimeError
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from error
    if number < least or (most is not None and number > most):
        raise ValueError(
            f"{name} must be at least {least}" + (f" and at most {most}" if most else "") + f", got {number}"
        )
    return number


def threads(value: Any) -> int:
    """A number of threads."""
    return integer("threads", value, 1)


def named_arrays(name: str, value: Any) -> dict[str, NDArray[Any]]:
    """A model's arrays, contiguous; the core checks the rest."""
    return {key: array(str(key), own, "fiub") for key, own in instance(name, value, Mapping).items()}


def number(name: str, value: Any) -> float:
    """``value`` as a float."""
    if not isinstance(value, float | int | np.floating | np.integer):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name} is too large for a float") from error


def flag(name: str, value: Any) -> bool:
    """``value``, if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__}")
    return bool(value)


def apart(name: str, out: Tensor, **others: Tensor | None) -> None:
    """Raises ValueError if ``out``, which is written to, shares memory with one of the others."""

    def reach(value: Tensor) -> tuple[int, int]:
        steps = sum((n - 1) * step for n, step in zip(value.shape, value.stride(), strict=True)) + 1
        return value.data_ptr(), value.data_ptr() + (steps * value.element_size() if value.numel() else 0)

    first, last = reach(out)
    for other, value in others.items():
        if value is not None and value.device == out.device:
            begin, end = reach(value)
            if first < end and begin < last:
                raise ValueError(f"{name} shares memory with {other}; it must have memory of its own")


def tensor(name: str, value: Any) -> Tensor:
    """``value``, if it is a dense tensor with memory."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided or value.device.type == "meta":
        raise TypeError(f"{name} must be a dense tensor with memory, got {value.layout} on {value.device}")
    return value


def sequence(name: str, value: Any) -> list[Any]:
    """``value`` as a list; text and bytes are none."""
    if isinstance(value, str | bytes | dict) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a list, got {type(value).__name__}")
    return list(value)


def size(name: str, value: Any, most: int) -> tuple[int, int] | None:
    """``value`` as a height and a width, each from 1 to ``most``, or None."""
    if value is None:
        return None
    sides = sequence(name, value)
    if len(sides) != 2:
        raise ValueError(f"{name} must be a height and a width, got {value}")
    height, width = (integer(name, side, 1, most) for side in sides)
    return height, width


def implementation(table: dict[str, Any], backend: Any) -> Any:
    """What ``backend`` names in a dispatch table."""
    if not isinstance(backend, str) or backend not in table:
        raise ValueError(f"backend must be one of {', '.join(table)}, got {backend!r}")
    return table[backend]
