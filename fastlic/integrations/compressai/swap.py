"""Replacing methods of live modules, reversibly.

A module's class becomes a subclass of itself with faster methods in front of (or behind) its own; parameters, buffers
and attributes stay where they are. Methods always see the module that they were called on, so deep copies and
DataParallel's replicas work, and so do pickles: they name the original class and the replacement, nothing generated.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch.nn as nn

_STATE = "_fastlic"
_CLASSES: dict[tuple[type, tuple[type, ...], tuple[type, ...]], type] = {}

Module = TypeVar("Module", bound=nn.Module)


class Cache:
    """Derived values of a module, made anew in copies and pickles."""

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Cache:
        return Cache()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Cache, ()


def _reduce(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
    cls: Any = type(self)
    state = cls._fastlic_original.__reduce_ex__(self, 2)[2]
    return _rebuild, (cls._fastlic_original, cls._fastlic_front, cls._fastlic_back), state


def _rebuild(original: type, front: tuple[type, ...], back: tuple[type, ...]) -> Any:
    cls: Any = _specialised(original, front, back)
    return cls.__new__(cls)


def _specialised(original: type, front: tuple[type, ...], back: tuple[type, ...]) -> type:
    key = (original, front, back)
    if key not in _CLASSES:
        # Some stand for classes that depend on the original; pickles name them, and those are made where they are read.
        first, last = (
            [own for cls in part for own in (cls.made_for(original) if hasattr(cls, "made_for") else [cls])]
            for part in (front, back)
        )
        _CLASSES[key] = type(
            original.__name__,
            (*first, original, *last),
            {
                "__module__": original.__module__,
                "__qualname__": original.__qualname__,
                "__doc__": original.__doc__,
                "__reduce_ex__": _reduce,
                "_fastlic_original": original,
                "_fastlic_front": front,
                "_fastlic_back": back,
            },
        )
    return _CLASSES[key]


def is_specialised(module: nn.Module) -> bool:
    return "_fastlic_original" in vars(type(module))


def specialise(module: nn.Module, front: tuple[type, ...], back: tuple[type, ...], state: Any) -> None:
    """Put the methods of ``front`` before and those of ``back`` behind the module's own; ``state`` is kept with it."""
    module.__class__ = _specialised(type(module), front, back)
    vars(module)[_STATE] = state


def restore(module: nn.Module) -> bool:
    """Undo :func:`specialise`; whether there was anything to undo."""
    if not is_specialised(module):
        return False
    cls: Any = type(module)
    module.__class__ = cls._fastlic_original
    vars(module).pop(_STATE, None)
    return True


def state_of(module: nn.Module, default: Any = ...) -> Any:
    """What was given to :func:`specialise` or :func:`set_state`; without either ``default``, or KeyError."""
    own = vars(module)
    return own[_STATE] if default is ... else own.get(_STATE, default)


def set_state(module: nn.Module, state: Any) -> None:
    """Keep ``state`` with a module whose methods were not replaced."""
    vars(module)[_STATE] = state
