"""The MLIC family: slices of the latent, each a checkerboard; previews read the first slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from fastlic.codec.families.gaussian import GaussianCoder
from fastlic.entropy.mlic.convert import convert
from fastlic.entropy.mlic.model import IntegerMLIC
from fastlic.entropy.mlic.rate import float_bits
from fastlic.entropy.passes import LatentModel, Latents
from fastlic.integers.transforms import IntegerTransforms
from fastlic.models.mlic import MLIC, MLICPlus, MLICPlusPlus


class MlicCoder(GaussianCoder):
    """See :class:`GaussianCoder`. Two sections, z and y, whatever the number of slices."""

    models: ClassVar[Mapping[str, type[MLICPlusPlus]]] = {cls.family: cls for cls in (MLIC, MLICPlus, MLICPlusPlus)}
    integers = IntegerMLIC
    columns = 2
    memory = 4.7

    def __init__(self, model: Any, entropy: LatentModel, whole: bool, pixels: IntegerTransforms | None = None) -> None:
        super().__init__(model, entropy, whole, pixels)
        self.previews = {"slices": model.slices}

    @staticmethod
    def convert(model: Any, images: Sequence[Tensor]) -> IntegerMLIC:
        return convert(model, images)

    def float_bits(self, latents: Latents) -> tuple[float, float]:
        return float_bits(self.model, self.entropy, latents)

    @classmethod
    def check_integers(cls, entropy: Any, family: str, config: dict[str, Any], floats: Mapping[str, Tensor]) -> None:
        own = (entropy.family, entropy.slices, entropy.latent_channels)
        if own != (family, config.get("slices", entropy.slices), config["M"]) or config.get("blocks", 0) > len(floats):
            raise ValueError(f"integers of family, slices, M = {own} for a {family!r} model of {config}")

    @classmethod
    def check_model(cls, entropy: Any, model: Any) -> None:
        if entropy.hyper_channels != model.N:
            raise ValueError(f"integers of N = {entropy.hyper_channels} for a model of {model.config}")
        if entropy.early != model.early:
            raise ValueError(f"its integers have {'an' if entropy.early else 'no'} early context, unlike its model")
