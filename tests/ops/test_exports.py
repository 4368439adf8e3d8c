"""``fastlic.ops`` has every operation by its name, complete, described, and imported on demand."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastlic.ops

# Public in their modules for other modules of fastlic, and no operations.
HELPERS = {
    "backends": {
        *("backends", "choose", "require_triton", "torch_threads", "triton_device", "triton_lacks"),
        "triton_package_lacks",
    },
    "codec_file": {"require_instruction_set"},
    "mixture": {"decode_reference"},
    "rans": {"as_indexes", "as_symbols"},
}


def modules() -> Iterator[str]:
    for info in pkgutil.iter_modules(fastlic.ops.__path__):
        if not info.ispkg and not info.name.startswith("_"):
            yield info.name


def defined(name: str) -> set[str]:
    """Public functions and classes that a module defines itself, protocols left out."""
    module = importlib.import_module(f"fastlic.ops.{name}")
    return {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
        and (inspect.isclass(value) or inspect.isroutine(value))
        and not getattr(value, "_is_protocol", False)
    }


def test_every_operation_of_every_module_is_exported():
    found = {name: defined(name) - HELPERS.get(name, set()) for name in modules()}
    wanted = {name: set(names) for name, names in fastlic.ops._MODULES.items()}
    assert {name: names for name, names in found.items() if names} == wanted
    exported = [name for names in fastlic.ops._MODULES.values() for name in names]
    assert fastlic.ops.__all__ == sorted(exported) and len(set(exported)) == len(exported)
    assert all(set(names) <= defined(name) for name, names in HELPERS.items()), "a helper that is gone"


def test_every_name_of_an_operation_is_imported_from_the_module_that_defines_it():
    homes = {name: f"fastlic.ops.{module}" for module, names in fastlic.ops._MODULES.items() for name in names}
    for path in Path(fastlic.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("fastlic.ops."):
                detours = [one.name for one in node.names if homes.get(one.name, node.module) != node.module]
                # References share the names of what they are references of.
                assert not detours or ".reference" in str(node.module), f"{path}: {detours} from {node.module}"


def test_no_operation_has_the_name_of_a_module():
    """Importing the module would put it in the operation's place."""
    assert not set(modules()) & set(fastlic.ops.__all__)


@pytest.mark.parametrize("name", fastlic.ops.__all__)
def test_each_name_is_what_its_module_has_and_is_described(name):
    value = getattr(fastlic.ops, name)
    assert value.__name__ == name and value.__module__ == f"fastlic.ops.{fastlic.ops._HOMES[name]}"
    # A dataclass without a docstring is given its signature.
    assert value.__doc__ and not value.__doc__.startswith(f"{name}("), "no docstring"


def test_names_come_on_demand_in_a_fresh_process(fresh_process):
    script = (
        "import sys, fastlic.ops\n"
        "print(sorted({'torch', 'numpy', 'triton', 'fastlic._native'} & set(sys.modules)))\n"
        "print(set(fastlic.ops.__all__) <= set(dir(fastlic.ops)))\n"
        "import fastlic.ops.divisive, fastlic.ops.rans\n"
        "from fastlic.ops import *\n"
        "print(callable(gdn), callable(rans_encode), rans_encode is fastlic.ops.rans.rans_encode)\n"
        "from fastlic.ops import rans\n"
        "print(rans.__name__, 'triton' in sys.modules)\n"
        "try:\n    fastlic.ops.nonesuch\nexcept AttributeError as error:\n    print(error)\n"
    )
    assert fresh_process(script) == [
        "[]",
        "True",
        "True True True",
        "fastlic.ops.rans False",
        "module 'fastlic.ops' has no attribute 'nonesuch'",
    ]
