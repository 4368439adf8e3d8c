"""Model families as nn.Modules whose state-dict keys load the published checkpoints."""

from fastlic.models.hyperprior import Hyperprior, MeanScaleHyperprior, ScaleHyperprior
from fastlic.models.jahp import JAHP
from fastlic.models.mcquic import McQuic
from fastlic.models.mlic import MLIC, MLICPlus, MLICPlusPlus

FAMILIES: dict[str, type[Hyperprior]] = {
    cls.family: cls for cls in (ScaleHyperprior, MeanScaleHyperprior, JAHP, MLIC, MLICPlus, MLICPlusPlus)
}

__all__ = [
    "FAMILIES",
    "JAHP",
    "MLIC",
    "Hyperprior",
    "MLICPlus",
    "MLICPlusPlus",
    "McQuic",
    "MeanScaleHyperprior",
    "ScaleHyperprior",
]
