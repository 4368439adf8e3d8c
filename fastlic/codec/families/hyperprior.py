"""Gaussian models with a hyperprior and at most a masked context: scale, mean-scale, JAHP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from fastlic.codec.families.gaussian import GaussianCoder
from fastlic.entropy.convert import convert
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.passes import Latents
from fastlic.entropy.rate import float_bits
from fastlic.models import JAHP, Hyperprior, MeanScaleHyperprior, ScaleHyperprior


class HyperpriorCoder(GaussianCoder):
    """See :class:`GaussianCoder`. Two sections, z and y."""

    models: ClassVar[Mapping[str, type[Hyperprior]]] = {
        cls.family: cls for cls in (ScaleHyperprior, MeanScaleHyperprior, JAHP)
    }
    integers = IntegerEntropyModel
    memory = 2.6

    @staticmethod
    def convert(model: Any, images: Sequence[Tensor]) -> IntegerEntropyModel:
        return convert(model, images)

    def float_bits(self, latents: Latents) -> tuple[float, float]:
        return float_bits(self.model, latents)

    @classmethod
    def check_model(cls, entropy: Any, model: Any) -> None:
        own = (entropy.hyper_channels, entropy.latent_channels, entropy.context is not None)
        if own != (model.N, model.M, isinstance(model, JAHP)):
            raise ValueError(f"integers of N, M, context = {own} for a model of {model.config}")
