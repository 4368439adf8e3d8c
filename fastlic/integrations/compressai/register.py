"""``compressai.set_entropy_coder("fastlic")``: CompressAI's streams from arrays, in every model built afterwards.

CompressAI's list of coders is open, its constructor is not: this adds a name to the one and a branch to the other. The
coder alone would gain nothing, since its arguments are Python lists; so the entropy models that ask for it hand over
arrays. For everything else (native streams, context models, transforms) there is ``fastlic.accelerate``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fastlic.errors import BackendUnavailable
from fastlic.integrations.compressai.ans import RansDecoder, RansEncoder
from fastlic.integrations.compressai.settings import INSTALL, Settings, State
from fastlic.integrations.compressai.swap import is_specialised, set_state, state_of

NAME = "fastlic"


def register_entropy_coder() -> None:
    """Make "fastlic" one of CompressAI's entropy coders; calling it again does nothing.

    It stays so for the life of the process. A process that unpickles models built with it must call this first.

    Raises:
        BackendUnavailable: CompressAI cannot be imported.
    """
    try:
        import compressai
        from compressai.entropy_models.entropy_models import _EntropyCoder
    except ImportError as error:
        raise BackendUnavailable(INSTALL.format(reason=error)) from error
    from fastlic.integrations.compressai.entropy_models import FastEntropyModel, FastEntropyModelVbr, FastGaussian
    from fastlic.integrations.compressai.theirs import EntropyModel, EntropyModelVbr, GaussianConditional

    if NAME in compressai.available_entropy_coders():
        return
    construct = _EntropyCoder.__init__

    @functools.wraps(construct)
    def init(self: Any, method: Any) -> None:
        if method != NAME:
            construct(self, method)
            return
        self.name, self._encoder, self._decoder = NAME, RansEncoder(), RansDecoder()

    _EntropyCoder.__init__ = init
    for theirs, ours, methods in (
        (EntropyModel, FastEntropyModel, ("compress", "decompress")),
        (EntropyModelVbr, FastEntropyModelVbr, ("compress", "decompress")),
        (GaussianConditional, FastGaussian, ("build_indexes",)),
    ):
        for method in methods if hasattr(theirs, methods[0]) else ():  # CompressAI of old has no variable rate
            setattr(theirs, method, _either(theirs, method, getattr(ours, method)))
    compressai.available_entropy_coders().append(NAME)


def _either(base: Any, name: str, ours: Callable[..., Any]) -> Callable[..., Any]:
    """``ours`` for modules built with this coder that round as ``base`` does, ``base``'s for the others."""
    theirs = getattr(base, name)

    @functools.wraps(theirs)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.entropy_coder.name != NAME or type(self).quantize is not base.quantize:
            return theirs(self, *args, **kwargs)
        if not is_specialised(self) and state_of(self, None) is None:
            set_state(self, State(Settings("compressai")))
        return ours(self, *args, **kwargs)

    return method
