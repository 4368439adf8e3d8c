"""The integer path of the MLIC family beside its float model."""

from __future__ import annotations

import statistics
from functools import cache

import numpy as np
import pytest
import torch

from fastlic.entropy.calibration import latents_of
from fastlic.entropy.mlic import convert as conversion
from fastlic.entropy.mlic.model import IntegerMLIC
from fastlic.entropy.mlic.schedule import mlic_schedule
from fastlic.integers.ranges import Ranges
from fastlic.lifelike.models import photo, small_mlic
from fastlic.models import MLIC, MLICPlus, MLICPlusPlus
from fastlic.models.mlic.attention import linear_attention
from fastlic.models.mlic.checkerboard import anchors, even_rows

FAMILY = {
    "mlic": (MLIC, {}),
    "mlic+": (MLICPlus, {}),
    "mlic++": (MLICPlusPlus, {}),
    "mlic++, early": (MLICPlusPlus, {"blocks": 1, "early": True}),
}


@cache
def lively(name: str, seed: int = 5) -> tuple[MLICPlusPlus, IntegerMLIC, torch.Tensor, dict[str, np.ndarray]]:
    """A model, its integers, a latent [1, 32, 8, 12], and the real values of activations' units by name."""
    cls, how = FAMILY[name]
    model, x = small_mlic(cls, seed=seed, **how), photo()[:, 128:256, 256:448]
    units: dict[str, np.ndarray] = {}
    scale = Ranges.scale

    def spy(self, key, *args, **kwargs):
        units[key] = scale(self, key, *args, **kwargs)
        return units[key]

    Ranges.scale = spy
    try:
        integers = conversion.convert(model, [x])
    finally:
        Ranges.scale = scale
    return model, integers, next(latents_of(model, [x]))[0], units


def integers_of(name: str) -> IntegerMLIC:
    return lively(name)[1]


@pytest.mark.parametrize("name", FAMILY)
def test_integers_survive_storage(name):
    integers = integers_of(name)
    again = IntegerMLIC.from_arrays(integers.to_arrays())
    assert again.fingerprint() == integers.fingerprint()
    assert again.layers.keys() == integers.layers.keys() and again.family == FAMILY[name][0].family
    assert again.early == FAMILY[name][1].get("early", False)
    with pytest.raises(ValueError, match="integers of the entropy model need an array 'shape'"):
        IntegerMLIC.from_arrays({})


def close(got: torch.Tensor, units: np.ndarray, want: torch.Tensor, where: torch.Tensor | None = None) -> float:
    """Error of integer activations [C, h, w] relative to the float ones' deviation."""
    real = got.double() * torch.from_numpy(units)[:, None, None]
    if where is not None:
        real, want = real[:, where], want[:, where]
    return float((real - want).std() / want.std())


def context_errors(name: str, seed: int) -> dict[str, float]:
    """Errors of the early and the second slice's contexts, integers against floats fed with the same latents."""
    model, integers, y, units = lively(name, seed)
    c = model.slice_channels
    decoded = torch.cat([integers.latent_input(i, (y[0, i * c : i * c + c] * 64).round().long()) for i in range(2)])
    real = (decoded.double() * torch.from_numpy(units["y"][: 2 * c])[:, None, None]).float()[None]
    previous, current = real[:, :c], anchors(real[:, c:])
    with torch.no_grad():
        got = {
            "channel_context": (integers.channel(1, decoded[:c]), model.channel_context[1](real[:, :c])),
            "global_intra_context": (
                integers.intra(1, decoded[:c], anchors(decoded[c:])),
                model.global_intra_context[1](previous, current),
            ),
            "local_context": (
                integers.local(1, anchors((real[0, c:] * 64).round().long()), anchors(decoded[c:])),
                model.local_context[1](current),
            ),
        }
        if model.early:
            integer, floats = (anchors(x) * even_rows(x) for x in (decoded[:c], real[:, :c]))
            got["early_context"] = (integers.early_context(integer), model.early_context(floats))
        if name != "mlic":
            got["global_inter_context"] = (integers.inter(1, decoded[:c]), model.global_inter_context[1](real[:, :c]))
    others = anchors(torch.ones(y.shape[2:])) == 0
    errors = {}
    for context, (integer, floats) in got.items():
        names = (f"{context}.{layer}" for layer in ("1", "1.fushion.4", "1.4", "fushion.4"))
        scale = next(units[key] for key in names if key in units)
        where = others if context == "local_context" else None
        errors[context] = close(integer, scale, floats[0].double(), where)
    return errors


@pytest.mark.parametrize("name", FAMILY)
def test_every_context_is_close_to_the_float_one(name):
    """Errors far below what the entropy parameters make of them. A random attention now and then divides by next to
    nothing, and which one does depends on how a torch draws: of five models the median counts."""
    models = [context_errors(name, seed) for seed in range(5, 10)]
    for context in models[0]:
        assert statistics.median(errors[context] for errors in models) < 0.1, context


@pytest.mark.parametrize("height, width, rows", [(5, 6, [0, 1]), (1, 6, [0]), (2, 1, [1])])
def test_the_first_slices_anchors_are_coded_by_rows_in_passes_that_are_never_empty(height, width, rows):
    schedule = mlic_schedule(integers_of("mlic++, early"), height, width)
    step, passes = next(schedule), []
    with pytest.raises(StopIteration):
        while True:
            passes.append((step.section, step.channels[0], step.where))
            step = schedule.send(torch.zeros(step.indexes.shape, dtype=torch.int64))
    everywhere = torch.arange(height * width)
    row, anchor = everywhere // width, (everywhere // width + everywhere % width) % 2 == 1
    first = [everywhere[anchor & (row % 2 == parity)] for parity in rows]
    want = [(0, *first, everywhere[~anchor]), (16, everywhere[anchor], everywhere[~anchor])]
    assert passes[0][0] == 0
    got = [(section, channel, *where.tolist()) for section, channel, where in passes[1:]]
    assert got == [(1, channel, *where.tolist()) for channel, *parts in want for where in parts]


@pytest.mark.parametrize("name", ["mlic", "mlic+"])
def test_softmax_attention_does_not_depend_on_its_blocks(name, monkeypatch):
    integers = integers_of(name)
    c = integers.slice_channels
    previous, current = torch.randint(-500, 500, (2, c, 6, 8))
    want = integers.intra(1, previous, anchors(current))
    for block in (1, 300):
        monkeypatch.setattr("fastlic.entropy.mlic.model._BLOCK_SCORES", block)
        assert torch.equal(integers.intra(1, previous, anchors(current)), want)


def test_local_context_does_not_depend_on_its_blocks(monkeypatch):
    integers = integers_of("mlic++")
    latent = anchors(torch.randint(-500, 500, (integers.slice_channels, 7, 8)))
    want = integers.local(0, latent, latent)
    for block in (1, 5, 11):
        monkeypatch.setattr("fastlic.entropy.mlic.model._WINDOWS", block)
        assert torch.equal(integers.local(0, latent, latent), want)


def test_linear_attention_on_integers_is_close_to_the_float_one():
    integers = integers_of("mlic++")
    q, k, v = torch.randn(3, 32, 300)
    units = [(t * s).round().long().reshape(2, 16, 300) for t, s in ((q, 256), (k, 256), (v, 500))]
    got = integers._linear(*units).reshape(32, 300) / 256 / 500
    assert (got - linear_attention(q[None], k[None], v[None], 2)[0]).abs().max() < 5e-3


def test_conversion_needs_an_image():
    model, *_ = lively("mlic++")
    with pytest.raises(ValueError, match="at least one image"):
        conversion.convert(model, [])
