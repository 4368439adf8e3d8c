"""The coding schedule of channel groups, written once for both directions: z, then each group's passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastlic.entropy.passes import Latents, Pass, Schedule, hyper_pass
from fastlic.integers.fixed import reconstruct
from fastlic.models.mlic.checkerboard import positions

if TYPE_CHECKING:
    from fastlic.entropy.groups.model import IntegerGroups


def groups_schedule(model: IntegerGroups, height: int, width: int) -> Schedule:
    """Passes for a latent of height x width; each is a section of its own."""
    z = yield from hyper_pass(model.hyper_channels, height, width)
    hyper = model.hyper_features(z, height, width)
    y = torch.zeros(model.latent_channels, height, width, dtype=torch.int64)
    decoded: list[Tensor] = []  # activations of finished groups
    section = 1
    for index, group in enumerate(model.groups):
        first = model.first_channel(index)
        channels = (first, first + group.channels)
        latent = y[slice(*channels)]  # a view: filled in below
        known = [model.channel(index, decoded), hyper] if index else [hyper]
        for turn in range(group.passes):
            at = torch.arange(height * width)
            if group.parity is not None:
                at = positions(height, width, (group.parity + turn) % 2)
                context = torch.zeros(model.context_channels(index), height, width, dtype=torch.int64)
                if turn == 1:
                    context = model.context(index, model.latent_input(index, latent))
                maps = torch.cat([context, *known])
                # 1x1 layers from here on: other positions need not be looked at.
                joined = maps.flatten(1)[:, at, None]
            else:
                joined = torch.cat(known)
            scales, means = (x.flatten(1).T for x in model.parameters(index, joined))
            symbols = yield Pass(section, at, channels, model.scale_indexes(scales), means)
            latent.flatten(1)[:, at] = reconstruct(symbols, means).T
            section += 1
        decoded.append(model.latent_input(index, latent))
    return Latents(z, y)
