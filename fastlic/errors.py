"""Every exception that fastlic raises on purpose, beside ``ValueError`` and ``TypeError`` for bad arguments."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class FastlicError(Exception):
    """Base of all fastlic errors: ``except fastlic.errors.FastlicError`` catches each of them."""


class CorruptStreamError(FastlicError, ValueError):
    """The compressed bytes are damaged: truncated, altered, extended, or no fastlic stream at all."""


class ModelMismatchError(FastlicError):
    """The stream needs other weights than the codec holds; the message names both by model and fingerprint."""


class BackendUnavailable(FastlicError, RuntimeError):
    """A backend or an optional package was asked for by name and cannot be had; the message says what to install."""


class CodecFileError(FastlicError, ValueError):
    """A file of weights or of a conversion is damaged, or none; the message names the file and what is wrong in it."""


class PixelLimitError(FastlicError, ValueError):
    """An image, or the image that a stream claims, is larger than allowed; the message says how to allow it."""


class OutOfMemoryError(FastlicError, MemoryError):
    """There was not enough memory, of the CPU or of a GPU, for an image; the message says for which size."""


# What torch, oneDNN and the C++ runtime call it; torch's own class exists for devices alone. In lower case.
_NO_MEMORY = ("allocate memory", "out of memory", "not enough memory", "bad_alloc", "could not create a memory object",
              "could not create a primitive", "could not execute a primitive")  # fmt: skip


def says_no_memory(error: Exception) -> bool:
    """Whether an exception of no class of its own tells that memory is short."""
    return any(words in str(error).lower() for words in _NO_MEMORY)


@contextmanager
def memory_errors(task: str) -> Iterator[None]:
    """Whatever says in this block that memory is short becomes an :class:`OutOfMemoryError` that names ``task``."""
    try:
        yield
    except FastlicError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not says_no_memory(error):
            raise
        raise OutOfMemoryError(
            f"not enough memory for {task}. A smaller image, fewer at once, device='cpu' instead of a GPU, or a higher "
            f"memory limit of this process (ulimit -v, container) helps; docs/limits.md says what a megapixel takes"
        ) from error


def optional(module: str, extra: str) -> Any:
    """A module of a package that fastlic does without, imported.

    Raises:
        BackendUnavailable: it is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BackendUnavailable(f'{module.partition(".")[0]} is needed: pip install "fastlic[{extra}]"') from error
