"""The causal 5x5 context and the 1x1 parameter network in floating point, one kernel: for models used as they are.

Positions are gathered, all of a latent or any list of them (a wavefront, a raster step). A program takes its positions
through four layers; between them activations stay in the cache. The hyperprior's half of the first parameter layer is a
matrix product outside (torch's), so the kernel adds it. Precisions:

    ieee     float32 throughout
    tf32x3   tensor cores, three products for one: nearly float32
    bf16     tensor cores, factors rounded to 8 bits, sums in float32

Sums run in another order than in a convolution, so results differ in the last bits; a coder's two sides must not mix.
bf16 is for training and for estimates of the rate, where an error of a hundredth of a scale's step does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
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
    small_tensor,
    target_of,
)
from fastlic.kernels.reference.float_context import PRECISIONS, TAPS

__all__ = ["PRECISIONS", "TAPS", "masked_context"]

_K = 32
_TAPS = tl.constexpr(len(TAPS))


@triton.jit
def _dot(a, w, acc, PRECISION: tl.constexpr):
    if PRECISION == "bf16":
        acc = tl.dot(a.to(tl.bfloat16), w.to(tl.bfloat16), acc=acc, out_dtype=tl.float32)
    elif PRECISION == "bf16 emulated":  # products of 8-bit factors are exact in float32
        a, w = a.to(tl.bfloat16).to(tl.float32), w.to(tl.bfloat16).to(tl.float32)
        acc = tl.dot(a, w, acc=acc, input_precision="ieee", out_dtype=tl.float32)
    else:
        acc = tl.dot(a, w, acc=acc, input_precision=PRECISION, out_dtype=tl.float32)
    return acc


@triton.jit
def _dense(x, rows, weights, columns, acc, C: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr):
    """acc + x[rows, :C] @ weights[columns, :C]^T; C a multiple of K."""
    inner = tl.arange(0, K)
    for start in range(0, C, K):
        a = tl.load(x + (rows * C)[:, None] + (start + inner)[None, :])
        w = tl.load(weights + (columns * C)[None, :] + (start + inner)[:, None])
        acc = _dot(a, w, acc, PRECISION)
    return acc


@triton.jit
def _leaky(value, slope):
    return tl.where(value >= 0, value, value * slope)


@triton.jit(do_not_specialize=["images", "count", "height", "width"])
def _context(
    y, where, taps, share, w, w0, b, w1, b1, w2, b2, x0, x1, x2, out, images, count, height, width, slope,
    CY: tl.constexpr, CX: tl.constexpr, C0: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, ALL: tl.constexpr,
    PRECISION: tl.constexpr, P: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """y [images, h, w, CY]; share [images * count, C0] with the first layer's bias; out [images * count, C2]."""
    p = tl.program_id(0) * P + tl.arange(0, P)
    valid = p < images * count
    q = tl.minimum(p, images * count - 1)
    image = q // count
    raster = q - image * count
    if not ALL:
        raster = tl.load(where + raster)
    row, column = raster // width, raster % width
    inner = tl.arange(0, K)

    for first in range(0, CX, N):
        columns = first + tl.arange(0, N)
        acc = tl.zeros([P, N], tl.float32) + tl.load(b + columns)[None, :]
        for step in range(0, _TAPS * (CY // K)):
            tap = step // (CY // K)
            start = step % (CY // K) * K
            r, c = row + tl.load(taps + 2 * tap), column + tl.load(taps + 2 * tap + 1)
            inside = (r >= 0) & (c >= 0) & (c < width)
            at = ((image * height + r) * width + c) * CY
            a = tl.load(y + at[:, None] + (start + inner)[None, :], mask=inside[:, None], other=0.0)
            weight = tl.load(w + (columns * (_TAPS * CY))[None, :] + (step * K + inner)[:, None])
            acc = _dot(a, weight, acc, PRECISION)
        tl.store(x0 + (q * CX)[:, None] + columns[None, :], acc, mask=valid[:, None])
    tl.debug_barrier()
    for first in range(0, C0, N):
        columns = first + tl.arange(0, N)
        acc = tl.load(share + (q * C0)[:, None] + columns[None, :])
        acc = _leaky(_dense(x0, q, w0, columns, acc, CX, K, PRECISION), slope)
        tl.store(x1 + (q * C0)[:, None] + columns[None, :], acc, mask=valid[:, None])
    tl.debug_barrier()
    for first in range(0, C1, N):
        columns = first + tl.arange(0, N)
        acc = tl.zeros([P, N], tl.float32) + tl.load(b1 + columns)[None, :]
        acc = _leaky(_dense(x1, q, w1, columns, acc, C0, K, PRECISION), slope)
        tl.store(x2 + (q * C1)[:, None] + columns[None, :], acc, mask=valid[:, None])
    tl.debug_barrier()
    for first in range(0, C2, N):
        columns = first + tl.arange(0, N)
        acc = tl.zeros([P, N], tl.float32) + tl.load(b2 + columns)[None, :]
        acc = _dense(x2, q, w2, columns, acc, C1, K, PRECISION)
        tl.store(out + (q * C2)[:, None] + columns[None, :], acc, mask=valid[:, None])


@dataclass(frozen=True)
class _Packed:
    """Weights [outputs, inputs] and biases, channels padded to the tile with zeros."""

    context: Tensor
    layers: tuple[Tensor, Tensor, Tensor]
    biases: tuple[Tensor, Tensor, Tensor, Tensor]
    of_hyper: Tensor


def _pad(t: Tensor, *sizes: int) -> Tensor:
    pads = [n for size, wanted in zip(reversed(t.shape), reversed(sizes), strict=True) for n in (0, wanted - size)]
    return F.pad(t.float(), pads).contiguous()


def _up(channels: int) -> int:
    return ceil_div(channels, 64) * 64


def _pack(weights: list[Tensor], biases: list[Tensor], hyper: int) -> _Packed:
    context = weights[0]
    outputs, M = context.shape[:2]
    taps = torch.stack([_pad(context[:, :, i + 2, j + 2], _up(outputs), _up(M)) for i, j in TAPS], 1)
    first, second, last = (w.flatten(1) for w in weights[1:])
    widths = [_up(len(b)) for b in biases]
    return _Packed(
        taps.flatten(1),
        (
            _pad(first[:, hyper:], widths[1], widths[0]),
            _pad(second, widths[2], widths[1]),
            _pad(last, widths[3], widths[2]),
        ),
        tuple(_pad(b, width) for b, width in zip(biases, widths, strict=True)),  # type: ignore[arg-type]
        first[:, :hyper].float(),
    )


def _tiles(target: Target, precision: str, positions: int) -> tuple[int, int, int, int]:
    """(positions, columns, warps, stages) of one program."""
    if precision == "ieee":
        return (16, 32, 4, 2)
    if target.is_hip:
        return (32, 32, 4, 1)
    if positions <= 4096:
        return (16, 32, 4, 3)
    blackwell = isinstance(target.arch, int) and target.arch >= 100  # 64 positions of split factors spill there
    return (32 if blackwell and precision == "tf32x3" else 64, 32, 4, 3)


def masked_context(
    y: Tensor,
    hyper: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    slope: float,
    where: Tensor | None = None,
    precision: str = "ieee",
) -> Tensor:
    """As ``fastlic.kernels.reference.float_context.masked_context``."""
    device = check_device(_context, y, hyper, *weights, *biases)
    target = target_of(device)
    if precision == "tf32x3" and target.is_hip:
        precision = "ieee"  # CDNA multiplies float32 on its matrix cores
    images, M, height, width = y.shape
    packed = _pack(weights, biases, hyper.shape[1])
    count = height * width if where is None else len(where)
    outputs = len(biases[3])
    CY, CX, C0, C1, C2 = _up(M), *(len(b) for b in packed.biases)
    rows = images * count
    out = torch.empty(rows, C2, dtype=torch.float32, device=device)
    if rows:
        given = hyper.flatten(2) if where is None else hyper.flatten(2)[:, :, where]
        share = F.linear(given.transpose(1, 2), packed.of_hyper, biases[1].float()).reshape(rows, -1)
        share = _pad(share, rows, C0)
        latent = _pad(y.permute(0, 2, 3, 1), images, height, width, CY)
        scratch = [torch.empty(rows, c, dtype=torch.float32, device=device) for c in (CX, C0, C1)]
        taps = small_tensor(tuple(v for tap in TAPS for v in tap), device)
        P, N, warps, stages = _tiles(target, precision, rows)
        if interpreted(_context):
            P, N = 32, 64
            precision = "bf16 emulated" if precision == "bf16" else precision
        _context[(ceil_div(rows, P),)](
            latent, taps if where is None else where.to(torch.int32), taps, share, packed.context, packed.layers[0],
            packed.biases[0], packed.layers[1], packed.biases[2], packed.layers[2], packed.biases[3], *scratch, out,
            images, count, height, width, slope, CY=CY, CX=CX, C0=C0, C1=C1, C2=C2, ALL=where is None,
            PRECISION=precision, P=P, N=N, K=_K, **options(_context, warps, stages),
        )  # fmt: skip
    found = out.reshape(images, count, C2)[:, :, :outputs].transpose(1, 2)
    return (found.reshape(images, outputs, height, width) if where is None else found).contiguous()


def variants(target: Target) -> list[Variant]:
    """JAHP with M = 192, every precision; few positions and many."""
    pointers = {
        name: "*fp32" for name in ("y", "share", "w", "w0", "b", "w1", "b1", "w2", "b2", "x0", "x1", "x2", "out")
    }
    sizes = dict.fromkeys(("images", "count", "height", "width"), "i32")
    found = []
    for precision, positions, name in (
        ("ieee", 1 << 12, "float context ieee"),
        ("tf32x3", 16, "float context tf32x3, step"),
        ("tf32x3", 1 << 13, "float context tf32x3, whole"),
        ("bf16", 1 << 13, "float context bf16, whole"),
    ):
        if target.is_hip and precision == "tf32x3":
            continue
        P, N, warps, stages = _tiles(target, precision, positions)
        constants = dict(
            CY=192, CX=384, C0=640, C1=512, C2=384, ALL=positions > 16, PRECISION=precision, P=P, N=N, K=_K
        )
        signature = {**pointers, "where": "*i32", "taps": "*i32", **sizes, "slope": "fp32",
                     **dict.fromkeys(constants, "constexpr")}  # fmt: skip
        found.append(Variant(name, _context, signature, constants, options(None, warps, stages), 255, 64 * 1024,
                             (*pointers, "where", "taps")))  # fmt: skip
    return found
