"""The MLIC family: MLIC, MLIC+ and MLIC++."""

from fastlic.models.mlic.model import COMPACT, MLIC, MLICPlus, MLICPlusPlus, Sizes

__all__ = ["COMPACT", "MLIC", "MLICPlus", "MLICPlusPlus", "Sizes"]
