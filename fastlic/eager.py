"""``torch.compile`` leaves alone what stands here: bytes are no tensors, and the core's calls no graph."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, at which a compiled caller breaks its graph, and below which nothing is compiled.

    ``torch.compiler.disable`` is that too, but imports the compiler at once: seconds of every process that never
    compiles. Here it is asked only where the compiler is there already.
    """
    disabled: list[Callable[P, R]] = []

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        compiler = cast(Any, sys.modules.get("torch._dynamo"))
        if compiler is None or not hasattr(compiler, "disable"):  # absent, or not imported to the end
            return function(*args, **kwargs)
        if not disabled:
            disabled.append(compiler.disable(function))
        return disabled[0](*args, **kwargs)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]  # what disable sets: the caller does not look inside
    return call
