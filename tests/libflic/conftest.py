"""libflic and the command for tests: linked of the core that setup.py left, which takes seconds, or built by CMake.

FASTLIC_CMAKE_BUILD names a folder for CMake's build that stays; then every test uses what lies there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import binding
from building import KEPT, LIBFLIC, OBJECTS, ROOT, run


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time, of several that test."""
    fcntl = pytest.importorskip("fcntl")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def cmake_build(tmp_path_factory) -> Path:
    """A build by CMake with all that it offers, jahp within."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    build = Path(KEPT).resolve() if KEPT else tmp_path_factory.mktemp("cmake")
    with alone(build):
        run("cmake", "-S", ROOT, "-B", build, "-DFLIC_EMBED=jahp", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
        run("cmake", "--build", build, "--parallel", "2")
    return build


@pytest.fixture(scope="session")
def built(request: pytest.FixtureRequest) -> Path:
    """A folder with libflic.so and the command flic."""
    if KEPT:
        return request.getfixturevalue("cmake_build")
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    core = OBJECTS / "core.a"
    if compiler is None or not core.exists():
        pytest.skip("no compiler, or no core.a of setup.py in build/: libflic cannot be linked of it")
    out = OBJECTS / "libflic"
    read = [*LIBFLIC.glob("*.cpp"), *LIBFLIC.glob("*.h*"), LIBFLIC / "flic.map", core, Path(__file__)]
    with alone(out):
        library, command = out / "libflic.so", out / "flic"
        newest = max(path.stat().st_mtime for path in read)
        if not (
            command.exists() and library.exists() and min(command.stat().st_mtime, library.stat().st_mtime) > newest
        ):
            # -O0: what takes time is in the core.
            compile_ = [compiler, "-std=c++20", "-O0", "-fPIC", "-fvisibility=hidden", f"-I{ROOT / 'csrc'}", "-c"]
            png = _has_png(compiler)
            defined = ['-DFLIC_FOLDER="/nowhere"', *(["-DFLIC_PNG"] if png else [])]
            names = ["flic", "command", "files", "images"]
            with ThreadPoolExecutor(2) as pool:
                jobs = [
                    pool.submit(run, *compile_, *defined, LIBFLIC / f"{n}.cpp", "-o", out / f"{n}.o") for n in names
                ]
            for job in jobs:
                job.result()
            link = [compiler, "-pthread", "-Wl,-z,relro,-z,now", "-Wl,-z,defs", "-o"]
            hidden = f"-Wl,--version-script={LIBFLIC / 'flic.map'}"
            run(*link, library, "-shared", hidden, out / "flic.o", core)
            own = [out / f"{name}.o" for name in names[1:]]
            run(*link, command, *own, library, "-Wl,-rpath,$ORIGIN", *(["-lpng"] if png else []))
    return out


def _has_png(compiler: str) -> bool:
    done = subprocess.run([compiler, "-E", "-x", "c", "-"], input="#include <png.h>", capture_output=True, text=True)
    return done.returncode == 0


@pytest.fixture(scope="session")
def library(built: Path) -> binding.Library:
    return binding.Library(built / "libflic.so")
