"""Model families as nn.Modules whose state-dict keys load the published checkpoints."""

from fastlic.models.hyperprior import MeanScaleHyperprior
from fastlic.models.jahp import JAHP

FAMILIES = {cls.family: cls for cls in (MeanScaleHyperprior, JAHP)}

__all__ = ["FAMILIES", "JAHP", "MeanScaleHyperprior"]
