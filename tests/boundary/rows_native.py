"""One row for each entry of ``fastlic._native`` (rows.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import values as v
from values import F32, I32, SLICES, U8, Call, H, N, W
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
    own = listed({**v.z_and_y(name, True), "zones": v.zones() if name == "jahp" else None})
    return {**own, "latents": True, "threads": 2}


def native_stream(name: str) -> dict[str, Any]:
    own = {"streams": [v.coded(name)[0]], "sizes": [(H, W)]}
    return {**own, "groups": v.entropy(name)._native.groups, "symbols": True, "threads": 2}


def engine_arrays(name: str) -> dict[str, Any]:
    return {"kind": v.kind_of(name), **native(v.ops_arrays(name))}


def native(arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: v.native if isinstance(v, tables.CdfTables) else v for k, v in arguments.items()}


def rans_decoder(dtype: Any = I32) -> Call:
    data = bytearray(v.rans_stream())
    decoder = _native.RansDecoder(data, v.cdf_tables().native)
    return Call(decoder.decode, {"indexes": v.indexes(), "out": np.zeros(N, dtype)}, ("out",), data)


def compressai_decoder(dtype: Any = U8) -> Call:
    data = bytearray(v.compressai_stream())
    decoder = _native.CompressAiDecoder(data, v.compressai().native)
    given = {"indexes": v.indexes(dtype), "out": np.zeros(N, I32), "tables": v.compressai().native}
    return Call(decoder.decode, given, ("out",), data)


def mixture_decoder() -> Call:
    data = bytearray(v.mixture_stream())
    out = {"probabilities": v.probabilities(), "out": np.zeros(N, I32)}
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


def convolution_arrays() -> dict[str, Any]:
    rng = np.random.default_rng(9)
    x, weight = rng.normal(size=(2, 5, 7, 16)).astype(F32), rng.normal(size=(16, 9, 5, 5)).astype(F32)
    arrays = {"x": x, "out": np.zeros((2, 10, 14, 9), F32), "weight": weight, "bias": np.zeros(9, F32)}
    return {**arrays, "down": False, "up": True, "threads": 1}


NATIVE: dict[str, Callable[[], Call]] = {
    "crc32c": lambda: Call(_native.crc32c, {"data": v.rans_stream(), "crc": 0}),
    "container_parse": lambda: Call(_native.container_parse, {"data": v.image_file()}),
    "container_unpack": lambda: Call(_native.container_unpack, {"data": v.image_file(), "count": 1}),
    "container_unpack (whole)": lambda: Call(_native.container_unpack, {"data": v.image_file(), "count": None}),
    "container_pack": lambda: Call(
        _native.container_pack,
        {**v.header(), "version": 3, "sections": [b"one", b"two"], "attachments": [(2, b"icc"), (9, b"")]},
    ),
    "container_attachments": lambda: Call(_native.container_attachments, {"data": v.image_file()}),
    "plane_encode": lambda: Call(_native.plane_encode, {"samples": v.plane()}),
    "plane_decode": lambda: Call(
        _native.plane_decode, {"data": _native.plane_encode(v.plane()), "height": 20, "width": 33}
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
    "CdfTables": lambda: Call(_native.CdfTables, {**v.cdf_arrays(), "precision": 12}),
    "rans_encode": lambda: Call(
        _native.rans_encode,
        {"symbols": v.symbols(), "indexes": v.indexes(), "tables": v.cdf_tables().native, "lanes": 16},
    ),
    "rans_encode_many": lambda: Call(
        _native.rans_encode_many,
        {
            **{"symbols": v.batch(v.symbols()), "indexes": v.batch(v.indexes()), "tables": v.cdf_tables().native},
            **{"lanes": 0, "threads": 2},
        },
    ),
    "rans_decode_many": lambda: Call(
        _native.rans_decode_many,
        {
            **{"data": v.rans_streams(), "indexes": v.batch(v.indexes()), "out": v.batch(np.zeros(N, I32))},
            **{"tables": v.cdf_tables().native, "threads": 2},
        },
        ("out",),
    ),
    "RansDecoder": lambda: Call(_native.RansDecoder, {"data": v.rans_stream(), "tables": v.cdf_tables().native}),
    "RansDecoder.decode": rans_decoder,
    "RansDecoder.finish": lambda: ended(rans_decoder().run, rans_decoder().arguments),
    "CompressAiTables": lambda: Call(_native.CompressAiTables, v.compressai_arrays()),
    "compressai_encode": lambda: Call(
        _native.compressai_encode, {"symbols": v.symbols(), "indexes": v.indexes(), "tables": v.compressai().native}
    ),
    "compressai_encode_many": lambda: Call(
        _native.compressai_encode_many,
        {
            **{"symbols": v.compressai_batch(v.symbols()), "indexes": v.compressai_batch(v.indexes(I32))},
            **{"tables": v.compressai().native, "threads": 2},
        },
    ),
    "compressai_decode_many": lambda: Call(
        _native.compressai_decode_many,
        {
            **{"data": [v.compressai_stream()] * 5, "indexes": v.compressai_batch(v.indexes(I32))},
            **{"out": np.zeros((5, N), I32), "tables": v.compressai().native, "threads": 1},
        },
        ("out",),
    ),
    "CompressAiEncoder": lambda: Call(_native.CompressAiEncoder, {}),
    "CompressAiEncoder.put": lambda: Call(
        _native.CompressAiEncoder().put,
        {"symbols": v.symbols(), "indexes": v.indexes(), "tables": v.compressai().native},
    ),
    "CompressAiEncoder.finish": lambda: Call(_native.CompressAiEncoder().finish, {}),
    "CompressAiDecoder": lambda: Call(
        _native.CompressAiDecoder, {"data": v.compressai_stream(), "tables": v.compressai().native}
    ),
    "CompressAiDecoder.decode": compressai_decoder,
    "CompressAiDecoder.finish": lambda: ended(compressai_decoder().run, compressai_decoder().arguments),
    "mixture_rows": lambda: Call(
        _native.mixture_rows, {"probabilities": v.probabilities(), "cdf": np.zeros((N, 7), I32)}, ("cdf",)
    ),
    "mixture_intervals": lambda: Call(
        _native.mixture_intervals,
        {
            **{"probabilities": v.probabilities(), "symbols": v.slots()},
            **{"starts": np.zeros(N, np.uint16), "frequencies": np.zeros(N, np.uint16)},
        },
        ("starts", "frequencies"),
    ),
    "encode_intervals": lambda: Call(
        _native.encode_intervals, {"starts": np.arange(N, dtype=np.uint16), "frequencies": np.full(N, 9, np.uint16)}
    ),
    "MixtureDecoder": lambda: Call(_native.MixtureDecoder, {"data": v.mixture_stream()}),
    "MixtureDecoder.decode": mixture_decoder,
    "MixtureDecoder.finish": lambda: ended(mixture_decoder().run, mixture_decoder().arguments),
    "ScaleSearch": lambda: Call(_native.ScaleSearch, {"bounds": np.geomspace(0.1, 9, 20).astype(F32), "least": 0.11}),
    "ScaleSearch.search": lambda: Call(
        _native.ScaleSearch(np.geomspace(0.1, 9, 20).astype(F32), 0.11).search,
        {"scales": v.scales(), "out": np.zeros(N, I32)},
        ("out",),
    ),
    "round_differences": lambda: Call(
        _native.round_differences, {"inputs": v.scales(), "means": v.means(), "out": np.zeros(N, I32)}, ("out",)
    ),
    "LatentEngine": lambda: Call(_native.LatentEngine, engine_arrays("jahp")),
    "LatentEngine.encode_many": lambda: Call(v.entropy()._native.encode_many, native_target("jahp")),
    "LatentEngine.decode_many": lambda: Call(v.entropy()._native.decode_many, native_stream("jahp")),
    "LatentEngine.vary": lambda: Call(v.entropy()._native.vary, native(v.changes())),
    "LatentEngine.symbols": lambda: Call(
        v.entropy()._native.symbols, {**v.z_and_y("jahp", True), "zones": v.zones(), "threads": 2}
    ),
    "LatentEngine.analyse_many": lambda: Call(
        v.entropy("groups")._native.analyse_many, {"y": [v.z_and_y("groups", True)["y"]], "threads": 2}
    ),
    "LatentEngine.local_context": lambda: Call(
        v.entropy(SLICES)._native.local_context, {"slice": 1, "latent": v.latents(4, H, W, True), "threads": 2}
    ),
    "LatentEngine.inter_context": lambda: Call(
        v.entropy("mlic_plus")._native.inter_context, {"slice": 1, "decoded": v.latents(4, H, W, True), "threads": 2}
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
        _native.gaussian_encode, {"symbols": v.symbols(), "means": v.means(), "scales": v.scales(), "lanes": 16}
    ),
    "gaussian_decode": lambda: Call(
        _native.gaussian_decode,
        {"data": v.gaussian_stream(), "means": v.means(), "scales": v.scales(), "out": np.zeros(N, I32)},
        ("out",),
    ),
    "tail_table": lambda: Call(_native.tail_table, {}),
    "Codebooks": lambda: Call(_native.Codebooks, {"words": v.codewords()}),
    "Codebooks.nearest": lambda: Call(
        _native.Codebooks(v.codewords()).nearest,
        {"x": v.vectors(), "out": np.zeros(18, np.int64), "threads": 2},
        ("out",),
    ),
    "CategoricalTables": lambda: Call(
        _native.CategoricalTables,
        {"cdf": v.categories().cdf, "lengths": v.categories().lengths, "precision": v.categories().precision},
    ),
    "CategoricalTables.encode_many": lambda: Call(
        v.categories().native.encode_many,
        {"symbols": v.batch(v.codes()), "indexes": v.batch(v.indexes()), "threads": 2},
    ),
    "CategoricalTables.decode_many": lambda: Call(
        v.categories().native.decode_many,
        {
            **{"data": v.categorical_streams(), "indexes": v.batch(v.indexes()), "out": v.batch(np.zeros(N, I32))},
            "threads": 2,
        },
        ("out",),
    ),
    "CodeContext": lambda: Call(_native.CodeContext, {"arrays": v.code_model().to_arrays()}),
    "CodeContext.encode_many": lambda: Call(
        v.code_model().native.encode_many, {"codes": [v.words(), v.words()], "threads": 2}
    ),
    "CodeContext.choose": lambda: Call(v.code_model().native.choose, v.code_costs()),
    "CodeContext.frequencies": lambda: Call(v.code_model().native.frequencies, {"codes": v.words()}),
    "CodeContext.decode_many": lambda: Call(
        v.code_model().native.decode_many,
        {"data": [v.code_stream()] * 2, "out": [np.zeros_like(v.words()), np.zeros_like(v.words())], "threads": 2},
        ("out",),
    ),
    "gdn": lambda: Call(_native.gdn, gdn_arrays(), ("out",)),
    "float_convolution": lambda: Call(_native.float_convolution, convolution_arrays(), ("out",)),
    "float_attention": lambda: Call(_native.float_attention, attention_arrays(), ("out",)),
    "Codec": lambda: Call(_native.Codec, {"data": v.pixel_codec()}),
    "Codec.decode": lambda: Call(
        _native.Codec(v.pixel_codec()).decode,
        {
            **{"data": v.pixel_stream(), "parts": 0, "threads": 2, "max_pixels": 1 << 20, "channels": 4},
            **{"progress": print, "region": (1, 2, 3, 4)},
        },
    ),
    "Codec.encode": lambda: Call(
        _native.Codec(v.pixel_codec()).encode,
        {
            **{"pixels": v.rows_of_pixels(), "quality": 20, "threads": 2, "max_pixels": 1 << 20},
            **{"metadata": [(2, b"icc")], "progress": print, "worth": 0.5},
        },
    ),
    "read_codec_file": lambda: Call(_native.read_codec_file, {"data": v.pixel_codec()}),
    "unpack": lambda: Call(_native.unpack, v.packed_parts()),
}


# Types that the core reads as well, each a row of its own.
NATIVE |= {
    "rans_encode (int16)": lambda: Call(
        NATIVE["rans_encode"]().run, NATIVE["rans_encode"]().arguments | {"symbols": v.symbols(np.int16)}
    ),
    "RansDecoder.decode (int16)": lambda: rans_decoder(np.int16),
    "CompressAiEncoder.put (int32)": lambda: Call(
        _native.CompressAiEncoder().put,
        {"symbols": v.symbols(), "indexes": v.indexes(I32), "tables": v.compressai().native},
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
    "LatentEngine.encode_many (groups)": lambda: Call(v.entropy("groups")._native.encode_many, native_target("groups")),
    "LatentEngine.encode_many (slices)": lambda: Call(v.entropy(SLICES)._native.encode_many, native_target(SLICES)),
    "LatentEngine.decode_many (groups)": lambda: Call(v.entropy("groups")._native.decode_many, native_stream("groups")),
    "LatentEngine.decode_many (slices)": lambda: Call(v.entropy(SLICES)._native.decode_many, native_stream(SLICES)),
    "LatentEngine.inter_context (linear)": lambda: Call(
        v.entropy(SLICES)._native.inter_context, {"slice": 1, "decoded": v.latents(4, H, W, True), "threads": 2}
    ),
}
