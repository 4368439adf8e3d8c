"""The coding schedule of the MLIC family, written once for both directions: z, then slices x (anchors, others).

Where a model has an early context, the first slice's anchors are two passes: those of even rows, then those of odd
rows, which know them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastlic.entropy.passes import Latents, Pass, Schedule, hyper_pass
from fastlic.integers.fixed import reconstruct
from fastlic.models.mlic.checkerboard import positions

if TYPE_CHECKING:
    from fastlic.entropy.mlic.model import IntegerMLIC

ANCHORS, OTHERS, EARLY = "a", "n", "e"  # EARLY: anchors that know the early context


def _pass(
    model: IntegerMLIC, which: str, index: int, at: Tensor, contexts: list[Tensor], latent: Tensor, coded: Tensor
) -> Generator[Pass, Tensor, None]:
    """Codes the positions ``at`` of slice ``index`` into latent [C, h * w]; no positions are no pass.

    coded: [C, h * w], gets the symbols.
    """
    if not len(at):
        return
    c = model.slice_channels
    given = torch.cat([context.flatten(1)[:, at] for context in contexts]).T
    scales, shift = model.parameters(which, index, given)
    symbols = yield Pass(1, at, (index * c, index * c + c), model.scale_indexes(scales), shift)
    coded[:, at] = symbols.T
    latent[:, at] = reconstruct(symbols, shift).T


def mlic_schedule(model: IntegerMLIC, height: int, width: int) -> Schedule:
    """Passes for a latent of height x width, 2 or more positions."""
    c = model.slice_channels
    z = yield from hyper_pass(model.hyper_channels, height, width)
    hyper = model.hyper_features(z, height, width)
    means = hyper[model.latent_channels :]  # what residual prediction reads of it
    y = torch.zeros(model.latent_channels, height, width, dtype=torch.int64)
    symbols = torch.zeros_like(y)
    decoded: list[Tensor] = []  # activations of finished slices
    where = {which: positions(height, width, parity) for which, parity in ((ANCHORS, 1), (OTHERS, 0))}
    for index in range(model.slices):
        own = slice(index * c, index * c + c)
        latent, coded = y[own].reshape(c, -1), symbols[own].reshape(c, -1)  # views: filled in below
        past = []
        if index:
            joined = torch.cat(decoded)
            past = [model.channel(index, joined)]
            if model.family != "mlic":
                past.insert(0, model.inter(index, joined))
        contexts = [*past, hyper]
        for which in (ANCHORS, OTHERS):
            at = where[which]
            current = latent.reshape(c, height, width)
            if which == OTHERS:
                activations = model.latent_input(index, current)
                near = [model.local(index, current, activations)]
                if index:
                    near.append(model.intra(index, decoded[-1], activations))
                contexts = [*near, *contexts]
            if which == ANCHORS and index == 0 and model.early:
                even = at // width % 2 == 0
                yield from _pass(model, ANCHORS, 0, at[even], contexts, latent, coded)
                refined = [model.early_context(model.latent_input(0, current)), hyper]
                yield from _pass(model, EARLY, 0, at[~even], refined, latent, coded)
            else:
                yield from _pass(model, which, index, at, contexts, latent, coded)
            joined = torch.cat([means, *decoded, model.latent_input(index, current)])
            latent[:, at] += model.residue(which, index, joined).flatten(1)[:, at]
        decoded.append(model.latent_input(index, latent.reshape(c, height, width)))
    return Latents(z, y, symbols)
