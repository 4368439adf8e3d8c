"""From trained float networks of variable rate to integers: fastlic.entropy.convert with every latent at every gain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from fastlic.entropy.calibration import bottleneck_tables, hyper_medians
from fastlic.entropy.convert import EntropyNetworks, Rate, calibrate, quantise_networks
from fastlic.entropy.fitting import choose_tables, coded_symbols
from fastlic.entropy.scales import SMALLEST, scale_levels
from fastlic.entropy.variable import HyperStep, Layers, VariableRateModel
from fastlic.integers.fixed import fixed_point


@dataclass(frozen=True)
class VariableNetworks:
    """Float networks whose latents are coded in steps of 1 / gain.

    Attributes:
        networks: what is the same at every gain.
        gains: the trained ones, positive.
        hyper_steps: z's step at each of them; empty: always 1.
        shift: from the gain [n, 1] to what is added to the context's output [n, 2M]; or None.
        offsets: linear layers and ReLUs, from (scale in steps, gain) to what magnitudes of symbols lose; or None.
    """

    networks: EntropyNetworks
    gains: tuple[float, ...]
    hyper_steps: tuple[float, ...] = ()
    shift: nn.Linear | None = None
    offsets: nn.Sequential | None = None

    def rates(self) -> list[Rate]:
        """What calibration sees."""
        steps = self.hyper_steps or (1.0,) * len(self.gains)
        return [self._rate(gain, step) for gain, step in zip(self.gains, steps, strict=True)]

    def _rate(self, gain: float, step: float) -> Rate:
        shift = None if self.shift is None else self.shift(torch.tensor([[gain]])).detach()[:, :, None, None]

        def offset(scales: Tensor) -> Tensor:
            assert self.offsets is not None
            scales = scales.clamp_min(SMALLEST).unsqueeze(-1)
            lost: Tensor = self.offsets(torch.cat([scales, torch.full_like(scales, gain)], -1)).squeeze(-1)
            return lost

        return Rate(gain, step, shift, None if self.offsets is None else offset)


@torch.no_grad()
def convert_variable(variable: VariableNetworks, latents: Sequence[Tensor]) -> VariableRateModel:
    """The integers of float networks of variable rate.

    Args:
        variable: in eval mode, on the CPU, float32.
        latents: [1, M, h, w] each, before multiplication by any gain, h and w multiples of 4.

    Raises:
        ValueError: no latents, gains that are not positive, a layer without integer form, or weights whose accumulators
            could leave int32.
    """
    if not latents:
        raise ValueError("calibration needs at least one image")
    gains = np.array(variable.gains, np.float64)
    if not (gains.size and np.isfinite(gains).all() and (gains > 0).all()):
        raise ValueError(f"gains must be positive, got {variable.gains}")
    networks, rates = variable.networks, variable.rates()
    ranges = calibrate(networks, latents, rates)
    shifts = [rate.shift.abs().double().flatten().numpy() for rate in rates if rate.shift is not None]
    base = quantise_networks(networks, ranges, latents[0].shape[1], np.max(shifts, axis=0) if shifts else None)
    shift = None
    if variable.shift is not None and base.context is not None:
        requantiser = base.context.requantiser
        factors = np.ldexp(requantiser.multiplier.astype(np.float64), -requantiser.shift.astype(np.int64))
        linear = variable.shift
        shift = np.stack([t.double().numpy().reshape(-1) for t in (linear.weight, linear.bias)])
        shift = shift / (factors * ranges.scale("context"))
    made: dict[float, HyperStep] = {}
    for step in variable.hyper_steps:
        if step not in made:
            median = hyper_medians(networks.bottleneck, step)
            made[step] = HyperStep(step, bottleneck_tables(networks.bottleneck, median, step), median)
    offsets = None if variable.offsets is None else linear_layers(variable.offsets)
    model = VariableRateModel(base, gains, tuple(made[step] for step in variable.hyper_steps), shift, offsets)
    tables = choose_tables(scale_levels(), _coded(networks, model, latents), each=len(gains))
    return replace(model, base=base.vary(y_tables=tables), _made={})


def linear_layers(network: nn.Module) -> Layers:
    """Weights and biases of linear layers with ReLUs between them.

    Raises:
        ValueError: anything else is in the network.
    """
    layers: list[tuple[np.ndarray, np.ndarray]] = []
    modules = list(network) if isinstance(network, nn.Sequential) else [network]
    for i, module in enumerate(modules):
        if i % 2 == 0 and isinstance(module, nn.Linear) and module.bias is not None:
            layers.append(tuple(t.detach().double().cpu().numpy() for t in (module.weight, module.bias)))  # type: ignore[arg-type]
        elif i % 2 == 0 or not isinstance(module, nn.ReLU) or i == len(modules) - 1:
            raise ValueError(f"the network of offsets is not of linear layers and ReLUs: {module} at {i}")
    return tuple(layers)


def _coded(
    networks: EntropyNetworks, model: VariableRateModel, latents: Sequence[Tensor]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(scale indexes, symbols) of every latent at every gain."""
    for y in latents:
        z = networks.hyper_analysis(y)[0]
        for gain in model.gains.tolist():
            yield coded_symbols(model.at(gain), fixed_point(z / model.hyper_step(gain)), fixed_point(y[0] * gain))
