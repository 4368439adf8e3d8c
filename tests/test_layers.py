"""Who may import whom, read from the source; and how light ``import fastlic`` is.

    cli -> integrations -> evaluate -> api -> codec -> entropy -> integers -> models -> ops -> {kernels, _native}

A module imports from its own layer and from layers to its right, plus ``errors``, ``config``, ``files``, ``forks``,
``eager`` and ``arguments``. ``api`` is the package itself (``import fastlic``, and behind it ``fastlic/api.py``).
``train``, ``inspect`` and ``bench`` stand beside ``cli``: they import like it, and only it imports them; ``lifelike``
beside ``bench``, which alone imports it. ``light`` is ``api`` without torch, ``pillow`` that in Pillow, ``batch``
stands on it. Only ``ops`` touches ``kernels`` and ``_native``; ``bench`` times them without the layer in between.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fastlic"

ORDER = ["integrations", "evaluate", "api", "codec", "entropy", "integers", "models", "ops"]
MAY_IMPORT = {layer: set(ORDER[i:]) for i, layer in enumerate(ORDER)}
MAY_IMPORT |= {layer: {layer, *ORDER} for layer in ("train", "inspect", "lifelike", "bench")}
MAY_IMPORT["light"] = MAY_IMPORT["codec"] | {"api"}
MAY_IMPORT["pillow"] = {"pillow", *MAY_IMPORT["light"]}
MAY_IMPORT["batch"] = {"batch", "light"} | MAY_IMPORT["light"]
MAY_IMPORT["evaluate"] |= {"light"}
MAY_IMPORT["integrations"] |= {"light"}
MAY_IMPORT["inspect"] |= {"light"}
MAY_IMPORT["cli"] = {"cli", "pillow", "train", "inspect", "bench", "batch", "light", *ORDER}
MAY_IMPORT["ops"] |= {"kernels", "_native"}
MAY_IMPORT["bench"] |= {"inspect", "lifelike", "batch", "light", "kernels", "_native"}
MAY_IMPORT["kernels"] = {"kernels"}
COMMON = {"errors", "config", "files", "forks", "arguments", "eager"}
MAY_IMPORT |= {layer: set() for layer in COMMON}


def imported_layers(source: str) -> Iterator[tuple[int, str]]:
    """(line, layer) of every fastlic import in a module, those inside functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "fastlic"]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = ["fastlic.<relative import>"]
        elif isinstance(node, ast.ImportFrom) and node.module == "fastlic":
            names = [f"fastlic.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fastlic."):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            part = name.split(".")[1] if "." in name else "api"
            is_module = part in MAY_IMPORT or part.startswith(("_native", "<")) or (PACKAGE / f"{part}.py").exists()
            yield node.lineno, part if is_module else "api"  # `from fastlic import compress` uses the API


def violations(layer: str, source: str) -> list[str]:
    allowed = MAY_IMPORT[layer] | COMMON
    return [f"line {line}: {layer} imports {name}" for line, name in imported_layers(source) if name not in allowed]


def modules() -> list[Path]:
    # The package's own __init__ is the api: it may import what it offers. __main__ is the command line.
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in COMMON)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_to_the_right_only(path):
    layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert layer in MAY_IMPORT, f"{layer} has no place among the layers: add it to design and to this test"
    assert violations(layer, path.read_text()) == []


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("ops", "from fastlic.models import JAHP"),
        ("models", "from fastlic import _native"),
        ("models", "import fastlic._native"),
        ("codec", "def f():\n    from fastlic.evaluate import psnr"),
        ("codec", "import fastlic"),
        ("entropy", "from fastlic import compress"),
        ("integers", "from fastlic.entropy.fitting import fit_tables"),
        ("models", "from fastlic.integers.layer import Layer"),
        ("evaluate", "from fastlic.cli.files import write_whole"),
        ("integrations", "from fastlic.train import klt"),
        ("models", "from .layers import GDN"),
        ("kernels", "from fastlic.ops import rans"),
        ("train", "from fastlic.bench import peers"),
        ("inspect", "from fastlic.bench import peers"),
    ],
)
def test_a_planted_upward_import_is_found(layer, source):
    assert violations(layer, source)


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("cli", "import fastlic\nfrom fastlic.train.trainer import Trainer"),
        ("ops", "from fastlic import _native, config\nfrom fastlic.errors import FastlicError"),
        ("evaluate", "from fastlic.codec import container\nimport torch"),
    ],
)
def test_imports_to_the_right_pass(layer, source):
    assert violations(layer, source) == []


def test_import_is_light_and_touches_no_gpu(fresh_process):
    script = (
        "import sys, fastlic, torch\n"
        "heavy = {'triton', 'matplotlib', 'pytorch_msssim', 'fastlic.train', 'fastlic.cli', 'fastlic.kernels'}\n"
        "print(sorted(heavy & set(sys.modules)), torch.cuda.is_initialized())\n"
    )
    assert fresh_process(script) == ["[] False"]


def test_environment_variables_are_read_in_config_only():
    readers = [path for path in PACKAGE.rglob("*.py") if {"environ", "getenv"} & set(_attributes(path.read_text()))]
    assert [path.name for path in readers] == ["config.py"]


def test_lazy_values_are_those_that_a_fork_leaves_unlocked():
    users = [path for path in PACKAGE.rglob("*.py") if "from functools import cached_property" in path.read_text()]
    assert users == [path for path in users if path.parent.name == "kernels"], "take it from fastlic.forks"


def _attributes(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield node.attr
