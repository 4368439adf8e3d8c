"""Builds the one extension module, fastlic._native, with ninja.

Metadata lives in pyproject.toml. Here is only what it cannot say: the kernels/ folder is installed as fastlic.kernels,
and the C++ sources are compiled in parallel, incrementally and with header dependencies tracked.

Files that share headers are compiled as one (`units`), for most of the time of small ones goes into pybind11's and the
standard library's headers. Kernels and coders stay alone.

FASTLIC_SANITIZE=address,undefined builds the core with those sanitizers (reinstall without it afterwards), in a folder
of its own, whose core.a the fuzz targets may be linked of. The bindings are left as they are, the same objects: their
templates would take most of the time, and they touch no memory by themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from sysconfig import get_platform

import ninja
import pybind11
from ninja.ninja_syntax import Writer
from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parent
SANITIZE = os.environ.get("FASTLIC_SANITIZE", "")
# Of the core alone, after those of both. Checks of null pointers and of objects' sizes find nothing that
# AddressSanitizer misses, and are a quarter of what kernels take to compile.
SANITIZE_ARGS = [
    *(f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
    *(["-fno-sanitize=null,object-size"] if "address" in SANITIZE else []),
    *("-U_FORTIFY_SOURCE", "-g1"),  # lines of stacks are all that a report needs
]
# Calls spend their time in kernels and coders, which stand alone. The rest is compiled in half the time without -O1.
SANITIZED_ALONE, SANITIZED_UNIT = "-O1", "-Og"
SANITIZED = "sanitize-" + SANITIZE.replace(",", "-")  # the folder
# Bindings check arguments and convert; the kernels' -O3 would double what they take to compile.
BINDINGS_ARGS = ["-O1"]
# GCC 12 warns about its own AVX-512 headers, whose "undefined" vectors are read on purpose.
QUIET = ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]


class NinjaBuildExt(build_ext):
    """setuptools chooses compiler, flags and file name; ninja decides what is out of date."""

    def build_extension(self, ext: Pybind11Extension) -> None:
        if self.compiler.compiler_type != "unix":
            raise SystemExit(
                "fastlic's kernels are written in GCC's and clang's vectors, which cl.exe lacks: on Windows, install "
                "in WSL (docs/install.md)"
            )
        build_dir = ROOT / "build" / f"{sys.implementation.cache_tag}-{self.plat_name}"
        build_dir.mkdir(parents=True, exist_ok=True)
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        output = f"{SANITIZED}/{target.name}" if SANITIZE else target.name
        self._write_rules(ext, build_dir / "build.ninja", output)

        command = [str(Path(ninja.BIN_DIR) / "ninja"), "-C", str(build_dir)]
        subprocess.run(command, check=True)

        # Rename over the old module: a process that has it mapped keeps its copy; a rewrite in place would crash it.
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f".{target.name}.{os.getpid()}")
        staged.write_bytes((build_dir / output).read_bytes())
        staged.chmod(0o755)
        staged.replace(target)

    def _write_rules(self, ext: Pybind11Extension, path: Path, output: str) -> None:
        include = [*(str(ROOT / d) for d in ext.include_dirs), *self.compiler.include_dirs]
        include = [str(headers(path.parent)) if Path(d) == Path(pybind11.get_include()) else d for d in include]
        compile_ = [*self.compiler.compiler_so_cxx, *ext.extra_compile_args, *(f"-I{d}" for d in include)]
        link = [*self.compiler.linker_so_cxx, *ext.extra_link_args]
        own = f"{SANITIZED}/" if SANITIZE else ""
        database, objects = [], {"core": [], "bindings": []}
        with path.open("w") as file:
            writer = Writer(file, width=10_000)
            writer.rule(
                "cxx", f"{shlex.join(compile_)} $flags -MMD -MF $out.d -c $in -o $out", deps="gcc", depfile="$out.d"
            )
            writer.rule("archive", "rm -f $out && ar crs $out $in")
            writer.rule("link", f"{shlex.join(link)} $in -o $out")
            # Bindings first: they take longest.
            for name, sources in units(ext.sources).items():
                part = "bindings" if name.startswith("csrc/bindings") else "core"
                flags = BINDINGS_ARGS if part == "bindings" else []
                if part == "core" and SANITIZE:
                    flags = [*SANITIZE_ARGS, SANITIZED_ALONE if len(sources) == 1 else SANITIZED_UNIT]
                source = ROOT / sources[0] if len(sources) == 1 else unit_file(path.parent, name, sources)
                to = f"{own}{name}.o" if part == "core" else f"{name}.o"
                objects[part] += writer.build(to, "cxx", str(source), variables={"flags": shlex.join(flags)})
                database += [
                    {
                        "directory": str(path.parent),
                        "command": shlex.join([*compile_, *flags, "-c", str(ROOT / each)]),
                        "file": str(ROOT / each),
                    }
                    for each in sources
                ]
            # The core before the bindings: of an inline function that both have, the linker takes the first.
            writer.build(output, "link", objects["core"] + objects["bindings"])
            writer.build(f"{own}core.a", "archive", objects["core"])
        (path.parent / "compile_commands.json").write_text(json.dumps(database, indent=1))


def units(sources: list[str]) -> dict[str, list[str]]:
    """{name of an object: the sources compiled into it}, which takes a third of the time that each alone takes.

    The bindings are two, one per core of a small machine; a folder of the core is one. Each file with kernels, whose
    code is nobody else's business, is one, and so are the coders beside the folders; with the sanitizers these are two.
    """
    bindings = [source for source in sources if source.startswith("csrc/bindings/")]
    found = {f"csrc/bindings/unit{i}": bindings[i::2] for i in range(2)}
    beside = [source for source in sources if Path(source).parent == Path("csrc/fastlic")]
    joined = [source for source in beside if SANITIZE and "FASTLIC_BODY" not in (ROOT / source).read_text()]
    found |= {f"csrc/fastlic/unit{i}": joined[i::2] for i in range(2) if joined}
    for source in sources:
        path = Path(source)
        if (source in beside or path.stem == "kernels") and source not in joined:
            found[str(path.with_suffix(""))] = [source]
        elif source not in bindings + joined:
            found.setdefault(str(path.parent / "unit"), []).append(source)
    return found


def unit_file(build_dir: Path, name: str, sources: list[str]) -> Path:
    """A source that includes the others; what stands there already keeps its time."""
    path = build_dir / f"{name}.cpp"
    text = "".join(f'#include "{Path(source).relative_to("csrc").as_posix()}"\n' for source in sources)
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return path


def headers(build_dir: Path) -> Path:
    """A copy of pybind11's headers under a name that stays.

    Each isolated build of pip has them in a folder of another name, for which ninja would compile everything again.
    """
    copy = build_dir / f"pybind11-{pybind11.__version__}"
    if not copy.exists():
        partial = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(pybind11.get_include(), partial)
        partial.rename(copy)
    return copy


def hardening(platform: str) -> tuple[list[str], list[str]]:
    """Flags for the compiler and the linker that make an overrun end the process in place of going on."""
    compile_args = ["-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
    if not platform.startswith("linux"):
        return compile_args, []
    compile_args.append("-fstack-clash-protection")
    if platform.endswith(("x86_64", "i686")):
        compile_args.append("-fcf-protection")
    elif platform.endswith("aarch64"):
        compile_args.append("-mbranch-protection=standard")
    return compile_args, ["-Wl,-z,relro,-z,now"]


class WheelWithBill(bdist_wheel):
    """A wheel says in .dist-info/sboms (PEP 770) what lies in it that no requirement names."""

    def write_wheelfile(self, wheelfile_base: str, *args: str) -> None:
        super().write_wheelfile(wheelfile_base, *args)
        folder = Path(wheelfile_base) / "sboms"
        folder.mkdir(exist_ok=True)
        bill = bill_of_materials(self.distribution.get_version())
        (folder / "fastlic.cdx.json").write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")


def bill_of_materials(version: str) -> dict[str, object]:
    """CycloneDX: the weights and the photo with licence and digest, and pybind11, whose headers are compiled in.

    No time and no serial number: the same sources give the same wheel.
    """

    def component(kind: str, path: Path, licence: str, description: str) -> dict[str, object]:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return {
            "type": kind,
            "name": path.relative_to(ROOT).as_posix(),
            "bom-ref": path.name,
            "description": description,
            "hashes": [{"alg": "SHA-256", "content": digest}],
            "licenses": [{"license": {"id": licence}}],
        }

    components = []
    for path in sorted((ROOT / "fastlic" / "weights").glob("*.safetensors")):
        training = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["training"]
        sources = "; ".join(f"{name}: {licence}" for name, licence in training["licences"].items())
        text = (
            f"Trained for fastlic on {training['data']} Licences of the pictures, which are not part of it: {sources}."
        )
        components.append(component("machine-learning-model", path, "Apache-2.0", text))
    note = (ROOT / "fastlic" / "data" / "photo.txt").read_text(encoding="utf-8")
    components.append(component("data", ROOT / "fastlic" / "data" / "photo.png", "CC0-1.0", " ".join(note.split())))
    components.append(
        {
            "type": "library",
            "name": "pybind11",
            "version": pybind11.__version__,
            "bom-ref": "pybind11",
            "purl": f"pkg:pypi/pybind11@{pybind11.__version__}",
            "licenses": [{"license": {"id": "BSD-3-Clause"}}],
        }
    )
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "name": "fastlic",
                "version": version,
                "bom-ref": "fastlic",
                "purl": f"pkg:pypi/fastlic@{version}",
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components,
    }


def native_extension() -> Pybind11Extension:
    # -ffp-contract=off: floating-point results may not depend on which instruction set has fused multiply-add.
    # -fno-math-errno: rounding to integers is one instruction in place of a library call.
    more_compile_args, more_link_args = hardening(get_platform())
    compile_args = ["-O3", "-Wall", "-Wextra", "-ffp-contract=off", "-fno-math-errno", *QUIET, *more_compile_args]
    link_args = ["-pthread", *more_link_args, *([f"-fsanitize={SANITIZE}"] if SANITIZE else [])]
    sources = [*ROOT.glob("csrc/fastlic/**/*.cpp"), *ROOT.glob("csrc/bindings/**/*.cpp")]
    return Pybind11Extension(
        "fastlic._native",
        sorted(str(path.relative_to(ROOT)) for path in sources),
        include_dirs=["csrc"],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        cxx_std=20,
    )


# The mapping feeds builds; the symlink fastlic/kernels -> ../kernels is for type checkers and editors only.
PYTHON_PACKAGES = find_packages(include=["fastlic", "fastlic.*"], exclude=["fastlic.kernels", "fastlic.kernels.*"])
KERNEL_PACKAGES = ["fastlic.kernels", *(f"fastlic.kernels.{name}" for name in find_packages("kernels"))]

setup(
    package_dir={"fastlic.kernels": "kernels"},
    packages=[*PYTHON_PACKAGES, *KERNEL_PACKAGES],
    ext_modules=[native_extension()],
    cmdclass={"build_ext": NinjaBuildExt, "bdist_wheel": WheelWithBill},
)
