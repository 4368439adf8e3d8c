"""What is trained: one objective per kind of family. The trainer knows no family; this table is where it asks."""

from __future__ import annotations

from fastlic.models import FAMILIES
from fastlic.train.config import RunConfig
from fastlic.train.objectives.base import Measured, Objective, Row
from fastlic.train.objectives.gaussian import GaussianObjective
from fastlic.train.objectives.mcquic import McQuicObjective

OBJECTIVES: dict[str, type[Objective]] = {family: GaussianObjective for family in FAMILIES}
OBJECTIVES["mcquic"] = McQuicObjective

__all__ = ["OBJECTIVES", "Measured", "Objective", "Row", "build"]


def build(config: RunConfig) -> Objective:
    """The objective of ``config``'s family, its model built and not yet started.

    Raises:
        ValueError: an unknown family, or settings that the model or the objective does not have.
    """
    if config.family not in OBJECTIVES:
        raise ValueError(f"family must be one of {', '.join(OBJECTIVES)}, got {config.family!r}")
    try:
        return OBJECTIVES[config.family](config)
    except TypeError as error:  # an argument that a constructor does not know
        raise ValueError(f"settings of {config.family}: {error}") from error
