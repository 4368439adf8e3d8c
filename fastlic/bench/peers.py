"""Other people's coders, for comparison: found if installed, never required."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from fastlic import config


def compressai_ans() -> ModuleType | None:
    """``compressai.ans`` by itself; importing the whole package would need half of torchvision.

    Looked for in an installed CompressAI, or at the extension file that COMPRESSAI_ANS names.
    """
    path = config.compressai_ans()
    if path is None:
        package = importlib.util.find_spec("compressai")
        if package is None or package.origin is None:
            return None
        files = sorted(Path(package.origin).parent.glob("ans.*.so"))
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
