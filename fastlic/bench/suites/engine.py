"""The entropy engine: JAHP at 512x768, stream to latents and back, and whole images beside their transforms; shipped
transforms as they run without gradients beside their plain form.

Weights are random with the statistics of trained ones (fastlic.bench.lifelike). The engine is measured in CPU time of
one thread; whole images in wall time on torch's threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import torch

import fastlic
from fastlic import _native
from fastlic.bench import peers
from fastlic.bench.lifelike import lifelike, photo
from fastlic.bench.runner import Case, Run, Runs, Wanted, chosen, offered
from fastlic.codec import Codec, drivers
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.integers.fixed import fixed_point
from fastlic.models import JAHP, MeanScaleHyperprior
from fastlic.ops.backends import instruction_set
from fastlic.ops.latents import Target

WAYS = ("decode", "encode")
# CompressAI's loop takes seconds an image and costs the same at every position: a quarter of the image shows its rate.
PEER_SHARE = 0.25


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


def products(model: IntegerEntropyModel, height: int, width: int) -> int:
    """Multiplications that the engine does: Winograd's 49 per 2x2 cell of a transposed layer, for all its phases,
    16 of a plain one, and every weight of the context and parameter layers once a position."""
    total, up = 0, 1
    for layer in model.hyper:
        channels = layer.weight.shape[0] * layer.weight.shape[1]
        positions = (height // 4 * up) * (width // 4 * up)
        total += channels * positions * (49 if layer.kind.transposed else 16) // 4
        up *= layer.kind.stride if layer.kind.transposed else 1
    dense = [*model.parameters, *([model.context] if model.context is not None else [])]
    return total + sum(layer.weight.size for layer in dense) * height * width


def roofline(isa: str, model: IntegerEntropyModel, height: int, width: int) -> dict[str, Any]:
    """Images a second if the engine did nothing but its products, at the rate measured for this instruction set."""
    with instruction_set(isa):
        rate = _native.peak_products()
    return {"roofline": rate / products(model, height, width), "bound": "multiply-adds in registers"} if rate else {}


def latent_cases(wanted: Wanted) -> Iterator[Case]:
    supported = _native.supported_isas()
    configurations = [(192, isa, "") for isa in supported]
    configurations += [(320, supported[-1], "")]
    configurations += [(192, supported[-1], f" vs {peer}") for peer in ("reference", "compressai mbt2018")]
    for (M, isa, suffix), names in offered(wanted, configurations, "{way} jahp 192/{} {}{}", WAYS):
        peer = suffix.removeprefix(" vs ")
        codec = codec_of(M)
        target = codec.analyse(photo()).target
        height, width = target.y.shape[1:]
        engine = codec.entropy.engine
        fixed = Target(*(fixed_point(t, torch.int32).numpy() for t in target[:2]))
        sections = engine.encode_many([fixed])[0][0]
        stream = sections, height, width
        runs: Runs = {
            "decode": partial(engine.decode_many, [stream]),
            "encode": partial(engine.encode_many, [fixed]),
        }
        others: Runs = {}
        if peer == "reference":
            others = {
                "decode": partial(drivers.decode_many, codec.entropy, [stream], "reference"),
                "encode": partial(drivers.encode_many, codec.entropy, [target], "reference"),
            }
        elif peer:
            with torch.no_grad():
                y = model_of(M).g_a(photo()[None, :, :256, :384])
            if not (others := peers.compressai_loops(y, model_of(M).state_dict())):
                continue
        more: dict[str, Any] = {"peer_name": peer, "peer_work": PEER_SHARE if "compressai" in peer else 1.0}
        more |= {"note": " + ".join(str(len(section)) for section in sections) + " bytes"}
        more |= roofline(isa, codec.entropy, height, width)
        for way, name in names.items():
            yield Case(name, instruction_set(isa)(runs[way]), 1, "image", others.get(way), **more)


def image_cases(wanted: Wanted) -> Iterator[Case]:
    """Whole images beside the transforms alone: what the ratio lacks to 1 is the price of all entropy coding."""
    names = chosen(wanted, {"g_s": "decompress whole image vs g_s", "g_a + h_a": "compress whole image vs g_a + h_a"})
    if not names:
        return
    codec, image = codec_of(192), photo()
    data = codec.compress(image)
    assert isinstance(data, bytes)
    parts = codec.transforms()
    latents = (codec.decode_latents(data)["y"] / 64).float()[None].contiguous(memory_format=torch.channels_last)
    x = image[None].contiguous(memory_format=torch.channels_last)
    runs: dict[str, tuple[Run, Run]] = {
        "g_s": (lambda: codec.decompress(data), lambda: parts.g_s(latents)),
        "g_a + h_a": (lambda: codec.compress(image), lambda: parts.h_a(parts.g_a(x))),
    }
    note = f"{torch.get_num_threads()} threads; ratio r means 1/r of the transform's time"
    for peer, name in names.items():
        run, other = runs[peer]
        yield Case(name, run, 1, "image", torch.no_grad()(other), peer, clock="wall", note=note)


def transform_cases(wanted: Wanted) -> Iterator[Case]:
    """g_a and g_s of shipped weights in the form that codecs run (fastlic.models.inference), beside the plain one."""
    label = "{way} of {} 512x768, without gradients vs plain"
    for (model,), names in offered(wanted, (("jahp",), ("mlic++",)), label, ("g_a", "g_s")):
        x, parts = photo()[None].contiguous(memory_format=torch.channels_last), fastlic.load(model).transforms()
        with torch.no_grad():
            inputs = {"g_a": x, "g_s": parts.g_a(x)}
        for part, name in names.items():
            # Weights want no gradients: with them enabled nothing is recorded, but layers take their plain form.
            plain: Run = partial(getattr(parts, part), inputs[part])
            yield Case(name, torch.no_grad()(plain), 1, "image", plain, "plain", clock="wall")
