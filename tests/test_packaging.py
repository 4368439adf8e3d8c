"""What is installed: one top-level package, typed, with weights, and built without torch."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def run(code: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **kwargs)


def test_build_needs_no_torch():
    required = " ".join(PYPROJECT["build-system"]["requires"])
    assert "setuptools" in required
    assert "torch" not in required


def test_installed_version_is_the_one_in_pyproject():
    assert importlib.metadata.version("fastlic") == PYPROJECT["project"]["version"]


def test_every_package_that_is_imported_is_a_declared_requirement():
    """But for CompressAI, whose models are the caller's."""
    project = PYPROJECT["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    declared = {re.split(r"[^\w-]", line)[0].replace("-", "_").lower() for line in lines}
    imported = set()
    for path in (ROOT / "fastlic").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported |= {name.split(".")[0] for name in names}
    assert "typing_extensions" in imported
    others = {{"PIL": "pillow"}.get(name, name) for name in imported - sys.stdlib_module_names}
    assert others - declared == {"compressai"}


def test_kernels_are_importable_under_one_name_only():
    result = run("import kernels", cwd=ROOT)
    assert "fastlic.kernels" in result.stderr
    assert importlib.util.find_spec("fastlic.kernels") is not None


def test_importing_fastlic_loads_neither_triton_nor_a_gpu_runtime():
    result = run("import fastlic, sys, torch; print('triton' in sys.modules, torch.cuda.is_initialized())")
    assert result.stdout.split() == ["False", "False"], result.stderr


def test_only_extras_ask_for_triton_and_tests_have_it():
    project = PYPROJECT["project"]
    assert not any(text.startswith("triton") for text in project["dependencies"])
    assert any(text.startswith("triton") for text in project["optional-dependencies"]["gpu"])
    assert any("gpu" in text for text in project["optional-dependencies"]["test"] if text.startswith("fastlic["))


def test_without_triton_all_but_the_kernels_work_and_errors_name_the_extra():
    script = """if True:
        import importlib, pkgutil, sys
        from functools import partial
        sys.modules["triton"] = None
        import torch, fastlic
        from fastlic.ops import codebook_nearest
        for package in "ops codec entropy integers models evaluate train inspect lifelike bench cli".split():
            folder = importlib.import_module(f"fastlic.{package}").__path__
            for module in pkgutil.walk_packages(folder, f"fastlic.{package}."):
                if not module.name.endswith("__main__"):
                    importlib.import_module(module.name)
        image = torch.zeros(3, 32, 32, dtype=torch.uint8)
        assert fastlic.decompress(fastlic.compress(image)).shape[-2:] == image.shape[-2:]
        print(fastlic.info()["triton"])
        AOT, x = "fastlic.kernels.aot", torch.zeros(1, 1, 4)
        for ask in (partial(codebook_nearest, x, x, backend="triton"), partial(importlib.import_module, AOT)):
            try:
                ask()
            except fastlic.errors.BackendUnavailable as error:
                print(error)
        """
    done = run(script)
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all('pip install "fastlic[gpu]"' in line for line in lines), done.stdout + done.stderr


@pytest.fixture
def build_script(monkeypatch) -> dict[str, Any]:
    """What setup.py defines, without a build."""
    pytest.importorskip("pybind11")
    pytest.importorskip("ninja")
    setuptools = pytest.importorskip("setuptools", minversion="77")
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    return runpy.run_path(str(ROOT / "setup.py"))


def test_units_hold_every_source_once_and_kernels_alone(build_script):
    sources = build_script["native_extension"]().sources
    units = build_script["units"](sources)
    assert sorted(source for unit in units.values() for source in unit) == sorted(sources)
    for unit in units.values():
        kernels = [source for source in unit if "simd/for_each_target.hpp" in (ROOT / source).read_text()]
        assert not kernels or len(unit) == 1, unit
        assert len({source.startswith("csrc/bindings") for source in unit}) == 1


def test_bill_of_materials_has_every_weight_with_licence_and_digest(build_script):
    bill = build_script["bill_of_materials"]("1.2.3")
    assert (bill["bomFormat"], bill["metadata"]["component"]["version"]) == ("CycloneDX", "1.2.3")
    found = {component["name"]: component for component in bill["components"]}
    bundled = [*(ROOT / "fastlic/weights").glob("*.safetensors"), ROOT / "fastlic/data/photo.png"]
    for path in bundled:
        component = found.pop(path.relative_to(ROOT).as_posix())
        assert component["hashes"][0]["content"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert component["licenses"][0]["license"]["id"] == ("CC0-1.0" if path.suffix == ".png" else "Apache-2.0")
    assert list(found) == ["pybind11"]
    assert bill == build_script["bill_of_materials"]("1.2.3")


def test_commands_of_the_installation_page_are_true(tmp_path):
    page = (ROOT / "docs/install.md").read_text()
    assert all(f"`{name}`" in page or f"[{name}]" in page for name in PYPROJECT["project"]["optional-dependencies"])
    extras = {name for names in re.findall(r"\[([a-z,]+)\]\"", page) for name in names.split(",")}
    assert {"gpu", "eval", "dev"} <= extras <= set(PYPROJECT["project"]["optional-dependencies"])
    for path in (".ci/cross-check", ".github/workflows/wheels.yml"):
        assert path in page and (ROOT / path).exists()
    (block,) = re.findall(r"^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        program, *arguments = line.split()
        command = [sys.executable, "-m", program, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_native_module_says_what_it_runs_on_and_refuses_what_it_cannot():
    code = "from fastlic import _native; print(_native.get_isa())"
    assert run(code, env={"FASTLIC_ISA": "scalar"}).stdout.strip() == "scalar"
    assert "unknown instruction set 'mmx'" in run(code, env={"FASTLIC_ISA": "mmx"}).stderr
    for load in ("fastlic.load", "fastlic.light.load"):
        error = run(f"import fastlic.light; {load}('jahp')", env={"FASTLIC_ISA": "mmx"}).stderr.splitlines()[-1]
        assert error.startswith("fastlic.errors.BackendUnavailable: FASTLIC_ISA: unknown instruction set 'mmx'")


@pytest.mark.slow
def test_wheel_holds_the_package_its_types_and_its_kernels(tmp_path):
    # From a copy of the tracked files: neither stale build folders nor editors' files get in.
    source = tmp_path / "source"
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    source.mkdir()
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run([*command, str(source)], check=True)
    (wheel,) = tmp_path.glob("fastlic-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"fastlic"}
    for expected in ("fastlic/py.typed", "fastlic/_native.pyi", "fastlic/kernels/__init__.py"):
        assert expected in names
    assert any(name.startswith("fastlic/_native.") and name.endswith(".so") for name in names)
    command = ["git", "ls-files", "fastlic/weights", "fastlic/data", "kernels"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    shipped = {f"fastlic/{name}" if name.startswith("kernels/") else name for name in tracked}
    assert {"fastlic/weights/jahp.safetensors", "fastlic/data/photo.png", "fastlic/kernels/rans.py"} <= shipped
    assert shipped <= set(names)
    (bill,) = [name for name in names if name.endswith(".dist-info/sboms/fastlic.cdx.json")]
    assert PYPROJECT["project"]["version"] in bill


@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("readelf") is None, reason="ELF only")
def test_extension_is_hardened():
    from fastlic import _native

    if "__asan_init" in readelf("--dyn-syms", _native.__file__):
        pytest.skip("built with sanitizers")
    assert "GNU_RELRO" in readelf("--program-headers", _native.__file__)
    assert "BIND_NOW" in readelf("--dynamic", _native.__file__)
    # FORTIFY leaves no trace where the compiler proves every copy to fit, as it does today.
    assert "__stack_chk_fail" in readelf("--dyn-syms", _native.__file__)


def readelf(what: str, path: str) -> str:
    return subprocess.run(["readelf", "--wide", what, path], capture_output=True, text=True, check=True).stdout
