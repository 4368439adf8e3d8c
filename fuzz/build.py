"""Builds the fuzz targets with AddressSanitizer and UBSan: ``python fuzz/build.py OUT_FOLDER [TARGET ...]``.

With clang++ they are libFuzzer programs, with any other compiler (CXX=g++) standalone.cpp drives them. Either way:

    OUT/rans_decode -runs=100000 OUT/corpus/rans_decode      (after: python fuzz/seeds.py unpack OUT/corpus)

CXXFLAGS are added to the compiler's: -O1 builds in half the time. Where LIB_FUZZING_ENGINE is set, that is what targets
are linked with, and the sanitizers are those of CXXFLAGS alone: OSS-Fuzz builds so (oss-fuzz/build.sh). FUZZ_CORE names
an archive of the core that is built with the sanitizers already, as FASTLIC_SANITIZE=address,undefined leaves one
(setup.py): then the targets alone are compiled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import models  # the neighbour, models.py
import ninja
from ninja.ninja_syntax import Writer

FUZZ = Path(__file__).resolve().parent
CSRC = FUZZ.parent / "csrc"
COMMON = FUZZ / "common"
TARGETS = sorted(p.stem for p in (FUZZ / "targets").glob("*.cpp"))
FLAGS = "-std=c++20 -O2 -g -ffp-contract=off -fno-math-errno -fno-omit-frame-pointer -Wall -Wextra"
QUIET = "-Wno-uninitialized -Wno-maybe-uninitialized -Wno-unknown-warning-option"
SANITIZERS = "address,undefined"
# Watching every comparison takes a third of the time, most of it in loops, and no input hangs on a number to guess.
NO_COMPARES = "-fno-sanitize-coverage=trace-cmp"


def build(out: Path, targets: list[str]) -> None:
    compiler = os.environ.get("CXX") or shutil.which("clang++") or "g++"
    engine = os.environ.get("LIB_FUZZING_ENGINE")
    libfuzzer = engine is not None or "clang" in Path(compiler).name
    core = os.environ.get("CXXFLAGS", "")
    link = f"{core} {engine}"
    if engine is None:
        core += f" -fno-sanitize-recover=all -fsanitize={SANITIZERS}"
        core += f",fuzzer-no-link {NO_COMPARES}" if libfuzzer else ""
        link = f"-fsanitize={SANITIZERS}" + (",fuzzer" if libfuzzer else "")
    out.mkdir(parents=True, exist_ok=True)
    (out / "models.hpp").write_text(models.header())
    (out / "codecs.hpp").write_text(models.codecs_header())
    with (out / "build.ninja").open("w") as file:
        writer = Writer(file, width=10_000)
        compile_ = f"{compiler} {FLAGS} {QUIET} {core} -I{CSRC} -I{COMMON} -I{out.resolve()}"
        writer.rule("cxx", f"{compile_} -MMD -MF $out.d -c $in -o $out", deps="gcc", depfile="$out.d")
        writer.rule("link", f"{compiler} $in {link} -o $out -pthread")
        archive = os.environ.get("FUZZ_CORE")
        sources = [] if archive else sorted((CSRC / "fastlic").rglob("*.cpp"))
        if not libfuzzer:
            sources.append(COMMON / "standalone.cpp")
        names = ["_".join(source.relative_to(FUZZ.parent).with_suffix(".o").parts) for source in sources]
        objects = [writer.build(n, "cxx", str(source))[0] for n, source in zip(names, sources, strict=True)]
        for target in targets:
            main = writer.build(f"fuzz_{target}.o", "cxx", str(FUZZ / "targets" / f"{target}.cpp"))
            writer.build(target, "link", [*main, *objects, *([str(Path(archive).resolve())] if archive else [])])
    subprocess.run([str(Path(ninja.BIN_DIR) / "ninja"), "-C", str(out), "-j", os.environ.get("JOBS", "2")], check=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    build(Path(sys.argv[1]), sys.argv[2:] or TARGETS)
