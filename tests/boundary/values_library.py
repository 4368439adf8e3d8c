"""What valid calls of the codec, of integers and of entropy models are made of, beside values.py."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import values
from values import H, W, arrays_of, latents

from fastlic.codec import (
    drivers,
    mlicpp_official,
)
from fastlic.entropy import (
    convert,
    model,
)
from fastlic.entropy.channel_slices import convert as slices_convert
from fastlic.entropy.channel_slices import model as slices_model
from fastlic.entropy.groups import convert as groups_convert
from fastlic.entropy.groups import model as groups_model
from fastlic.entropy.mlic import model as mlic_model
from fastlic.integers import fixed, ranges
from fastlic.integers.graph import Graph
from fastlic.models import JAHP, MLICPlusPlus
from fastlic.models.density import EntropyBottleneck
from fastlic.models.mlic import Sizes
from fastlic.ops.latents import Target

SCRATCH = tempfile.TemporaryDirectory(prefix="fastlic-boundary-")
FOLDER = Path(SCRATCH.name)
I64, F64 = torch.int64, np.float64


def image(*lead: int) -> torch.Tensor:
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.integers(0, 256, (*lead, 3, 20, 33)).astype(np.uint8))


def picture() -> torch.Tensor:
    return image()[:, :16, :32].float() / 255


@cache
def jahp() -> JAHP:
    torch.manual_seed(1)
    return JAHP(4, 6, (4, 4, 4), qualities=2).eval()


@cache
def mlic() -> MLICPlusPlus:
    torch.manual_seed(3)
    made = MLICPlusPlus(3, 8, slices=2, sizes=Sizes((5,), (4, 4, 3), (4, 3), (4, 4), (6, 5), (5,))).eval()
    mlicpp_official.update(made)
    return made


@cache
def integers(name: str) -> Any:
    kind = {"jahp": model.IntegerEntropyModel, "groups": groups_model.IntegerGroups}.get(name, mlic_model.IntegerMLIC)
    return kind.from_arrays(arrays_of(name))


MLIC = "mlic_plus_plus"


def floats(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    z, y = values.z_and_y(name).values()
    return torch.from_numpy(z) / 64, torch.from_numpy(y) / 64


def target(name: str) -> Target:
    return Target(*floats(name), values.zones() if name != "groups" else None)


@cache
def as_coded(name: str) -> Any:
    return drivers.encode_many(integers(name), [target(name)])[0]


def maps(channels: int, height: int = H, width: int = W) -> torch.Tensor:
    return torch.from_numpy(latents(channels, height, width, False)).long().clamp(-2000, 2000)


@cache
def bottleneck() -> EntropyBottleneck:
    torch.manual_seed(1)
    return EntropyBottleneck(4).eval()


@cache
def networks() -> convert.EntropyNetworks:
    return convert.networks_of(jahp())


def float_latents() -> list[torch.Tensor]:
    return [torch.randn(1, 6, 4, 4, generator=torch.Generator().manual_seed(2)) * 3]


@cache
def seen() -> ranges.Ranges:
    return convert.calibrate(networks(), float_latents())


@cache
def group_networks() -> groups_convert.Networks:
    torch.manual_seed(3)
    group = groups_model.Group(6, 0)
    own = groups_convert.GroupNetworks(
        group, None, nn.Conv2d(6, 5, 3, padding=1), nn.Sequential(nn.Conv2d(9, 7, 1), nn.ReLU(), nn.Conv2d(7, 12, 1))
    )
    h_s = nn.Sequential(nn.ConvTranspose2d(4, 5, 5, 2, 2, 1), nn.LeakyReLU(), nn.ConvTranspose2d(5, 4, 3, 2, 1, 1))
    h_a = nn.Sequential(nn.Conv2d(6, 4, 5, 2, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1))
    return groups_convert.Networks(h_a, h_s, bottleneck(), [own])


def slice_networks() -> slices_convert.SliceNetworks:
    torch.manual_seed(3)
    h_a = nn.Sequential(nn.Conv2d(6, 4, 5, 2, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1))

    def upwards() -> nn.Sequential:
        return nn.Sequential(nn.ConvTranspose2d(4, 5, 5, 2, 2, 1), nn.GELU(), nn.ConvTranspose2d(5, 6, 3, 2, 1, 1))

    graphs = {f"hyper.{name}": Graph.of(upwards(), name) for name in ("mean", "scale")}
    for k, known in enumerate((6, 9)):
        for name, inputs in (("mean", known), ("scale", known), ("residue", known + 3)):
            graphs[f"{name}.{k}"] = Graph.of(nn.Conv2d(inputs, 3, 3, padding=1), f"{name}.{k}")
    own = (slices_model.Slice(3), slices_model.Slice(3, (0,)))
    return slices_convert.SliceNetworks(h_a, bottleneck(), own, graphs)


@cache
def slices() -> slices_model.IntegerChannelSlices:
    return slices_convert.convert_slices(slice_networks(), float_latents())


def requantiser() -> fixed.Requantiser:
    return fixed.Requantiser.from_factors(np.full(4, 0.3), 12)
