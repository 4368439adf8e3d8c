"""The defaults that fastlic's tensors are made by: torch's own, whatever the process has set."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from fastlic.eager import uncompiled

P = ParamSpec("P")
R = TypeVar("R")


class Defaults(TorchFunctionMode):
    """New tensors are float32 and on the CPU, and random ones take nothing from torch's global random state.

    Of this thread alone, which the process-wide settings are not: others draw and make tensors meanwhile.
    """

    _FACTORIES = frozenset(
        {"empty", "zeros", "ones", "full", "rand", "randn", "randint", "randperm", "eye", "arange", "linspace"}
        | {"tensor", "as_tensor", "scalar_tensor"}
    )
    _RANDOM = frozenset(
        {"rand", "randn", "randint", "randperm", "uniform_", "normal_", "trunc_normal_", "bernoulli_", "random_"}
        | {"kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_", "orthogonal_"}
    )

    def __init__(self) -> None:
        super().__init__()
        self._generator = torch.Generator("cpu")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, own = func.__name__, dict(kwargs or {})
        if name in self._RANDOM and own.get("generator") is None:
            own["generator"] = self._generator
        if name not in self._FACTORIES:
            return func(*args, **own)
        data = args[0] if args and name in ("tensor", "as_tensor") else None
        if own.get("device") is None and not isinstance(data, torch.Tensor):
            own["device"] = "cpu"
        asked = own.pop("dtype", None)
        made = func(*args, **own, dtype=asked)
        asked = asked is not None or hasattr(data, "dtype") or not made.is_floating_point()
        return made if asked or made.dtype == torch.float32 else func(*args, **own, dtype=torch.float32)


def defaults() -> AbstractContextManager[Any]:
    """:class:`Defaults` where the process has set others, else nothing."""
    usual = torch.get_default_dtype() == torch.float32 and torch.get_default_device().type == "cpu"
    return nullcontext() if usual else Defaults()


def undisturbed(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, whose result depends on no default of the process, and which ``torch.compile`` leaves alone."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with defaults():
            return function(*args, **kwargs)

    return uncompiled(call)
