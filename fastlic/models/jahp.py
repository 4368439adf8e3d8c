"""JAHP: joint autoregressive and hierarchical priors (Minnen, Ballé, Toderici 2018), CompressAI's ``mbt2018`` keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.models.density import add_noise, round_ste
from fastlic.models.hyperprior import MeanScaleHyperprior
from fastlic.models.layers import LEAKY_SLOPE, MaskedConv2d, hyper_analysis, hyper_synthesis


@dataclass(frozen=True)
class Sizes:
    """Channels inside the entropy model.

    Attributes:
        hyper: outputs of the three layers of h_s.
        context: outputs of the context model.
        parameters: the two hidden layers behind both.
    """

    hyper: tuple[int, int, int]
    context: int
    parameters: tuple[int, int]

    @property
    def all(self) -> tuple[int, ...]:
        """Every size, layer by layer."""
        return (*self.hyper, self.context, *self.parameters)

    def products(self, n: int, m: int) -> int:
        """Multiplications for each position of a latent of ``m`` channels, whose hyper latent has ``n``."""
        (a, b, c), (first, second) = self.hyper, self.parameters
        h_s = 25 * n * a // 16 + 25 * a * b // 4 + 9 * b * c  # of a 16th, a quarter and all positions
        return h_s + 12 * m * self.context + (c + self.context) * first + first * second + second * 2 * m

    @classmethod
    def published(cls, m: int) -> Sizes:
        """Those of Minnen et al. for a latent of ``m`` channels."""
        return cls((m, m * 3 // 2, 2 * m), 2 * m, (10 * m // 3, 8 * m // 3))

    @classmethod
    def of(cls, given: Mapping[str, Any] | None, m: int) -> Sizes:
        """From names and numbers, as configurations store them; published ones where a name is not there.

        Raises:
            ValueError: a name that there is not, or another number of layers.
        """
        default = asdict(cls.published(m))
        if unknown := sorted(set(given or {}) - set(default)):
            raise ValueError(f"sizes know {', '.join(default)}; got {', '.join(unknown)}")
        for name, value in (given or {}).items():
            listed = isinstance(value, (list, tuple))
            if listed != (name != "context") or (listed and len(value) != len(default[name])):
                wanted = "one number" if name == "context" else f"{len(default[name])} numbers"
                raise ValueError(f"{name} of sizes takes {wanted}, got {value!r}")
            default[name] = tuple(value) if listed else value
        return cls(**default)


class JAHP(MeanScaleHyperprior):
    """The mean-scale hyperprior with a 5x5 causal context model fused by 1x1 convolutions.

    Arguments as for :class:`MeanScaleHyperprior`; ``JAHP(192, 192)`` and ``JAHP(192, 320)`` are CompressAI's sizes.
    ``sizes`` are those of narrower entropy networks, ``{"hyper": [96, 96, 128], "context": 128, "parameters": [256,
    256]}`` say (:class:`Sizes`); a name that is left out stands for the published size.
    """

    family = "jahp"

    def __init__(
        self,
        N: int,
        M: int,
        widths: tuple[int, int, int] | None = None,
        qualities: int = 0,
        sizes: Mapping[str, Any] | None = None,
    ) -> None:
        self.sizes = Sizes.of(sizes, M)
        super().__init__(N, M, widths, qualities)
        first, second = self.sizes.parameters
        self.entropy_parameters = nn.Sequential(
            nn.Conv2d(self.sizes.hyper[-1] + self.sizes.context, first, 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(first, second, 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(second, 2 * M, 1),
        )
        self.context_prediction = MaskedConv2d(M, self.sizes.context)

    def _hyper_networks(self) -> tuple[nn.Sequential, nn.Sequential]:
        return hyper_analysis(self.M, self.N), hyper_synthesis(self.M, self.N, self.sizes.hyper)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as they travel in a saved codec; ``sizes`` only where they are not published."""
        if self.sizes == Sizes.published(self.M):
            return super().config
        sizes = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self.sizes).items()}
        return super().config | {"sizes": sizes}

    @staticmethod
    def infer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Constructor arguments read off the shapes of a state dict. Raises ValueError as ``Hyperprior``'s does."""
        config = MeanScaleHyperprior.infer_config(state)
        names = ["h_s.0", "h_s.2", "h_s.4", "context_prediction", "entropy_parameters.0", "entropy_parameters.2"]
        biases = [state.get(f"{name}.bias") for name in names]
        if any(bias is None for bias in biases):
            return config  # what is missing is told where the weights are loaded
        a, b, c, context, first, second = (len(bias) for bias in biases if bias is not None)
        sizes = Sizes((a, b, c), context, (first, second))
        if sizes != Sizes.published(config["M"]):
            config["sizes"] = {"hyper": [a, b, c], "context": context, "parameters": [first, second]}
        return config

    def code_latent(self, y: Tensor, z_hat: Tensor, worth: Tensor | float | None = None) -> tuple[Tensor, Tensor]:
        """(y_hat, likelihoods of y); the context sees y + noise while training and round(y) otherwise.

        The sequential truth, where the context sees round(y - mean) + mean, is the schedule's
        (fastlic.entropy.wavefront); this parallel pass is the usual estimate of it. With ``worth`` the context sees
        what a first such pass made of y, as many values there are not what is nearest to y.
        """
        hyper = self.h_s(z_hat)
        if worth is not None:
            with torch.no_grad():
                scales, means = self._scales_and_means(hyper, torch.round(y))
                seen = self.gaussian_conditional.rounded(y, scales, means, worth)
            scales, means = self._scales_and_means(hyper, y + (seen - y).detach())
            y_hat, likelihoods = self.gaussian_conditional(y, scales, means, worth)
            return y_hat, likelihoods
        noisy = add_noise(y) if self.training else torch.round(y)
        scales, means = self._scales_and_means(hyper, noisy)
        if self.training:
            y_hat = round_ste(y - means) + means
            return y_hat, self.gaussian_conditional.likelihood(noisy, scales, means)
        rounded = torch.round(y - means) + means
        return noisy, self.gaussian_conditional.likelihood(rounded, scales, means)

    def _scales_and_means(self, hyper: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """(scales, means) from h_s's features and the latent that the context sees."""
        features = torch.cat([hyper, self.context_prediction(latent)], dim=1)
        scales, means = self.entropy_parameters(features).chunk(2, dim=1)
        return scales, means
