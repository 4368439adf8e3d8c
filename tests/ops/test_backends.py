"""Which backends there are, and what an installation without one of them is told."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import pytest

from fastlic.errors import BackendUnavailable
from fastlic.ops import backends


@pytest.fixture
def triton_of(monkeypatch):
    """Make ``triton`` look as if that version were installed."""

    def pretend(version: str | None) -> None:
        def installed(name: str) -> str:
            if version is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return version

        monkeypatch.setenv("TRITON_INTERPRET", "1")
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
        monkeypatch.setattr(importlib.metadata, "version", installed)

    return pretend


@pytest.mark.parametrize("version", ["3.2.0", "3.5.1", "2.1.0.post1"])
def test_a_triton_that_an_older_torch_pins_is_left_alone_and_named(triton_of, version):
    triton_of(version)
    with pytest.raises(BackendUnavailable, match=f"Triton {version} is installed, the kernels need 3.6 or later"):
        backends.require_triton()
    assert version in backends.backends()["triton"]


@pytest.mark.parametrize("version", ["3.6.0", "3.10.0", "4.0.0+git1", "unknown", None])
def test_newer_tritons_and_builds_of_other_names_are_taken(triton_of, version):
    triton_of(version)
    backends.require_triton()
