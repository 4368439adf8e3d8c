"""The entropy engine: JAHP at 512x768, stream to latents and back, and whole images beside their transforms; shipped
transforms as they run without gradients beside their plain form.

Weights are random with the statistics of trained ones (fastlic.bench.lifelike). The engine is measured in CPU time of
one thread; whole images in wall time on torch's threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import torch
import torch.nn as nn

import fastlic
from fastlic import _native
from fastlic.bench.lifelike import lifelike, photo
from fastlic.bench.runner import Case
from fastlic.codec import Codec, drivers
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.models import JAHP, MeanScaleHyperprior

Wanted = Callable[[str], bool]
Run = Callable[[], Any]
# int16 products a cycle: one 512-bit or two 256-bit multiply-adds. (Intel's server cores issue two of 512 bits.)
PRODUCTS_PER_CYCLE = 32


def cases(wanted: Wanted) -> Iterator[Case]:
    yield from latent_cases(wanted)
    yield from image_cases(wanted)
    yield from transform_cases(wanted)


@cache
def model_of(M: int) -> MeanScaleHyperprior:
    return lifelike(JAHP, 192, M)


@cache
def codec_of(M: int) -> Codec:
    return Codec(model_of(M), [photo()], name=f"jahp 192/{M}")


def on_isa(isa: str, run: Run) -> Run:
    def forced() -> Any:
        before = _native.get_isa()
        _native.set_isa(isa)
        try:
            return run()
        finally:
            _native.set_isa(before)

    return forced


def products(model: IntegerEntropyModel, height: int, width: int) -> int:
    """Multiplications that the engine does: Winograd's 49 per 2x2 cell and phase group of a transposed layer, 16 of a
    plain one, and every weight of the context and parameter layers once a position."""
    total, up = 0, 1
    for layer in model.hyper:
        channels = layer.weight.shape[0] * layer.weight.shape[1]
        positions = (height // 4 * up) * (width // 4 * up)
        total += channels * positions * (49 if layer.kind.transposed else 16) // 4
        up *= layer.kind.stride if layer.kind.transposed else 1
    dense = [*model.parameters, *([model.context] if model.context is not None else [])]
    return total + sum(layer.weight.size for layer in dense) * height * width


def latent_cases(wanted: Wanted) -> Iterator[Case]:
    supported = _native.supported_isas()
    best = supported[-1]
    limit = _native.clock_ghz() * 1e9 * PRODUCTS_PER_CYCLE
    configurations = [(192, isa, "") for isa in supported]
    configurations += [(320, best, ""), (192, best, "reference"), (192, best, "compressai mbt2018")]
    for M, isa, peer in configurations:
        names = {way: f"{way} jahp 192/{M} {isa}" + (f" vs {peer}" if peer else "") for way in ("decode", "encode")}
        if not any([wanted(name) for name in names.values()]):
            continue
        codec = codec_of(M)
        z, y, _ = codec._analyse(photo(), None)
        height, width = y.shape[1:]
        engine = codec.entropy.engine
        fixed = [np.asarray(drivers.fixed_point(t).int()) for t in (z, y)]
        z_bytes, y_bytes, *_ = engine.encode(fixed[0], fixed[1])
        runs: dict[str, Run] = {
            "decode": partial(engine.decode, z_bytes, y_bytes, height, width),
            "encode": partial(engine.encode, fixed[0], fixed[1]),
        }
        peers: dict[str, tuple[Run | None, float]] = {"decode": (None, 1.0), "encode": (None, 1.0)}
        if peer == "reference":
            plain: dict[str, Any] = {"backend": "reference"}
            sections = [z_bytes, y_bytes]
            peers = {
                "decode": (partial(drivers.decode, codec.entropy, sections, height, width, **plain), 1.0),
                "encode": (partial(drivers.encode, codec.entropy, z, y, **plain), 1.0),
            }
        elif peer:
            loops = compressai_loops(M)
            if loops is None:
                continue
            peers = {"decode": (loops[0], PEER_SHARE), "encode": (loops[1], PEER_SHARE)}
        for way, name in names.items():
            if not wanted(name):
                continue
            run, (other, share) = runs[way], peers[way]
            yield Case(
                name,
                on_isa(isa, run),
                1,
                "image",
                peer=other,
                peer_name=peer,
                peer_work=share,
                roofline=limit / products(codec.entropy, height, width) if isa != "scalar" else None,
                bound="32 multiplications a cycle" if isa != "scalar" else "",
                note=f"{len(z_bytes)} + {len(y_bytes)} bytes",
            )


# CompressAI's loop takes seconds an image and costs the same at every position: a quarter of the image shows its rate.
PEER_SHARE = 0.25


def compressai_loops(M: int) -> tuple[Run, Run] | None:
    """CompressAI's own mbt2018 with the same weights, transforms taken out: (decode, encode) of 256x384 pixels."""
    try:
        from compressai.models import JointAutoregressiveHierarchicalPriors
    except ImportError:  # absent, or without the half of torchvision that it imports
        return None

    source = model_of(M)
    theirs = JointAutoregressiveHierarchicalPriors(192, M).eval()
    own = {k: v for k, v in source.state_dict().items() if k in theirs.state_dict() and v.numel()}
    theirs.load_state_dict({**theirs.state_dict(), **own})
    theirs.update(force=True)
    image = photo()[None, :, :256, :384]
    with torch.no_grad():
        y = theirs.g_a(image)
        theirs.g_a = nn.Sequential()  # both transforms hand their input through: what is timed lies between them
        theirs.g_s = nn.Sequential()
        coded = theirs.compress(y)

    def decode() -> None:
        with torch.no_grad():
            theirs.decompress(coded["strings"], coded["shape"])

    def encode() -> None:
        with torch.no_grad():
            theirs.compress(y)

    return decode, encode


def image_cases(wanted: Wanted) -> Iterator[Case]:
    """Whole images beside the transforms alone: what the ratio lacks to 1 is the price of all entropy coding."""
    names = ("decompress whole image vs g_s", "compress whole image vs g_a + h_a")
    if not any([wanted(name) for name in names]):
        return
    codec, image = codec_of(192), photo()
    data = codec.compress(image)
    assert isinstance(data, bytes)
    parts = codec._transforms["cpu"]
    latents = (codec.decode_latents(data)["y"] / 64).float()[None].contiguous(memory_format=torch.channels_last)
    x = image[None].contiguous(memory_format=torch.channels_last)

    def synthesise() -> None:
        with torch.no_grad():
            parts.g_s(latents)

    def analyse() -> None:
        with torch.no_grad():
            parts.h_a(parts.g_a(x))

    note = f"{torch.get_num_threads()} threads; ratio r means 1/r of the transform's time"
    if wanted(names[0]):
        yield Case(
            names[0],
            lambda: codec.decompress(data),
            1,
            "image",
            peer=synthesise,
            peer_name="g_s",
            clock="wall",
            note=note,
        )
    if wanted(names[1]):
        yield Case(
            names[1],
            lambda: codec.compress(image),
            1,
            "image",
            peer=analyse,
            peer_name="g_a + h_a",
            clock="wall",
            note=note,
        )


def transform_cases(wanted: Wanted) -> Iterator[Case]:
    """g_a and g_s of shipped weights in the form that codecs run (fastlic.models.inference), beside the plain one."""
    for model in ("jahp", "mlic++"):
        names = {part: f"{part} of {model} 512x768, without gradients vs plain" for part in ("g_a", "g_s")}
        if not any([wanted(name) for name in names.values()]):
            continue
        codec, x = fastlic.load(model), photo()[None].contiguous(memory_format=torch.channels_last)
        parts = codec._transforms["cpu"]
        with torch.no_grad():
            inputs = {"g_a": x, "g_s": parts.g_a(x)}
        for part, name in names.items():
            if wanted(name):
                run = partial(_with_gradients, getattr(parts, part), inputs[part])
                yield Case(
                    name, partial(run, False), 1, "image", peer=partial(run, True), peer_name="plain", clock="wall"
                )


def _with_gradients(network: nn.Module, x: torch.Tensor, enabled: bool) -> None:
    # Weights want none: with gradients enabled nothing is recorded, but layers take their plain form.
    with torch.set_grad_enabled(enabled):
        network(x)
