"""What the rows' valid calls are made of: tables, streams, models and engines of the core."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from fastlic.codec import packing
from fastlic.ops import (
    categorical,
    code_context,
    compressai_rans,
    container,
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


def compressai_arrays() -> dict[str, Any]:
    return {name: getattr(compressai(), name) for name in ("quantized_cdf", "lengths", "offsets")}


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


def header() -> dict[str, Any]:
    return {
        "version": 2,
        "model": 3,
        "quality": 72,
        "fingerprint": bytes(range(8)),
        "height": 300,
        "width": 4000,
        "channels": 3,
    }


def plane() -> np.ndarray:
    return (np.arange(20 * 33).reshape(20, 33) // 7 % 256).astype(np.uint8)


def image_file() -> bytes:
    return container.pack_container(tuple(header().values()), [b"one", b"two"])


@cache
def rans_stream() -> bytes:
    return rans.rans_encode(symbols(), indexes(), cdf_tables(), lanes=16)


@cache
def compressai_stream() -> bytes:
    return compressai_rans.encode_with_indexes(symbols(), indexes(), compressai())


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
    arrays = arrays_of(name)
    m = next(array.size for key, array in arrays.items() if key.endswith("y.input.multiplier"))
    return {"z": latents(arrays["z.median"].size, 1, 2, last), "y": latents(m, H, W, last)}


def target(name: str) -> engines.Target:
    return engines.Target(**z_and_y(name), zones=zones() if name == "jahp" else None)


@cache
def coded(name: str) -> Any:
    return entropy(name).encode_many([target(name)])[0]


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


def code_costs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(6)
    shapes = {"vectors": (4, 17, 2, 6), "words": (2, 3, 6), "prices": (4, 17, 2)}
    return {name: rng.random(shape).astype(F32) for name, shape in shapes.items()}


def ops_arrays(name: str) -> dict[str, Any]:
    return {"arrays": dict(arrays_of(name)), "z_tables": tables_of(name, "z"), "y_tables": tables_of(name, "y")}


def changes() -> dict[str, Any]:
    own = {k: arrays_of("jahp")[k] for k in ("z.median", "context.bias")}
    return {"changes": own, "z_tables": tables_of("jahp", "z"), "y_tables": tables_of("jahp", "y")}


def vectors() -> np.ndarray:
    return np.random.default_rng(6).normal(size=(9, 2, 6)).astype(F32)


def codewords() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(2, 40, 6)).astype(F32)


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


def encoder() -> mixture.MixtureEncoder:
    own = mixture.MixtureEncoder()
    own.add(probabilities(), slots())
    return own


def pixel_codec() -> bytes:
    """A codec file of integers alone, whose stream is ``pixel_stream``."""
    return (GOLDEN / "tiny_pixels_jahp.safetensors").read_bytes()


def pixel_stream() -> bytes:
    return (GOLDEN / "tiny_pixels_jahp_v2.flic").read_bytes()


def rows_of_pixels() -> np.ndarray:
    return np.random.default_rng(8).integers(0, 256, (20, 37, 3)).astype(U8)


def packed_parts() -> dict[str, Any]:
    weights = np.random.default_rng(1).normal(size=(64, 256)).round().astype(np.int8)
    own = packing.pack({"a": weights})
    assert own is not None
    parts = {name: getattr(own, name) for name in packing.PARTS}
    return {"bytes": 1, "shapes": [(64, 256)], **parts}
