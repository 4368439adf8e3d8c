"""Other people's coders, for comparison: found if installed, never required."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from fastlic import config
from fastlic.bench.runner import Runs


def compressai_ans() -> ModuleType | None:
    """``compressai.ans`` by itself; importing the whole package would need half of torchvision.

    Looked for in an installed CompressAI, or at the extension file that COMPRESSAI_ANS names.
    """
    path = config.compressai_ans()
    if path is None:
        package = importlib.util.find_spec("compressai")
        files = sorted(Path(package.origin).parent.glob("ans.*.so")) if package and package.origin else []
        if not files:
            return None
        path = files[0]
    spec = importlib.util.spec_from_file_location("compressai.ans", path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def constriction() -> ModuleType | None:
    return importlib.import_module("constriction") if importlib.util.find_spec("constriction") else None


def compressai_lists(parts: list[tuple[list[Any], ...]]) -> tuple[Runs, int]:
    """CompressAI's coder over lists of symbols, indexes, tables, lengths and offsets, and its bytes; nothing without
    it."""
    ans = compressai_ans()
    if ans is None:
        return {}, 0
    encoder, decoder = ans.RansEncoder(), ans.RansDecoder()
    streams = [encoder.encode_with_indexes(*part) for part in parts]
    return {
        "encode": lambda: [encoder.encode_with_indexes(*part) for part in parts],
        "decode": lambda: [
            decoder.decode_with_indexes(stream, *part[1:]) for stream, part in zip(streams, parts, strict=True)
        ],
    }, sum(map(len, streams))


@torch.no_grad()
def compressai_loops(y: Tensor, state: dict[str, Tensor]) -> Runs:
    """CompressAI's own mbt2018 between its transforms: latents y [1, M, h, w] to strings and back, on their device,
    with weights of ``state``; empty without CompressAI."""
    try:
        from compressai.models import JointAutoregressiveHierarchicalPriors
    except ImportError:  # absent, or without the half of torchvision that it imports
        return {}
    theirs: Any = JointAutoregressiveHierarchicalPriors(192, y.shape[1]).eval()
    own = {k: v for k, v in state.items() if k in theirs.state_dict() and v.numel()}
    theirs.load_state_dict({**theirs.state_dict(), **own})
    theirs.update(force=True)
    theirs.g_a = theirs.g_s = nn.Sequential()  # either hands its input through
    theirs.to(y.device)
    y = y.contiguous()  # channels last costs its encoder twice the time
    coded = theirs.compress(y)
    return {
        "encode": torch.no_grad()(lambda: theirs.compress(y)),
        "decode": torch.no_grad()(lambda: theirs.decompress(coded["strings"], coded["shape"])),
    }
