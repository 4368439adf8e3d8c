"""Which backends this installation has, and why not the others; asking loads neither triton nor CUDA."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from fastlic import _native


def backends() -> dict[str, Any]:
    """{"instruction_set", "best_instruction_set", "cuda", "triton"}: names, or sentences that say what is missing."""
    built = torch.version.cuda
    if built is None:
        cuda = "unavailable: this torch is built for the CPU only"
    elif not torch.cuda.is_available():
        cuda = f"unavailable: torch is built for CUDA {built}, but no device was found"
    else:
        cuda = f"CUDA {built}"
    installed = importlib.util.find_spec("triton") is not None
    triton = "installed" if installed else "unavailable: not installed (pip install triton; Linux only)"
    return {
        "instruction_set": _native.get_isa(),
        "best_instruction_set": _native.best_isa(),
        "cuda": cuda,
        "triton": triton,
    }
