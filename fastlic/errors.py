"""Every exception that fastlic raises on purpose, beside ``ValueError`` and ``TypeError`` for bad arguments."""

from __future__ import annotations


class FastlicError(Exception):
    """Base of all fastlic errors: ``except fastlic.errors.FastlicError`` catches each of them."""


class CorruptStreamError(FastlicError, ValueError):
    """The compressed bytes are damaged: truncated, altered, extended, or no fastlic stream at all."""


class ModelMismatchError(FastlicError):
    """The stream needs other weights than the codec holds; the message names both by model and fingerprint."""


class CodecFileError(FastlicError, ValueError):
    """A file of weights is damaged, contradicts itself, or is none; the message names the file and what is wrong."""


class BackendUnavailable(FastlicError, RuntimeError):
    """A backend or an optional package was asked for by name and cannot be had; the message says what to install."""
