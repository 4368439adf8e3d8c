"""Entropy coders: the native format, CompressAI's, exact Gaussians, categorical tables.

Symbols follow the distribution of trained models' latents (fastlic.bench.latents). Times are CPU time of one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from fastlic import _native
from fastlic.bench import peers
from fastlic.bench.latents import (
    SCALES,
    Latents,
    compressai_tables,
    gaussian_bits,
    native_tables,
    realistic_latents,
    uniform_latents,
)
from fastlic.bench.runner import Case
from fastlic.ops.categorical import categorical_tables
from fastlic.ops.compressai_rans import encode_many, encode_with_indexes

COUNT = 1_000_000
MILLION = 1e6
Wanted = Callable[[str], bool]


def cases(wanted: Wanted) -> Iterator[Case]:
    yield from native_cases(wanted)
    yield from rate_cases(wanted)
    yield from compressai_cases(wanted)
    yield from gaussian_cases(wanted)
    yield from categorical_cases(wanted)


def over_ideal(data: bytes, latents: Latents) -> str:
    bits = 8 * len(data)
    return f"{bits / latents.symbols.size:.4f} bit/sym, {100 * (bits / latents.ideal_bits - 1):+.3f} % over ideal"


def on_isa(isa: str, run: Callable[[], Any]) -> Callable[[], Any]:
    def forced() -> Any:
        before = _native.get_isa()
        _native.set_isa(isa)
        try:
            return run()
        finally:
            _native.set_isa(before)

    return forced


def available_isas() -> list[str]:
    # The coder has nothing of its own for the others.
    return [isa for isa in _native.supported_isas() if isa in ("scalar", "avx2", "avx512")]


def native_cases(wanted: Wanted) -> Iterator[Case]:
    """Native format at each instruction set and precision, against CompressAI's own coder on the same symbols."""
    configurations = [(isa, 12, 64) for isa in available_isas()]
    configurations += [(_native.best_isa(), 11, 64), (_native.best_isa(), 10, 64)]
    configurations += [(_native.best_isa(), 12, lanes) for lanes in (16, 8, 4, 1)]
    names = [
        f"native {way} {isa} {precision} bit {lanes} lanes"
        for isa, precision, lanes in configurations
        for way in ("encode", "decode")
    ]
    if not any([wanted(name) for name in names]):
        return
    latents = realistic_latents(COUNT)
    indexes, symbols = latents.nearest_indexes(), latents.symbols
    out = np.empty_like(symbols)
    theirs = _compressai_peer(latents)
    clock = _native.clock_ghz() * 1e3
    for isa, precision, lanes in configurations:
        encode_name = f"native encode {isa} {precision} bit {lanes} lanes"
        decode_name = f"native decode {isa} {precision} bit {lanes} lanes"
        if not (wanted(encode_name) or wanted(decode_name)):
            continue
        tables = native_tables(precision).native
        data = _native.rans_encode(symbols, indexes, tables, lanes)

        def encode(tables: Any = tables, lanes: int = lanes) -> bytes:
            return _native.rans_encode(symbols, indexes, tables, lanes)

        def decode(data: bytes = data, tables: Any = tables) -> None:
            decoder = _native.RansDecoder(data, tables)
            decoder.decode(indexes, out)
            decoder.finish()

        common: dict[str, Any] = {"work": COUNT / MILLION, "unit": "Msym", "note": over_ideal(data, latents)}
        if isa != "scalar" and lanes >= 16:
            # Both kernels load one table word per symbol and reload its index from the stack.
            common |= {"roofline": clock, "bound": "two loads a symbol, two load ports"}
        if wanted(encode_name):
            yield Case(
                encode_name,
                on_isa(isa, encode),
                peer=theirs[0],
                peer_name="compressai.ans",
                peer_work=PEER_COUNT / MILLION,
                **common,
            )
        if wanted(decode_name):
            yield Case(
                decode_name,
                on_isa(isa, decode),
                peer=theirs[1],
                peer_name="compressai.ans",
                peer_work=PEER_COUNT / MILLION,
                **common,
            )


def rate_cases(wanted: Wanted) -> Iterator[Case]:
    """The ends of the rate axis, one scale for all symbols; the note tells the loss."""
    for scale in (0.11, 0.3, 1.0, 4.0, 16.0, 64.0):
        name = f"native decode sigma {scale}"
        if not wanted(name):
            continue
        latents = uniform_latents(COUNT, scale)
        tables = native_tables().native
        nearest = int(np.abs(np.log(SCALES / scale)).argmin())
        indexes = np.full(COUNT, nearest, np.uint8)
        data = _native.rans_encode(latents.symbols, indexes, tables, 0)
        out = np.empty_like(latents.symbols)

        def decode(data: bytes = data, tables: Any = tables, indexes: Any = indexes, out: Any = out) -> None:
            decoder = _native.RansDecoder(data, tables)
            decoder.decode(indexes, out)
            decoder.finish()

        excess = 8 * len(data) - latents.ideal_bits
        note = f"{len(data)} bytes, {over_ideal(data, latents)}, {excess / COUNT:.5f} bit/sym more"
        yield Case(name, decode, COUNT / MILLION, "Msym", note=note)


PEER_COUNT = 200_000  # CompressAI's list interface takes a second for a few million


def _compressai_peer(latents: Latents) -> tuple[Callable[[], Any] | None, Callable[[], Any] | None]:
    ans = peers.compressai_ans()
    if ans is None:
        return None, None
    tables = compressai_tables()
    symbols = latents.symbols[:PEER_COUNT].tolist()
    lists = (
        latents.compressai_indexes()[:PEER_COUNT].tolist(),
        tables.quantized_cdf.tolist(),
        tables.lengths.tolist(),
        tables.offsets.tolist(),
    )
    data = ans.RansEncoder().encode_with_indexes(symbols, *lists)
    return (
        lambda: ans.RansEncoder().encode_with_indexes(symbols, *lists),
        lambda: ans.RansDecoder().decode_with_indexes(data, *lists),
    )


def compressai_cases(wanted: Wanted) -> Iterator[Case]:
    """CompressAI's bytes, ours against its own coder (lists ready)."""
    names = ["compressai encode", "compressai decode", "compressai decode 4 streams"]
    if not any([wanted(name) for name in names]):
        return
    latents = realistic_latents(COUNT)
    tables = compressai_tables()
    symbols, indexes = latents.symbols.astype(np.int32), latents.compressai_indexes()
    data = encode_with_indexes(symbols, indexes, tables)
    out = np.empty_like(symbols)
    theirs = _compressai_peer(latents)
    ghz = _native.clock_ghz() * 1e3
    common: dict[str, Any] = {
        "work": COUNT / MILLION,
        "unit": "Msym",
        "peer_name": "compressai.ans",
        "peer_work": PEER_COUNT / MILLION,
        "note": over_ideal(data, latents),
    }
    if wanted(names[0]):
        yield Case(
            names[0],
            lambda: _native.compressai_encode(symbols, indexes, tables.native),
            peer=theirs[0],
            roofline=ghz / 10,
            bound="serial chain of two multiplications and four adds, 10 cycles",
            **common,
        )
    if wanted(names[1]):

        def decode() -> None:
            decoder = _native.CompressAiDecoder(data, tables.native)
            decoder.decode(indexes, out)
            decoder.finish()

        yield Case(names[1], decode, peer=theirs[1], **common)
    if wanted(names[2]):
        batch = indexes.reshape(4, -1)
        streams = encode_many(symbols.reshape(4, -1), batch, tables)
        yield Case(
            names[2],
            lambda: _native.compressai_decode_many(streams, batch, out.reshape(4, -1), tables.native, 1),
            peer=theirs[1],
            **common,
        )


def gaussian_cases(wanted: Wanted) -> Iterator[Case]:
    """N(mean, scale) per symbol, against constriction's QuantizedGaussian."""
    names = [f"gaussian {way} {isa}" for isa in available_isas() for way in ("encode", "decode")]
    if not any([wanted(name) for name in names]):
        return
    rng = np.random.default_rng(1)
    scales = realistic_latents(COUNT).scales.astype(np.float32)
    means = rng.uniform(-3, 3, COUNT).astype(np.float32)
    symbols = np.rint(rng.normal(size=COUNT) * scales + means).astype(np.int32)
    ideal = gaussian_bits(symbols, means.astype(np.float64), scales.astype(np.float64))
    data = _native.gaussian_encode(symbols, means, scales)
    out = np.empty_like(symbols)
    bits = 8 * len(data)
    note = f"{bits / COUNT:.4f} bit/sym, {100 * (bits / ideal - 1):+.3f} % over ideal"
    encode_peer, decode_peer = _constriction_peer(symbols, means, scales)
    common: dict[str, Any] = {
        "work": COUNT / MILLION,
        "unit": "Msym",
        "peer_name": "constriction",
        "peer_work": PEER_COUNT / MILLION,
        "note": note,
    }
    for isa in available_isas():
        if wanted(f"gaussian encode {isa}"):
            run = on_isa(isa, lambda: _native.gaussian_encode(symbols, means, scales))
            yield Case(f"gaussian encode {isa}", run, peer=encode_peer, **common)
        if wanted(f"gaussian decode {isa}"):
            run = on_isa(isa, lambda: _native.gaussian_decode(data, means, scales, out))
            yield Case(f"gaussian decode {isa}", run, peer=decode_peer, **common)


def _constriction_peer(
    symbols: Any, means: Any, scales: Any
) -> tuple[Callable[[], Any] | None, Callable[[], Any] | None]:
    module = peers.constriction()
    if module is None:
        return None, None
    stack = module.stream.stack
    family = module.stream.model.QuantizedGaussian(-1000, 1000)
    part = slice(0, PEER_COUNT)
    q, m, s = symbols[part], means[part].astype(np.float64), scales[part].astype(np.float64)

    def encode() -> Any:
        coder = stack.AnsCoder()
        coder.encode_reverse(q, family, m, s)
        return coder.get_compressed()

    words = encode()
    return encode, lambda: stack.AnsCoder(words).decode(family, m, s)


def categorical_cases(wanted: Wanted) -> Iterator[Case]:
    """A codebook of 8192 with Zipf frequencies, and one of 256."""
    for symbols in (256, 8192, 65536):
        names = [f"categorical {way} {symbols} symbols" for way in ("encode", "decode")]
        if not any([wanted(name) for name in names]):
            continue
        pmf = 1 / np.arange(1, symbols + 1)
        pmf /= pmf.sum()
        rng = np.random.default_rng(2)
        codes = rng.permutation(symbols)[rng.choice(symbols, COUNT, p=pmf)].astype(np.int32)
        tables = categorical_tables([np.bincount(codes, minlength=symbols) + 0.5]).native
        rows = np.zeros(COUNT, np.uint8)
        data = tables.encode_many([codes], [rows], 1)
        out = np.empty_like(codes)
        encode_peer, decode_peer = _constriction_categorical(codes, symbols)
        common: dict[str, Any] = {
            "work": COUNT / MILLION,
            "unit": "Msym",
            "peer_name": "constriction" if encode_peer else "",
            "peer_work": PEER_COUNT / MILLION,
        }
        if wanted(names[0]):
            yield Case(names[0], partial(tables.encode_many, [codes], [rows], 1), peer=encode_peer, **common)
        if wanted(names[1]):
            yield Case(names[1], partial(tables.decode_many, data, [rows], [out], 1), peer=decode_peer, **common)


def _constriction_categorical(codes: Any, symbols: int) -> tuple[Callable[[], Any] | None, Callable[[], Any] | None]:
    module = peers.constriction()
    if module is None:
        return None, None
    part = codes[:PEER_COUNT]
    model = module.stream.model.Categorical((np.bincount(codes, minlength=symbols) + 0.5).astype(float), perfect=False)

    def encode() -> Any:
        coder = module.stream.stack.AnsCoder()
        coder.encode_reverse(part, model)
        return coder.get_compressed()

    words = encode()
    return encode, lambda: module.stream.stack.AnsCoder(words).decode(model, PEER_COUNT)
