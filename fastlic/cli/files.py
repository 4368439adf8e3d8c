"""From command-line arguments to jobs (one input, one output), and through them; what went wrong in one line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from fastlic.errors import FastlicError, ModelMismatchError, memory_errors
from fastlic.files import status

# What bad input or a bad environment can cause. Anything else is a bug and deserves its traceback.
USER_ERRORS = (FastlicError, ValueError, OSError, MemoryError)


@dataclass(frozen=True)
class Job:
    """One file to read and one to write."""

    source: Path
    target: Path
    overwrite: bool


def shown(text: object) -> str:
    """``text`` in one line: escapes in place of what does not print, which names of files are free to have."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def say(text: str) -> None:
    """Print a line for the user; see :func:`shown`."""
    click.echo(shown(text))


def describe(error: BaseException) -> str:
    """An error in one line, without Python's decoration."""
    if isinstance(error, OSError) and error.strerror:
        return shown(f"{error.filename}: {error.strerror}") if error.filename else error.strerror
    if isinstance(error, MemoryError) and not isinstance(error, FastlicError):
        return "not enough memory"
    text = shown(" ".join(str(error).split())) or type(error).__name__
    return f"{text} (here: --model FILE)" if isinstance(error, ModelMismatchError) else text


def plan(
    arguments: Sequence[Path],
    output: Path | None,
    output_dir: Path | None,
    *,
    names_output: Callable[[Path], bool],  # whether the second of two arguments is meant as the output
    suffixes: Sequence[str],  # of the files to look for in folders
    target_suffix: str,
    force: bool,
) -> list[Job]:
    """Which file is written for which input.

    An output that the user spelled out is overwritten; a derived name is not, unless ``force``.

    Raises:
        click.UsageError: arguments that contradict each other.
        ValueError: a folder without suitable files.
        OSError: the output that was spelled out cannot be written.
    """
    from fastlic.codec.image_files import find_images

    if output is None and output_dir is None and len(arguments) == 2 and names_output(arguments[1]):
        arguments, output = arguments[:1], arguments[1]
    if output is not None:
        if output_dir is not None:
            raise click.UsageError("--output and --output-dir exclude each other")
        if len(arguments) != 1:
            raise click.UsageError("--output takes one input file; use --output-dir for several")
        if arguments[0].is_dir():
            raise click.UsageError(f"{arguments[0]} is a folder; --output takes one input file: use --output-dir")
        if output.is_dir():
            raise click.UsageError(f"{output} is a folder; use --output-dir {output}")
        status(output)  # now rather than after the work
        return [Job(arguments[0], output, True)]
    jobs = []
    for argument in arguments:
        root = argument if argument.is_dir() else argument.parent
        for source in find_images(argument, suffixes) if argument.is_dir() else [argument]:
            target = source.with_suffix(target_suffix)
            if output_dir is not None:
                target = output_dir / target.relative_to(root)
            jobs.append(Job(source, target, force))
    return jobs


def run(jobs: Sequence[Job], work: Callable[[Job], str]) -> None:
    """Do ``work`` for each job and print the line it returns; go on after a bad file and exit with 1 at the end.

    ``work`` gives the line without the names of the files.
    """
    from tqdm import tqdm

    failures: list[str] = []
    total = 0
    written: dict[Path, Path] = {}
    began = time.perf_counter()
    with tqdm(jobs, unit="file", disable=None if len(jobs) > 1 else True, leave=False) as bar:
        for job in bar:
            try:
                _check_target(job, written)
                with memory_errors("an image of this size"):  # reading, measuring and writing included
                    line = work(job)
                total += job.target.stat().st_size
                written[job.target] = job.source
            except USER_ERRORS as error:
                message, source = describe(error), shown(job.source)
                failures.append(message if message.startswith(source) else f"{source}: {message}")
                continue
            with bar.external_write_mode():  # outside: that nobody reads our output is not the file's failure
                say(f"{job.source} -> {job.target}: {line}")
    if len(jobs) > 1:
        say(f"{len(written)} of {len(jobs)} files, {total:,} bytes, {time.perf_counter() - began:.1f} s")
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    if failures:
        raise SystemExit(1)


def _check_target(job: Job, written: dict[Path, Path]) -> None:
    if job.target in written:
        raise ValueError(f"{job.target} was just written from {written[job.target]}")
    if job.target.exists() and job.target.samefile(job.source):
        raise ValueError("input and output are the same file")
    if os.path.lexists(job.target) and not job.overwrite:  # a link to nowhere too: what it would make is not asked for
        raise ValueError(f"{job.target} exists; --force overwrites it")
    if job.target.parent.is_dir():
        status(job.target)
