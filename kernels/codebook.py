"""Nearest codeword of every vector, without the matrix of distances; the index that float64 would give.

|x - c|^2 = |x|^2 + 2 (|c|^2 / 2 - x.c), so the codeword with the smallest score |c|^2 / 2 - x.c is nearest. A program
keeps a tile of vectors in registers and walks over the codes of its share; every column of the tile remembers its best
score, the second best, and the tile where the best stood. Codes may be split among programs, whose results are merged.

Scores are rounded, but by no more than ``error_factor`` says. Where the runner-up comes within twice that bound, which
is rare, one more kernel searches that row in float64. The answer does not depend on tiles, splits or precision: it is
the lowest index among the smallest float64 distances, summed in channel order, as in the reference.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastlic.kernels import launch
from fastlic.kernels.launch import Target, Variant

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
    index, value, second, vectors, rows, group, x, codes, reach, indexes, close, residual, n, m, k, width,
    x_row, x_group, x_width, D: tl.constexpr, RESIDUAL: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """indexes [n, m], close [n, m] and, if asked for, residual [n, m, width] = x - codeword. Close: rounding may have
    decided, as the runner-up is within twice the error bound, or not a number."""
    distance = tl.load(reach + group)
    bound = FACTOR * (tl.sqrt(tl.sum(vectors * vectors, axis=1)) * tl.sqrt(2.0 * distance) + distance)
    doubtful = (second - value > 2.0 * bound) == False  # noqa: E712 (a tensor)
    tl.store(close + rows * m + group, doubtful.to(tl.int8), mask=rows < n)
    tl.store(indexes + rows * m + group, index.to(tl.int64), mask=rows < n)
    if RESIDUAL:
        dims = tl.arange(0, D)
        inside = (rows[:, None] < n) & (dims[None, :] < width)
        vector = tl.load(x + rows[:, None] * x_row + group * x_group + dims[None, :] * x_width, mask=inside, other=0.0)
        word = tl.load(
            codes + (group * k + index.to(tl.int64))[:, None] * width + dims[None, :], mask=inside, other=0.0
        )
        tl.store(residual + (rows[:, None] * m + group) * width + dims[None, :], vector - word, mask=inside)


@triton.jit
def _search(
    x, codes, half, reach, values, seconds, candidates, indexes, close, residual, n, m, k, width, x_row, x_group,
    x_width, share,
    D: tl.constexpr, ROWS: tl.constexpr, CODES: tl.constexpr, EVEN: tl.constexpr, SPLIT: tl.constexpr,
    RESIDUAL: tl.constexpr, PRECISION: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """Programs (rows, groups, splits). ``share``: codes of one split, a multiple of CODES. ``reach`` [m]: the largest
    half norm. With SPLIT the best score, the second and the index of each split go to values, seconds, candidates
    [splits, m, n]; without, the answer is final but for ``close`` rows."""
    group = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    dims = tl.arange(0, D)
    columns = tl.arange(0, CODES)
    inside = (rows[:, None] < n) & (dims[None, :] < width)
    vectors = tl.load(x + rows[:, None] * x_row + group * x_group + dims[None, :] * x_width, mask=inside, other=0.0)
    best = tl.full([ROWS, CODES], float("inf"), tl.float32)
    second = tl.full([ROWS, CODES], float("inf"), tl.float32)
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
        where = tl.where(score < best, start, where)
        second = tl.minimum(second, tl.maximum(score, best))
        best = tl.minimum(best, score)
    value = tl.min(best, axis=1)
    index = tl.min(tl.where(best == value[:, None], tl.maximum(where, first) + columns[None, :], _NO_INDEX), axis=1)
    # The second best of all: any column's second, or the best of a column that did not win.
    lost = tl.where((where + columns[None, :]) == index[:, None], float("inf"), best)
    runner_up = tl.min(tl.minimum(second, lost), axis=1)
    index = tl.minimum(index, k - 1)  # scores that are not numbers match nothing
    if SPLIT:
        at = (tl.program_id(2).to(tl.int64) * m + group) * n + rows
        tl.store(values + at, value, mask=rows < n)
        tl.store(seconds + at, runner_up, mask=rows < n)
        tl.store(candidates + at, index, mask=rows < n)
    else:
        _store_answer(index, value, runner_up, vectors, rows, group, x, codes, reach, indexes, close, residual, n, m, k,
                      width, x_row, x_group, x_width, D, RESIDUAL, FACTOR)  # fmt: skip


@triton.jit
def _combine(
    x, codes, reach, values, seconds, candidates, indexes, close, residual, n, m, k, width, x_row, x_group, x_width,
    splits, D: tl.constexpr, ROWS: tl.constexpr, RESIDUAL: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """The best of all splits."""
    group = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    best = tl.full([ROWS], float("inf"), tl.float32)
    second = tl.full([ROWS], float("inf"), tl.float32)
    index = tl.zeros([ROWS], tl.int32)
    for split in range(0, splits):
        at = (split * m + group) * n + rows
        value = tl.load(values + at, mask=rows < n, other=float("inf"))
        index = tl.where(value < best, tl.load(candidates + at, mask=rows < n, other=0), index)
        second = tl.minimum(second, tl.load(seconds + at, mask=rows < n, other=float("inf")))
        second = tl.minimum(second, tl.maximum(value, best))
        best = tl.minimum(best, value)
    dims = tl.arange(0, D)
    inside = (rows[:, None] < n) & (dims[None, :] < width)
    vectors = tl.load(x + rows[:, None] * x_row + group * x_group + dims[None, :] * x_width, mask=inside, other=0.0)
    _store_answer(index, best, second, vectors, rows, group, x, codes, reach, indexes, close, residual, n, m, k, width,
                  x_row, x_group, x_width, D, RESIDUAL, FACTOR)  # fmt: skip


@triton.jit
def _exact(
    x, codes, indexes, close, residual, n, m, k, width, x_row, x_group, x_width,
    D: tl.constexpr, CODES: tl.constexpr, RESIDUAL: tl.constexpr,
):  # fmt: skip
    """Doubtful rows again: squared distances in float64, summed in channel order without contraction."""
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1).to(tl.int64)
    if tl.load(close + row * m + group) != 0:
        columns = tl.arange(0, CODES)
        best = tl.full([CODES], float("inf"), tl.float64)
        where = tl.zeros([CODES], tl.int32)
        for start in range(0, k, CODES):
            code = start + columns
            distance = tl.zeros([CODES], tl.float64)
            for i in range(0, width):
                c = tl.load(codes + (group * k + code) * width + i, mask=code < k, other=float("inf"))
                away = tl.load(x + row * x_row + group * x_group + i * x_width).to(tl.float64) - c.to(tl.float64)
                distance = distance + away * away
            where = tl.where(distance < best, start, where)
            best = tl.minimum(best, distance)
        index = tl.min(tl.where(best == tl.min(best, axis=0), where + columns, _NO_INDEX), axis=0)
        tl.store(indexes + row * m + group, tl.minimum(index, k - 1).to(tl.int64))
        if RESIDUAL:
            dims = tl.arange(0, D)
            vector = tl.load(x + row * x_row + group * x_group + dims * x_width, mask=dims < width, other=0.0)
            word = tl.load(codes + (group * k + index.to(tl.int64)) * width + dims, mask=dims < width, other=0.0)
            tl.store(residual + (row * m + group) * width + dims, vector - word, mask=dims < width)


def _tiles(width: int, precision: str, target: Target) -> tuple[int, int, int, int]:
    """(rows, codes, warps, stages) of one program: scores, best and where take 3 registers an entry."""
    D = max(16, launch.power_of_two(width))
    if target.is_hip:  # 64 KiB of LDS, wavefronts of 64
        return (64, 64, 4, 1) if D <= 64 else (32, 32, 4, 1)
    if isinstance(target.arch, int) and target.arch < 90:  # operands of tensor cores stand in registers before Hopper
        return (64, 32, 8, 2) if D <= 64 else (32, 32, 4, 2)
    if precision == "ieee":
        return (64, 64, 8, 2) if D <= 128 else (32, 32, 4, 2)
    return (64, 64, 8, 3) if D <= 64 else (64, 64, 8, 2) if D <= 128 else (32, 32, 4, 2)


def error_factor(width: int, precision: str = "ieee") -> float:
    """A computed score is off by at most this times |x| |c| + |c|^2 / 2, in any order of summation.

    float32: ``width`` products and sums, each off by 2^-24 of at most sum |x_i c_i| + |c|^2 / 2; the norms likewise.
    tf32x3 drops less than 3 * 2^-20 of each product, and adds 3 width terms whose sums may be cut off rather than
    rounded (2^-23). A hundredth more covers the rounding of the bound itself.
    """
    if precision == "ieee":
        return 1.01 * (2 * width + 4) * 2.0**-24
    return 1.01 * (3 * 2.0**-20 + (3 * width + 8) * 2.0**-23 + (width + 4) * 2.0**-24)


def nearest(
    x: Tensor, codebook: Tensor, *, residual: bool = False, precision: str | None = None, splits: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Index of the nearest codeword, and the difference to it.

    Args:
        x: float32 [n, m, d], finite, any strides.
        codebook: float32 [m, k, d], finite, d up to 256.
        residual: whether to return x - codeword as well.
        precision: ``ieee`` computes scores in float32; ``tf32x3`` on tensor cores, three products for one, and sends
            a few more rows to float64. By default what the device is best at; the result is the same.
        splits: programs among which the codes are divided; by default as many as fill the device.

    Returns:
        int64 [n, m]; float32 [n, m, d] or None.
    """
    device = launch.check_device(_search, x, codebook)
    target = launch.target_of(device)
    precision = precision or ("ieee" if target.is_hip or launch.interpreted(_search) else "tf32x3")
    if x.shape[-1] > MAX_WIDTH:
        raise ValueError(f"vectors have at most {MAX_WIDTH} channels, got {x.shape[-1]}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    n, m, width = x.shape
    codes = codebook.contiguous()
    indexes = torch.empty(n, m, dtype=torch.int64, device=device)
    remainder = torch.empty(n, m, width, dtype=torch.float32, device=device) if residual else x
    if n and m:
        _launch(x, codes, indexes, remainder, residual, precision, splits, target)
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
    if launch.interpreted(_search):  # fewer, larger steps: the interpreter pays per operation
        rows, columns = min(rows, max(16, launch.power_of_two(n))), 256
    D = max(16, launch.power_of_two(width))
    row_tiles, code_tiles = launch.ceil_div(n, rows), launch.ceil_div(k, columns)
    if splits is None:  # two programs for each multiprocessor, none with less than four tiles
        splits = max(1, min(2 * launch.processors(x.device) // (row_tiles * m), code_tiles // 4))
    share = launch.ceil_div(code_tiles, splits) * columns
    splits = launch.ceil_div(k, share)
    half = torch.empty(m, k, dtype=torch.float32, device=x.device)
    four = launch.options(_half_norms, 4)
    launch.on(x.device, _half_norms)[(launch.ceil_div(m * k, 64),)](codes, half, m * k, width, D=D, ROWS=64, **four)
    reach = half.amax(1)
    partial = (splits, m, n) if splits > 1 else (1,)
    values, seconds = (torch.empty(partial, dtype=torch.float32, device=x.device) for _ in range(2))
    candidates = torch.empty(partial, dtype=torch.int32, device=x.device)
    close = torch.empty(n, m, dtype=torch.int8, device=x.device)
    sizes = (n, m, k, width, *x.stride())
    factor = error_factor(width, precision)
    launch.on(x.device, _search)[(row_tiles, m, splits)](
        x, codes, half, reach, values, seconds, candidates, indexes, close, remainder, *sizes, share,
        D=D, ROWS=rows, CODES=columns, EVEN=(k % columns == 0) and (width == D), SPLIT=splits > 1,
        RESIDUAL=residual, PRECISION=precision, FACTOR=factor, **launch.options(_search, warps, stages),
    )  # fmt: skip
    if splits > 1:
        launch.on(x.device, _combine)[(launch.ceil_div(n, 32), m)](
            x, codes, reach, values, seconds, candidates, indexes, close, remainder, *sizes, splits,
            D=D, ROWS=32, RESIDUAL=residual, FACTOR=factor, **launch.options(_combine, 4),
        )  # fmt: skip
    launch.on(x.device, _exact)[(n, m)](
        x, codes, indexes, close, remainder, *sizes, D=D, CODES=256, RESIDUAL=residual,
        **launch.options(_exact, 4, fusion=False),
    )  # fmt: skip


def variants(target: Target) -> list[Variant]:
    """McQuic's two shapes, that of the weights that ship and the widest of the common ones, with and without splits."""
    pointers = {"x": "*fp32", "codes": "*fp32", "half": "*fp32", "reach": "*fp32", "values": "*fp32",
                "seconds": "*fp32", "candidates": "*i32", "indexes": "*i64", "close": "*i8",
                "residual": "*fp32"}  # fmt: skip
    sizes = {name: "i32" for name in ("n", "m", "k", "width", "x_row", "x_group", "x_width")}
    aligned = (*pointers, "k", "width", "share")

    def signature(leave_out: tuple[str, ...], last: str, constants: dict[str, Any]) -> dict[str, str]:
        names = {name: kind for name, kind in pointers.items() if name not in leave_out}
        return {**names, **sizes, **({last: "i32"} if last else {}), **dict.fromkeys(constants, "constexpr")}

    found = []
    for width, split, precision in (
        (64, True, "tf32x3"),
        (16, True, "tf32x3"),
        (8, True, "tf32x3"),
        (64, False, "ieee"),
        (128, True, "ieee"),
    ):
        if target.is_hip and precision != "ieee":
            precision = "ieee"
        rows, columns, warps, stages = _tiles(width, precision, target)
        constants = dict(D=max(16, width), ROWS=rows, CODES=columns, EVEN=width >= 16, SPLIT=split, RESIDUAL=not split,
                         PRECISION=precision, FACTOR=error_factor(width, precision))  # fmt: skip
        name = f"codebook d={width}{', split' if split else ', whole'}"
        found.append(Variant(name, _search, signature((), "share", constants), constants,
                             launch.options(None, warps, stages), 255, 160 * 1024, aligned))  # fmt: skip
    constants = dict(D=64, ROWS=32, RESIDUAL=True, FACTOR=error_factor(64))
    found.append(Variant("codebook combine d=64", _combine, signature(("half",), "splits", constants), constants,
                         launch.options(None, 4), 128, 16384, aligned))  # fmt: skip
    constants = dict(D=64, CODES=256, RESIDUAL=True)
    unused = ("half", "reach", "values", "seconds", "candidates")
    found.append(Variant("codebook float64 d=64", _exact, signature(unused, "", constants), constants,
                         launch.options(None, 4, fusion=False), 128, 16384, aligned))  # fmt: skip
    return found
