"""One row for each entry of ``fastlic._native`` (rows.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from values import (
    F32,
    I32,
    SLICES,
    U8,
    Call,
    H,
    N,
    W,
    batch,
    categorical_streams,
    categories,
    cdf_arrays,
    cdf_tables,
    changes,
    code_model,
    code_stream,
    coded,
    codes,
    codewords,
    compressai,
    compressai_batch,
    compressai_stream,
    entropy,
    gaussian_stream,
    header,
    image_file,
    indexes,
    kind_of,
    latents,
    means,
    mixture_stream,
    ops_arrays,
    packed_parts,
    pixel_codec,
    pixel_stream,
    plane,
    probabilities,
    rans_stream,
    rans_streams,
    rows_of_pixels,
    scales,
    slots,
    symbols,
    vectors,
    words,
    z_and_y,
    zones,
)
from values_networks import ends as network_changes
from values_networks import latents as network_latents
from values_networks import network_arrays, pixel_arrays
from values_networks import pixels as network_pixels

from fastlic import _native
from fastlic.ops import (
    tables,
)


def listed(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: [value] for name, value in arguments.items()}


def native_target(name: str) -> dict[str, Any]:
    own = listed({**z_and_y(name, True), "zones": zones() if name == "jahp" else None})
    return {**own, "threads": 2}


def native_stream(name: str) -> dict[str, Any]:
    own = {"streams": [coded(name)[0]], "sizes": [(H, W)]}
    return {**own, "groups": entropy(name)._native.groups, "threads": 2}


def engine_arrays(name: str) -> dict[str, Any]:
    return {"kind": kind_of(name), **native(ops_arrays(name))}


def native(arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: v.native if isinstance(v, tables.CdfTables) else v for k, v in arguments.items()}


def rans_decoder(dtype: Any = I32) -> Call:
    data = bytearray(rans_stream())
    decoder = _native.RansDecoder(data, cdf_tables().native)
    return Call(decoder.decode, {"indexes": indexes(), "out": np.zeros(N, dtype)}, ("out",), data)


def compressai_decoder(dtype: Any = U8) -> Call:
    data = bytearray(compressai_stream())
    decoder = _native.CompressAiDecoder(data, compressai().native)
    given = {"indexes": indexes(dtype), "out": np.zeros(N, I32), "tables": compressai().native}
    return Call(decoder.decode, given, ("out",), data)


def mixture_decoder() -> Call:
    data = bytearray(mixture_stream())
    out = {"probabilities": probabilities(), "out": np.zeros(N, I32)}
    return Call(_native.MixtureDecoder(data).decode, out, ("out",), data)


def ended(run: Callable[..., Any], arguments: dict[str, Any]) -> Call:
    run(**arguments)
    return Call(run.__self__.finish, {})


def gdn_arrays() -> dict[str, Any]:
    rng = np.random.default_rng(8)
    x, gamma = rng.normal(size=(11, 5)).astype(F32), rng.random((5, 5)).astype(F32)
    return {"x": x, "out": np.zeros_like(x), "beta": np.ones(5, F32), "gamma": gamma, "inverse": False, "threads": 1}


def attention_arrays() -> dict[str, Any]:
    rng = np.random.default_rng(8)
    qkv, bias = rng.normal(size=(2, 4, 6, 18)).astype(F32), rng.normal(size=(3, 4, 4)).astype(F32)
    arrays = {"qkv": qkv, "out": np.zeros((2, 4, 6, 6), F32), "bias": bias, "mask": np.zeros((6, 4, 4), F32)}
    return {**arrays, "side": 2, "shift": 1, "scale": 0.5, "apart": -100.0, "threads": 1}


NATIVE: dict[str, Callable[[], Call]] = {
    "crc32c": lambda: Call(_native.crc32c, {"data": rans_stream(), "crc": 0}),
    "container_parse": lambda: Call(_native.container_parse, {"data": image_file()}),
    "container_unpack": lambda: Call(_native.container_unpack, {"data": image_file(), "count": 1}),
    "container_unpack (whole)": lambda: Call(_native.container_unpack, {"data": image_file(), "count": None}),
    "container_pack": lambda: Call(
        _native.container_pack,
        {**header(), "version": 3, "sections": [b"one", b"two"], "attachments": [(2, b"icc"), (9, b"")]},
    ),
    "container_attachments": lambda: Call(_native.container_attachments, {"data": image_file()}),
    "plane_encode": lambda: Call(_native.plane_encode, {"samples": plane()}),
    "plane_decode": lambda: Call(
        _native.plane_decode, {"data": _native.plane_encode(plane()), "height": 20, "width": 33}
    ),
    "container_models": lambda: Call(_native.container_models, {}),
    "container_limits": lambda: Call(_native.container_limits, {}),
    "get_isa": lambda: Call(_native.get_isa, {}),
    "best_isa": lambda: Call(_native.best_isa, {}),
    "supported_isas": lambda: Call(_native.supported_isas, {}),
    "clock_ghz": lambda: Call(_native.clock_ghz, {}),
    "peak_products": lambda: Call(_native.peak_products, {}),
    "peak_loads": lambda: Call(_native.peak_loads, {}),
    "set_isa": lambda: Call(_native.set_isa, {"name": _native.get_isa()}),
    "CdfTables": lambda: Call(_native.CdfTables, {**cdf_arrays(), "precision": 12}),
    "rans_encode": lambda: Call(
        _native.rans_encode,
        {"symbols": symbols(), "indexes": indexes(), "tables": cdf_tables().native, "lanes": 16},
    ),
    "rans_encode_many": lambda: Call(
        _native.rans_encode_many,
        {
            **{"symbols": batch(symbols()), "indexes": batch(indexes()), "tables": cdf_tables().native},
            **{"lanes": 0, "threads": 2},
        },
    ),
    "rans_decode_many": lambda: Call(
        _native.rans_decode_many,
        {
            **{"data": rans_streams(), "indexes": batch(indexes()), "out": batch(np.zeros(N, I32))},
            **{"tables": cdf_tables().native, "threads": 2},
        },
        ("out",),
    ),
    "RansDecoder": lambda: Call(_native.RansDecoder, {"data": rans_stream(), "tables": cdf_tables().native}),
    "RansDecoder.decode": rans_decoder,
    "RansDecoder.finish": lambda: ended(rans_decoder().run, rans_decoder().arguments),
    "CompressAiTables": lambda: Call(
        _native.CompressAiTables,
        {"quantized_cdf": compressai().quantized_cdf, "lengths": compressai().lengths, "offsets": compressai().offsets},
    ),
    "compressai_encode": lambda: Call(
        _native.compressai_encode, {"symbols": symbols(), "indexes": indexes(), "tables": compressai().native}
    ),
    "compressai_encode_many": lambda: Call(
        _native.compressai_encode_many,
        {
            **{"symbols": compressai_batch(symbols()), "indexes": compressai_batch(indexes(I32))},
            **{"tables": compressai().native, "threads": 2},
        },
    ),
    "compressai_decode_many": lambda: Call(
        _native.compressai_decode_many,
        {
            **{"data": [compressai_stream()] * 5, "indexes": compressai_batch(indexes(I32))},
            **{"out": np.zeros((5, N), I32), "tables": compressai().native, "threads": 1},
        },
        ("out",),
    ),
    "CompressAiEncoder": lambda: Call(_native.CompressAiEncoder, {}),
    "CompressAiEncoder.put": lambda: Call(
        _native.CompressAiEncoder().put,
        {"symbols": symbols(), "indexes": indexes(), "tables": compressai().native},
    ),
    "CompressAiEncoder.finish": lambda: Call(_native.CompressAiEncoder().finish, {}),
    "CompressAiDecoder": lambda: Call(
        _native.CompressAiDecoder, {"data": compressai_stream(), "tables": compressai().native}
    ),
    "CompressAiDecoder.decode": compressai_decoder,
    "CompressAiDecoder.finish": lambda: ended(compressai_decoder().run, compressai_decoder().arguments),
    "mixture_rows": lambda: Call(
        _native.mixture_rows, {"probabilities": probabilities(), "cdf": np.zeros((N, 7), I32)}, ("cdf",)
    ),
    "mixture_intervals": lambda: Call(
        _native.mixture_intervals,
        {
            **{"probabilities": probabilities(), "symbols": slots()},
            **{"starts": np.zeros(N, np.uint16), "frequencies": np.zeros(N, np.uint16)},
        },
        ("starts", "frequencies"),
    ),
    "encode_intervals": lambda: Call(
        _native.encode_intervals, {"starts": np.arange(N, dtype=np.uint16), "frequencies": np.full(N, 9, np.uint16)}
    ),
    "MixtureDecoder": lambda: Call(_native.MixtureDecoder, {"data": mixture_stream()}),
    "MixtureDecoder.decode": mixture_decoder,
    "MixtureDecoder.finish": lambda: ended(mixture_decoder().run, mixture_decoder().arguments),
    "ScaleSearch": lambda: Call(_native.ScaleSearch, {"bounds": np.geomspace(0.1, 9, 20).astype(F32), "least": 0.11}),
    "ScaleSearch.search": lambda: Call(
        _native.ScaleSearch(np.geomspace(0.1, 9, 20).astype(F32), 0.11).search,
        {"scales": scales(), "out": np.zeros(N, I32)},
        ("out",),
    ),
    "round_differences": lambda: Call(
        _native.round_differences, {"inputs": scales(), "means": means(), "out": np.zeros(N, I32)}, ("out",)
    ),
    "LatentEngine": lambda: Call(_native.LatentEngine, engine_arrays("jahp")),
    "LatentEngine.encode_many": lambda: Call(entropy()._native.encode_many, native_target("jahp")),
    "LatentEngine.decode_many": lambda: Call(entropy()._native.decode_many, native_stream("jahp")),
    "LatentEngine.vary": lambda: Call(entropy()._native.vary, native(changes())),
    "LatentEngine.symbols": lambda: Call(
        entropy()._native.symbols, {**z_and_y("jahp", True), "zones": zones(), "threads": 2}
    ),
    "LatentEngine.analyse_many": lambda: Call(
        entropy("groups")._native.analyse_many, {"y": [z_and_y("groups", True)["y"]], "threads": 2}
    ),
    "LatentEngine.local_context": lambda: Call(
        entropy(SLICES)._native.local_context, {"slice": 1, "latent": latents(4, H, W, True), "threads": 2}
    ),
    "LatentEngine.inter_context": lambda: Call(
        entropy("mlic_plus")._native.inter_context, {"slice": 1, "decoded": latents(4, H, W, True), "threads": 2}
    ),
    "Transform": lambda: Call(_native.Transform, {"arrays": network_arrays(), "name": "n"}),
    "Transform.vary": lambda: Call(
        _native.Transform(network_arrays(), "n").vary, {"changes": network_changes(), "name": "n"}
    ),
    "Transform.run": lambda: Call(
        _native.Transform(network_arrays(), "n").run,
        {
            **{"x": np.ascontiguousarray(network_latents().transpose(1, 2, 0)), "crop": (9, 7)},
            **{"threads": 2, "band": 3},
        },
    ),
    "gaussian_encode": lambda: Call(
        _native.gaussian_encode, {"symbols": symbols(), "means": means(), "scales": scales(), "lanes": 16}
    ),
    "gaussian_decode": lambda: Call(
        _native.gaussian_decode,
        {"data": gaussian_stream(), "means": means(), "scales": scales(), "out": np.zeros(N, I32)},
        ("out",),
    ),
    "tail_table": lambda: Call(_native.tail_table, {}),
    "Codebooks": lambda: Call(_native.Codebooks, {"words": codewords()}),
    "Codebooks.nearest": lambda: Call(
        _native.Codebooks(codewords()).nearest, {"x": vectors(), "out": np.zeros(18, np.int64), "threads": 2}, ("out",)
    ),
    "CategoricalTables": lambda: Call(
        _native.CategoricalTables,
        {"cdf": categories().cdf, "lengths": categories().lengths, "precision": categories().precision},
    ),
    "CategoricalTables.encode_many": lambda: Call(
        categories().native.encode_many, {"symbols": batch(codes()), "indexes": batch(indexes()), "threads": 2}
    ),
    "CategoricalTables.decode_many": lambda: Call(
        categories().native.decode_many,
        {
            **{"data": categorical_streams(), "indexes": batch(indexes()), "out": batch(np.zeros(N, I32))},
            "threads": 2,
        },
        ("out",),
    ),
    "CodeContext": lambda: Call(_native.CodeContext, {"arrays": code_model().to_arrays()}),
    "CodeContext.encode_many": lambda: Call(
        code_model().native.encode_many, {"codes": [words(), words()], "threads": 2}
    ),
    "CodeContext.frequencies": lambda: Call(code_model().native.frequencies, {"codes": words()}),
    "CodeContext.decode_many": lambda: Call(
        code_model().native.decode_many,
        {"data": [code_stream()] * 2, "out": [np.zeros_like(words()), np.zeros_like(words())], "threads": 2},
        ("out",),
    ),
    "gdn": lambda: Call(_native.gdn, gdn_arrays(), ("out",)),
    "float_attention": lambda: Call(_native.float_attention, attention_arrays(), ("out",)),
    "Codec": lambda: Call(_native.Codec, {"data": pixel_codec()}),
    "Codec.decode": lambda: Call(
        _native.Codec(pixel_codec()).decode,
        {
            **{"data": pixel_stream(), "parts": 0, "threads": 2, "max_pixels": 1 << 20, "channels": 4},
            **{"progress": print, "region": (1, 2, 3, 4)},
        },
    ),
    "Codec.encode": lambda: Call(
        _native.Codec(pixel_codec()).encode,
        {
            **{"pixels": rows_of_pixels(), "quality": 20, "threads": 2, "max_pixels": 1 << 20},
            **{"metadata": [(2, b"icc")], "progress": print, "worth": 0.5},
        },
    ),
    "read_codec_file": lambda: Call(_native.read_codec_file, {"data": pixel_codec()}),
    "unpack": lambda: Call(_native.unpack, packed_parts()),
}


# Types that the core reads as well, each a row of its own.
NATIVE |= {
    "rans_encode (int16)": lambda: Call(
        NATIVE["rans_encode"]().run, NATIVE["rans_encode"]().arguments | {"symbols": symbols(np.int16)}
    ),
    "RansDecoder.decode (int16)": lambda: rans_decoder(np.int16),
    "CompressAiEncoder.put (int32)": lambda: Call(
        _native.CompressAiEncoder().put,
        {"symbols": symbols(), "indexes": indexes(I32), "tables": compressai().native},
    ),
    "CompressAiDecoder.decode (int32)": lambda: compressai_decoder(I32),
    "Transform (pixels)": lambda: Call(_native.Transform, {"arrays": pixel_arrays(), "name": "p"}),
    "Transform.run (pixels)": lambda: Call(
        _native.Transform(pixel_arrays(), "p").run, {"x": network_pixels(), "crop": None, "threads": 2, "band": 0}
    ),
    "LatentEngine (groups)": lambda: Call(_native.LatentEngine, engine_arrays("groups")),
    "LatentEngine (mlic)": lambda: Call(_native.LatentEngine, engine_arrays("mlic")),
    "LatentEngine (mlic_plus)": lambda: Call(_native.LatentEngine, engine_arrays("mlic_plus")),
    "LatentEngine (mlic_plus_plus)": lambda: Call(_native.LatentEngine, engine_arrays("mlic_early")),
    "LatentEngine.encode_many (groups)": lambda: Call(entropy("groups")._native.encode_many, native_target("groups")),
    "LatentEngine.encode_many (slices)": lambda: Call(entropy(SLICES)._native.encode_many, native_target(SLICES)),
    "LatentEngine.decode_many (groups)": lambda: Call(entropy("groups")._native.decode_many, native_stream("groups")),
    "LatentEngine.decode_many (slices)": lambda: Call(entropy(SLICES)._native.decode_many, native_stream(SLICES)),
    "LatentEngine.inter_context (linear)": lambda: Call(
        entropy(SLICES)._native.inter_context, {"slice": 1, "decoded": latents(4, H, W, True), "threads": 2}
    ),
}
