"""Hostile values, made from a valid one: wrong in type, shape, strides, alignment, size, range or device.

``variants(value)`` gives (label, make) pairs. Labels that begin with "same" mean the same as the valid value: whoever
accepts them must give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

Variant = tuple[str, Callable[[], Any]]

HUGE = 1 << 40
DTYPES = ["bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "O", "U4", "M8[s]", "i4,f4"]
EXTREMES = {
    "i": [-(2**63), -(2**31), -(2**15), -128, -1, 0, 127, 255, 2**15 - 1, 2**31 - 1, 2**63 - 1],
    "f": [np.nan, np.inf, -np.inf, 1e-45, -1e-45, 3.4e38, -3.4e38, -0.0, 0.0, 1e9],
}
STRANGERS: list[Variant] = [
    ("None", lambda: None),
    ("an object", object),
    ("a type", lambda: int),
    ("text", lambda: "text"),
    ("bytes", lambda: b"bytes"),
    ("a number", lambda: 3),
    ("NaN", lambda: float("nan")),
    ("an empty list", list),
    ("a dictionary", lambda: {"a": 1}),
    ("a nested list", lambda: [[1, 2], [3]]),
]


def variants(value: Any) -> list[Variant]:
    """Every hostile value that a caller could give in place of this valid one."""
    if isinstance(value, np.ndarray):
        own = arrays(value)
    elif isinstance(value, torch.Tensor):
        own = tensors(value)
    elif isinstance(value, bool):
        own = iter([("a tensor", lambda: torch.zeros(3)), ("an array", lambda: np.zeros(3, bool))])
    elif isinstance(value, int | np.integer):
        own = integers()
    elif isinstance(value, float):
        own = floats()
    elif isinstance(value, str):
        own = texts()
    elif isinstance(value, Path):
        own = paths(value)
    elif isinstance(value, torch.dtype):
        own = iter([(str(d), lambda d=d: d) for d in (torch.int8, torch.complex64, torch.bool, torch.float16)])
    elif isinstance(value, bytes | bytearray):
        own = buffers(bytes(value))
    elif isinstance(value, dict):
        own = dictionaries(value)
    elif isinstance(value, list | tuple):
        own = sequences(value)
    else:
        own = iter(())
    return [*own, *STRANGERS]


def misaligned(a: np.ndarray) -> np.ndarray:
    """The same values one byte beside where they should lie."""
    memory = np.zeros(a.nbytes + 16, np.uint8)
    start = (-memory.ctypes.data) % 16 + 1
    out = np.ndarray(a.shape, a.dtype, memory.data, start)
    out[...] = a
    return out


def read_only(a: np.ndarray) -> np.ndarray:
    out = a.copy()
    out.flags.writeable = False
    return out


def filled(a: np.ndarray, value: float) -> np.ndarray:
    kind = np.iinfo(a.dtype) if a.dtype.kind in "iu" else np.finfo(a.dtype)
    if a.dtype.kind in "iu":
        value = min(max(int(value), kind.min), kind.max)
    with np.errstate(over="ignore"):
        return np.full(a.shape, value, a.dtype)


def arrays(a: np.ndarray) -> Iterator[Variant]:
    yield "same: misaligned", lambda: misaligned(a)
    yield "same: read-only", lambda: read_only(a)
    yield "same: another memory", lambda: a.copy()
    for name in DTYPES:
        if np.dtype(name) != a.dtype:
            yield f"dtype {name}", lambda name=name: converted(a, np.dtype(name))
    yield "big endian", lambda: a.astype(a.dtype.newbyteorder())
    yield "shape [0]", lambda: a.ravel()[:0]
    yield "no dimension", lambda: np.zeros((), a.dtype)
    yield "one dimension more", lambda: a[None]
    yield "one dimension more behind", lambda: a[..., None]
    yield "flat", lambda: np.concatenate([a.ravel(), a.ravel()[:1]])
    yield "one less", lambda: a[:-1] if a.ndim else a
    yield "twice", lambda: np.concatenate([a, a]) if a.ndim else a
    yield "sixty dimensions", lambda: a.reshape((1,) * (32 - a.ndim) + a.shape)
    yield "claims 2^40", lambda: np.broadcast_to(a.ravel()[:1], (HUGE,) if a.ndim < 2 else (HUGE, *a.shape[1:]))
    yield "claims 2^40 of nothing", lambda: np.zeros((HUGE, 0), a.dtype)
    yield "claims nothing of 2^40", lambda: np.zeros((0, HUGE), a.dtype)
    yield "claims 2^40 in its shape", lambda: np.broadcast_to(a.ravel()[:1], (*a.shape[:-1], HUGE))
    yield "negative strides", lambda: a[::-1] if a.ndim else a
    yield "every second", lambda: np.repeat(a, 2, -1)[..., ::2] if a.ndim else a
    yield "zero strides", lambda: np.broadcast_to(a.ravel()[:1].reshape((1,) * a.ndim), a.shape)
    yield "Fortran order", lambda: np.asfortranarray(np.stack([a, a])) if a.ndim < 2 else np.asfortranarray(a)
    yield "transposed", lambda: a.T
    yield "masked", lambda: np.ma.masked_array(a, np.ones(a.shape, bool))
    yield "a list", lambda: a.tolist()
    yield "a tensor without memory", lambda: torch.empty(a.shape, device="meta")
    yield "a sparse tensor", lambda: torch.zeros(3, 3).to_sparse()
    yield "a tensor with gradient", lambda: torch.zeros(a.shape, requires_grad=True)
    if a.dtype.kind in "iuf":
        for value in EXTREMES["f" if a.dtype.kind == "f" else "i"]:
            yield f"all {value}", lambda value=value: filled(a, value)


def converted(a: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "MV":
        return np.zeros(a.shape, dtype)
    with np.errstate(all="ignore"):
        return a.astype(dtype)


def tensors(t: torch.Tensor) -> Iterator[Variant]:
    yield "same: another memory", lambda: t.clone()
    for dtype in (torch.float16, torch.float32, torch.float64, torch.int8, torch.int64, torch.complex64, torch.bool):
        if dtype != t.dtype:
            yield f"dtype {dtype}", lambda dtype=dtype: t.to(dtype)
    yield "an array", lambda: t.numpy()
    yield "shape [0]", lambda: t.flatten()[:0]
    yield "no dimension", lambda: torch.zeros((), dtype=t.dtype)
    yield "one dimension more", lambda: t[None]
    yield "flat", lambda: t.flatten()
    yield "one less", lambda: t[:-1] if t.ndim else t
    yield "one less at the end", lambda: t[..., :-1] if t.ndim else t
    yield "zero strides", lambda: t.flatten()[:1].reshape((1,) * t.ndim).expand(t.shape)
    yield "claims 2^40", lambda: t.flatten()[:1].reshape((1,) * t.ndim).expand((HUGE, *t.shape[1:]))
    yield "claims 2^40 at the end", lambda: t.flatten()[:1].reshape((1,) * t.ndim).expand((*t.shape[:-1], HUGE))
    yield "nothing of 2^40", lambda: torch.zeros((0, HUGE), dtype=t.dtype)
    yield "every second", lambda: t.repeat_interleave(2, -1)[..., ::2] if t.ndim else t
    yield "without memory", lambda: torch.empty(t.shape, dtype=t.dtype, device="meta")
    yield "sparse", lambda: t.to_sparse()
    if t.dtype.is_floating_point:
        yield "with gradient", lambda: t.detach().clone().requires_grad_()
        for value in EXTREMES["f"]:
            yield f"all {value}", lambda value=value: torch.full_like(t, value)
    elif t.dtype != torch.bool:
        limits = torch.iinfo(t.dtype)
        for value in (limits.min, limits.max, -1, 0):
            yield f"all {value}", lambda value=value: torch.full_like(t, min(max(value, limits.min), limits.max))


def integers() -> Iterator[Variant]:
    for value in (-1, 0, 1, 2, 3, 63, 5000, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64, -(2**31)):
        yield str(value), lambda value=value: value
    yield "enormous", lambda: 10**30
    yield "enormously negative", lambda: -(10**30)
    for value in (1.0, 1.5, float("inf"), -0.5):
        yield f"float {value}", lambda value=value: value
    yield "numpy int8", lambda: np.int8(-1)
    yield "numpy float", lambda: np.float32(2)
    yield "complex", lambda: 1j
    yield "an array", lambda: np.array([1, 2])
    yield "a tensor", lambda: torch.tensor([1, 2])
    yield "a tensor without memory", lambda: torch.empty((), dtype=torch.int64, device="meta")
    yield "text of a number", lambda: "3"


def floats() -> Iterator[Variant]:
    for value in (*EXTREMES["f"], 0, -1, 10**400, 1j):
        yield str(value)[:20], lambda value=value: value
    yield "an array", lambda: np.array([1.0, 2.0])


def paths(path: Path) -> Iterator[Variant]:
    yield "as text", lambda: str(path)
    yield "as bytes", lambda: bytes(path)
    for label, name in (
        ("missing", "missing/file.png"),
        ("too long", "x" * 5000),
        ("with a zero", "a\0b"),
        ("empty", ""),
    ):
        yield label, lambda name=name: Path(name)
        yield f"{label}, as text", lambda name=name: name
    yield "a folder", lambda: path.parent
    yield "a file for a folder", lambda: path / "below"
    yield "a lone surrogate", lambda: Path("\ud800")
    yield "an empty device", lambda: Path("/dev/null")


def texts() -> Iterator[Variant]:
    for value in (
        "",
        "auto",
        "cpp",
        "reference",
        "triton",
        "cuda",
        "CPP",
        "\0",
        "\ud800",
        "x" * 100000,
        3,
        b"cpp",
        1.5,
    ):
        yield repr(value)[:20], lambda value=value: value


def buffers(data: bytes) -> Iterator[Variant]:
    yield "same: bytearray", lambda: bytearray(data)
    yield "same: memoryview", lambda: memoryview(data)
    yield "same: array", lambda: np.frombuffer(data, np.uint8)
    yield "same: odd address", lambda: memoryview(b"x" + data)[1:]
    yield "empty", lambda: b""
    yield "empty array", lambda: np.zeros(0, np.uint8)
    yield "one byte", lambda: data[:1]
    yield "zeros", lambda: bytes(1000)
    yield "ones", lambda: b"\xff" * 1000
    for cut in (len(data) // 2, max(0, len(data) - 1)):
        yield f"cut to {cut}", lambda cut=cut: data[:cut]
    for at in range(0, len(data), max(1, len(data) // 16)):
        yield f"bit flipped at {at}", lambda at=at: data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
    yield "longer", lambda: data + b"\0\0\0\0"
    yield "every second byte", lambda: memoryview(data + data)[::2]
    yield "backwards", lambda: memoryview(data)[::-1]
    yield "two dimensions", lambda: memoryview(data[:4]).cast("B", (2, 2)) if len(data) > 3 else None
    yield "int32", lambda: np.zeros(8, np.int32)
    yield "objects", lambda: np.zeros(8, object)
    yield "dates", lambda: np.zeros(8, "M8[s]")
    yield "released", released
    yield "claims 2^40", lambda: np.broadcast_to(np.zeros(1, np.uint8), (HUGE,))
    yield "a tensor", lambda: torch.zeros(8, dtype=torch.uint8)
    yield "integers", lambda: list(data)


def released() -> memoryview:
    view = memoryview(b"gone")
    view.release()
    return view


def sequences(values: list[Any] | tuple[Any, ...]) -> Iterator[Variant]:
    kind = type(values)
    yield "same: tuple", lambda: tuple(values)
    yield "one less", lambda: values[:-1]
    yield "twice", lambda: values + values
    yield "a generator", lambda: iter(values)
    yield "many Nones", lambda: kind([None] * 1000)
    for index, value in enumerate(values):
        if index in (0, len(values) - 1):
            for label, make in variants(value):
                changed = lambda index=index, make=make: kind([*values[:index], make(), *values[index + 1 :]])  # noqa: E731
                yield f"{label} at {index}" if not label.startswith("same") else f"{label}, at {index}", changed


def dictionaries(values: dict[str, Any]) -> Iterator[Variant]:
    yield "a key that is no text", lambda: {**values, 1: np.zeros(1, np.int32)}
    yield "a key with a lone surrogate", lambda: {**values, "\ud800": np.zeros(1, np.int32)}
    yield "only keys", lambda: dict.fromkeys(values)
    # A model has hundreds of arrays: every fifth is left out, every sixteenth made hostile (fuzzing takes the rest).
    for number, (key, value) in enumerate(sorted(values.items())):
        if number % 5 == 0 or len(values) < 16:
            yield f"without {key}", lambda key=key: {k: v for k, v in values.items() if k != key}
            yield f"{key} None", lambda key=key: {**values, key: None}
        if not isinstance(value, np.ndarray) or (number % 16 and len(values) >= 16):
            continue
        for label, make in arrays(value):
            if label in KEPT:
                yield f"{key} {label}", lambda key=key, make=make: {**values, key: make()}


KEPT = {
    *("same: misaligned", "dtype f4", "dtype i8", "big endian", "shape [0]", "no dimension", "one dimension more"),
    *("claims 2^40 of nothing", "claims nothing of 2^40", "twice", "negative strides", "zero strides", "Fortran order"),
    *("all -2147483648", "all 2147483647", "all -1", "all 0", "all 255", "a tensor without memory"),
}
