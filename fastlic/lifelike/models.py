"""Full-size models whose random weights behave like trained ones: for timing and byte ratios, never for quality.

Random initial weights give latents that are all zero and scales outside the table. Here the last layer of each network
is rescaled on the demonstration photo: latent channels get the spreads of trained models, and the predicted scales and
means follow them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from numpy.typing import NDArray
from torch import Tensor

from fastlic.codec.calibration import default_calibration
from fastlic.models import JAHP, McQuic, MeanScaleHyperprior, MLICPlusPlus
from fastlic.models.density import EntropyBottleneck
from fastlic.models.mlic import Sizes


def photo() -> Tensor:
    """The demonstration photo at Kodak's size, float [3, 512, 768] in [0, 1]."""
    return nn.functional.interpolate(default_calibration()[0][None], (512, 768), mode="bilinear", antialias=True)[0]


def spreads(channels: int, seed: int) -> Tensor:
    """Standard deviations [channels]: 60 % in 0.11..0.3, 30 % in 0.3..2, 10 % in 2..20, log-uniform."""
    return torch.from_numpy(draw_spreads(channels, np.random.default_rng(seed))).float()


def draw_spreads(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The same in float64."""
    kind = rng.random(count)
    low = np.where(kind < 0.6, 0.11, np.where(kind < 0.9, 0.3, 2.0))
    high = np.where(kind < 0.6, 0.3, np.where(kind < 0.9, 2.0, 20.0))
    spreads: NDArray[np.float64] = low * (high / low) ** rng.random(count)
    return spreads


class Given(nn.Module):
    """Stands in for a transform whose result is known, or that hands on what it gets."""

    def __init__(self, value: Tensor | None = None) -> None:
        super().__init__()
        self.value, self.place = value, nn.Parameter(torch.zeros(0))

    def forward(self, x: Tensor) -> Tensor:
        return x if self.value is None else self.value


Wish = tuple[Any, Tensor, Tensor]  # a convolution, and means and deviations [channels] that its outputs should have


def rescale(wishes: list[Wish], run: Callable[[], object]) -> None:
    """Give the outputs of convolutions that ``run`` executes these means and deviations, over all of its calls."""
    seen: list[list[Tensor]] = [[] for _ in wishes]
    hooks = [
        layer.register_forward_hook(lambda _module, _inputs, output, into=into: into.append(output))
        for (layer, _, _), into in zip(wishes, seen, strict=True)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    for (layer, mean, std), outputs in zip(wishes, seen, strict=True):
        _adjust(layer, torch.cat([output.transpose(0, 1).flatten(1) for output in outputs], 1), mean, std)


def _adjust(layer: Any, values: Tensor, mean: Tensor, std: Tensor, least: float = 1e-9) -> tuple[Tensor, Tensor]:
    """Change weights and biases so that outputs [channels, n] get that mean and deviation; returns (old mean, gain)."""
    old, gain = values.mean(1), std / (values.std(1) + least)
    along = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    layer.weight.data *= gain.reshape([-1 if d == along else 1 for d in range(layer.weight.ndim)])
    layer.bias.data = (layer.bias.data - old) * gain + mean
    return old, gain


@torch.no_grad()
def logistic(density: EntropyBottleneck, spread: Tensor) -> None:
    """A logistic density of each channel's spread: the network is linear but for its tanh factors, which start at 0."""
    slope = math.pi / math.sqrt(3) / spread.clamp_min(0.15)
    first = density.matrices[0]
    first.data = torch.log(torch.expm1(nn.functional.softplus(first.data) * 10 * slope[:, None, None]))
    for bias in density.biases:
        bias.data.zero_()


@torch.no_grad()
def lifelike(cls: type[MeanScaleHyperprior] = JAHP, N: int = 192, M: int = 192, seed: int = 0) -> MeanScaleHyperprior:
    """A model of that size; ``lifelike(JAHP, 192, 192)`` is CompressAI's mbt2018 at its lower qualities."""
    torch.manual_seed(seed)
    model = cls(N, M).eval()
    image = photo()[None]
    y_spread, z_spread = spreads(M, seed), spreads(N, seed + 1) / 2
    rescale([(model.g_a[-1], torch.zeros(M), y_spread)], lambda: model.g_a(image))
    y = model.g_a(image)
    rescale([(model.h_a[-1], torch.zeros(N), z_spread)], lambda: model.h_a(y))
    z_hat = torch.round(model.h_a(y))
    logistic(model.entropy_bottleneck, z_spread)
    head_mean = torch.cat([y_spread, torch.zeros(M)])
    head_std = torch.cat([0.3 * y_spread, 0.3 * y_spread])
    last = model.entropy_parameters[-1] if isinstance(model, JAHP) else model.h_s[-1]
    rescale([(last, head_mean, head_std)], lambda: model.code_latent(y, z_hat))
    return model


@torch.no_grad()
def enliven(model: MLICPlusPlus, x: Tensor, y_spread: Tensor, z_spread: Tensor) -> Tensor:
    """Rescale a random model of the MLIC family, in place, on images x [N, 3, H, W]; returns their latent.

    Latents get the given deviations, z a density of its own, every layer of the entropy model outputs of deviation 1;
    scales follow ``y_spread``, and predicted means are a third of it: as unhelpful as a context can be, but alive
    everywhere.
    """
    done: set[str] = set()
    c = model.slice_channels
    spread_of = {_last_name(model.g_a, "g_a"): y_spread, _last_name(model.h_a, "h_a"): z_spread}
    if model.early:  # it begins without an eye for its context
        model.entropy_parameters_early.fusion[0].reset_parameters()  # type: ignore[operator, union-attr, index]

    def target(name: str, channels: int) -> tuple[Tensor, Tensor]:
        if name.startswith("entropy_parameters") and name.endswith("fusion.6"):
            index = 0 if "_early." in name else int(name.split(".")[1])
            spread = y_spread[index * c : index * c + c]
            return torch.cat([spread, torch.zeros(c)]), torch.cat([spread, spread]) / 3
        return torch.zeros(channels), spread_of.get(name, torch.ones(channels))

    def adjust(name: str, module: nn.Module, _inputs: object, output: Tensor) -> Tensor | None:
        if name in done:
            return None
        done.add(name)
        dim = output.ndim - 1 if isinstance(module, nn.Linear) else 1
        values = output.movedim(dim, 0).flatten(1)
        shape = [-1 if d == dim else 1 for d in range(output.ndim)]
        mean, std = target(name, len(values))
        old, gain = (t.reshape(shape) for t in _adjust(module, values, mean, std, 1e-6))
        return (output - old) * gain + mean.reshape(shape)

    whole = (f"g_s{'' if model.narrow else '.synthesis_transform'}", "entropy_bottleneck")
    hooks = [
        module.register_forward_hook(partial(adjust, name))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and not name.startswith(whole)
    ]
    quality = (1 + model.qualities) / 2 if model.qualities else None
    y = model.g_a(x) * model.gains(quality, len(x))[0]
    model.code_latent(y, torch.round(model.h_a(y)))
    for hook in hooks:
        hook.remove()
    logistic(model.entropy_bottleneck, z_spread)
    return y


def _last_name(network: nn.Module, prefix: str) -> str:
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    return f"{prefix}.{names[-1]}"


def lifelike_mlic(
    cls: type[MLICPlusPlus] = MLICPlusPlus, N: int = 192, M: int = 320, seed: int = 0, **rest: Any
) -> MLICPlusPlus:
    """A model of published size; ``lifelike_mlic()`` is MLIC++ with its 83.5 M parameters.

    Args:
        rest: further arguments of ``cls``.
    """
    torch.manual_seed(seed)
    model = cls(N, M, **rest).eval()
    enliven(model, photo()[None, :, :256, :256], spreads(M, seed), spreads(N, seed + 1) / 2)
    return model


def small_mlic(cls: type[MLICPlusPlus] = MLICPlusPlus, qualities: int = 2, seed: int = 5, **rest: Any) -> MLICPlusPlus:
    """A model of two slices with narrow transforms, for tests: quick, and alive in every part.

    Args:
        rest: further arguments of ``cls``.
    """
    torch.manual_seed(seed)
    sizes = Sizes((16, 12, 8), (10, 12, 6), (12, 6), (14, 8), (16, 12, 10), (12, 8))
    model = cls(8, 32, (4, 6, 8), qualities, slices=2, sizes=sizes, **rest).eval()
    enliven(model, photo()[None, :, 128:256, 256:448], torch.linspace(0.2, 3, 32), torch.linspace(0.3, 2, 8))
    return model


@torch.no_grad()
def lifelike_mcquic(channel: int, m: int, k: tuple[int, ...], image: Tensor, seed: int = 0) -> McQuic:
    """A model of that size whose words are drawn with the spread of what they quantise of ``image`` [3, H, W]."""
    torch.manual_seed(seed)
    model = McQuic(channel, m, list(k)).eval()

    def spread(_module: nn.Module, _inputs: object, head: Tensor, book: Tensor) -> None:
        """Of the words [m, k, d]; the head is [1, m * d, h, w]."""
        channels = head[0].flatten(1).reshape(book.shape[0], 1, book.shape[2], -1)
        book.copy_(channels.mean(-1) + channels.std(-1) * torch.randn(book.shape))

    hooks = [
        encoder._quantizationHead.register_forward_hook(partial(spread, book=encoder._quantizer._codebook))
        for encoder in model._quantizer.encoders
    ]
    model.encode(image[None] * 2 - 1)
    for hook in hooks:
        hook.remove()
    return model
