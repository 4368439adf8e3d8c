"""What there is, found anew at each run: every entry that needs a row (rows.py), with its parameters."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import fastlic.api
import fastlic.codec
import fastlic.entropy
import fastlic.integers
import fastlic.light
import fastlic.ops
from fastlic import _native

NEED_A_DEVICE = {
    *("device_engine.DeviceEngine.encode_many", "device_engine.DeviceEngine.decode_many"),
    "device_engine.DeviceEngine.vary",
    *("device_board.DeviceBoard.encode_many", "device_board.DeviceBoard.decode_many"),
    "device_board.DeviceBoard.analyse_many",
    *("device_slices.DeviceSlices.encode_many", "device_slices.DeviceSlices.decode_many"),
    *("device_transform.DeviceTransform.run", "device_transform.DeviceTransform.vary"),
}


def native_entries() -> Iterator[tuple[str, set[str]]]:
    """(name, its parameters) of every function, constructor and method of the extension module."""
    for name, value in vars(_native).items():
        if name.startswith("__"):
            continue
        if not isinstance(value, type):
            yield name, _parameters(value.__doc__, name)
            continue
        yield name, _parameters(value.__init__.__doc__, "__init__")
        for method, function in vars(value).items():
            if not method.startswith("_") and not isinstance(function, property):
                yield f"{name}.{method}", _parameters(function.__doc__, method)


def _parameters(doc: str, name: str) -> set[str]:
    signatures = re.findall(rf"^(?:\d+\. )?{name}\((.*)\) ->", doc, re.MULTILINE)
    return {found for text in signatures for found in re.findall(r"(?:^|, )(\w+): ", text)} - {"self"}


def ops_entries() -> Iterator[tuple[str, set[str]]]:
    """The same of every public function, class and method of ``fastlic.ops``, its plain twins left out."""
    for info in pkgutil.iter_modules(fastlic.ops.__path__):
        if info.ispkg or info.name.startswith("_"):
            continue
        for name, parameters in entries_of(importlib.import_module(f"fastlic.ops.{info.name}"), info.name):
            if name not in NEED_A_DEVICE:
                yield name, parameters


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module defines under a public name and somebody can call, protocols left out."""
    for name, value in list(vars(module).items()):
        own = getattr(value, "__module__", None) == module.__name__ and callable(value)
        if own and not name.startswith("_") and not getattr(value, "_is_protocol", False):
            yield name, value


def entries_of(module: ModuleType, shown: str) -> Iterator[tuple[str, set[str]]]:
    """(name, its parameters) of each of them and of their methods; classes that only keep fields, and abstract
    ones, have no constructor to ask."""
    for name, value in public(module):
        fields = inspect.isclass(value) and (dataclasses.is_dataclass(value) or issubclass(value, tuple))
        if not (fields or inspect.isabstract(value)) or hasattr(value, "__post_init__"):
            yield f"{shown}.{name}", signature(value)
        for method, function in vars(value).items() if inspect.isclass(value) else ():
            if not method.startswith("_") and isinstance(inspect.unwrap(function), _METHODS):
                yield f"{shown}.{name}.{method}", signature(getattr(value, method)) - {"self"}


_METHODS = (type(ops_entries), classmethod, staticmethod)


def signature(value: Any) -> set[str]:
    return {name for name, p in inspect.signature(value).parameters.items() if p.kind is not p.VAR_KEYWORD}


# Public to Python, and to nobody's use but the library's own; each with the reason.
LEFT_OUT = {
    "families": "the protocol that Codec drives: its rows reach every family's coder",
    "layer.Kind": "an enumeration",
    "functions.Curve": "an enumeration",
    "arrays.reading": "a context around code, not around values",
}


def codec_entries() -> Iterator[tuple[str, set[str]]]:
    """The entries of ``fastlic`` itself, ``fastlic.light`` and ``fastlic.codec``."""
    for module in (fastlic, fastlic.api):
        for name, value in public(module):
            yield f"fastlic.{name}", signature(value)
    yield from entries_of(fastlic.light, "light")
    yield from entries(fastlic.codec)


def entropy_entries() -> Iterator[tuple[str, set[str]]]:
    """The entries of ``fastlic.entropy``."""
    yield from entries(fastlic.entropy)


def integers_entries() -> Iterator[tuple[str, set[str]]]:
    """The entries of ``fastlic.integers``."""
    yield from entries(fastlic.integers)


def entries(package: ModuleType) -> Iterator[tuple[str, set[str]]]:
    """(name, its parameters) of all that is public, plain containers of fields left out: they keep what they get."""
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = info.name.removeprefix(f"{package.__name__}.")
        for name, parameters in entries_of(importlib.import_module(info.name), module):
            if not any(name == left or name.startswith(f"{left}.") for left in LEFT_OUT):
                yield name, parameters
