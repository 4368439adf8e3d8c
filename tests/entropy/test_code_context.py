"""Codes under a context model: one set of integers on every backend, close to the float networks, errors for damage."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fastlic import _native
from fastlic.entropy.code_context import IntegerCodeContext
from fastlic.entropy.codes import CodeTables
from fastlic.errors import CorruptStreamError
from fastlic.models.mcquic.context import CodeContext
from fastlic.ops.code_context import choose_codes, code_frequencies, decode_codes, encode_codes, encode_codes_many
from fastlic.ops.codebook import codebook_nearest
from fastlic.ops.reference.code_context import frequencies

from .latent_models import extreme_requantisers

GOLDEN = Path(__file__).parents[1] / "golden"
SUPPORTED = _native.supported_isas()
SIZES = [(1, 1), (1, 7), (6, 1), (3, 5), (2, 31)]
MODELS = {  # m, k, depth, width
    "one group of two words": (1, 2, 24, 96),
    "odd everything": (2, 3, 5, 7),
    "five groups": (5, 300, 8, 33),
}


@pytest.fixture(autouse=True)
def isa_as_before() -> Iterator[None]:
    before = _native.get_isa()
    yield
    _native.set_isa(before)


def float_context(m: int, k: int, depth: int, width: int) -> CodeContext:
    torch.manual_seed(m * k)
    context = CodeContext(m, k, depth, width).eval()
    for last in context.last:
        last.weight.data *= 12
    return context


def random_codes(m: int, k: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 100 + width).integers(0, k, (m, height, width)).astype(np.int32)


def converted(context: CodeContext) -> IntegerCodeContext:
    codes = torch.from_numpy(random_codes(context.m, context.k, 12, 12)).long()
    return IntegerCodeContext.from_float(context, context.rows(codes[None]))


@pytest.fixture(scope="module")
def contexts() -> dict[str, IntegerCodeContext]:
    return {name: converted(float_context(*sizes)) for name, sizes in MODELS.items()}


def changed(context: IntegerCodeContext, **arrays: np.ndarray) -> IntegerCodeContext:
    return IntegerCodeContext.from_arrays(context.to_arrays() | {n.replace("_", "."): a for n, a in arrays.items()})


def assert_one_set_of_integers(context: IntegerCodeContext, codes: np.ndarray) -> None:
    data = encode_codes(codes, context, backend="reference")
    found = code_frequencies(codes, context, backend="reference")
    assert np.array_equal(decode_codes(data, context, *codes.shape[1:], backend="reference"), codes)
    for isa in SUPPORTED:
        _native.set_isa(isa)
        assert encode_codes(codes, context) == data, isa
        assert np.array_equal(code_frequencies(codes, context), found), isa
        assert np.array_equal(decode_codes(data, context, *codes.shape[1:]), codes), isa


@pytest.mark.parametrize("name", MODELS)
def test_bytes_and_codes_equal_the_reference_at_every_size_on_every_instruction_set(contexts, name):
    context = contexts[name]
    for size in SIZES:
        assert_one_set_of_integers(context, random_codes(context.m, context.k, *size))


def extreme(context: IntegerCodeContext, seed: int) -> IntegerCodeContext:
    """Any valid requantiser, logits at both clips, and a table with holes."""
    rng = np.random.default_rng(seed)
    arrays = extreme_requantisers(context.to_arrays(), rng)
    arrays["words"] = rng.choice(np.array([-128, -127, 0, 127], np.int8), arrays["words"].shape)
    arrays |= {name: np.array([21], np.uint8) for name in arrays if name.startswith("last.") and name.endswith(".bits")}
    arrays["table"] = np.where(rng.random(256) < 0.5, arrays["table"], 0).astype(np.int32)
    arrays["table"][0] = 1 << 20
    return IntegerCodeContext.from_arrays(arrays)


@pytest.mark.parametrize("threads", [1, 2, 1 << 30, 3 << 30, (1 << 32) - 1])
def test_bytes_depend_on_no_number_of_threads(contexts, threads):
    context = contexts["odd everything"]
    codes = random_codes(context.m, context.k, 7, 5)
    assert encode_codes_many([codes], context, threads=threads) == [encode_codes(codes, context)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MODELS)
def test_any_valid_integers_give_the_reference_bytes(contexts, name, seed):
    context = extreme(contexts[name], seed)
    assert_one_set_of_integers(context, random_codes(context.m, context.k, 3, 6))


@pytest.mark.parametrize("offsets", [[(0, -1)], [(-1, 0)], [(0, -3), (-8, 8), (-2, -8), (0, -1), (-1, 0)]])
def test_any_positions_that_are_coded_before_may_be_looked_at(offsets):
    context = converted(float_context(2, 5, 4, 9))
    arrays = context.to_arrays() | {"offsets": np.array(offsets, np.int8)}
    rng = np.random.default_rng(len(offsets))
    for group in range(2):
        inputs = 4 * (2 * len(offsets) + group)
        arrays[f"first.{group}.weight"] = rng.integers(-127, 128, (9, inputs)).astype(np.int8)
    assert_one_set_of_integers(IntegerCodeContext.from_arrays(arrays), random_codes(2, 5, 10, 18))


def test_what_lies_outside_of_the_image_is_word_k_and_only_neighbours_matter():
    """The definition in the float model's words: its rows are what the integers look at."""
    context = float_context(2, 7, 4, 8)
    integers = converted(context)
    codes = random_codes(2, 7, 4, 5)
    rows = context.rows(torch.from_numpy(codes).long()[None])
    with torch.no_grad():
        for group in range(2):
            nats = torch.log_softmax(context.logits(rows, group).double(), 1)
            expected = nats.gather(1, rows[:, group - 2, None])[:, 0].exp().reshape(4, 5).numpy()
            found = code_frequencies(codes, integers)[group] / (1 << integers.precision)
            assert np.abs(found - expected).max() < 0.02


# ---- choosing


def costs(context: IntegerCodeContext, height: int, width: int, depth: int) -> list[np.ndarray]:
    """Vectors, words and prices, of which some are 0 and some so dear that distances count for nothing."""
    rng = np.random.default_rng(height * 10 + depth)
    vectors = rng.normal(size=(height, width, context.m, depth)).astype(np.float32)
    words = rng.normal(size=(context.m, context.k, depth)).astype(np.float32)
    prices = rng.choice(np.array([0, 0.01, 0.3, 1e9], np.float32), (height, width, context.m))
    return [vectors, words, prices]


@pytest.mark.parametrize("name", MODELS)
def test_the_chosen_codes_are_the_reference_s_on_every_instruction_set(contexts, name):
    for context in (contexts[name], extreme(contexts[name], 7)):
        for height, width, depth in ((1, 1, 1), (3, 5, 7), (2, 17, 8)):
            own = costs(context, height, width, depth)
            expected = choose_codes(*own, context, backend="reference")
            assert expected.shape == (context.m, height, width) and expected.dtype == np.int32
            for isa in SUPPORTED:
                _native.set_isa(isa)
                assert np.array_equal(choose_codes(*own, context), expected), isa


def test_bits_without_a_price_choose_the_nearest_and_dear_ones_the_likeliest_word(contexts):
    context = contexts["five groups"]
    vectors, words, prices = costs(context, 4, 6, 7)
    free = choose_codes(vectors, words, prices * 0, context)
    nearest = codebook_nearest(torch.from_numpy(vectors).reshape(24, 5, 7), torch.from_numpy(words))
    assert np.array_equal(free, nearest.T.reshape(5, 4, 6))
    dear = choose_codes(vectors, words, prices * 0 + np.float32(1e9), context)
    bits = [-np.log2(code_frequencies(codes, context) / (1 << context.precision)) for codes in (dear, free)]
    assert bits[0].sum() < 0.75 * bits[1].sum() and bits[0].max() <= np.log2(context.k)


def test_of_words_of_equal_cost_the_first_is_chosen(contexts):
    context = contexts["odd everything"]
    vectors, words, prices = costs(context, 2, 3, 4)
    assert not choose_codes(vectors, words[:, :1].repeat(3, 1), prices * 0, context).any()


def test_costs_that_do_not_fit_are_refused(contexts):
    context = contexts["odd everything"]
    vectors, words, prices = costs(context, 2, 3, 4)
    with pytest.raises(ValueError, match=r"vectors must be float32 \[h, w, 2, 4\], got float32 \[2, 3, 1, 4\]"):
        choose_codes(vectors[:, :, :1], words, prices, context)
    with pytest.raises(ValueError, match=r"words must be float32 \[2, 3, d\], got float64"):
        choose_codes(vectors, words.astype(np.float64), prices, context)
    with pytest.raises(ValueError, match=r"prices must be float32 \[2, 3, 2\], got float32 \[3, 3, 2\]"):
        choose_codes(vectors, words, prices.repeat(2, 0)[:3], context)
    with pytest.raises(ValueError, match="prices holds values that are not finite"):
        choose_codes(vectors, words, prices + np.float32(np.inf), context)
    with pytest.raises(TypeError, match="context must be an IntegerCodeContext"):
        choose_codes(vectors, words, prices, None)


# ---- frequencies


@pytest.mark.parametrize("k", [2, 3, 300, 2048, 65536])
def test_frequencies_are_positive_and_sum_to_a_power_of_two(contexts, k):
    table = contexts["odd everything"].table
    rng = np.random.default_rng(k)
    top = (1 << 20) - 1
    steep = np.full(k, -top)
    steep[-1] = top
    for precision in range(max(12, (k - 1).bit_length() + 1), 25, 3):
        for logits in (np.zeros(k, np.int64), steep, rng.integers(-top, top + 1, k), rng.integers(-3000, 3000, k)):
            found = frequencies(logits, table, precision)
            assert found.min() >= 1 and found.sum() == 1 << precision
            assert found.argmax() == logits.argmax()


def test_frequencies_follow_powers_of_two_of_the_logits(contexts):
    logits = np.array([0, -256, -512, -300, -100000], np.int64)
    found = frequencies(logits, contexts["odd everything"].table, 20) / (1 << 20)
    expected = 2.0 ** (logits / 256)
    assert found == pytest.approx(expected / expected.sum(), rel=1e-4, abs=1e-5)


# ---- beside the float networks


def structured_codes(m: int, k: int, height: int, width: int) -> np.ndarray:
    """Codes that neighbours tell much of: a plane of slopes with a little noise."""
    rng = np.random.default_rng(5)
    base = np.add.outer(np.arange(height), 2 * np.arange(width)) + rng.integers(0, 2, (m, height, width))
    return (base % k).astype(np.int32)


def test_integers_need_hardly_more_bits_than_the_float_networks():
    torch.manual_seed(0)
    context = CodeContext(2, 40, 8, 32)
    codes = structured_codes(2, 40, 24, 24)
    rows = context.rows(torch.from_numpy(codes).long()[None])
    optimiser = torch.optim.Adam(context.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss = context(rows)
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        floats = float(context(rows)) * len(rows)
    assert floats / len(rows) < 6  # 10.6 for codes of which nothing is known
    integers = IntegerCodeContext.from_float(context, rows)
    found = code_frequencies(codes, integers)
    bits = float(found.size * integers.precision - np.log2(found).sum())
    assert abs(bits - floats) < 0.01 * floats
    assert 0 <= 8 * len(encode_codes(codes, integers)) - bits <= 96


# ---- storage


def test_integers_come_back_from_their_arrays_and_from_pickles(contexts):
    context = contexts["five groups"]
    codes = random_codes(5, 300, 2, 3)
    data = encode_codes(codes, context)
    for again in (IntegerCodeContext.from_arrays(context.to_arrays()), pickle.loads(pickle.dumps(context))):
        assert again.to_arrays().keys() == context.to_arrays().keys()
        assert all(np.array_equal(a, again.to_arrays()[n]) for n, a in context.to_arrays().items())
        assert encode_codes(codes, again) == data


def put(name: str, index: int, value: int):
    def apply(arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name].ravel()[index] = value

    return apply


def crop(name: str, axis: int):
    def apply(arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = np.ascontiguousarray(np.delete(arrays[name], -1, axis))

    return apply


DAMAGE = {
    "a missing array": (lambda a: a.pop("second.1.bias"), "second.1.bias.*missing"),
    "an unknown array": (lambda a: a.update({"first.2.bias": a["first.1.bias"]}), "no array 'first.2.bias'"),
    "floats": (lambda a: a.update({"words": a["words"].astype(np.float32)}), "words.*int8"),
    "another type": (lambda a: a.update({"table": a["table"].astype(np.uint8)}), "table.*type"),
    "fewer groups of words": (crop("words", 0), "first.0.weight.*shape"),
    "fewer words": (crop("words", 1), "last.0.weight.*3 outputs.*2 words"),
    "fewer channels": (crop("words", 2), "first.0.weight.*shape"),
    "fewer inputs": (crop("last.0.weight", 1), "last.0.weight.*shape"),
    "fewer outputs": (crop("second.0.weight", 0), "second.0.bias.*7 outputs, expected 6"),
    "a short bias": (crop("first.1.bias", 0), "first.1.bias"),
    "a short requantiser": (crop("last.1.requantise.shift", 0), "last.1.requantise"),
    "shift 63": (put("second.0.requantise.shift", 0, 63), "second.0.requantise.shift"),
    "wide activations": (put("first.0.requantise.bits", 0, 13), "first.0.requantise.bits"),
    "wide logits": (put("last.0.requantise.bits", 0, 22), "last.0.requantise.bits"),
    "an overflowing bias": (put("last.0.bias", 0, 2**31 - 1), "last.0.*overflow"),
    "a bias of -2^31": (put("first.0.bias", 0, -(2**31)), "first.0.*overflow"),
    "a short table": (crop("table", 0), "table.*256"),
    "a table from elsewhere": (put("table", 0, 5), r"table.*2\^20"),
    "a negative weight": (put("table", 9, -1), r"table.*2\^20"),
    "a position that is coded later": (put("offsets", 1, 0), "offsets.*not coded earlier"),
    "a row below": (put("offsets", 0, 1), "offsets.*not coded earlier"),
    "a position far away": (put("offsets", 2, -9), "offsets.*more than 8"),
    "no offsets": (lambda a: a.update({"offsets": a["offsets"][:0]}), "offsets.*shape"),
    "25 bits": (put("precision", 0, 25), "precision"),
    "more words than frequencies": (put("precision", 0, 1), "precision"),
}


@pytest.mark.parametrize("fault", DAMAGE)
def test_damaged_arrays_are_refused_by_name(contexts, fault):
    arrays = dict(contexts["odd everything"].to_arrays())
    damage, message = DAMAGE[fault]
    damage(arrays)
    with pytest.raises(ValueError, match=message):
        IntegerCodeContext.from_arrays(arrays)


def test_conversion_without_codes_is_refused():
    context = float_context(2, 3, 5, 7)
    with pytest.raises(ValueError, match="at least one image"):
        IntegerCodeContext.from_float(context, torch.zeros(0, 10, dtype=torch.long))


# ---- streams


@pytest.mark.parametrize("name", MODELS)
def test_no_codes_and_wrong_codes(contexts, name):
    context = contexts[name]
    empty = encode_codes(np.zeros((context.m, 0, 4), np.int32), context)
    assert empty == encode_codes(np.zeros((context.m, 0, 4), np.int32), context, backend="reference")
    assert decode_codes(empty, context, 0, 4).shape == (context.m, 0, 4)
    with pytest.raises(ValueError, match=rf"0\.\.{context.k - 1}"):
        encode_codes(np.full((context.m, 1, 1), context.k), context)
    with pytest.raises(ValueError, match=r"\[\d, h, w\]"):
        encode_codes(np.zeros((context.m + 1, 1, 1), np.int32), context)
    with pytest.raises(TypeError, match="integers"):
        encode_codes(np.zeros((context.m, 1, 1)), context)
    with pytest.raises(ValueError, match="backend"):
        encode_codes(np.zeros((context.m, 1, 1), np.int32), context, backend="abacus")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is not in 0"):
        context.native.encode_many([np.full((context.m, 1, 1), -1, np.int32)], 1)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", ["odd everything", "five groups"])
def test_damage_gives_the_reference_result_or_its_error(contexts, name):
    context = contexts[name]
    codes = random_codes(context.m, context.k, 4, 5)
    data = encode_codes(codes, context)
    for cut in range(len(data)):
        with pytest.raises(CorruptStreamError):
            decode_codes(data[:cut], context, 4, 5)
    for more in (data + bytes(4), data + data, data + b"\0"):
        with pytest.raises(CorruptStreamError):
            decode_codes(more, context, 4, 5)
    rng = np.random.default_rng(1)
    reported = 0
    for _ in range(20):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        outcomes = []
        for backend in ("cpp", "reference"):
            try:
                outcomes.append(decode_codes(bytes(damaged), context, 4, 5, backend=backend).tobytes())
            except CorruptStreamError:
                outcomes.append(None)
        assert outcomes[0] == outcomes[1]
        reported += outcomes[0] is None
    assert reported >= 18


def test_a_short_stream_cannot_claim_many_codes(contexts):
    for context in contexts.values():
        data = encode_codes(random_codes(context.m, context.k, 1, 1), context)
        with pytest.raises(CorruptStreamError, match="too few"):
            decode_codes(data, context, 1 << 20, 1 << 20)


@pytest.mark.golden
def test_the_stream_of_version_1_gives_its_codes():
    with np.load(GOLDEN / "mcquic_context.npz") as stored:
        arrays = dict(stored)
    codes, data = arrays.pop("codes"), arrays.pop("stream").tobytes()
    context = IntegerCodeContext.from_arrays(arrays)
    for backend in ("cpp", "reference"):
        assert np.array_equal(decode_codes(data, context, *codes.shape[1:], backend=backend), codes)
        assert encode_codes(codes, context, backend=backend) == data


# ---- beside tables


def tables_of(m: int, ks: list[int]) -> CodeTables:
    rng = np.random.default_rng(0)
    return CodeTables.from_shares([rng.random((m, k)) for k in ks], [rng.random((m, k, 2)) for k in ks])


def test_level_0_takes_the_context_and_deeper_levels_their_tables(contexts):
    context = contexts["odd everything"]
    tables = tables_of(2, [3, 4])
    both = CodeTables(tables.tables, tables.words, context)
    codes = random_codes(2, 3, 3, 4)
    assert both.encode(0, codes) == encode_codes(codes, context) != tables.encode(0, codes)
    assert both.encode(0, codes, "reference") == both.encode(0, codes)
    assert both.encode(1, codes) == tables.encode(1, codes) and both.bits(1, codes) == tables.bits(1, codes)
    for backend in ("cpp", "reference"):
        assert np.array_equal(both.decode(0, both.encode(0, codes), 3, 4, backend), codes)
    assert 0 <= 8 * len(both.encode(0, codes)) - both.bits(0, codes) <= 96


def test_a_context_changes_the_fingerprint_and_its_absence_does_not(contexts):
    tables = tables_of(2, [3, 4])
    assert not any(name.startswith("context.") for name in tables.to_arrays())
    both = CodeTables(tables.tables, tables.words, contexts["odd everything"])
    again = CodeTables.from_arrays(both.to_arrays())
    assert again.fingerprint() == both.fingerprint() != tables.fingerprint()
    assert CodeTables.from_arrays(tables.to_arrays()).context is None
    other = changed(contexts["odd everything"], first_0_bias=contexts["odd everything"].first[0].bias + 1)
    assert CodeTables(tables.tables, tables.words, other).fingerprint() != both.fingerprint()


def test_a_context_of_another_size_is_refused(contexts):
    tables = tables_of(2, [3, 4])
    with pytest.raises(ValueError, match=r"\(5, 300\).*level 0 of \(2, 3\)"):
        CodeTables(tables.tables, tables.words, contexts["five groups"])
    broken = tables.to_arrays() | {"context.table": contexts["odd everything"].table}
    with pytest.raises(ValueError, match=r"words.*missing"):
        CodeTables.from_arrays(broken)
