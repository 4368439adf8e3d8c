"""Loops of a model's own around ``compressai.ans``, with fastlic's coder in them and nowhere else.

Forks call ``BufferedRansEncoder()`` and ``RansDecoder()`` as globals of their module. The methods that do are made anew
for the accelerated model: the same code over a view of the module's globals, which reads them at every use and answers
with ``fastlic.integrations.compressai.ans`` where CompressAI's coder stands. Neither the module nor the package is
written to, and other models of the class run as before. A method that the class is given later is made anew as well.

What cannot be made anew stays as it is, and ``loops_of`` says why.
"""

from __future__ import annotations

import builtins
import dis
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import torch.nn as nn

from fastlic.integrations.compressai import ans
from fastlic.integrations.compressai.swap import is_specialised

_PACKAGE, _CODER = "compressai", "compressai.ans"
_ENTROPY_MODELS = "compressai.entropy_models"  # served as entropy models
# What the interpreter reads past __missing__, for relative imports.
_PLAIN = ("__name__", "__package__", "__spec__", "__loader__", "__file__")
# Functions of these are not looked into, but for what they hold in closures.
_FOREIGN = frozenset({"torch", "torchvision", "numpy", "scipy", "timm", "einops", "fastlic", *sys.stdlib_module_names})


class ListsDecoder(ans.RansDecoder):
    """Every answer is a list, as CompressAI's: loops may count on that."""

    _lists = True


_OURS: dict[str, type] = {
    "RansEncoder": ans.RansEncoder,
    "BufferedRansEncoder": ans.BufferedRansEncoder,
    "RansDecoder": ListsDecoder,
}


class Refused(ValueError):
    """A function cannot be made anew; the message says why."""


class _StandIn(ModuleType):
    """A module with some names of its own, all others those of the original."""

    def __init__(self, original: ModuleType, names: dict[str, Any]) -> None:
        super().__init__(original.__name__, original.__doc__)
        vars(self).update(names, _original=original)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_original"], name)


@cache
def _stand_in(module: ModuleType) -> ModuleType:
    if module.__name__ == _CODER:
        return _StandIn(module, _OURS)
    return _StandIn(module, {"ans": _stand_in(sys.modules[_CODER])})


def _theirs() -> list[type]:
    """CompressAI's classes, in the order of ``_OURS``; none before somebody has imported them."""
    module = sys.modules.get(_CODER)
    return [getattr(module, name) for name in _OURS if hasattr(module, name)]


def _served(value: Any) -> Any:
    """``value``, or what stands in for CompressAI's coder, its module or the package around it."""
    if isinstance(value, type):
        return next((_OURS[theirs.__name__] for theirs in _theirs() if theirs is value), value)
    if isinstance(value, ModuleType) and _CODER in sys.modules and value.__name__ in (_PACKAGE, _CODER):
        return _stand_in(value) if value is sys.modules.get(value.__name__) else value
    return value


def _import(*args: Any, **kwargs: Any) -> Any:
    """Imports inside of functions."""
    return _served(builtins.__import__(*args, **kwargs))


def _within(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _within(constant)


def _names(function: FunctionType) -> set[str]:
    """Names in its code that are not local ones."""
    return {name for code in _within(function.__code__) for name in code.co_names}


def _foreign(value: Any) -> bool:
    return (getattr(value, "__module__", None) or "").partition(".")[0] in _FOREIGN


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None


def _names_coder(function: FunctionType) -> bool:
    """Whether its own code says the coder's name, as a global or in an import."""
    names = _names(function)
    if _CODER in names or {_PACKAGE, "ans"} <= names:
        return True
    values = [function.__globals__.get(name) for name in names]
    whole = any(isinstance(value, ModuleType) and value.__name__ == _PACKAGE for value in values)
    return any(_served(value) is not value and getattr(value, "__name__", "") != _PACKAGE for value in values) or (
        whole and "ans" in names
    )


def uses_coder(function: Any, seen: set[int] | None = None) -> bool:
    """Whether a function calls the coder: itself, or by functions among its globals or in its closure."""
    seen = set() if seen is None else seen
    if not isinstance(function, FunctionType) or id(function) in seen:
        return False
    seen.add(id(function))
    if any(uses_coder(_contents(cell), seen) for cell in function.__closure__ or ()):
        return True
    if _foreign(function):
        return False
    return _names_coder(function) or any(uses_coder(function.__globals__.get(name), seen) for name in _names(function))


class _View(dict[str, Any]):
    """A module's globals as they are at each use, but for the coder."""

    def __init__(self, own: dict[str, Any], maker: Maker) -> None:
        super().__init__({name: own[name] for name in _PLAIN if name in own})
        found = own.get("__builtins__", builtins)
        self["__builtins__"] = {**(vars(found) if isinstance(found, ModuleType) else found), "__import__": _import}
        self._own, self._maker = own, maker

    def __missing__(self, name: str) -> Any:
        value = self._own[name]  # KeyError: the interpreter asks builtins next
        return self._maker.function(value) if isinstance(value, FunctionType) else _served(value)


class Maker:
    """Functions made anew, each once."""

    def __init__(self) -> None:
        self._made: dict[FunctionType, FunctionType] = {}
        self._others: set[FunctionType] = set()  # that need not be, or cannot
        self._views: dict[int, _View] = {}

    def function(self, function: FunctionType) -> FunctionType:
        """``function`` made anew if it uses the coder and can be; else itself."""
        if function in self._others:
            return function
        try:
            if function in self._made or uses_coder(function):
                return self.anew(function)
        except Refused:
            pass
        self._others.add(function)
        return function

    def anew(self, function: FunctionType) -> FunctionType:
        """``function`` over a view of its globals, and with what its closure holds of such functions made anew.

        Raises:
            Refused: code that writes globals, or reads them as a dictionary.
        """
        if function in self._made:
            return self._made[function]
        own = function.__globals__
        if not _foreign(function):
            _check(function)
            own = self._views.setdefault(id(own), _View(own, self))
        # Cells are shared, so that what functions write there is seen by all; but for those of functions made anew.
        cells = [CellType() if uses_coder(_contents(cell)) else cell for cell in function.__closure__ or ()]
        made = FunctionType(function.__code__, own, function.__name__, function.__defaults__, tuple(cells) or None)
        self._made[function] = made  # before its closure is filled, in which it may stand itself
        try:
            for cell, old in zip(cells, function.__closure__ or (), strict=True):
                if cell is not old:
                    cell.cell_contents = self.anew(old.cell_contents)
        except Refused:
            del self._made[function]
            raise
        made.__kwdefaults__, made.__annotations__ = function.__kwdefaults__, function.__annotations__
        made.__qualname__, made.__module__, made.__doc__ = function.__qualname__, function.__module__, function.__doc__
        vars(made).update(vars(function))
        wrapped = vars(made).get("__wrapped__")
        if isinstance(wrapped, FunctionType) and wrapped in self._made:
            vars(made)["__wrapped__"] = self._made[wrapped]
        return made


def _check(function: FunctionType) -> None:
    for code in _within(function.__code__):
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                raise Refused(f"it writes the global {instruction.argval}")
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") and instruction.argval in ("globals", "exec", "eval"):
                raise Refused(f"it calls {instruction.argval}()")


def _function(value: Any) -> FunctionType | None:
    """The Python function in an entry of a class."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    return value if isinstance(value, FunctionType) else None


def _static(cls: type, name: str) -> Any:
    return next(vars(base)[name] for base in cls.__mro__ if name in vars(base))


class _Method:
    """An entry of a class, made anew when it is asked for: the class may be given another one at any time."""

    def __init__(self, cls: type, name: str, maker: Maker) -> None:
        self._cls, self._name, self._maker = cls, name, maker

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        entry = _static(self._cls, self._name)
        function = _function(entry)
        if function is None:
            return entry.__get__(instance, owner) if hasattr(entry, "__get__") else entry
        made = self._maker.function(function)
        bound: Any = type(entry)(made) if isinstance(entry, (staticmethod, classmethod)) else made
        return bound.__get__(instance, owner)


class FastLoops:
    """Stands for the methods of a model's own class, made anew: see ``swap.specialise``."""

    @staticmethod
    def made_for(cls: type) -> tuple[type, ...]:
        return _anew(cls, (), Maker())


class FastBaseLoops:
    """Stands for those of each of its bases: behind the model's class, so that super() finds them."""

    @staticmethod
    def made_for(cls: type) -> tuple[type, ...]:
        maker = Maker()
        return tuple(made for base in cls.__mro__[1:] for made in _anew(base, (base,), maker))


def _anew(cls: type, bases: tuple[type, ...], maker: Maker) -> tuple[type, ...]:
    names = _found(cls).made
    return (type("FastLoops", bases, {name: _Method(cls, name, maker) for name in names}),) if names else ()


@dataclass
class Loops:
    """Which methods can be served, and why others cannot."""

    made: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def _found(cls: type) -> Loops:
    """Among the methods that the class itself defines."""
    loops, maker = Loops(), Maker()
    if _foreign(cls) or cls.__module__.startswith(_ENTROPY_MODELS):
        return loops
    for name, entry in vars(cls).items():
        function = _function(entry)
        if function is None:
            inner = entry.fget if isinstance(entry, property) else getattr(entry, "__wrapped__", None)
            if uses_coder(inner):
                loops.left.append(f"{name} is a {type(entry).__name__} around a function")
        elif not uses_coder(function):
            loops.left += [f"{name} calls the class {own}" for own in _classes(function)]
        elif name == "__init__":
            loops.left.append("__init__ made the coder that they use")
        else:
            try:
                maker.anew(function)
                loops.made.append(name)
            except Refused as error:
                loops.left.append(f"{name}: {error}")
    return loops


def _classes(function: FunctionType) -> list[str]:
    """Classes among its globals that use the coder: these are not made anew."""
    found = (function.__globals__.get(name) for name in sorted(_names(function)))
    return [
        value.__name__
        for value in found
        if isinstance(value, type)
        and not issubclass(value, nn.Module)
        and not _foreign(value)
        and any(uses_coder(_function(entry)) for entry in vars(value).values())
    ]


def loops_of(module: nn.Module, covered: set[str]) -> Loops:
    """Methods of a live module that call the coder, but for names that something else serves already."""
    cls: Any = type(module)
    own, loops = vars(module), Loops()
    for base in (cls._fastlic_original if is_specialised(module) else cls).__mro__:
        found = _found(base)
        loops.made += [name for name in found.made if name not in {*covered, *own, *loops.made}]
        loops.left += [reason for reason in found.left if reason.split()[0].rstrip(":") not in covered]
    theirs = tuple(_theirs())
    for name, value in own.items():
        if uses_coder(getattr(value, "__func__", value)):
            loops.left.append(f"{name} is set on the instance")
        elif theirs and isinstance(value, theirs):
            loops.left.append(f"{name} holds a coder")
    return loops
