"""CompressAI's image models at the sizes of their quality 3, with random weights that behave like trained ones.

As in fastlic.lifelike.models: latent channels get the spreads of trained models, and predicted scales and means follow
them. For times and for byte ratios of two coders of the same symbols. ``trained`` has fastlic's own weights.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.lifelike.models import Given, Wish, logistic, photo, rescale, spreads

# Name to (class, arguments), as compressai.zoo builds quality 3; those without weights there as their defaults say.
MODELS: dict[str, tuple[str, tuple[int, ...]]] = {
    "bmshj2018-factorized": ("FactorizedPrior", (128, 192)),
    "bmshj2018-factorized-relu": ("FactorizedPriorReLU", (128, 192)),
    "bmshj2018-hyperprior": ("ScaleHyperprior", (128, 192)),
    "mbt2018-mean": ("MeanScaleHyperprior", (128, 192)),
    "mbt2018": ("JointAutoregressiveHierarchicalPriors", (192, 192)),
    "cheng2020-anchor": ("Cheng2020Anchor", (128,)),
    "cheng2020-attn": ("Cheng2020Attention", (128,)),
    "cheng2020-anchor-checkerboard": ("Cheng2020AnchorCheckerboard", (192,)),
    "elic2022-official": ("Elic2022Official", (192, 320)),
    "elic2022-chandelier": ("Elic2022Chandelier", (192, 320)),
    "bmshj2018-hyperprior-vbr": ("ScaleHyperpriorVbr", (192, 320)),
    "mbt2018-mean-vbr": ("MeanScaleHyperpriorVbr", (192, 320)),
    "mbt2018-vbr": ("JointAutoregressiveHierarchicalPriorsVbr", (192, 320)),
}
_SLOPE = 0.12  # spread of predicted scales and means, in units of the latent's


def _convolutions(network: nn.Module) -> list[Any]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    # Attention at the end passes its input on: what counts is the convolution before it.
    return [m for m in network.children() if isinstance(m, kinds)] or [
        m for m in network.modules() if isinstance(m, kinds)
    ]


@torch.no_grad()
def lively(name: str, size: int | None = None) -> Any:
    """The model of that name in CompressAI's registry; ``size``: that many channels everywhere, for tests.

    Raises:
        ImportError: CompressAI or something that it imports is missing.
    """
    from compressai.registry import MODELS as registry

    _, arguments = MODELS[name]
    torch.manual_seed(0)
    if size is not None:
        arguments = (size,) * len(arguments)
    groups = {"groups": [size // 8, size // 8, size // 4, size // 4, size // 4]} if size and "elic" in name else {}
    model: Any = registry[name](*arguments, **groups).eval()
    image = photo()[None, :, 128:384, 192:576].contiguous()  # a quarter: this is where set-up time goes
    transforms = model.g_a, model.g_s
    model.g_s = Given()
    run = partial(model, image)
    last = _convolutions(model.g_a)[-1]
    y_spread = spreads(last.out_channels, 0)
    if name.endswith("-vbr"):
        y_spread = y_spread / float(model.Gain[1].abs())  # what compress() multiplies latents by unless told otherwise
    rescale([(last, torch.zeros_like(y_spread), y_spread)], lambda: model.g_a(image))
    y = model.g_a(image)
    y_spread = y.std((0, 2, 3))
    model.g_a = Given(y)

    from fastlic.integrations.compressai.layout import hyper_branch

    codec = getattr(model, "latent_codec", None)
    hyper: Any = hyper_branch(codec) if codec is not None else model
    if not hasattr(hyper, "h_a"):
        logistic(model.entropy_bottleneck, y_spread)
    else:
        last = _convolutions(hyper.h_a)[-1]
        z_spread = spreads(last.out_channels, 1) / 2
        rescale([(last, torch.zeros_like(z_spread), z_spread)], run)
        logistic(hyper.bottleneck if codec is not None else hyper.entropy_bottleneck, z_spread)
        rescale(_heads(model, y_spread), run)
    model.g_a, model.g_s = transforms
    model.update(force=True)
    return model


def _heads(model: Any, spread: Tensor) -> list[Wish]:
    """The layers that give scales and means, with what they should give for latents of this spread."""
    found = []
    first = 0
    for module in model.modules():
        if isinstance(getattr(module, "entropy_parameters", None), nn.Sequential):
            layer = _convolutions(module.entropy_parameters)[-1]
            own = spread[first : first + layer.out_channels // 2]
            first += len(own)
            inner = getattr(module, "latent_codec", None)
            chunks = inner["y"].chunks if inner is not None else ("scales", "means")
            found.append((layer, *_targets(own, chunks)))
    if found:
        return found
    layer = _convolutions(model.h_s)[-1]
    chunks = ("scales", "means") if layer.out_channels == 2 * len(spread) else ("scales",)
    return [(layer, *_targets(spread, chunks))]


def _targets(spread: Tensor, chunks: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    means = {"scales": spread, "means": torch.zeros_like(spread)}
    return torch.cat([means[chunk] for chunk in chunks]), torch.cat([_SLOPE * spread] * len(chunks))


@torch.no_grad()
def trained(path: Path, quality: int) -> Any:
    """fastlic's own trained weights as CompressAI's mbt2018 at one quality, M = 192 with narrow transforms.

    The gains become part of g_a's last and g_s's first layer. This is the model whose byte ratios mean something.

    Raises:
        ImportError: CompressAI or something that it imports is missing.
    """
    from compressai.layers import GDN
    from compressai.models import JointAutoregressiveHierarchicalPriors
    from compressai.models.utils import conv, deconv

    from fastlic.models.state_files import read_weights

    state = {name: tensor.float() for name, tensor in read_weights(path).items()}
    gain, inverse = (state.pop(f"gain.log_{way}")[quality - 1].exp() for way in ("gain", "inverse"))
    state.pop("gain.worth", None)  # CompressAI's encoder rounds to the nearest
    state["g_a.6.weight"] *= gain[:, None, None, None]
    state["g_a.6.bias"] *= gain
    state["g_s.0.weight"] *= inverse[:, None, None, None]
    latent, hyper = state["h_a.0.weight"].shape[1], state["h_a.0.weight"].shape[0]
    a, b, c = (state[f"g_a.{i}.bias"].shape[0] for i in (0, 2, 4))
    model = JointAutoregressiveHierarchicalPriors(hyper, latent)
    model.g_a = nn.Sequential(conv(3, a), GDN(a), conv(a, b), GDN(b), conv(b, c), GDN(c), conv(c, latent))
    model.g_s = nn.Sequential(
        *(deconv(latent, c), GDN(c, inverse=True), deconv(c, b), GDN(b, inverse=True)),
        *(deconv(b, a), GDN(a, inverse=True), deconv(a, 3)),
    )
    missing, unknown = nn.Module.load_state_dict(model, state, strict=False)
    lost = [name for name in missing if name.split(".")[-1] in ("weight", "bias", "beta", "gamma", "quantiles")]
    if unknown or lost:
        raise ValueError(f"{path} is no checkpoint of jahp: it lacks {lost} and has {unknown}")
    model.eval().update(force=True)
    return model
