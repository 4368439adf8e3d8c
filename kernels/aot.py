"""``python -m fastlic.kernels.aot``: every kernel compiled ahead of time for GPUs that need not be present.

Prints registers per thread, bytes of stack (spills) and shared memory per program for sm_80, sm_90, sm_100 and gfx942,
and fails if a kernel exceeds its budget. ``--markdown`` writes the table of docs/kernels.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastlic.kernels.launch import Target, Variant

TARGETS = {
    "sm_80": Target("cuda", 80),
    "sm_90": Target("cuda", 90),
    "sm_100": Target("cuda", 100),
    "gfx942": Target("hip", "gfx942"),
}
# Bytes that one program may use: an A100 has 163 KiB, an H100 or B200 227 KiB, an MI300 64 KiB.
SHARED_LIMIT = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024, "gfx942": 64 * 1024}


@dataclass(frozen=True)
class Usage:
    """What one compiled kernel takes. ``stack``: bytes per thread, where spilled registers go."""

    name: str
    target: str
    registers: int
    stack: int
    shared: int
    instruction: str
    seconds: float
    faults: tuple[str, ...]


def every_variant(target: Target) -> list[Variant]:
    """Every kernel's typical forms for this target."""
    import importlib
    import pkgutil

    import fastlic.kernels as package

    found: list[Variant] = []
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if info.ispkg:
            continue
        module = importlib.import_module(f"fastlic.kernels.{info.name}")
        found += module.variants(target) if hasattr(module, "variants") else []
    return found


def _compile(variant: Variant, target: Target) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    kernel = variant.kernel
    if isinstance(kernel, InterpretedFunction):
        raise RuntimeError("kernels cannot be compiled in a process with TRITON_INTERPRET=1")
    assert isinstance(kernel, JITFunction)
    gpu = GPUTarget("hip", target.arch, 64) if target.is_hip else GPUTarget("cuda", target.arch, 32)
    names = kernel.arg_names
    unknown = set(names) ^ set(variant.signature)
    if unknown:
        raise ValueError(f"{variant.name}: signature and kernel differ in {', '.join(sorted(unknown))}")
    signature = {name: variant.signature[name] for name in names}
    aligned = [name for name in variant.aligned if signature.get(name, "constexpr") != "constexpr"]
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(fn=kernel, signature=signature, constexprs=dict(variant.constants), attrs=attributes)
    return triton.compile(source, target=gpu, options=dict(variant.options))


def _of_cuda(compiled: Any) -> tuple[int, int]:
    """(registers, stack) from the cubin."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+)", text), re.search(r"STACK:(\d+)", text)
    assert registers is not None and stack is not None, text
    return int(registers[1]), int(stack[1])


def _of_hip(compiled: Any) -> tuple[int, int]:
    text = compiled.asm["amdgcn"]
    registers, stack = re.search(r"\.vgpr_count:\s*(\d+)", text), re.search(r"ScratchSize: (\d+)", text)
    assert registers is not None and stack is not None, text[-2000:]
    return int(registers[1]), int(stack[1])


MATRIX_INSTRUCTIONS = (
    ("amdgcn", r"v_mfma_\w+"),
    ("ptx", r"tcgen05\.mma\.\S+|wgmma\.mma_async\S+|mma\.sync\.aligned\.m\d+n\d+k\d+\.row\.col\.\S+"),
)


def _matrix_instruction(compiled: Any) -> str:
    """The first tensor-core instruction of the code, shortened; empty if there is none."""
    for kind, pattern in MATRIX_INSTRUCTIONS:
        found = re.search(pattern, compiled.asm.get(kind, ""))
        if found:
            words = found[0].rstrip(";").replace(".sync.aligned", "").replace(".row.col", "").replace(".satfinite", "")
            return words
    return ""


def measure(variant: Variant, name: str) -> Usage:
    """Compile one variant for the target called ``name`` and hold it to its budgets."""
    target = TARGETS[name]
    start = time.perf_counter()
    compiled = _compile(variant, target)
    seconds = time.perf_counter() - start
    registers, stack = _of_hip(compiled) if target.is_hip else _of_cuda(compiled)
    shared = int(compiled.metadata.shared)
    limit = min(variant.shared, SHARED_LIMIT[name])
    # gfx942 has 512 vector registers a lane, twice what an NVIDIA thread can have.
    allowed = variant.registers * (2 if target.is_hip else 1)
    checks = [
        (registers > allowed, f"{registers} registers, budget {allowed}"),
        (stack > 0, f"{stack} bytes of stack"),
        (shared > limit, f"{shared} bytes shared, budget {limit}"),
    ]
    faults = tuple(text for bad, text in checks if bad)
    return Usage(variant.name, name, registers, stack, shared, _matrix_instruction(compiled), seconds, faults)


def usage(targets: list[str], pattern: str = "") -> Iterator[Usage]:
    for name in targets:
        for variant in every_variant(TARGETS[name]):
            if pattern in variant.name:
                yield measure(variant, name)


def markdown(results: list[Usage]) -> str:
    """One row per kernel, one column per target: registers / shared KiB."""
    targets = list(dict.fromkeys(r.target for r in results))
    lines = ["| kernel | " + " | ".join(targets) + " |", "|---" * (len(targets) + 1) + "|"]
    for name in dict.fromkeys(r.name for r in results):
        cells = []
        for target in targets:
            r = next((r for r in results if (r.name, r.target) == (name, target)), None)
            spill = f", **{r.stack} B stack**" if r and r.stack else ""
            cells.append(f"{r.registers} / {r.shared / 1024:.1f}{spill}" if r else "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastlic.kernels.aot", description=__doc__)
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="default: all of them")
    parser.add_argument("--filter", default="", metavar="TEXT", help="kernels whose name contains it")
    parser.add_argument("--markdown", action="store_true", help="the table of docs/kernels.md")
    options = parser.parse_args(arguments)
    results = []
    for found in usage(options.target or list(TARGETS), options.filter):
        results.append(found)
        if not options.markdown:
            print(
                f"{found.target:7} {found.name:45} {found.registers:4} registers {found.stack:5} B stack "
                f"{found.shared:7} B shared {found.seconds:5.1f} s  {found.instruction}"
                + (f"  OVER BUDGET: {'; '.join(found.faults)}" if found.faults else ""),
                flush=True,
            )
    if options.markdown:
        print(markdown(results))
    return 1 if any(r.faults for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
