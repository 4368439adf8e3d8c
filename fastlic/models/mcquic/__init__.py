"""McQuic: the float model, its published checkpoints and what its training needs."""

from fastlic.models.mcquic.checkpoint import load_published
from fastlic.models.mcquic.model import McQuic, Trained

__all__ = ["McQuic", "Trained", "load_published"]
