"""Which backends this installation has, and why not the others; asking loads neither triton nor CUDA.

A dispatch table maps ``reference``, ``cpp`` and ``triton`` to implementations of one operation. ``auto`` goes by where
the data are: ``triton`` for tensors on a GPU, the best of the others for the CPU. A backend asked for by name is used
or refused, never replaced; Triton's interpreter is a test of kernels and therefore never chosen by ``auto``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from fastlic import _native, config
from fastlic.errors import BackendUnavailable
from fastlic.ops import _arguments as arguments

Implementation = TypeVar("Implementation")
T = TypeVar("T")
OLDEST_TRITON = (3, 6)  # what the kernels are tested with


def instruction_sets() -> list[str]:
    """Those that the C++ core has code for and this processor runs, each with what those before it on x86-64 have."""
    return _native.supported_isas()


@contextmanager
def _while(value: T, read: Callable[[], T], write: Callable[[T], None]) -> Iterator[None]:
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """The C++ core on one of ``instruction_sets`` while a ``with`` block runs, in all threads of the process.

    Raises:
        ValueError: none of these.
    """
    with _while(name, _native.get_isa, _native.set_isa):
        yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch, and the C++ core with it, on so many threads while a ``with`` block runs.

    Raises:
        ValueError: none of 1 to 1024.
    """
    with _while(arguments.integer("count", count, 1, 1024), torch.get_num_threads, torch.set_num_threads):
        yield


def triton_package_lacks() -> str | None:
    """None if a Triton is installed that the kernels can be compiled with, otherwise what is missing."""
    if importlib.util.find_spec("triton") is None:
        return 'not installed (pip install "fastlic[gpu]"; Linux on x86-64, and torch for CUDA brings its own)'
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return None  # a build of another name, such as ROCm's
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and tuple(map(int, numbers.groups())) < OLDEST_TRITON:
        return f"Triton {version} is installed, the kernels need 3.6 or later (torch 2.10 and later bring it)"
    return None


def triton_lacks() -> str | None:
    """None if Triton kernels can run here, otherwise what is missing."""
    reason = triton_package_lacks()
    if reason is None and not torch.cuda.is_available() and not config.triton_interpreter():
        return "no GPU was found (TRITON_INTERPRET=1 runs kernels on the CPU, slowly, to test them)"
    return reason


def require_triton() -> None:
    """Raises BackendUnavailable, with the reason, where Triton kernels cannot run."""
    reason = triton_lacks()
    if reason is not None:
        raise BackendUnavailable(f"backend 'triton' is unavailable: {reason}")


def triton_device() -> torch.device:
    """Where kernels run unless another device is named: the current GPU, or the CPU in Triton's interpreter."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def choose(table: Mapping[str, Implementation], backend: str, device: torch.device) -> Implementation:
    """The implementation that ``backend`` names, or that suits tensors on ``device`` for ``auto``.

    Raises:
        ValueError: no such backend.
        BackendUnavailable: it exists but cannot run here.
    """
    if not isinstance(device, torch.device):
        raise TypeError(f"device must be a torch.device, got {type(device).__name__}")
    if not isinstance(backend, str) or not isinstance(table, Mapping):
        raise TypeError(f"backend must be a name and table a mapping, got {backend!r:.100} and {type(table).__name__}")
    if backend == "auto":
        on_gpu = device.type == "cuda" and "triton" in table and triton_lacks() is None
        backend = "triton" if on_gpu else "cpp" if "cpp" in table and device.type == "cpu" else "reference"
    if backend not in table:
        raise ValueError(f"backend must be auto, {', '.join(table)}, got {backend!r}")
    if backend == "triton":
        require_triton()
    if backend == "cpp" and device.type != "cpu":
        raise BackendUnavailable(f"backend 'cpp' works on CPU tensors, these are on {device}")
    return table[backend]


def backends() -> dict[str, Any]:
    """{"instruction_set", "best_instruction_set", "cuda", "triton", "transforms", "streams", "codes"}: names, or
    sentences that say what is missing, and what runs transforms of integers, the coder of latents and McQuic's."""
    from fastlic.ops._device_streams import FEWEST_STREAMS

    built = torch.version.cuda
    if built is None:
        cuda = "unavailable: this torch is built for the CPU only"
    elif not torch.cuda.is_available():
        cuda = f"unavailable: torch is built for CUDA {built}, but no device was found"
    else:
        cuda = f"CUDA {built}"
    lacks = triton_lacks()
    triton = "installed" if lacks is None else f"unavailable: {lacks}"
    return {
        "instruction_set": _native.get_isa(),
        "best_instruction_set": _native.best_isa(),
        "cuda": cuda,
        "triton": triton,
        "transforms": "cpp" if lacks is not None else "cpp; triton if it is asked for by name (untimed on GPUs)",
        "streams": "cpp"
        if lacks is not None
        else f"cpp; triton if it is asked for by name, and codes {FEWEST_STREAMS} "
        "streams or more together, or decodes a raster context",
        "codes": "cpp, of McQuic: each waits for the one before it, which keeps them off GPUs",
    }
