"""What CMake builds and installs: the sources and flags of setup.py, and programs that find the library."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import binding
import pytest
from building import KEPT, OBJECTS, ROOT, WEIGHTS, run

from fastlic import light
from fastlic.bench.runner import process
from fastlic.codec.image_files import read_image

GOLDEN = ROOT / "tests" / "golden"
# A build takes minutes; where a folder of one is named, seconds.
pytestmark = [] if KEPT else [pytest.mark.slow]
STREAM, CODEC = GOLDEN / "tiny_pixels_jahp_v2.flic", GOLDEN / "tiny_pixels_jahp.safetensors"

CMAKE_LISTS = """
cmake_minimum_required(VERSION 3.20)
project(decode C)
find_package(flic 1.0 REQUIRED)
add_executable(decode decode.c)
target_link_libraries(decode PRIVATE flic::flic)
"""


@pytest.fixture(scope="module")
def installed(cmake_build: Path, tmp_path_factory) -> Path:
    prefix = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", cmake_build, "--prefix", prefix)
    return prefix


def check_decodes(program: Path, folder: Path) -> None:
    """The example's program makes the pixels of the golden stream, and an error in words of one that is none."""
    out = folder / "out.ppm"
    run(program, CODEC, STREAM, out)
    pixels = light.decompress(STREAM.read_bytes(), CODEC)
    assert out.read_bytes() == b"P6\n101 177\n255\n" + pixels.tobytes()
    done = subprocess.run([program, CODEC, CODEC, out], capture_output=True, text=True)
    assert done.returncode == 1 and "does not begin with FLIC" in done.stdout


@pytest.mark.parametrize("static", [False, True], ids=["shared", "static"])
def test_the_example_is_built_by_pkg_config_and_decodes(static, installed, tmp_path):
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")
    found = subprocess.run(
        ["pkg-config", "--cflags", "--libs", *(["--static"] if static else []), "flic"],
        env={**os.environ, "PKG_CONFIG_PATH": str(next(installed.rglob("pkgconfig")))},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    flags = shlex.split(found.stdout)
    if static:
        flags = [str(next(installed.rglob("libflic.a"))) if flag == "-lflic" else flag for flag in flags]
    else:
        flags.append(f"-Wl,-rpath,{next(installed.rglob('libflic.so')).parent}")
    program = tmp_path / "decode"
    run("cc", "-std=c99", "-Wall", "-Wextra", "-Werror", ROOT / "examples" / "decode.c", *flags, "-o", program)
    check_decodes(program, tmp_path)


@pytest.mark.parametrize("target", ["flic::flic", "flic::flic_static"])
def test_the_example_is_built_by_find_package_and_decodes(target, installed, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(CMAKE_LISTS.replace("flic::flic", target))
    shutil.copy(ROOT / "examples" / "decode.c", tmp_path)
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={installed}")
    run("cmake", "--build", tmp_path / "build")
    check_decodes(tmp_path / "build" / "decode", tmp_path)


def test_the_example_is_the_one_of_the_docs():
    text = (ROOT / "docs" / "libflic.md").read_text()
    assert (ROOT / "examples" / "decode.c").read_text().split("\n", 1)[1] in text


def test_an_installed_command_finds_its_weights_and_those_within(installed, tmp_path):
    flic = installed / "bin" / "flic"
    assert sorted(path.name for path in (installed / "share" / "flic").iterdir()) == sorted(
        path.name for path in WEIGHTS.glob("*.safetensors")
    )
    photo = ROOT / "tests" / "images" / "chelsea.png"
    environment = {k: v for k, v in os.environ.items() if k != "FLIC_WEIGHTS"}
    for name in ("mlic++", "jahp"):
        if name == "jahp":  # is within: it needs no file
            shutil.rmtree(installed / "share" / "flic")
        for command in (["encode", photo, "x.flic", "-c", name], ["decode", "x.flic", "x.ppm"]):
            done = subprocess.run([flic, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        assert (
            (tmp_path / "x.ppm").read_bytes().endswith(light.decompress((tmp_path / "x.flic").read_bytes()).tobytes())
        )


def test_codecs_within_the_library_are_the_files_themselves(cmake_build):
    c = binding.load(cmake_build / "libflic.so")
    name, size = ctypes.c_char_p(), ctypes.c_size_t()
    place = c.flic_embedded(0, ctypes.byref(name), ctypes.byref(size))
    assert name.value == b"jahp"
    assert ctypes.string_at(place, size.value) == (WEIGHTS / "jahp.safetensors").read_bytes()
    assert c.flic_embedded(1, ctypes.byref(name), ctypes.byref(size)) is None
    assert name.value is None and size.value == 0
    assert c.flic_embedded(0, None, None) == place


def test_sources_and_flags_are_those_of_setup_py(cmake_build):
    database = OBJECTS / "compile_commands.json"
    if not database.exists():
        pytest.skip("setup.py has built nothing here")

    def commands(path: Path) -> dict[str, set[str]]:
        """Flags of each source of the core."""
        found = {}
        for entry in json.loads(path.read_text()):
            source = Path(entry["directory"], entry["file"]).resolve()
            if (ROOT / "csrc" / "fastlic") in source.parents:
                found[str(source.relative_to(ROOT))] = set(shlex.split(entry["command"]))
        return found

    ours, theirs = commands(database), commands(cmake_build / "compile_commands.json")
    assert set(ours) == set(theirs)
    # Of setup.py's the ones that decide over results or that hardening consists of; Python adds some of its own.
    deciding = ("-f", "-O", "-std", "-D_FORTIFY", "-U_FORTIFY", "-W")
    own = {"-fwrapv", "-Wsign-compare", "-fvisibility-inlines-hidden", "-ffunction-sections", "-fdata-sections"}
    for source, flags in ours.items():
        a, b = ({flag for flag in some if flag.startswith(deciding)} - own for some in (flags, theirs[source]))
        assert a == b, source


@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("readelf") is None, reason="ELF only")
def test_the_shared_library_is_small_hardened_and_has_its_name(cmake_build, tmp_path):
    whole = cmake_build / "libflic.so"
    dynamic = subprocess.run(["readelf", "--wide", "--dynamic", whole], capture_output=True, text=True).stdout
    assert "Library soname: [libflic.so.1]" in dynamic and "BIND_NOW" in dynamic
    headers = subprocess.run(["readelf", "--wide", "--program-headers", whole], capture_output=True, text=True).stdout
    assert "GNU_RELRO" in headers
    run("strip", "-o", tmp_path / "stripped.so", whole)
    embedded = (WEIGHTS / "jahp.safetensors").stat().st_size
    assert (tmp_path / "stripped.so").stat().st_size - embedded < 1_500_000


def test_a_kodak_image_is_decoded_in_less_than_100_megabytes(cmake_build, tmp_path):
    photo = read_image(ROOT / "fastlic" / "data" / "photo.png").pixels.permute(1, 2, 0).numpy()
    image = photo.repeat(2, axis=0).repeat(2, axis=1)[:512, :768].copy()
    (tmp_path / "x.flic").write_bytes(light.compress(image))
    _, peak = process([str(cmake_build / "flic"), "decode", str(tmp_path / "x.flic"), str(tmp_path / "x.ppm")])
    assert peak < 100_000_000
