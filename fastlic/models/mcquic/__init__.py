"""McQuic: the float model, its published checkpoints and what its training needs."""

from fastlic.models.mcquic.checkpoint import PUBLISHED_SUFFIXES, load_published, save_published
from fastlic.models.mcquic.model import McQuic, Trained

__all__ = ["PUBLISHED_SUFFIXES", "McQuic", "Trained", "load_published", "save_published"]
