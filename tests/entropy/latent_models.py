"""Small integer models of every kind of latent, with random weights that matter, and latents for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn as nn

from fastlic.codec import drivers
from fastlic.entropy.convert import convert
from fastlic.entropy.groups.convert import GroupNetworks, Networks, convert_groups
from fastlic.entropy.groups.model import Group, IntegerGroups
from fastlic.entropy.mlic.convert import convert as convert_mlic
from fastlic.entropy.mlic.model import IntegerMLIC
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.passes import LatentModel, Latents, hyper_size
from fastlic.lifelike.models import enliven, logistic, photo
from fastlic.models import JAHP, MLIC, MeanScaleHyperprior, MLICPlus, MLICPlusPlus
from fastlic.models.density import EntropyBottleneck
from fastlic.models.mlic import Sizes
from fastlic.ops.latents import Target

N = 7  # channels of z of groups and slices
_EDGES = np.array([-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 1], np.int64)
_SHIFTS = np.array([1, 2, 24, 31, 32, 33, 40, 45, 61, 62], np.uint8)


def extreme_requantisers(arrays: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A model's arrays with any valid multiplier and shift, so that clipping and rounding are exercised."""
    arrays = dict(arrays)
    for name, array in arrays.items():
        if name.endswith((".multiplier", ".negative")):
            wide = rng.integers(-(2**31), 2**31, array.shape)
            some = np.where(rng.random(array.shape) < 0.2, rng.choice(_EDGES, array.shape), wide)
            arrays[name] = some.astype(np.int32)
        elif name.endswith(".shift"):
            arrays[name] = rng.choice(_SHIFTS, array.shape)
    return arrays


# ---- one masked context, or none


def random_floats(cls: type[MeanScaleHyperprior], n: int, m: int, **options: Any) -> MeanScaleHyperprior:
    """A random network whose scales cover the table and whose means matter."""
    torch.manual_seed(n * m)
    model = cls(n, m, (8, 8, 8), **options).eval()
    last = model.entropy_parameters[-1] if isinstance(model, JAHP) else model.h_s[-1]
    last.weight.data *= 30
    last.bias.data = torch.cat([torch.logspace(-1, 1.5, m), torch.linspace(-3, 3, m)])
    return model


def gaussian(cls: type[MeanScaleHyperprior], n: int, m: int, **options: Any) -> IntegerEntropyModel:
    return convert(random_floats(cls, n, m, **options), [torch.rand(3, 96, 128)])


def sub_pixel(cls: type[MeanScaleHyperprior], n: int, m: int) -> IntegerEntropyModel:
    """The same with the hyper synthesis of cheng2020: convolutions whose outputs are shuffled into 2x2 cells."""
    model = random_floats(cls, n, m)
    up, act = nn.PixelShuffle(2), nn.LeakyReLU()
    wide, last = nn.Conv2d(m, 4 * (m + 3), 3, padding=1), nn.Conv2d(m + 3, 2 * m, 3, padding=1)
    if cls is MeanScaleHyperprior:
        last.weight.data *= 30
        last.bias.data = model.h_s[-1].bias.data
    first, second = nn.Sequential(nn.Conv2d(n, 4 * n, 3, padding=1), up), nn.Conv2d(n, m, 1)
    model.h_s = nn.Sequential(nn.Conv2d(n, n, 3, padding=1), act, first, act, second, nn.ReLU(), wide, up, act, last)
    made = convert(model, [torch.rand(3, 96, 128)])
    assert {layer.kind.shuffle for layer in made.hyper} == {1, 2}
    return made


# ---- channel groups


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
    h_a = nn.Sequential(conv(52, N, 3), nn.AvgPool2d(4))
    return Networks(h_a, h_s, bottleneck(), groups)


def checkerboard() -> Networks:
    """One group of two panels, as cheng2020-anchor-checkerboard has it."""
    h_s = nn.Sequential(nn.ConvTranspose2d(N, 40, 5, 2, 2, 1), nn.ReLU(), nn.ConvTranspose2d(40, 70, 5, 2, 2, 1))
    parameters = nn.Sequential(conv(198, 64, 1), nn.ReLU(), conv(64, 128, 1))
    # Unlike the other model's this analysis has an integer form.
    h_a = nn.Sequential(
        *(conv(64, 40, 3), nn.LeakyReLU(), nn.Conv2d(40, 20, 5, 2, 2), nn.ReLU(), nn.Conv2d(20, N, 3, 2, 1))
    )
    return Networks(h_a, h_s, bottleneck(), [GroupNetworks(Group(64, 0), None, conv(64, 128, 5), parameters)])


def bottleneck() -> EntropyBottleneck:
    own = EntropyBottleneck(N).eval()
    logistic(own, torch.linspace(0.5, 3, N))
    return own


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


def seeded(networks: Any) -> IntegerGroups:
    torch.manual_seed(5)
    return converted(networks())


# ---- slices


def slices(cls: type[MLICPlusPlus], **how: Any) -> IntegerMLIC:
    """Three slices of 12 channels (no whole panel of 32) and as uneven sizes inside; alive in every part."""
    torch.manual_seed(11)
    sizes = Sizes((16, 12, 9), (10, 12, 6), (13, 6), (14, 8), (33, 12, 10), (12, 8))
    own = {"M": 36, "slices": 3, "sizes": sizes, **how}
    m = own["M"]
    model = cls(N, **own).eval()
    x = photo()[None, :, 128:256, 256:448]
    z_spread = torch.linspace(0.3, 2, N)
    enliven(model, x, torch.linspace(0.2, 4, m), z_spread)
    return convert_mlic(model, [x[0]])


_NARROW: dict[str, Any] = {"widths": (4, 6, 8)}
# No two alike, none of whole panels, and an odd number of the hyperprior's features.
SLIM = {"hyper": [10, 9, 13], "context": 11, "parameters": [35, 12]}

MODELS = {
    "context": lambda: gaussian(JAHP, 16, 24),
    "context, odd channels": lambda: gaussian(JAHP, 7, 33),
    "context, 64-lane channels": lambda: gaussian(JAHP, 16, 64),
    "context, slim": lambda: gaussian(JAHP, 7, 22, sizes=SLIM),
    "no context": lambda: gaussian(MeanScaleHyperprior, 16, 24),
    "no context, odd channels": lambda: gaussian(MeanScaleHyperprior, 5, 19),
    "context, sub-pixel": lambda: sub_pixel(JAHP, 7, 33),
    "no context, sub-pixel": lambda: sub_pixel(MeanScaleHyperprior, 6, 20),
    "groups": lambda: seeded(uneven),
    "checkerboard": lambda: seeded(checkerboard),
    "mlic": lambda: slices(MLIC, **_NARROW),
    "mlic+": lambda: slices(MLICPlus, **_NARROW),
    "mlic++": lambda: slices(MLICPlusPlus, **_NARROW),
    "mlic++, early": lambda: slices(MLICPlusPlus, **_NARROW, blocks=1, early=True),
    # The published hyper synthesis, whose convolutions are shuffled into 2x2 cells; the others transpose.
    "mlic++, sub-pixel": lambda: slices(MLICPlusPlus),
    "mlic, early": lambda: slices(MLIC, **_NARROW, early=True),
    # No channel context whose place the early one could take.
    "mlic+, one slice": lambda: slices(MLICPlus, **{**_NARROW, "slices": 1, "early": True}),
}
GAUSSIAN = ["context", "no context"]
BOARDS = ["groups", "mlic", "mlic+", "mlic++", "mlic++, early"]
SOME = [*GAUSSIAN, *BOARDS]  # of every way to code


@cache
def model_of(name: str) -> Any:
    return MODELS[name]()


# ---- latents, and one image through the drivers


def random_latents(model: LatentModel, height: int, width: int, spread: float = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    z = torch.randn(model.hyper_channels, *hyper_size(height, width), generator=generator) * spread / 3
    return z, torch.randn(model.latent_channels, height, width, generator=generator) * spread


def encode(
    model: LatentModel, z: torch.Tensor, y: torch.Tensor, backend: Any = "auto", zones: np.ndarray | None = None
) -> tuple[list[bytes], Latents]:
    return drivers.encode_many(model, [Target(z, y, zones)], backend)[0]


def decode(
    model: LatentModel,
    sections: Sequence[bytes],
    height: int,
    width: int,
    backend: Any = "auto",
    groups: int | None = None,
) -> Latents:
    return drivers.decode_many(model, [(sections, height, width)], backend, groups=groups)[0]


def same(a: Latents, b: Latents) -> bool:
    mine, others = a.named(), b.named()
    return mine.keys() == others.keys() and all(torch.equal(mine[name].cpu(), others[name].cpu()) for name in mine)
