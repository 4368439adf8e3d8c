"""One row for each entry of ``fastlic._native`` and each public function, class and method of ``fastlic.ops``.

A row makes a valid call anew: what to call, its arguments by name, and which of those are written to. The hostile calls
are made from it (hostile.py), so a new entry needs a row and nothing else.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch

import fastlic.ops
from fastlic import _native
from fastlic.kernels.packing import Requantiser
from fastlic.ops import (
    backends,
    categorical,
    checkerboard,
    checksum,
    code_context,
    codebook,
    compressai_rans,
    compressai_tables,
    device_engine,
    divisive,
    float_symbols,
    gaussian,
    mixture,
    rans,
    tables,
)
from fastlic.ops import latents as engines

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
N = 70  # symbols of a stream: whole groups of every instruction set, and an odd end
I32, U8, F32 = np.int32, np.uint8, np.float32


class Call(NamedTuple):
    """``run(**arguments)``. ``outputs``: arguments that it writes to; ``data``: the stream that ``run`` reads."""

    run: Callable[..., Any]
    arguments: dict[str, Any]
    outputs: tuple[str, ...] = ()
    data: bytearray | None = None


# ---- what valid calls are made of


@cache
def cdf_arrays() -> dict[str, Any]:
    return {
        "cdf": np.array([0, 300, 3700, 4000, 4096, 0, 4095, 4096, 0, 1000, 2000, 3000, 4000, 4096], I32),
        "lengths": np.array([5, 3, 6], I32),
        "offsets": np.array([-1, 0, -2], I32),
        "shifts": np.array([0, 0, 3], U8),
    }


@cache
def cdf_tables() -> tables.CdfTables:
    return tables.CdfTables(**cdf_arrays())


@cache
def compressai() -> compressai_rans.CompressAiTables:
    return compressai_rans.CompressAiTables(
        [[0, 1, 65534, 65535, 65536], [0, 65535, 65536, 0, 0], [0, 20000, 40000, 60000, 65536]], [5, 3, 5], [-1, 7, -9]
    )


@cache
def categories() -> categorical.CategoricalTables:
    return categorical.categorical_tables([[1, 2, 3], [5], np.ones(100)])


def indexes(dtype: Any = U8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 3, N).astype(dtype)


def symbols(dtype: Any = I32) -> np.ndarray:
    out = np.random.default_rng(2).integers(-1, 2, N).astype(dtype)
    out[::17] = 1000  # escapes
    return out


def codes() -> np.ndarray:
    return np.random.default_rng(3).integers(0, np.array([3, 1, 100])[indexes()]).astype(I32)


def means() -> np.ndarray:
    return np.linspace(-3, 3, N).astype(F32)


def scales() -> np.ndarray:
    return np.geomspace(0.2, 30, N).astype(F32)


@cache
def rans_stream() -> bytes:
    return rans.rans_encode(symbols(), indexes(), cdf_tables(), lanes=16)


@cache
def compressai_stream() -> bytes:
    return compressai_rans.encode_with_indexes(symbols(), indexes(), compressai())


@cache
def categorical_stream() -> bytes:
    return categorical.encode_categorical(codes(), indexes(), categories())


@cache
def gaussian_stream() -> bytes:
    return gaussian.encode_gaussian(symbols(), means(), scales(), lanes=16)


def probabilities() -> np.ndarray:
    p = np.random.default_rng(4).random((N, 5)).astype(F32)
    return p / p.sum(1, keepdims=True)


def slots() -> np.ndarray:
    return (np.arange(N) % 5).astype(I32)


@cache
def mixture_stream() -> bytes:
    encoder = mixture.MixtureEncoder()
    encoder.add(probabilities(), slots())
    return encoder.finish()


@cache
def models() -> dict[str, dict[str, np.ndarray]]:
    """Small models of MLIC's families and of channel groups, and one with the wavefront's context."""
    import safetensors.numpy

    sys.path.insert(0, str(ROOT / "fuzz"))
    from models import load

    found = load()
    arrays = safetensors.numpy.load_file(GOLDEN / "tiny_jahp.safetensors")
    prefix = "entropy/"
    found["jahp"] = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
    return found


@cache
def arrays_of(name: str) -> dict[str, np.ndarray]:
    return models()[name]


@cache
def tables_of(name: str, section: str) -> tables.CdfTables:
    return engines._tables(section, None, arrays_of(name))


def kind_of(name: str) -> Any:
    return {"jahp": "wavefront", "groups": "groups"}.get(name, "slices")


@cache
def entropy(name: str = "jahp") -> engines.LatentEngine:
    return engines.LatentEngine(kind_of(name), arrays_of(name))


H, W = 3, 5  # of y; z is [1, 2]
SLICES = "mlic_plus_plus"


def latents(channels: int, height: int, width: int, last: bool) -> np.ndarray:
    rng = np.random.default_rng(channels)
    out = (rng.normal(size=(channels, height, width)) * 90).astype(I32)
    return np.ascontiguousarray(out.transpose(1, 2, 0)) if last else out


def z_and_y(name: str, last: bool = False) -> dict[str, Any]:
    own = entropy(name)._native
    return {"z": latents(own.hyper_channels, 1, 2, last), "y": latents(own.latent_channels, H, W, last)}


def target(name: str) -> engines.Target:
    return engines.Target(**z_and_y(name), zones=zones() if name == "jahp" else None)


def listed(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: [value] for name, value in arguments.items()}


@cache
def coded(name: str) -> Any:
    return entropy(name).encode_many([target(name)])[0]


def native_target(name: str) -> dict[str, Any]:
    own = listed({**z_and_y(name, True), "zones": zones() if name == "jahp" else None})
    return {**own, "threads": 2}


def native_stream(name: str) -> dict[str, Any]:
    own = {"streams": [coded(name)[0]], "sizes": [(H, W)]}
    return {**own, "groups": entropy(name)._native.groups, "threads": 2}


def streams(name: str) -> dict[str, Any]:
    return {"streams": [(coded(name)[0], H, W)], "threads": 2, "groups": 2}


def zones() -> np.ndarray:
    return np.arange(tables_of("jahp", "y").rows, dtype=I32) % 7


@cache
def code_model() -> Any:
    from fastlic.entropy.code_context import IntegerCodeContext
    from fastlic.models.mcquic.context import CodeContext

    torch.manual_seed(1)
    own = CodeContext(2, 3, 5, 7).eval()
    words = torch.from_numpy(np.random.default_rng(1).integers(0, 3, (2, 12, 12))).long()
    return IntegerCodeContext.from_float(own, own.rows(words[None]))


def words() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 3, (2, 4, 17)).astype(I32)


@cache
def code_stream() -> bytes:
    return code_context.encode_codes(words(), code_model())


@cache
def board() -> Any:
    from fastlic.integers.fixed import Requantiser as Factors

    rng = np.random.default_rng(7)
    layers = []
    for inputs, outputs, bits in ((20, 24, 12), (24, 20, 21)):
        factors = Factors.from_factors(rng.uniform(0.5, 1.5, outputs) / 5000, bits, 0.25)
        bias = rng.integers(-1000, 1000, outputs).astype(I32)
        weight = rng.integers(-127, 128, (outputs, inputs, 1, 1)).astype(np.int8)
        layers.append({"weight": weight, "bias": bias, **factors.to_arrays("requantise")})
    return layers


def board_arguments() -> dict[str, Any]:
    return {"layers": board(), "sources": [(20, ((0, 0),))], "thresholds": np.arange(1, 8, dtype=I32) * 100}


@cache
def network() -> Any:
    return checkerboard.pack_checkerboard(**board_arguments())


def board_maps() -> list[Any]:
    values = np.random.default_rng(8).integers(-2047, 2048, (2, H, W, 20))
    return [checkerboard.as_map(torch.from_numpy(values), 0)]


def board_latents() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(9).integers(-5000, 5000, (2, H, W, 10)).astype(I32))


def board_share() -> torch.Tensor:
    return torch.zeros((2, H, W, network().layers[0].columns), dtype=torch.int32)


def seen() -> dict[str, Any]:
    ones = np.ones(10, I32)
    return {
        "seen": checkerboard.as_map(torch.zeros((2, H, W, 10), dtype=torch.int32), 2),
        "requantiser": Requantiser.of(ones, ones, ones, 12, "cpu"),
    }


def board_symbols() -> torch.Tensor:
    return torch.ones((2, checkerboard.count_of(H, W, 1), 10), dtype=torch.int32)


class Density:
    """What bottleneck_tables reads of a density."""

    def __init__(self) -> None:
        self.quantiles = torch.tensor([[[-3.0, 0.0, 3.0]], [[-5.0, 1.0, 9.0]]])

    def logits_cumulative(self, x: torch.Tensor) -> torch.Tensor:
        return x


def engine_arrays(name: str) -> dict[str, Any]:
    return {"kind": kind_of(name), **native(ops_arrays(name))}


def ops_arrays(name: str) -> dict[str, Any]:
    return {"arrays": dict(arrays_of(name)), "z_tables": tables_of(name, "z"), "y_tables": tables_of(name, "y")}


def changes() -> dict[str, Any]:
    own = {k: arrays_of("jahp")[k] for k in ("z.median", "context.bias")}
    return {"changes": own, "z_tables": tables_of("jahp", "z"), "y_tables": tables_of("jahp", "y")}


def native(arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: v.native if isinstance(v, tables.CdfTables) else v for k, v in arguments.items()}


def rans_decoder(dtype: Any = I32) -> Call:
    data = bytearray(rans_stream())
    decoder = _native.RansDecoder(data, cdf_tables().native)
    return Call(decoder.decode, {"indexes": indexes(), "out": np.zeros(N, dtype)}, ("out",), data)


def compressai_decoder(dtype: Any = U8) -> Call:
    data = bytearray(compressai_stream())
    decoder = _native.CompressAiDecoder(data, compressai().native)
    return Call(decoder.decode, {"indexes": indexes(dtype), "out": np.zeros(N, I32)}, ("out",), data)


def mixture_decoder() -> Call:
    data = bytearray(mixture_stream())
    out = {"probabilities": probabilities(), "out": np.zeros(N, I32)}
    return Call(_native.MixtureDecoder(data).decode, out, ("out",), data)


def finish(decoder: Any) -> Call:
    return Call(decoder.finish, {})


def ended(run: Callable[..., Any], arguments: dict[str, Any]) -> Call:
    run(**arguments)
    return Call(run.__self__.finish, {})


def vectors() -> np.ndarray:
    return np.random.default_rng(6).normal(size=(9, 2, 6)).astype(F32)


def codewords() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(2, 40, 6)).astype(F32)


def gdn_arrays() -> dict[str, Any]:
    rng = np.random.default_rng(8)
    x, gamma = rng.normal(size=(11, 5)).astype(F32), rng.random((5, 5)).astype(F32)
    return {"x": x, "out": np.zeros_like(x), "beta": np.ones(5, F32), "gamma": gamma, "inverse": False, "threads": 1}


def batch(value: np.ndarray) -> list[np.ndarray]:
    return [value, value[:7].copy()]


def short(encode: Callable[[slice], bytes]) -> list[bytes]:
    return [encode(slice(None)), encode(slice(7))]


@cache
def rans_streams() -> list[bytes]:
    return short(lambda part: rans.rans_encode(symbols()[part], indexes()[part], cdf_tables()))


@cache
def categorical_streams() -> list[bytes]:
    return short(lambda part: categorical.encode_categorical(codes()[part], indexes()[part], categories()))


def compressai_batch(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(value, (5, N)))


def on_instruction_set(name: str) -> str:
    with backends.instruction_set(name):
        return _native.get_isa()


# ---- the rows

NATIVE: dict[str, Callable[[], Call]] = {
    "crc32c": lambda: Call(_native.crc32c, {"data": rans_stream(), "crc": 0}),
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
}
# Types that the core reads as well, each a row of its own.
NATIVE |= {
    "rans_encode (int16)": lambda: Call(
        NATIVE["rans_encode"]().run, NATIVE["rans_encode"]().arguments | {"symbols": symbols(np.int16)}
    ),
    "RansDecoder.decode (int16)": lambda: rans_decoder(np.int16),
    "CompressAiDecoder.decode (int32)": lambda: compressai_decoder(I32),
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


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


def encoder() -> mixture.MixtureEncoder:
    own = mixture.MixtureEncoder()
    own.add(probabilities(), slots())
    return own


def mixture_rows() -> np.ndarray:
    return mixture.mixture_rows(probabilities())


def decoded(decoder: Any, *arguments: Any) -> Call:
    decoder.decode(*arguments)
    return Call(decoder.finish, {})


OPS: dict[str, Callable[[], Call]] = {
    "backends.instruction_sets": lambda: Call(backends.instruction_sets, {}),
    "backends.instruction_set": lambda: Call(on_instruction_set, {"name": "scalar"}),
    "backends.triton_package_lacks": lambda: Call(backends.triton_package_lacks, {}),
    "backends.triton_lacks": lambda: Call(backends.triton_lacks, {}),
    "backends.require_triton": lambda: Call(backends.require_triton, {}),
    "backends.choose": lambda: Call(
        backends.choose, {"table": {"cpp": int, "reference": str}, "backend": "auto", "device": torch.device("cpu")}
    ),
    "backends.backends": lambda: Call(backends.backends, {}),
    "categorical.CategoricalTables": lambda: Call(
        categorical.CategoricalTables,
        {"cdf": categories().cdf, "lengths": categories().lengths, "precision": categories().precision},
    ),
    "categorical.CategoricalTables.to_arrays": lambda: Call(categories().to_arrays, {}),
    "categorical.CategoricalTables.from_arrays": lambda: Call(
        categorical.CategoricalTables.from_arrays, {"arrays": categories().to_arrays()}
    ),
    "categorical.categorical_tables": lambda: Call(
        categorical.categorical_tables, {"pmfs": [np.ones(3), np.ones(9)], "precision": 12}
    ),
    "categorical.encode_categorical": lambda: Call(
        categorical.encode_categorical,
        {"symbols": codes(), "indexes": indexes(), "tables": categories(), "backend": "cpp"},
    ),
    "categorical.decode_categorical": lambda: Call(
        categorical.decode_categorical,
        {
            **{"data": categorical_stream(), "indexes": indexes(), "tables": categories()},
            **{"shape": (N,), "backend": "cpp"},
        },
    ),
    "categorical.encode_categorical_many": lambda: Call(
        categorical.encode_categorical_many,
        {
            **{"symbols": batch(codes()), "indexes": batch(indexes()), "tables": categories()},
            **{"threads": 2, "backend": "cpp"},
        },
    ),
    "categorical.decode_categorical_many": lambda: Call(
        categorical.decode_categorical_many,
        {
            **{"data": categorical_streams(), "indexes": batch(indexes()), "tables": categories()},
            **{"threads": 2, "backend": "cpp"},
        },
    ),
    "checkerboard.pack_checkerboard": lambda: Call(
        checkerboard.pack_checkerboard, {**board_arguments(), "gelu": None, "device": "cpu"}
    ),
    "checkerboard.checkerboard_parameters": lambda: Call(
        checkerboard.checkerboard_parameters,
        {"network": network(), "maps": board_maps(), "parity": 1, "share": board_share(), "backend": "auto"},
    ),
    "checkerboard.checkerboard_encode": lambda: Call(
        checkerboard.checkerboard_encode,
        {
            **{"network": network(), "maps": board_maps(), "parity": 1, "target": board_latents()},
            **{"y": torch.zeros_like(board_latents()), "share": board_share(), "backend": "auto"},
        },
        ("y",),
    ),
    "checkerboard.checkerboard_place": lambda: Call(
        checkerboard.checkerboard_place,
        {
            **{"symbols": board_symbols(), "means": board_symbols(), "y": torch.zeros_like(board_latents())},
            **{"parity": 1, **seen(), "backend": "auto"},
        },
        ("y",),
    ),
    "checksum.crc32c": lambda: Call(checksum.crc32c, {"data": rans_stream(), "crc": 0}),
    "code_context.pack_code_context": lambda: Call(
        code_context.pack_code_context, {"arrays": code_model().to_arrays()}
    ),
    "code_context.encode_codes": lambda: Call(
        code_context.encode_codes, {"codes": words(), "context": code_model(), "backend": "cpp"}
    ),
    "code_context.decode_codes": lambda: Call(
        code_context.decode_codes,
        {"data": code_stream(), "context": code_model(), "height": 4, "width": 17, "backend": "cpp"},
    ),
    "code_context.encode_codes_many": lambda: Call(
        code_context.encode_codes_many,
        {"codes": [words(), words()], "context": code_model(), "threads": 2, "backend": "cpp"},
    ),
    "code_context.decode_codes_many": lambda: Call(
        code_context.decode_codes_many,
        {"streams": [(code_stream(), 4, 17)] * 2, "context": code_model(), "threads": 2, "backend": "cpp"},
    ),
    "code_context.code_frequencies": lambda: Call(
        code_context.code_frequencies, {"codes": words(), "context": code_model(), "backend": "cpp"}
    ),
    "codebook.codebook_nearest": lambda: Call(
        codebook.codebook_nearest,
        {"x": tensor(vectors()), "codebook": tensor(codewords()), "backend": "auto", "threads": 2},
    ),
    "compressai_rans.CompressAiTables": lambda: Call(
        compressai_rans.CompressAiTables,
        {"quantized_cdf": compressai().quantized_cdf, "lengths": compressai().lengths, "offsets": compressai().offsets},
    ),
    "compressai_rans.encode_with_indexes": lambda: Call(
        compressai_rans.encode_with_indexes,
        {"symbols": symbols(), "indexes": indexes(), "tables": compressai(), "backend": "cpp"},
    ),
    "compressai_rans.CompressAiDecoder": lambda: Call(
        compressai_rans.CompressAiDecoder, {"data": compressai_stream(), "tables": compressai(), "backend": "cpp"}
    ),
    "compressai_rans.CompressAiDecoder.decode": lambda: Call(
        compressai_rans.CompressAiDecoder(compressai_stream(), compressai()).decode, {"indexes": indexes()}
    ),
    "compressai_rans.CompressAiDecoder.finish": lambda: decoded(
        compressai_rans.CompressAiDecoder(compressai_stream(), compressai()), indexes()
    ),
    "compressai_rans.decode_with_indexes": lambda: Call(
        compressai_rans.decode_with_indexes,
        {
            **{"data": compressai_stream(), "indexes": indexes(), "tables": compressai()},
            **{"strict": True, "backend": "cpp"},
        },
    ),
    "compressai_rans.encode_many_with_indexes": lambda: Call(
        compressai_rans.encode_many_with_indexes,
        {
            **{"symbols": compressai_batch(symbols()), "indexes": compressai_batch(indexes())},
            **{"tables": compressai(), "threads": 2},
        },
    ),
    "compressai_rans.decode_many_with_indexes": lambda: Call(
        compressai_rans.decode_many_with_indexes,
        {
            **{"data": [compressai_stream()] * 5, "indexes": compressai_batch(indexes())},
            **{"tables": compressai(), "threads": 2},
        },
    ),
    "compressai_tables.scale_table": lambda: Call(compressai_tables.scale_table, {}),
    "compressai_tables.quantised_cdf": lambda: Call(compressai_tables.quantised_cdf, {"pmf": np.full(9, 0.1, F32)}),
    "compressai_tables.compressai_gaussian_tables": lambda: Call(
        compressai_tables.compressai_gaussian_tables, {"scales": np.array([0.3, 2.0], F32)}
    ),
    "compressai_tables.bottleneck_tables": lambda: Call(compressai_tables.bottleneck_tables, {"density": Density()}),
    "device_engine.DeviceEngine": lambda: Call(device_engine.DeviceEngine, {**ops_arrays("jahp"), "device": "cpu"}),
    "float_symbols.ScaleSearch": lambda: Call(
        float_symbols.ScaleSearch, {"bounds": np.geomspace(0.1, 9, 20).astype(F32), "least": 0.11}
    ),
    "float_symbols.round_differences": lambda: Call(
        float_symbols.round_differences, {"inputs": scales(), "means": means(), "backend": "cpp"}
    ),
    "gaussian.encode_gaussian": lambda: Call(
        gaussian.encode_gaussian,
        {"symbols": symbols(), "mean": means(), "scale": scales(), "lanes": 16, "backend": "cpp"},
    ),
    "gaussian.decode_gaussian": lambda: Call(
        gaussian.decode_gaussian, {"data": gaussian_stream(), "mean": means(), "scale": scales(), "backend": "cpp"}
    ),
    "divisive.gdn": lambda: Call(
        divisive.gdn,
        {
            **{"x": torch.ones(1, 5, 3, 4), "beta": torch.ones(5), "gamma": torch.ones(5, 5)},
            **{"inverse": False, "threads": 2, "backend": "cpp"},
        },
    ),
    "latents.LatentEngine": lambda: Call(engines.LatentEngine, {"kind": "wavefront", **ops_arrays("jahp")}),
    "latents.LatentEngine (groups)": lambda: Call(engines.LatentEngine, {"kind": "groups", **ops_arrays("groups")}),
    "latents.LatentEngine (slices)": lambda: Call(engines.LatentEngine, {"kind": "slices", **ops_arrays("mlic_plus")}),
    "latents.LatentEngine.vary": lambda: Call(entropy().vary, changes()),
    "latents.LatentEngine.encode_many": lambda: Call(
        entropy().encode_many, {"targets": [target("jahp")], "threads": 2}
    ),
    "latents.LatentEngine.encode_many (groups)": lambda: Call(
        entropy("groups").encode_many, {"targets": [target("groups")], "threads": 2}
    ),
    "latents.LatentEngine.encode_many (its parts)": lambda: Call(
        lambda z, y, zones: entropy().encode_many([(z, y, zones)]), {**z_and_y("jahp"), "zones": zones()}
    ),
    "latents.LatentEngine.decode_many": lambda: Call(entropy(SLICES).decode_many, streams(SLICES)),
    "latents.LatentEngine.decode_many (its parts)": lambda: Call(
        lambda sections, height, width: entropy().decode_many([(sections, height, width)]),
        {"sections": coded("jahp")[0], "height": H, "width": W},
    ),
    "latents.LatentEngine.symbols": lambda: Call(entropy().symbols, {"target": target("jahp"), "threads": 2}),
    "latents.LatentEngine.analyse_many": lambda: Call(
        entropy("groups").analyse_many, {"y": [z_and_y("groups")["y"]], "threads": 2}
    ),
    "latents.LatentEngine.local_context": lambda: Call(
        entropy(SLICES).local_context, {"index": 1, "latent": latents(4, H, W, False), "threads": 2}
    ),
    "latents.LatentEngine.inter_context": lambda: Call(
        entropy(SLICES).inter_context, {"index": 1, "decoded": latents(4, H, W, False), "threads": 2}
    ),
    "mixture.mixture_rows": lambda: Call(mixture.mixture_rows, {"probabilities": probabilities(), "backend": "cpp"}),
    "mixture.MixtureEncoder": lambda: Call(mixture.MixtureEncoder, {"backend": "cpp"}),
    "mixture.MixtureEncoder.add": lambda: Call(
        mixture.MixtureEncoder().add, {"probabilities": probabilities(), "symbols": slots()}
    ),
    "mixture.MixtureEncoder.finish": lambda: Call(encoder().finish, {}),
    "mixture.MixtureDecoder": lambda: Call(mixture.MixtureDecoder, {"data": mixture_stream()}),
    "mixture.MixtureDecoder.decode": lambda: Call(
        mixture.MixtureDecoder(mixture_stream()).decode, {"probabilities": probabilities()}
    ),
    "mixture.MixtureDecoder.finish": lambda: decoded(mixture.MixtureDecoder(mixture_stream()), probabilities()),
    "mixture.decode_reference": lambda: Call(
        mixture.decode_reference, {"data": mixture_stream(), "rows": mixture_rows()}
    ),
    "rans.as_symbols": lambda: Call(rans.as_symbols, {"symbols": symbols()}),
    "rans.as_indexes": lambda: Call(rans.as_indexes, {"indexes": indexes(), "tables": cdf_tables()}),
    "rans.rans_encode": lambda: Call(
        rans.rans_encode,
        {"symbols": symbols(), "indexes": indexes(), "tables": cdf_tables(), "lanes": 16, "backend": "cpp"},
    ),
    "rans.RansDecoder": lambda: Call(
        rans.RansDecoder, {"data": rans_stream(), "tables": cdf_tables(), "backend": "cpp"}
    ),
    "rans.RansDecoder.decode": lambda: Call(
        rans.RansDecoder(rans_stream(), cdf_tables()).decode,
        {"indexes": indexes(), "out": np.zeros(N, I32), "dtype": np.int32},
        ("out",),
    ),
    "rans.RansDecoder.finish": lambda: decoded(rans.RansDecoder(rans_stream(), cdf_tables()), indexes()),
    "rans.rans_decode": lambda: Call(
        rans.rans_decode,
        {
            **{"data": rans_stream(), "indexes": indexes(), "tables": cdf_tables()},
            **{"dtype": np.int16, "backend": "cpp"},
        },
    ),
    "rans.rans_encode_many": lambda: Call(
        rans.rans_encode_many,
        {
            **{"symbols": batch(symbols()), "indexes": batch(indexes()), "tables": cdf_tables()},
            **{"lanes": 0, "threads": 2},
        },
    ),
    "rans.rans_decode_many": lambda: Call(
        rans.rans_decode_many,
        {
            **{"data": rans_streams(), "indexes": batch(indexes()), "tables": cdf_tables()},
            **{"dtype": np.int32, "threads": 2},
        },
    ),
    "tables.CdfTables": lambda: Call(tables.CdfTables, {**cdf_arrays(), "precision": 12}),
    "tables.CdfTables.row": lambda: Call(cdf_tables().row, {"index": 1}),
    "tables.CdfTables.to_arrays": lambda: Call(cdf_tables().to_arrays, {}),
    "tables.CdfTables.from_arrays": lambda: Call(tables.CdfTables.from_arrays, {"arrays": cdf_tables().to_arrays()}),
    "tables.normalise_pmf": lambda: Call(tables.normalise_pmf, {"pmf": np.full(9, 0.1), "precision": 12}),
    "tables.gaussian_pmf": lambda: Call(tables.gaussian_pmf, {"scale": 2.0}),
    "tables.gaussian_tables": lambda: Call(tables.gaussian_tables, {"scales": np.array([0.3, 2.0]), "precision": 12}),
    "tables.nearest_scale_thresholds": lambda: Call(tables.nearest_scale_thresholds, {"scales": np.array([0.3, 2.0])}),
    "tables.pmf_tables": lambda: Call(
        tables.pmf_tables, {"pmfs": [np.full(9, 0.1), np.ones(1)], "offsets": [-3, 7], "precision": 12}
    ),
}
BATCHES = {"native": NATIVE, "ops": OPS}
# Where an answer depends on a GPU, or on Triton's interpreter: called all the same, but not to an answer.
MAY_BE_ABSENT = {"backends.require_triton", "device_engine.DeviceEngine"}
NEED_A_DEVICE = {"device_engine.DeviceEngine.encode_many", "device_engine.DeviceEngine.decode_many"}


# ---- what there is, found anew at each run


def native_entries() -> Iterator[tuple[str, set[str]]]:
    """(name, its parameters) of every function, constructor and method of the extension module."""
    for name, value in vars(_native).items():
        if name.startswith("__"):
            continue
        if not isinstance(value, type):
            yield name, _parameters(value.__doc__, name)
            continue
        yield name, _parameters(value.__init__.__doc__, "__init__")
        for method, function in vars(value).items():
            if not method.startswith("_") and not isinstance(function, property):
                yield f"{name}.{method}", _parameters(function.__doc__, method)


def _parameters(doc: str, name: str) -> set[str]:
    signatures = re.findall(rf"^(?:\d+\. )?{name}\((.*)\) ->", doc, re.MULTILINE)
    return {found for text in signatures for found in re.findall(r"(?:^|, )(\w+): ", text)} - {"self"}


def ops_entries() -> Iterator[tuple[str, set[str]]]:
    """The same of every public function, class and method of ``fastlic.ops``, its plain twins left out."""
    for info in pkgutil.iter_modules(fastlic.ops.__path__):
        if info.ispkg or info.name.startswith("_"):
            continue
        for name, parameters in entries_of(importlib.import_module(f"fastlic.ops.{info.name}"), info.name):
            if name not in NEED_A_DEVICE:
                yield name, parameters


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module defines under a public name and somebody can call, protocols left out."""
    for name, value in list(vars(module).items()):
        own = getattr(value, "__module__", None) == module.__name__ and callable(value)
        if own and not name.startswith("_") and not getattr(value, "_is_protocol", False):
            yield name, value


def entries_of(module: ModuleType, shown: str) -> Iterator[tuple[str, set[str]]]:
    """(name, its parameters) of each of them and of their methods; classes that only keep fields, and abstract
    ones, have no constructor to ask."""
    for name, value in public(module):
        fields = inspect.isclass(value) and (dataclasses.is_dataclass(value) or issubclass(value, tuple))
        if not (fields or inspect.isabstract(value)) or hasattr(value, "__post_init__"):
            yield f"{shown}.{name}", signature(value)
        for method, function in vars(value).items() if inspect.isclass(value) else ():
            if not method.startswith("_") and isinstance(inspect.unwrap(function), _METHODS):
                yield f"{shown}.{name}.{method}", signature(getattr(value, method)) - {"self"}


_METHODS = (type(ops_entries), classmethod, staticmethod)


def signature(value: Any) -> set[str]:
    return {name for name, p in inspect.signature(value).parameters.items() if p.kind is not p.VAR_KEYWORD}
