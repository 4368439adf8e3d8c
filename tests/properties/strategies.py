"""What hypothesis draws for parsers and coders: headers, files, tables, symbols, and damage to bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fastlic.codec import container
from fastlic.codec.mcq import VERSION, McqFile
from fastlic.models.mcquic.model import PUBLISHED_MULTIPLE
from fastlic.models.mcquic.padding import padded_size
from fastlic.ops import CategoricalTables, CdfTables, CompressAiTables, categorical_tables

# The same examples in every run, without a deadline: machines of CI are slow in turns. No folder is written.
SETTINGS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

INT32 = st.integers(-(2**31), 2**31 - 1)
NEAR = st.integers(-40, 40)


# ---- bytes


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """``data`` with some bytes changed, taken out or put in."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(out)))
        kind = draw(st.sampled_from(("flip", "cut", "put", "end")))
        if kind == "flip" and at < len(out):
            out[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del out[at : at + draw(st.integers(1, 9))]
        elif kind == "put":
            out[at:at] = draw(st.binary(min_size=1, max_size=9))
        else:
            del out[at:]
    return bytes(out)


# ---- .flic

sides = st.one_of(st.integers(1, 300), st.integers(1, container.MAX_DIMENSION))
headers = st.builds(
    container.Header,
    model_id=st.integers(1, 255),
    quality=st.one_of(st.none(), st.integers(1, 255).map(lambda sixteenths: sixteenths / 16)),
    fingerprint=st.binary(min_size=8, max_size=8),
    height=sides,
    width=sides,
    version=st.sampled_from((1, 2)),
)
sections = st.lists(st.binary(max_size=300), min_size=1, max_size=container.MAX_SECTIONS)


@st.composite
def attached(draw: Any) -> tuple[container.Header, list[tuple[int, bytes]]]:
    """A header of any version, and attachments that fit it."""
    header = draw(headers)
    if draw(st.booleans()):
        return header, []
    channels = draw(st.integers(1, 4))
    kinds = draw(st.sets(st.integers(2, 255), max_size=5)) | ({1} if channels % 2 == 0 else set())
    return replace(header, version=3, channels=channels), [
        (kind, draw(st.binary(max_size=40))) for kind in sorted(kinds)
    ]


# ---- .mcq


@st.composite
def mcq_files(draw: st.DrawFn) -> McqFile:
    """Files whose fields fit each other."""
    levels = draw(st.integers(1, 8))
    height, width = (draw(st.integers(1, 5000)) for _ in range(2))
    stride = 8 << levels
    padded = [padded_size(side, max(PUBLISHED_MULTIPLE, stride), 2 * stride) for side in (height, width)]
    per_level = {"min_size": levels, "max_size": levels}
    return McqFile(
        qp=draw(st.text(max_size=40)),
        version=".".join(map(str, (*VERSION[:2], draw(st.integers(0, VERSION[2]))))),
        groups=draw(st.integers(1, 64)),
        words=tuple(draw(st.lists(st.integers(1, 1 << 16), **per_level))),
        sizes=tuple((padded[0] >> level, padded[1] >> level) for level in range(4, 4 + levels)),
        height=height,
        width=width,
        contents=tuple(draw(st.lists(st.binary(max_size=60), **per_level))),
    )


# ---- codec files

names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
stored_integers = st.dictionaries(
    names,
    st.sampled_from((np.int8, np.uint8, np.int16, np.int32)).flatmap(
        lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
    ),
    max_size=4,
)
stored_floats = st.dictionaries(
    names,
    arrays.arrays(
        np.float32, arrays.array_shapes(max_side=4), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
    ),
    max_size=3,
)


@st.composite
def weights(draw: st.DrawFn, kind: str = "int8") -> dict[str, np.ndarray]:
    """Arrays of a type and all shapes, flat and peaked, among them some that pay for packing."""
    limits = np.iinfo(kind)
    found = {}
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        shape = tuple(draw(st.lists(st.integers(1, 24), min_size=1, max_size=4)))
        spread = draw(st.sampled_from((0.3, 4, 40, 1000))) * (limits.max // 127 if draw(st.booleans()) else 1)
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        found[name] = np.clip(np.rint(rng.laplace(size=shape) * spread), limits.min, limits.max).astype(kind)
    return found


# ---- coders


def cuts(total: int, slots: int) -> st.SearchStrategy[list[int]]:
    """0 < ... < total: cumulative frequencies of that many slots, none of them empty."""
    inner = st.lists(st.integers(1, total - 1), min_size=slots - 1, max_size=slots - 1, unique=True)
    return inner.map(lambda found: [0, *sorted(found), total])


@st.composite
def cdf_tables(draw: st.DrawFn) -> CdfTables:
    precision, rows = draw(st.integers(10, 12)), draw(st.integers(1, 4))
    lines = [draw(cuts(1 << precision, draw(st.integers(2, 30)))) for _ in range(rows)]
    return CdfTables(
        np.concatenate(lines),
        np.array([len(line) for line in lines]),
        np.array(draw(st.lists(NEAR, min_size=rows, max_size=rows))),
        np.array(draw(st.lists(st.integers(0, 16), min_size=rows, max_size=rows))),
        precision,
    )


@st.composite
def compressai_tables(draw: st.DrawFn) -> CompressAiTables:
    rows = draw(st.integers(1, 4))
    lines = [draw(cuts(1 << 16, draw(st.integers(2, 30)))) for _ in range(rows)]
    width = max(map(len, lines))
    return CompressAiTables(
        np.array([line + [0] * (width - len(line)) for line in lines]),
        np.array([len(line) for line in lines]),
        np.array(draw(st.lists(NEAR, min_size=rows, max_size=rows))),
    )


@st.composite
def with_indexes(draw: st.DrawFn, tables: st.SearchStrategy[Any]) -> tuple[Any, np.ndarray, np.ndarray]:
    """(tables, symbols, indexes): most symbols near the rows' windows, some anywhere."""
    own = draw(tables)
    count = draw(st.integers(0, 200))
    indexes = draw(arrays.arrays(np.uint8, count, elements=st.integers(0, own.rows - 1)))
    symbols = draw(arrays.arrays(np.int32, count, elements=st.one_of(NEAR, NEAR, INT32)))
    return own, symbols, indexes


@st.composite
def categories(draw: st.DrawFn) -> tuple[CategoricalTables, np.ndarray, np.ndarray]:
    """(tables, symbols, indexes), every symbol within its row's alphabet."""
    weight = st.integers(0, 1000)
    rows = draw(st.lists(st.lists(weight, min_size=1, max_size=40).filter(any), min_size=1, max_size=4))
    tables = categorical_tables(rows, draw(st.integers(8, 24)))
    count = draw(st.integers(0, 200))
    indexes = draw(arrays.arrays(np.uint8, count, elements=st.integers(0, len(rows) - 1)))
    shares = draw(arrays.arrays(np.int32, count, elements=st.integers(0, 2**20)))
    return tables, shares % np.array([len(row) for row in rows])[indexes].astype(np.int32), indexes


@st.composite
def gaussians(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(symbols, means, scales): any finite means, any finite scales above 0."""
    count = draw(st.integers(0, 150))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    means = st.one_of(st.floats(-50, 50, width=32), finite)
    scales = st.one_of(st.floats(0.0625, 64, width=32), finite.map(abs).filter(bool))
    return (
        draw(arrays.arrays(np.int32, count, elements=st.one_of(NEAR, INT32))),
        draw(arrays.arrays(np.float32, count, elements=means)),
        draw(arrays.arrays(np.float32, count, elements=scales)),
    )


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities [n, slots], symbols [n])."""
    slots, count = draw(st.integers(1, 30)), draw(st.integers(0, 60))
    share = st.one_of(st.just(0.0), st.floats(0, 1, width=32))
    probabilities = draw(arrays.arrays(np.float32, (count, slots), elements=share))
    return probabilities, draw(arrays.arrays(np.int32, count, elements=st.integers(0, slots - 1)))
