"""Fits a code context of McQuic (fastlic.models.mcquic.context) to the codes of training tiles, which stay."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from tqdm import tqdm

from fastlic.models import McQuic, bfloat16
from fastlic.models.mcquic.context import CodeContext
from fastlic.train import vq_words

_TILES = 8  # encoded at once
_WARMUP, _SAY_EVERY = 50, 20  # steps
_FLOOR = 0.02  # share of the learning rate at which its decay ends


@torch.no_grad()
def finest_codes(model: McQuic, tiles: Tensor) -> Tensor:
    """Codes int64 [n, m, h, w] of the finest level, on the CPU.

    Args:
        tiles: [n, 3, H, W] uint8, sides multiples of the model's stride.
    """
    device = next(model.parameters()).device
    encoder = model._quantizer.encoders[0]
    codes = []
    for some in tiles.split(_TILES):
        x = some.to(device).float().div(127.5).sub(1)
        z = encoder._latentStageEncoder(model._encoder(x))
        codes.append(vq_words.nearest(encoder._quantizationHead(z), encoder._quantizer._codebook).cpu())
    return torch.cat(codes)


def fit(
    codes: Tensor,
    k: int,
    *,
    start: CodeContext | None = None,
    steps: int = 3000,
    positions: int = 4096,
    lr: float = 3e-3,
    seed: int = 1,
    device: str = "cpu",
) -> CodeContext:
    """A context under which codes cost few bits, found with Adam; in eval mode, on the CPU.

    Args:
        codes: int64 [n, m, h, w] of the finest level.
        k: words of a codebook.
        start: a context to begin with, e.g. that of codebooks that have moved a little since.
        positions: in a step.
        lr: falls linearly after the first steps.
    """
    if not len(codes):
        raise ValueError("there are no codes to fit a context to")
    generator = torch.Generator().manual_seed(seed)
    if start is None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            context = CodeContext(codes.shape[1], k)
        _begin_as_shares(context, codes)
    else:
        context = copy.deepcopy(start).train()
    context.to(device)
    rows = context.rows(codes).to(torch.int32).to(device)
    adam = torch.optim.Adam(context.parameters(), lr, betas=(0.9, 0.98), fused=True)
    half = bfloat16.supported(torch.device(device))
    bar = tqdm(range(steps), desc="context", unit="step", leave=False)
    for step in bar:
        rate = lr * min((step + 1) / _WARMUP, 1) * max(1 - step / steps, _FLOOR)
        for group in adam.param_groups:
            group["lr"] = rate
        picked = torch.randint(len(rows), (positions,), generator=generator)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
            bits = context(rows[picked.to(device)].long())
        adam.zero_grad()
        bits.backward()
        adam.step()
        if step % _SAY_EVERY == 0:
            bar.set_postfix_str(f"{bits.item():.2f} bits a position")
    return context.float().cpu().eval()


def _begin_as_shares(context: CodeContext, codes: Tensor) -> None:
    """Logits that know only how often each word is used."""
    with torch.no_grad():
        for group, last in enumerate(context.last):
            counts = torch.bincount(codes[:, group].flatten(), minlength=context.k) + 0.5
            last.bias.copy_((counts / counts.sum()).log())  # type: ignore[operator]
            last.weight.mul_(0.1)  # type: ignore[operator]
