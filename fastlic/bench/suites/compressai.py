"""CompressAI models, whole images at 512x768: accelerated beside plain, and beside the transforms alone.

Weights are random, with last layers and densities rescaled as in fastlic.bench.lifelike. That brings mbt2018 and
mbt2018-mean to plausible rates. It does not for bmshj2018-hyperprior, whose untrained scales miss the latent so often
that escapes decide its size, nor for the checkerboard model, whose rate is several times too high: of these two only
the times count. Sizes of trained models are not measured here. Wall time on torch's threads. Without CompressAI
there is nothing to measure.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from fastlic.bench.lifelike import _logistic, _rescale, photo, spreads
from fastlic.bench.runner import Case
from fastlic.integrations.compressai import accelerate

Wanted = Callable[[str], bool]
MODELS = ("mbt2018", "mbt2018-mean", "bmshj2018-hyperprior", "cheng2020-anchor-checkerboard")
# Transforms are the floor of format "native" only: the other one is held against plain CompressAI.
PEERS = {"native": ("plain", "transform"), "compressai": ("plain",)}


def cases(wanted: Wanted, N: int = 192, height: int = 512, width: int = 768) -> Iterator[Case]:
    for name in MODELS:
        names = {
            (way, format, peer): f"{way} {name} {format} vs {_transform(way) if peer == 'transform' else peer}"
            for format, peers in PEERS.items()
            for way in ("compress", "decompress")
            for peer in peers
        }
        chosen = {key: label for key, label in names.items() if wanted(label)}
        if not chosen:
            continue
        image = photo()[None, :, :height, :width].contiguous()
        try:
            plain = lifelike(name, N, image)
        except ImportError as error:
            print(f"CompressAI cannot be imported ({error}): nothing to measure", file=sys.stderr)
            return
        yield from model_cases(plain, image, chosen)


def model_cases(plain: Any, image: torch.Tensor, chosen: dict[tuple[str, str, str], str]) -> Iterator[Case]:
    theirs = compress(plain, image)
    with torch.no_grad():
        y = plain.g_a(image)
    for format in PEERS:
        wanted = {key: label for key, label in chosen.items() if key[1] == format}
        if not wanted:
            continue
        model = copy.deepcopy(plain)
        accelerate(model, format, calibration=[image[0]])  # type: ignore[arg-type]
        ours = compress(model, image)
        before, after = size(theirs), size(ours)
        pixels = image.shape[2] * image.shape[3]
        note = (
            f"{before} -> {after} bytes ({100 * (after / before - 1):+.2f} %), {8 * before / pixels:.2f} bits a pixel; "
            f"{torch.get_num_threads()} threads"
        )
        runs: dict[tuple[str, str], Callable[[], Any]] = {
            ("compress", "own"): lambda model=model: compress(model, image),  # type: ignore[misc]
            ("compress", "plain"): lambda: compress(plain, image),
            ("compress", "transform"): lambda: transform(plain.g_a, image),
            ("decompress", "own"): lambda model=model, ours=ours: decompress(model, ours),  # type: ignore[misc]
            ("decompress", "plain"): lambda: decompress(plain, theirs),
            ("decompress", "transform"): lambda: transform(plain.g_s, y),
        }
        for (way, _, peer), label in wanted.items():
            shown = _transform(way) if peer == "transform" else "plain CompressAI"
            run, other = runs[way, "own"], runs[way, peer]
            yield Case(label, run, 1, "image", peer=other, peer_name=shown, clock="wall", note=note)


def _transform(way: str) -> str:
    return "g_a" if way == "compress" else "g_s"


@torch.no_grad()
def transform(network: Any, x: torch.Tensor) -> Any:
    return network(x)


@torch.no_grad()
def compress(model: Any, image: torch.Tensor) -> Any:
    return model.compress(image)


@torch.no_grad()
def decompress(model: Any, coded: Any) -> Any:
    return model.decompress(coded["strings"], coded["shape"])


def size(coded: Any) -> int:
    return sum(len(item) for part in coded["strings"] for item in part)


@torch.no_grad()
def lifelike(name: str, N: int, image: torch.Tensor) -> Any:
    """CompressAI's model of that name with M = N channels and lively latents, scales and hyper latents.

    Raises:
        ImportError: CompressAI or something that it imports is missing.
    """
    import compressai.models as zoo

    build = {
        "mbt2018": lambda: zoo.JointAutoregressiveHierarchicalPriors(N, N),
        "mbt2018-mean": lambda: zoo.MeanScaleHyperprior(N, N),
        "bmshj2018-hyperprior": lambda: zoo.ScaleHyperprior(N, N),
        "cheng2020-anchor-checkerboard": lambda: zoo.Cheng2020AnchorCheckerboard(N),
    }
    torch.manual_seed(0)
    model: Any = build[name]().eval()
    codec = getattr(model, "latent_codec", None)
    hyper = codec["hyper"] if codec is not None else model
    y_spread, z_spread = spreads(N, 0), spreads(N, 1) / 2

    def run() -> None:
        model(image)

    _rescale(model.g_a[-1], run, torch.zeros(N), y_spread)
    _rescale(hyper.h_a[-1], run, torch.zeros(N), z_spread)
    _logistic(hyper.entropy_bottleneck, z_spread)
    mean, std = torch.cat([y_spread, torch.zeros(N)]), torch.cat([0.3 * y_spread, 0.3 * y_spread])
    if codec is not None:
        last = codec["y"].entropy_parameters[-1]
    elif name == "mbt2018":
        last = model.entropy_parameters[-1]
    elif name == "mbt2018-mean":
        last = model.h_s[-1]
    else:  # scales alone, behind a ReLU
        last, mean, std = model.h_s[-2], mean[:N], std[:N]
    _rescale(last, run, mean, std)
    model.update(force=True)
    return model
