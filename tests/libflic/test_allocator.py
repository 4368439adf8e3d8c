"""libflic with memory of a program's own: all of it, given back, and failing at any place."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from ctypes import c_size_t, c_void_p
from pathlib import Path

import binding
import pytest
from building import LIBFLIC, ROOT, WEIGHTS, run

from fastlic import light

GOLDEN = ROOT / "tests" / "golden"
SHIPPED = sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))
TINY = sorted(path.stem for path in GOLDEN.glob("tiny_pixels_*.safetensors"))
# Bytes that a call takes beside the allocator, at most: handles of threads, in glibc one of 300 bytes for each.
OUTSIDE = 4096
# And while a file is read: its FILE and its buffer.
OUTSIDE_FILE = 16384


@pytest.fixture(scope="module")
def program(built: Path, tmp_path_factory) -> Path:
    """tests/libflic/allocator.c, linked with the library."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a compiler of C, and Linux")
    out = tmp_path_factory.mktemp("allocator") / "allocator"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{LIBFLIC}"]
    rpath = f"-Wl,-rpath,{built}"
    run(compiler, *flags, Path(__file__).with_name("allocator.c"), built / "libflic.so", rpath, "-pthread", "-o", out)
    return out


def told(program: Path, *arguments: object) -> dict:
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_example_of_the_docs_compiles(tmp_path):
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("needs a compiler of C")
    blocks = (ROOT / "docs" / "libflic.md").read_text().split("```c\n")[1:]
    (tmp_path / "example.c").write_text(next(block.split("```")[0] for block in blocks if "open_counted" in block))
    warnings = ["-Wall", "-Wextra", "-Werror"]
    run(compiler, "-std=c11", *warnings, f"-I{LIBFLIC}", "-c", tmp_path / "example.c", "-o", tmp_path / "example.o")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "jahp" else pytest.mark.slow) for name in SHIPPED]
)
def test_all_memory_is_that_of_the_allocator_and_comes_back(name, threads, program):
    found = told(program, "use", WEIGHTS / f"{name}.safetensors", 768, 512, threads)
    for way in ("open", "open_file", "decode", "preview", "region", "encode"):
        own = found[way]
        assert own["blocks"] > 0 and own["taken"] > 500_000, (way, own)
        if found["outside"]:
            assert own["outside"] <= (OUTSIDE_FILE if way == "open_file" else OUTSIDE), (way, own)
            if threads == 1 and not way.startswith("open"):
                assert own["outside_blocks"] == 0, (way, own)
    assert found["header"]["outside_blocks"] == 0


@pytest.mark.parametrize(("name", "most"), [("mlic++", {"decode": 11.0, "encode": 13.0})])
def test_a_megapixel_takes_so_many_megabytes(name, most, program):
    """Beside the pixels: what the peak grows by with the height of a narrow image, of which bands are small."""
    heights = (4096, 8192)
    small, large = (told(program, "use", WEIGHTS / f"{name}.safetensors", 64, height, 1) for height in heights)
    pixels = 64 * (heights[1] - heights[0])
    for way, bound in most.items():
        assert bound / 2 < (large[way]["taken"] - small[way]["taken"]) / pixels < bound, way


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "tiny_pixels_jahp" else pytest.mark.slow) for name in TINY]
)
def test_an_allocation_that_fails_is_told_and_leaves_nothing_behind(name, threads, program):
    found = told(program, "fail", GOLDEN / f"{name}.safetensors", 72, 48, threads, 80)
    assert found["failures"] > 200


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_an_allocation_that_fails_in_a_shipped_codec_is_told(name, program):
    assert told(program, "fail", WEIGHTS / f"{name}.safetensors", 72, 48, 2, 12)["failures"] > 30


def test_an_allocator_in_python_counts_to_zero_and_pixels_stay_the_golden_ones(library):
    """As a program of another language has it: pixels are those of the default, blocks come back with their size."""
    blocks = {}
    libc = ctypes.CDLL(None)
    libc.aligned_alloc.restype, libc.aligned_alloc.argtypes = c_void_p, [c_size_t, c_size_t]
    libc.free.argtypes = [c_void_p]

    @binding.ALLOCATE
    def allocate(user, size, alignment):
        block = libc.aligned_alloc(alignment, size)
        blocks[block] = size
        return block

    @binding.RELEASE
    def release(user, block, size):
        assert user == 77 and blocks.pop(block) == size
        libc.free(block)

    path = GOLDEN / "tiny_pixels_jahp.safetensors"
    data = (GOLDEN / "tiny_pixels_jahp_v2.flic").read_bytes()
    allocator = binding.Allocator(allocate, release, 77)
    own = library.open_with(path, ctypes.pointer(allocator))
    whole = sum(blocks.values())
    assert own.decode(data, threads=2) == light.decompress(data, path).tobytes() == library.open(path).decode(data)
    del own
    assert whole and not blocks
    own = library.open_with(path, ctypes.pointer(allocator), decode_only=1)
    assert sum(blocks.values()) < whole
    del own
    assert not blocks


def test_allocators_and_options_that_are_none_are_refused(library):
    path = GOLDEN / "tiny_pixels_jahp.safetensors"
    half = ctypes.pointer(binding.Allocator(binding.ALLOCATE(lambda *_: None), binding.RELEASE(), None))
    for given, words in (
        ({"allocator": half}, "release"),
        ({"struct_size": 0}, "FLIC_OPEN_OPTIONS_INIT"),
        ({"reserved": 1}, "reserved must be 0"),
    ):
        with pytest.raises(binding.Refused, match=words) as caught:
            library.open_with(path, **given)
        assert caught.value.status == binding.ARGUMENT
    # Older programs' options, of which no more is read.
    own = library.open_with(path, half, struct_size=ctypes.sizeof(c_size_t))
    assert library.open_with(path, decode_only=1, reserved=9, struct_size=2 * ctypes.sizeof(c_void_p))
    data = (GOLDEN / "tiny_pixels_jahp_v2.flic").read_bytes()
    with pytest.raises(binding.Refused, match="release") as caught:
        own.decode(data, allocator=half)
    assert caught.value.status == binding.ARGUMENT
