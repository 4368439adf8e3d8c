"""Estimated bits of coded latents of the MLIC family, without a coder: what the real bytes are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from fastlic.entropy.checkerboard.passes import Pass
from fastlic.entropy.mlic.model import IntegerMLIC
from fastlic.entropy.mlic.schedule import mlic_schedule
from fastlic.entropy.rate import bits_of, coded_bits
from fastlic.entropy.schedule import Latents
from fastlic.integers.fixed import MEAN_BITS, reconstruct
from fastlic.models.mlic.checkerboard import anchors
from fastlic.models.mlic.model import MLICPlusPlus
from fastlic.ops.rans import CdfTables


def _passes(model: IntegerMLIC, z: Tensor, symbols: Tensor) -> list[tuple[Pass, Tensor]]:
    """Every pass with its symbols; z [N, hz, wz] and symbols [M, h, w] as they were coded."""
    flat = [t.flatten(1).T for t in (z, symbols)]
    schedule = mlic_schedule(model, *symbols.shape[1:])
    step, passes = next(schedule), []
    while True:
        values = flat[step.section][step.where, slice(*step.channels)]
        passes.append((step, values))
        try:
            step = schedule.send(values)
        except StopIteration:
            return passes


@torch.no_grad()
def table_bits(model: IntegerMLIC, z: Tensor, symbols: Tensor, tables: CdfTables | None = None) -> tuple[float, float]:
    """(bits of y, bits of z) under the integer path's tables, or under other ``tables`` of y."""
    totals = [0.0, 0.0]
    for step, values in _passes(model, z, symbols):
        rows = (model.z_tables, tables or model.y_tables)[step.section]
        totals[step.section] += coded_bits(rows, step.indexes.numpy().ravel(), values.numpy().ravel())
    return totals[1], totals[0]


@torch.no_grad()
def float_bits(network: MLICPlusPlus, model: IntegerMLIC, latents: Latents, symbols: Tensor) -> tuple[float, float]:
    """(bits of y, bits of z) under the float entropy model, fed with the latents as coded."""
    before = torch.zeros_like(latents.y)  # before residual prediction: what is coded
    for step, values in _passes(model, latents.z, symbols):
        if step.means is not None:
            before.flatten(1)[slice(*step.channels), step.where] = reconstruct(values, step.means).T
    y, target = ((t.double() / 2**MEAN_BITS).float()[None] for t in (latents.y, before))
    medians = (network.entropy_bottleneck.medians * 2**MEAN_BITS).round() / 2**MEAN_BITS
    z = latents.z.float()[None] + medians[:, None, None]
    hyper = network.h_s(z)[:, :, : y.shape[2], : y.shape[3]]
    total = 0.0
    decoded: list[Tensor] = []
    for index, (whole, coded) in enumerate(
        zip(y.chunk(network.slices, 1), target.chunk(network.slices, 1), strict=True)
    ):
        past = [*network.past_contexts(index, decoded), hyper]
        near = network.near_contexts(index, decoded, anchors(whole))
        first = network.entropy_parameters_anchor[index](torch.cat(past, 1))
        if network.early and index == 0:
            first = network.refined_anchors(first, coded, hyper)
        heads = (
            first,
            network.entropy_parameters_nonanchor[index](torch.cat([*near, *past], 1)),
        )
        is_anchor = anchors(torch.ones_like(whole)) > 0
        scales, means = torch.where(is_anchor.repeat(1, 2, 1, 1), *heads).chunk(2, 1)
        total += bits_of(network.gaussian_conditional.likelihood(coded, scales, means))
        decoded.append(whole)
    return total, bits_of(network.entropy_bottleneck.likelihood(z))
