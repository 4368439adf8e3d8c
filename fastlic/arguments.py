"""What public functions ask of their arguments before they work with them: :func:`checked`.

``fastlic.ops`` has closer questions of its own; this is for all that is built on it.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from fastlic.errors import says_no_memory

P = ParamSpec("P")
R = TypeVar("R")
Fits = Callable[[Any], bool]

# What torch, numpy and Python call values that do not fit: another shape, an index beyond the end, a number too large.
_MISFITS = (RuntimeError, NotImplementedError, IndexError, KeyError, OverflowError, ZeroDivisionError)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, which first asks whether each argument is of the type that its annotation names.

    Tensors have to be dense and to have memory, and like arrays to hold real numbers. What turns out not to fit
    later is told with all that came.

    Raises:
        TypeError: the first argument of another type, what came and what is wanted.
        ValueError: values that do not fit each other.
        MemoryError: more than there is.
    """
    names = function.__code__.co_varnames[: function.__code__.co_argcount]  # type: ignore[attr-defined]
    fits: dict[str, Fits] = {}

    def check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not fits:  # at the first call: annotations may name what is defined later
            hints = get_type_hints(function)
            fits.update({name: _fits(hint) for name, hint in hints.items() if name != "return"} or {"": _anything})
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            if name in fits and not fits[name](value):
                wanted = function.__annotations__[name]
                raise TypeError(f"{name} must be of type {wanted}, got {_described(value)}")

    def refusal(error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exception:
        if type(error) not in _MISFITS:  # ours, or one of a device
            return error
        if says_no_memory(error):
            return MemoryError(str(error))
        came = [(k, v) for k, v in (*zip(names, args, strict=False), *kwargs.items()) if k not in ("self", "cls")]
        words = ", ".join(f"{name}: {_described(value)}" for name, value in came)
        what = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        return ValueError(f"{function.__qualname__} cannot work with these arguments ({words}): {what}")

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        check(args, kwargs)
        try:
            return function(*args, **kwargs)
        except _MISFITS as error:
            told = refusal(error, args, kwargs)
            if told is error:
                raise
            raise told from error

    @functools.wraps(function)
    def generate(*args: P.args, **kwargs: P.kwargs) -> Any:
        check(args, kwargs)

        def run() -> Any:
            try:
                return (yield from function(*args, **kwargs))  # type: ignore[misc]
            except _MISFITS as error:
                told = refusal(error, args, kwargs)
                if told is error:
                    raise
                raise told from error

        return run()

    return generate if inspect.isgeneratorfunction(function) else call


def check_fields(record: Any) -> None:
    """The same of a dataclass: TypeError for the first field of another type than it declares."""
    for name, fits in _fits_of_fields(type(record)).items():  # type: ignore[arg-type]  # to mypy no class is hashable
        value = vars(record)[name]
        if not fits(value):
            wanted = type(record).__annotations__[name]
            raise TypeError(f"{name} must be of type {wanted}, got {_described(value)}")


@functools.lru_cache(maxsize=64)
def _fits_of_fields(kind: type) -> dict[str, Fits]:
    """Once for each class: to make types of annotations takes longer than to read a stream's head."""
    return {name: _fits(hint) for name, hint in get_type_hints(kind).items()}


def _described(value: Any) -> str:
    """An argument in few words."""
    kind = type(value).__name__
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        device = f" on {value.device}" if kind == "Tensor" and value.device.type != "cpu" else ""
        layout = " sparse" if kind == "Tensor" and str(value.layout) != "torch.strided" else ""
        return f"{kind}{layout} of {value.dtype} {list(value.shape)}{device}"
    if isinstance(value, int | float | str | None):
        return f"{value!r:.60}"
    return f"{kind} of {len(value)}" if isinstance(value, list | tuple | dict | bytes) else kind


def _anything(value: Any) -> bool:
    return True


def _fits(hint: Any) -> Fits:
    """Whether a value is what ``hint`` says. Protocols, ``Any`` and type variables say nothing."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is None or hint is type(None):
        return lambda value: value is None
    if origin in (Union, types.UnionType):
        some = [_fits(option) for option in inner]
        return lambda value: any(one(value) for one in some)
    if origin is Literal:
        return lambda value: isinstance(value, str)
    kind = origin or hint
    if str(hint) == "typing.Any" or not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
        return _anything
    if kind.__module__.startswith("torch") and kind.__name__ == "Tensor":
        return _dense
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        return _numbers
    if kind in (int, float, bool):
        return _NUMBERS[kind]
    if origin is collections.abc.Callable:
        return callable
    if kind is tuple and inner and inner[-1] is not Ellipsis:
        each = [_fits(part) for part in inner]
        return lambda value: (
            isinstance(value, tuple | list)
            and len(value) == len(each)
            and all(one(part) for one, part in zip(each, value, strict=True))
        )
    if issubclass(kind, collections.abc.Mapping):
        keys, values = [_fits(part) for part in inner] if inner else (_anything, _anything)
        return lambda value: isinstance(value, kind) and all(keys(k) and values(v) for k, v in value.items())
    if kind is tuple or kind in _ITERABLES:
        one = _fits(inner[0]) if inner else _anything
        return lambda value: _iterable(value, one)
    return lambda value: isinstance(value, kind)


def _numbers(value: Any) -> bool:
    import numpy as np

    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def _dense(value: Any) -> bool:
    import torch

    if not isinstance(value, torch.Tensor) or value.is_complex():
        return False
    return value.layout == torch.strided and value.device.type != "meta"


def _whole(value: Any) -> bool:
    return isinstance(value, int) or _numpy(value, "iu")


def is_number(value: Any) -> bool:
    """A real number of Python's or numpy's."""
    return isinstance(value, int | float) or _numpy(value, "iuf")


def is_whole(value: Any) -> bool:
    """A whole number of Python's or numpy's, which True is not."""
    return _whole(value) and not isinstance(value, bool)


def _truth(value: Any) -> bool:
    return isinstance(value, bool) or _numpy(value, "b")


def _numpy(value: Any, kinds: str) -> bool:
    """A number of numpy's."""
    return type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0 and value.dtype.kind in kinds


_NUMBERS: dict[type, Fits] = {int: _whole, float: is_number, bool: _truth}
_ITERABLES = (list, collections.abc.Sequence, collections.abc.Iterable)


def _iterable(value: Any, one: Fits) -> bool:
    """A list or the like, but no text, bytes or mapping; what can only be run through once is left unread."""
    if isinstance(value, str | bytes | bytearray | collections.abc.Mapping) or not hasattr(value, "__iter__"):
        return False
    return not isinstance(value, list | tuple) or all(one(part) for part in value)


def as_device(device: Any) -> Any:
    """``device``, a name or a torch.device, as a torch.device that can be computed on.

    Raises:
        TypeError: neither.
        ValueError: none of that name, or none that can be had here.
    """
    import torch

    if not isinstance(device, str | torch.device):
        raise TypeError(f"device must be a name or a torch.device, got {type(device).__name__}")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, ImportError) as error:  # AssertionError: a torch without CUDA
        raise ValueError(
            f"device {str(device)!r:.60} cannot be had here: torch {torch.__version__} offers {_devices()}"
        ) from error
    if found.type == "meta":
        raise ValueError("device 'meta' has no memory, and nothing can be computed there")
    return found


def _devices() -> str:
    """Names of the devices that can be computed on."""
    import torch

    names = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    others = [name for name in ("mps", "xpu") if getattr(torch, name).is_available()]
    return ", ".join(names + others)
