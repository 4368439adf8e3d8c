"""CompressAI models, whole images at 512x768: accelerated beside plain, and beside the transforms alone.

Weights are random (fastlic.bench.compressai_models); sizes of trained ones: ``python -m fastlic.bench.compressai
--bytes FOLDER``, which also measures all other models and splits their time. Wall time on torch's threads. Without
CompressAI there is nothing to measure.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from fastlic.bench.compressai_models import lively
from fastlic.bench.lifelike import photo
from fastlic.bench.runner import Case
from fastlic.integrations.compressai import accelerate

Wanted = Callable[[str], bool]
MODELS = ("mbt2018", "mbt2018-mean", "bmshj2018-hyperprior", "cheng2020-anchor-checkerboard")
# Transforms are the floor of format "native" only: the other one is held against plain CompressAI.
PEERS = {"native": ("plain", "transform"), "compressai": ("plain",)}


def cases(wanted: Wanted, size: int | None = None, height: int = 512, width: int = 768) -> Iterator[Case]:
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
            plain = lively(name, size)
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
