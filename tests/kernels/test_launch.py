"""Where kernels are launched."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import fastlic


@pytest.fixture
def second_of_two(monkeypatch) -> list[str]:
    """As on a machine whose current GPU is the first: devices that were made current, one after the other."""
    entered: list[str] = []

    @contextmanager
    def current(device):
        entered.append(str(device))
        yield
        entered.append("left")

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", current)
    return entered


def test_a_kernel_is_launched_on_the_device_of_its_tensors(device, second_of_two):
    from fastlic.kernels import launch

    class Kernel:
        def __getitem__(self, grid):
            return lambda *given, **named: second_of_two.append(f"{grid} {given} {named}")

    kernel = Kernel()
    launch.on(torch.device("cuda", 1), kernel)[(2, 3)](4, five=5)
    assert second_of_two == ["cuda:1", "(2, 3) (4,) {'five': 5}", "left"]
    assert launch.on(torch.device("cuda", 0), kernel) is kernel
    assert launch.on(torch.device("cpu"), kernel) is kernel


def test_no_launcher_forgets_the_device():
    files = sorted((Path(fastlic.__file__).parents[1] / "kernels").glob("*.py"))
    launches = [
        line.strip() for file in files for line in re.findall(r".*\w\)?\[(?:\(.*\)|grid)\]\(", file.read_text())
    ]
    assert len(launches) > 25
    rest = [line for line in launches if not re.match(r"(launch\.)?on\(", line)]
    assert rest == ["self._kernel[grid]("]  # of what `on` returns
