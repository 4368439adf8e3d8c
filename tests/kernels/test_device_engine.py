"""The engine on the device: the C++ engine's bytes and latents, whatever the driver; backends named or refused."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from fastlic.codec import drivers
from fastlic.entropy.convert import convert
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.passes import hyper_size
from fastlic.entropy.variable import HyperStep, VariableRateModel
from fastlic.entropy.zones import zones_for
from fastlic.errors import CorruptStreamError
from fastlic.integers.fixed import fixed_point
from fastlic.models import JAHP, MeanScaleHyperprior
from fastlic.ops import _device_streams
from fastlic.ops._device_streams import FEWEST_STREAMS, CoderTables
from fastlic.ops.backends import backends
from fastlic.ops.device_engine import DeviceEngine
from fastlic.ops.latents import Target
from fastlic.ops.rans import rans_encode_many
from fastlic.ops.tables import gaussian_tables

SLIM = {"hyper": [10, 9, 13], "context": 11, "parameters": [35, 12]}
MODELS = {"context": (JAHP, 7, 33), "no context": (MeanScaleHyperprior, 5, 19), "slim": (JAHP, 7, 22, SLIM)}


def random_model(cls, n: int, m: int, sizes: dict | None = None) -> IntegerEntropyModel:
    """A converted random network whose scales cover the table and whose means matter."""
    torch.manual_seed(n * m)
    model = cls(n, m, (8, 8, 8), **({"sizes": sizes} if sizes else {})).eval()
    last = model.entropy_parameters[-1] if isinstance(model, JAHP) else model.h_s[-1]
    last.weight.data *= 30
    last.bias.data = torch.cat([torch.logspace(-1, 1.5, m), torch.linspace(-3, 3, m)])
    return convert(model, [torch.rand(3, 96, 128)])


@pytest.fixture(scope="module")
def models():
    return {name: random_model(*arguments) for name, arguments in MODELS.items()}


def latents_of(model: IntegerEntropyModel, height: int, width: int, seed: int, spread: float):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(model.hyper_channels, *hyper_size(height, width), generator=generator) * spread / 3
    y = torch.randn(model.latent_channels, height, width, generator=generator) * spread
    return fixed_point(z), fixed_point(y)


def at_a_gain(base: IntegerEntropyModel) -> IntegerEntropyModel:
    """Everything that a gain changes, and reconstruction offsets of either sign up to some steps."""
    shift = None if base.context is None else np.outer([1, 0.1], np.linspace(-3e4, 3e4, len(base.context.bias)))
    step = HyperStep(1.5, base.z_tables, base.z_median + 21)
    offsets = ((np.array([[0.02, 1.0]]), np.array([-1.0])),)
    return VariableRateModel(base, np.array([0.5]), (step,), shift, offsets).at(0.6)


def check(model: IntegerEntropyModel, height: int, width: int, driver: str, lanes: int) -> None:
    """A calm image and one with escapes: encoded on the device, decoded on both sides."""
    engine = model.device_engine
    latents = [latents_of(model, height, width, seed, spread) for seed, spread in ((1, 6), (2, 60))]
    targets = [Target(*pair, zones) for pair, zones in zip(latents, (zones_for(2.0), None), strict=True)]
    coded = engine.encode_many(targets, driver=driver, lanes=lanes)
    same = model.engine.encode_many(targets)
    for (sections, z, y, _), (own_sections, own_z, own_y, _) in zip(coded, same, strict=True):
        if not lanes:
            assert sections == own_sections
        assert torch.equal(z.cpu(), torch.from_numpy(own_z))
        assert torch.equal(y.cpu(), torch.from_numpy(own_y))
    streams = [(sections, height, width) for sections, *_ in coded]
    on_device = engine.decode_many(streams, driver=driver)
    for decoded in (on_device, model.engine.decode_many(streams)):
        for (z, y, _), (_, own_z, own_y, _) in zip(decoded, same, strict=True):
            assert torch.equal(torch.as_tensor(z).cpu(), torch.from_numpy(own_z))
            assert torch.equal(torch.as_tensor(y).cpu(), torch.from_numpy(own_y))


@pytest.mark.parametrize(("driver", "size"), [("persistent", (2, 2)), ("launch", (1, 2))])
def test_bytes_and_latents_are_the_cpus(models, driver, size, device):
    check(models["context"], *size, driver, lanes=64)


def test_bytes_and_latents_are_the_cpus_with_narrow_entropy_networks(models, device):
    check(models["slim"], 2, 2, "launch", lanes=64)


@pytest.mark.parametrize("coder", ["triton", "cpp"], indirect=True)
def test_bytes_and_latents_are_the_cpus_without_context(models, coder, device):
    check(models["no context"], 2, 3, "launch", lanes=64)


@pytest.mark.parametrize("coder", ["cpp"], indirect=True)
def test_bytes_and_latents_are_the_cpus_where_it_codes_all_but_the_context(models, coder, device, monkeypatch):
    """What is encoded, and z; the default lanes give its bytes."""
    from fastlic.kernels import rans, rans_encode

    for module, name in ((rans, "decode"), (rans_encode, "encode")):
        monkeypatch.setattr(module, name, None)
    check(models["context"], 1, 2, "persistent", lanes=0)


@pytest.mark.parametrize("count", [FEWEST_STREAMS - 1, FEWEST_STREAMS])
@pytest.mark.parametrize("coder", ["cpp"], indirect=True)
def test_few_streams_are_coded_on_the_cpu_and_more_on_the_device(count, coder, device, monkeypatch):
    from fastlic.kernels import rans, rans_encode

    seen = []
    for module, name in ((rans, "decode"), (rans_encode, "encode")):
        own = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, own=own: (seen.append(own), own(*given))[1])
    packed = gaussian_tables(np.array([1.0, 3.0]))
    coded_by = CoderTables(packed, device)
    generator = torch.Generator().manual_seed(count)
    symbols = torch.randint(-3, 4, (count, 9), generator=generator, dtype=torch.int32).to(device)
    rows = (torch.arange(9) % 2).to(torch.uint8).expand(count, -1).to(device)
    data = _device_streams.encode(symbols, rows, coded_by)
    assert data == rans_encode_many(list(symbols.cpu()), list(rows.cpu()), packed)
    opened = _device_streams.open_streams(data, coded_by, device)
    found = torch.cat([opened.decode(rows[:, :4]), opened.decode(rows[:, 4:])], 1)
    opened.finish()
    assert torch.equal(found, symbols) and found.device == symbols.device
    assert len(seen) == (0 if count < FEWEST_STREAMS else 3)
    assert str(FEWEST_STREAMS) in backends()["streams"]
    opened = _device_streams.open_streams([*data[1:], data[0][:-1]], coded_by, device)
    with pytest.raises(CorruptStreamError):
        opened.decode(rows)
        opened.finish()


@pytest.mark.parametrize(("name", "driver"), [("slim", "persistent"), ("slim", "launch"), ("no context", "launch")])
def test_bytes_and_latents_are_the_cpus_at_a_gain_whose_engine_shares_packed_weights(models, name, driver, device):
    model = at_a_gain(models[name])
    check(model, 2, 2, driver, lanes=64)
    own, base = model.device_engine, models[name].device_engine
    assert own._hyper[-1].weights is base._hyper[-1].weights and own._offsets is not base._offsets is None
    assert name == "no context" or own._network.head.weights is base._network.head.weights


@pytest.mark.parametrize(("name", "driver"), [("slim", "persistent"), ("slim", "launch"), ("no context", None)])
def test_images_of_several_sizes_are_coded_together(models, name, driver, device, monkeypatch):
    """Each as if it were alone: dead zones, order and sizes are its own."""
    from fastlic.kernels import masked_context

    model, sizes, ran = models[name], ((1, 2), (3, 1), (1, 2), (2, 2)), []
    run = masked_context._prepare
    monkeypatch.setattr(masked_context, "_prepare", lambda *a, **how: (ran.append(a[1].images), run(*a, **how))[1])
    latents = [latents_of(model, *size, seed, 20) for seed, size in enumerate(sizes)]
    zones = (None, zones_for(2.0), zones_for(1.0), zones_for(2.0))
    targets = [Target(*pair, own) for pair, own in zip(latents, zones, strict=True)]
    coded = model.device_engine.encode_many(targets, driver=driver, lanes=64)
    streams = [(sections, *size) for (sections, *_), size in zip(coded, sizes, strict=True)]
    decoded = model.device_engine.decode_many(streams, driver=driver)
    assert ran == ([] if driver is None else [4, 4])
    for (_, *maps), found, (_, *wanted) in zip(coded, decoded, model.engine.encode_many(targets), strict=True):
        for own in (maps, found):
            assert all(torch.equal(a.cpu(), torch.from_numpy(b)) for a, b in zip(own[:2], wanted[:2], strict=True))
    assert all(torch.equal(torch.from_numpy(own[1]), found[1].cpu())
               for own, found in zip(model.engine.decode_many(streams), decoded, strict=True))  # fmt: skip
    assert model.device_engine.encode_many([]) == model.device_engine.decode_many([]) == []


def test_a_sheet_is_at_most_twice_as_large_as_its_images(device):
    from fastlic.kernels.masked_context import sheet_of, together

    assert together([(2, 3), (4, 3), (2, 3)], 192) == [[1, 0, 2]]
    assert together([(100, 1), (1, 100)], 192) == [[1], [0]]
    assert together([(1000, 1000)] * 6, 192) == [[0, 1, 2, 3, 4], [5]]  # less than 2^31 bytes
    assert sheet_of([(2, 3), (4, 5)]) == (14, 9) and together([], 192) == []


@pytest.mark.slow
def test_default_lanes_give_the_cpus_bytes(models, device):
    check(models["context"], 1, 1, "persistent", lanes=0)
    check(at_a_gain(models["slim"]), 1, 1, "launch", lanes=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("driver", ["persistent", "launch"])
@pytest.mark.parametrize("size", [(1, 1), (7, 1), (1, 6), (5, 9)])
def test_bytes_and_latents_are_the_cpus_at_every_size(models, name, driver, size, device):
    check(models[name], *size, driver, lanes=0)


@pytest.mark.gpu
@pytest.mark.parametrize("driver", ["persistent", "launch"])
@pytest.mark.parametrize("size", [(32, 48), (68, 120), (19, 5)])
def test_large_latents_on_a_gpu_are_the_cpus(driver, size):
    model = random_model(JAHP, 64, 96)
    check(model, *size, driver, lanes=0)
    check(at_a_gain(model), *size, driver, lanes=0)


@pytest.mark.gpu
def test_the_launches_of_a_decoder_are_captured_in_a_graph():
    from fastlic.kernels import masked_context, rans

    model, height, width = random_model(JAHP, 64, 96), 19, 12
    engine = DeviceEngine(model.to_arrays(), model.z_tables, model.y_tables, torch.device("cuda"))
    z, y = latents_of(model, height, width, 1, 6)
    sections, _, wanted, _ = engine.encode_many([Target(z, y)], lanes=64)[0]
    symbols = engine.decode_many([(sections, height, width)])[0][0]
    features = engine._features(symbols[None].permute(0, 2, 3, 1).contiguous(), height, width)
    share = masked_context.hyper_share(features, engine._of_hyper).flatten(0, 2)
    streams = rans.open_streams([sections[1]], "cuda")
    first = streams.states.clone(), streams.cursors.clone()

    def decode() -> torch.Tensor:
        streams.states.copy_(first[0])
        streams.cursors.copy_(first[1])
        sizes, tables = ((height, width),), engine._y_tables.device
        return masked_context.decode(engine._network, sizes, streams, tables, share, "launch")

    decode()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = decode()
    found.zero_()
    graph.replay()
    assert torch.equal(found.T.reshape(wanted.shape), wanted)


def test_gathered_positions_equal_the_schedules(models, device):
    """``parameters`` at some positions and at all, against the plain layers."""
    from fastlic.kernels import masked_context
    from fastlic.kernels.packing import as_map
    from fastlic.kernels.reference import masked_context as reference

    model = models["context"]
    engine = DeviceEngine(model.to_arrays(), model.z_tables, model.y_tables, device)
    generator = torch.Generator().manual_seed(4)
    height, width, m = 4, 5, model.latent_channels
    features = torch.randint(-2047, 2048, (2 * m, height, width), generator=generator)
    seen = torch.randint(-2047, 2048, (m, height, width), generator=generator)
    padded = torch.nn.functional.pad(seen, (2, 2, 2, 0))
    taps = torch.stack([padded[:, 2 + i : 2 + i + height, 2 + j : 2 + j + width] for i, j in masked_context.TAPS])
    assert model.context is not None
    acc = taps.flatten(2).permute(2, 0, 1).flatten(1).double() @ model.context.as_matrix()
    x = model.context.requantiser(acc.long() + torch.from_numpy(model.context.bias).long())
    x = torch.cat([features.flatten(1).T, x], 1)
    for layer in model.parameters:
        x = layer.requantiser((x.double() @ layer.as_matrix()).long() + torch.from_numpy(layer.bias).long())
    scales, means = x.split(m, 1)
    share = masked_context.hyper_share(as_map(features.permute(1, 2, 0)[None].to(device), 0), engine._of_hyper)
    latent = as_map(seen.permute(1, 2, 0)[None].to(device), masked_context.BORDER)
    for where in (None, torch.tensor([19, 3, 7], dtype=torch.int32)):
        indexes, found = masked_context.parameters(
            engine._network, latent, share, None if where is None else where.to(device)
        )
        rows = slice(None) if where is None else where.long()
        twin = reference.parameters(engine._network, latent, share, None if where is None else where.to(device))
        assert torch.equal(twin[0], indexes) and torch.equal(twin[1], found)
        assert torch.equal(found[0].cpu().long(), means[rows])
        assert torch.equal(indexes[0].cpu(), model.scale_indexes(scales)[rows])


def test_damaged_sections_are_reported(models, device):
    model = models["context"]
    z, y = latents_of(model, 1, 2, 1, 6)
    engine = DeviceEngine(model.to_arrays(), model.z_tables, model.y_tables, device)
    (a, b), *_ = engine.encode_many([Target(z, y)], lanes=64)[0]
    with pytest.raises(CorruptStreamError):
        engine.decode_many([((a, b[:-2]), 1, 2)])
    with pytest.raises(CorruptStreamError, match="too few"):
        engine.decode_many([((a, b), 1 << 12, 1 << 12)])
    with pytest.raises(ValueError, match="decoded whole"):
        engine.decode_many([((a, b), 1, 2)], groups=0)


def test_the_driver_of_the_codec_is_the_same_engine(models, device):
    model = models["no context"]
    z, y = latents_of(model, 1, 2, 3, 6)
    floats = z.double() / 64, y.double() / 64
    for zones in (zones_for(2.0), None):
        ((sections, latents),) = drivers.encode_many(model, [Target(*floats, zones)], "triton")
        assert sections == drivers.encode_many(model, [Target(*floats, zones)], "cpp")[0][0]
    (again,) = drivers.decode_many(model, [(sections, 1, 2)], "triton")
    assert torch.equal(again.y.cpu(), latents.y.cpu())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_gpu_and_interpreter_an_explicit_request_is_an_error_and_auto_is_cpp():
    script = (
        "import torch\n"
        "from fastlic.codec.drivers import ENCODE\n"
        "from fastlic.ops.backends import choose, require_triton\n"
        "from fastlic.errors import BackendUnavailable\n"
        "assert choose(ENCODE, 'auto', torch.device('cpu')) is ENCODE['cpp']\n"
        "try:\n    require_triton()\nexcept BackendUnavailable as error:\n    print(error)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert "backend 'triton' is unavailable" in done.stdout
