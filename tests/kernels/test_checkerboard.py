"""One colour of a checkerboard: kernel and twin agree, and both with the integer models that define the answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastlic.entropy.scales import scale_levels, scale_thresholds
from fastlic.integers.fixed import Requantiser as Reference
from fastlic.integers.fixed import fixed_point
from fastlic.integers.functions import Tables
from fastlic.kernels.packing import Map, Requantiser
from fastlic.models.mlic import checkerboard as mlic
from fastlic.ops import checkerboard_encode, checkerboard_parameters, checkerboard_place, pack_checkerboard
from fastlic.ops.checkerboard import ANCHOR, as_map, count_of, positions

THRESHOLDS = scale_thresholds(scale_levels())
SIZES = [(1, 1), (2, 2), (3, 5), (4, 3), (1, 6), (5, 1)]


def random_layer(rng: np.random.Generator, inputs: int, outputs: int, bits: int = 12, gelu: bool = False):
    """Arrays of a layer whose outputs fill their range."""
    weight = rng.integers(-127, 128, (outputs, inputs, 1, 1)).astype(np.int8)
    spread = 74 * 600 * np.sqrt(inputs)
    reach = min(1 << (bits - 1), 1 << 16) / 2.5  # of scales, 26 in real units
    requantiser = Reference.from_factors(rng.uniform(0.5, 1.5, outputs) * reach / spread, bits, 0.25)
    arrays = {
        "weight": weight,
        "bias": rng.integers(-100000, 100000, outputs).astype(np.int32),
        **requantiser.to_arrays("requantise"),
    }
    return {**arrays, "exponents": rng.integers(5, 11, outputs).astype(np.uint8)} if gelu else arrays


def problem(device: torch.device, channels, widths, M: int, gelu: bool, size=(3, 5), images: int = 2):
    rng = np.random.default_rng(7)
    layers, inputs = [], sum(channels)
    for i, width in enumerate((*widths, 2 * M)):
        last = i == len(widths)
        layers.append(random_layer(rng, inputs, width, 21 if last else 12, gelu and not last))
        inputs = width
    table = Tables.make().gelu_table if gelu else None
    values = [torch.from_numpy(rng.integers(-2047, 2048, (images, *size, c))).to(device) for c in channels]
    return pack_checkerboard(layers, channels, THRESHOLDS, table, device), [as_map(v, 0) for v in values]


PROBLEMS = {
    "one map": ([20], (24,), 10, False),
    "five maps, GELU": ([16, 8, 70, 3, 24], (80, 40, 24), 12, True),
}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("parity", [0, 1])
def test_kernel_and_twin_agree(name, parity, device):
    network, maps = problem(device, *PROBLEMS[name])
    wanted = checkerboard_parameters(network, maps, parity, backend="reference")
    found = checkerboard_parameters(network, maps, parity, backend="triton")
    assert wanted[0].unique().numel() > 10 and wanted[1].unique().numel() > 20
    for a, b in zip(wanted, found, strict=True):
        assert torch.equal(a, b) and a.dtype == b.dtype


@pytest.mark.gpu
def test_programs_that_run_at_once_keep_out_of_each_others_rows(device):
    """Layers that become narrower, and more programs than processors: rows of all lengths, many of them at a time."""
    channels, widths = [192, 192, 128, 128, 640], (640, 512, 384)
    network, maps = problem(device, channels, widths, 32, True, size=(68, 120), images=4)
    wanted = checkerboard_parameters(network, maps, 1, backend="reference")
    for _ in range(20):
        found = checkerboard_parameters(network, maps, 1, backend="triton")
        assert torch.equal(found[0], wanted[0]) and torch.equal(found[1], wanted[1])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("parity", [0, 1])
def test_encoder_and_decoder_at_every_size(size, parity, device):
    """Channels 4..13 of a wider latent; what the encoder leaves there, the decoder places."""
    network, maps = problem(device, *PROBLEMS["one map"], size=size)
    generator = torch.Generator().manual_seed(3)
    target = torch.randint(-3000, 3000, (2, *size, 20), generator=generator, dtype=torch.int32).to(device)
    results = []
    for backend in ("reference", "triton"):
        y = torch.full_like(target, 7)
        part = slice(4, 14)
        indexes, symbols = checkerboard_encode(network, maps, parity, target[..., part], y[..., part], backend=backend)
        again, means = checkerboard_parameters(network, maps, parity, backend=backend)
        assert torch.equal(indexes, again)
        decoded = torch.full_like(target, 7)
        checkerboard_place(symbols, means, decoded[..., part], parity, backend=backend)
        assert torch.equal(y, decoded)
        results.append((indexes, symbols, y))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    other = ((rows + columns) % 2 != parity).to(device)
    y = results[1][2]
    assert bool((y[:, other] == 7).all()) and bool((y[..., :4] == 7).all()) and bool((y[..., 14:] == 7).all())
    off = (y - target)[:, ~other][..., 4:14].abs()
    assert not off.numel() or int(off.max()) <= 32


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("parity", [0, 1])
def test_every_other_row_and_zones(parity, rows, device):
    """Only those rows; differences come nearer to zero by what the image's zones say of each table row."""
    generator = torch.Generator().manual_seed(4)
    for size in ((1, 2), (3, 4), (4, 5)):
        network, maps = problem(device, *PROBLEMS["one map"], size=size)
        target = torch.randint(-3000, 3000, (2, *size, 10), generator=generator, dtype=torch.int32).to(device)
        zones = torch.randint(0, 40, (2, 1 << network.levels), generator=generator, dtype=torch.int32).to(device)
        results = []
        for backend in ("reference", "triton"):
            y = torch.full_like(target, 7)
            coded = checkerboard_encode(network, maps, parity, target, y, rows, zones, backend=backend)
            indexes, means = checkerboard_parameters(network, maps, parity, rows, backend=backend)
            placed = torch.full_like(target, 7)
            checkerboard_place(coded[1], means, placed, parity, rows, backend=backend)
            assert torch.equal(indexes, coded[0]) and torch.equal(placed, y)
            results.append((*coded, y))
        for a, b in zip(*results, strict=True):
            assert torch.equal(a, b)
        at = positions(*size, parity, rows=rows)
        assert len(at) == count_of(*size, parity, rows)
        elsewhere = torch.ones(size[0] * size[1], dtype=torch.bool)
        elsewhere[at] = False
        assert bool((results[1][2].flatten(1, 2)[:, elsewhere.to(device)] == 7).all())


@pytest.mark.parametrize("parity", [0, 1])
def test_residues_are_added_to_one_parity(parity, device):
    from fastlic.kernels import checkerboard

    generator = torch.Generator().manual_seed(6)
    wide = torch.randint(-3000, 3000, (2, 3, 5, 12), generator=generator, dtype=torch.int32).to(device)
    arguments = torch.randint(-2047, 2048, (2, 3, 5, 64), generator=generator, dtype=torch.int32).to(device)
    tanh = Tables.make().tanh
    wanted = wide.clone()
    at = positions(3, 5, parity).to(device)
    residues = torch.from_numpy(tanh).to(device)[arguments[..., :10].long() + 2048].int()
    wanted.flatten(1, 2)[:, at, 1:11] += residues.flatten(1, 2)[:, at]
    checkerboard.refine(arguments, torch.from_numpy(tanh).to(device), wide[..., 1:11], parity)
    assert torch.equal(wide, wanted)


def test_positions_are_those_of_the_models():
    for height, width in SIZES:
        for parity in (0, 1):
            at = positions(height, width, parity)
            assert torch.equal(at, mlic.positions(height, width, parity))
            assert len(at) == count_of(height, width, parity)
    mask = mlic.anchor_mask(torch.zeros(4, 6)).flatten()
    assert bool(mask[positions(4, 6, ANCHOR["mlic"])].all())


@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.parametrize("which", ["a", "n"])
def test_networks_of_an_integer_mlic_model(small_mlic, which, backend, device):
    """The schedule's own call, at one parity of random contexts."""
    model = small_mlic
    index, parity = 1, 1 if which == "a" else 0
    arrays = model.to_arrays()
    prefix, layers = f"layers.parameters.{which}.{index}", []
    while any(name.startswith(f"{prefix}.{len(layers)}.") for name in arrays):
        begin = f"{prefix}.{len(layers)}."
        layers.append({k.removeprefix(begin): v for k, v in arrays.items() if k.startswith(begin)})
    inputs = layers[0]["weight"].shape[1]
    parts = [inputs // 3, inputs - inputs // 3]
    network = pack_checkerboard(layers, parts, arrays["y.thresholds"], model.tables.gelu_table, device)
    generator = torch.Generator().manual_seed(2)
    contexts = torch.randint(-2047, 2048, (inputs, 5, 4), generator=generator)
    given = contexts.flatten(1)[:, mlic.positions(5, 4, parity)].T
    scales, means = model.parameters(which, index, given)
    maps = [as_map(part.permute(1, 2, 0)[None].to(device), 0) for part in contexts.split(parts)]
    found = checkerboard_parameters(network, maps, parity, backend=backend)
    assert torch.equal(found[0][0].cpu(), model.scale_indexes(scales))
    assert torch.equal(found[1][0].cpu().long(), means)


@pytest.fixture(scope="module")
def small_mlic():
    from fastlic.entropy.mlic.convert import convert
    from fastlic.models.mlic import MLICPlusPlus, Sizes

    torch.manual_seed(3)
    sizes = Sizes((16, 12, 8), (10, 12, 6), (12, 6), (14, 8), (16, 12, 10), (12, 8))
    return convert(MLICPlusPlus(8, 16, slices=2, sizes=sizes).eval(), [torch.rand(3, 128, 128)])


def test_arguments_that_do_not_fit_say_what_came(device):
    network, maps = problem(device, *PROBLEMS["one map"])
    y = torch.zeros(2, 3, 5, 10, dtype=torch.int32, device=device)
    with pytest.raises(ValueError, match="parity must be 0"):
        checkerboard_parameters(network, maps, 2)
    with pytest.raises(ValueError, match=r"reads maps of \[64\] channels, got \[\]"):
        checkerboard_parameters(network, [], 0)
    with pytest.raises(ValueError, match=r"maps must be of one size"):
        wide, (first, *_) = problem(device, *PROBLEMS["five maps, GELU"])
        other = problem(device, *PROBLEMS["five maps, GELU"], size=(3, 6))[1]
        checkerboard_parameters(wide, [first, *other[1:]], 0)
    with pytest.raises(ValueError, match="must be int32"):
        checkerboard_encode(network, maps, 0, y.long(), y)
    with pytest.raises(ValueError, match="agree in shape and strides"):
        checkerboard_encode(network, maps, 0, y[:1], y)
    with pytest.raises(ValueError, match=r"symbols must be int32 \[2, 8, 10\]"):
        checkerboard_place(y, y, y, 0)
    with pytest.raises(ValueError, match="first layer reads"):
        pack_checkerboard([random_layer(np.random.default_rng(0), 5, 6)] * 2, [4], THRESHOLDS)


@pytest.mark.parametrize("convention", ANCHOR)
def test_latents_survive_both_passes_of_either_convention(convention, device):
    """Anchors, then the others: encoder and decoder meet in the same latents. The network reads a part of a wider map,
    what is decoded so far."""
    from fastlic.kernels.convolution import enter

    generator = torch.Generator().manual_seed(11)
    y = fixed_point(torch.randn(1, 3, 4, 10, generator=generator, dtype=torch.float64) * 9).int().to(device)
    network, _ = problem(device, [10], (20, 70, 16), 10, False)
    rng = np.random.default_rng(1)
    of_y = Reference.from_factors(rng.uniform(0.2, 0.9, 10), 12)
    requantiser = Requantiser.of(of_y.multiplier, of_y.negative, of_y.shift, 12, device)
    anchor = ANCHOR[convention]
    coded: list[torch.Tensor] = []
    latents = []
    for way in ("encode", "decode"):
        wide = Map.zeros(1, 3, 4, 128, 2, device)
        wide.planes.fill_(55)
        wide.planes[..., 20:84] = 0
        seen = wide.part(20, 10)
        own = torch.zeros_like(y)
        for parity in (anchor, 1 - anchor):
            if way == "encode":
                indexes, symbols = checkerboard_encode(network, [seen], parity, y, own, backend="triton")
                coded.append(symbols)
            again, means = checkerboard_parameters(network, [seen], parity, backend="reference")
            if way == "encode":
                assert torch.equal(indexes, again)
            symbols = coded[0 if parity == anchor else 1]
            checkerboard_place(symbols, means, own, parity, backend="triton")
            enter(own, None, requantiser, 0, into=seen)
            assert torch.equal(as_map(of_y(own.cpu().long()), 2).planes, seen.planes.cpu())
        latents.append(own)
        assert bool((wide.planes[..., :20] == 55).all())
    assert torch.equal(*latents)
    assert int((latents[0] - y).abs().max()) <= 32
    with pytest.raises(ValueError, match="no part that ends at 148"):
        wide.part(20, 70)
