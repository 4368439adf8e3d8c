"""``python -m fastlic.bench kernels --gpu``: everything that only a GPU can tell, in one run of a few minutes.

1. the tests of kernels on the device, those marked ``gpu`` included: JAHP decoded on the device equals the CPU's
   latents bit for bit; meanwhile the suite's kernels are compiled;
2. the suites ``throughput``, whole images in batches beside the CPU, and ``kernels``, timed alone;
3. other tiles for the kernels that depend on them (fastlic.bench.tune);
4. compute-sanitizer over small cases, if it is installed.

Each part runs in its own processes with a time limit, so that a kernel that hangs or crashes costs its own part only.
The folder given by ``--out`` gets one log per part, ``kernels.jsonl`` and ``summary.md``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import fastlic
from fastlic.bench import report

TESTS = Path(fastlic.__file__).resolve().parents[1] / "tests" / "kernels"
WARM = ("codebook*", "quantise*", "integer*", "checkerboard*", "transform*", "step*", "rans*", "jahp*", "mlic*")
_LAST_CASE = 12  # seconds that the suite's last case, and its table may take beyond its own limit
SANITIZED = ("test_quantize.py", "test_codebook.py", "test_checkerboard.py")


@dataclass
class Part:
    """A command, its log and its limit; ``done`` is what became of it."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    seconds: float = 0.0
    done: str = ""

    def start(self, *settings: str) -> Part:
        """``settings``: NAME=value, added to the environment, from which Triton's interpreter is taken."""
        self.started = time.perf_counter()
        command = ["env", "-u", "TRITON_INTERPRET", *settings, *self.command]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        return self

    def wait(self, limit: float) -> Part:
        assert self.process is not None
        try:
            code = self.process.wait(max(limit, 1))
            self.done = "passed" if code == 0 else f"failed with status {code}"
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.done = "stopped at its time limit"
        self.seconds = time.perf_counter() - self.started
        print(f"  {self.name:40} {self.done}, {self.seconds:.0f} s", flush=True)
        return self

    def tail(self, lines: int = 1) -> str:
        text = self.log.read_text(errors="replace").strip().splitlines()
        return "\n".join(text[-lines:])


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def pytest(*arguments: str) -> list[str]:
    return python("-m", "pytest", *arguments, "-q", "-o", "addopts=--import-mode=importlib", "-m", "not slow")


def tests(out: Path, limit: float) -> list[Part]:
    """Every file of tests in its own process, and every part of the suite once, to compile."""
    files = sorted(TESTS.glob("test_*.py"))
    parts = [Part(f"tests: {file.name}", pytest(str(file)), out / f"{file.stem}.log") for file in files]
    if not parts:
        print(f"  no tests at {TESTS}: run this in a checkout to include them")
    for pattern in WARM:
        command = python("-m", "fastlic.bench", "kernels", "--filter", pattern, "--seconds", "0")
        parts.append(Part(f"compile: {pattern}", command, out / f"compile-{pattern.split('*')[0].strip()}.log"))
    for part in parts:
        part.start()
    end = time.perf_counter() + limit
    return [part.wait(end - time.perf_counter()) for part in parts]


def sanitize(out: Path, limit: float) -> Part | None:
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(tool).exists() or not TESTS.is_dir():
        print("  compute-sanitizer is not installed (it comes with the CUDA toolkit), or there are no tests: left out")
        return None
    files = [str(TESTS / name) for name in SANITIZED]
    command = [tool, "--tool", "memcheck", "--error-exitcode", "9", "--target-processes", "application-only"]
    part = Part("compute-sanitizer", [*command, *pytest(*files, "-x")], out / "sanitizer.log")
    # Without torch's cache every tensor is an allocation of its own, whose ends the tool can see.
    part.start("PYTORCH_NO_CUDA_MEMORY_CACHING=1").wait(limit)
    if "Device not supported" in part.log.read_text(errors="replace"):
        part.done = "left out: compute-sanitizer does not support this device or its virtual machine"
    return part


def summary(out: Path, parts: list[Part]) -> str:
    rows = [[p.name, p.done, f"{p.seconds:.0f}", p.tail()[:100].replace("|", "/")] for p in parts]
    lines = [report.about(), "", report.markdown(["part", "result", "s", "last line"], rows), ""]
    for name in ("suite", "tune"):
        log = out / f"{name}.log"
        if log.exists():
            text = log.read_text(errors="replace").replace("\r\033[K", "\n")
            kept = [line for line in text.splitlines() if not line.rstrip().endswith("...")]
            lines += ["```", *kept, "```"]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.gpu", __doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder for logs (default: gpu-results)")
    parser.add_argument("--minutes", type=float, default=7.5, help="for everything (default: 7.5)")
    parser.add_argument("--seconds", type=float, default=0.15, help="per case of the suite and per peer")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no GPU was found: `python -m fastlic.bench kernels` measures the CPU's backends, `python -m "
              "fastlic.kernels.aot` compiles the kernels for GPUs that are not here")  # fmt: skip
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    budget, start = 60 * options.minutes, time.perf_counter()
    print(f"on {torch.cuda.get_device_name(0)}; logs in {options.out}", flush=True)

    def left() -> float:
        return budget - (time.perf_counter() - start)

    parts = tests(options.out, 0.4 * budget)
    limit = left() - 0.2 * budget  # what the tests leave is the suite's
    suite = python(
        *("-m", "fastlic.bench", "throughput", "kernels"),
        *("--seconds", str(options.seconds), "--limit", str(limit - _LAST_CASE)),
    )
    suite += ["--json", str(options.out / "kernels.jsonl")]
    parts.append(Part("suites throughput and kernels", suite, options.out / "suite.log").start().wait(limit))
    limit = min(0.1 * budget, 0.5 * left())
    tune = python("-m", "fastlic.bench.tune", "--seconds", str(0.7 * limit))
    parts.append(Part("other tiles", tune, options.out / "tune.log").start().wait(limit))
    sanitized = sanitize(options.out, left() - 5)
    parts += [] if sanitized is None else [sanitized]
    text = summary(options.out, parts)
    (options.out / "summary.md").write_text(text)
    print(text)
    return 0 if all(part.done.startswith(("passed", "left out")) for part in parts) else 1


if __name__ == "__main__":
    sys.exit(main())
