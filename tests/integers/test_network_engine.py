"""The engine of integer networks is the plain reference bit for bit, on any instruction set, threads and band."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from fastlic.integers.fixed import LATENT_LIMIT, Requantiser, largest
from fastlic.integers.functions import Curve
from fastlic.integers.layer import HALVED, INT32, PLAIN, SHUFFLED, TRANSPOSED, Kind, Layer, phases
from fastlic.integers.network import CurveStep, DepthwiseStep, GateStep, LayerStep, Network, SumStep
from fastlic.integers.shapes import Factors, Shape
from fastlic.integers.windows import MapMeanStep
from fastlic.ops import instruction_set, instruction_sets
from fastlic.ops.transforms import TransformEngine

from .made_networks import WINOGRAD, Draw, chain

SUPPORTED = instruction_sets()
SIZES = [(1, 1), (1, 2), (2, 1), (3, 3), (5, 4), (1, 9), (13, 1), (7, 6), (9, 11), (12, 17), (21, 5), (6, 50), (53, 4)]


def engine_of(network: Network) -> TransformEngine:
    return TransformEngine("n", network.to_arrays("n"))


def as_input(network: Network, x: torch.Tensor) -> np.ndarray:
    return x.numpy().astype(np.uint8 if network.entry is None else np.int32)


def require_same(network: Network, x: torch.Tensor, ways: list[tuple[str, int, int]]) -> torch.Tensor:
    """In all ways (instruction set, threads, band) the engine gives what the reference does, or refuses as it does."""
    engine, array = engine_of(network), as_input(network, x)
    try:
        want = network(x)
    except ValueError as error:
        assert "reflected" in str(error) or "multiples" in str(error)
        with pytest.raises(ValueError, match=r"reflects|multiples"):
            engine.run(array)
        return x
    wrong = []
    for isa, threads, band in ways:
        with instruction_set(isa):
            got = torch.from_numpy(engine.run(array, threads=threads, band=band)).long()
        if got.shape != want.shape or not torch.equal(got, want):
            wrong.append(f"{isa}, {threads} threads, band {band}: {int((got != want).sum())} of {want.numel()}")
    assert not wrong, wrong
    return want


def ways(rng: np.random.Generator) -> list[tuple[str, int, int]]:
    bands = [1, 2, 3, 4, 5, 7, 0, 1000]
    return [(isa, int(rng.integers(1, 5)), bands[int(rng.integers(len(bands)))]) for isa in SUPPORTED]


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(60))
def test_any_network_gives_the_reference_integers(seed):
    for turn in range(4):
        rng = np.random.default_rng([seed, turn])
        draw = Draw(rng, extreme=turn % 2 == 1)
        last = ("pixels", "latents", "activations")[seed % 3]
        network = draw.network(int(rng.integers(0, 7)), latents=bool(rng.integers(2)), last=last)
        x = draw.input(network, *SIZES[int(rng.integers(len(SIZES)))])
        require_same(network, x, ways(rng))


LAYERS = {
    f"{kind.name.lower()} {side}x{side}, {inputs} to {outputs}": (kind, side, inputs, outputs)
    for kind in (PLAIN, HALVED, TRANSPOSED, SHUFFLED)
    for side, inputs, outputs in ((1, 17, 33), (3, 16, 3), (3, 40, 48), (5, 3, 1), (5, 33, 17), (7, 7, 8), (9, 1, 7))
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_every_kind_are_the_same_at_every_height_of_a_band(name):
    kind, side, inputs, outputs = LAYERS[name]
    spread = []
    for number, (wide, fits, reflect) in enumerate(
        (wide, fits, reflect) for wide in (False, True) for fits in (False, True) for reflect in (False, True)
    ):
        rng = np.random.default_rng([side, inputs, outputs, number])
        draw = Draw(rng)
        entry = draw.requantiser(inputs, 14, np.full(inputs, 20000.0))
        step = draw.layer(
            Shape(inputs, 14), outputs, kind, side, wide=wide, fits=fits, reflect=reflect and not kind.transposed,
            curve=(None, Curve.GELU, Curve.SILU)[number % 3],
        )  # fmt: skip
        network = chain([step], entry)
        height, width = 5 + number, 12 - number
        x = draw.input(network, height, width)
        rows = network(x).shape[1]
        # Each band with one instruction set and number of threads, all of them in turn.
        turns = [(SUPPORTED[(b + number) % len(SUPPORTED)], 1 + b % 3, b) for b in range(1, rows + 2)]
        spread.append(require_same(network, x, turns).unique().numel())
    assert sum(values > 3 for values in spread) > 4


@pytest.mark.parametrize("name", [name for name in LAYERS if LAYERS[name][1] > 1])
def test_threads_that_make_strips_of_their_own_give_the_same_integers(name):
    """Three layers, so that strips read beyond their rows; where sizes stay, a sum reads what the first one gave."""
    kind, side, inputs, _ = LAYERS[name]
    spread = []
    for height in (33, 64, 111):
        draw = Draw(np.random.default_rng([side, height]))
        entry = draw.requantiser(inputs, 13, np.full(inputs, 20000.0))
        shapes, steps, reads = [Shape(inputs, 13)], [], [(0,), (1,), (2,)]
        for number, own in enumerate((PLAIN, kind, PLAIN)):
            steps.append(draw.layer(shapes[-1], 20, own, side, wide=number > 0, reflect=number == 2))
            shapes.append(steps[-1].shape(shapes[-1]))
        if kind is PLAIN:
            steps.append(draw.sum(shapes[1], shapes[3]))
            reads.append((1, 3))
        network = Network(tuple(steps), tuple(reads), entry)
        engine, x = engine_of(network), as_input(network, draw.input(network, height, 9))
        want = engine.run(x, threads=1)
        spread.append(np.unique(want).size)
        for threads in (2, 3, 4, 9):
            assert np.array_equal(engine.run(x, threads=threads), want)
    assert max(spread) > 10


@pytest.mark.parametrize("side", [1, 3, 5, 9])
@pytest.mark.parametrize("channels", [1, 16, 33])
def test_depthwise_layers_and_products_are_the_same_at_every_height_of_a_band(side, channels):
    """A product of a depthwise layer's outputs and inputs, as gated units have it; inputs at their ends, too."""
    spread = []
    for number, extreme in enumerate((False, False, True)):
        draw = Draw(np.random.default_rng([side, channels, number]), extreme)
        entry = draw.requantiser(channels, 14, np.full(channels, 20000.0))
        curve = (None, Curve.GELU, Curve.SILU)[number]
        step = draw.depthwise(Shape(channels, 14), side, 14, curve, wide=number > 0)
        product = draw.product(step.shape(Shape(channels, 14)), Shape(channels, 14))
        network = Network((step, product), ((0,), (1, 0)), entry)
        assert isinstance(Network.from_arrays(network.to_arrays("n"), "n").steps[0], DepthwiseStep)
        x = draw.input(network, 9, 7 + number)
        turns = [(SUPPORTED[b % len(SUPPORTED)], 1 + b % 3, b) for b in range(1, 11)]
        spread.append(require_same(network, x, turns).unique().numel())
    assert max(spread) > 10


def test_depthwise_sums_as_large_as_they_may_be_are_exact():
    channels, limit = 5, largest(16)
    each, more = divmod(INT32 // limit, 9)
    weight = np.full((channels, 1, 3, 3), each, np.int16)
    weight[:, 0, 1, 1] += more
    bias = np.full(channels, INT32 - INT32 // limit * limit, np.int32)
    same = Requantiser.from_factors(np.full(channels, 2.0**-16), 16)
    step = DepthwiseStep(Layer(weight, bias, same, PLAIN, channels, input_bits=16))
    network = chain([step], Requantiser.from_factors(np.ones(channels), 16))
    assert int(step.layer.accumulate(torch.full((channels, 3, 3), limit)).max()) == INT32
    for x in (LATENT_LIMIT, -LATENT_LIMIT):
        require_same(network, torch.full((channels, 4, 5), x), [(isa, 1, 0) for isa in SUPPORTED])
    over = replace(step.layer, bias=bias + 1)
    with pytest.raises(ValueError, match="leave int32"):
        chain([DepthwiseStep(over)], Requantiser.from_factors(np.ones(channels), 16))
    arrays = network.to_arrays("n")
    with pytest.raises(ValueError, match=r"n\.0"):
        TransformEngine("n", {**arrays, "n.0.bias": over.bias})


def tight(kind: Kind, side: int, inputs: int, outputs: int, most: int, limit: int) -> np.ndarray:
    """int16 weights [outputs, inputs, side, side] whose sums of magnitudes over what one output sees, times ``limit``,
    come as near to ``most`` as they can."""
    rng = np.random.default_rng(side * outputs)
    out = np.zeros((outputs, inputs, side * side), np.int64)
    groups = [(taps, most) for taps, _ in phases(kind, side)] if kind.transposed else [(np.arange(side * side), most)]
    if kind.transposed and most > WINOGRAD:  # all phases together must not leave int32
        groups = [(taps, most if phase == 3 else (INT32 - most) // 3) for phase, (taps, _) in enumerate(groups)]
    for taps, reach in groups:
        places = inputs * len(taps)
        each, more = divmod(reach // limit, places)
        sums = np.full(places, each)
        sums[:more] += 1
        out[:, :, taps] = (rng.permuted(np.tile(sums, (outputs, 1)), axis=1)).reshape(outputs, inputs, len(taps))
    return out.reshape(outputs, inputs, side, side) * rng.choice([-1, 1], (outputs, inputs, side, side))


@pytest.mark.parametrize("bits", [9, 14, 16])
@pytest.mark.parametrize("most", [WINOGRAD, WINOGRAD + 1 + (1 << 16), INT32])
@pytest.mark.parametrize(
    ("kind", "outputs"), [(PLAIN, 17), (PLAIN, 2), (HALVED, 3), (TRANSPOSED, 9), (TRANSPOSED, 3), (SHUFFLED, 2)]
)
def test_sums_as_large_as_they_may_be_are_exact(kind, outputs, most, bits):
    """Inputs at their limit with the signs of one output's weights, so that its sum is the bound; and all others."""
    limit, inputs, out = largest(bits), 64, outputs * kind.cells
    for side in (3, 5):
        w = tight(kind, side, inputs, out, most, limit)
        if np.abs(w).max() > 32767:
            continue  # few inputs of few bits cannot reach it
        stored = np.ascontiguousarray(w.swapaxes(0, 1) if kind.transposed else w).astype(np.int16)
        left = INT32 - np.abs(w).sum((1, 2, 3)) * limit
        same = Requantiser.from_factors(np.full(out, 2.0**-5), 27)  # sums of 31 bits are seen whole but for 5
        network = chain(
            [LayerStep(Layer(stored, (left * np.where(np.arange(out) % 2, -1, 1)).astype(np.int32), same, kind,
                             input_bits=bits))],
            Requantiser.from_factors(np.ones(inputs), bits),
        )  # fmt: skip
        spread = np.zeros((inputs, 9, 9), np.int64)  # around (4, 4)
        taps = [i for i in range(side) if not kind.transposed or (1 + side // 2 - i) % 2 == 0]
        seen = [4 + ((1 + side // 2 - i) // 2 if kind.transposed else i - side // 2) for i in taps]
        spread[np.ix_(range(inputs), seen, seen)] = np.sign(w[0][:, taps][:, :, taps]) * limit
        sums = network.steps[0].layer.accumulate(torch.from_numpy(spread))[0] - left[0]
        reach = np.abs(w[0][:, taps][:, :, taps]).sum() * limit
        assert int(sums.max()) == reach and most - limit < reach <= most
        for x in (spread, -spread, np.full_like(spread, limit), np.full_like(spread, -LATENT_LIMIT)):
            require_same(network, torch.from_numpy(x), [(isa, 1, 0) for isa in SUPPORTED])


@pytest.mark.parametrize("inputs", [3, 16])
def test_maps_of_halves_that_are_doubled_again_join_with_others_in_any_order(inputs):
    """A tree over halves and quarters, whose rows are needed long after they are made."""
    rng = np.random.default_rng(inputs)
    draw = Draw(rng)
    shapes, steps, reads = [Shape(inputs, 14)], [], []

    def add(step, *of):
        steps.append(step)
        reads.append(of)
        shapes.append(step.shape(*(shapes[k] for k in of)))
        return len(shapes) - 1

    half = add(draw.layer(shapes[0], 16, HALVED, 5), 0)
    other = add(draw.layer(shapes[0], 16, HALVED, 3, curve=Curve.SILU), 0)
    quarter = add(draw.layer(shapes[half], 40, HALVED, 3, wide=True), half)
    far = add(draw.norm(shapes[quarter]), quarter)
    small = add(draw.layer(shapes[far], 40, PLAIN, 7, 13), far)
    gated = add(GateStep(draw.exponents(40)), far, small)
    back = add(draw.layer(shapes[gated], 16, TRANSPOSED, 5), gated)
    again = add(draw.layer(shapes[add(draw.sum(shapes[half], shapes[other]), half, other)], 8, HALVED), len(shapes) - 1)
    up = add(draw.layer(shapes[again], 16, SHUFFLED, 3), again)
    joined = add(draw.sum(shapes[up], shapes[back]), up, back)
    bent = add(CurveStep(Curve.GELU, draw.exponents(16)), joined) if shapes[joined].bits <= 14 else joined
    add(draw.layer(shapes[bent], 3, TRANSPOSED, 5, 9, rectified=True), bent)
    network = Network(tuple(steps), tuple(reads), draw.requantiser(inputs, 14, np.full(inputs, 20000.0)))
    for height, width in ((1, 1), (4, 8), (13, 9), (36, 20), (150, 6)):
        x = draw.input(network, height, width)
        if height % 4:
            assert network(x).shape[1:] == (4 * -(-height // 4), 4 * -(-width // 4))
        bands = [(SUPPORTED[b % len(SUPPORTED)], 1 + b % 3, b) for b in (1, 2, 3, 4, 5, 8, 31)]
        require_same(network, x, [*bands, *((SUPPORTED[-1], threads, 0) for threads in (1, 2, 3, 7))])


# ---- ends


def ended(seed: int = 1, last: str = "latents", outputs: int = 17) -> tuple[Draw, Network]:
    """From latents over two layers, whose ends may change."""
    draw = Draw(np.random.default_rng(seed))
    bits = {"latents": 27, "pixels": 9}[last]
    first = draw.layer(Shape(5, 13), 16, TRANSPOSED, 5)
    second = draw.layer(first.shape(Shape(5, 13)), outputs, PLAIN, 3, bits, rectified=last == "pixels")
    return draw, chain([first, second], draw.requantiser(5, 13, np.full(5, 20000.0)))


def test_other_ends_are_those_of_another_network_with_the_same_weights():
    draw, network = ended()
    exit_, entry = draw.requantiser(17, 27, np.full(17, 2.0**20)), draw.requantiser(5, 13, np.full(5, 90000.0))
    last = network.steps[-1]
    other = replace(
        network,
        steps=(network.steps[0], LayerStep(replace(last.layer, requantiser=exit_))),
        entry=entry,
    )
    x = draw.input(network, 7, 5)
    base, array = engine_of(network), as_input(network, x)
    varied = base.vary({**entry.to_arrays("n.entry"), **exit_.to_arrays("n.exit")})
    for engine in (varied, pickle.loads(pickle.dumps(varied))):
        assert np.array_equal(engine.run(array), other(x).numpy())
    assert not np.array_equal(other(x).numpy(), network(x).numpy())
    assert np.array_equal(base.run(array), network(x).numpy())
    for wrong, why in (
        (replace(entry, bits=12).to_arrays("n.entry"), "n.entry.*other bits"),
        (replace(exit_, bits=26).to_arrays("n.exit"), "n.exit.bits"),
        (draw.requantiser(6, 13, np.ones(6)).to_arrays("n.entry"), "n.entry.*serves 6 channels"),
        (draw.requantiser(16, 27, np.ones(16)).to_arrays("n.exit"), "n.exit.*serves 16 channels"),
        ({"n.exit.multiplier": exit_.multiplier}, "n.exit.*missing"),
        ({"n.1.bias": last.layer.bias}, "n.1.bias"),
    ):
        with pytest.raises(ValueError, match=why):
            base.vary(wrong)


@pytest.mark.parametrize(("last", "outputs"), [("pixels", 3), ("latents", 3), ("latents", 40)])
def test_a_part_of_the_output_is_cut_from_the_whole(last, outputs):
    draw, network = ended(2, last, outputs)
    x = draw.input(network, 6, 5)
    engine, array = engine_of(network), as_input(network, x)
    whole = engine.run(array)
    assert whole.dtype == (np.uint8 if last == "pixels" else np.int32) and whole.shape == (outputs, 12, 10)
    for size in ((1, 1), (12, 10), (7, 3), (1, 10), (12, 1)):
        for band in (0, 1, 5):
            assert np.array_equal(engine.run(array, size, 2, band), whole[:, : size[0], : size[1]])
    for size in ((13, 10), (12, 11), (2**39, 2**39)):
        with pytest.raises(ValueError, match="12 x 10"):
            engine.run(array, size)


def test_inputs_beyond_what_latents_hold_are_requantised_as_they_are():
    """Not an int32 is refused by the engine, nor does it overflow: the reference alone asks for latents."""
    network = ended(3)[1]
    edges = np.array([-(2**31), 2**31 - 1], np.int64)
    x = torch.from_numpy(np.random.default_rng(1).choice(edges, (5, 4, 4)))
    assert network.entry is not None
    values = network.entry(x.permute(1, 2, 0)).permute(2, 0, 1)
    for step in network.steps:
        values = step(network.curves, values)
    for isa in SUPPORTED:
        with instruction_set(isa):
            assert np.array_equal(engine_of(network).run(as_input(network, x)), values.numpy())


def test_means_of_rows_whose_sums_leave_int32_are_exact():
    mean = MapMeanStep(16, Factors.nearest(np.array([1.0, 0.5, 1.0])))
    network = Network((mean,), ((0,),), Requantiser.from_factors(np.ones(3), 16))
    x = torch.full((3, 2, 2**16 + 3), largest(16))
    x[2] *= -1
    out = require_same(network, x, [(isa, 1, 0) for isa in SUPPORTED])
    assert out[:, 0, 0].tolist() == [largest(16), largest(16) // 2 + 1, -largest(16)]


@pytest.mark.parametrize("least", [33, 32], ids=["high halves of products", "whole products"])
def test_rounding_is_exact_wherever_a_product_is_cut(least):
    """Shifts from ``least`` on, but for channels that are zero; accumulators of all sizes, and at every tie."""
    rng = np.random.default_rng(least)
    multipliers = np.array([2**30, 2**30 - 1, 2**29, 1, -(2**30), -3, 0], np.int32)
    shifts = np.array([least, least + 1, 40, 48, 61, 62], np.uint8)
    multiplier, shift = (own.ravel() for own in np.meshgrid(multipliers, shifts))
    shift[multiplier == 0] = 1
    channels, size = len(shift), 300
    x = rng.integers(-(2**31), 2**31, (channels, size))
    x[:, :100] >>= rng.integers(0, 31, (channels, 100))
    x[:, 100:104] = -(2**31), 2**31 - 1, -1, 0
    for c in np.flatnonzero(multiplier == 2**30):  # x * 2^30 + 2^(shift - 1) is a multiple of 2^shift
        step = 2 ** max(int(shift[c]) - 30, 1)
        ties = rng.integers(-(2**30) // step, 2**30 // step, 60) * step + step // 2
        x[c, 110:290] = np.concatenate([ties - 1, ties, ties + 1]).clip(-(2**31), 2**31 - 1)
    same = SumStep(14, 16, np.full(channels, 2**14, np.int16), np.zeros(channels, np.int16))
    for bits, slope in ((16, 1), (9, -1)):
        entry = Requantiser(multiplier, (slope * multiplier).astype(np.int32), shift, bits)
        network = Network((same,), ((0, 0),), entry)
        product = x.astype(object) * np.where(x >= 0, multiplier[:, None], slope * multiplier[:, None])
        exact = (product + (1 << (shift.astype(object)[:, None] - 1))) // (1 << shift.astype(object)[:, None])
        want = np.clip(exact.astype(np.float64), -largest(bits), largest(bits)).astype(np.int64)
        for isa in SUPPORTED:
            with instruction_set(isa):
                got = engine_of(network).run(x.astype(np.int32)[:, :, None])[:, :, 0]
            assert np.array_equal(got, want), isa


# ---- what is refused


def doublings(count: int) -> Network:
    w = np.ones((4, 1, 1, 1), np.int8)
    steps = [
        LayerStep(Layer(w, np.zeros(4, np.int32), Requantiser.from_factors(np.ones(4), 9), SHUFFLED, input_bits=9))
    ]
    return chain(steps * count)


@pytest.mark.parametrize("count", [20, 40, 62, 63, 64, 65, 200])
def test_maps_larger_than_any_memory_are_refused_before_one_is_made(count):
    """64 doublings are a factor of 2^64: sizes must not come round to 0."""
    with pytest.raises((ValueError, MemoryError)):
        engine_of(doublings(count)).run(np.zeros((1, 3, 2), np.uint8))


def test_networks_join_maps_of_one_size_only():
    draw = Draw(np.random.default_rng(1))
    down, up = draw.layer(Shape(1, 9), 16, HALVED), draw.layer(Shape(16, 14), 16, SHUFFLED, bits=14)
    join = draw.layer(Shape(1, 9), 16, PLAIN)
    arrays = chain([down, up]).to_arrays("n") | join.to_arrays("n.2") | {"n.2.from": np.array([0], np.int32)}
    arrays |= SumStep(12, 14, np.ones(16, np.int16), np.ones(16, np.int16)).to_arrays("n.3")
    arrays["n.3.from"] = np.array([2, 3], np.int32)
    engine = TransformEngine("n", arrays)
    assert engine.run(np.zeros((1, 4, 6), np.uint8)).shape == (16, 4, 6)
    for size in ((1, 3, 6), (1, 4, 5)):
        with pytest.raises(ValueError, match="different sizes"):
            engine.run(np.zeros(size, np.uint8))


def changed(rng: np.random.Generator, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With one array less, or shorter, or of another shape, or with another number."""
    key = sorted(arrays)[int(rng.integers(len(arrays)))]
    array, edges = arrays[key].copy(), [0, 1, 2, 3, 4, 8, 15, 16, 17, 27, 28, 30, 31, 62, 63, 2**24, 2**30]
    match int(rng.integers(5)):
        case 0:
            return {name: own for name, own in arrays.items() if name != key}
        case 1 if not key.endswith("geometry"):  # the reference reads three numbers, too
            array = array.ravel()[: int(rng.integers(array.size))]
        case 2 if array.ndim > 1 or not key.endswith(("bits", "curve", "geometry")):  # of which it reads the first
            array = np.repeat(array, 2, int(rng.integers(array.ndim)))
        case _ if array.size:
            info = np.iinfo(array.dtype)
            value = int(rng.choice([int(info.min), int(info.max), *edges]))
            array.ravel()[int(rng.integers(array.size))] = min(max(value, info.min), info.max)
    return {**arrays, key: np.ascontiguousarray(array)}


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(40))
def test_reference_and_engine_refuse_the_same_arrays(seed):
    rng = np.random.default_rng([seed, 5])
    draw = Draw(rng, extreme=seed % 2 == 1)
    network = draw.network(int(rng.integers(0, 5)), bool(rng.integers(2)), "activations")
    x = draw.input(network, 6, 5)
    for _ in range(12):
        arrays = changed(rng, network.to_arrays("n"))
        try:
            accepted = Network.from_arrays(arrays, "n")
        except (ValueError, KeyError) as error:
            if "multipliers have 30 bits" not in str(error):  # engines take those of 32
                with pytest.raises(ValueError, match=r"'n\."):
                    TransformEngine("n", arrays)
        else:
            if (accepted.entry is None) == (network.entry is None) and accepted.shapes[0] == network.shapes[0]:
                require_same(accepted, x, [(SUPPORTED[-1], 1, 2)])


def damaged(name: str, index: int, value: int) -> dict[str, np.ndarray]:
    arrays = ended()[1].to_arrays("n")
    arrays[name].ravel()[index] = value
    return arrays


def without_inputs() -> dict[str, np.ndarray]:
    arrays = chain([Draw(np.random.default_rng(1)).layer(Shape(1, 9), 4)]).to_arrays("n")
    return {**arrays, "n.0.weight": arrays["n.0.weight"][:, :0].copy()}


def turned() -> dict[str, np.ndarray]:
    arrays = damaged("n.0.geometry", 0, 1)
    assert arrays["n.0.geometry"].tolist()[:2] == [1, 1]
    return arrays


def bent(curve: Curve) -> Network:
    """A curve first, then layers."""
    draw, network = ended()
    steps = (CurveStep(curve, draw.exponents(5)), *network.steps)
    return replace(network, steps=steps, reads=((0,), (1,), (2,)))


def curved(number: int) -> dict[str, np.ndarray]:
    return {**bent(Curve.GELU).to_arrays("n"), "n.0.step": np.array([4, number], np.uint8)}


def entered(lacks: str) -> dict[str, np.ndarray]:
    return {name: array for name, array in ended()[1].to_arrays("n").items() if name != f"n.entry.{lacks}"}


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        (without_inputs(), "n.0.*channels"),
        (turned(), "n.0.*stride"),
        (damaged("n.0.geometry", 1, 255), "n.0"),
        (damaged("n.0.from", 0, 1), "n"),
        (curved(2), "n.0"),
        *((entered(name), f"n.entry.{name}") for name in ("multiplier", "negative", "shift", "bits")),
    ],
)
def test_arrays_that_mean_nothing_are_refused_by_both(arrays, fault):
    with pytest.raises(ValueError, match=fault):
        TransformEngine("n", arrays)
    with pytest.raises((ValueError, KeyError)):
        Network.from_arrays(arrays, "n")


def test_networks_of_latents_may_begin_with_any_step():
    for curve in Curve:
        network, draw = bent(curve), Draw(np.random.default_rng(1))
        require_same(network, draw.input(network, 5, 6), [(isa, 2, 3) for isa in SUPPORTED])
