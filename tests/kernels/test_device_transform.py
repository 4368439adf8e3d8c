"""Transforms on the device: the plain reference's integers, step by step, in whole networks, and through a codec."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import fastlic
from fastlic.integers.fixed import Requantiser
from fastlic.integers.functions import CURVE_BITS, Curve
from fastlic.integers.layer import HALVED, PLAIN, SHUFFLED, TRANSPOSED
from fastlic.integers.network import CurveStep, DepthwiseStep, GateStep, Network
from fastlic.integers.shapes import Shape
from fastlic.integers.windows import WindowStep
from fastlic.kernels.packing import PLANE_BITS, digits, planes_of_weights
from fastlic.ops.device_transform import DeviceTransform
from fastlic.ops.transforms import TransformEngine

from ..integers.made_networks import Draw, chain


def require_same(network: Network, draw: Draw, height: int, width: int, device: torch.device, images: int = 1) -> None:
    """The device's numbers are the plain reference's, and of the engine's type; or both refuse."""
    arrays = network.to_arrays("n")
    transform = DeviceTransform("n", arrays, device)
    x = torch.stack([draw.input(network, height, width) for _ in range(images)])
    given = x.to(torch.uint8 if network.entry is None else torch.int32)
    try:
        want = torch.stack([network(one) for one in x])
    except ValueError as error:
        why = "reflected" if "reflected" in str(error) else re.escape(str(error))
        with pytest.raises(ValueError, match=why):
            transform.run(given)
        return
    found = transform.run(given)
    of_cpu = TransformEngine("n", arrays).run(given[0].numpy())
    assert found.device.type == device.type and str(found.dtype) == f"torch.{of_cpu.dtype}"
    assert found.shape == want.shape
    assert int((found.cpu().long() != want).sum()) == 0


def entry(draw: Draw, channels: int, bits: int) -> Requantiser:
    return draw.requantiser(channels, bits, np.full(channels, 20000.0))


# Kind, side, inputs, outputs; bits of the activations, whether numbers stand at their limits; the map.
LAYERS = {
    "plain 1x1": (PLAIN, 1, 70, 5, 16, True, (3, 4)),
    "plain 3x3": (PLAIN, 3, 3, 66, 14, False, (6, 7)),
    "plain 3x3, reflected": (PLAIN, 3, 5, 20, 14, True, (2, 5)),
    "plain 9x9": (PLAIN, 9, 2, 3, 9, False, (4, 11)),
    "stride 2, 5x5": (HALVED, 5, 7, 17, 16, False, (1, 1)),
    "stride 2, 3x3, reflected": (HALVED, 3, 7, 3, 16, True, (5, 6)),
    "stride 2, 1x1": (HALVED, 1, 3, 4, 9, False, (5, 4)),
    "transposed 5x5": (TRANSPOSED, 5, 66, 3, 14, True, (3, 2)),
    "transposed 3x3": (TRANSPOSED, 3, 4, 20, 16, False, (2, 5)),
    "transposed 1x1": (TRANSPOSED, 1, 4, 3, 9, True, (1, 3)),
    "shuffle 3x3": (SHUFFLED, 3, 5, 18, 14, True, (3, 2)),
    "shuffle 3x3, reflected": (SHUFFLED, 3, 2, 3, 9, False, (4, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_every_kind_are_the_reference(name, device):
    kind, side, inputs, outputs, bits, extreme, size = LAYERS[name]
    draw = Draw(np.random.default_rng([side, inputs, bits]), extreme)
    curve = (None, Curve.GELU, Curve.SILU)[inputs % 3]
    step = draw.layer(
        Shape(inputs, bits), outputs, kind, side, 14 if curve else 16, wide=bits > 9, fits=bits == 9,
        reflect="reflected" in name, curve=curve,
    )  # fmt: skip
    require_same(chain([step], entry(draw, inputs, bits)), draw, *size, device)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(
    ("bits", "channels", "side", "size"), [(9, 3, 1, (3, 4)), (14, 70, 3, (4, 5)), (16, 17, 5, (5, 2))]
)
def test_depthwise_layers_are_the_reference(bits, channels, side, size, extreme, device):
    """In the middle of a network and at its end, weights of 8 bits and of 16; with a curve and without."""
    for wide in (False, True):
        draw = Draw(np.random.default_rng([bits, wide]), extreme)
        first = draw.depthwise(Shape(channels, bits), side, 14 + 2 * wide, Curve.SILU, wide)
        last = draw.depthwise(first.shape(Shape(channels, bits)), 3, 9, None if wide else Curve.GELU, wide)
        require_same(chain([first, last], entry(draw, channels, bits)), draw, *size, device, images=2)


def test_a_depthwise_layer_reads_pixels_beside_another_and_ends_in_numbers(device):
    draw = Draw(np.random.default_rng(7))
    first, own = draw.layer(Shape(3, 9), 3, PLAIN, 3, 9), draw.depthwise(Shape(3, 9), 3, 9)
    network = Network((first, own, draw.product(Shape(3, 9), own.shape(Shape(3, 9)))), ((0,), (0,), (1, 2)))
    require_same(network, draw, 5, 4, device, images=2)
    positive = replace(own.layer.requantiser, multiplier=np.full(3, 1 << 20, np.int32), negative=np.zeros(3, np.int32))
    ends = DepthwiseStep(replace(own.layer, requantiser=positive))
    require_same(chain([first, ends]), draw, 5, 4, device)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(("left", "right"), [(9, 14), (16, 16), (2, 16)])
def test_products_are_the_reference(left, right, extreme, device):
    for channels in (3, 70):
        draw = Draw(np.random.default_rng([left, right, channels]), extreme)
        a, b = (draw.layer(Shape(5, 14), channels, PLAIN, 1, bits) for bits in (left, right))
        product = draw.product(Shape(channels, left), Shape(channels, right))
        again = draw.product(product.shape(Shape(channels, left), Shape(channels, left)), Shape(channels, right))
        network = Network((a, b, product, again), ((0,), (0,), (1, 2), (3, 2)), entry(draw, 5, 14))
        require_same(network, draw, 3, 5, device, images=2)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("bits", [9, 14, 16])
def test_means_of_maps_are_the_reference(bits, extreme, device):
    for channels, size in ((3, (5, 7)), (70, (1, 1))):
        draw = Draw(np.random.default_rng([bits, channels]), extreme)
        x, entered = Shape(channels, bits), entry(draw, channels, bits)
        mean = draw.map_mean(x)
        require_same(chain([mean], entered), draw, *size, device, images=2)
        require_same(chain([mean, draw.layer(mean.shape(x), 4)], entered), draw, *size, device, images=2)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("bits", [9, 14, 16])
def test_softmax_over_channels_is_the_reference(bits, extreme, device):
    for channels, groups in ((1, 1), (6, 3), (140, 2), (210, 1)):
        draw = Draw(np.random.default_rng([bits, channels]), extreme)
        x = Shape(channels, bits)
        first = draw.softmax(x, groups)
        last = draw.softmax(first.shape(x), groups)
        require_same(chain([first, last], entry(draw, channels, bits)), draw, 3, 5, device, images=2)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("bits", [2, 9, 14, 16])
def test_layer_norms_are_the_reference(bits, extreme, device):
    for channels in (1, 6, 70, 192):
        draw = Draw(np.random.default_rng([bits, channels]), extreme)
        first = draw.layer_norm(Shape(channels, bits))
        last = draw.layer_norm(first.shape(Shape(channels, bits)))
        require_same(chain([first, last], entry(draw, channels, bits)), draw, 3, 5, device, images=2)


# Side, offset, heads, channels of a head, bits; the map.
WINDOWS = {
    "of one position": (1, 0, 2, 3, 14, (1, 2)),
    "of 9": (3, 0, 1, 20, 12, (3, 6)),
    "of 16, cut": (4, 1, 2, 5, 14, (4, 4)),
    "of 64, cut": (8, 4, 1, 14, 14, (8, 8)),
    "of 81": (9, 0, 1, 33, 12, (9, 9)),
    "of few bits": (4, 0, 1, 70, 2, (4, 4)),
    "of 16 bits, cut": (4, 1, 1, 1, 16, (4, 4)),
    "that do not fill a map": (2, 1, 1, 2, 12, (2, 3)),
}


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("name", WINDOWS)
def test_windows_are_the_reference(name, extreme, device):
    side, offset, heads, own, bits, size = WINDOWS[name]
    draw = Draw(np.random.default_rng([side, own, bits]), extreme)
    x = Shape(3 * heads * own, bits)
    step = draw.windows(x, (side,), heads)
    step = replace(step, offset=offset, bits=step.bits if extreme else 16)
    network = chain([step, draw.layer(step.shape(x), 3, PLAIN, 3, 14)], entry(draw, x.channels, bits))
    require_same(network, draw, *size, device, images=2)
    if extreme:
        require_same(chain([step], network.entry), draw, *size, device)


def test_weights_of_every_width_are_planes_that_hold_them():
    """The fewest planes, and sums of products that are those of the weights."""
    for weight, planes in ((-128, 1), (127, 1), (128, 2), (-16448, 2), (16319, 2), (16320, 3), (-32768, 3), (32767, 3)):
        own = np.array([0, weight], np.int16)
        assert planes_of_weights(own) == planes
        assert (
            sum(int(plane[1]) << (PLANE_BITS * k) for k, plane in enumerate(digits(own, PLANE_BITS, planes))) == weight
        )
    with pytest.raises(ValueError, match="2 planes of 7 bits"):
        digits(np.array([16320]), PLANE_BITS, 2)


@pytest.mark.parametrize("kind", [PLAIN, HALVED, TRANSPOSED, SHUFFLED])
def test_pixels_are_read_by_layers_of_every_kind(kind, device):
    draw = Draw(np.random.default_rng(3))
    for reflect in (False, not kind.transposed):
        first = draw.layer(Shape(3, 9), 8, kind, 3, 14, reflect=reflect)
        last = draw.layer(Shape(8, 14), 3, PLAIN, 3, 9, rectified=True)
        require_same(chain([first, last]), draw, 5, 4, device, images=3)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("bits", [9, 14, 16])
def test_norms_and_what_stands_between_layers_are_the_reference(bits, extreme, device):
    for seed in range(2):
        draw = Draw(np.random.default_rng([seed, bits]), extreme)
        x = Shape((3, 70)[seed], bits)
        norm = draw.norm(x)
        made = norm.shape(x)
        total = draw.sum(x, made)
        steps = [norm, total]
        reads = [(0,), (0, 1)]
        if total.bits <= CURVE_BITS:
            exponents = draw.exponents(x.channels)
            steps += [CurveStep(Curve.numbered(seed % 2), exponents), GateStep(exponents)]
            reads += [(2,), (1, 3)]
        network = Network(tuple(steps), tuple(reads), entry(draw, x.channels, bits))
        require_same(network, draw, 3, 5, device, images=2)


@pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 20))])
def test_any_network_gives_the_reference_integers(seed, device):
    done = 0
    for turn in range(20):
        rng = np.random.default_rng([seed, turn])
        draw = Draw(rng, extreme=seed % 2 == 1)
        last = ("pixels", "latents", "activations")[seed % 3]
        network = draw.network(int(rng.integers(0, 6)), latents=bool(rng.integers(2)), last=last)
        height, width = (-(-side // network.multiple) * network.multiple for side in ((1, 1), (3, 4), (5, 2))[turn % 3])
        heads = sum(step.heads for step in network.steps if isinstance(step, WindowStep))
        if heads * height * width <= 64:  # each a second or so in the interpreter
            require_same(network, draw, height, width, device)
            done += 1
        if done == 2:
            return
    raise AssertionError("too few networks have few windows")


def test_ends_are_varied_and_travel(device):
    """Other requantisers at both ends, over the same weights; pickled, too."""
    draw = Draw(np.random.default_rng(5))
    last = draw.layer(Shape(9, 14), 3, HALVED, 3, 9, rectified=True)
    network = chain([draw.layer(Shape(4, 14), 9, PLAIN, 3, 14), last], entry(draw, 4, 14))
    arrays, x = network.to_arrays("n"), draw.input(network, 3, 4)[None].int()
    transform, engine = DeviceTransform("n", arrays, device), TransformEngine("n", arrays)
    exit_ = draw.requantiser(3, 9, np.full(3, 3e5))
    exit_ = Requantiser(np.abs(exit_.multiplier), np.zeros(3, np.int32), exit_.shift, 9)
    changes = entry(draw, 4, 14).to_arrays("n.entry") | exit_.to_arrays("n.exit")
    varied = transform.vary(changes)
    for device_side, cpu_side in ((transform, engine), (varied, engine.vary(changes))):
        want = cpu_side.run(x[0].numpy(), (2, 1))
        for own in (device_side, pickle.loads(pickle.dumps(device_side))):
            assert np.array_equal(own.run(x, (2, 1))[0].cpu().numpy(), want)
    with pytest.raises(ValueError, match="ends"):
        transform.vary({"n.0.bias": arrays["n.0.bias"]})


def test_arguments_that_do_not_fit_are_refused_in_words(device):
    draw = Draw(np.random.default_rng(2))
    network = chain([draw.layer(Shape(3, 9), 2, HALVED, 3, 14), draw.layer(Shape(2, 14), 2)])
    transform = DeviceTransform("n", network.to_arrays("n"), device)
    for x in (torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 0, 4).byte()):
        with pytest.raises(ValueError, match=r"x must be torch.uint8 \[B, 3, h, w\]"):
            transform.run(x)
    with pytest.raises(ValueError, match="2 x 3"):
        transform.run(torch.zeros(1, 3, 4, 5, dtype=torch.uint8), (3, 3))


def test_files_and_pixels_of_a_codec_are_the_cpus(codec, photo, device, batches):
    """A batch goes through every network together; images of two sizes and qualities do not."""
    batch = torch.stack([photo[:, :15, :13], photo[:, 30:45, 40:53]])
    data = codec.compress(batch, 2.5, backend="cpp")
    assert codec.compress(batch.to(device), 2.5, backend="triton") == data
    assert batches == [2, 2]  # g_a, h_a
    streams = [*data, codec.compress(photo[:, :3, :16], 8)]
    images = codec.decompress(streams, device, torch.uint8, backend="triton")
    assert batches == [2, 2, 2, 1]
    for own, want in zip(images, codec.decompress(streams, dtype=torch.uint8, backend="cpp"), strict=True):
        assert own.device.type == device.type and torch.equal(own.cpu(), want)


def test_the_backend_chosen_without_a_name_is_the_cpus(codec, photo, batches):
    data = codec.compress(photo[:, :16, :16], 3)
    codec.decompress(data)
    assert batches == [] and codec.pixels.way("auto") == codec.pixels.way("cpp") == "cpp"
    assert codec.pixels.way("triton") == "triton"


def require_same_as_the_engine(
    name: str, image: tuple[int, int], latents: tuple[int, int], device: torch.device
) -> None:
    """Of every network of a shipped codec."""
    for part, network in fastlic.load(name).pixels.parts[0].items():
        arrays, generator = network.to_arrays(part), torch.Generator().manual_seed(1)
        shape = (2, network.shapes[0].channels, *(image if network.entry is None else latents))
        x = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        x = x if network.entry is None else (x.int() - 128) * 9
        found, engine = DeviceTransform(part, arrays, device).run(x), TransformEngine(part, arrays)
        for own, given in zip(found, x, strict=True):
            assert np.array_equal(own.cpu().numpy(), engine.run(given.numpy(), threads=2)), part


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jahp", "mlic++", "mcquic"])
def test_shipped_transforms_are_the_cpus(name, device):
    require_same_as_the_engine(name, (48, 64), (4, 4), device)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["jahp", "mlic++", "mcquic"])
def test_shipped_transforms_of_whole_images_on_a_gpu_are_the_cpus(name):
    require_same_as_the_engine(name, (512, 768), (32, 48), torch.device("cuda"))


@pytest.mark.gpu
def test_a_shipped_codec_on_a_gpu_gives_the_cpus_files_and_pixels(photo):
    codec = fastlic.load("jahp")
    batch = torch.stack([photo, photo.flip(1), photo.flip(2)])
    data = codec.compress(batch.cuda(), 4, backend="triton")
    assert data == codec.compress(batch, 4)
    floats = codec.decompress(data[0], "cuda", backend="triton")
    assert torch.equal(floats.cpu(), codec.decompress(data[0]))
    images = codec.decompress(data, "cuda", torch.uint8, backend="triton")
    assert all(
        torch.equal(own.cpu(), want)
        for own, want in zip(images, codec.decompress(data, dtype=torch.uint8), strict=True)
    )
