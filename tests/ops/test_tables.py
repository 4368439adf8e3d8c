"""Frequency tables: the cheapest frequencies, rows near the entropy, and refusals of what is no distribution."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest

from fastlic.ops import (
    CategoricalTables,
    CdfTables,
    categorical_tables,
    gaussian_pmf,
    gaussian_tables,
    nearest_scale_thresholds,
    normalise_pmf,
    pmf_tables,
)
from fastlic.ops.categorical import MAX_SYMBOLS
from fastlic.ops.tables import MAX_ROW_SIZE, MAX_SHIFT


def normal(values) -> np.ndarray:
    return np.asarray(values, float) / np.sum(values)


def peaks() -> np.ndarray:
    """Two peaks 877 apart, and 0.0001 that nothing is said of."""
    found = np.zeros(900)
    found[3], found[880] = 0.6, 0.3999
    return found


PMFS = {
    "one": np.ones(1),
    "power law": normal(1 / np.arange(1, 600) ** 1.3),
    "Laplacian": normal(np.exp(-np.abs(np.arange(-400, 401)) / 6)),
    "logistic": normal(1 / np.cosh(np.arange(-900, 901) / 120) ** 2),
    "two peaks": peaks(),
    "flat, 255": normal(np.ones(255)),
    "flat, 256": normal(np.ones(256)),
    "flat, 600": normal(np.ones(600)),
    "flat, 20000": normal(np.ones(20000)),
    "noise": normal(np.random.default_rng(0).random(1000)),
}


def expected_bits(tables: CdfTables, pmf: np.ndarray, first: int) -> float:
    """Bits of a symbol under row 0, escapes in Elias' gamma code."""
    row, shift = tables.row(0), int(tables.shifts[0])
    slot = ((first + np.arange(pmf.size)) >> shift) - int(tables.offsets[0])
    slots = row.size - 2
    inside = (slot >= 0) & (slot < slots)
    distance = np.where(slot < 0, 2 * (-slot - 1) + 1, 2 * (slot - slots)).clip(0)
    frequency = np.diff(row)[np.where(inside, slot, slots)]
    escaped = np.where(inside, 0, 2 * np.floor(np.log2(distance + 1.0)) + 1)
    return float((pmf * (tables.precision - np.log2(frequency) + escaped + shift)).sum() / pmf.sum())


@pytest.mark.parametrize("first", [-450, 0, 1 << 20])
@pytest.mark.parametrize("precision", [10, 11, 12])
@pytest.mark.parametrize("name", sorted(PMFS.keys() - {"two peaks"}))  # no bins suit numbers so far apart
def test_rows_come_near_the_entropy(name, precision, first):
    pmf = PMFS[name]
    tables = pmf_tables([pmf], [first], precision)
    entropy = -(pmf[pmf > 0] * np.log2(pmf[pmf > 0])).sum() / pmf.sum()
    assert entropy - 1e-9 <= expected_bits(tables, pmf, first) <= 1.045 * entropy + 0.015
    assert tables.precision == precision and tables.rows == 1 and tables.lengths[0] <= MAX_ROW_SIZE + 2


# Lengths, offsets and shifts: which windows and bins are the cheapest, from one slot to bins of 2048.
ROWS = {
    10: ([3, 7, 15, 29, 32, 30, 36, 32], [0, -2, -6, -13, -15, -14, -17, -15], [0, 0, 0, 1, 3, 6, 9, 11]),
    12: ([3, 7, 17, 61, 66, 62, 42, 68], [0, -2, -7, -29, -32, -30, -20, -33], [0, 0, 0, 0, 2, 5, 9, 10]),
}


@pytest.mark.parametrize("precision", ROWS)
def test_windows_of_gaussians_stay_what_they_are(precision):
    tables = gaussian_tables([0.11, 0.5, 2, 9, 40, 300, 3000, 10000], precision)
    found = tables.lengths.tolist(), tables.offsets.tolist(), tables.shifts.tolist()
    assert found == ROWS[precision]


def test_windows_of_other_shapes_stay_what_they_are():
    names = ["one", "power law", "Laplacian", "two peaks", "flat, 255", "flat, 256"]
    found = pmf_tables([*(PMFS[name] for name in names), [0.5, 0.25]], [-3, 0, -400, -450, 0, 0, 7])
    assert found.lengths.tolist() == [3, 200, 81, 222, 257, 130, 4]
    assert found.offsets.tolist() == [-3, 0, -39, -112, 0, 0, 7]
    assert found.shifts.tolist() == [0, 1, 0, 2, 0, 1, 0]


def test_what_is_missing_to_one_is_the_escapes_share():
    assert pmf_tables([[0.5, 0.25]], [7]).row(0).tolist() == [0, 2048, 3072, 4096]
    assert pmf_tables([[0.5, 0.5]], [7]).row(0).tolist()[-2:] == [4095, 4096]
    assert gaussian_tables([1.0]).precision == pmf_tables([[1.0]], [0]).precision == 12
    # The narrow window pays for 0.3 of escapes whichever side they are on; a wide one costs less.
    spread = np.array([0.4, *[0.0] * 30, 0.3])
    assert pmf_tables([spread], [0]).lengths.tolist() == [34]


def cost(counts: np.ndarray, pmf: np.ndarray) -> float:
    return float(-(pmf * np.log2(counts)).sum())


@pytest.mark.parametrize("precision", [3, 8, 12])
@pytest.mark.parametrize("pmf", [[1, 2, 3], [0, 0, 5], [1e-9, 1, 1, 1e-9], [0.9, 0.05, 0.03, 0.02], [7]])
def test_no_count_is_better_placed_elsewhere(pmf, precision):
    counts, p = normalise_pmf(pmf, precision), np.asarray(pmf, float)
    assert counts.dtype == np.int32 and counts.sum() == 1 << precision and counts.min() >= 1
    for giver in np.flatnonzero(counts > 1):
        for taker in range(counts.size):
            moved = counts.copy()
            moved[giver] -= 1
            moved[taker] += 1
            assert cost(moved, p) >= cost(counts, p) - 1e-12


def test_as_many_symbols_as_counts_and_counts_near_each_limit():
    assert normalise_pmf(np.arange(8), 3).tolist() == [1] * 8
    assert normalise_pmf([1], 24).tolist() == [1 << 24]
    assert normalise_pmf([1, 3], 1).tolist() == [1, 1]
    # Proportional shares that are too many by rounding up to one count each.
    counts = normalise_pmf(np.concatenate([np.full(3000, 1e-6), [1.0]]), 12)
    assert counts.sum() == 4096 and counts[-1] == 1096 and counts[:-1].max() == 1


@pytest.mark.parametrize(
    "pmf", [[], [0.0, 0.0], [1, -1e-9], [1, math.nan], [1, math.inf], [[0.5, 0.5]], np.ones(9), 0.5]
)
def test_what_is_no_distribution_has_no_frequencies(pmf):
    with pytest.raises(ValueError, match="pmf must be 1 to 8 finite, non-negative numbers, not all zero"):
        normalise_pmf(pmf, 3)


@pytest.mark.parametrize("precision", [0, 25])
def test_precisions_have_limits(precision):
    with pytest.raises(ValueError, match=f"precision must be at least 1 and at most 24, got {precision}"):
        normalise_pmf([1], precision)


@pytest.mark.parametrize("build", [lambda p: gaussian_tables([1.0], p), lambda p: pmf_tables([[1.0]], [0], p)])
@pytest.mark.parametrize("precision", [9, 13])
def test_precisions_of_rows_have_limits(build, precision):
    with pytest.raises(ValueError, match=f"precision must be at least 10 and at most 12, got {precision}"):
        build(precision)
    assert [build(p).precision for p in (10, 11, 12)] == [10, 11, 12]


@pytest.mark.parametrize("scale", [1e-3, 0.11, 1.0, 37.5, 1e4])
def test_a_gaussians_probabilities_are_those_of_its_integers(scale):
    pmf, first = gaussian_pmf(scale)
    assert first == -math.ceil(9 * scale) - 1 and pmf.size == 1 - 2 * first
    assert np.array_equal(pmf, pmf[::-1]) and pmf.sum() == pytest.approx(1, abs=1e-12)
    for k in (0, 1, 2, math.ceil(scale)):
        exact = 0.5 * (math.erfc((k - 0.5) / scale / math.sqrt(2)) - math.erfc((k + 0.5) / scale / math.sqrt(2)))
        assert k > -first or pmf[k - first] == pytest.approx(exact, abs=1e-15)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, 10000.5])
def test_scales_are_positive_and_not_huge(bad):
    with pytest.raises(ValueError, match=r"scale must be a number in \(0, 10000\]"):
        gaussian_pmf(bad)
    for function in (gaussian_tables, nearest_scale_thresholds):
        with pytest.raises(ValueError, match=r"scales must be a 1-D array of numbers in \(0, 10000\]"):
            function([1.0, bad])
        with pytest.raises(ValueError, match="1-D"):
            function(1.0)


def test_thresholds_lie_between_scales_in_ratio():
    assert nearest_scale_thresholds([1, 4, 9]).tolist() == [2, 6]
    assert nearest_scale_thresholds([3.0]).tolist() == []


@pytest.mark.parametrize(
    ("pmf", "offset", "words"),
    [
        ([0.5, -0.1], 0, "pmf 0 must be non-negative numbers with a sum in"),
        ([0.5, math.nan], 0, "pmf 0 must be"),
        ([], 0, "pmf 0 must be"),
        ([[0.5, 0.5]], 0, "pmf 0 must be"),
        ([0.0], 0, "pmf 0 must be"),
        ([0.6, 0.402], 0, "pmf 0 must be"),
        ([1.0], (1 << 30) + 1, "offset 0 must be at least -1073741824 and at most 1073741824"),
        ([1.0], -(1 << 30) - 1, "offset 0 must be at least -1073741824"),
    ],
)
def test_what_is_no_row_is_refused(pmf, offset, words):
    with pytest.raises(ValueError, match=words):
        pmf_tables([pmf], [offset])


def test_limits_themselves_are_allowed():
    assert pmf_tables([[1.001]] * 2, [1 << 30, -(1 << 30)]).offsets.tolist() == [1 << 30, -(1 << 30)]
    assert pmf_tables([[1.0]] * 256, [0] * 256).rows == 256
    for count in (0, 257):
        with pytest.raises(ValueError, match=f"tables have 1 to 256 rows, got {count}"):
            pmf_tables([[1.0]] * count, [0] * count)
    with pytest.raises(ValueError, match="pmfs and offsets differ in length: 1 and 2"):
        pmf_tables([[1.0]], [0, 1])
    assert (MAX_ROW_SIZE, MAX_SHIFT, MAX_SYMBOLS) == (255, 16, 65536)  # docs/stream.md


ROW = {"cdf": [0, 5, 9, 4096], "lengths": [4], "offsets": [-1], "shifts": [0]}


def test_tables_have_a_precision_of_12_bits_and_cannot_be_changed():
    tables = CdfTables(**ROW)
    assert tables.precision == 12 and tables.rows == 1
    assert type(CdfTables(**ROW, precision=np.int64(12)).precision) is int
    assert [array.dtype for array in (tables.cdf, tables.lengths, tables.offsets, tables.shifts)] == [
        *[np.int32] * 3,
        np.uint8,
    ]
    for name in ROW:
        with pytest.raises(ValueError, match="read-only"):
            getattr(tables, name)[0] = 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(tables)


def test_rows_are_found_by_number():
    tables = CdfTables([0, 5, 9, 4096, 0, 7, 4096, 0, 1, 2, 3, 4096], [4, 3, 5], [0, 0, 0], [0, 0, 0])
    assert tables.begins.tolist() == [0, 4, 7]
    assert [tables.row(i).tolist() for i in range(3)] == [[0, 5, 9, 4096], [0, 7, 4096], [0, 1, 2, 3, 4096]]
    for index in (-1, 3):
        with pytest.raises(ValueError, match=f"got {index}"):
            tables.row(index)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cdf": [0, 5, 9, 4096 + (1 << 32)]}, "cdf must be integers within int32"),
        ({"cdf": [[0, 5, 9, 4096]]}, "cdf must be 1-D"),
        ({"shifts": [256]}, "shifts must be integers within uint8"),
        ({"precision": 9}, "precision must be 10, 11 or 12 bits, got 9"),
        ({"precision": 13}, "precision must be 10, 11 or 12 bits, got 13"),
        ({"precision": -1}, "precision must be at least 0"),
    ],
)
def test_fields_that_do_not_fit_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        CdfTables(**{**ROW, **change})


@pytest.mark.parametrize("name", [*ROW, "precision"])
def test_tables_differ_if_one_field_differs(name):
    wide = {"cdf": [0, 5, 9, 1024], "lengths": [4], "offsets": [-1], "shifts": [0], "precision": 10}
    tables = CdfTables(**wide)
    assert tables == CdfTables(**wide) and tables != "tables" and tables.__eq__("tables") is NotImplemented
    changed = {"cdf": [0, 5, 8, 1024], "lengths": [3], "offsets": [0], "shifts": [1], "precision": 11}[name]
    fields = {**wide, name: changed}
    if name == "lengths":
        fields["cdf"] = [0, 5, 1024]
    if name == "precision":
        fields["cdf"] = [0, 5, 9, 2048]
    assert tables != CdfTables(**fields)


@pytest.mark.parametrize("tables", [CdfTables(**ROW), categorical_tables([[1, 2], [3]])], ids=["rows", "categories"])
def test_tables_are_pickled_and_stored_whole(tables):
    for again in (pickle.loads(pickle.dumps(tables)), type(tables).from_arrays(tables.to_arrays())):
        assert again.to_arrays().keys() == tables.to_arrays().keys()
        for key, array in tables.to_arrays().items():
            other = again.to_arrays()[key]
            assert np.array_equal(other, array) and other.dtype == array.dtype
    with pytest.raises(dataclasses.FrozenInstanceError):
        tables.cdf = tables.cdf
    arrays = tables.to_arrays()
    for missing in arrays:
        with pytest.raises(ValueError, match=f"tables lack {missing}$"):
            type(tables).from_arrays({key: array for key, array in arrays.items() if key != missing})
    for numbers in ([], [12, 12]):
        with pytest.raises(ValueError, match=f"precision must be one number, got {len(numbers)}"):
            type(tables).from_arrays({**arrays, "precision": np.array(numbers, np.int32)})


# ---- categorical tables


def test_categorical_precision_follows_the_widest_alphabet():
    widths = {1: 12, 2: 12, 32: 12, 33: 13, 64: 13, 65: 14, 65536: 23}
    assert {width: categorical_tables([[1], np.ones(width)]).precision for width in widths} == widths
    for precision in (7, 25):
        with pytest.raises(ValueError, match=f"precision must be at least 8 and at most 24, got {precision}"):
            categorical_tables([[1]], precision)
    assert [categorical_tables([[1, 1]], p).cdf.tolist() for p in (8, 24)] == [[0, 128, 256], [0, 1 << 23, 1 << 24]]


@pytest.mark.parametrize("pmfs", [[], [[]], [[1], []], [[1], np.ones(65537)], [[1]] * 257])
def test_categorical_tables_have_limits(pmfs):
    with pytest.raises(ValueError, match="categorical tables have 1 to 256 rows of 1 to 65536 symbols"):
        categorical_tables(pmfs)
    assert categorical_tables([[1]] * 256).rows == 256


def test_categorical_tables_cannot_be_changed_and_are_flat():
    tables = categorical_tables([[1, 2], [3]])
    assert tables.cdf.dtype == tables.lengths.dtype == np.int32 and tables.lengths.tolist() == [3, 2]
    for name in ("cdf", "lengths"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(tables, name)[0] = 1
    assert tables in {tables} and tables != categorical_tables([[1, 2], [3]]), "compared by identity"
    with pytest.raises(ValueError, match=r"cdf must be 1-D, got \(1, 4\)"):
        CategoricalTables(np.array([[0, 5, 9, 4096]]), np.array([4]), 12)
