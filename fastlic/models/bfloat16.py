"""Where bfloat16 is quicker than float32."""

from __future__ import annotations

import torch


def supported(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32: AVX512-BF16 or AMX, or a GPU that has it.

    Other processors have it emulated, which takes some seven times as long as float32 in a training step.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    asks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask is not None and ask() for ask in asks)
