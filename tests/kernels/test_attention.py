"""Attention on the device: the integers of MLIC's own layers, over maps of more than one block of queries and keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastlic.integers.functions import normalise
from fastlic.kernels.packing import Map, Requantiser
from fastlic.kernels.reference.integer import values_of
from fastlic.models.mlic.attention import HEADS_INTRA
from fastlic.models.mlic.checkerboard import positions

from .test_device_board import SMALL, board_model, engine_of

SIZE = (10, 14)  # 70 positions of each parity: two blocks of the interpreter's
CHANNELS = 8


def entered(values: torch.Tensor, planes: int, device: torch.device, border: int = 0) -> Map:
    """Activations int64 [C, h, w] as a map, unchanged."""
    from fastlic.kernels.convolution import enter

    ones = np.ones(len(values), np.int32)
    same = Requantiser.of(2 * ones, 2 * ones, ones, 16, device)
    return enter(values.permute(1, 2, 0)[None].int().to(device), None, same, border, planes)


def drawn(seed: int, bits: int, extreme: bool, channels: int = CHANNELS) -> torch.Tensor:
    """int64 [channels, h, w] of so many bits, at their limits or anywhere."""
    reach = (1 << (bits - 1)) - 1
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-reach, reach + 1, (channels, *SIZE), generator=generator)
    return values.sign() * reach if extreme else values


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("extreme", [False, True])
def test_attention_within_a_slice_is_the_reference(name, extreme, device):
    from fastlic.kernels import attention

    model, engine = board_model(name), engine_of(board_model(name), device)
    own, bits = engine._made[1].intra, 16 if model.linear else 12
    q, k, v = (drawn(seed, b, extreme) for seed, b in enumerate((bits, bits, 12)))
    to, at = (positions(*SIZE, parity) for parity in (0, 1))
    near = None if model.linear else (to, at, SIZE[1])
    attended = model._attend(
        "intra.1", q.flatten(1)[:, to], k.flatten(1)[:, at], v.flatten(1)[:, at], HEADS_INTRA, near
    )
    wanted = torch.zeros(CHANNELS, SIZE[0] * SIZE[1], dtype=torch.int64)
    wanted[:, to] = attended
    where = attention.Where(0, 1, far=not model.linear)
    given = *(entered(x, 3 if model.linear else 2, device) for x in (q, k)), entered(v, 2, device)
    common = (*given, CHANNELS, HEADS_INTRA, where)
    if model.linear:
        found = attention.linear(*common, own.attended, engine._exp, 0)
    else:
        found = attention.softmax(*common, own.score, own.attended, engine._exp, 0)
    values = values_of(found.planes)[0, ..., :CHANNELS].permute(2, 0, 1).flatten(1).cpu()
    assert torch.equal(values, wanted) and wanted.unique().numel() > 4


def test_layer_norm_is_the_reference(device):
    from fastlic.kernels import attention

    for seed, bits in ((1, 24), (2, 12), (3, 3)):
        x = drawn(seed, bits, extreme=seed == 2, channels=11)
        x[:, 0] = 0
        rows = x.permute(1, 2, 0)[None].int().contiguous().to(device)
        for epsilon in (1, 12345, 2**31 - 1):
            found = attention.normalise(rows[..., 1:10], 9, epsilon)
            wanted = normalise(x[1:10].permute(1, 2, 0), epsilon)
            assert torch.equal(values_of(found.planes)[0, ..., :9].cpu(), wanted)
