"""McQuic: codebook search, coding of indexes, and whole images beside their convolutions alone.

The peer of the search is McQuic's own formulation in torch: all distances as |x|^2 + |word|^2 - 2 x.word, then argmin.
The peer of the coder is CompressAI's, whose source McQuic's is: decoding scans a table from its start; that of the code
context is the coder without it. Whole images run through the published size, channel 128 and m 2, of lifelike weights
(fastlic.lifelike.models). Beside them runs every convolution of the same pass, GDN's included, on inputs of the same
shapes that lie ready, padded, in the same memory format, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

import fastlic
from fastlic.bench import peers
from fastlic.bench.memory import peak
from fastlic.bench.runner import WAYS, Case, Run, Runs, Wanted, chosen, clock_of_torch, one_thread
from fastlic.codec import Codec
from fastlic.inspect.codes import all_distances, as_map
from fastlic.lifelike.models import lifelike_mcquic, photo
from fastlic.models.mcquic.quantizer import lookup, split_groups
from fastlic.ops.categorical import categorical_tables, decode_categorical, encode_categorical
from fastlic.ops.codebook import codebook_nearest

POSITIONS, WORDS = 32 * 48, 8192  # of the finest level at 512x768
SIZES = ((2, 64), (12, 16))  # m, d of the published models
LEVELS = ((8192, 32 * 48), (2048, 16 * 24), (512, 8 * 12))  # words, positions


def cases(
    wanted: Wanted, channel: int = 128, m: int = 2, height: int = 512, width: int = 768, k: tuple[int, ...] = ()
) -> Iterator[Case]:
    searches = {
        (*size, dense): f"nearest of {WORDS}{' dense' if dense else ''} words, m={size[0]} d={size[1]}"
        for size in SIZES
        for dense in (False, True)
    }
    for (groups, depth, dense), name in chosen(wanted, searches).items():
        yield search_case(name, groups, depth, dense)
    for make, what in ((coder_case, "24,192 indexes"), (context_case, "7,680 indexes with the shipped context")):
        yield from (make(name, way) for way in WAYS if wanted(name := f"{way} {what}"))
    if wanted(name := "search, look up and code 4K, m=12 d=16"):
        yield memory_case(name)
    labels = {way: f"{way} {height}x{width}, c={channel} m={m}" for way in ("compress", "decompress")}
    if names := chosen(wanted, labels):
        image = photo()[:, :height, :width].contiguous()
        model = lifelike_mcquic(channel, m, k or tuple(words for words, _ in LEVELS), image)
        yield from image_cases(Codec(model), image, names)


# ---- search


def search_case(name: str, m: int, d: int, dense: bool, n: int = POSITIONS, k: int = WORDS) -> Case:
    """``dense``: most words lie near zero and a few far out, so that the first scan, by bytes, tells little."""
    generator = torch.Generator().manual_seed(0)
    x, words = torch.randn(n, m, d, generator=generator), torch.randn(m, k, d, generator=generator)
    if dense:
        words[:, 64:] *= 0.1
        x[64:] *= 0.1
    run: Run = partial(codebook_nearest, x, words, threads=1)
    peer = one_thread()(partial(all_distances, as_map(x), words))
    equal = int((run() == peer()[0, :, 0].t()).sum())
    note = f"{n} positions, one thread; {equal} of {n * m} indexes are those of float32 distances"
    return Case(name, run, n * m, "vectors", peer, "all distances in torch", note=note)


def memory_case(name: str, height: int = 2176, width: int = 3840, m: int = 12, d: int = 16) -> Case:
    """All that encoding does beside its transforms, on maps of a padded 4K image that lie ready."""
    generator = torch.Generator().manual_seed(0)
    levels = []
    for level, (k, _) in enumerate(LEVELS):
        size = height >> (level + 4), width >> (level + 4)
        head = torch.randn(1, m * d, *size, generator=generator).contiguous(memory_format=torch.channels_last)
        words = torch.randn(m, k, d, generator=generator)
        levels.append((head, words, categorical_tables([np.ones(k)] * m)))
    rows = np.arange(m, dtype=np.uint8)[:, None, None]

    def run() -> list[bytes]:
        streams = []
        for head, words, table in levels:
            _, _, h, w = head.shape
            codes = codebook_nearest(split_groups(head, m), words, threads=1).reshape(1, h, w, m).permute(0, 3, 1, 2)
            lookup(words, codes)
            streams.append(encode_categorical(codes[0].numpy(), rows, table))
        return streams

    beyond = peak(run)
    all_at_once = 4 * m * LEVELS[0][0] * (height >> 4) * (width >> 4)
    note = f"one matrix of all distances has {all_at_once / 2**30:.1f} GiB, and McQuic holds four"
    if beyond is not None:
        note = f"peak {beyond / 2**20:.0f} MiB beyond the maps themselves; one thread; {note}"
    vectors = m * sum(head.shape[2] * head.shape[3] for head, _, _ in levels)
    return Case(name, run, vectors, "vectors", note=note)


# ---- coder


def coder_case(name: str, way: str, m: int = 12) -> Case:
    """Indexes of all levels at 512x768, m = 12, drawn from shares that a trained codebook could have."""
    rng = np.random.default_rng(0)
    shares = [rng.gamma(2.0, size=(m, k)) for k, _ in LEVELS]
    codes = [drawn(rng, share, count) for share, (_, count) in zip(shares, LEVELS, strict=True)]
    rows = [np.repeat(np.arange(m, dtype=np.uint8), count) for _, count in LEVELS]
    tables = [categorical_tables(list(share)) for share in shares]
    parts = list(zip(codes, rows, tables, strict=True))
    streams = [encode_categorical(*part) for part in parts]
    symbols = sum(code.size for code in codes)

    runs: Runs = {
        "encode": lambda: [encode_categorical(*part) for part in parts],
        "decode": lambda: [decode_categorical(stream, *part[1:]) for stream, part in zip(streams, parts, strict=True)],
    }
    ideal = -sum(np.log2(s / s.sum(1, keepdims=True))[r, c].sum() for s, c, r in zip(shares, codes, rows, strict=True))
    size = sum(len(stream) for stream in streams)
    note = f"{size} bytes, {100 * (8 * size / ideal - 1):+.2f} % over the entropy"
    others, peer_size = peers.compressai_lists([scanned(*part) for part in zip(shares, codes, rows, strict=True)])
    if others:
        note += f"; peer {peer_size} bytes"
    peer_name = "CompressAI's coder" if others else ""
    return Case(name, runs[way], symbols, "indexes", peer=others.get(way), peer_name=peer_name, note=note)


def scanned(share: NDArray[np.float64], code: NDArray[np.int32], row: NDArray[np.uint8]) -> tuple[list[Any], ...]:
    """The same indexes as CompressAI's coder takes them, with its 16-bit tables."""
    # One count for the escape symbol, which CompressAI's tables end with.
    counts = np.maximum(1, np.floor(share / share.sum(1, keepdims=True) * (65535 - share.shape[1]))).astype(int)
    counts[np.arange(len(counts)), counts.argmax(1)] += 65535 - counts.sum(1)
    cdf = [[0, *np.cumsum(line).tolist(), 65536] for line in counts]
    return code.tolist(), row.tolist(), cdf, [len(line) for line in cdf], [0] * len(cdf)


def context_case(name: str, way: str) -> Case:
    """The finest codes of a 512x768 image under the shipped context, beside the same codes by the shipped tables."""
    tables = fastlic.load("mcquic").entropy
    plain, rng = replace(tables, context=None), np.random.default_rng(0)
    codes = drawn(rng, tables.shares()[0], POSITIONS).reshape(tables.groups, 32, 48)
    streams = tables.encode(0, codes), plain.encode(0, codes)
    runs = [
        partial(t.encode, 0, codes) if way == "encode" else partial(t.decode, 0, stream, 32, 48)
        for t, stream in zip((tables, plain), streams, strict=True)
    ]
    return Case(name, runs[0], codes.size, "indexes", peer=runs[1], peer_name="tables", note="codes drawn at random")


def drawn(rng: np.random.Generator, share: NDArray[np.float64], count: int) -> NDArray[np.int32]:
    """[m * count] indexes, group by group, by the shares [m, k]."""
    return np.concatenate([rng.choice(len(row), count, p=row / row.sum()) for row in share]).astype(np.int32)


# ---- whole images


def image_cases(codec: Codec, image: Tensor, chosen: dict[str, str]) -> Iterator[Case]:
    data = codec.compress(image)
    assert isinstance(data, bytes)
    clock = clock_of_torch()
    used = [len(codes.unique()) for codes in codec.latents(image).values()]
    note = f"{len(data)} bytes, {used} different words; {torch.get_num_threads()} threads, {clock} time"
    # Floats: integers make no convolution of torch's.
    runs: Runs = {
        "compress": lambda: codec.compress(image, transforms="float"),
        "decompress": lambda: codec.decompress(data, transforms="float"),
    }
    for way, name in chosen.items():
        floor = convolutions(runs[way])
        yield Case(name, runs[way], 1, "image", peer=floor, peer_name="its convolutions", clock=clock, note=note)


def convolutions(run: Run) -> Run:
    """The convolutions that ``run`` makes, alone: inputs of the same shapes and strides, one per shape."""
    calls: list[tuple[Tensor, tuple[Any, ...]]] = []
    inputs: dict[Any, Tensor] = {}
    true = F.conv2d

    def seen(x: Tensor, *others: Any, **named: Any) -> Tensor:
        key = (tuple(x.shape), tuple(x.stride()))
        if key not in inputs:
            inputs[key] = torch.empty_strided(*key).normal_()
        calls.append((inputs[key], (*others, *named.values())))
        return true(x, *others, **named)

    with patch.object(F, "conv2d", seen):
        run()

    return torch.no_grad()(lambda: [true(x, *others) for x, others in calls])
