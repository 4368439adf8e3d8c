"""Layer norms and attention within windows: as their formulas say, as one engine, whole in storage, close to floats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlic.integers.conversion import Precision, calibrated, convert, layer_norm_step
from fastlic.integers.fixed import Requantiser, largest
from fastlic.integers.functions import Curve, Curves, powers_of_two
from fastlic.integers.graph import Bend, Graph, LayerNorm, MapMean, Product, Softmax, Stage, Sum, WindowAttention
from fastlic.integers.layer import HALVED
from fastlic.integers.network import Network
from fastlic.integers.shapes import Factors, Shape
from fastlic.integers.windows import SCORES, LayerNormStep, WindowStep, places
from fastlic.ops.transforms import TransformEngine

from .made_networks import Draw, chain
from .test_network_engine import SUPPORTED, require_same

CURVES = Curves({curve: curve.tail() for curve in Curve})


def maps(shape: tuple[int, ...], bits: int, seed: int) -> torch.Tensor:
    limit = largest(bits)
    return torch.randint(-limit, limit + 1, shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def floats_of(factors: Factors) -> np.ndarray:
    return factors.multiplier.astype(np.float32) * np.float32(2.0) ** -factors.shift.astype(np.float32)


def test_softmax_and_means_of_maps_are_their_formulas_one_rounded_operation_at_a_time():
    draw, one = Draw(np.random.default_rng(3)), np.float32
    x = maps((12, 3, 4), 14, 1)
    x[:, 0, 0] = 5  # all weights alike
    softmax, mean = draw.softmax(Shape(12, 14)), draw.map_mean(Shape(12, 14))
    sharpness, factor, powers = floats_of(softmax.sharpness), floats_of(softmax.factor), powers_of_two().tolist()
    got, each = softmax(CURVES, x), 12 // softmax.groups
    for g, r, c in np.ndindex(softmax.groups, 3, 4):
        scores = x[g * each : (g + 1) * each, r, c].tolist()
        weights = []
        for score in scores:
            d = int(np.rint(min(one(max(scores) - score) * sharpness[g], one(32767))))
            line = (d & 2047) >> 5
            along = powers[line] - (((powers[line] - powers[line + 1]) * ((d & 31) << 10) + (1 << 14)) >> 15)
            weights.append((along * (1 << (15 - (d >> 11))) + (1 << 14)) >> 15)
        inverse = one(1) / one(sum(weights))
        for k, weight in enumerate(weights):
            own = one(weight) * inverse * factor[g * each + k]
            assert got[g * each + k, r, c] == int(np.rint(min(own, one(largest(softmax.bits)))))
    factor, got = floats_of(mean.factor), mean(CURVES, x)
    for k in range(12):
        own = one(int(x[k].sum()) / 12) * factor[k]
        assert (got[k] == int(np.rint(np.clip(own, -largest(mean.bits), largest(mean.bits))))).all()


@pytest.mark.parametrize("channels", [1, 33, 48])
def test_softmax_and_means_of_maps_are_the_same_at_every_height_of_a_band(channels):
    """Behind a layer that halves a map, so that rows come late; inputs at their ends, too."""
    for number, extreme in enumerate((False, True)):
        draw = Draw(np.random.default_rng([channels, number]), extreme)
        entry = draw.requantiser(5, 14, np.full(5, 20000.0))
        steps = [draw.layer(Shape(5, 14), channels, HALVED)]
        shape = steps[0].shape(Shape(5, 14))
        steps += [draw.softmax(shape), draw.map_mean(shape)]
        shapes = [step.shape(shape) for step in steps[1:]]
        steps.append(draw.product(*shapes))
        network = Network(tuple(steps), ((0,), (1,), (1,), (2, 3)), entry)
        turns = [(SUPPORTED[b % len(SUPPORTED)], 1 + b % 3, b) for b in range(8)]
        require_same(network, draw.input(network, 9 + number, 14), turns)


@torch.no_grad()
def test_softmax_and_means_of_maps_come_close_to_floats():
    torch.manual_seed(0)
    graph = Graph()
    scores = graph.hold(graph.trace(nn.Conv2d(3, 24, 1), 0, "scores"))
    weights = graph.add(Softmax(3), scores)
    pooled = graph.add(MapMean(), graph.trace(nn.Conv2d(3, 24, 3, padding=1), 0, "map"))
    graph.trace(nn.Conv2d(24, 8, 1), graph.add(Product(), weights, pooled), "last")
    for own in graph.operations:
        if isinstance(own, Stage):
            own.weight.mul_(6)
    x = (torch.rand(1, 3, 20, 30) * 255).round() / 255
    want = graph.run(x)[0]
    network = convert(graph, calibrated(graph, [x]), Precision(), finest=None, pixels_out=False)
    got = network((x[0] * 255).round().long()) / 64
    assert (got - want).abs().max() < 0.02 + 0.01 * want.abs().max() and want.std() > 0.2


# ---- by their formulas, in Python's integers and numpy's single operations


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(("channels", "bits"), [(1, 16), (7, 14), (40, 9), (97, 14)])
def test_layer_norms_are_their_formula_one_rounded_operation_at_a_time(channels, bits, extreme):
    step = Draw(np.random.default_rng(channels), extreme).layer_norm(Shape(channels, bits))
    x = maps((channels, 3, 4), bits, channels)
    x[:, 0, 0], x[:, 0, 1] = 0, largest(bits)
    got = step(CURVES, x).numpy()
    scale, factor, one = floats_of(step.scale), floats_of(step.factor), np.float32
    for r, c in np.ndindex(3, 4):
        row = [int(v) for v in x[:, r, c]]
        even = [
            ((v << (16 - step.input_bits)) * int(w) + (1 << 14)) >> 15 for v, w in zip(row, step.weight, strict=True)
        ]
        squares = channels * sum(v * v for v in even) - sum(even) ** 2 + (int(step.epsilon[0]) << int(step.epsilon[1]))
        assert max(map(abs, even)) <= 32767 and 0 < squares < 2**62
        mean, rate = one(sum(even) / channels), one(channels / np.sqrt(float(squares)))
        for k, v in enumerate(row):
            y = (one(v) * scale[k] - mean) * rate * factor[k] + one(step.bias[k]) / one(256)
            limit = largest(step.bits)
            assert got[k, r, c] == int(np.rint(min(max(y, one(-limit)), one(limit)))), (k, r, c)


def test_weights_of_windows_are_powers_of_two_along_their_lines():
    d = torch.arange(32768)
    got = CURVES.weights(d)
    assert int(got[0]) == 1 << 14 and int(got[-1]) == 0 and bool((got.diff() <= 0).all())
    assert (got - 2.0 ** (14 - d.double() / 2048)).abs().max() < 1.5
    lines = powers_of_two()
    for distance in (0, 1, 31, 32, 2047, 2048, 5000, 22527, 30720, 32767):
        whole, fine = divmod(distance, 2048)
        line, part = divmod(fine, 32)
        along = int(lines[line]) - ((int(lines[line] - lines[line + 1]) * (part << 10) + (1 << 14)) >> 15)
        assert int(got[distance]) == ((along << (15 - whole)) + (1 << 14)) >> 15


def by_formula(step: WindowStep, x: np.ndarray, row: int, column: int) -> list[int]:
    """One position's outputs, key by key."""
    channels, dims, p, one = len(x) // 3, len(x) // 3 // step.heads, step.size, np.float32
    start = [(at - step.offset) // p * p + step.offset for at in (row, column)]
    keys = [
        (r, c) for r in range(start[0], start[0] + p) for c in range(start[1], start[1] + p)
        if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]
    ]  # fmt: skip
    sharpness, factor, out = floats_of(step.sharpness), floats_of(step.factor), []
    for head in range(step.heads):
        own = slice(head * dims, (head + 1) * dims)
        query = [int(v) for v in x[own, row, column]]
        sums = []
        for r, c in keys:
            key = [int(v) for v in x[channels:][own, r, c]]
            place = (row - r + p - 1) * (2 * p - 1) + column - c + p - 1
            sums.append(int(step.bias[head, place]) + sum(a * b for a, b in zip(query, key, strict=True)))
        assert max(map(abs, sums)) <= SCORES
        distances = [min(one(max(sums) - s) * sharpness[head], one(32767)) for s in sums]
        weights = [int(CURVES.weights(torch.tensor(int(np.rint(d))))) for d in distances]
        shift, most = 0, (2**31 - 1) // largest(step.input_bits) - p * p
        while sum(weights) >> shift > most:
            shift += 1
        if shift:
            weights = [(w + (1 << (shift - 1))) >> shift for w in weights]
        inverse = one(1) / one(sum(weights))
        for k in range(head * dims, (head + 1) * dims):
            total = sum(w * int(x[2 * channels + k, r, c]) for w, (r, c) in zip(weights, keys, strict=True))
            assert abs(total) < 2**31
            y, limit = one(total) * inverse * factor[k], largest(step.bits)
            out.append(int(np.rint(min(max(y, one(-limit)), one(limit)))))
    return out


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(
    ("channels", "bits", "size"), [(3, 14, 1), (9, 13, 2), (36, 12, 3), (30, 9, 4), (48, 12, 5), (6, 14, 8)]
)
def test_windows_are_their_formula_one_rounded_operation_at_a_time(channels, bits, size, extreme):
    for turn in range(2):
        rng = np.random.default_rng([channels, size, turn])
        step = Draw(rng, extreme).windows(Shape(channels, bits), [size])
        sides = size * int(rng.integers(1, 3)), size * int(rng.integers(1, 3))
        x = maps((channels, *sides), bits, turn)
        if extreme:
            x = largest(bits) * x.sign()
        got = step(CURVES, x).numpy()
        for _ in range(6):
            row, column = (int(rng.integers(side)) for side in sides)
            assert got[:, row, column].tolist() == by_formula(step, x.numpy(), row, column)


# ---- the engine


def of_one(step: LayerNormStep | WindowStep, channels: int, bits: int) -> Network:
    return chain([step], Requantiser.from_factors(np.full(channels, 1 / 2), bits))


def ways(bands: list[int]) -> list[tuple[str, int, int]]:
    return [(isa, 1 + i % 3, band) for i, band in enumerate(bands) for isa in SUPPORTED]


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 31, 33, 96, 200])
def test_layer_norms_of_engines_are_the_reference_at_every_height_of_a_band(channels, extreme):
    for turn, bits in enumerate((9, 14, 16)):
        draw = Draw(np.random.default_rng([channels, turn]), extreme)
        network = of_one(draw.layer_norm(Shape(channels, bits)), channels, bits)
        for size in ((1, 1), (5, 3), (2, 19)):
            require_same(network, draw.input(network, *size), ways([0, 1, 3]))


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(
    ("channels", "bits", "size"),
    [(3, 14, 1), (6, 14, 2), (9, 13, 3), (72, 12, 4), (99, 12, 5), (24, 13, 7), (72, 13, 8), (288, 12, 8), (18, 9, 16)],
)
def test_windows_of_engines_are_the_reference_at_every_height_of_a_band(channels, bits, size, extreme):
    for turn in range(2 if size < 8 else 1):
        rng = np.random.default_rng([channels, size, turn])
        draw = Draw(rng, extreme)
        network = of_one(draw.windows(Shape(channels, bits), [size]), channels, bits)
        for high, wide in ((1, 1), (2, 1), (3, 2)):
            require_same(
                network, draw.input(network, high * size, wide * size), ways([0, 1, size - 1, size, 2 * size + 1])
            )


def test_maps_that_windows_do_not_fit_are_refused_in_words():
    draw = Draw(np.random.default_rng(1))
    network = of_one(draw.windows(Shape(6, 13), [4]), 6, 13)
    engine = TransformEngine("n", network.to_arrays("n"))
    for size in ((3, 4), (4, 6), (9, 9)):
        x = draw.input(network, *size)
        with pytest.raises(ValueError, match=f"windows of 4 x 4.*multiples of 4, it is {size[0]} x {size[1]}"):
            network(x)
        with pytest.raises(ValueError, match=f"windows of 4 x 4.*multiples of 4, it is {size[0]} x {size[1]}"):
            engine.run(x.int().numpy())


def block(channels: int = 24, heads: int = 3, size: int = 4, offset: int = 2, sharp: float = 1.0) -> Graph:
    """Pixels at half their size through a block as Swin transformers have it."""
    rng = torch.Generator().manual_seed(2)

    def layer(name: str, inputs: int, outputs: int, **how) -> Stage:
        w = torch.randn(outputs, inputs, 1, 1, generator=rng) / inputs**0.5
        return Stage(name, w, 0.1 * torch.randn(outputs, generator=rng), **how)

    def norm() -> LayerNorm:
        return LayerNorm(torch.rand(channels, generator=rng) + 0.5, 0.1 * torch.randn(channels, generator=rng), 1e-5)

    graph = Graph()
    x = graph.hold(graph.add(layer("in", 3, channels), 0))
    qkv = graph.add(layer("qkv", channels, 3 * channels), graph.add(norm(), x))
    bias = torch.randn(heads, 2 * size - 1, 2 * size - 1, generator=rng)
    own = graph.add(WindowAttention(size, offset, heads, sharp * (channels / heads) ** -0.5, sharp * bias), qkv)
    x = graph.add(Sum(), graph.add(layer("proj", channels, channels), own), x)
    inner = graph.add(layer("in", channels, 4 * channels, curve=Curve.GELU), graph.add(norm(), x))
    graph.add(Sum(), graph.add(layer("out", 4 * channels, channels), inner), x)
    graph.end(channels)
    return graph


def pixels(height: int, width: int) -> torch.Tensor:
    """Soft ones."""
    rng = torch.rand(1, 3, height // 4, width // 4, generator=torch.Generator().manual_seed(9))
    return (F.interpolate(rng, scale_factor=4, mode="bicubic").clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize("sharp", [1.0, 6.0])
@pytest.mark.parametrize(("size", "offset"), [(4, 0), (4, 2), (8, 4), (8, 3)])
def test_a_block_of_integers_follows_its_floats(size, offset, sharp):
    """Off by 1.5 thousandths of the outputs' spread, of which the units of latents are most."""
    graph, x = block(size=size, offset=offset, sharp=sharp), pixels(32, 48)
    network = convert(graph, calibrated(graph, [x]), Precision(), finest=None, pixels_out=False, outputs=2.0**-10)
    want, given = graph.run(x)[0], (x[0] * 255).round().long()
    got = network(given)
    assert (got * 2.0**-10 - want).square().mean().sqrt() < 1.5e-3 * want.std()
    require_same(network, given, ways([0, 1, 5]))
    assert torch.equal(Network.from_arrays(network.to_arrays("m"), "m")(given), got)


def test_shifted_windows_are_a_cyclic_shift_with_a_mask():
    """As Swin transformers write it down: rolled, cut into windows, and positions from other edges masked."""
    size, offset, heads, dims = 4, 2, 2, 3
    bias = normal(heads, 7, 7, seed=1)
    for height, width in ((4, 4), (8, 4), (12, 8)):
        x = normal(1, 3 * heads * dims, height, width, seed=2)
        rolled = x.roll((-offset, -offset), (2, 3))
        area = torch.zeros(height, width)
        for k, rows in enumerate((slice(-size, -offset), slice(-offset, None)), 1):
            area[rows] += 3 * k
            area[:, rows] += k
        want = torch.zeros(1, heads * dims, height, width)
        for top in range(0, height, size):
            for left in range(0, width, size):
                at = (slice(None), slice(None), slice(top, top + size), slice(left, left + size))
                q, k, v = rolled[at].reshape(3, heads, dims, -1).transpose(-1, -2)
                own = area[at[2:]].flatten()
                scores = q @ k.mT * dims**-0.5 + bias.flatten(1)[:, places(size)] - 100.0 * (own[:, None] != own)
                want[at] = (scores.softmax(-1) @ v).mT.reshape(1, heads * dims, size, size)
        got = WindowAttention(size, offset, heads, dims**-0.5, bias)(x)
        assert torch.allclose(got, want.roll((offset, offset), (2, 3)), atol=1e-5)


# ---- precision


@pytest.mark.parametrize(("span", "flat"), [(-2.5, 0.02), (-1.5, 0.1), (-2.5, 1.0), (0.0, 0.02)])
def test_layer_norms_lose_no_more_than_the_units_of_what_they_read(span, flat):
    """Channels of very different ranges, and parts of a map where there is little in any."""
    scales = torch.logspace(span, 0, 48)
    x = normal(48, 10, 15, seed=5) * scales[:, None, None]
    x[:, :3] *= flat
    norm = LayerNorm((1 + 0.2 * normal(48, seed=6)) / scales, normal(48, seed=7), 1e-6)
    want = norm(x[None])[0]
    inputs, outputs = (3 * y.abs().flatten(1).amax(1).double().numpy() / largest(14) for y in (x, want))
    step = layer_norm_step(norm, inputs, outputs, 14, 14)
    given = (x / torch.from_numpy(inputs).float()[:, None, None]).round().long()
    rounded = norm((given * torch.from_numpy(inputs)[:, None, None]).float()[None])[0]
    got = step(CURVES, given) * torch.from_numpy(outputs).float()[:, None, None]
    assert (got - rounded).norm() < 1.2 * (want - rounded).norm() + 5e-4 * want.norm()


def test_windows_of_sharp_scores_stay_close_to_floats():
    windows = WindowAttention(8, 4, 2, 0.35, 2 * normal(2, 15, 15, seed=8))
    x = normal(1, 48, 16, 24, seed=9) * torch.rand(48, generator=torch.Generator().manual_seed(1))[:, None, None] * 5
    graph = Graph()
    graph.add(windows, graph.add(Stage("in", torch.eye(48)[:, :, None, None], torch.zeros(48)), 0))
    graph.end(16)
    network = convert(
        graph, calibrated(graph, [x]), Precision(), finest=np.full(48, 2.0**-12), pixels_out=False, inputs=2.0**-12,
        outputs=2.0**-12,
    )  # fmt: skip
    want = graph.run(x)[0]
    got = network((x[0] * 2**12).round().long()) * 2.0**-12
    assert (got - want).square().mean().sqrt() < 3e-3 * want.std()


def test_queries_and_keys_have_as_many_bits_as_their_products_allow():
    for channels, heads, bits in ((24, 3, 14), (96, 3, 13), (96, 1, 12)):
        graph = block(channels, heads)
        made = convert(graph, calibrated(graph, [pixels(16, 16)]), Precision(), finest=None, pixels_out=False)
        step = next(step for step in made.steps if isinstance(step, WindowStep))
        assert step.input_bits == bits
    # Biases far beyond their products leave these coarser units.
    graph = Graph()
    qkv = graph.add(Stage("qkv", 1e-4 * normal(6, 3, 1, 1), torch.zeros(6)), 0)
    graph.add(WindowAttention(2, 0, 1, 1.0, 9 * normal(1, 3, 3)), qkv)
    graph.end(2)
    made = convert(graph, calibrated(graph, [pixels(16, 16)]), Precision(), finest=None, pixels_out=False)
    assert 2**29 < np.abs(made.steps[1].bias).max() <= SCORES


# ---- what is refused


def test_steps_that_could_leave_their_numbers_are_refused():
    draw, entry = Draw(np.random.default_rng(3)), Requantiser.from_factors(np.ones(12), 13)
    norm, windows = draw.layer_norm(Shape(12, 13)), draw.windows(Shape(12, 13), [3])
    for step, why in (
        (replace(norm, weight=-norm.weight), "weight is int16"),
        (replace(norm, weight=norm.weight[:5]), "weight is int16"),
        (replace(norm, epsilon=np.array([0, 3], np.int32)), "epsilon is at least 1"),
        (replace(norm, epsilon=np.array([1, 31], np.int32)), "epsilon is at least 1"),
        (replace(norm, bias=np.full(12, 1 << 24, np.int32)), "bias is int32"),
        (replace(norm, scale=norm.factor), "factors have 24 bits"),
        (replace(norm, scale=replace(norm.scale, shift=np.full(12, 63, np.uint8))), "factors have 24 bits"),
        (replace(norm, input_bits=12), "inputs have 2 to 16 bits"),
        (replace(norm, bits=17), "outputs have 2 to 16 bits"),
        (replace(windows, size=17), "sides of 1 to 16"),
        (replace(windows, offset=3), "sides of 1 to 16"),
        (replace(windows, heads=3), "share queries, keys and values"),
        (replace(windows, heads=0), "share queries, keys and values"),
        (replace(windows, bias=windows.bias[:, 1:]), "bias is int32"),
        (replace(windows, bias=np.full_like(windows.bias, SCORES)), "a score could leave 31 bits"),
        (replace(windows, input_bits=16), "a score could leave 31 bits"),
        (replace(windows, input_bits=12), "inputs have 2 to 16 bits"),
        (replace(windows, factor=norm.factor), "factors are int32 and uint8"),
    ):
        with pytest.raises(ValueError, match=f"step 0: .*{why}"):
            chain([step], entry)
        with pytest.raises(ValueError, match=r"'n\.0"):
            own = chain([norm], entry).to_arrays("n") | step.to_arrays("n.0") | {"n.powers": powers_of_two()}
            TransformEngine("n", own)


def test_what_conversion_cannot_balance_is_refused():
    def of(*operations) -> Graph:
        graph = Graph()
        for operation in operations:
            graph.add(operation, len(graph.operations))
        graph.end(2)
        return graph

    layer = Stage("qkv", normal(6, 3, 1, 1), torch.zeros(6))
    windows = WindowAttention(2, 0, 1, 1.0, torch.zeros(1, 3, 3))
    bent = of(layer, Bend(Curve.GELU), windows)
    twice = of(layer, windows)
    twice.add(replace(windows, scale=0.5), 1)
    twice.end(2)
    x = pixels(8, 8)
    for graph, why in ((bent, "queries and keys"), (twice, "two window attentions")):
        with pytest.raises(ValueError, match=why):
            convert(graph, calibrated(graph, [x]), Precision(), finest=None, pixels_out=False)
    with pytest.raises(ValueError, match="multiples of 2"):
        of(layer, windows).run(torch.zeros(1, 3, 5, 4))


# ---- damaged arrays


def arrays_of_a_block() -> dict[str, np.ndarray]:
    graph = block(12, 2, 2, 1)
    network = convert(graph, calibrated(graph, [pixels(8, 8)]), Precision(), finest=None, pixels_out=False)
    return {key: array for key, array in network.to_arrays("m").items() if key != "m.units"}


ARRAYS = arrays_of_a_block()
OWN = sorted(k for k in ARRAYS if k.startswith(("m.1.", "m.3.")) or k == "m.powers")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_arrays_are_refused_or_make_a_network_that_runs_in_bounds(data):
    key = data.draw(st.sampled_from(OWN))
    array = ARRAYS[key].copy()
    info = np.iinfo(array.dtype)
    array.reshape(-1)[data.draw(st.integers(0, array.size - 1))] = data.draw(st.integers(int(info.min), int(info.max)))
    arrays = {**ARRAYS, key: array}
    try:
        network = Network.from_arrays(arrays, "m")
    except (ValueError, KeyError):
        with pytest.raises(ValueError, match=r"'m\."):
            TransformEngine("m", arrays)
        return
    x = torch.randint(0, 256, (3, 6, 4), generator=torch.Generator().manual_seed(1))
    for value, shape in zip(network.values(x) if network.steps[3].size in (1, 2) else [], network.shapes, strict=False):
        assert int(value.abs().max()) <= shape.limit
    require_same(network, x, [(SUPPORTED[-1], 1, 2), (SUPPORTED[0], 1, 0)])


@pytest.mark.parametrize("key", OWN)
def test_arrays_of_other_dimensions_or_none_are_refused(key):
    array = ARRAYS[key]
    for other in (array[None], array[:0], array.reshape(-1)[0], array.astype(np.float64)[None], None):
        if other is None and key.endswith(".step"):
            continue  # where a network ends
        arrays = {k: v for k, v in {**ARRAYS, key: other}.items() if v is not None}
        with pytest.raises((ValueError, KeyError)):
            Network.from_arrays(arrays, "m")
