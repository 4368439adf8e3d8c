"""The MLIC family at its published size, 83.5 million parameters: beside the official formulation in plain torch.

Weights are random and lifelike (fastlic.bench.lifelike): alive in every part, of untypical rate. The official
formulation decodes as the published code does: networks at all positions, local windows unfolded, scale indexes by 63
comparisons of whole maps, symbols through lists into CompressAI's coder where that is installed (else fastlic's coder
of the same format, which is faster). One thread throughout, CPU time of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastlic.bench import memory, peers
from fastlic.bench.lifelike import lifelike_mlic, photo
from fastlic.bench.runner import Case, Run, Wanted, chosen, one_thread
from fastlic.codec import mlic_drivers, mlicpp_official
from fastlic.entropy.mlic.convert import convert
from fastlic.entropy.mlic.model import IntegerMLIC
from fastlic.entropy.schedule import Latents
from fastlic.models import MLICPlus, MLICPlusPlus
from fastlic.models.layers import channels_last
from fastlic.models.mlic.checkerboard import anchors, others
from fastlic.ops.compressai_rans import CompressAiDecoder, CompressAiTables

OFFICIAL = "plain torch, official formulation"
LARGE = (1440, 2048)


def cases(wanted: Wanted, model: tuple[int, int] = (192, 320), size: tuple[int, int] = (512, 768)) -> Iterator[Case]:
    """Args: model: N and M; size: of the image."""
    yield from decoding_cases(wanted, model, size)
    yield from local_cases(wanted, model, size)
    yield from attention_cases(wanted, model, LARGE if size == (512, 768) else size)


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
    ((sections, latents),) = mlic_drivers.encode_many(integers, [pair])
    stream = (sections, *y.shape[2:])
    official = OfficialDecoder(floats)
    coder = "CompressAI's coder" if official.coder is not None else "fastlic's coder for CompressAI's format"
    theirs = official.encode(pair)
    synthesis = copy.deepcopy(floats.g_s)
    channels_last(synthesis)

    def latent(decoded: Latents) -> Tensor:
        return (decoded.y.double() / 64).float()[None].contiguous(memory_format=torch.channels_last)

    def whole() -> Any:
        return synthesis(latent(mlic_drivers.decode_many(integers, [stream])[0]))

    y_hat = latent(latents)
    runs: dict[str, tuple[Run, Run, str, str]] = {
        "entropy": (
            lambda: mlic_drivers.decode_many(integers, [stream]),
            lambda: official.decode(*theirs),
            OFFICIAL,
            f"{coder} in the peer; {sum(len(s) for s in sections)} bytes",
        ),
        "encode": (
            lambda: mlic_drivers.encode_many(integers, [pair]),
            lambda: official.encode(pair),
            OFFICIAL,
            "",
        ),
        "whole": (
            whole,
            lambda: synthesis(y_hat),
            "g_s",
            "the ratio is g_s over all: 0.8 is a decompress of 1.25 times g_s",
        ),
    }
    for key, name in names.items():
        run, peer, peer_name, note = runs[key]
        yield Case(name, one_thread(run), 1, "image", one_thread(peer), peer_name, note=note)


def local_cases(wanted: Wanted, model: tuple[int, int], size: tuple[int, int]) -> Iterator[Case]:
    name = f"local context, one slice of {size[0]}x{size[1]}"
    if not wanted(name):
        return
    floats, integers = models(MLICPlusPlus, *model)
    c = floats.slice_channels
    latent = anchors(torch.randint(-300, 300, (c, size[0] // 16, size[1] // 16)))
    integer, real = latent.numpy(), latent.float()[None] / 64
    run = one_thread(lambda: integers.engine.local_context(1, integer))
    peer = one_thread(lambda: floats.local_context[1](real))
    note = f"peak memory {shown(memory.peak(run))}, of the peer {shown(memory.peak(peer))}"
    yield Case(name, run, 1, "call", peer=peer, peer_name="unfolded windows in torch", note=note)


def attention_cases(wanted: Wanted, model: tuple[int, int], size: tuple[int, int]) -> Iterator[Case]:
    name = f"softmax attention of mlic+, last slice of {size[0]}x{size[1]}"
    if not wanted(name):
        return
    floats, integers = models(MLICPlus, *model)
    last = floats.slices - 1
    h, w = size[0] // 16, size[1] // 16
    decoded = torch.randint(-500, 500, (floats.slice_channels * last, h, w))
    integer, real = decoded.numpy(), decoded.float()[None] / 500
    run = one_thread(lambda: integers.engine.inter_context(last, integer))
    peer = one_thread(lambda: floats.global_inter_context[last](real))
    maps = 4 * last * (h * w) ** 2
    note = f"peak memory {shown(memory.peak(run))}; attention maps held whole would be {shown(maps)}"
    yield Case(name, run, 1, "call", peer=peer, peer_name="plain torch, block by block", note=note)


def shown(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:.1f} MB"


class OfficialDecoder:
    """MLIC++ between its transforms as the published code computes it."""

    def __init__(self, model: MLICPlusPlus) -> None:
        mlicpp_official.update(model)
        self.model, self.coder = model, peers.compressai_ans()
        self.levels = model.gaussian_conditional.get_buffer("scale_table")
        self.tables = [tables_of(part) for part in (model.entropy_bottleneck, model.gaussian_conditional)]
        self.lists = [[part.tolist() for part in rows] for rows in self.tables]

    def indexes(self, scales: Tensor) -> Tensor:
        scales = self.model.gaussian_conditional.lower_bound_scale(scales)
        indexes = torch.full_like(scales, len(self.levels) - 1).int()
        for level in self.levels[:-1]:
            indexes = indexes - (scales <= level).int()
        return indexes

    def walk(self, z_hat: Tensor, answer: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """All passes; ``answer(indexes, means)``, both [1, C, h, w / 2], gives the rounded latent."""
        model = self.model
        hyper = model.h_s(z_hat)
        means_of_hyper = hyper.chunk(2, 1)[1]
        decoded: list[Tensor] = []
        for index in range(model.slices):
            contexts = [*model.past_contexts(index, decoded), hyper]
            current = torch.zeros(())
            for networks, residual, only, parity in (
                (model.entropy_parameters_anchor, model.lrp_anchor, anchors, 1),
                (model.entropy_parameters_nonanchor, model.lrp_nonanchor, others, 0),
            ):
                if not parity:
                    contexts = [*model.near_contexts(index, decoded, current), *contexts]
                scales, means = networks[index](torch.cat(contexts, 1)).chunk(2, 1)
                packed = [squeeze(only(t), parity) for t in (scales, means)]
                values = answer(self.indexes(packed[0]), packed[1])
                current = current + spread(values, parity)
                residue = residual[index](torch.cat([means_of_hyper, *decoded, current], 1))
                current = current + only(residue)
            decoded.append(current)
        return torch.cat(decoded, 1)

    def encode(self, pair: tuple[Tensor, Tensor]) -> tuple[bytes, Tensor]:
        """(string of y, z_hat); z's own string is left to the side: 2 % of the bytes, and no part of the loop."""
        z, y = (t[None] for t in pair)
        medians = self.model.entropy_bottleneck.medians[:, None, None]
        z_hat = torch.round(z - medians) + medians
        symbols: list[int] = []
        indexes: list[int] = []
        turn = iter([(slice(i, i + 1), parity) for i in range(self.model.slices) for parity in (1, 0)])
        parts = y.chunk(self.model.slices, 1)

        def answer(rows: Tensor, means: Tensor) -> Tensor:
            which, parity = next(turn)
            rounded = torch.round(squeeze(parts[which][0], parity) - means)
            symbols.extend(rounded.reshape(-1).int().tolist())
            indexes.extend(rows.reshape(-1).tolist())
            return rounded + means

        self.walk(z_hat, answer)
        if self.coder is not None:
            encoder = self.coder.BufferedRansEncoder()
            encoder.encode_with_indexes(symbols, indexes, *self.lists[1])
            return encoder.flush(), z_hat
        from fastlic.ops.compressai_rans import encode_with_indexes

        arrays = (np.array(symbols, np.int32), np.array(indexes, np.int32))
        return encode_with_indexes(*arrays, CompressAiTables(*self.tables[1])), z_hat

    def decode(self, string: bytes, z_hat: Tensor) -> Tensor:
        if self.coder is not None:
            decoder = self.coder.RansDecoder()
            decoder.set_stream(string)
        else:
            own = CompressAiDecoder(string, CompressAiTables(*self.tables[1]))

        def answer(rows: Tensor, means: Tensor) -> Tensor:
            if self.coder is not None:
                values = torch.Tensor(decoder.decode_stream(rows.reshape(-1).tolist(), *self.lists[1]))
            else:
                values = torch.from_numpy(own.decode(rows.reshape(-1).numpy().astype(np.uint8))).float()
            return values.reshape(means.shape) + means

        return self.walk(z_hat, answer)


def tables_of(part: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CDFs, lengths and offsets as int32."""
    parts = (part._quantized_cdf, part._cdf_length, part._offset)
    rows, lengths, offsets = (t.numpy().astype(np.int32) for t in parts)
    return rows, lengths, offsets


def squeeze(x: Tensor, parity: int) -> Tensor:
    """[1, C, h, w] -> [1, C, h, w / 2], the positions whose row + column has that parity."""
    out = x.new_zeros(*x.shape[:3], x.shape[3] // 2)
    out[:, :, 0::2] = x[:, :, 0::2, parity::2]
    out[:, :, 1::2] = x[:, :, 1::2, 1 - parity :: 2]
    return out


def spread(x: Tensor, parity: int) -> Tensor:
    """The way back from ``squeeze``; zeros elsewhere."""
    out = x.new_zeros(*x.shape[:3], 2 * x.shape[3])
    out[:, :, 0::2, parity::2] = x[:, :, 0::2]
    out[:, :, 1::2, 1 - parity :: 2] = x[:, :, 1::2]
    return out
