"""The entropy engine: JAHP at 512x768, stream to latents and back.

Weights are random with the statistics of trained ones (fastlic.lifelike.models); CPU time of one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import torch

from fastlic import _native
from fastlic.bench import peers
from fastlic.bench.runner import Case, Runs, Wanted, offered
from fastlic.codec import Codec, drivers
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.integers.fixed import fixed_point
from fastlic.integers.layer import Layer
from fastlic.lifelike.models import lifelike, photo
from fastlic.models import JAHP, MeanScaleHyperprior
from fastlic.ops.backends import instruction_set
from fastlic.ops.latents import Target

WAYS = ("decode", "encode")
# CompressAI's loop takes seconds an image and costs the same at every position: a quarter of the image shows its rate.
PEER_SHARE = 0.25


@cache
def model_of(M: int) -> MeanScaleHyperprior:
    return lifelike(JAHP, 192, M)


@cache
def codec_of(M: int) -> Codec:
    return Codec(model_of(M), [photo()], name=f"jahp 192/{M}")


def layer_products(layer: Layer, positions: float) -> tuple[float, float]:
    """Multiplications that the engine does on a map of so many positions, and positions of the result.

    Winograd's transform has 49 for 100 of a 5x5 kernel of stride 2, 16 for 25 of another, and 4 for 9 of a 3x3 one.
    """
    kind, kernel = layer.kind, layer.weight.shape[-1]
    out = positions * kind.cells * (4 if kind.transposed else 0.25 if kind.stride == 2 else 1)
    share = {3: 4 / 9, 5: 49 / 100 if kind.stride == 2 else 16 / 25}.get(kernel, 1)
    few = kind.stride == 2 and not kind.transposed and layer.weight.shape[1] < 16
    return out * layer.weight.size / (4 if kind.transposed else kind.cells) * (1 if few else share), out


def products(model: IntegerEntropyModel, height: int, width: int) -> int:
    """Multiplications of hyper synthesis, and every weight of the context and parameter layers once a position."""
    dense = [*model.parameters, *([model.context] if model.context is not None else [])]
    total = float(sum(layer.weight.size for layer in dense) * height * width)
    positions = float(height // 4 * (width // 4))
    for layer in model.hyper:
        own, positions = layer_products(layer, positions)
        total += own
    return round(total)


def roofline(isa: str, multiplications: float) -> dict[str, Any]:
    """Calls a second if the engine did nothing but its products, at the rate measured for this instruction set."""
    with instruction_set(isa):
        rate = _native.peak_products()
    return {"roofline": rate / multiplications, "bound": "multiply-adds in registers"} if rate else {}


def cases(wanted: Wanted) -> Iterator[Case]:
    supported = _native.supported_isas()
    configurations = [(192, isa, "") for isa in supported]
    best = _native.best_isa()
    configurations += [(320, best, "")]
    configurations += [(192, best, f" vs {peer}") for peer in ("reference", "compressai mbt2018")]
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
        more |= roofline(isa, products(codec.entropy, height, width))
        for way, name in names.items():
            yield Case(name, instruction_set(isa)(runs[way]), 1, "image", others.get(way), **more)
