"""CompressAI of 2021, as forks bring it along: what it has is served. Here it is 1.2.8 without what is new there."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from . import test_loops
from .conftest import build, image

entropy_models = pytest.importorskip("compressai.entropy_models")

ABSENT = ("latent_codecs", "models.base", "models.sensetime", "models.vbr")
NEW = ("EntropyBottleneckVbr", "EntropyModelVbr", "GaussianMixtureConditional")


def dequantize(inputs: Tensor, means: Tensor | None = None) -> Tensor:
    return inputs.float() if means is None else inputs.type_as(means) + means


def tables(model: Any) -> tuple[Any, Any, Any]:
    return model._quantized_cdf.tolist(), model._cdf_length.tolist(), model._offset.tolist()


def decompress(self: Any, strings: Any, indexes: Tensor, means: Tensor | None = None, flag: int = 1) -> Tensor:
    """Without a dtype, and with an argument that nothing reads, as Googolxx/STF has it."""
    values = [
        self.entropy_coder.decode_with_indexes(data, index.reshape(-1).tolist(), *tables(self))
        for data, index in zip(strings, indexes, strict=True)
    ]
    return self.dequantize(torch.tensor(values, dtype=torch.int32).reshape(indexes.shape), means)


def reading(self: Any, strings: Any, indexes: Tensor, means: Tensor | None = None, flag: int = 1) -> Tensor:
    return decompress(self, strings, indexes, means) * flag


def of_the_bottleneck(self: Any, strings: Any, size: Any) -> Tensor:
    indexes = self._build_indexes((len(strings), self._quantized_cdf.size(0), *size))
    medians = self._get_medians().detach().reshape(1, -1, *[1] * len(size)).expand(len(strings), -1, *size)
    bottleneck: Any = super(entropy_models.EntropyBottleneck, self)
    return bottleneck.decompress(strings, indexes, medians, 1)


@pytest.fixture
def old(monkeypatch) -> Iterator[Callable[..., Any]]:
    """Makes the package old, and gives the integration that meets it."""

    def made(method: Any = decompress) -> Any:
        base = entropy_models.EntropyModel
        monkeypatch.setattr(base, "decompress", method)
        monkeypatch.setattr(base, "dequantize", staticmethod(dequantize))
        monkeypatch.setattr(entropy_models.EntropyBottleneck, "decompress", of_the_bottleneck)
        for name in NEW:
            monkeypatch.delattr(entropy_models, name)
        for name in ABSENT:
            monkeypatch.setitem(sys.modules, f"compressai.{name}", None)
        parent = sys.modules["fastlic.integrations"]
        monkeypatch.setattr(parent, "compressai", parent.compressai)  # what the import below replaces
        for name in [name for name in sys.modules if name.startswith("fastlic.integrations.compressai")]:
            monkeypatch.delitem(sys.modules, name)
        return importlib.import_module("fastlic.integrations.compressai")

    yield made
    # Also what was imported for the first time; what there was before comes back with the rest.
    for name in [name for name in sys.modules if name.startswith("fastlic.integrations.compressai")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "format"),
    [
        *(("bmshj2018-factorized", "native"), ("bmshj2018-factorized", "compressai")),
        *(("mbt2018-mean", "native"), ("mbt2018-mean", "compressai"), ("mbt2018", "compressai")),
        pytest.param("mbt2018", "native", marks=pytest.mark.slow),
    ],
)
def test_models_of_an_old_package_are_served(old, name, format):
    model, x = build(name), image(1, 64, 64)
    integration = old()
    with torch.no_grad():
        plain = model.compress(x)
        pixels = model.decompress(plain["strings"], plain["shape"])["x_hat"]
    report = integration.accelerate(model, format, [image(1)[0]])
    assert any(row.part in ("entropy bottleneck", "entropy path") for row in report.replaced)
    out = model.compress(x)
    x_hat = model.decompress(out["strings"], out["shape"])["x_hat"]
    assert (out["strings"] == plain["strings"]) == (format == "compressai")
    if format == "compressai" or name == "bmshj2018-factorized":
        assert torch.allclose(x_hat, pixels, atol=1e-5)


@pytest.mark.parametrize("cls", [test_loops.Slices, test_loops.Bare])
def test_loops_over_an_old_package_are_served(old, cls):
    model, x = test_loops.built(cls), test_loops.image()
    integration = old()
    plain, pixels = test_loops.run(model, x)
    report = integration.accelerate(model)
    assert [row.replaced for row in report.rows if row.part == "own loops"] == [True]
    out, x_hat = test_loops.run(model, x)
    assert out["strings"][0] == plain["strings"][0] and torch.allclose(x_hat, pixels, atol=1e-5)


def test_arguments_that_fastlic_does_not_know_are_a_reason_to_leave_a_model_alone(old):
    model, x = build("bmshj2018-factorized"), image(1, 64, 64)
    integration = old(reading)
    plain = model.compress(x)
    with pytest.raises(TypeError, match="nothing of CompressAI that fastlic knows"):
        integration.accelerate(model)
    assert model.compress(x)["strings"] == plain["strings"]
    assert "flag" in inspect.signature(model.entropy_bottleneck.__class__.__mro__[1].decompress).parameters
