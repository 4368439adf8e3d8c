"""A code context learns what codes say about their neighbours, and ships with the codec."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.models import McQuic
from fastlic.models.mcquic.context import OFFSETS, CodeContext
from fastlic.train import code_context
from fastlic.train.export import read_context


def walks(images: int, seed: int, k: int = 9) -> Tensor:
    """Codes [n, 2, 12, 12]: the first group walks along rows by -1, 0 or 1, the second repeats the first."""
    steps = torch.randint(-1, 2, (images, 1, 12, 12), generator=torch.Generator().manual_seed(seed))
    first = steps.cumsum(3) % k
    return torch.cat([first, first], 1)


@torch.no_grad()
def bits_per_code(context: CodeContext, codes: Tensor) -> Tensor:
    """[m]: mean information of the codes of each group."""
    rows = context.rows(codes)
    nats = [F.cross_entropy(context.logits(rows, g), rows[:, g - context.m]) for g in range(context.m)]
    return torch.stack(nats) / math.log(2)


def test_a_fitted_context_halves_the_bits_of_codes_that_it_has_not_seen():
    context = code_context.fit(walks(40, 0), 9, steps=120, positions=512, lr=1e-2)
    first, second = bits_per_code(context, walks(10, 1)).tolist()
    marginal = torch.log2(torch.tensor(9.0)).item()
    assert first < 0.75 * marginal  # log2(3) = half of it, but for the first column
    assert second < 0.2 * marginal


def test_a_fit_is_repeatable_and_leaves_the_generator_of_others_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two = (code_context.fit(walks(4, 0), 9, steps=3, positions=64) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_no_codes_are_an_error():
    with pytest.raises(ValueError, match="no codes"):
        code_context.fit(walks(0, 0), 9, steps=1)


def test_finest_codes_are_those_that_the_model_gives():
    torch.manual_seed(0)
    model = McQuic(8, 2, [16, 8]).eval()
    tiles = torch.randint(0, 256, (9, 3, 64, 64), dtype=torch.uint8)
    expected = model.encode(tiles.float() / 127.5 - 1, model.stride)[0]
    assert torch.equal(code_context.finest_codes(model, tiles), expected)


def test_a_fit_may_go_on_from_a_context_which_stays_as_it_is():
    start = code_context.fit(walks(40, 0), 9, steps=60, positions=512, lr=1e-2)
    kept = {name: value.clone() for name, value in start.state_dict().items()}
    further = code_context.fit(walks(40, 0), 9, start=start, steps=60, positions=512, lr=1e-2)
    assert all(torch.equal(value, kept[name]) for name, value in start.state_dict().items())
    held_out = walks(10, 1)
    assert bits_per_code(further, held_out).sum() < bits_per_code(start, held_out).sum()


def test_a_context_looks_at_decoded_positions_alone():
    context = CodeContext(2, 5, depth=3, width=4)
    codes = torch.randint(0, 5, (1, 2, 6, 6), generator=torch.Generator().manual_seed(0))
    changed = codes.clone()
    changed[:, :, 3, 4:] = 4 - changed[:, :, 3, 4:]
    changed[:, :, 4:] = 4 - changed[:, :, 4:]
    at = 3 * 6 + 3
    for group in range(2):
        before, after = (context.logits(context.rows(c), group) for c in (codes, changed))
        assert torch.equal(before[: at + 1], after[: at + 1])
    assert len(OFFSETS) == 4


def test_weights_of_something_else_are_refused(tmp_path: Path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not a state dict of a code context"):
        read_context(tmp_path / "other.safetensors")
    state = CodeContext(2, 5, depth=3, width=4).state_dict()
    del state["last.1.bias"]
    with pytest.raises(ValueError, match=r"last\.1\.bias"):
        CodeContext.from_state_dict(state)
