"""Convolutions of float maps as CompressAI's transforms have them, beside torch's.

One thread, CPU time. G: billions of products of the plain algorithm. Notes: how far numbers are from float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F

from fastlic.bench.runner import Case, Wanted, offered, one_thread
from fastlic.ops.float_convolution import convolution

# By way: side of the kernel, stride, and whether it is transposed.
_KINDS = {"plain": (3, 1, False), "halving": (5, 2, False), "doubling": (5, 2, True)}
# Kind, inputs, outputs, and rows and columns of the map that is read, of images of 512x768.
_LAYERS = [
    ("plain", 32, 32, 128, 192),
    ("plain", 64, 64, 128, 192),
    ("plain", 128, 128, 128, 192),
    ("plain", 192, 192, 64, 96),
    ("plain", 192, 192, 16, 24),
    ("plain", 192, 12, 256, 384),
    ("halving", 128, 128, 256, 384),
    ("halving", 192, 192, 128, 192),
    ("halving", 192, 320, 64, 96),
    ("doubling", 320, 192, 32, 48),
    ("doubling", 192, 192, 64, 96),
    ("doubling", 128, 128, 128, 192),
]


def cases(wanted: Wanted) -> Iterator[Case]:
    for layer, names in offered(wanted, _LAYERS, "float convolution {}, {} to {} channels, {}x{}", ("",)):
        yield _case(names[""], *layer)


@one_thread()
def _case(name: str, kind: str, inputs: int, outputs: int, rows: int, columns: int) -> Case:
    side, stride, transposed = _KINDS[kind]
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator)
    x = draw(1, inputs, rows, columns).contiguous(memory_format=torch.channels_last)
    weight = draw(*((inputs, outputs) if transposed else (outputs, inputs)), side, side)
    if transposed:
        plain = partial(F.conv_transpose2d, x, weight, None, stride, side // 2, output_padding=1)
    else:
        plain = partial(F.conv2d, x, weight, None, stride, side // 2)
    products = inputs * outputs * side**2 * rows * columns / (1 if transposed else stride**2)
    own = partial(convolution, x, weight, None, stride, transposed, threads=1)
    exact = convolution(x, weight, None, stride, transposed, backend="reference")
    lost = [float((found() - exact).abs().max() / exact.abs().max()) for found in (own, plain)]
    note = "off by {:.0e} of the largest value, torch by {:.0e}".format(*lost)
    return Case(name, own, products / 1e9, "G", one_thread()(plain), "torch", note=note)
