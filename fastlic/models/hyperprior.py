"""Hyperpriors: scales alone (Ballé et al. 2018) and means with scales (Minnen et al. 2018), CompressAI's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from typing_extensions import Self

from fastlic.models.density import EntropyBottleneck, GaussianConditional
from fastlic.models.gain import Gain
from fastlic.models.layers import (
    analysis_transform,
    conv,
    deconv,
    hyper_analysis,
    hyper_synthesis,
    synthesis_transform,
)
from fastlic.models.sizes import build


class Hyperprior(nn.Module):
    """What the models of this family share: transforms, hyper latent, gains; subclasses say what h_s predicts.

    Args:
        N: channels of the hyper latent, and of the transforms unless ``widths`` says otherwise.
        M: channels of the latent.
        widths: channels of the three inner stages of g_a (g_s mirrors them); default (N, N, N).
        qualities: number of trained qualities served by gain vectors; 0 builds the plain fixed-rate model.
    """

    family = ""
    hyper_of_magnitude = False  # whether h_a reads |y|
    stride = 64  # z is at 1/64 of the image, so images are padded to multiples of it

    def __init__(self, N: int, M: int, widths: tuple[int, int, int] | None = None, qualities: int = 0) -> None:
        super().__init__()
        self.N, self.M = N, M
        a, b, c = widths if widths is not None else (N, N, N)
        self.widths = (a, b, c)
        self.qualities = qualities
        self.g_a = analysis_transform(self.widths, M)
        self.g_s = synthesis_transform(self.widths, M)
        self.h_a, self.h_s = self._hyper_networks()
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.gaussian_conditional = GaussianConditional()
        self.gain = Gain(qualities, M) if qualities else None

    def _hyper_networks(self) -> tuple[nn.Sequential, nn.Sequential]:
        raise NotImplementedError

    def hyper_analysis(self, y: Tensor) -> Tensor:
        """The hyper latent before rounding: y [N, M, h, w] -> [N, C, h/4, w/4]."""
        z: Tensor = self.h_a(y.abs() if self.hyper_of_magnitude else y)
        return z

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as they travel in a saved codec."""
        return {"N": self.N, "M": self.M, "widths": list(self.widths), "qualities": self.qualities}

    @staticmethod
    def infer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Constructor arguments read off the shapes of a state dict.

        Raises:
            ValueError: a key that every such model has is missing.
        """
        needed = ["g_a.0.weight", "g_a.2.weight", "g_a.4.weight", "g_a.6.weight", "h_a.0.weight"]
        if missing := [key for key in needed if key not in state]:
            raise ValueError(f"not a state dict of this model: {', '.join(missing)} missing; got {len(state)} keys")
        widths = tuple(state[key].shape[0] for key in needed[:3])
        gain = state.get("gain.log_gain")
        return {
            "N": state["h_a.0.weight"].shape[0],
            "M": state["g_a.6.weight"].shape[0],
            "widths": widths,
            "qualities": 0 if gain is None else gain.shape[0],
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Self:
        """A model of the right size with the given weights, a CompressAI checkpoint included.

        Tables that CompressAI's ``update()`` stored are carried along unchanged; constant buffers may be left out.

        Raises:
            ValueError: keys are missing, unknown, or of the wrong shape; the message lists them.
        """
        model = build(cls, None, state)
        for name, buffer in model.named_buffers():
            if name in state and buffer.numel() == 0:  # sized by update(), so empty in a new model
                owner, _, leaf = name.rpartition(".")
                setattr(model.get_submodule(owner), leaf, torch.empty_like(state[name]))
        try:
            constants = {name: buffer for name, buffer in model.named_buffers() if name not in state}
            model.load_state_dict({**constants, **state})
        except RuntimeError as error:
            raise ValueError(f"state dict does not fit {cls.__name__}: {error}") from error
        return model.eval()

    def gains(self, quality: Tensor | float | None, batch: int) -> tuple[Tensor | float, Tensor | float]:
        """(forward, inverse) gain factors, each [N, M, 1, 1], or 1.0 for a fixed-rate model."""
        if self.gain is None:
            if quality is not None:
                raise ValueError("this model has one fixed rate: leave quality out")
            return 1.0, 1.0
        if quality is None:
            raise ValueError(f"this model serves qualities 1..{self.qualities}: say which")
        levels = self._levels(quality, batch)
        return self.gain(levels), self.gain.inverse(levels)

    def worths(self, quality: Tensor | float | None, batch: int) -> Tensor | None:
        """Bits that a unit of squared error of the latent is worth [N, 1, 1, 1]; None: rounding is to the nearest."""
        if self.gain is None or not self.gain.has_zones:
            return None
        return self.gain.worths(self._levels(quality, batch))

    def _levels(self, quality: Tensor | float | None, batch: int) -> Tensor:
        assert self.gain is not None
        device = self.gain.log_gain.device
        return torch.as_tensor(quality, dtype=torch.float32, device=device).reshape(-1).expand(batch)

    def forward(self, x: Tensor, quality: Tensor | float | None = None) -> dict[str, Any]:
        """Training and estimation pass.

        Args:
            x: [N, 3, H, W] in [0, 1]; H and W multiples of 64.
            quality: [N] or a number, for models with gain vectors.

        Returns:
            ``x_hat`` [N, 3, H, W] and ``likelihoods`` {"y": [N, M, H/16, W/16], "z": [N, C, H/64, W/64]}.
        """
        gain, inverse = self.gains(quality, x.shape[0])
        y = self.g_a(x) * gain
        z_hat, z_likelihoods = self.entropy_bottleneck(self.hyper_analysis(y))
        y_hat, y_likelihoods = self.code_latent(y, z_hat, self.worths(quality, x.shape[0]))
        return {"x_hat": self.g_s(y_hat * inverse), "likelihoods": {"y": y_likelihoods, "z": z_likelihoods}}

    def code_latent(self, y: Tensor, z_hat: Tensor, worth: Tensor | float | None = None) -> tuple[Tensor, Tensor]:
        """(y_hat, likelihoods of y) given the decoded hyper latent; ``worth`` as for ``GaussianConditional``."""
        raise NotImplementedError

    def aux_loss(self) -> Tensor:
        """Loss of the factorised prior's quantiles."""
        return self.entropy_bottleneck.loss()


class MeanScaleHyperprior(Hyperprior):
    """h_s predicts scales and means: CompressAI's ``mbt2018-mean``. Arguments as for :class:`Hyperprior`."""

    family = "mean-scale"

    def _hyper_networks(self) -> tuple[nn.Sequential, nn.Sequential]:
        return hyper_analysis(self.M, self.N), hyper_synthesis(self.M, self.N)

    def code_latent(self, y: Tensor, z_hat: Tensor, worth: Tensor | float | None = None) -> tuple[Tensor, Tensor]:
        """(y_hat, likelihoods of y) given the decoded hyper latent."""
        scales, means = self.h_s(z_hat).chunk(2, dim=1)
        y_hat, likelihoods = self.gaussian_conditional(y, scales, means, worth)
        return y_hat, likelihoods


class ScaleHyperprior(Hyperprior):
    """h_s predicts scales alone, means are zero: CompressAI's ``bmshj2018-hyperprior`` (Ballé et al. 2018)."""

    family = "scale"
    hyper_of_magnitude = True

    def _hyper_networks(self) -> tuple[nn.Sequential, nn.Sequential]:
        m, n = self.M, self.N
        h_a = nn.Sequential(conv(m, n, 3, 1), nn.ReLU(), conv(n, n), nn.ReLU(), conv(n, n))
        h_s = nn.Sequential(deconv(n, n), nn.ReLU(), deconv(n, n), nn.ReLU(), conv(n, m, 3, 1), nn.ReLU())
        return h_a, h_s

    def code_latent(self, y: Tensor, z_hat: Tensor, worth: Tensor | float | None = None) -> tuple[Tensor, Tensor]:
        """(y_hat, likelihoods of y) given the decoded hyper latent."""
        scales = self.h_s(z_hat)
        y_hat, likelihoods = self.gaussian_conditional(y, scales, torch.zeros_like(y), worth)
        return y_hat, likelihoods
