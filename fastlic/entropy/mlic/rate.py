"""Estimated bits of coded latents of the MLIC family, without a coder: what the real bytes are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from fastlic.entropy.mlic.model import IntegerMLIC
from fastlic.entropy.passes import Latents, Pass
from fastlic.entropy.rate import bits_of, replay
from fastlic.integers.fixed import MEAN_BITS, reconstruct
from fastlic.models.mlic.checkerboard import anchors
from fastlic.models.mlic.model import MLICPlusPlus


@torch.no_grad()
def float_bits(network: MLICPlusPlus, model: IntegerMLIC, latents: Latents) -> tuple[float, float]:
    """(bits of y, bits of z) under the float entropy model, fed with the latents as coded."""
    before = torch.zeros_like(latents.y)  # before residual prediction: what is coded

    def see(step: Pass, symbols: Tensor) -> None:
        if step.means is not None:
            before.flatten(1)[slice(*step.channels), step.where] = reconstruct(symbols, step.means).T.to(before.dtype)

    replay(model, latents, see)
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
