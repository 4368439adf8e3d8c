"""Every engine is the plain reference bit for bit: bytes, latents, errors, on any instruction set and threads."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fastlic import Codec, _native
from fastlic.codec import drivers
from fastlic.entropy.channel_slices.model import IntegerChannelSlices
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.passes import LatentModel, hyper_size
from fastlic.entropy.zones import zones_for
from fastlic.errors import BackendUnavailable, CorruptStreamError
from fastlic.integers.fixed import LATENT_LIMIT
from fastlic.models.mlic.checkerboard import anchors
from fastlic.ops import latents
from fastlic.ops.latents import LatentEngine, Target

from .latent_models import MODELS, SOME, decode, encode, extreme_requantisers, model_of, random_latents, same

SUPPORTED = _native.supported_isas()
ANY_WIDTH = [(1, 1), (1, 6), (7, 1), (2, 3), (5, 9), (8, 16), (19, 5), (21, 50)]
BOARD_SIZES = [(1, 2), (5, 2), (2, 6), (9, 14), (12, 8), (12, 52)]


@pytest.fixture(params=SUPPORTED)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _native.get_isa()
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa(before)


def sizes_of(model: LatentModel) -> list[tuple[int, int]]:
    """Boards of slices are small here: their reference is slow."""
    return ANY_WIDTH if model.kind == "wavefront" else BOARD_SIZES if model.kind == "groups" else BOARD_SIZES[:5]


@pytest.mark.parametrize("name", MODELS)
def test_bytes_latents_and_previews_equal_the_reference_on_every_instruction_set(name):
    model, before = model_of(name), _native.get_isa()
    for size in sizes_of(model):
        pair = random_latents(model, *size)
        for zones in (None, zones_for(2.0)):
            sections, latents = encode(model, *pair, "reference", zones)
            assert len(sections) == model.sections and latents.y.unique().numel() > 3
            fewer = {"slices": getattr(model, "slices", 0) - 1, "groups": len(getattr(model, "groups", ())) - 1}.get(
                model.kind
            )
            preview = decode(model, sections, *size, "reference", fewer)
            assert same(preview, latents) == (fewer is None)
            try:
                for level in SUPPORTED:
                    _native.set_isa(level)
                    got, seen = encode(model, *pair, "cpp", zones)
                    assert got == sections and same(seen, latents), (level, size)
                    assert same(decode(model, sections, *size, "cpp"), latents), (level, size)
                    assert same(decode(model, sections, *size, "cpp", fewer), preview), (level, size)
            finally:
                _native.set_isa(before)


@pytest.mark.parametrize("name", SOME)
def test_the_reference_decodes_what_the_engine_wrote(name):
    model = model_of(name)
    sections, latents = encode(model, *random_latents(model, 6, 10), "cpp")
    assert same(decode(model, sections, 6, 10, "reference"), latents)


@pytest.mark.parametrize("size", [(410, 111), (60, 740)])
def test_a_map_too_large_to_keep_its_share_of_the_hyperprior_equals_the_reference(size):
    model = model_of("context")
    columns = -(-model.parameters[0].bias.size // 32) * 32
    assert size[0] * size[1] * columns * 4 > 16 << 20  # csrc/fastlic/latents/wavefront.cpp, share_window
    sections, latents = encode(model, *random_latents(model, *size), "reference")
    for threads in (1, 3):
        found = drivers.decode_many(model, [(sections, *size)], threads=threads)[0]
        assert same(found, latents)


@pytest.mark.parametrize("name", ["groups", "mlic++, early"])
def test_a_map_of_many_bands_equals_the_reference(name):
    model, size = model_of(name), (1500, 6)  # bands have a megabyte, and the smallest network takes a kilobyte a row
    pair = random_latents(model, *size)
    sections, latents = encode(model, *pair, "reference")
    for threads in (1, 2):
        got, seen = drivers.encode_many(model, [Target(*pair)], "cpp", threads)[0]
        assert got == sections and same(seen, latents)
        assert same(drivers.decode_many(model, [(sections, *size)], "cpp", threads)[0], latents)


@pytest.mark.parametrize("backend", ["reference", "cpp"])
@pytest.mark.parametrize("name", SOME)
def test_who_asks_for_less_gets_the_same_of_it(name, backend):
    model = model_of(name)
    targets = [Target(*random_latents(model, 9, 10)), Target(*random_latents(model, 5, 6, 1e4))]
    coded = drivers.encode_many(model, targets, backend)
    assert drivers.sections_many(model, targets, backend) == [sections for sections, _ in coded]
    for size, (sections, seen) in zip([(9, 10), (5, 6)], coded, strict=True):
        got = drivers.decode_many(model, [(sections, *size)], backend, symbols=False)[0]
        assert torch.equal(got.y, seen.y) and torch.equal(got.z, seen.z)
        assert backend == "reference" or got.symbols is None


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("name", SOME)
def test_threads_and_batches_change_nothing(name, threads, batch, isa):
    model = model_of(name)
    sizes = [(20, 22), (9, 14), (12, 8), (5, 2)][:batch]
    targets = [Target(*random_latents(model, *size)) for size in sizes]
    alone = [drivers.encode_many(model, [target])[0] for target in targets]
    together = drivers.encode_many(model, targets, threads=threads)
    assert all(a[0] == b[0] and same(a[1], b[1]) for a, b in zip(alone, together, strict=True))
    streams = [(sections, *size) for (sections, _), size in zip(together, sizes, strict=True)]
    decoded = drivers.decode_many(model, streams, threads=threads)
    assert all(same(got, latents) for got, (_, latents) in zip(decoded, together, strict=True))


@pytest.mark.parametrize("spread", [0.0, 60.0, 1e30])
@pytest.mark.parametrize("name", SOME)
def test_latents_far_outside_what_was_calibrated_give_the_same_bits(name, spread, isa):
    model = model_of(name)
    z, y = (t * bool(spread) for t in random_latents(model, 5, 6, min(spread, 1e4) or 1))
    if spread > 1e4:
        z[0], z[1], y[0], y[1] = spread, -spread, spread, -spread
    sections, latents = encode(model, z, y, "reference")
    got, seen = encode(model, z, y, "cpp")
    assert got == sections and same(seen, latents)
    assert latents.y.max() <= LATENT_LIMIT + 64  # residual prediction adds less than a symbol
    assert same(decode(model, sections, 5, 6, "cpp"), latents)


def test_zones_are_one_number_from_0_to_a_million_for_each_row_of_the_table():
    model = model_of("context")
    pair = random_latents(model, 4, 6)
    rounded, zoned = encode(model, *pair)[0], encode(model, *pair, zones=zones_for(2.0))[0]
    assert rounded != zoned
    mixed = drivers.encode_many(model, [Target(*pair), Target(*pair, zones_for(2.0))])
    assert [sections for sections, _ in mixed] == [rounded, zoned]
    for wrong, why in ((np.zeros(63, np.int32), "rows"), (np.full(64, -1, np.int32), "from 0 to"),
                       (np.full(64, 1 << 21, np.int32), "from 0 to")):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            encode(model, *pair, zones=wrong)


# ---- parts of one kind


def extreme(model: IntegerEntropyModel, seed: int) -> IntegerEntropyModel:
    """The model with random requantisers."""
    return IntegerEntropyModel.from_arrays(extreme_requantisers(model.to_arrays(), np.random.default_rng(seed)))


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


CHANGES = {f"requantisers {seed}": (extreme, seed) for seed in range(4)}
CHANGES |= {f"{bits} bits": (widened, bits) for bits in (8, 13, 14, 15, 16)}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["context", "no context, odd channels"])
def test_any_valid_requantiser_and_any_width_give_the_reference_integers(name, change, isa):
    make, how = CHANGES[change]
    model = make(model_of(name), how)
    pair = random_latents(model, 7, 10)
    sections, latents = encode(model, *pair, "reference")
    got, seen = encode(model, *pair, "cpp")
    assert got == sections and same(seen, latents)
    assert same(decode(model, sections, 7, 10, "cpp"), latents)


def test_hyper_analysis_equals_the_reference(isa):
    model = model_of("checkerboard")
    for size in (*BOARD_SIZES, (3, 7)):
        y = random_latents(model, *size)[1]
        ((z, same_y, _),) = drivers.analyse_many(model, [y], "reference")
        assert same_y is y and z.shape == (model.hyper_channels, *hyper_size(*size)) and z.unique().numel() > 3
        for threads in (1, 3):
            assert torch.equal(drivers.analyse_many(model, [y], "cpp", threads)[0].z, z), size
    for name in ("groups", "context"):
        with pytest.raises(ValueError, match="hyper analysis"):
            drivers.analyse_many(model_of(name), [y])
        with pytest.raises(ValueError, match="no analysis"):
            model_of(name).engine.analyse_many([np.zeros((model_of(name).latent_channels, 4, 4), np.int32)])


def test_local_context_alone_equals_the_reference(isa):
    model = model_of("mlic++")
    latent = anchors(torch.randint(-3000, 3000, (model.slice_channels, 11, 13)))
    want = model.local(1, latent, latent)
    for threads in (1, 3):
        got = model.engine.local_context(1, latent.numpy(), threads)[: len(want)]
        others = torch.arange(11)[:, None] % 2 == torch.arange(13) % 2
        assert torch.equal(torch.from_numpy(got.astype(np.int64))[:, others], want[:, others])
    for engine, index in ((model.engine, 3), (model_of("mlic").engine, 1), (model_of("context").engine, 0)):
        with pytest.raises(ValueError, match="no such group with local attention"):
            engine.local_context(index, latent.numpy())


@pytest.mark.parametrize("name", ["mlic+", "mlic++"])
def test_attention_over_earlier_slices_alone_equals_the_reference(name, isa):
    model = model_of(name)
    decoded = torch.randint(-1500, 1500, (2 * model.slice_channels, 9, 12))
    want = model.inter(2, decoded)
    for threads in (1, 3):
        got = model.engine.inter_context(2, decoded.numpy(), threads)[: len(want)]
        assert torch.equal(torch.from_numpy(got.astype(np.int64)), want)
    for index in (0, 3):
        with pytest.raises(ValueError, match="no such group"):
            model.engine.inter_context(index, decoded.numpy())
    with pytest.raises(ValueError, match="12 bits"):
        model.engine.inter_context(2, decoded.numpy() * 2)


# ---- damage


def outcome(model, sections, height, width, backend):
    try:
        decoded = decode(model, sections, height, width, backend)
    except CorruptStreamError:
        return None
    return b"".join(t.numpy().tobytes() for t in decoded.named().values())


def test_a_fusing_layer_may_have_more_outputs_than_what_follows_it():
    model, more = model_of("mlic+"), 200
    arrays, name = dict(model.to_arrays()), "layers.local.1."
    for key, array in arrays.items():
        if key.startswith(f"{name}fusion.") and not key.endswith((".geometry", ".bits")):
            arrays[key] = np.concatenate([array, np.resize(array, (more, *array.shape[1:]))])
    proj = arrays[f"{name}proj.weight"]
    arrays[f"{name}proj.weight"] = np.concatenate([proj, np.resize(proj, (len(proj), more, 1, 1))], 1)
    wide = type(model).from_arrays(arrays)
    pair = random_latents(wide, 6, 10)
    sections, latents = encode(wide, *pair, "reference")
    got, seen = encode(wide, *pair, "cpp")
    assert got == sections and same(seen, latents)


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_a_preview_reads_whole_sections_and_nothing_behind_them(backend):
    model = model_of("groups")
    sections, _ = encode(model, *random_latents(model, 6, 10), "cpp")
    read = 1 + model.groups[0].passes
    preview = decode(model, sections, 6, 10, backend, 1)
    assert same(
        decode(model, [*sections[:read], *(b"\xff" * 40 + s for s in sections[read:])], 6, 10, backend, 1), preview
    )
    for change in (lambda s: s + b"\0\0\0\0", lambda s: s[:-4]):
        with pytest.raises(CorruptStreamError):
            decode(model, [*sections[: read - 1], change(sections[read - 1]), *sections[read:]], 6, 10, backend, 1)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", SOME)
def test_damaged_sections_give_the_reference_result_or_its_error(name):
    """Flipped, cut, extended and random: hardly any of it decodes; the container's checksum reports the rest."""
    model = model_of(name)
    sections, _ = encode(model, *random_latents(model, 4, 6))
    rng, refused = np.random.default_rng(7), 0
    turns = 12 * len(sections)
    for turn in range(turns):
        damaged = [bytearray(section) for section in sections]
        own = damaged[turn % len(damaged)]
        match turn // len(damaged) % 4:
            case 0:
                own[int(rng.integers(len(own)))] ^= 1 << int(rng.integers(8))
            case 1:
                del own[int(rng.integers(len(own))) :]
            case 2:
                own += rng.bytes(1 + turn % 3)
            case _:
                own[:] = rng.bytes(int(rng.integers(1, 2000)))
        streams = [bytes(section) for section in damaged]
        result = outcome(model, streams, 4, 6, "cpp")
        assert result == outcome(model, streams, 4, 6, "reference")
        refused += result is None
    assert refused > 0.7 * turns


@pytest.mark.fuzz
@pytest.mark.parametrize("name", SOME)
def test_sections_that_are_altered_anywhere_never_crash_the_engine(name):
    model = model_of(name)
    sections, latents = encode(model, *random_latents(model, 6, 10), "cpp")
    rng, refused = np.random.default_rng(0), 0
    for turn in range(300):
        damaged = [bytearray(section) for section in sections]
        own = damaged[turn % len(damaged)]
        own[int(rng.integers(len(own)))] ^= 1 << int(rng.integers(8))
        try:
            assert decode(model, [bytes(s) for s in damaged], 6, 10, "cpp").y.shape == latents.y.shape
        except CorruptStreamError:
            refused += 1
    assert refused > 150


@pytest.mark.parametrize("backend", ["reference", "cpp"])
@pytest.mark.parametrize("name", SOME)
def test_sections_too_few_too_short_or_too_long_are_refused(name, backend):
    model = model_of(name)
    sections, _ = encode(model, *random_latents(model, 4, 6), "cpp")
    with pytest.raises(CorruptStreamError, match="too few for"):
        decode(model, sections, 40000, 40000, backend)
    for wrong in (sections[:-1], [*sections, b""], []):
        with pytest.raises(CorruptStreamError, match=f"have {model.sections} sections"):
            decode(model, wrong, 4, 6, backend)
    for number in range(len(sections)):
        for change in (lambda s: s + b"\0\0\0\0", lambda s: s[:-4], lambda s: b""):
            damaged = [change(s) if i == number else s for i, s in enumerate(sections)]
            with pytest.raises(CorruptStreamError):
                decode(model, damaged, 4, 6, backend)


def change(name: str, index: int, value: int):
    def apply(arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name].ravel()[index] = value

    return apply


def put(name: str, make):
    """``make`` of the array in its place; None: without it."""

    def apply(arrays: dict[str, np.ndarray]) -> None:
        old = arrays.pop(name)
        if make is not None:
            arrays[name] = make(old)

    return apply


EARLY = "layers.early", "layers.parameters.e.0"
DAMAGE = {
    "context": [
        (put("context.bias", None), "context.bias.*missing"),
        (put("hyper.0.weight", lambda a: a.astype(np.int32)), "hyper.0.weight"),
        (put("hyper.1.weight", lambda a: a[:, :, :3]), "hyper.1.weight"),
        (put("context.weight", lambda a: a[:, 1:].copy()), "context"),
        (change("parameters.1.requantise.shift", 2, 0), "parameters.1.requantise.shift"),
        (change("y.input.shift", 0, 63), "y.input.shift"),
        (change("z.input.bits", 0, 14), "hyper.0.*bit"),
        (change("parameters.2.requantise.bits", 0, 30), "parameters.2.requantise.bits"),
        (change("hyper.0.geometry", 0, 3), "hyper.0.geometry"),
        (change("hyper.0.geometry", 0, 1), "4 times"),
        (change("parameters.0.bias", 3, 2**31 - 1), "parameters.0.*overflow"),
        (change("hyper.2.bias", 0, -(2**31)), "hyper.2.*overflow"),
        (change("y.thresholds", 5, 0), "y.thresholds.*order"),
    ],
    "groups": [
        (put("layers.context.1.weight", None), "context.1"),
        (put("groups.parity", lambda a: np.array([0, 1, 3, 0], np.int32)), "groups.parity"),
        # Sums are proven for the inputs that a layer says it has; it must not say less than it gets.
        (put("layers.context.1.geometry", lambda a: np.array([1, 0, 2], np.uint8)), "accepts 2-bit activations"),
        (put("groups.channels", lambda a: np.array([5, 33, 6, 0], np.int32)), "groups.channels"),
        (put("groups.reads.3", lambda a: np.array([0, 3], np.int32)), r"groups\.reads\.3.*earlier"),
        (put("layers.parameters.2.1.weight", lambda a: a[:5]), "parameters.2.1"),
        (put("y.thresholds", lambda a: a[::-1]), "ascending"),
        (put("tables.tail", lambda a: a[:7]), "tables.tail"),
    ],
    "mlic++, early": [
        (put("layers.local.1.qkv.weight", None), "local.1.qkv"),
        (put("local.1.bias", lambda a: a[:1]), r"local\.1\.bias.*\[2, 81\]"),
        (put("tables.tanh", lambda a: a[:7]), "tables.tanh"),
        (put("tables.exp", lambda a: np.array([1, 0], np.int32)), "must fall from above 512 to 0"),
        (put("shape", lambda a: np.array([3, 2], np.int32)), "family and number of slices"),
        (put("y.thresholds", lambda a: a[::-1]), "must be in ascending order"),
        (put(f"{EARLY[0]}.0.geometry", None), r"parameters\.e\.0' reads an early context, which is missing"),
        (put(f"{EARLY[0]}.1.weight", None), r"early\.1\.weight' is missing"),
        (put(f"{EARLY[0]}.2.geometry", None), "early' must have 9 outputs"),
        (put(f"{EARLY[0]}.0.geometry", lambda a: np.array([3, 1], np.int32)), "early' must keep its size"),
        (put(f"{EARLY[0]}.0.bias", lambda a: np.full_like(a, 2**31 - 1)), r"early\.0' can overflow"),
        (put(f"{EARLY[1]}.0.geometry", None), r"parameters\.e\.0\.0\.geometry' is missing"),
        (put(f"{EARLY[1]}.0.weight", lambda a: a[:, :-1]), r"parameters\.e\.0\.0' must read 81 channels"),
        (put(f"{EARLY[1]}.3.geometry", None), r"parameters\.e\.0' must end with 2 x slice"),
    ],
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_arrays_are_named(name):
    model = model_of(name)
    for damage, fault in DAMAGE[name]:
        arrays = dict(model.to_arrays())
        damage(arrays)
        with pytest.raises((ValueError, TypeError), match=fault):
            LatentEngine(model.kind, arrays)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", SOME)
def test_hostile_integers_are_refused_or_harmless(name):
    """Arrays of a model file with a few numbers, a type or a shape changed: an error, or some decoder that survives."""
    model = model_of(name)
    sections, _ = encode(model, *random_latents(model, 4, 6), "cpp")
    arrays, random, refused = model.to_arrays(), np.random.default_rng(3), 0
    keys = sorted(k for k in arrays if ".tables." not in k)
    for _ in range(150):
        damaged = dict(arrays)
        for key in random.choice(keys, 2, replace=False):
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
            LatentEngine(model.kind, damaged, model.z_tables, model.y_tables).decode_many([(sections, 4, 6)])
        except (ValueError, TypeError, KeyError):
            refused += 1
    assert refused > 50


# ---- arguments


@pytest.mark.parametrize("name", ["context", "groups", "mlic++"])
def test_arguments_are_checked_in_words(name):
    model = model_of(name)
    engine, n, m = model.engine, model.hyper_channels, model.latent_channels
    z, y = np.zeros((n, 1, 2), np.int32), np.zeros((m, 4, 5), np.int32)
    for wrong in (z[:, :, :1], z[1:]):
        with pytest.raises(ValueError, match=rf"z must be \[{n}, 1, 2\]"):
            engine.encode_many([Target(wrong, y)])
    least = 1 if model.kind == "wavefront" else 2
    for wrong in (y[1:], y[:, :0], y[:, :, : least - 1]):
        with pytest.raises(ValueError, match=rf"y must be \[{m}, h, w\].*w at least {least}"):
            engine.encode_many([Target(z, wrong)])
    with pytest.raises(TypeError, match="y must be integers"):
        engine.encode_many([Target(z, y.astype(np.float32))])
    for dtype in (np.int32, np.int64):
        with pytest.raises(ValueError, match="must lie within"):
            engine.encode_many([Target(z, np.full_like(y, LATENT_LIMIT + 1, dtype=dtype))])
    with pytest.raises(ValueError, match="threads must be at least 1"):
        engine.encode_many([Target(z, y)], threads=0)
    with pytest.raises(ValueError, match="height must be at least 1"):
        engine.decode_many([([b""] * model.sections, 0, 3)])
    with pytest.raises(TypeError, match=r"streams must be \(sections, height, width\)"):
        engine.decode_many([[b""] * 2])
    with pytest.raises(ValueError, match=f"has {model.sections} sections, got 0"):
        engine.decode_many([([], 4, 5)])
    assert engine.encode_many([]) == engine.decode_many([]) == []
    sections, _ = encode(model, *random_latents(model, 9, 2))
    if least == 2:
        with pytest.raises(ValueError, match="2 to 2\\^24 wide"):
            decode(model, sections, 9, 1, "cpp")


def test_kinds_and_backends_are_named_or_refused():
    model = model_of("context")
    with pytest.raises(ValueError, match=r"kind must be wavefront, groups or slices, got 'raster'"):
        LatentEngine("raster", model.to_arrays())  # type: ignore[arg-type]
    for name in ("groups", "mlic"):
        with pytest.raises(ValueError, match="only models of kind wavefront vary"):
            model_of(name).engine.vary({}, model.z_tables, model.y_tables)
    with pytest.raises(BackendUnavailable, match="no kernels for IntegerChannelSlices"):
        _ = object.__new__(IntegerChannelSlices).device_engine
    for backend in ("cuda", ""):
        with pytest.raises(ValueError, match="backend must be"):
            encode(model, *random_latents(model, 2, 2), backend)


@pytest.mark.parametrize("name", ["context", "groups", "mlic++"])
def test_a_model_with_its_engine_can_be_stored_and_pickled(name):
    model = model_of(name)
    pair = random_latents(model, 3, 5)
    sections, _ = encode(model, *pair, "cpp")
    stored = type(model).from_arrays(model.to_arrays())
    assert stored.fingerprint() == model.fingerprint()
    for again in (stored, pickle.loads(pickle.dumps(model))):
        assert encode(again, *pair, "cpp")[0] == sections


def test_codec_streams_do_not_depend_on_the_backend(codec: Codec, photo):
    batch = torch.stack([photo, photo.flip(1), photo.flip(2)])
    streams = codec.compress(batch, 3.0)
    assert streams == codec.compress(batch, 3.0, backend="reference")
    fast, plain = (codec.decompress(streams, backend=backend) for backend in ("cpp", "reference"))
    assert all(torch.equal(a, b) for a, b in zip(fast, plain, strict=True))


def test_latents_that_lie_with_channels_last_are_read_where_they_lie():
    last = torch.zeros(4, 5, 24, dtype=torch.int32).permute(2, 0, 1)
    for own in (last, last.numpy()):
        assert np.shares_memory(latents._channels_last("y", own), last.numpy())
