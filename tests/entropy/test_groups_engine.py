"""The engine of channel groups is the plain reference bit for bit, on any instruction set, thread count and batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn as nn

from fastlic import _native
from fastlic.bench.lifelike import logistic
from fastlic.codec import groups_drivers as drivers
from fastlic.entropy.groups.convert import GroupNetworks, Networks, convert_groups
from fastlic.entropy.groups.model import Group, IntegerGroups
from fastlic.entropy.schedule import hyper_size
from fastlic.errors import CorruptStreamError
from fastlic.integers.fixed import LATENT_LIMIT
from fastlic.models.density import EntropyBottleneck
from fastlic.ops.groups_engine import GroupsEngine

SUPPORTED = _native.supported_isas()
SIZES = [(1, 2), (5, 2), (2, 6), (9, 14), (12, 52)]
N = 7


@pytest.fixture(params=SUPPORTED)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _native.get_isa()
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa(before)


def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def uneven() -> Networks:
    """Four groups, none of whole panels of 32: both parities, one in a single pass, one that skips what it could read;
    kernels from 1x1 to 7x7, all kinds of upsampling and every activation."""
    h_s = nn.Sequential(
        nn.ConvTranspose2d(N, 12, 5, 2, 2, 1), nn.LeakyReLU(), conv(12, 36, 3), nn.PixelShuffle(2), nn.GELU(),
        nn.ConvTranspose2d(9, 20, 3, 1, 1),
    )  # fmt: skip
    groups = []
    for group, kernel in (
        (Group(5, 0), 5),
        (Group(33, 1, (0,)), 3),
        (Group(6, None, (0, 1)), 5),
        (Group(8, 0, (0, 2)), 7),
    ):
        c, read = group.channels, sum((5, 33, 6)[k] for k in group.reads)
        inner = nn.GELU() if group.parity == 1 else nn.ReLU()
        channel = nn.Sequential(conv(read, 21, kernel), inner, conv(21, 10, 5)) if read else None
        context = conv(c, 11, kernel) if group.parity is not None else None
        known = 20 + (10 if read else 0) + (11 if context else 0)
        first = conv(known, 34, 3 if context is None else 1)
        parameters = nn.Sequential(first, nn.LeakyReLU(0.2), conv(34, 2 * c, 1))
        groups.append(GroupNetworks(group, channel, context, parameters))
    bottleneck = EntropyBottleneck(N).eval()
    logistic(bottleneck, torch.linspace(0.5, 3, N))
    h_a = nn.Sequential(conv(52, N, 3), nn.AvgPool2d(4))
    return Networks(h_a, h_s, bottleneck, groups)


def checkerboard() -> Networks:
    """One group of two panels, as cheng2020-anchor-checkerboard has it."""
    h_s = nn.Sequential(nn.ConvTranspose2d(N, 40, 5, 2, 2, 1), nn.ReLU(), nn.ConvTranspose2d(40, 70, 5, 2, 2, 1))
    parameters = nn.Sequential(conv(198, 64, 1), nn.ReLU(), conv(64, 128, 1))
    bottleneck = EntropyBottleneck(N).eval()
    logistic(bottleneck, torch.linspace(0.5, 3, N))
    # Unlike the other model's this analysis has an integer form.
    h_a = nn.Sequential(
        *(conv(64, 40, 3), nn.LeakyReLU(), nn.Conv2d(40, 20, 5, 2, 2), nn.ReLU(), nn.Conv2d(20, N, 3, 2, 1))
    )
    return Networks(h_a, h_s, bottleneck, [GroupNetworks(Group(64, 0), None, conv(64, 128, 5), parameters)])


@torch.no_grad()
def converted(networks: Networks) -> IntegerGroups:
    for own in networks.groups:
        last = next(m for m in reversed(own.parameters) if isinstance(m, nn.Conv2d))
        last.weight *= 6
        last.bias[: own.group.channels] += 1.5
    m = sum(own.group.channels for own in networks.groups)
    y = torch.randn(1, m, 16, 24) * torch.linspace(0.2, 4, m)[:, None, None]
    networks.hyper_analysis[0].weight *= 4  # type: ignore[index]
    return convert_groups(networks, [y])


@pytest.fixture(scope="module")
def models() -> dict[str, IntegerGroups]:
    torch.manual_seed(5)
    return {"uneven": converted(uneven()), "checkerboard": converted(checkerboard())}


def random_latents(
    model: IntegerGroups, height: int, width: int, spread: float = 4
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    rows, columns = hyper_size(height, width)
    z = torch.randn(model.hyper_channels, rows, columns, generator=generator) * spread / 3
    return z, torch.randn(model.latent_channels, height, width, generator=generator) * spread


def same(a: drivers.Latents, b: drivers.Latents) -> bool:
    return torch.equal(a.z, b.z) and torch.equal(a.y, b.y)


@pytest.mark.parametrize("name", ["uneven", "checkerboard"])
def test_bytes_and_latents_equal_the_reference_on_every_instruction_set(models, name, isa):
    model = models[name]
    for size in SIZES:
        pair = random_latents(model, *size)
        ((sections, latents),) = drivers.encode_many(model, [pair], "reference")
        assert len(sections) == 1 + model.passes and latents.y.unique().numel() > 3
        ((got, seen),) = drivers.encode_many(model, [pair], "cpp")
        assert got == sections and same(seen, latents), size
        assert same(drivers.decode_many(model, [(sections, *size)], "cpp")[0], latents), size


@pytest.mark.parametrize("name", ["uneven", "checkerboard"])
def test_the_reference_decodes_what_the_engine_wrote(models, name):
    model = models[name]
    ((sections, latents),) = drivers.encode_many(model, [random_latents(model, 6, 10)], "cpp")
    assert same(drivers.decode_many(model, [(sections, 6, 10)], "reference")[0], latents)


def test_hyper_analysis_equals_the_reference(models, isa):
    model = models["checkerboard"]
    for size in (*SIZES, (3, 7)):
        y = random_latents(model, *size)[1]
        ((z, _),) = drivers.analyse_many(model, [y], "reference")
        assert z.shape == (N, *hyper_size(*size)) and z.unique().numel() > 3
        for threads in (1, 3):
            assert torch.equal(drivers.analyse_many(model, [y], "cpp", threads)[0][0], z), size
    assert not models["uneven"].analyses
    with pytest.raises(ValueError, match="hyper analysis"):
        drivers.analyse_many(models["uneven"], [y])
    with pytest.raises(ValueError, match="no analysis"):
        models["uneven"].engine.analyse_many([np.zeros((52, 4, 4), np.int32)])


@torch.no_grad()
def test_hyper_analysis_follows_the_floats():
    torch.manual_seed(1)
    networks = checkerboard()
    model = converted(networks)
    y = torch.randn(64, 16, 24) * torch.linspace(0.2, 4, 64)[:, None, None]
    ((z, _),) = drivers.analyse_many(model, [y])
    expected = networks.hyper_analysis(y[None])[0]
    assert float((z - expected).abs().mean() / expected.std()) < 0.02


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_and_batches_change_nothing(models, threads, batch):
    model = models["uneven"]
    sizes = [(9, 14), (20, 22), (12, 8)][:batch] if batch > 1 else [(20, 22)]
    pairs = [random_latents(model, *size) for size in sizes]
    single = [drivers.encode_many(model, [pair], "cpp")[0] for pair in pairs]
    coded = drivers.encode_many(model, pairs, "cpp", threads)
    assert [sections for sections, _ in coded] == [sections for sections, _ in single]
    streams = [(sections, *size) for (sections, _), size in zip(coded, sizes, strict=True)]
    decoded = drivers.decode_many(model, streams, "cpp", threads)
    assert all(same(got, want) for got, (_, want) in zip(decoded, single, strict=True))


@pytest.mark.parametrize("spread", [0.0, 60.0, LATENT_LIMIT / 64])
def test_latents_far_outside_what_was_calibrated_give_the_same_bits(models, spread):
    model = models["uneven"]
    limit = LATENT_LIMIT / 64
    z, y = (t.clamp(-limit, limit) * bool(spread) for t in random_latents(model, 5, 6, spread or 1))
    ((sections, latents),) = drivers.encode_many(model, [(z, y)], "reference")
    ((got, seen),) = drivers.encode_many(model, [(z, y)], "cpp")
    assert got == sections and same(seen, latents)
    assert same(drivers.decode_many(model, [(sections, 5, 6)], "cpp")[0], latents)


@torch.no_grad()
def test_integers_follow_the_floats():
    """Scales and means of the integer path stay near those of the float networks that it was made from."""
    torch.manual_seed(1)
    networks = checkerboard()
    model = converted(networks)
    generator = torch.Generator().manual_seed(2)
    z = torch.randint(-4, 5, (N, 3, 4), generator=generator)
    own = networks.groups[0]
    medians = networks.bottleneck.medians[:, None, None]
    features = networks.h_s(z[None] + medians)
    expected = own.parameters(torch.cat([torch.zeros(1, 128, 12, 16), features], 1))[0]
    integers = torch.cat([torch.zeros(128, 12, 16, dtype=torch.int64), model.hyper_features(z, 12, 16)])
    scales, means = model.parameters(0, integers)
    got = torch.cat([scales / 2**10, means / 2**6])
    assert float((got - expected).abs().mean() / expected.std()) < 0.02


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_streams_cut_or_altered_never_crash(models, backend):
    model = models["uneven"]
    ((sections, latents),) = drivers.encode_many(model, [random_latents(model, 6, 10)], "cpp")
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(300 if backend == "cpp" else 20):
        damaged = [bytearray(section) for section in sections]
        own = damaged[trial % len(damaged)]
        if trial % 3 == 0:
            del own[int(rng.integers(len(own))) :]
        elif trial % 3 == 1:
            own += rng.bytes(3)
        else:
            own[int(rng.integers(len(own)))] ^= 1 << int(rng.integers(8))
        try:
            (decoded,) = drivers.decode_many(model, [([bytes(s) for s in damaged], 6, 10)], backend)
            assert decoded.y.shape == latents.y.shape
        except CorruptStreamError:
            refused += 1
    assert refused > (180 if backend == "cpp" else 10)


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_a_short_section_cannot_claim_a_huge_image(models, backend):
    model = models["uneven"]
    ((sections, _),) = drivers.encode_many(model, [random_latents(model, 4, 4)], "cpp")
    with pytest.raises(CorruptStreamError, match="too few"):
        drivers.decode_many(model, [(sections, 40000, 40000)], backend)
    with pytest.raises(CorruptStreamError, match="sections"):
        drivers.decode_many(model, [(sections[:-1], 4, 4)], backend)


def test_arrays_survive_storage(models):
    model = models["uneven"]
    again = IntegerGroups.from_arrays(model.to_arrays())
    assert again.fingerprint() == model.fingerprint() and again.groups == model.groups
    pair = random_latents(model, 5, 6)
    assert drivers.encode_many(again, [pair])[0][0] == drivers.encode_many(model, [pair])[0][0]
    with pytest.raises(ValueError, match="missing"):
        IntegerGroups.from_arrays({})


def test_damaged_arrays_are_named(models):
    model = models["uneven"]
    arrays = model.to_arrays()
    for key, change, fault in (
        ("layers.context.1.weight", None, "context.1"),
        ("groups.parity", np.array([0, 1, 3, 0], np.int32), "groups.parity"),
        ("groups.channels", np.array([5, 33, 6, 0], np.int32), "groups.channels"),
        ("groups.reads.3", np.array([0, 3], np.int32), r"groups\.reads\.3.*earlier"),
        ("layers.parameters.2.1.weight", arrays["layers.parameters.2.1.weight"][:5], "parameters.2.1"),
        ("y.thresholds", arrays["y.thresholds"][::-1], "ascending"),
        ("tables.tail", arrays["tables.tail"][:7], "tables.tail"),
    ):
        damaged = {k: v for k, v in arrays.items() if k != key}
        if change is not None:
            damaged[key] = change
        with pytest.raises(ValueError, match=fault):
            GroupsEngine(damaged, model.z_tables, model.y_tables)


def test_hostile_arrays_never_crash(models):
    model = models["uneven"]
    ((sections, _),) = drivers.encode_many(model, [random_latents(model, 4, 6)], "cpp")
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
            GroupsEngine(damaged, model.z_tables, model.y_tables).decode_many([sections], [(4, 6)])
        except (ValueError, TypeError, KeyError, CorruptStreamError):
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda n: n.groups[3].parameters.__setitem__(0, conv(41, 34, 3)), "1x1 layers only"),
        (lambda n: n.groups[1].channel.__setitem__(1, nn.SiLU()), "SiLU"),
        (lambda n: n.groups[1].channel.__setitem__(0, nn.Conv2d(5, 21, 4, padding=2)), "no integer form"),
        (lambda n: n.groups[0].parameters.append(nn.GELU()), "ends with GELU"),
    ],
)
def test_networks_without_integer_form_are_named(change, fault):
    networks = uneven()
    change(networks)
    with pytest.raises(ValueError, match=fault):
        converted(networks)
