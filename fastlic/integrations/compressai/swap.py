"""Replacing methods of live modules, reversibly.

A module's class becomes a subclass of itself with faster methods in front of (or behind) its own; parameters, buffers
and attributes stay where they are. Methods always see the module that they were called on, so deep copies and
DataParallel's replicas work, and so do pickles: they name the original class and the replacement, nothing generated.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


def _init_of(original: Any) -> Any:
    """The constructor of a replaced class: instances are of the original one, and nothing of them is replaced.

    ``type(model).from_state_dict(...)`` and ``type(model)(...)`` arrive here.
    """

    @functools.wraps(original.__init__)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if vars(type(self)).get("_fastlic_original") is original:
            self.__class__ = original
        original.__init__(self, *args, **kwargs)

    return init


def _prepare_scriptable(self: nn.Module) -> None:
    raise TypeError(
        f"torch.jit.script cannot read an accelerated {type(self).__name__}: call fastlic.restore(model) first, and "
        "script what it leaves (torch.jit.trace and torch.compile take accelerated models as they are)"
    )


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
                "__init__": _init_of(original),
                "__reduce_ex__": _reduce,
                "__prepare_scriptable__": _prepare_scriptable,
                "_fastlic_original": original,
                "_fastlic_front": front,
                "_fastlic_back": back,
            },
        )
    return _CLASSES[key]


def original(cls: type) -> type:
    """The class that a replaced one, or one derived of it, stands for; of others the class itself."""
    own: type = getattr(cls, "_fastlic_original", cls)
    return own


def is_specialised(module: nn.Module) -> bool:
    """Also where torch has made a class of its own of the replaced one since, as parametrizations do."""
    return hasattr(type(module), "_fastlic_original")


def specialise(module: nn.Module, front: tuple[type, ...], back: tuple[type, ...], state: Any) -> None:
    """Put the methods of ``front`` before and those of ``back`` behind the module's own; ``state`` is kept with it."""
    module.__class__ = _specialised(type(module), front, back)
    vars(module)[_STATE] = state


def restore(module: nn.Module) -> bool:
    """Undo :func:`specialise`; whether there was anything to undo."""
    if not is_specialised(module):
        return False
    module.__class__ = _without(type(module))
    vars(module).pop(_STATE, None)
    return True


def _without(cls: Any) -> type:
    """The class as it would be had the replaced one among its bases never been."""
    if "_fastlic_original" in vars(cls):
        own: type = cls._fastlic_original
        return own
    if not hasattr(cls, "_fastlic_original"):
        return cls  # type: ignore[no-any-return]
    body = {key: value for key, value in vars(cls).items() if key not in ("__dict__", "__weakref__")}
    return type(cls.__name__, tuple(_without(base) for base in cls.__bases__), body)


Specialised = list[tuple[nn.Module, type, Any]]


def specialised(model: nn.Module) -> Specialised:
    """Modules whose methods are replaced, with their classes and states: for :func:`put_back`."""
    return [(module, type(module), state_of(module, None)) for module in model.modules() if is_specialised(module)]


def put_back(before: Specialised) -> None:
    """Undo :func:`restore` of modules that :func:`specialised` listed."""
    for module, cls, state in before:
        module.__class__ = cls
        set_state(module, state)


@contextmanager
def undone(model: nn.Module) -> Iterator[None]:
    """:func:`restore` of all that is in a model; if the block raises, everything is as it was before."""
    before = specialised(model)
    for module, _, _ in before:
        restore(module)
    try:
        yield
    except BaseException:
        put_back(before)
        raise


def is_compiled(module: nn.Module) -> bool:
    """Whether it is what ``torch.compile`` makes of a module: a wrapper around it."""
    compiler: Any = sys.modules.get("torch._dynamo.eval_frame")  # importing it takes seconds
    return compiler is not None and isinstance(module, compiler.OptimizedModule)


def state_of(module: nn.Module, default: Any = ...) -> Any:
    """What was given to :func:`specialise` or :func:`set_state`; without either ``default``.

    Raises:
        TypeError: there is neither. The module is of a class that was derived of an accelerated model's.
    """
    own = vars(module)
    if _STATE not in own and default is ...:
        raise TypeError(
            f"this {type(module).__name__} was not accelerated, though its class is derived of an accelerated "
            "model's: derive it of the model's class as it was before fastlic.accelerate, or accelerate it too"
        )
    return own.get(_STATE, default)


def set_state(module: nn.Module, state: Any) -> None:
    """Keep ``state`` with a module whose methods were not replaced."""
    vars(module)[_STATE] = state
