"""The fused engine is the plain reference bit for bit: bytes, latents, errors, on any instruction set and threads."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn as nn

from fastlic import Codec, _native
from fastlic.codec import drivers
from fastlic.entropy.convert import convert
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.schedule import hyper_size
from fastlic.entropy.zones import zones_for
from fastlic.errors import CorruptStreamError
from fastlic.integers.fixed import LATENT_LIMIT
from fastlic.models import JAHP, MeanScaleHyperprior
from fastlic.ops.engine import EntropyEngine

SUPPORTED = _native.supported_isas()
SIZES = [(1, 1), (1, 6), (7, 1), (2, 3), (5, 9), (8, 16), (19, 5), (21, 50)]
MODELS = {
    "context": (JAHP, 16, 24),
    "context, odd channels": (JAHP, 7, 33),
    "context, 64-lane channels": (JAHP, 16, 64),
    "no context": (MeanScaleHyperprior, 16, 24),
    "no context, odd channels": (MeanScaleHyperprior, 5, 19),
    "context, sub-pixel": (JAHP, 7, 33),
    "no context, sub-pixel": (MeanScaleHyperprior, 6, 20),
}


@pytest.fixture(params=SUPPORTED)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _native.get_isa()
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa(before)


def random_model(cls: type[MeanScaleHyperprior], n: int, m: int) -> IntegerEntropyModel:
    """A converted random network whose scales cover the table and whose means matter."""
    return convert(random_floats(cls, n, m), [torch.rand(3, 96, 128)])


def random_floats(cls: type[MeanScaleHyperprior], n: int, m: int) -> MeanScaleHyperprior:
    torch.manual_seed(n * m)
    model = cls(n, m, (8, 8, 8)).eval()
    last = model.entropy_parameters[-1] if isinstance(model, JAHP) else model.h_s[-1]
    last.weight.data *= 30
    last.bias.data = torch.cat([torch.logspace(-1, 1.5, m), torch.linspace(-3, 3, m)])
    return model


def sub_pixel_model(cls: type[MeanScaleHyperprior], n: int, m: int) -> IntegerEntropyModel:
    """The same with the hyper synthesis of cheng2020: convolutions whose outputs are shuffled into 2x2 cells."""
    model = random_floats(cls, n, m)
    up, act = nn.PixelShuffle(2), nn.LeakyReLU()
    wide, last = nn.Conv2d(m, 4 * (m + 3), 3, padding=1), nn.Conv2d(m + 3, 2 * m, 3, padding=1)
    if cls is MeanScaleHyperprior:
        last.weight.data *= 30
        last.bias.data = model.h_s[-1].bias.data
    first, second = nn.Sequential(nn.Conv2d(n, 4 * n, 3, padding=1), up), nn.Conv2d(n, m, 1)
    model.h_s = nn.Sequential(nn.Conv2d(n, n, 3, padding=1), act, first, act, second, nn.ReLU(), wide, up, act, last)
    return convert(model, [torch.rand(3, 96, 128)])


@pytest.fixture(scope="module")
def models() -> dict[str, IntegerEntropyModel]:
    made = {name: (sub_pixel_model if "sub-pixel" in name else random_model)(*MODELS[name]) for name in MODELS}
    assert {layer.kind.shuffle for layer in made["context, sub-pixel"].hyper} == {1, 2}
    return made


def random_latents(model: IntegerEntropyModel, height: int, width: int, spread: float = 6) -> tuple:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    rows, columns = hyper_size(height, width)
    z = torch.randn(model.hyper_channels, rows, columns, generator=generator) * spread / 3
    y = torch.randn(model.latent_channels, height, width, generator=generator) * spread
    return z, y


def same(a, b) -> bool:
    return torch.equal(a.z, b.z) and torch.equal(a.y, b.y)


@pytest.mark.parametrize("name", MODELS)
def test_bytes_and_latents_equal_the_reference_at_every_size_on_every_instruction_set(models, name):
    model = models[name]
    before = _native.get_isa()
    for height, width in SIZES:
        z, y = random_latents(model, height, width)
        for zones in (None, zones_for(2.0)):
            sections, latents = drivers.encode(model, z, y, backend="reference", zones=zones)
            try:
                for level in SUPPORTED:
                    _native.set_isa(level)
                    engine_sections, engine_latents = drivers.encode(model, z, y, backend="cpp", zones=zones)
                    assert engine_sections == sections and same(engine_latents, latents), (level, height, width)
                    assert same(drivers.decode(model, sections, height, width, backend="cpp"), latents)
            finally:
                _native.set_isa(before)


def test_zones_are_one_number_from_0_to_a_million_for_each_row_of_the_table(models):
    model = models["context"]
    z, y = random_latents(model, 4, 6)
    assert drivers.encode(model, z, y, zones=zones_for(2.0))[0] != drivers.encode(model, z, y)[0]
    for wrong, why in ((np.zeros(63, np.int32), "rows"), (np.full(64, -1, np.int32), "from 0 to"),
                       (np.full(64, 1 << 21, np.int32), "from 0 to")):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            drivers.encode(model, z, y, zones=wrong)
    with pytest.raises(ValueError, match="lists zones and y"):
        drivers.encode_many(model, [(z, y)] * 2, zones=[zones_for(2.0)])


@pytest.mark.parametrize("name", ["context", "no context, odd channels"])
def test_reference_decodes_what_the_engine_wrote(models, name):
    z, y = random_latents(models[name], 9, 14)
    sections, latents = drivers.encode(models[name], z, y, backend="cpp")
    assert same(drivers.decode(models[name], sections, 9, 14, backend="reference"), latents)


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("name", ["context", "no context"])
def test_threads_and_batches_change_nothing(models, name, threads, batch, isa):
    model = models[name]
    sizes = [SIZES[i % len(SIZES)] for i in range(3, 3 + batch)]
    latents = [random_latents(model, *size) for size in sizes]
    alone = [drivers.encode(model, z, y) for z, y in latents]
    together = drivers.encode_many(model, latents, threads=threads)
    assert all(a[0] == b[0] and same(a[1], b[1]) for a, b in zip(alone, together, strict=True))
    streams = [(sections, *size) for (sections, _), size in zip(together, sizes, strict=True)]
    decoded = drivers.decode_many(model, streams, threads=threads)
    assert all(same(a, latents) for a, (_, latents) in zip(decoded, together, strict=True))


@pytest.mark.parametrize("name", ["context", "no context"])
def test_latents_at_the_limits_of_the_fixed_point_format_survive(models, name, isa):
    z, y = random_latents(models[name], 6, 7, spread=1e4)
    z[0], z[1], y[0], y[1] = 1e30, -1e30, 1e30, -1e30
    sections, latents = drivers.encode(models[name], z, y, backend="reference")
    engine_sections, engine_latents = drivers.encode(models[name], z, y, backend="cpp")
    assert engine_sections == sections and same(engine_latents, latents)
    assert latents.y.max() <= LATENT_LIMIT
    assert same(drivers.decode(models[name], sections, 6, 7, backend="cpp"), latents)


def extreme(model: IntegerEntropyModel, seed: int) -> IntegerEntropyModel:
    """The model with random requantisers: any multiplier, any shift, so that clipping and rounding are exercised."""
    rng = np.random.default_rng(seed)
    arrays = model.to_arrays()
    edges = np.array([-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 1], np.int64)
    for name, array in arrays.items():
        wide = rng.integers(-(2**31), 2**31, array.shape)
        if name.endswith((".multiplier", ".negative")):
            arrays[name] = np.where(rng.random(array.shape) < 0.2, rng.choice(edges, array.shape), wide).astype(
                np.int32
            )
        elif name.endswith(".shift"):
            arrays[name] = rng.choice(np.array([1, 2, 24, 31, 32, 33, 40, 45, 61, 62], np.uint8), array.shape)
    return IntegerEntropyModel.from_arrays(arrays)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["context", "no context"])
def test_any_valid_requantiser_gives_the_reference_integers(models, name, seed, isa):
    model = extreme(models[name], seed)
    z, y = random_latents(model, 5, 8)
    sections, latents = drivers.encode(model, z, y, backend="reference")
    engine_sections, engine_latents = drivers.encode(model, z, y, backend="cpp")
    assert engine_sections == sections and same(engine_latents, latents)
    assert same(drivers.decode(model, sections, 5, 8, backend="cpp"), latents)


def widened(model: IntegerEntropyModel, bits: int) -> IntegerEntropyModel:
    """The model with wider hyper activations and outputs to match; past 14 bits no layer fits Winograd's transforms."""
    arrays = model.to_arrays()
    for name in ("z.input", *(f"hyper.{i}.requantise" for i in range(len(model.hyper) - 1))):
        arrays[f"{name}.bits"] = np.array([bits], np.uint8)
        shift = arrays[f"{name}.shift"].astype(int) - (bits - 12)
        arrays[f"{name}.shift"] = shift.clip(1, 62).astype(np.uint8)
    for i in range(len(model.hyper)):
        arrays[f"hyper.{i}.geometry"] = np.array([*arrays[f"hyper.{i}.geometry"][:2], bits], np.uint8)
    return IntegerEntropyModel.from_arrays(arrays)


@pytest.mark.parametrize("bits", [8, 13, 14, 15, 16])
@pytest.mark.parametrize("name", ["context", "no context, odd channels"])
def test_any_width_of_activations_gives_the_reference_integers(models, name, bits, isa):
    model = widened(models[name], bits)
    z, y = random_latents(model, 7, 10)
    sections, latents = drivers.encode(model, z, y, backend="reference")
    engine_sections, engine_latents = drivers.encode(model, z, y, backend="cpp")
    assert engine_sections == sections and same(engine_latents, latents)
    assert same(drivers.decode(model, sections, 7, 10, backend="cpp"), latents)


def outcome(model, sections, height, width, backend):
    try:
        decoded = drivers.decode(model, sections, height, width, backend=backend)
    except CorruptStreamError:
        return None
    return decoded.z.numpy().tobytes() + decoded.y.numpy().tobytes()


@pytest.mark.fuzz
@pytest.mark.parametrize("name", ["context", "no context"])
def test_damaged_sections_give_the_reference_result_or_its_error(models, name, isa):
    model = models[name]
    z, y = random_latents(model, 4, 6)
    sections, _ = drivers.encode(model, z, y)
    rng = np.random.default_rng(7)
    for _ in range(12):
        damaged = [bytearray(s) for s in sections]
        part = damaged[int(rng.integers(2))]
        part[int(rng.integers(len(part)))] ^= 1 << int(rng.integers(8))
        streams = [bytes(d) for d in damaged]
        assert outcome(model, streams, 4, 6, "cpp") == outcome(model, streams, 4, 6, "reference")


@pytest.mark.fuzz
@pytest.mark.parametrize("name", ["context", "no context"])
@pytest.mark.parametrize("section", [0, 1])
def test_truncated_extended_and_random_sections_give_the_reference_result_or_its_error(models, name, section):
    model = models[name]
    z, y = random_latents(model, 4, 6)
    sections, _ = drivers.encode(model, z, y)
    whole = sections[section]
    rng = np.random.default_rng(3)
    bad = [whole[:cut] for cut in range(0, len(whole), 17)] + [whole + b"\0", whole + whole]
    bad += [rng.integers(0, 256, int(rng.integers(1, 2000)), np.uint8).tobytes() for _ in range(30)]
    reported = 0
    for data in bad:
        streams = list(sections)
        streams[section] = data
        result = outcome(model, streams, 4, 6, "cpp")
        assert result == outcome(model, streams, 4, 6, "reference")
        reported += result is None
    assert reported > 0.8 * len(bad)  # the container's checksum reports the rest


def test_a_short_stream_cannot_claim_a_huge_image(models):
    model = models["context"]
    sections, _ = drivers.encode(model, *random_latents(model, 2, 2))
    with pytest.raises(CorruptStreamError, match="too few"):
        drivers.decode(model, sections, 1 << 20, 1 << 20, backend="cpp")


def change(name: str, index: int, value: int):
    def apply(arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name].ravel()[index] = value

    return apply


DAMAGE = {
    "a missing array": (lambda a: a.pop("context.bias"), "context.bias.*missing"),
    "another type": (lambda a: a.update({"hyper.0.weight": a["hyper.0.weight"].astype(np.int32)}), "hyper.0.weight"),
    "another shape": (lambda a: a.update({"hyper.1.weight": a["hyper.1.weight"][:, :, :3]}), "hyper.1.weight"),
    "fewer channels": (lambda a: a.update({"context.weight": a["context.weight"][:, 1:].copy()}), "context"),
    "shift 0": (change("parameters.1.requantise.shift", 2, 0), "parameters.1.requantise.shift"),
    "shift 63": (change("y.input.shift", 0, 63), "y.input.shift"),
    "wide activations": (change("z.input.bits", 0, 14), "hyper.0.*bit"),
    "30-bit means": (change("parameters.2.requantise.bits", 0, 30), "parameters.2.requantise.bits"),
    "stride 3": (change("hyper.0.geometry", 0, 3), "hyper.0.geometry"),
    "no upsampling": (change("hyper.0.geometry", 0, 1), "4 times"),
    "an overflowing bias": (change("parameters.0.bias", 3, 2**31 - 1), "parameters.0.*overflow"),
    "a bias of -2^31": (change("hyper.2.bias", 0, -(2**31)), "hyper.2.*overflow"),
    "disordered thresholds": (change("y.thresholds", 5, 0), "y.thresholds.*order"),
}


@pytest.mark.parametrize("fault", DAMAGE)
def test_a_damaged_model_is_refused_by_name(models, fault):
    arrays = dict(models["context"].to_arrays())
    damage, message = DAMAGE[fault]
    damage(arrays)
    with pytest.raises((ValueError, TypeError), match=message):
        EntropyEngine(arrays)


def test_arguments_are_checked_in_words(models):
    engine = models["context"].engine
    z, y = np.zeros((16, 1, 2), np.int32), np.zeros((24, 4, 5), np.int32)
    with pytest.raises(ValueError, match=r"z must be \[16, 1, 2\]"):
        engine.encode(z[:, :, :1], y)
    with pytest.raises(ValueError, match="y must be"):
        engine.encode(z, y[1:])
    with pytest.raises(TypeError, match="integers"):
        engine.encode(z, y.astype(np.float32))
    with pytest.raises(ValueError, match="within"):
        engine.encode(z, np.full_like(y, LATENT_LIMIT + 1))
    with pytest.raises(ValueError, match="threads"):
        engine.encode(z, y, threads=0)
    with pytest.raises(ValueError, match="height must be at least 1"):
        engine.decode(b"", b"", 0, 3)


def test_backends_are_named_or_refused(models):
    z, y = random_latents(models["context"], 2, 2)
    with pytest.raises(ValueError, match="backend must be"):
        drivers.encode(models["context"], z, y, backend="cuda")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="wavefront order only"):
        drivers.encode(models["context"], z, y, order="raster", backend="cpp")


def test_a_model_with_its_engine_can_be_pickled(models):
    model = models["context"]
    z, y = random_latents(model, 3, 5)
    sections, _ = drivers.encode(model, z, y, backend="cpp")
    assert drivers.encode(pickle.loads(pickle.dumps(model)), z, y, backend="cpp")[0] == sections


def test_codec_streams_do_not_depend_on_the_backend(codec: Codec, photo):
    batch = torch.stack([photo, photo.flip(1), photo.flip(2)])
    streams = codec.compress(batch, 3.0)
    assert streams == codec.compress(batch, 3.0, backend="reference")
    fast, plain = (codec.decompress(streams, backend=backend) for backend in ("cpp", "reference"))
    assert all(torch.equal(a, b) for a, b in zip(fast, plain, strict=True))
