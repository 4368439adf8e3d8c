"""Models of the size that their weights have: what a file says of itself is held against its arrays before memory is
reserved for it."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fastlic.models.defaults import Defaults
from fastlic.models.state_files import MALFORMED

M = TypeVar("M", bound=nn.Module)

# A file for coding alone leaves out what only training reads. What it leaves out is a float twin of integers that it
# holds, so numbers that are missing stay in proportion to those that are there. The constant is for small models.
_MISSING_PER_NUMBER = 8
_MISSING_AT_LEAST = 1 << 20
_VIEWS_PER_BYTE = 8  # McQuic's codebooks have three names each; views in a pickle may have steps of 0
_MOST = 1 << 16  # largest number in a configuration: wider layers exist in no model
_MOST_ENTRIES = 64  # of a list in a configuration
_NAMED = 4  # names in a message


def check_config(cls: type[nn.Module], config: object) -> dict[str, Any]:
    """``config`` if it can be the keyword arguments of ``cls``: known names, none missing, small numbers.

    Raises:
        ValueError: it cannot; the message names the field.
    """
    if not isinstance(config, dict):
        raise ValueError(f"the configuration must be an object, got {type(config).__name__}")
    try:
        inspect.signature(cls).bind(**config)
    except TypeError as error:
        raise ValueError(f"the configuration does not fit {cls.__name__}: {error}") from error
    for name, value in config.items():
        _check_value(name, value)
    return config


def _check_value(name: str, value: object) -> None:
    if isinstance(value, dict):
        entries: Collection[object] = value.values()
    elif isinstance(value, (list, tuple)):
        entries = value
    else:
        if value is None or (isinstance(value, (int, float)) and 0 <= value <= _MOST):
            return
        raise ValueError(f"{name} must be a number from 0 to {_MOST}, got {value!r}")
    if len(entries) > _MOST_ENTRIES:
        raise ValueError(f"{name} has {len(entries)} entries, more than {_MOST_ENTRIES}")
    for entry in entries:
        if isinstance(entry, (dict, list)) and not isinstance(value, dict):
            raise ValueError(f"{name} must be a list of numbers, got {entry!r}")
        _check_value(name, entry)


class _ShapesOnly(TorchFunctionMode):
    """Modules made under this mode have parameters and buffers of one number each, seen at every place.

    Not the meta device: torch imports its compiler for arithmetic there, seconds that each process would pay for its
    first codec.
    """

    _FACTORIES = frozenset({"empty", "zeros", "ones", "full", "randn"})
    _LIKE = frozenset({"empty_like", "zeros_like", "ones_like"})
    _POINTWISE = frozenset({"add", "sub", "mul", "maximum", "sqrt"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        if name in self._FACTORIES:
            return self._of(args[0] if not isinstance(args[0], int) else args)
        if name in self._LIKE or name in self._POINTWISE:
            return self._of(np.broadcast_shapes(*(x.shape for x in args if isinstance(x, Tensor))))
        if func is torch.eye:
            return self._of((args[0], args[0]))
        if func is torch.cat:
            joined = list(args[0][0].shape)
            joined[args[1]] = sum(x.shape[args[1]] for x in args[0])
            return self._of(joined)
        if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")):  # initial values
            return args[0] if args else kwargs["tensor"]  # so torch.nn.init hands its argument on
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _of(shape: Any) -> Tensor:
        return torch.zeros(()).expand(*shape)


def build(cls: type[M], config: Mapping[str, Any] | None, state: Mapping[str, Tensor], known: int = 0) -> M:
    """``cls(**config)`` in eval mode, with its own random weights, if ``state`` holds weights of just that model.

    A first model of no size tells the shapes, so that nothing is reserved that ``state`` does not account for.

    Args:
        config: constructor arguments; None: ``cls.infer_config`` reads them off the weights.
        state: weights by name; some may be missing.
        known: numbers beside ``state`` that the file holds.

    Raises:
        ValueError: names that the model does not have, other shapes, or more missing than such files leave out.
    """
    held = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in state.values()}
    if sum(x.nbytes for x in state.values()) > _VIEWS_PER_BYTE * sum(held.values()):
        raise ValueError(f"state dict does not fit {cls.__name__}: its tensors claim more than the memory they share")
    if config is None:
        try:
            config = cls.infer_config(state)  # type: ignore[attr-defined]
        except (IndexError, TypeError, RuntimeError) as error:
            raise ValueError(f"state dict does not fit {cls.__name__}: {error}") from error
    try:
        with _ShapesOnly():
            expected = {name: value.shape for name, value in cls(**config).state_dict().items()}
    except MALFORMED as error:
        raise ValueError(f"state dict does not fit {cls.__name__}, whose size {config} cannot be: {error}") from error
    faults = [f"{name} is unknown" for name in sorted(set(state) - set(expected))]
    for name, shape in expected.items():
        # Buffers that CompressAI's update() fills are empty in a new model.
        if name in state and state[name].shape != shape and shape.numel():
            faults.append(f"{name} is {list(state[name].shape)} in place of {list(shape)}")
    missing = {name: shape.numel() for name, shape in expected.items() if name not in state}
    present = known + sum(value.numel() for value in state.values())
    if sum(missing.values()) > max(_MISSING_PER_NUMBER * present, _MISSING_AT_LEAST):
        faults += [f"{name} is missing" for name in sorted(missing)]
    if faults:
        rest = f" and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise ValueError(f"state dict does not fit {cls.__name__}: {', '.join(faults[:_NAMED])}{rest}")
    with Defaults():
        return cls(**config).eval()
