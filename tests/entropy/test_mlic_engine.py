"""The MLIC family's engine is the plain reference bit for bit, on any instruction set, thread count, batch and size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from fastlic import _native
from fastlic.bench.lifelike import enliven, logistic, photo
from fastlic.codec import mlic_drivers as drivers
from fastlic.entropy.mlic.convert import convert
from fastlic.entropy.mlic.model import IntegerMLIC
from fastlic.entropy.schedule import hyper_size
from fastlic.entropy.zones import zones_for
from fastlic.errors import CorruptStreamError
from fastlic.integers.fixed import LATENT_LIMIT
from fastlic.models import MLIC, MLICPlus, MLICPlusPlus
from fastlic.models.mlic import Sizes
from fastlic.models.mlic.checkerboard import anchors
from fastlic.ops.mlic_engine import MlicEngine

SUPPORTED = _native.supported_isas()
SIZES = [(1, 2), (5, 2), (2, 6), (9, 14), (12, 8)]
NARROW = {"widths": (4, 6, 8)}
FAMILIES = {
    "mlic": (MLIC, NARROW),
    "mlic+": (MLICPlus, NARROW),
    "mlic++": (MLICPlusPlus, NARROW),
    "mlic++, early": (MLICPlusPlus, {**NARROW, "blocks": 1, "early": True}),
}
MODELS = {
    **FAMILIES,
    # The published hyper synthesis, whose convolutions are shuffled into 2x2 cells; the others transpose.
    "mlic++, sub-pixel": (MLICPlusPlus, {}),
    "mlic, early": (MLIC, {**NARROW, "early": True}),
    # No channel context whose place the early one could take.
    "mlic+, one slice": (MLICPlus, {**NARROW, "slices": 1, "early": True}),
}


@pytest.fixture(params=SUPPORTED)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _native.get_isa()
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa(before)


def random_model(cls: type[MLICPlusPlus], how: dict[str, Any]) -> IntegerMLIC:
    """Three slices of 12 channels (no whole panel of 32) and as uneven sizes inside; alive in every part."""
    torch.manual_seed(11)
    sizes = Sizes((16, 12, 9), (10, 12, 6), (13, 6), (14, 8), (33, 12, 10), (12, 8))
    n, m = 7, 36
    model = cls(n, m, **{"slices": 3, "sizes": sizes, **how}).eval()
    x = photo()[None, :, 128:256, 256:448]
    z_spread = torch.linspace(0.3, 2, n)
    enliven(model, x, torch.linspace(0.2, 4, m), z_spread)
    logistic(model.entropy_bottleneck, z_spread)
    return convert(model, [x[0]])


@pytest.fixture(scope="module")
def models() -> dict[str, IntegerMLIC]:
    return {name: random_model(*how) for name, how in MODELS.items()}


def random_latents(model: IntegerMLIC, height: int, width: int, spread: float = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    rows, columns = hyper_size(height, width)
    z = torch.randn(model.hyper_channels, rows, columns, generator=generator) * spread / 3
    return z, torch.randn(model.latent_channels, height, width, generator=generator) * spread


def same(a: drivers.MlicLatents, b: drivers.MlicLatents) -> bool:
    return torch.equal(a.z, b.z) and torch.equal(a.y, b.y) and torch.equal(a.symbols, b.symbols)


@pytest.mark.parametrize("name", MODELS)
def test_bytes_latents_and_previews_equal_the_reference_on_every_instruction_set(models, name):
    model, before = models[name], _native.get_isa()
    for height, width in SIZES:
        size = (height, width)
        pair = random_latents(model, *size)
        for zones in (None, [zones_for(2.0)]):
            ((sections, latents),) = drivers.encode_many(model, [pair], "reference", zones=zones)
            fewer = model.slices - 1
            preview = drivers.decode_many(model, [(sections, *size)], "reference", slices=fewer)[0]
            assert not same(preview, latents)
            try:
                for level in SUPPORTED:
                    _native.set_isa(level)
                    ((got, seen),) = drivers.encode_many(model, [pair], "cpp", zones=zones)
                    assert got == sections and same(seen, latents), (level, size)
                    assert same(drivers.decode_many(model, [(sections, *size)], "cpp")[0], latents), (level, size)
                    assert same(drivers.decode_many(model, [(sections, *size)], "cpp", slices=fewer)[0], preview)
            finally:
                _native.set_isa(before)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_reference_decodes_what_the_engine_wrote(models, name):
    model = models[name]
    ((sections, latents),) = drivers.encode_many(model, [random_latents(model, 6, 10)], "cpp")
    assert same(drivers.decode_many(model, [(sections, 6, 10)], "reference")[0], latents)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("name", FAMILIES)
def test_threads_and_batches_change_nothing(models, name, threads, batch, isa):
    model = models[name]
    sizes = [(9, 14), (20, 22), (12, 8)][:batch] if batch > 1 else [(20, 22)]
    pairs = [random_latents(model, *size) for size in sizes]
    single = [drivers.encode_many(model, [pair], "cpp")[0] for pair in pairs]
    coded = drivers.encode_many(model, pairs, "cpp", threads)
    assert [sections for sections, _ in coded] == [sections for sections, _ in single]
    streams = [(sections, *size) for (sections, _), size in zip(coded, sizes, strict=True)]
    decoded = drivers.decode_many(model, streams, "cpp", threads)
    assert all(same(got, want) for got, (_, want) in zip(decoded, single, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("spread", [0.0, 60.0, LATENT_LIMIT / 64])
def test_latents_far_outside_what_was_calibrated_give_the_same_bits(models, name, spread):
    model = models[name]
    z, y = random_latents(model, 5, 6, spread or 1)
    limit = LATENT_LIMIT / 64
    z, y = (t.clamp(-limit, limit) if spread else torch.zeros_like(t) for t in (z, y))
    ((sections, latents),) = drivers.encode_many(model, [(z, y)], "reference")
    ((got, seen),) = drivers.encode_many(model, [(z, y)], "cpp")
    assert got == sections and same(seen, latents)
    assert same(drivers.decode_many(model, [(sections, 5, 6)], "cpp")[0], latents)


def test_local_context_alone_equals_the_reference(models, isa):
    model = models["mlic++"]
    latent = anchors(torch.randint(-3000, 3000, (model.slice_channels, 11, 13)))
    want = model.local(1, latent, latent)
    for threads in (1, 3):
        got = model.engine.local_context(1, latent.numpy(), threads)[: len(want)]
        others = torch.arange(11)[:, None] % 2 == torch.arange(13) % 2
        assert torch.equal(torch.from_numpy(got.astype(np.int64))[:, others], want[:, others])
    with pytest.raises(ValueError, match="no such slice with local attention"):
        model.engine.local_context(3, latent.numpy())


@pytest.mark.parametrize("name", ["mlic+", "mlic++"])
def test_attention_over_earlier_slices_alone_equals_the_reference(models, name, isa):
    model = models[name]
    decoded = torch.randint(-1500, 1500, (2 * model.slice_channels, 9, 12))
    want = model.inter(2, decoded)
    for threads in (1, 3):
        got = model.engine.inter_context(2, decoded.numpy(), threads)[: len(want)]
        assert torch.equal(torch.from_numpy(got.astype(np.int64)), want)
    for index in (0, 3):
        with pytest.raises(ValueError, match="no such slice"):
            model.engine.inter_context(index, decoded.numpy())
    with pytest.raises(ValueError, match="12 bits"):
        model.engine.inter_context(2, decoded.numpy() * 2)


def test_sections_that_are_too_long_short_or_empty_are_refused(models):
    model = models["mlic+"]
    ((sections, _),) = drivers.encode_many(model, [random_latents(model, 9, 14)], "cpp")
    z, y = sections
    for damaged in ([z, y + b"\0\0\0\0"], [z + b"\0\0\0\0", y], [z, y[:-4]], [z, b""], [b"", y]):
        with pytest.raises(CorruptStreamError):
            drivers.decode_many(model, [(damaged, 9, 14)], "cpp")
    with pytest.raises(CorruptStreamError, match="too few for"):
        drivers.decode_many(model, [(sections, 1 << 16, 1 << 16)], "cpp")
    with pytest.raises(ValueError, match="2 to 2\\^24 wide"):
        drivers.decode_many(model, [(sections, 9, 1)], "cpp")


def test_latents_of_the_wrong_shape_or_size_are_refused(models):
    model = models["mlic"]
    z, y = (t.numpy().astype(np.int32) for t in random_latents(model, 6, 8))
    for wrong in ((z[:, :1], y), (z, y[:, :3]), (z[:5], y), (z, y[:24])):
        with pytest.raises(ValueError, match=r"expected|differ|size"):
            model.engine.encode_many([wrong[0]], [wrong[1]])
    with pytest.raises(ValueError, match="must lie within"):
        model.engine.encode_many([z], [y + (1 << 30)])
    with pytest.raises(TypeError, match="must be integers"):
        model.engine.encode_many([z], [y.astype(np.float32)])
    with pytest.raises(ValueError, match="threads must be at least 1"):
        model.engine.encode_many([z], [y], threads=0)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", FAMILIES)
def test_hostile_integers_are_refused_or_harmless(models, name):
    """Arrays of a model file with a few numbers, a type or a shape changed: an error, or some decoder that survives."""
    model = models[name]
    arrays, random = model.to_arrays(), np.random.default_rng(2)
    names = sorted(arrays)
    ((sections, _),) = drivers.encode_many(model, [random_latents(model, 4, 6)], "cpp")
    refused = 0
    for _ in range(150):
        damaged = dict(arrays)
        for key in random.choice(names, 2, replace=False):
            array = damaged[key].copy()
            what = random.integers(4)
            if what == 0:
                array = array.ravel()[: random.integers(array.size + 1)]
            elif what == 1:
                array = array.astype(random.choice([np.int8, np.uint8, np.int32]))
            elif what == 2:
                del damaged[key]
                continue
            elif array.size:
                info = np.iinfo(array.dtype)
                array.ravel()[random.integers(array.size)] = random.integers(info.min, int(info.max) + 1)
            damaged[key] = array
        try:
            engine = MlicEngine(damaged, model.z_tables, model.y_tables, model.slices)
            engine.decode_many([sections[0]], [sections[1]], [(4, 6)])
        except (ValueError, TypeError, KeyError, CorruptStreamError):
            refused += 1
    assert refused > 50


def test_damaged_arrays_are_named(models):
    model = models["mlic++, early"]
    arrays = model.to_arrays()
    early = "layers.early", "layers.parameters.e.0"
    for key, change, fault in (
        ("layers.local.1.qkv.weight", None, "local.1.qkv"),
        ("local.1.bias", arrays["local.1.bias"][:1], r"local\.1\.bias.*\[2, 81\]"),
        ("tables.tanh", arrays["tables.tanh"][:7], "tables.tanh"),
        ("shape", np.array([3, 2], np.int32), "family and number of slices"),
        ("y.thresholds", arrays["y.thresholds"][::-1], "must be in ascending order"),
        (f"{early[0]}.0.geometry", None, r"parameters\.e\.0' reads an early context, which is missing"),
        (f"{early[0]}.1.weight", None, r"early\.1\.weight' is missing"),
        (f"{early[0]}.2.geometry", None, "early' must have as many outputs as channel contexts"),
        (f"{early[0]}.0.geometry", np.array([3, 1], np.int32), "slice 0' must keep its size"),
        (f"{early[0]}.0.bias", np.full_like(arrays[f"{early[0]}.0.bias"], 2**31 - 1), r"early\.0' can overflow"),
        (f"{early[1]}.0.geometry", None, r"parameters\.e\.0\.0' is missing"),
        (f"{early[1]}.0.weight", arrays[f"{early[1]}.0.weight"][:, :-1], r"parameters\.e\.0\.0' must read 81 channels"),
        (f"{early[1]}.3.geometry", None, r"parameters\.e\.0' must end with 2 x slice"),
    ):
        damaged = {k: v for k, v in arrays.items() if k != key}
        if change is not None:
            damaged[key] = change
        with pytest.raises(ValueError, match=fault):
            MlicEngine(damaged, model.z_tables, model.y_tables, model.slices)
