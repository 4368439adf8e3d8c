"""Nearest codeword of every vector, without the matrix of distances.

|x - c|^2 = |x|^2 + 2 (|c|^2 / 2 - x.c), so the codeword with the smallest score |c|^2 / 2 - x.c is nearest. A program
keeps a tile of vectors in registers and walks over the codes of its share; for every column of the tile it remembers
the best score and the tile where it stood. Strict comparisons keep the earlier code, and the last reduction takes the
lowest index among equals, so ties go to the lowest index whatever the tile sizes and splits are.

Rounding: scores are exact up to ``score_error``; two codes closer than that may change places, no others can.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastlic.kernels.launch import (
    Target,
    Variant,
    ceil_div,
    check_device,
    interpreted,
    options,
    power_of_two,
    processors,
    target_of,
)

PRECISIONS = ("ieee", "tf32x3")
MAX_WIDTH = 256
_NO_INDEX = tl.constexpr(2**31 - 1)


@triton.jit
def _half_norms(codes, out, count, width, D: tl.constexpr, ROWS: tl.constexpr):
    """out[r] = |codes[r]|^2 / 2 over contiguous rows."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    dims = tl.arange(0, D)
    inside = (rows[:, None] < count) & (dims[None, :] < width)
    c = tl.load(codes + rows[:, None] * width + dims[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(out + rows, tl.sum(c * c, axis=1) * 0.5, mask=rows < count)


@triton.jit
def _store_answer(
    index, rows, group, x, codes, indexes, residual, n, m, k, width, x_row, x_group, x_width,
    D: tl.constexpr, RESIDUAL: tl.constexpr,
):  # fmt: skip
    """indexes [n, m] and, if asked for, residual [n, m, width] = x - codeword."""
    tl.store(indexes + rows * m + group, index.to(tl.int64), mask=rows < n)
    if RESIDUAL:
        dims = tl.arange(0, D)
        inside = (rows[:, None] < n) & (dims[None, :] < width)
        vector = tl.load(x + rows[:, None] * x_row + group * x_group + dims[None, :] * x_width, mask=inside, other=0.0)
        word = tl.load(codes + (group * k + index.to(tl.int64))[:, None] * width + dims[None, :], mask=inside, other=0.0)
        tl.store(residual + (rows[:, None] * m + group) * width + dims[None, :], vector - word, mask=inside)


@triton.jit
def _search(
    x, codes, half, values, candidates, indexes, residual, n, m, k, width, x_row, x_group, x_width, share,
    D: tl.constexpr, ROWS: tl.constexpr, CODES: tl.constexpr, EVEN: tl.constexpr, SPLIT: tl.constexpr,
    RESIDUAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Programs (rows, groups, splits). ``share``: codes of one split, a multiple of CODES. With SPLIT the best score
    and index of each split go to values, candidates [splits, m, n]; without, the answer is final."""
    group = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    dims = tl.arange(0, D)
    columns = tl.arange(0, CODES)
    inside = (rows[:, None] < n) & (dims[None, :] < width)
    vectors = tl.load(x + rows[:, None] * x_row + group * x_group + dims[None, :] * x_width, mask=inside, other=0.0)
    best = tl.full([ROWS, CODES], float("inf"), tl.float32)
    where = tl.zeros([ROWS, CODES], tl.int32)
    first = tl.program_id(2) * share
    last = tl.minimum(first + share, k)
    words = codes + group * k * width
    norms = half + group * k
    for start in range(first, last, CODES):
        code = start + columns
        if EVEN:
            c = tl.load(words + code[None, :] * width + dims[:, None])
            h = tl.load(norms + code)
        else:
            valid = (code[None, :] < last) & (dims[:, None] < width)
            c = tl.load(words + code[None, :] * width + dims[:, None], mask=valid, other=0.0)
            h = tl.load(norms + code, mask=code < last, other=float("inf"))
        score = h[None, :] - tl.dot(vectors, c, input_precision=PRECISION, out_dtype=tl.float32)
        better = score < best
        best = tl.where(better, score, best)
        where = tl.where(better, start, where)
    value = tl.min(best, axis=1)
    # A vector with NaN leaves every score at infinity: its answer is the first code.
    index = tl.min(tl.where(best == value[:, None], tl.maximum(where, first) + columns[None, :], _NO_INDEX), axis=1)
    if SPLIT:
        at = (tl.program_id(2).to(tl.int64) * m + group) * n + rows
        tl.store(values + at, value, mask=rows < n)
        tl.store(candidates + at, index, mask=rows < n)
    else:
        _store_answer(index, rows, group, x, codes, indexes, residual, n, m, k, width, x_row, x_group, x_width, D,
                      RESIDUAL)  # fmt: skip


@triton.jit
def _combine(
    x, codes, values, candidates, indexes, residual, n, m, k, width, x_row, x_group, x_width, splits,
    D: tl.constexpr, ROWS: tl.constexpr, RESIDUAL: tl.constexpr,
):  # fmt: skip
    """The best of all splits. Splits come in the order of their codes, so the first of equals has the lowest index."""
    group = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    best = tl.full([ROWS], float("inf"), tl.float32)
    index = tl.zeros([ROWS], tl.int32)
    for split in range(0, splits):
        at = (split * m + group) * n + rows
        value = tl.load(values + at, mask=rows < n, other=float("inf"))
        better = value < best
        index = tl.where(better, tl.load(candidates + at, mask=rows < n, other=0), index)
        best = tl.where(better, value, best)
    _store_answer(index, rows, group, x, codes, indexes, residual, n, m, k, width, x_row, x_group, x_width, D,
                  RESIDUAL)  # fmt: skip


def _tiles(width: int, precision: str, target: Target) -> tuple[int, int, int, int]:
    """(rows, codes, warps, stages) of one program: scores, best and where take 3 registers an entry."""
    D = max(16, power_of_two(width))
    if target.is_hip:  # 64 KiB of LDS, wavefronts of 64
        return (64, 64, 4, 1) if D <= 64 else (32, 32, 4, 1)
    if isinstance(target.arch, int) and target.arch < 90:  # operands of tensor cores stand in registers before Hopper
        return (64, 32, 8, 2) if D <= 64 else (32, 32, 4, 2)
    if precision == "ieee":
        return (64, 64, 8, 2) if D <= 128 else (32, 32, 4, 2)
    return (64, 64, 8, 3) if D <= 64 else (64, 64, 8, 2) if D <= 128 else (32, 32, 4, 2)


def score_error(x: Tensor, codebook: Tensor, precision: str = "ieee") -> Tensor:
    """float64 [n, m]: how far any computed score may lie from the true one, in any order of summation.

    float32: d products and d + 1 sums, each off by 2^-24 of at most sum |x_i c_i| + |c|^2 / 2. tf32x3 drops less than
    3 * 2^-20 of each product, and adds 3 d terms whose sums may be cut off rather than rounded (2^-23).
    """
    d = x.shape[-1]
    reach = x.double().abs().amax(-1) * codebook.double().abs().sum(-1).amax(-1) * 1.0
    reach = torch.maximum(reach, x.double().norm(dim=-1) * codebook.double().norm(dim=-1).amax(-1))
    reach = reach + codebook.double().square().sum(-1).amax(-1) / 2
    factor = (d + 3) * 2.0**-24 if precision == "ieee" else 3 * 2.0**-20 + (3 * d + 8) * 2.0**-23
    return reach * factor


def nearest(
    x: Tensor, codebook: Tensor, *, residual: bool = False, precision: str = "ieee", splits: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Index of the nearest codeword, and the difference to it.

    Args:
        x: float32 [n, m, d], any strides.
        codebook: float32 [m, k, d], d up to 256.
        residual: whether to return x - codeword as well.
        precision: ``ieee`` computes scores in float32; ``tf32x3`` on tensor cores, three products for one, with a
            slightly larger ``score_error``.
        splits: programs among which the codes are divided; by default as many as fill the device.

    Returns:
        int64 [n, m]; float32 [n, m, d] or None.
    """
    device = check_device(_search, x, codebook)
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    n, m, width = x.shape
    k = codebook.shape[1]
    codes = codebook.contiguous()
    indexes = torch.empty(n, m, dtype=torch.int64, device=device)
    remainder = torch.empty(n, m, width, dtype=torch.float32, device=device) if residual else x
    if n and m:
        _launch(x, codes, indexes, remainder, residual, precision, splits, target_of(device))
    return indexes, remainder if residual else None


def _launch(
    x: Tensor,
    codes: Tensor,
    indexes: Tensor,
    remainder: Tensor,
    residual: bool,
    precision: str,
    splits: int | None,
    target: Target,
) -> None:
    n, m, width = x.shape
    k = codes.shape[1]
    rows, columns, warps, stages = _tiles(width, precision, target)
    if interpreted(_search):  # fewer, larger steps: the interpreter pays per operation
        rows, columns = min(rows, max(16, power_of_two(n))), 256
    D = max(16, power_of_two(width))
    row_tiles, code_tiles = ceil_div(n, rows), ceil_div(k, columns)
    if splits is None:  # two programs for each multiprocessor, none with less than four tiles
        splits = max(1, min(2 * processors(x.device) // (row_tiles * m), code_tiles // 4))
    share = ceil_div(code_tiles, splits) * columns
    splits = ceil_div(k, share)
    half = torch.empty(m, k, dtype=torch.float32, device=x.device)
    _half_norms[(ceil_div(m * k, 64),)](codes, half, m * k, width, D=D, ROWS=64, **options(_half_norms, 4))
    partial = (splits, m, n) if splits > 1 else (1,)
    values = torch.empty(partial, dtype=torch.float32, device=x.device)
    candidates = torch.empty(partial, dtype=torch.int32, device=x.device)
    sizes = (n, m, k, width, *x.stride())
    _search[(row_tiles, m, splits)](
        x, codes, half, values, candidates, indexes, remainder, *sizes, share,
        D=D, ROWS=rows, CODES=columns, EVEN=k % columns == 0 and D == width, SPLIT=splits > 1,
        RESIDUAL=residual, PRECISION=precision, **options(_search, warps, stages),
    )  # fmt: skip
    if splits > 1:
        _combine[(ceil_div(n, 32), m)](
            x, codes, values, candidates, indexes, remainder, *sizes, splits,
            D=D, ROWS=32, RESIDUAL=residual, **options(_combine, 4),
        )  # fmt: skip


def variants(target: Target) -> list[Variant]:
    """McQuic's two shapes and the widest supported one, with and without splits."""
    sizes = {name: "i32" for name in ("n", "m", "k", "width", "x_row", "x_group", "x_width")}
    aligned = ("x", "codes", "half", "k", "width", "share")
    found = []
    for width, split, precision in ((64, True, "tf32x3"), (16, True, "tf32x3"), (64, False, "ieee"), (128, True, "ieee")):
        rows, columns, warps, stages = _tiles(width, precision, target)
        D = max(16, power_of_two(width))
        constants = dict(D=D, ROWS=rows, CODES=columns, EVEN=True, SPLIT=split, RESIDUAL=not split,
                         PRECISION=precision if not target.is_hip else "ieee")  # fmt: skip
        pointers = {"x": "*fp32", "codes": "*fp32", "half": "*fp32", "values": "*fp32", "candidates": "*i32",
                    "indexes": "*i64", "residual": "*fp32"}  # fmt: skip
        signature = {**pointers, **sizes, "share": "i32", **dict.fromkeys(constants, "constexpr")}
        name = f"codebook search d={width} {precision}{' split' if split else ''}"
        chosen = options(None, warps, stages)
        found.append(Variant(name, _search, signature, constants, chosen, 255, 160 * 1024, aligned))
    pointers = {"x": "*fp32", "codes": "*fp32", "values": "*fp32", "candidates": "*i32", "indexes": "*i64",
                "residual": "*fp32"}  # fmt: skip
    constants = dict(D=64, ROWS=32, RESIDUAL=True)
    signature = {**pointers, **sizes, "splits": "i32", **dict.fromkeys(constants, "constexpr")}
    found.append(Variant("codebook combine d=64", _combine, signature, constants, options(None, 4), 128, 16384, aligned))
    return found
