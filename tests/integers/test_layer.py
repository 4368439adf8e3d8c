"""Integer layers of every kind: exact sums, proven bounds, close to their float layers, and stored whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from fastlic.integers.functions import Tables
from fastlic.integers.layer import HALVED, PLAIN, SHUFFLED, TRANSPOSED, TURNED, Kind, Layer
from fastlic.integers.layouts import KINDS, MATRICES, STRIDES

TABLES = Tables.make()
C, OUT = 6, 8

# name -> (kind, float module, options of Layer.from_float and of the activation behind it)
CASES = {
    "3x3": (PLAIN, lambda: nn.Conv2d(C, OUT, 3, padding=1), {}),
    "1x1": (PLAIN, lambda: nn.Conv2d(C, OUT, 1), {}),
    "1x1, wide inputs": (PLAIN, lambda: nn.Conv2d(C, OUT, 1), {"input_bits": 14}),
    "3x3, leaky ReLU": (PLAIN, lambda: nn.Conv2d(C, OUT, 3, padding=1), {"slope": 0.01}),
    "3x3, ReLU": (PLAIN, lambda: nn.Conv2d(C, OUT, 3, padding=1), {"slope": 0.0}),
    "3x3, GELU": (PLAIN, lambda: nn.Conv2d(C, OUT, 3, padding=1), {"gelu": True}),
    "depthwise": (PLAIN, lambda: nn.Conv2d(OUT, OUT, 3, padding=1, groups=OUT), {"groups": OUT}),
    "halved": (HALVED, lambda: nn.Conv2d(C, OUT, 5, 2, padding=2), {}),
    "transposed": (TRANSPOSED, lambda: nn.ConvTranspose2d(C, OUT, 5, 2, 2, 1), {"slope": 0.2}),
    "turned": (TURNED, lambda: nn.ConvTranspose2d(C, OUT, 3, 1, 1), {}),
    "shuffled": (SHUFFLED, lambda: nn.Conv2d(C, OUT, 3, padding=1), {"slope": 0.01}),
    "shuffled, GELU": (SHUFFLED, lambda: nn.Conv2d(C, OUT, 3, padding=1), {"gelu": True}),
    "linear": (PLAIN, lambda: nn.Linear(C, OUT), {}),
    "12-bit weights": (PLAIN, lambda: nn.Conv2d(C, OUT, 5, padding=2), {"weight_bits": 12}),
}
INPUT, OUTPUT = 2.0**-10, 2.0**-9


def made(name: str) -> tuple[nn.Module, Layer]:
    kind, module, how = CASES[name]
    torch.manual_seed(1)
    module, how = module(), dict(how)
    if how.pop("gelu", False):
        how["exponents"] = np.full(OUT, 9, np.uint8)
    inputs = np.full(module.weight.shape[1 if kind in (PLAIN, HALVED, SHUFFLED) else 0] * how.get("groups", 1), INPUT)
    return module, Layer.from_float(module.weight, module.bias, inputs, np.full(OUT, OUTPUT), kind=kind, **how)


def planes(layer: Layer, seed: int, limit: int = 2047) -> torch.Tensor:
    inputs = layer.weight.shape[0 if layer.kind.transposed else 1] * layer.groups
    return torch.randint(-limit, limit + 1, (inputs, 5, 7), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", CASES)
def test_a_layer_stays_within_quantisation_error_of_its_float_twin(name):
    module, layer = made(name)
    kind, _, how = CASES[name]
    x = planes(layer, 1, 500)
    real = x.double() * INPUT
    with torch.no_grad():
        if isinstance(module, nn.Linear):
            want = module.double()(real.permute(1, 2, 0)).permute(2, 0, 1)
        else:
            want = module.double()(real[None])[0]
    want = F.gelu(want) if how.get("gelu") else F.leaky_relu(want, how.get("slope", 1.0))
    want = F.pixel_shuffle(want, 2) if kind is SHUFFLED else want
    got = layer(x, TABLES).double() * OUTPUT
    assert got.shape == want.shape
    # Each weight is off by half a step of its row at most; inputs are below 1/2, outputs off by half a unit; GELU by 1.
    steps = 2 ** (how.get("weight_bits", 8) - 1) - 1
    bound = module.weight[0].numel() * (OUT if kind.transposed else 1) * module.weight.abs().max().item() / steps / 4
    assert (got - want).abs().max() <= bound + 2 * OUTPUT


def exact(layer: Layer, x: torch.Tensor) -> np.ndarray:
    """Accumulators in Python's unbounded integers. A transposed layer is a plain one over inputs with zeros between."""
    weight, values, stride = layer.weight.astype(object), x.numpy().astype(object), layer.kind.stride
    if layer.kind.transposed:
        between = np.zeros((len(values), *(stride * n for n in values.shape[1:])), object)
        between[:, ::stride, ::stride] = values
        weight, values, stride = weight.swapaxes(0, 1)[:, :, ::-1, ::-1], between, 1
    reach, (_, height, width) = weight.shape[-1] // 2, values.shape
    padded = np.pad(values, ((0, 0), (reach, reach), (reach, reach)))
    sums = layer.bias.astype(object)[:, None, None]
    for i, j in np.ndindex(weight.shape[2:]):
        taken = padded[:, i : i + height : stride, j : j + width : stride]
        taps = weight[:, :, i, j]
        sums = sums + (taps[:, :, None] * taken if layer.groups > 1 else np.tensordot(taps, taken, 1))
    return sums


@pytest.mark.parametrize("name", CASES)
def test_accumulators_are_exact_integer_sums(name):
    _, layer = made(name)
    x = planes(layer, 2, 2 ** (layer.input_bits - 1) - 1)
    assert layer.accumulate(x).tolist() == exact(layer, x).tolist()


@pytest.mark.parametrize("weight_bits", [8, 10, 12])
@pytest.mark.parametrize("input_bits", [8, 12, 14])
def test_no_input_of_its_width_takes_a_sum_out_of_int32_or_the_layer_is_refused(input_bits, weight_bits):
    """The widest layer that is accepted, fed with the inputs that fit its weights worst, and one that is wider."""
    limit = 2 ** (input_bits - 1) - 1
    generator = np.random.default_rng(input_bits * weight_bits)

    def layer(inputs: int) -> Layer:
        signs = torch.from_numpy(generator.choice([-1.0, 1.0], (1, inputs, 1, 1)))
        options = {"input_bits": input_bits, "weight_bits": weight_bits}
        return Layer.from_float(signs, torch.ones(1), np.ones(inputs), np.ones(1), **options)

    step = 2 ** (weight_bits - 1) - 1  # of which the bias, as large as a weight, has one as well
    widest = (2**31 - 1 - step) // (step * limit)
    accepted = layer(widest)
    assert accepted.weight.dtype == (np.int8 if weight_bits == 8 else np.int16)
    worst = torch.from_numpy(np.sign(accepted.weight[0, :, :, :]).astype(np.int64)) * limit
    for x in (worst, -worst):
        assert abs(int(accepted.accumulate(x))) <= 2**31 - 1
    with pytest.raises(ValueError, match="beyond int32"):
        layer(widest + 1)


def test_a_bias_that_may_grow_counts_as_grown():
    weight, bias = torch.full((1, 1, 1, 1), 1e-9), torch.zeros(1)
    layer = Layer.from_float(weight, bias, np.ones(1), np.ones(1), biases_up_to=np.full(1, 3.0))
    unit = 3.0 / 2**29
    assert abs(int(layer.weight[0, 0, 0, 0]) - 1e-9 / unit) <= 0.5
    assert layer.bias.tolist() == [0]


@pytest.mark.parametrize("weight_bits", [1, 17, 33])
def test_weights_of_other_widths_are_refused(weight_bits):
    with pytest.raises(ValueError, match="bits"):
        Layer.from_float(torch.ones(1, 1, 1, 1), torch.ones(1), np.ones(1), np.ones(1), weight_bits=weight_bits)


def test_split_inputs_add_up_to_the_whole_layer():
    _, layer = made("1x1")
    x = planes(layer, 3)
    head, tail = layer.split_inputs(4)
    assert torch.equal(head.accumulate(x[:4]) + tail.accumulate(x[4:]), layer.accumulate(x))


def test_a_list_of_taps_is_a_matrix_over_what_it_gathers():
    taps = torch.randn(OUT, C, 12, 1, generator=torch.Generator().manual_seed(5))
    layer = Layer.from_float(taps, torch.zeros(OUT), np.full(C, INPUT), np.full(OUT, OUTPUT))
    gathered = torch.randint(-2047, 2048, (12, C), generator=torch.Generator().manual_seed(6))
    want = (torch.from_numpy(layer.weight[..., 0].astype(np.int64)) * gathered.T).sum((1, 2))
    assert torch.equal((gathered.flatten().double() @ layer.as_matrix()).long(), want)


def test_rows_are_positions_of_a_map():
    _, layer = made("1x1")
    x = planes(layer, 4)
    assert torch.equal(layer.rows(x.flatten(1).T), layer(x).flatten(1).T)


def test_gelu_needs_its_tables():
    _, layer = made("3x3, GELU")
    with pytest.raises(ValueError, match="tables"):
        layer(planes(layer, 4))


PLACES = {
    "STRIDES": (STRIDES, lambda layer: layer.groups == 1 and layer.exponents is None),
    "KINDS": (KINDS, lambda layer: layer.kind is not TURNED),
    "MATRICES": (MATRICES, lambda layer: layer.weight.shape[2:] == (1, 1)),
}


@pytest.mark.parametrize("layout", PLACES)
@pytest.mark.parametrize("name", CASES)
def test_a_layer_read_back_from_its_arrays_is_the_same_layer(name, layout):
    _, layer = made(name)
    storage, fits = PLACES[layout]
    if not fits(layer):
        with pytest.raises(ValueError, match="place in this layout"):
            storage.to_arrays(layer, "h")
        return
    arrays = storage.to_arrays(layer, "h")
    again = storage.from_arrays(arrays, "h")
    x = planes(layer, 7)
    assert torch.equal(again(x, TABLES), layer(x, TABLES))
    assert list(storage.to_arrays(again, "h")) == list(arrays)
    for key, array in storage.to_arrays(again, "h").items():
        assert array.dtype == arrays[key].dtype and np.array_equal(array, arrays[key]), key
    if storage is STRIDES:
        assert again.input_bits == layer.input_bits and again.kind is layer.kind


def test_the_arrays_of_each_layout_are_those_that_fingerprints_cover():
    """Names, types and geometry as in the files of all releases."""
    _, layer = made("3x3, leaky ReLU")
    factors = [f"h.requantise.{name}" for name in ("multiplier", "negative", "shift", "bits")]
    strides, kinds = STRIDES.to_arrays(layer, "h"), KINDS.to_arrays(layer, "h")
    assert list(strides) == list(kinds) == ["h.weight", "h.bias", "h.geometry", *factors]
    assert list(MATRICES.to_arrays(made("1x1")[1], "h")) == ["h.weight", "h.bias", *factors]
    assert list(KINDS.to_arrays(made("3x3, GELU")[1], "h"))[-1] == "h.exponents"
    geometry = {
        "3x3": ([1, 0, 12], [0, 1]),
        "1x1, wide inputs": ([1, 0, 14], [0, 1]),
        "transposed": ([2, 1, 12], [1, 1]),
        "shuffled": ([1, 0, 12, 2], [2, 1]),
        "halved": ([2, 0, 12], [3, 1]),
        "turned": ([1, 1, 12], None),
        "depthwise": (None, [0, OUT]),
    }
    for name, wanted in geometry.items():
        for storage, numbers, dtype in zip((STRIDES, KINDS), wanted, (np.uint8, np.int32), strict=True):
            if numbers is not None:
                array = storage.to_arrays(made(name)[1], "h")["h.geometry"]
                assert array.tolist() == numbers and array.dtype == dtype, name


@pytest.mark.parametrize("geometry", [[3, 0, 12], [2, 0, 12, 2], [1, 0, 12, 3], [1, 0], [1, 0, 12, 2, 2]])
def test_a_geometry_of_no_kind_is_refused_by_name(geometry):
    arrays = STRIDES.to_arrays(made("3x3")[1], "h")
    with pytest.raises(ValueError, match=r"h\.geometry|unpack"):
        STRIDES.from_arrays({**arrays, "h.geometry": np.array(geometry, np.uint8)}, "h")


@pytest.mark.parametrize("number", [-1, 4])
def test_a_kind_without_a_number_is_refused_by_name(number):
    arrays = KINDS.to_arrays(made("3x3")[1], "h")
    with pytest.raises(ValueError, match=r"h\.geometry"):
        KINDS.from_arrays({**arrays, "h.geometry": np.array([number, 1], np.int32)}, "h")


def test_every_kind_is_among_the_cases():
    assert {kind for kind, *_ in CASES.values()} == set(Kind)
