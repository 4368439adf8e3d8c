"""From command-line arguments to jobs: which file is written for which, told before any work where it cannot be."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from fastlic.cli.words import DASH, USER_ERRORS, told
from fastlic.files import read_bounded, status

# Images that people have beside those that are read, where Pillow has no name for them either.
_OTHER_IMAGES = (".heic", ".heif", ".jxl", ".exr", ".hdr", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf",
                 ".orf", ".rw2")  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One file to read and one to write; ``DASH`` is standard input or standard output."""

    source: Path
    target: Path
    overwrite: bool
    skip: bool = False  # the target is there and stays


@dataclass(frozen=True)
class Request:
    """What the command line says of files: see ``options.files``."""

    inputs: tuple[Path, ...]
    output: Path | None
    output_dir: Path | None
    overwrite: bool
    skip_existing: bool
    keep_suffix: bool
    jobs: int  # at a time; 0: one per core
    as_json: bool
    quiet: bool


@dataclass(frozen=True)
class Plan:
    """The jobs in the order of the arguments, and how many images of which suffix were passed over in folders."""

    jobs: list[Job]
    unread: Counter[str]

    @property
    def to_stdout(self) -> bool:
        """Whether standard output is where the file goes, so that words go elsewhere."""
        return any(job.target == DASH for job in self.jobs)

    def note(self) -> str:
        """What was passed over, in words; empty for nothing."""
        count = sum(self.unread.values())
        if not count:
            return ""
        kinds = ", ".join(f"{times} {suffix}" for suffix, times in sorted(self.unread.items()))
        return f"{count} file{'s' if count > 1 else ''} skipped: {kinds}, which fastlic does not read"


def named(path: Path, direction: str = "input") -> str:
    """A path as lines call it; ``direction`` says which of the two standard streams a dash is."""
    return f"standard {direction}" if path == DASH else str(path)


def plan(
    request: Request,
    *,
    names_output: Callable[[Path], bool],  # whether the second of two arguments is meant as the output
    suffixes: Sequence[str],  # of the files to look for in folders
    others: Collection[str] = (),  # suffixes of files that are counted there, where they are not looked for
    refused: Collection[str] = (),  # suffixes of files that are no input, unless their output is spelled out
    target_suffix: str,
    check_output: Callable[[Path], object],  # raises if the command writes no file of that name
) -> Plan:
    """Which file is written for which input.

    An output that the user spelled out is overwritten; a derived name is not, unless the request says so.

    Raises:
        click.UsageError: arguments that contradict each other, or a last one that is no input.
        ValueError: a folder without suitable files, outputs that exist, two inputs for one output, an output that is
            an input.
        OSError: an output or a folder for outputs that cannot be written to.
    """
    arguments, output = list(request.inputs), request.output
    if request.overwrite and request.skip_existing:
        raise click.UsageError("--overwrite and --skip-existing exclude each other")
    if output is None and request.output_dir is None:
        if len(arguments) == 2 and names_output(arguments[1]):
            arguments, output = arguments[:1], arguments[1]
        elif arguments == [DASH]:
            output = DASH
        else:
            _check_last(arguments, suffixes, target_suffix)
    if output is not None:
        check_output(output)
        made = Plan([_spelled_out(request, arguments, output)], Counter())
    else:
        check_output(Path(f"x{target_suffix}"))
        made = _derived(request, arguments, suffixes, others, refused, target_suffix)
    if request.as_json and made.to_stdout:
        raise click.UsageError("--json and the file both want standard output: name another output")
    _check_there(arguments)
    _check_inputs_kept(made.jobs)
    return made


def _check_last(arguments: list[Path], suffixes: Sequence[str], target_suffix: str) -> None:
    """Of several arguments the last one is no output, as cp and mv have it: said before inputs are worked on."""
    last = arguments[-1]
    if len(arguments) == 1 or DASH in arguments or os.path.lexists(last):
        return
    if last.suffix.lower() not in suffixes:
        raise click.UsageError(
            f"{last} is neither there nor named as an input: -o {last} or --output-dir {last} makes it an output"
        )
    if len(arguments) == 2:
        raise click.UsageError(f"{last} is not there; what {_command()} writes is named {target_suffix}")


def _check_there(arguments: list[Path]) -> None:
    for argument in arguments:
        if argument != DASH and not os.path.lexists(argument):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(argument))


def _command() -> str:
    return click.get_current_context().info_name or ""


def _spelled_out(request: Request, arguments: list[Path], output: Path) -> Job:
    if request.output_dir is not None:
        raise click.UsageError("--output and --output-dir exclude each other")
    if len(arguments) != 1:
        raise click.UsageError("--output takes one input file; use --output-dir for several")
    if arguments[0].is_dir():
        raise click.UsageError(f"{arguments[0]} is a folder; --output takes one input file: use --output-dir")
    job = Job(arguments[0], output, True)
    if output == DASH:
        if sys.stdout is None:
            raise ValueError("standard output is closed")
        if sys.stdout.isatty():
            raise click.UsageError("standard output is a terminal, which cannot show this: redirect or pipe it")
        return job
    if output.is_dir():
        raise click.UsageError(f"{output} is a folder; use --output-dir {output}")
    there = status(output)  # now rather than after the work
    return replace(job, skip=request.skip_existing and there is not None and stat.S_ISREG(there.st_mode))


def _derived(
    request: Request,
    arguments: list[Path],
    suffixes: Sequence[str],
    others: Collection[str],
    refused: Collection[str],
    target_suffix: str,
) -> Plan:
    from fastlic.codec.image_files import find_images

    if DASH in arguments:
        raise click.UsageError("standard input (-) has no name to derive one from: it is one input, with --output")
    _check_there(arguments)  # before a folder is made
    jobs: dict[Path, Job] = {}
    unread: Counter[str] = Counter()
    for argument in arguments:
        root = argument if argument.is_dir() else argument.parent
        sources = [argument]
        if argument.is_dir():
            passed = _suffixes(argument, set(others).difference(suffixes))
            try:
                sources = find_images(argument, suffixes)
            except ValueError as error:
                note = Plan([], passed).note()
                raise ValueError(f"{error}{note and f'; {note}'}") from error
            unread += passed
        for source in sources:
            name = source.name if request.keep_suffix else source.stem
            target = source.with_name(f"{name}{target_suffix}") if source.name else source
            if target == source or source.suffix.lower() in refused:
                raise ValueError(f"{source} is no input of {_command()}, which reads {', '.join(suffixes)}")
            if request.output_dir is not None:
                target = request.output_dir / target.relative_to(root)
            other = jobs.setdefault(target, Job(source, target, request.overwrite))
            if other.source != source:
                way = f"--keep-suffix writes {target.with_name(other.source.name + target_suffix)} and so on"
                if other.source.name == source.name:
                    way = f"both are called {source.name}: name their folders, or one at a time"
                raise ValueError(f"{target} would be written from {other.source} and from {source}: {way}")
    if request.output_dir is not None:
        try:
            request.output_dir.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(request.output_dir)) from error
        if not os.access(request.output_dir, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(request.output_dir))
    return Plan(_existing(request, list(jobs.values())), unread)


def _existing(request: Request, jobs: list[Job]) -> list[Job]:
    """The jobs, those whose output exists marked or refused as the request wants it."""
    if request.overwrite:
        return jobs
    # A link to nowhere too: what it would make is not asked for.
    there = {job.target for job in jobs if os.path.lexists(job.target)}
    if there and not request.skip_existing:
        first = next(job.target for job in jobs if job.target in there)
        words = f"{first} exists" if len(jobs) == 1 else f"{len(there)} of {len(jobs)} outputs exist, the first {first}"
        raise ValueError(f"{words}: --overwrite replaces, --skip-existing keeps what exists")
    return [replace(job, skip=job.target in there) for job in jobs]


def _check_inputs_kept(jobs: list[Job]) -> None:
    """No output is one of the inputs, by whatever name."""

    def identity(path: Path) -> tuple[int, int] | None:
        try:
            there = path.stat()
        except OSError:
            return None
        return (there.st_dev, there.st_ino) if stat.S_ISREG(there.st_mode) else None

    inputs = {identity(job.source): job.source for job in jobs if job.source != DASH}
    for job in jobs:
        known = None if job.skip or job.target == DASH else identity(job.target)
        if known is not None and known in inputs:
            raise ValueError(f"{job.target} is an input, {inputs[known]}: input and output are the same file")


def is_unnamed(path: Path) -> bool:
    """Whether the name of an output says nothing of its format: standard output, descriptors, devices and pipes."""
    if path == DASH or path.parent in (Path("/dev/fd"), Path("/proc/self/fd")):
        return True
    return not path.suffix and (path.is_fifo() or path.is_char_device())


def image_suffixes() -> set[str]:
    """Suffixes of images but its own, whether fastlic reads them or not."""
    from PIL import Image

    from fastlic.codec.container import SUFFIX

    return {*Image.registered_extensions(), *_OTHER_IMAGES} - {SUFFIX}  # which a plugin may have registered


def _suffixes(folder: Path, of: Collection[str]) -> Counter[str]:
    """How many files with one of some suffixes a folder holds, by suffix."""
    found = (path.suffix.lower() for path in folder.rglob("*") if path.suffix.lower() in of and path.is_file())
    return Counter(found)


def contents(source: Path) -> bytes:
    """All bytes of an input."""
    if source != DASH:
        return read_bounded(source)
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("it is closed or a terminal: pipe or redirect a file into it")
    return read_bounded(sys.stdin.buffer)


@contextlib.contextmanager
def about(source: Path) -> Iterator[None]:
    """Errors within are of that input, and name it."""
    try:
        yield
    except USER_ERRORS as error:
        raise click.ClickException(told(error, named(source))) from error


def seekable(source: Path) -> Path | io.BytesIO:
    """An input that can be read from its middle, which pipes cannot."""
    if source == DASH or source.is_fifo():
        return io.BytesIO(contents(source))
    return source
