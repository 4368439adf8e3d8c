"""What the command line says: lines for the user, and what went wrong in one of them."""

from __future__ import annotations

from pathlib import Path

import click

from fastlic.errors import FastlicError, ModelMismatchError

# What bad input or a bad environment can cause. Anything else is a bug and deserves its traceback.
USER_ERRORS = (FastlicError, ValueError, OSError, MemoryError)

# Standard input as an input, standard output as an output. A file of that name is ./-, made absolute by options.FILE.
DASH = Path("-")


def shown(text: object) -> str:
    """``text`` in one line: escapes in place of what does not print, which names of files are free to have."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def say(text: str, err: bool = False) -> None:
    """Print a line for the user, on stderr if ``err``; see :func:`shown`."""
    click.echo(shown(text), err=err)


def told(error: BaseException, name: str) -> str:
    """An error in one line that begins with the file ``name``, whose it is."""
    message, name = describe(error), shown(name)
    return message if message.startswith(name) else f"{name}: {message}"


def describe(error: BaseException) -> str:
    """An error in one line, without Python's decoration."""
    if isinstance(error, OSError) and error.strerror:
        return shown(f"{error.filename}: {error.strerror}") if error.filename else error.strerror
    if isinstance(error, MemoryError) and not isinstance(error, FastlicError):
        return "not enough memory"
    text = shown(" ".join(str(error).split())) or type(error).__name__
    return f"{text} (here: --model FILE)" if isinstance(error, ModelMismatchError) else text
