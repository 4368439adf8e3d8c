"""The board engines on the device: the C++ engine's bytes and latents, in both directions, and through the drivers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn as nn

import fastlic
from fastlic.codec import Codec, drivers
from fastlic.entropy.groups.convert import GroupNetworks, Networks
from fastlic.entropy.groups.model import Group
from fastlic.entropy.zones import zones_for
from fastlic.errors import CorruptStreamError
from fastlic.integers.fixed import fixed_point
from fastlic.kernels.reference.checkerboard import count_of
from fastlic.lifelike.models import small_mlic
from fastlic.models import MLIC, MLICPlus, MLICPlusPlus
from fastlic.models.mlic import Sizes
from fastlic.ops.device_board import DeviceBoard
from fastlic.ops.device_slices import DeviceSlices
from fastlic.ops.latents import Target
from fastlic.ops.rans import rans_encode

from ..entropy.latent_models import N, bottleneck, conv, model_of, random_latents, same, seeded, slices


def small_groups() -> Networks:
    """Both parities and one group in a single pass; one that skips more channels than a pad; a network of one layer."""
    h_s = nn.Sequential(nn.ConvTranspose2d(N, 5, 3, 2, 1, 1), nn.LeakyReLU(), conv(5, 36, 1), nn.PixelShuffle(2))
    groups = []
    for group, hidden in ((Group(3, 0), 7), (Group(62, None, (0,)), 6), (Group(3, 1, (0,)), 0)):
        c, read = group.channels, 3 * len(group.reads)
        channel = nn.Sequential(conv(read, 5, 3), nn.GELU(), conv(5, 4, 1)) if read else None
        context = conv(c, 5, 3) if group.parity is not None else None
        known = 9 + (4 if read else 0) + (5 if context else 0)
        first = [conv(known, hidden, 1 if context else 3), nn.GELU() if hidden == 7 else nn.LeakyReLU(0.2)]
        parameters = nn.Sequential(*(first if hidden else []), conv(hidden or known, 2 * c, 1))
        groups.append(GroupNetworks(group, channel, context, parameters))
    return Networks(nn.Sequential(conv(68, N, 3), nn.AvgPool2d(4)), h_s, bottleneck(), groups)


# Two slices of 8 channels, uneven inside.
SIZES = Sizes((6, 5, 4), (5, 6, 3), (6, 4), (7, 4), (9, 7, 8), (6, 5))
SMALL: dict[str, tuple[Any, dict[str, Any]]] = {
    "small mlic": (MLIC, {}),
    "small mlic+": (MLICPlus, {}),
    "small mlic++": (MLICPlusPlus, {"early": True}),
}


@cache
def board_model(name: str) -> Any:
    if name in SMALL:
        cls, how = SMALL[name]
        return slices(cls, M=16, slices=2, sizes=SIZES, widths=(4, 6, 8), **how)
    return seeded(small_groups) if name == "small groups" else model_of(name)


def targets_of(model: Any, height: int, width: int) -> list[Target]:
    """A calm image, and one with escapes and no zones."""
    pairs = [random_latents(model, height, width, spread) for spread in (4, 20)]
    return [
        Target(*(fixed_point(x) for x in pair), zones)
        for pair, zones in zip(pairs, (zones_for(2.0), None), strict=True)
    ]


def sections_of(model: Any, target: Target, lanes: int) -> list[bytes]:
    """What the C++ coder makes of the C++ engine's symbols with so many lanes; 0: as the engine."""
    sections, z, *_ = model.engine.encode_many([target])[0]
    if not lanes:
        return sections
    rows = z.transpose(1, 2, 0).reshape(-1, len(z))
    channels = np.broadcast_to(np.arange(len(z), dtype=np.uint8), rows.shape)
    out = [rans_encode(rows, np.ascontiguousarray(channels), model.z_tables, lanes=lanes)]
    indexes, symbols = model.engine.symbols(target)
    height, width = target.y.shape[1:]
    counts = [len(symbols)]
    if model.kind == "groups":
        counts = []
        for group in model.groups:
            first = height * width if group.parity is None else count_of(height, width, group.parity)
            counts += [group.channels * n for n in (first, height * width - first)[: group.passes]]
    at = np.cumsum(counts)[:-1]
    for own, given in zip(np.split(indexes, at), np.split(symbols, at), strict=True):
        out.append(rans_encode(given, own, model.y_tables, lanes=lanes))
    return out


def require_same(found: Any, wanted: Any) -> None:
    """Maps of an image on the device, and of the C++ engine."""
    for own, other in zip(found, wanted, strict=True):
        assert (own is None) == (other is None)
        assert own is None or torch.equal(own.cpu(), torch.from_numpy(other))


def require_encodes(engine: DeviceBoard, model: Any, height: int, width: int, lanes: int = 64) -> None:
    """Bytes of both images, and what a decoder will see."""
    targets = targets_of(model, height, width)
    coded, wanted = engine.encode_many(targets, lanes=lanes), model.engine.encode_many(targets)
    for target, (sections, *maps), (_, *others) in zip(targets, coded, wanted, strict=True):
        require_same(maps, others)
        assert sections == sections_of(model, target, lanes)


def require_decodes(
    engine: DeviceBoard, model: Any, height: int, width: int, *groups: int | None, lanes: int = 64
) -> None:
    """Both images, whole and as previews of so many groups."""
    targets = targets_of(model, height, width)
    streams = [(sections_of(model, target, lanes), height, width) for target in targets]
    for read in groups:
        wanted = model.engine.decode_many(streams, groups=read)
        for maps, others in zip(engine.decode_many(streams, groups=read), wanted, strict=True):
            require_same(maps, others)


def engine_of(model: Any, device: torch.device) -> DeviceBoard:
    cls = DeviceSlices if model.kind == "slices" else DeviceBoard
    return cls(model.to_arrays(), model.z_tables, model.y_tables, device)


@pytest.mark.parametrize("coder", ["triton", "cpp"], indirect=True)
def test_channel_groups_are_the_cpus(coder, device):
    model = board_model("small groups")
    engine = engine_of(model, device)
    require_encodes(engine, model, 3, 2)
    require_decodes(engine, model, 1, 3, None, 1)


@pytest.mark.parametrize(
    ("name", "size"),
    [pytest.param("small mlic", (1, 4), marks=pytest.mark.slow), ("small mlic+", (1, 4)), ("small mlic++", (2, 2))],
)
def test_slices_are_the_cpus(name, size, device):
    """Four columns: of two queries one has keys that are not close by. Contexts are alike in both directions."""
    model = board_model(name)
    engine = engine_of(model, device)
    require_encodes(engine, model, *size)
    if name == "small mlic++":
        require_decodes(engine, model, *size, None)


def test_hyper_analysis_is_the_cpus(device):
    model = board_model("checkerboard")
    latents = [random_latents(model, *size)[1] for size in ((4, 5), (3, 2), (4, 5))]
    found = drivers.analyse_many(model, latents, "triton")
    for own, wanted in zip(found, drivers.analyse_many(model, latents, "cpp"), strict=True):
        assert own.z.device.type == device.type and torch.equal(own.z.cpu(), wanted.z)
    with pytest.raises(ValueError, match="no analysis"):
        board_model("small groups").device_engine.analyse_many([])


BOARDS = ["small groups", "groups", "checkerboard", "mlic", "mlic+", "mlic++", "mlic++, early", "mlic++, sub-pixel",
          "mlic+, one slice"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("size", [(1, 2), (5, 3), (6, 9)])
def test_boards_of_every_size_are_the_cpus(name, size, device):
    model = board_model(name)
    engine = engine_of(model, device)
    require_encodes(engine, model, *size, lanes=0)
    require_decodes(engine, model, *size, None, 0, 1)


@pytest.mark.gpu
@pytest.mark.parametrize("name", BOARDS)
def test_large_boards_on_a_gpu_are_the_cpus(name):
    model = board_model(name)
    engine = engine_of(model, torch.device("cuda"))
    require_encodes(engine, model, 68, 120, lanes=0)
    require_decodes(engine, model, 19, 6, None, 1, lanes=0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["mlic", "mlic+", "mlic++"])
def test_shipped_slices_on_a_gpu_give_the_cpus_files_and_pixels(name, photo):
    codec = fastlic.load(name)
    batch = torch.stack([photo, photo.flip(2)])
    data = codec.compress(batch.cuda(), 4, backend="triton")
    assert data == codec.compress(batch, 4)
    images = codec.decompress(data, "cuda", torch.uint8, backend="triton")
    for own, want in zip(images, codec.decompress(data, dtype=torch.uint8), strict=True):
        assert torch.equal(own.cpu(), want)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlic", "mlic+", "mlic++"])
def test_shipped_slices_are_the_cpus(name, device):
    model = fastlic.load(name).entropy
    engine = engine_of(model, device)
    require_encodes(engine, model, 2, 4)
    require_decodes(engine, model, 2, 4, None)


def test_damaged_sections_of_boards_are_reported(device):
    model = board_model("small groups")
    engine = engine_of(model, device)
    (sections, *_), _ = model.engine.encode_many(targets_of(model, 1, 2))
    damaged = [data[:-1] if i == 3 else data for i, data in enumerate(sections)]
    with pytest.raises(CorruptStreamError):
        engine.decode_many([(damaged, 1, 2)])
    with pytest.raises(CorruptStreamError, match="too few"):
        engine.decode_many([(sections, 1 << 12, 1 << 12)])
    with pytest.raises(ValueError, match="2 or more columns"):
        engine.decode_many([(sections, 2, 1)])


def test_drivers_find_the_board_engine(device):
    model = board_model("small groups")
    z, y = random_latents(model, 1, 2)
    targets = [Target(z, y, zones_for(1.0))]
    ((sections, latents),) = drivers.encode_many(model, targets, "triton")
    assert sections == drivers.encode_many(model, targets, "cpp")[0][0]
    (again,) = drivers.decode_many(model, [(sections, 1, 2)], "triton")
    assert same(latents, again) and same(again, drivers.decode_many(model, [(sections, 1, 2)], "reference")[0])


def test_files_and_pixels_of_mlic_are_the_cpus(photo, device):
    """From image to bytes to pixels on the device, of a preview."""
    codec = Codec(small_mlic(MLIC), [photo[:, :96, :128]])
    x = photo[:, :13, :30].contiguous()
    data = codec.compress(x.to(device), 1.5, backend="triton")
    assert data == codec.compress(x, 1.5) and codec.pixels.way("triton") == "triton"
    found = codec.decompress(data, device, torch.uint8, backend="triton", slices=1)
    assert found.device.type == device.type
    assert torch.equal(found.cpu(), codec.decompress(data, dtype=torch.uint8, slices=1))
