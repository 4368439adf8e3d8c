"""An optional package that is not there is told with the extra that brings it."""

from __future__ import annotations

import importlib
import sys

import pytest

from fastlic.batch import ray as cluster
from fastlic.errors import BackendUnavailable


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("ray", "ray", lambda: cluster.read("photos")),
        ("ray", "ray", lambda: cluster.apply(None)),
        ("ray", "ray", lambda: list(cluster.run("photos", "out"))),
        ("ray", "ray", lambda: cluster.checkpoint("out")),
        ("numcodecs", "zarr", lambda: importlib.import_module("fastlic.integrations.numcodecs")),
        ("zarr", "zarr", lambda: importlib.import_module("fastlic.integrations.zarr")),
    ],
)
def test_a_missing_package_is_told_with_what_to_install(package, extra, call, monkeypatch):
    if package == "zarr":
        pytest.importorskip("numcodecs")
    for name in list(sys.modules):
        if name.partition(".")[0] == package or name in (
            "fastlic.integrations.numcodecs",
            "fastlic.integrations.zarr",
        ):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendUnavailable, match=rf'pip install "fastlic\[{extra}\]"'):
        call()
