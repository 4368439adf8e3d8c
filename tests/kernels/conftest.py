"""Kernels run on the GPU where there is one, otherwise on the CPU in Triton's interpreter.

The interpreter must be asked for before the kernels are imported, so this happens when the folder is collected. A
process in which something imported them before says how to run the tests alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
import torch

from fastlic.ops.backends import triton_package_lacks

if not torch.cuda.is_available() and "fastlic.kernels.launch" not in sys.modules:
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where kernels can run here."""
    if reason := triton_package_lacks():
        pytest.skip(f"Triton: {reason}")
    if torch.cuda.is_available():
        return torch.device("cuda")
    from fastlic.kernels import launch, rans

    if not launch.interpreted(rans._decode):
        pytest.skip("kernels were imported without the interpreter: TRITON_INTERPRET=1 python -m pytest tests/kernels")
    return torch.device("cpu")


@pytest.fixture(autouse=True)
def memory_is_never_clean() -> Iterator[None]:
    """What nobody has written holds the largest number of its type: fresh memory is zero by chance, most times."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@pytest.fixture(autouse=True)
def coder(monkeypatch, request) -> str:
    """Who codes the streams of engines. Tests have few of them, which are coded in kernels all the same; those that ask
    for "cpp", as the parameter of this fixture, get the coder that few streams have."""
    from fastlic.ops import _device_streams

    chosen = getattr(request, "param", "triton")
    if chosen == "triton":
        monkeypatch.setattr(_device_streams, "FEWEST_STREAMS", 1)
    return chosen


@pytest.fixture
def batches(monkeypatch) -> list[int]:
    """Sizes of the batches that go through networks on the device, one after the other."""
    from fastlic.ops.device_transform import DeviceTransform

    seen: list[int] = []
    run = DeviceTransform.run

    def counted(self, x, size=None):
        seen.append(len(x))
        return run(self, x, size)

    monkeypatch.setattr(DeviceTransform, "run", counted)
    return seen
