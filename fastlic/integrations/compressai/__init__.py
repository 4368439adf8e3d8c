"""Drop-in backend for CompressAI models: see :func:`accelerate`, and docs/compressai.md.

CompressAI itself is imported at the first call, never before.
"""

from fastlic.integrations.compressai.api import accelerate, accelerated, restore
from fastlic.integrations.compressai.register import register_entropy_coder
from fastlic.integrations.compressai.report import Report, Row

__all__ = ["Report", "Row", "accelerate", "accelerated", "register_entropy_coder", "restore"]
