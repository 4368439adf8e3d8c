"""Nearest codewords: every implementation gives the defined index, ties, odd sizes and hostile numbers included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastlic.ops.codebook import codebook_nearest


def random_case(n: int, m: int, k: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, m, d, generator=generator), torch.randn(m, k, d, generator=generator)


def plain(x: Tensor, codebook: Tensor) -> Tensor:
    """The definition, once more and with nothing shared: distances in float64, the first smallest."""
    distance = torch.zeros(*x.shape[:2], codebook.shape[1], dtype=torch.float64)
    for i in range(x.shape[2]):
        distance += (x[:, :, None, i].double() - codebook[None, :, :, i].double()) ** 2
    return (distance == distance.amin(2, keepdim=True)).byte().argmax(2)


def agree(x: Tensor, codebook: Tensor) -> Tensor:
    expected = plain(x, codebook)
    for backend in ("reference", "cpp", "auto"):
        for threads in (1, 3):
            codes = codebook_nearest(x, codebook, backend=backend, threads=threads)
            assert codes.dtype == torch.int64 and torch.equal(codes, expected), backend
    return expected


@pytest.mark.parametrize("n", [0, 1, 7, 97, 200])
@pytest.mark.parametrize(("m", "k", "d"), [(1, 1, 1), (2, 47, 3), (1, 48, 4), (3, 49, 16), (2, 700, 64), (1, 17, 65)])
def test_odd_sizes(isa: str, n: int, m: int, k: int, d: int):
    agree(*random_case(n, m, k, d, seed=n + k))


def test_published_sizes(isa: str):
    for m, d in ((2, 64), (12, 16)):
        x, codebook = random_case(40, m, 8192, d)
        codes = agree(x, codebook)
        # Vectors near their words, as a trained encoder gives them.
        near = codebook.gather(1, codes.t()[..., None].expand(-1, -1, d)).transpose(0, 1)
        assert torch.equal(agree(near + 0.1 * x, codebook)[:, 0], codes[:, 0])


def test_equal_words_give_the_lowest_index_wherever_they_lie(isa: str):
    x, codebook = random_case(64, 2, 300, 8)
    codebook[:, 250:] = codebook[:, 100:150]
    codebook[:, 5] = codebook[:, 120]
    codes = agree(x, codebook)
    assert not bool((codes >= 250).any()) and not bool((codes == 120).any()) and bool((codes == 5).any())


@pytest.mark.parametrize("words", [40, 500])
def test_more_ties_than_a_row_remembers(isa: str, words: int):
    x, codebook = random_case(9, 2, 1, 5)
    assert not agree(x, codebook.expand(2, words, 5)).any()


def test_words_closer_than_float32_can_tell_are_told_apart(isa: str):
    generator = torch.Generator().manual_seed(1)
    centre = torch.randn(1, 1, 32, generator=generator) * 100
    steps = torch.randint(-2, 3, (1, 400, 32), generator=generator)
    codebook = centre * (1 + steps * 2.0**-23)
    x = centre.expand(30, 1, 32) * (1 + torch.randint(-2, 3, (30, 1, 32), generator=generator) * 2.0**-23)
    assert len(agree(x, codebook).unique()) > 5


@pytest.mark.parametrize("scale", [0.0, 1e-45, 1e-38, 1e-20, 1e18, 1e30, 3e38])
def test_numbers_of_any_size(isa: str, scale: float):
    x, codebook = random_case(20, 2, 100, 6)
    for a, b in ((scale, scale), (scale, 1.0), (1.0, scale)):
        agree((x.clamp(-1, 1) * a), (codebook.clamp(-1, 1) * b))


@pytest.mark.parametrize(("x", "word"), [(-2.46e38, 3.6e-43), (3e38, 1e-30), (1e30, 0.0)])
@pytest.mark.parametrize(("k", "d"), [(1, 1), (3, 2), (50, 5)])
def test_long_vectors_among_short_words_have_a_nearest_word_that_exists(
    isa: str, x: float, word: float, k: int, d: int
):
    """Their error bound is beyond float32: words that only pad the kernels' panels came within it."""
    words = torch.full((1, k, d), word)
    words[0, k // 2] *= -1
    for vectors in (torch.full((15, 1, d), x), torch.full((15, 1, d), -x)):
        for backend in ("cpp", "auto"):
            codes = codebook_nearest(vectors, words, backend=backend)
            assert bool((codes >= 0).all()) and bool((codes < k).all())
            assert torch.equal(codes, codebook_nearest(vectors, words, backend="reference"))


def test_one_outlying_word_or_channel_changes_no_answer(isa: str):
    x, codebook = random_case(50, 2, 300, 12)
    codebook[0, 7] *= 1e4
    x[:, 1, 3] *= 1e4
    agree(x, codebook)


def test_words_too_dense_for_bytes_are_told_apart_where_a_few_are_far_out(isa: str):
    # As trained codebooks are: most words near zero, so that those few set the step of all bytes.
    x, codebook = random_case(230, 2, 3000, 16)
    codebook[:, 64:] *= 0.05
    x[::3] *= 0.05
    agree(x, codebook)
    codebook[1] = 0.01 * codebook[1] + 100
    agree(x, codebook)
    codebook[0, 100:] = codebook[0, 100]
    agree(x, codebook)


def test_strided_and_transposed_tensors_are_read_where_they_lie(isa: str):
    x, codebook = random_case(64, 3, 50, 8)
    expected = agree(x, codebook)
    image = x.reshape(8, 8, 24).permute(2, 0, 1).contiguous()  # channels first
    assert torch.equal(codebook_nearest(image.permute(1, 2, 0).reshape(64, 3, 8), codebook), expected)
    assert torch.equal(codebook_nearest(x.permute(2, 1, 0).contiguous().permute(2, 1, 0), codebook), expected)
    assert torch.equal(codebook_nearest(x.repeat(2, 1, 1)[::2], codebook), agree(x.repeat(2, 1, 1)[::2], codebook))
    assert torch.equal(codebook_nearest(x, codebook.transpose(1, 2).contiguous().transpose(1, 2)), expected)
    assert torch.equal(codebook_nearest(x[:1].expand(5, 3, 8), codebook), expected[:1].expand(5, 3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_values_that_are_not_finite_are_refused(bad: float, backend: str):
    for which in (0, 1):
        case = random_case(10, 2, 20, 4)
        case[which][1, 1, 2] = bad
        with pytest.raises(ValueError, match=f"{('x', 'codebook')[which]} holds values that are not finite"):
            codebook_nearest(*case, backend=backend)


@pytest.mark.parametrize(
    ("x", "codebook", "error", "words"),
    [
        ([[[0.0]]], torch.zeros(1, 1, 1), TypeError, "torch.Tensor"),
        (torch.zeros(1, 1, 1).double(), torch.zeros(1, 1, 1), TypeError, "float64"),
        (torch.zeros(1, 1), torch.zeros(1, 1, 1), ValueError, r"\[n, m, d\]"),
        (torch.zeros(1, 2, 3), torch.zeros(2, 5, 4), ValueError, "agree in m and d"),
        (torch.zeros(1, 1, 3), torch.zeros(2, 5, 3), ValueError, "agree in m and d"),
        (torch.zeros(1, 2, 3), torch.zeros(2, 0, 3), ValueError, "at least one word"),
        (torch.zeros(1, 2, 0), torch.zeros(2, 3, 0), ValueError, "at least one word"),
        (torch.zeros(1, 2, 3, device="meta"), torch.zeros(2, 5, 3), TypeError, "dense tensor with memory"),
    ],
)
def test_arguments_that_do_not_fit_say_what_came(x, codebook, error, words):
    with pytest.raises(error, match=words):
        codebook_nearest(x, codebook)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="backend must be"):
        codebook_nearest(*random_case(1, 1, 1, 1), backend="abacus")
