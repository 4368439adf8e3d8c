"""Model families as nn.Modules whose state-dict keys load the published checkpoints."""

from fastlic.models.hyperprior import Hyperprior, MeanScaleHyperprior, ScaleHyperprior
from fastlic.models.jahp import JAHP

FAMILIES: dict[str, type[Hyperprior]] = {cls.family: cls for cls in (ScaleHyperprior, MeanScaleHyperprior, JAHP)}

__all__ = ["FAMILIES", "JAHP", "Hyperprior", "MeanScaleHyperprior", "ScaleHyperprior"]
