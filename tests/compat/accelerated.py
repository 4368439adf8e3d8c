"""A plugin of pytest: CompressAI's own tests, on accelerated models.

In a checkout of CompressAI, with this folder on PYTHONPATH:

    FASTLIC_FORMAT=native python -m pytest -p accelerated tests/test_codec.py tests/test_models.py

A model is accelerated when it is put into eval mode with its tables made, or its tables are made in eval mode; without
FASTLIC_FORMAT none is. FASTLIC_RANDOM=1 has random weights where there is no network to load pretrained ones: tests
then get as far as pictures that are no good.
"""

from __future__ import annotations

import functools
import os

import torch
from compressai.entropy_models import EntropyBottleneck
from compressai.models import CompressionModel
from compressai.zoo import image

import fastlic

FORMAT = os.environ.get("FASTLIC_FORMAT", "")
_accelerated: list[str] = []


def _ready(model) -> bool:
    bottlenecks = [own for own in model.modules() if isinstance(own, EntropyBottleneck)]
    return not model.training and bool(bottlenecks) and all(own._offset.numel() for own in bottlenecks)


def _watched(name: str) -> None:
    before = getattr(CompressionModel, name)

    @functools.wraps(before)
    def method(self, *args, **kwargs):
        result = before(self, *args, **kwargs)
        if _ready(self):
            fastlic.accelerate(self, FORMAT)
            _accelerated.append(type(self).__name__)
        return result

    setattr(CompressionModel, name, method)


if FORMAT:
    _watched("eval")
    _watched("update")

if os.environ.get("FASTLIC_RANDOM"):
    _load = image._load_model

    def _random(*args, pretrained=False, progress=True, **kwargs):
        torch.manual_seed(0)
        model = _load(*args[:3], pretrained=False, progress=progress, **kwargs)
        model.update(force=True)
        return model

    image._load_model = _random


def pytest_terminal_summary(terminalreporter) -> None:
    names = ", ".join(sorted(set(_accelerated)))
    terminalreporter.write_line(f"{len(_accelerated)} models accelerated, format {FORMAT}: {names}")
