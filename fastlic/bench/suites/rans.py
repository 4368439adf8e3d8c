"""Entropy coders: the native format, CompressAI's, exact Gaussians, categorical tables.

Symbols follow the distribution of trained models' latents (fastlic.lifelike.latents). Times are CPU time of one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlic import _native
from fastlic.bench import peers
from fastlic.bench.runner import Case, Run, Runs, Wanted, chosen, offered
from fastlic.lifelike.latents import SCALES, drawn, gaussian_bits, realistic_latents
from fastlic.ops import compressai_tables
from fastlic.ops.backends import instruction_set
from fastlic.ops.categorical import categorical_tables
from fastlic.ops.compressai_rans import encode_many_with_indexes, encode_with_indexes
from fastlic.ops.tables import gaussian_tables

COUNT, MILLION = 1_000_000, 1e6
PEER_COUNT = 200_000  # CompressAI's list interface takes a second for a few million


def cases(wanted: Wanted) -> Iterator[Case]:
    for part in (native_cases, rate_cases, compressai_cases, gaussian_cases, categorical_cases):
        yield from part(wanted)


def both(names: dict[str, str], runs: Runs, others: Runs, peer: str = "", **more: Any) -> Iterator[Case]:
    """Cases of a million symbols, by way, beside what codes the first PEER_COUNT of them."""
    for way, name in names.items():
        other = others.get(way)
        yield Case(name, runs[way], COUNT / MILLION, "Msym", other, peer if other else "", PEER_COUNT / MILLION, **more)


def over_ideal(data: bytes, ideal: float) -> str:
    bits = 8 * len(data)
    return f"{bits / COUNT:.4f} bit/sym, {100 * (bits / ideal - 1):+.3f} % over ideal"


def decoding(make: Callable[[], Any], indexes: NDArray[Any], out: NDArray[Any]) -> Run:
    def decode() -> None:
        decoder = make()
        decoder.decode(indexes, out)
        decoder.finish()

    return decode


def available_isas() -> list[str]:
    # The coder has nothing of its own for the others.
    return [isa for isa in _native.supported_isas() if isa in ("scalar", "avx2", "avx512")]


realistic = cache(partial(realistic_latents, COUNT))


def native_runs(symbols: NDArray[Any], indexes: NDArray[Any], tables: Any, lanes: int) -> tuple[Runs, bytes]:
    encode = partial(_native.rans_encode, symbols, indexes, tables, lanes)
    data = encode()
    return {
        "encode": encode,
        "decode": decoding(partial(_native.RansDecoder, data, tables), indexes, np.empty_like(symbols)),
    }, data


def native_cases(wanted: Wanted) -> Iterator[Case]:
    """Native format at each instruction set and precision, against CompressAI's own coder on the same symbols."""
    best = _native.best_isa()
    configurations = [(isa, 12, 64) for isa in available_isas()]
    configurations += [(best, 11, 64), (best, 10, 64), *((best, 12, lanes) for lanes in (16, 8, 4, 1))]
    for (isa, precision, lanes), names in offered(wanted, configurations, "native {way} {} {} bit {} lanes"):
        latents, tables = realistic(), gaussian_tables(SCALES, precision).native
        runs, data = native_runs(latents.symbols, latents.nearest_indexes(), tables, lanes)
        limit: dict[str, Any] = {}
        if isa != "scalar" and lanes >= 16:
            # Both kernels load one table word per symbol and reload its index from the stack.
            limit = {"roofline": _native.peak_loads() / 2 / MILLION, "bound": "two loads a symbol"}
        runs = {way: instruction_set(isa)(run) for way, run in runs.items()}
        note = over_ideal(data, latents.ideal_bits)
        yield from both(names, runs, compressai_peer(), "compressai.ans", note=note, **limit)


def rate_cases(wanted: Wanted) -> Iterator[Case]:
    """The ends of the rate axis, one scale for all symbols; the note tells the loss."""
    choices = ((0.11,), (0.3,), (1.0,), (4.0,), (16.0,), (64.0,))
    for (scale,), names in offered(wanted, choices, "native {way} sigma {}", ("decode",)):
        latents = drawn(np.full(COUNT, scale), np.random.default_rng(0))
        indexes = np.full(COUNT, int(np.abs(np.log(SCALES / scale)).argmin()), np.uint8)
        runs, data = native_runs(latents.symbols, indexes, gaussian_tables(SCALES, 12).native, 0)
        excess = (8 * len(data) - latents.ideal_bits) / COUNT
        note = f"{len(data)} bytes, {over_ideal(data, latents.ideal_bits)}, {excess:.5f} bit/sym more"
        yield from both(names, runs, {}, note=note)


@cache
def compressai_peer() -> Runs:
    tables, latents = compressai_tables.compressai_gaussian_tables(SCALES), realistic()
    symbols, indexes = latents.symbols[:PEER_COUNT], latents.compressai_indexes()[:PEER_COUNT]
    arrays = (symbols, indexes, tables.quantized_cdf, tables.lengths, tables.offsets)
    return peers.compressai_lists([tuple(array.tolist() for array in arrays)])[0]


def compressai_cases(wanted: Wanted) -> Iterator[Case]:
    """CompressAI's bytes, ours against its own coder (lists ready)."""
    ways = {"encode": "encode", "decode": "decode", "four": "decode 4 streams"}
    names = chosen(wanted, {key: f"compressai {text}" for key, text in ways.items()})
    if not names:
        return
    latents, tables = realistic(), compressai_tables.compressai_gaussian_tables(SCALES)
    symbols, indexes = latents.symbols.astype(np.int32), latents.compressai_indexes()
    data, batch, out = encode_with_indexes(symbols, indexes, tables), indexes.reshape(4, -1), np.empty_like(symbols)
    streams = encode_many_with_indexes(symbols.reshape(4, -1), batch, tables)
    runs: Runs = {
        "encode": partial(_native.compressai_encode, symbols, indexes, tables.native),
        "decode": decoding(partial(_native.CompressAiDecoder, data, tables.native), indexes, out),
        "four": partial(_native.compressai_decode_many, streams, batch, out.reshape(4, -1), tables.native, 1),
    }
    others = compressai_peer()
    others = {**others, "four": others["decode"]} if others else {}
    bound = "serial chain of two multiplications and four adds, 10 cycles"
    for way, name in names.items():
        limit = {"roofline": _native.clock_ghz() * 1e3 / 10, "bound": bound} if way == "encode" else {}
        note = over_ideal(data, latents.ideal_bits)
        yield from both({way: name}, runs, others, "compressai.ans", note=note, **limit)


def gaussian_cases(wanted: Wanted) -> Iterator[Case]:
    """N(mean, scale) per symbol, against constriction's QuantizedGaussian."""
    for (isa,), names in offered(wanted, [(isa,) for isa in available_isas()], "gaussian {way} {}"):
        runs, others, note = gaussian_runs()
        on_isa = {way: instruction_set(isa)(run) for way, run in runs.items()}
        yield from both(names, on_isa, others, "constriction", note=note)


@cache
def gaussian_runs() -> tuple[Runs, Runs, str]:
    """(ours, constriction's, a note)."""
    rng = np.random.default_rng(1)
    scales = realistic().scales.astype(np.float32)
    means = rng.uniform(-3, 3, COUNT).astype(np.float32)
    symbols = np.rint(rng.normal(size=COUNT) * scales + means).astype(np.int32)
    encode = partial(_native.gaussian_encode, symbols, means, scales)
    data = encode()
    runs: Runs = {
        "encode": encode,
        "decode": partial(_native.gaussian_decode, data, means, scales, np.empty_like(symbols)),
    }
    part = slice(0, PEER_COUNT)
    q, m, s = symbols[part], means[part].astype(np.float64), scales[part].astype(np.float64)
    others = constriction_peer(q, (m, s), (m, s), "QuantizedGaussian", -1000, 1000)
    return runs, others, over_ideal(data, gaussian_bits(symbols, means.astype(np.float64), scales.astype(np.float64)))


def categorical_cases(wanted: Wanted) -> Iterator[Case]:
    """A codebook of 8192 with Zipf frequencies, one of 256 and one of 65536."""
    for (symbols,), names in offered(wanted, ((256,), (8192,), (65536,)), "categorical {way} {} symbols"):
        pmf = 1 / np.arange(1, symbols + 1)
        rng = np.random.default_rng(2)
        codes = rng.permutation(symbols)[rng.choice(symbols, COUNT, p=pmf / pmf.sum())].astype(np.int32)
        counts = np.bincount(codes, minlength=symbols) + 0.5
        tables, rows = categorical_tables([counts]).native, np.zeros(COUNT, np.uint8)
        data = tables.encode_many([codes], [rows], 1)
        runs: Runs = {
            "encode": partial(tables.encode_many, [codes], [rows], 1),
            "decode": partial(tables.decode_many, data, [rows], [np.empty_like(codes)], 1),
        }
        others = constriction_peer(codes[:PEER_COUNT], (), (PEER_COUNT,), "Categorical", counts, perfect=False)
        yield from both(names, runs, others, "constriction")


def constriction_peer(symbols: Any, given: Any, asked: Any, kind: str, *sizes: Any, **how: Any) -> Runs:
    """``given`` and ``asked``: what follows the model of that ``kind`` when encoding and when decoding."""
    module = peers.constriction()
    if module is None:
        return {}
    coder, model = module.stream.stack.AnsCoder, getattr(module.stream.model, kind)(*sizes, **how)

    def encode() -> Any:
        made = coder()
        made.encode_reverse(symbols, model, *given)
        return made.get_compressed()

    words = encode()
    return {"encode": encode, "decode": lambda: coder(words).decode(model, *asked)}
