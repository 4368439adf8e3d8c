"""The board engine on the device: the C++ engine's bytes and latents, in both directions, and through the drivers."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import torch.nn as nn

from fastlic.codec import drivers
from fastlic.entropy.groups.convert import GroupNetworks, Networks
from fastlic.entropy.groups.model import Group
from fastlic.entropy.zones import zones_for
from fastlic.errors import CorruptStreamError
from fastlic.integers.fixed import fixed_point
from fastlic.ops.device_board import DeviceBoard
from fastlic.ops.latents import Target

from ..entropy.latent_models import N, bottleneck, conv, model_of, random_latents, same, seeded


def small_groups() -> Networks:
    """Both parities and one group in a single pass; one that skips what it could read; a network of one layer."""
    h_s = nn.Sequential(nn.ConvTranspose2d(N, 5, 3, 2, 1, 1), nn.LeakyReLU(), conv(5, 36, 1), nn.PixelShuffle(2))
    groups = []
    for group, hidden in ((Group(3, 0), 7), (Group(2, None, (0,)), 6), (Group(3, 1, (1,)), 0)):
        c, read = group.channels, sum((3, 2)[k] for k in group.reads)
        channel = nn.Sequential(conv(read, 5, 3), nn.GELU(), conv(5, 4, 1)) if read else None
        context = conv(c, 5, 3) if group.parity is not None else None
        known = 9 + (4 if read else 0) + (5 if context else 0)
        first = [conv(known, hidden, 1 if context else 3), nn.GELU() if hidden == 7 else nn.LeakyReLU(0.2)]
        parameters = nn.Sequential(*(first if hidden else []), conv(hidden or known, 2 * c, 1))
        groups.append(GroupNetworks(group, channel, context, parameters))
    return Networks(nn.Sequential(conv(8, N, 3), nn.AvgPool2d(4)), h_s, bottleneck(), groups)


@cache
def board_model(name: str) -> Any:
    return seeded(small_groups) if name == "small groups" else model_of(name)


def targets_of(model: Any, height: int, width: int) -> list[Target]:
    """A calm image, and one with escapes and no zones."""
    pairs = [random_latents(model, height, width, spread) for spread in (4, 20)]
    return [
        Target(*(fixed_point(x) for x in pair), zones)
        for pair, zones in zip(pairs, (zones_for(2.0), None), strict=True)
    ]


def require_same(found: Any, wanted: Any) -> None:
    """Maps of an image on the device, and of the C++ engine."""
    for own, other in zip(found, wanted, strict=True):
        assert (own is None) == (other is None)
        assert own is None or torch.equal(own.cpu(), torch.from_numpy(other))


def require_encodes(engine: DeviceBoard, model: Any, height: int, width: int, lanes: int) -> None:
    """What it encodes is what the C++ engine sees, and decodes; and its bytes, where the lanes are the same."""
    targets = targets_of(model, height, width)
    coded, wanted = engine.encode_many(targets, lanes=lanes), model.engine.encode_many(targets)
    for (sections, *maps), (own, *others) in zip(coded, wanted, strict=True):
        assert lanes or sections == own
        require_same(maps, others)
    decoded = model.engine.decode_many([(sections, height, width) for sections, *_ in coded])
    for maps, (_, *others) in zip(decoded, wanted, strict=True):
        require_same([None if own is None else torch.from_numpy(own) for own in maps], others)


def require_decodes(engine: DeviceBoard, model: Any, height: int, width: int, *groups: int | None) -> None:
    """The C++ engine's streams, whole and as previews of so many groups."""
    streams = [(sections, height, width) for sections, *_ in model.engine.encode_many(targets_of(model, height, width))]
    for read in groups:
        wanted = model.engine.decode_many(streams, groups=read)
        for maps, others in zip(engine.decode_many(streams, groups=read), wanted, strict=True):
            require_same(maps, others)


def engine_of(model: Any, device: torch.device) -> DeviceBoard:
    return DeviceBoard(model.to_arrays(), model.z_tables, model.y_tables, device)


def test_channel_groups_are_the_cpus(device):
    model = board_model("small groups")
    engine = engine_of(model, device)
    require_encodes(engine, model, 3, 2, lanes=64)
    require_decodes(engine, model, 1, 3, None, 1)


BOARDS = ["small groups", "groups", "checkerboard"]


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
    require_decodes(engine, model, 19, 6, None, 1)


def test_damaged_sections_of_boards_are_reported(device):
    model = board_model("small groups")
    engine = engine_of(model, device)
    (sections, *_), _ = model.engine.encode_many(targets_of(model, 1, 2))
    damaged = [data[:-1] if i == 3 else data for i, data in enumerate(sections)]
    with pytest.raises(CorruptStreamError):
        engine.decode_many([(damaged, 1, 2)])
    with pytest.raises(CorruptStreamError, match="too few"):
        engine.decode_many([(sections, 1 << 12, 1 << 12)])


def test_drivers_find_the_board_engine(device):
    model = board_model("small groups")
    z, y = random_latents(model, 1, 2)
    targets = [Target(z, y, zones_for(1.0))]
    ((sections, latents),) = drivers.encode_many(model, targets, "triton")
    assert sections == drivers.encode_many(model, targets, "cpp")[0][0]
    assert drivers.sections_many(model, targets, "triton") == [sections]
    (again,) = drivers.decode_many(model, [(sections, 1, 2)], "triton")
    assert same(latents, again) and same(again, drivers.decode_many(model, [(sections, 1, 2)], "reference")[0])
