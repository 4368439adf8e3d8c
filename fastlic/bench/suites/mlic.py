"""The MLIC family at its published size, 83.5 million parameters: beside the official formulation in plain torch.

Weights are random and lifelike (fastlic.lifelike.models): alive in every part, of untypical rate. The official
formulation is that of ``fastlic.codec.mlicpp_official``, which codes the official code's streams: networks at all
positions, local windows unfolded. One thread throughout, CPU time of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from fastlic.bench import memory
from fastlic.bench.runner import Case, Run, Wanted, chosen, one_thread
from fastlic.codec import drivers, mlicpp_official
from fastlic.entropy.mlic.convert import convert
from fastlic.entropy.mlic.model import IntegerMLIC
from fastlic.entropy.passes import Latents
from fastlic.lifelike.models import Given, lifelike_mlic, photo
from fastlic.models import MLICPlus, MLICPlusPlus
from fastlic.models.layers import channels_last
from fastlic.models.mlic.checkerboard import anchors
from fastlic.ops.latents import Target

OFFICIAL = "plain torch, official formulation"
LARGE = (1440, 2048)


def cases(wanted: Wanted, model: tuple[int, int] = (192, 320), size: tuple[int, int] = (512, 768)) -> Iterator[Case]:
    """Args: model: N and M; size: of the image."""
    yield from decoding_cases(wanted, model, size)
    yield from part_cases(wanted, model, size, LARGE if size == (512, 768) else size)


@cache
def models(cls: type[MLICPlusPlus], n: int, m: int) -> tuple[MLICPlusPlus, IntegerMLIC]:
    floats = lifelike_mlic(cls, n, m)
    return floats, convert(floats, [photo()[:, :256, :256]])


def decoding_cases(wanted: Wanted, model: tuple[int, int], size: tuple[int, int]) -> Iterator[Case]:
    place = f"{size[0]}x{size[1]}"
    labels = {
        "entropy": f"decompress mlic++ {place}, all but g_s",
        "encode": f"compress mlic++ {place}, all but g_a and h_a",
        "whole": f"decompress mlic++ {place} vs its own g_s",
    }
    names = chosen(wanted, labels)
    if not names:
        return
    floats, integers = models(MLICPlusPlus, *model)
    image = photo()[None, :, : size[0], : size[1]].contiguous()
    with torch.no_grad():
        y = floats.g_a(image)
        pair = (floats.hyper_analysis(y)[0], y[0])
    ((sections, latents),) = drivers.encode_many(integers, [Target(*pair)])
    stream = (sections, *y.shape[2:])
    encode, decode = official(floats, pair[0][None], y)
    synthesis = copy.deepcopy(floats.g_s)
    channels_last(synthesis)

    def latent(decoded: Latents) -> Tensor:
        return (decoded.y.double() / 64).float()[None].contiguous(memory_format=torch.channels_last)

    def whole() -> Any:
        return synthesis(latent(drivers.decode_many(integers, [stream])[0]))

    y_hat = latent(latents)
    share = "the ratio is g_s over all: 0.8 is a decompress of 1.25 times g_s"
    decoding, encoding = partial(drivers.decode_many, integers), partial(drivers.encode_many, integers)
    runs: dict[str, tuple[Run, Run, str, str]] = {
        "entropy": (partial(decoding, [stream]), decode, OFFICIAL, f"{sum(map(len, sections))} bytes"),
        "encode": (partial(encoding, [Target(*pair)]), encode, OFFICIAL, ""),
        "whole": (whole, lambda: synthesis(y_hat), "g_s", share),
    }
    for key, name in names.items():
        run, peer, peer_name, note = runs[key]
        yield Case(name, one_thread()(run), 1, "image", one_thread()(peer), peer_name, note=note)


def part_cases(wanted: Wanted, model: tuple[int, int], size: tuple[int, int], large: tuple[int, int]) -> Iterator[Case]:
    name = f"local context, one slice of {size[0]}x{size[1]}"
    if wanted(name):
        floats, integers = models(MLICPlusPlus, *model)
        latent = anchors(torch.randint(-300, 300, (floats.slice_channels, size[0] // 16, size[1] // 16)))
        run = one_thread()(partial(integers.engine.local_context, 1, latent.numpy()))
        peer = one_thread()(partial(floats.local_context[1], latent.float()[None] / 64))
        note = f"peak memory {shown(memory.peak(run))}, of the peer {shown(memory.peak(peer))}"
        yield Case(name, run, 1, "call", peer=peer, peer_name="unfolded windows in torch", note=note)
    name = f"softmax attention of mlic+, last slice of {large[0]}x{large[1]}"
    if wanted(name):
        floats, integers = models(MLICPlus, *model)
        last, h, w = floats.slices - 1, large[0] // 16, large[1] // 16
        decoded = torch.randint(-500, 500, (floats.slice_channels * last, h, w))
        run = one_thread()(partial(integers.engine.inter_context, last, decoded.numpy()))
        peer = one_thread()(partial(floats.global_inter_context[last], decoded.float()[None] / 500))
        whole = shown(4 * last * (h * w) ** 2)
        note = f"peak memory {shown(memory.peak(run))}; attention maps held whole would be {whole}"
        yield Case(name, run, 1, "call", peer=peer, peer_name="plain torch, block by block", note=note)


def shown(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:.1f} MB"


@torch.no_grad()
def official(model: MLICPlusPlus, z: Tensor, y: Tensor) -> tuple[Run, Run]:
    """(encode, decode) of latents [1, N, hz, wz] and [1, M, h, w], all between the transforms, in the official way."""
    bare = copy.deepcopy(model)
    bare.g_a, bare.h_a, bare.g_s = Given(y), Given(z), Given()  # type: ignore[assignment]
    mlicpp_official.update(bare)
    nothing = torch.zeros(1, 3, 16 * y.shape[2], 16 * y.shape[3])
    encode = partial(mlicpp_official.compress, bare, nothing)
    coded = encode()
    return encode, partial(mlicpp_official.decompress, bare, coded["strings"], coded["shape"])
