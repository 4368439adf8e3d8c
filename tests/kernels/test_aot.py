"""Kernels are compiled for GPUs that are not here and keep within their budgets of registers, stack and shared memory.

In processes of their own: with the interpreter asked for, kernels cannot be compiled.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastlic.ops.backends import OLDEST_TRITON, triton_package_lacks

LACKS = triton_package_lacks()
pytestmark = pytest.mark.skipif(LACKS is not None, reason=f"Triton: {LACKS}")


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | settings
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)


def test_a_small_kernel_for_every_target():
    done = run("-m", "fastlic.kernels.aot", "--filter", "dequantize, offsets", "--markdown")
    assert done.returncode == 0, done.stdout + done.stderr
    header, _, row = done.stdout.strip().splitlines()
    assert header == "| kernel | sm_80 | sm_90 | sm_100 | gfx942 |"
    assert row.startswith("| dequantize, offsets |") and row.count(" / ") == 4


def test_floats_are_rounded_once_on_a_gpu():
    """Roots and quotients are the nearest, and nothing is fused; the interpreter cannot tell."""
    script = (
        "import re\n"
        "from fastlic.kernels import aot, windows\n"
        "target = aot.TARGETS['sm_90']\n"
        "found = [v for v in windows.variants(target) if v.name in ('softmax over channels', 'layer norm')]\n"
        "text = ''.join(aot._compile(v, target).asm['ptx'] for v in found)\n"
        "print(*sorted(set(re.findall(r'(?:fma|div|sqrt|rsqrt|rcp)\\.\\S*f(?:32|64)', text))))\n"
    )
    done = run("-c", script)
    assert done.stdout.split() == ["div.rn.f32", "div.rn.f64", "sqrt.rn.f64"], done.stdout + done.stderr


def test_a_budget_that_is_exceeded_is_a_failure_with_numbers():
    script = (
        "import dataclasses, sys\n"
        "from fastlic.kernels import aot\n"
        "from fastlic.kernels import quantize\n"
        "tight = [dataclasses.replace(v, registers=4) for v in quantize.variants(aot.TARGETS['sm_90'])[-1:]]\n"
        "aot.every_variant = lambda target: tight\n"
        "sys.exit(aot.main(['--target', 'sm_90']))\n"
    )
    done = run("-c", script)
    assert done.returncode == 1, done.stderr
    assert "registers, budget 4" in done.stdout


@pytest.mark.slow  # minutes: some 130 compilations
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_every_kernel_keeps_its_budgets(target):
    done = run("-m", "fastlic.kernels.aot", "--target", target)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert len(done.stdout.splitlines()) > 25


@pytest.fixture(scope="module")
def oldest(tmp_path_factory) -> str:
    """The oldest Triton that kernels are said to run with, in a folder of its own."""
    folder, version = str(tmp_path_factory.mktemp("triton")), ".".join(map(str, OLDEST_TRITON))
    command = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, f"triton=={version}.0"]
    done = run(*command)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow  # minutes, and a download
@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_the_oldest_triton_compiles_every_kernel(target, oldest):
    """Of MLIC++'s attention one had a quotient that 3.6 does not compile, and 3.9 does. Budgets are those of 3.9."""
    path = os.pathsep.join(filter(None, (oldest, os.environ.get("PYTHONPATH"))))
    done = run("-m", "fastlic.kernels.aot", "--target", target, PYTHONPATH=path)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) > 60
