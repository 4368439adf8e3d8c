"""Timing on a GPU: runs repeated in one CUDA graph, so that what is measured is the device and not the launches."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fastlic.bench.runner import Run


@dataclass(frozen=True)
class Peaks:
    """Datasheet peaks, dense: operations a second by kind of factor, bytes a second of memory."""

    rates: dict[str, float]
    memory: float


# Vendors' data sheets, without sparsity. "ieee" is float32 outside the tensor cores; three tf32 products make one.
PEAKS = {
    "A100": Peaks({"int8": 624e12, "tf32x3": 52e12, "ieee": 19.5e12}, 2.04e12),
    "H100": Peaks({"int8": 1979e12, "tf32x3": 165e12, "ieee": 67e12}, 3.35e12),
    "H200": Peaks({"int8": 1979e12, "tf32x3": 165e12, "ieee": 67e12}, 4.8e12),
    "B200": Peaks({"int8": 4500e12, "tf32x3": 367e12, "ieee": 75e12}, 7.7e12),
    "MI300X": Peaks({"int8": 2615e12, "tf32x3": 163e12, "ieee": 163e12}, 5.3e12),
}


def fastest(kind: str, operations: float, traffic: float) -> tuple[float, str] | None:
    """(seconds that the data sheet of this GPU allows, which limit it is); None without one in the table."""
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
    for name, peak in PEAKS.items():
        if name in device:
            arithmetic, memory = operations / peak.rates[kind], traffic / peak.memory
            return max(arithmetic, memory), f"{name} {kind} peak" if arithmetic > memory else f"{name} memory"
    return None


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def repeated(run: Run, repeats: int = 20) -> tuple[Run, int, str]:
    """(a call that does ``repeats`` runs and waits for them, how many, in words how).

    Runs that ask the host something on the way cannot be captured; they are launched one by one.
    """
    run()
    synchronise()
    try:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            run()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # a capture can neither use what is cached nor have it given back
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(repeats):
                run()
    except Exception:  # whatever the reason, the work can be launched plainly
        synchronise()

        def plain() -> None:
            run()
            synchronise()

        return plain, 1, "launched"

    def replay() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return replay, repeats, "in a CUDA graph"
