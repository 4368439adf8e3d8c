"""What every kernel's launcher shares: where it runs, with which options, and how it is compiled ahead of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from fastlic.errors import BackendUnavailable

try:
    from triton.runtime.interpreter import InterpretedFunction
except ModuleNotFoundError as error:
    raise BackendUnavailable('Triton is not installed: pip install "fastlic[gpu]" (Linux on x86-64)') from error


@dataclass(frozen=True)
class Target:
    """A GPU as far as a launcher cares: ``cuda`` with its compute capability (90 for an H200) or ``hip``."""

    backend: str
    arch: int | str

    @property
    def is_hip(self) -> bool:
        return self.backend == "hip"


@dataclass(frozen=True)
class Variant:
    """One compilable form of a kernel: what a launcher passes for typical arguments, spelled out.

    Attributes:
        signature: Triton type of every argument, e.g. ``*fp32`` or ``i32``; ``constexpr`` for those in ``constants``.
        options: num_warps and the like, for the target at hand.
        registers, shared: budgets per thread and per program (bytes); no variant may spill.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    options: Mapping[str, Any]
    registers: int = 255
    shared: int = 64 * 1024
    aligned: tuple[str, ...] = field(default=())


def interpreted(kernel: Any) -> bool:
    """Whether this kernel runs in Triton's interpreter (TRITON_INTERPRET=1 when triton was imported)."""
    return isinstance(kernel, InterpretedFunction)


@cache
def target_of(device: torch.device) -> Target:
    """The GPU that ``device`` names; the interpreter's CPU counts as an sm_90."""
    if device.type != "cuda":
        return Target("cuda", 90)
    if torch.version.hip is not None:
        return Target("hip", torch.cuda.get_device_properties(device).gcnArchName.split(":")[0])
    major, minor = torch.cuda.get_device_capability(device)
    return Target("cuda", 10 * major + minor)


@cache
def processors(device: torch.device) -> int:
    """Programs that surely run at the same time, one per multiprocessor; the interpreter runs one after the other."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


class _Elsewhere:
    """A kernel for a device that is not the current one."""

    def __init__(self, device: torch.device, kernel: Any) -> None:
        self._device, self._kernel = device, kernel

    def __getitem__(self, grid: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> None:
            with torch.cuda.device(self._device):
                self._kernel[grid](*arguments, **named)

        return run


def on(device: torch.device, kernel: Any) -> Any:
    """The kernel, to be launched on that device: Triton takes the current one, and its stream, wherever tensors are."""
    if device.type != "cuda" or device.index in (None, torch.cuda.current_device()):
        return kernel
    return _Elsewhere(device, kernel)


def options(kernel: Any, warps: int, stages: int = 2, cooperative: bool = False, fusion: bool = True) -> dict[str, Any]:
    """Launch options. Contraction is always said: its default changes between releases of Triton."""
    chosen: dict[str, Any] = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": fusion}
    if cooperative and not interpreted(kernel):
        chosen["launch_cooperative_grid"] = True
    return chosen


def check_device(kernel: Any, *tensors: Tensor) -> torch.device:
    """The one device of all tensors.

    Raises:
        BackendUnavailable: CPU tensors, without the interpreter.
        ValueError: tensors on several devices.
    """
    devices = {t.device for t in tensors}
    if len(devices) != 1:
        raise ValueError(f"all tensors must be on one device, got {', '.join(sorted(map(str, devices)))}")
    device = devices.pop()
    if device.type == "cpu" and not interpreted(kernel):
        raise BackendUnavailable("Triton kernels need tensors on a GPU (on the CPU only under TRITON_INTERPRET=1)")
    return device


@lru_cache(maxsize=256)
def small_tensor(values: tuple[int, ...], device: torch.device) -> Tensor:
    """int32 on the device, made once: later calls copy nothing, so they can be captured in a CUDA graph."""
    return torch.tensor(values, dtype=torch.int32).to(device)


def without_offsets(way: str, *names: str) -> dict[str, None]:
    """Constants of a variant without reconstruction offsets: what is passed as None in their place."""
    return {} if "offsets" in way else dict.fromkeys(names)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def power_of_two(value: int) -> int:
    """The smallest power of two that is at least ``value``."""
    return 1 << max(value - 1, 0).bit_length()
