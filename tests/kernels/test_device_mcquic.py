"""McQuic on the device: the CPU's files and pixels, images of one size together; what is missing is said."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import fastlic
from fastlic import config
from fastlic.codec import Codec
from fastlic.codec.families.mcquic import McQuicCoder
from fastlic.entropy.code_context import IntegerCodeContext
from fastlic.entropy.codes import CodeTables
from fastlic.errors import BackendUnavailable
from fastlic.integers.layer import HALVED, PLAIN, SHUFFLED
from fastlic.integers.network import Network
from fastlic.integers.shapes import Shape
from fastlic.integers.transforms import Gains
from fastlic.integers.vq import VqTransforms, Words
from fastlic.models import McQuic
from fastlic.models.mcquic.context import CodeContext

from ..integers.made_networks import Draw, chain

CHANNELS, GROUPS, PRICES = 6, 2, [1.1, 1.0, 0.9]
KINDS = {"down.0": [HALVED] * 4, "down.1": [HALVED], "up.0": [SHUFFLED] * 4, "up.1": [SHUFFLED]}


def network(draw: Draw, name: str) -> Network:
    """One that stands where McQuic's of that name would, of a layer for each change of size."""
    steps, x = [], Shape(3, 9) if name == "down.0" else Shape(CHANNELS, 14)
    entry = None if name == "down.0" else draw.requantiser(CHANNELS, 14, np.full(CHANNELS, 20000.0))
    kinds = KINDS.get(name, [PLAIN])
    for i, kind in enumerate(kinds):
        pixels = name == "up.0" and i == len(kinds) - 1
        bits = 9 if pixels else 16 if name.startswith(("head", "rest")) else 14
        side = 3 if name == "down.0" else 1
        step = draw.layer(x, 3 if pixels else CHANNELS, kind, side, bits, rectified=pixels)
        steps.append(step)
        x = step.shape(x)
    return chain(steps, entry)


def words_near(draw: Draw, heads: torch.Tensor, count: int) -> Words:
    """About what stands at some of the positions of heads [C, h, w]."""
    some = draw.rng.choice(heads.flatten(1).T.numpy(), count, replace=False)
    some = some.clip(-32767, 32767).astype(np.int16)
    exponents = draw.rng.integers(3, 9, CHANNELS).astype(np.int8)
    book = some.reshape(count, GROUPS, -1).swapaxes(0, 1)
    return Words(np.ascontiguousarray(book), exponents, some.mean(0).astype(np.int16))


@pytest.fixture(scope="module")
def codec() -> Codec:
    """Of two levels, three qualities and a context."""
    torch.manual_seed(0)
    draw, k = Draw(np.random.default_rng(4)), [12, 7]
    names = [f"{part}.{level}" for level in range(2) for part in ("down", "head", "words", "up")]
    networks = {name: network(draw, name) for name in [*names, "rest.0", "side.0"]}
    x = torch.from_numpy(draw.rng.integers(0, 256, (3, 128, 128)))
    words = []
    for level, count in enumerate(k):
        z = networks[f"down.{level}"](x)
        heads = networks[f"head.{level}"](z)
        words.append(words_near(draw, heads, count))
        if level == 0:
            x = networks["rest.0"](z) - words[0].of(words[0].nearest(heads, None, 1, "reference"))
    made = VqTransforms(networks, tuple(words), Gains(np.array(PRICES, np.float32)[:, None]))
    context = CodeContext(GROUPS, k[0], 6, 16)
    integers = IntegerCodeContext.from_float(context, context.rows(torch.randint(0, k[0], (1, GROUPS, 4, 4))))
    shares = [draw.rng.random((GROUPS, count)) + 0.1 for count in k]
    tables = CodeTables.from_shares(shares, [own.floats.numpy() for own in words])
    return Codec._of(
        McQuicCoder(McQuic(CHANNELS, GROUPS, k, PRICES), replace(tables, context=integers), True, made), "small"
    )


@pytest.fixture(scope="module")
def batch() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 33, 45), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_files_and_pixels_of_a_codec_are_the_cpus(codec, batch, device, batches):
    """A batch goes through every network together; images of two sizes do not."""
    data = fastlic.compress(batch, codec, 1.5, backend="cpp")
    assert batches == []
    assert fastlic.compress(batch.to(device), codec, 1.5, backend="triton") == data
    assert batches == [2] * 5  # of which the deepest level has no rest
    for own in codec.decode_latents(data[0]).values():
        assert len(own.unique()) > 2
    streams = [*data, codec.compress(batch[0, :, :1, :1], 3)]
    images = codec.decompress(streams, device, torch.uint8, backend="triton")
    assert batches == [2] * 5 + [2] * 5 + [1] * 5
    for own, want in zip(images, codec.decompress(streams, dtype=torch.uint8, backend="cpp"), strict=True):
        assert own.device.type == device.type and torch.equal(own.cpu(), want)
    assert len(images[0].unique()) > 30


def test_previews_are_the_cpus(codec, batch, device):
    data = codec.compress(batch[0], 2)
    preview = codec.decompress(data, device, backend="triton", levels=1)
    assert torch.equal(preview.cpu(), codec.decompress(data, levels=1))


def test_the_backend_chosen_without_a_name_is_the_cpus(codec, batch, device, batches):
    codec.decompress(codec.compress(batch.to(device)), device)
    assert batches == []


def test_arguments_that_do_not_fit_are_refused_in_words(codec, batch, device):
    with pytest.raises(ValueError, match=r"uint8 \[B, 3, H, W\]"):
        codec.pixels.analyse(batch[0], 1, backend="triton")
    with pytest.raises(ValueError, match=r"codes \[B, m, h, w\]"):
        codec.pixels.synthesise(codec.pixels.analyse(batch[0], 1), (33, 45), backend="triton")
    with pytest.raises(ValueError, match="reference, cpp or triton"):
        codec.pixels.analyse(batch, 1, backend="auto")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_gpu_and_interpreter_an_explicit_request_is_an_error(codec, batch, monkeypatch):
    coder = copy.copy(codec._coder)
    coder.pixels = replace(codec.pixels)  # of which no network is on a device yet
    fresh = Codec._of(coder, "fresh")
    data = fresh.compress(batch[0], 1)
    monkeypatch.setattr(config, "triton_interpreter", lambda: False)
    with pytest.raises(BackendUnavailable, match="no GPU"):
        fresh.compress(batch, 1, backend="triton")
    with pytest.raises(BackendUnavailable, match="no GPU"):
        fresh.decompress(data, backend="triton")


def require_the_cpus(codec: Codec, batch: torch.Tensor, quality: float, device: torch.device) -> None:
    data = codec.compress(batch, quality)
    assert codec.compress(batch.to(device), quality, backend="triton") == data
    images = codec.decompress(data, device, torch.uint8, backend="triton")
    for own, want in zip(images, codec.decompress(data, dtype=torch.uint8), strict=True):
        assert torch.equal(own.cpu(), want)


@pytest.mark.slow
def test_the_shipped_codec_gives_the_cpus_files_and_pixels(photo, device):
    require_the_cpus(fastlic.load("mcquic"), torch.stack([photo[:, :75, :61], photo[:, 20:95, 70:131]]), 4.5, device)


@pytest.mark.gpu
def test_the_shipped_codec_on_a_gpu_gives_the_cpus_files_and_pixels(photo):
    codec, device = fastlic.load("mcquic"), torch.device("cuda")
    require_the_cpus(codec, torch.stack([photo, photo.flip(1), photo.flip(2)]), 4.5, device)
    require_the_cpus(codec, photo.repeat(1, 5, 5)[None], 1, device)
