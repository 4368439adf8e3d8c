"""Transforms of shipped weights, and whole images: integers beside floats, and beside AVIF and WebP.

One thread, CPU time where nothing else is told. The image is the demonstration photo at Kodak's size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from PIL import AvifImagePlugin, features
from torch import Tensor

import fastlic
from fastlic import _native
from fastlic.bench.runner import Case, Run, Runs, Wanted, offered, one_thread
from fastlic.bench.suites.engine import layer_products, roofline
from fastlic.codec import Codec
from fastlic.evaluate.peers import Peer
from fastlic.integers.network import LayerStep, Network, NormStep
from fastlic.lifelike.models import photo
from fastlic.ops.backends import instruction_set, torch_threads

WAYS = ("compress", "decompress")
QUALITY = 4.0
_MEGAPIXELS = 512 * 768 / 1e6
# One thread, unlike the peers of fastlic.evaluate, whose files are measured by their rate.
_QUALITIES = tuple(range(5, 96, 5))
_PEERS = Peer("AVIF", _QUALITIES, {"speed": 6, "max_threads": 1}), Peer("WebP", _QUALITIES, {"method": 6})


def cases(wanted: Wanted) -> Iterator[Case]:
    models = [model for model in fastlic.info()["weights"] if codec_of(model).pixels is not None]
    yield from network_cases(wanted, models)
    yield from image_cases(wanted, models)
    yield from thread_cases(wanted, models)
    yield from peer_cases(wanted, models)


@cache
def codec_of(model: str) -> Codec:
    return fastlic.load(model)


def pixels() -> Tensor:
    return (photo() * 255).round().to(torch.uint8)


def quality_of(codec: Codec) -> float | None:
    return QUALITY if codec.qualities else None


def products(network: Network, positions: int) -> float:
    """Multiplications that the engine does on a map of so many positions."""
    at, total = [float(positions)], 0.0
    for step, reads in zip(network.steps, network.reads, strict=True):
        own, here = 0.0, at[reads[0]]
        if isinstance(step, LayerStep):
            own, here = layer_products(step.layer, here)
        elif isinstance(step, NormStep):
            own = here * step.gamma.size
        total += own
        at.append(here)
    return total


def network_cases(wanted: Wanted, models: list[str]) -> Iterator[Case]:
    """g_a and g_s alone."""
    best = _native.best_isa()
    choices = [(model, isa) for model in models for isa in _native.supported_isas() if model == "jahp" or isa == best]
    label = "{way} of {} 512x768, integers {} vs floats"
    for (model, isa), names in offered(wanted, choices, label, ("g_a", "g_s")):
        codec = codec_of(model)
        integers: Any = codec.pixels
        parts, quality = codec.transforms(), quality_of(codec)
        if not hasattr(integers, "g_s"):
            continue  # not of a Gaussian family
        y = integers.analyse(pixels(), quality)
        floats = {"g_a": photo()[None], "g_s": (y.double() / 64).float()[None]}
        for way, name in names.items():
            x = floats[way].contiguous(memory_format=torch.channels_last)
            limit = roofline(isa, products(getattr(integers, way), 512 * 768 if way == "g_a" else y[0].numel()))
            other: Run = one_thread()(partial(getattr(parts, way), x))
            yield Case(
                name, instruction_set(isa)(one_thread()(_network_of(codec, way))), 1, "image", other, "floats", **limit
            )


def image_cases(wanted: Wanted, models: list[str]) -> Iterator[Case]:
    """Whole images by integers and by floats."""
    for (model,), names in offered(wanted, [(m,) for m in models], "{way} of {} 512x768, integers vs floats", WAYS):
        codec = codec_of(model)
        for way, name in names.items():
            call, *given = _call(codec, way)
            runs = {how: one_thread()(partial(call, *given, transforms=how)) for how in ("integer", "float")}
            yield Case(name, runs["integer"], _MEGAPIXELS, "MP", runs["float"], "floats")


def thread_cases(wanted: Wanted, models: list[str]) -> Iterator[Case]:
    """One image by every core of the machine, in wall time."""
    cores = os.cpu_count() or 1
    if cores < 2:
        return
    label = "{way} of {} 512x768, integers, every core vs one"
    for (model,), names in offered(wanted, [(m,) for m in models], label, ("g_a", "g_s", *WAYS)):
        codec = codec_of(model)
        for way, name in names.items():
            if way in WAYS:
                call, *given = _call(codec, way)
                runs = [torch_threads(count)(partial(call, *given)) for count in (cores, 1)]
            elif hasattr(codec.pixels, "g_s"):
                runs = [partial(_network_of(codec, way), threads=count) for count in (cores, 1)]
            else:
                continue  # not of a Gaussian family
            yield Case(name, runs[0], _MEGAPIXELS, "MP", runs[1], "one core", clock="wall", note=f"{cores} cores")


def _network_of(codec: Codec, way: str) -> Callable[..., Tensor]:
    """g_a or g_s of a codec of a Gaussian family, on the image or on its latents."""
    integers: Any = codec.pixels
    quality = quality_of(codec)
    if way == "g_a":
        return partial(integers.analyse, pixels(), quality)
    return partial(integers.synthesise, integers.analyse(pixels(), quality), quality)


def _call(codec: Codec, way: str) -> tuple[Any, ...]:
    if way == "compress":
        return codec.compress, pixels(), quality_of(codec)
    return codec.decompress, codec.compress(pixels(), quality_of(codec)), "cpu", torch.uint8


def peer_cases(wanted: Wanted, models: list[str]) -> Iterator[Case]:
    """Whole images, beside the formats that Pillow writes, at about the same number of bytes."""
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    choices = [(model, peer.name, peer) for model in models for peer in _PEERS if features.check(peer.name.lower())]
    for (model, _, peer), names in offered(wanted, choices, "{way} of {} 512x768 vs {}", WAYS):
        codec, x = codec_of(model), pixels()
        size = len(codec.compress(x, quality_of(codec)))
        files = {quality: peer.compress(x, quality) for quality in peer.qualities}
        quality, data = min(files.items(), key=lambda one: abs(len(one[1]) - size))
        others: Runs = {"compress": partial(peer.compress, x, quality), "decompress": partial(peer.decompress, data)}
        note = f"{size} bytes, {peer.name} {len(data)} at quality {quality}"
        for way, name in names.items():
            call, *given = _call(codec, way)
            yield Case(name, one_thread()(partial(call, *given)), _MEGAPIXELS, "MP", others[way], peer.name, note=note)
