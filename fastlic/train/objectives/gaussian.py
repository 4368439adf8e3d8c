"""Hyperprior families (JAHP, mean-scale, MLIC): rate plus weighted distortion, every quality in one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.models import FAMILIES, JAHP, Hyperprior
from fastlic.train import klt, slim
from fastlic.train.config import RunConfig
from fastlic.train.ms_ssim import ms_ssim
from fastlic.train.objectives.base import Measured, Objective, Row, in_float32, psnr
from fastlic.train.weights import load_into

# Each quality doubles the weight of the distortion. The field's usual ladder for MSE models, 0.0018..0.18, spans models
# of two sizes; one compact model spends its capacity better an octave lower. The one for MS-SSIM is the field's.
LAMBDAS = {
    "mse": [0.0008 * 2**k for k in range(8)],
    "ms-ssim": [1.2 * 2**k for k in range(8)],
}


class GaussianObjective(Objective):
    """bpp + lambda * distortion, the quality drawn per image.

    Settings (``[objective]`` of a configuration):
        lambdas: weight of the distortion per quality, rising; distortion is the squared error on the 0..255 scale, or
            1 - MS-SSIM. An empty list trains a model of one fixed rate and needs ``fixed_lambda``.
        fixed_lambda: the weight of a model without gain vectors.
        worth: bits that the encoder takes a unit of squared error of the latent to be worth, per quality
            (fastlic.models.density.dead_zone); it travels with the weights. An empty list keeps theirs; 0
            rounds to the nearest.
        first_slices: with "latents", of MLIC: only so many slices are coded and count; 0 stands for all.
        distortion: "pixels", or "latents" to leave the synthesis transform out of a step (for entropy models trained
            beside frozen transforms): the squared error of the latents, brought to the scale of pixels.
    """

    model: Hyperprior

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        settings = dict(config.objective)
        lambdas = settings.pop("lambdas", LAMBDAS[config.metric])
        fixed = settings.pop("fixed_lambda", None)
        worth = settings.pop("worth", [])
        self.distortion = settings.pop("distortion", "pixels")
        self.first_slices = settings.pop("first_slices", 0)
        if settings:
            raise ValueError(f"no such setting of the objective: {', '.join(settings)}")
        if self.distortion not in ("pixels", "latents"):
            raise ValueError(f"distortion must be 'pixels' or 'latents', got {self.distortion!r}")
        if self.first_slices and (self.distortion != "latents" or not config.family.startswith("mlic")):
            raise ValueError(f"first_slices is for MLIC and the latents' distortion, got {self.first_slices}")
        if worth and len(worth) != len(lambdas):
            raise ValueError(f"worth needs one number per quality, {len(lambdas)}; got {len(worth)}")
        if not lambdas and fixed is None:
            raise ValueError("a model without qualities needs fixed_lambda")
        self.qualities = len(lambdas)
        self.lambdas = torch.tensor(lambdas or [fixed], dtype=torch.float32)
        # Gradients of the qualities differ a hundredfold; lambda^-1/2 gives each about the same relative pull.
        self.weights = (self.lambdas / self.lambdas.log().mean().exp()) ** -0.5
        self._sent: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self.model = FAMILIES[config.family](**config.model, qualities=self.qualities)
        self.worth = worth
        self._set_worth()
        for name, part in self.model.named_children():
            if name.startswith(("g_a", "h_s", "entropy_parameters")):
                for network in part if isinstance(part, nn.ModuleList) else [part]:
                    in_float32([m for m in network.modules() if isinstance(m, nn.Conv2d)][-1])

    def start(self, tiles: Tensor) -> None:
        """Karhunen-Loève transforms, or weights of another model wherever names and shapes agree.

        Narrower entropy networks than the weights' are fitted to what those compute (fastlic.train.slim).
        """
        start = self.config.start
        sample = tiles[:: max(len(tiles) // 256, 1)][:256].float() / 255
        if start == "klt":
            klt.initialise(self.model, sample, self.lambdas.tolist())
        elif start != "random":
            missing = load_into(self.model, Path(start))
            if (wide := slim.wider(self.model, Path(start))) is not None:
                few = tiles[:: max(len(tiles) // slim.TILES, 1)][: slim.TILES]
                slim.initialise(cast(JAHP, self.model), wide, few.float() / 255)
                missing = []
            early = [name for name in missing if name.startswith("entropy_parameters_early.")]
            if early:
                self.model.start_early()  # type: ignore[operator]
            if any(name.startswith("entropy_parameters") and name not in early for name in missing):
                with torch.no_grad():
                    klt.start_densities(self.model, self.model.g_a(sample))
            self._set_worth()

    def _set_worth(self) -> None:
        """What the configuration says goes before what the weights brought along."""
        if self.worth and self.model.gain is not None:
            self.model.gain.worth.copy_(torch.tensor(self.worth))

    def is_kernel(self, name: str, parameter: Tensor) -> bool:
        """Kernels of the transforms."""
        return parameter.ndim == 4 and name.startswith(("g_a.", "g_s."))

    def is_unclipped(self, name: str) -> bool:
        """Quantiles of z have a loss of their own."""
        return name.endswith("quantiles")

    def _quality(self, levels: Tensor) -> Tensor | None:
        return levels + 1 if self.qualities else None

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Index of each image's quality."""
        return torch.randint(len(self.lambdas), (count,), generator=generator)

    @torch.no_grad()
    def analyse(self, x: Tensor) -> Tensor:
        """The latent [N, M, H/16, W/16] before its gain, which takes a frozen g_a and the latents' distortion."""
        if self.config.rates.get("g_") != 0 or self.distortion != "latents":
            raise ValueError('stored latents need rates with "g_" = 0 and the objective\'s distortion = "latents"')
        y: Tensor = self.model.g_a(x)
        return y

    def measure(self, x: Tensor, drawn: Tensor) -> Measured:
        levels = drawn
        lambdas, weights = (table[levels] for table in self._tables(x.device))
        if self.distortion == "latents":
            bpp, mse = self._latent_pass(x, self._quality(levels))
            distortion = mse
        else:
            bpp, mse, x_hat = rate_distortion(self.model, x, self._quality(levels))
            distortion = mse if self.config.metric == "mse" else 1 - ms_ssim(x_hat, x)
        loss = (weights * (lambdas * distortion + bpp)).mean()
        return Measured(loss, bpp.detach(), mse.detach(), self.model.aux_loss())

    def _tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Lambdas and weights on ``device``, sent there once."""
        if device not in self._sent:
            self._sent[device] = self.lambdas.to(device), self.weights.to(device)
        return self._sent[device]

    def _latent_pass(self, x: Tensor, quality: Tensor | None) -> tuple[Tensor, Tensor]:
        gain, inverse = self.model.gains(quality, len(x))
        with torch.no_grad():
            y = (x if self.config.stored else self.model.g_a(x).float()) * gain
        z_hat, z_likelihoods = self.model.entropy_bottleneck(self.model.hyper_analysis(y))
        options = {"slices": self.first_slices} if self.first_slices else {}
        y_hat, y_likelihoods = self.model.code_latent(y, z_hat, self.model.worths(quality, len(x)), **options)
        y_hat = torch.cat([y_hat, y[:, y_hat.shape[1] :]], 1)  # slices that are left out count as restored
        error = ((y_hat - y) * inverse).square().sum((1, 2, 3))
        # Transforms that began orthonormal keep squared errors about; an image has 3 samples per pixel, on 0..255.
        pixels = y.shape[2] * y.shape[3] * 16**2
        return bits_per_pixel([y_likelihoods, z_likelihoods], pixels), error / (3 * pixels) * 255**2

    def validate(self, batches: Sequence[Tensor]) -> list[Row]:
        """Per quality: estimated bpp, PSNR, and the loss, whose distortion is the metric's."""
        rows = []
        for index, lam in enumerate(self.lambdas.tolist()):
            rates, errors, losses = [], [], []
            for x in batches:
                quality = self._quality(torch.full((len(x),), index, device=x.device))
                bpp, mse, x_hat = rate_distortion(self.model, x, quality)
                distortion = mse if self.config.metric == "mse" else 1 - ms_ssim(x_hat, x)
                rates.append(bpp)
                errors.append(mse)
                losses.append(bpp + lam * distortion)
            means = [torch.cat(parts).mean().item() for parts in (rates, [psnr(e) for e in errors], losses)]
            rows.append({"quality": index + 1, "bpp": means[0], "psnr": means[1], "loss": means[2]})
        return rows

    def score(self, rows: Sequence[Row]) -> float:
        """Mean of the losses, weighted as training weighs them."""
        return sum(row["loss"] * w for row, w in zip(rows, self.weights.tolist(), strict=True)) / len(rows)

    def describe(self, rows: Sequence[Row]) -> str:
        """The middle quality."""
        middle = rows[(len(rows) - 1) // 2]
        return f"score {self.score(rows):.4f}, q{middle['quality']} {middle['bpp']:.3f} bpp {middle['psnr']:.2f} dB"


def bits_per_pixel(likelihoods: Sequence[Tensor], pixels: int) -> Tensor:
    """[N]: information of each image's latents, spread over its pixels."""
    bits = torch.stack([-p.float().log2().sum((1, 2, 3)) for p in likelihoods]).sum(0)
    return bits / pixels


def rate_distortion(model: Hyperprior, x: Tensor, quality: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(bits per pixel [N], squared error on the 0..255 scale [N], x_hat float32) of one forward pass."""
    out = model(x, quality)
    x_hat = out["x_hat"].float()
    bpp = bits_per_pixel(list(out["likelihoods"].values()), x.shape[2] * x.shape[3])
    return bpp, (x_hat - x).square().mean((1, 2, 3)) * 255**2, x_hat
