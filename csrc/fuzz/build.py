"""Builds the fuzz targets with AddressSanitizer and UBSan: ``python csrc/fuzz/build.py OUT_FOLDER [TARGET ...]``.

With clang++ they are libFuzzer programs, with any other compiler (CXX=g++) standalone.cpp drives them. Either way:

    OUT/rans_decode -runs=100000 csrc/fuzz/corpus/rans_decode
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

CSRC = Path(__file__).resolve().parents[1]
TARGETS = sorted(p.stem for p in (CSRC / "fuzz").glob("*.cpp") if p.stem != "standalone")
FLAGS = "-std=c++20 -O1 -g -ffp-contract=off -fno-math-errno -fno-omit-frame-pointer -Wall -Wextra"
QUIET = "-Wno-uninitialized -Wno-maybe-uninitialized -Wno-unknown-warning-option"
SANITIZERS = "address,undefined"


def build(out: Path, targets: list[str]) -> None:
    compiler = os.environ.get("CXX") or shutil.which("clang++") or "g++"
    libfuzzer = "clang" in Path(compiler).name
    core = f"-fsanitize={SANITIZERS}" + (",fuzzer-no-link" if libfuzzer else "")
    link = f"-fsanitize={SANITIZERS}" + (",fuzzer" if libfuzzer else "")
    out.mkdir(parents=True, exist_ok=True)
    (out / "models.hpp").write_text(models.header())
    with (out / "build.ninja").open("w") as file:
        writer = Writer(file, width=10_000)
        compile_ = f"{compiler} {FLAGS} {QUIET} -fno-sanitize-recover=all {core} -I{CSRC} -I{CSRC / 'fuzz'} -I{out}"
        writer.rule("cxx", f"{compile_} -MMD -MF $out.d -c $in -o $out", deps="gcc", depfile="$out.d")
        writer.rule("link", f"{compiler} {link} $in -o $out -pthread")
        sources = sorted((CSRC / "fastlic").rglob("*.cpp"))
        if not libfuzzer:
            sources.append(CSRC / "fuzz" / "standalone.cpp")
        names = ["_".join(source.relative_to(CSRC).with_suffix(".o").parts) for source in sources]
        objects = [writer.build(n, "cxx", str(source))[0] for n, source in zip(names, sources, strict=True)]
        for target in targets:
            main = writer.build(f"fuzz_{target}.o", "cxx", str(CSRC / "fuzz" / f"{target}.cpp"))
            writer.build(target, "link", [*objects, *main])
    subprocess.run([str(Path(ninja.BIN_DIR) / "ninja"), "-C", str(out), "-j", os.environ.get("JOBS", "2")], check=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    build(Path(sys.argv[1]), sys.argv[2:] or TARGETS)
