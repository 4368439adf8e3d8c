"""Options that several commands share."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import fastlic
from fastlic.cli.files import Request
from fastlic.cli.words import DASH

if TYPE_CHECKING:
    from fastlic import light


def _device(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    form = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", value)
    if form is None:
        raise click.BadParameter(f"{value!r} is no device: use cpu, cuda or cuda:N")
    if value != "cpu":
        import torch  # not for the other: wrong usage and --help need no seconds of imports

        if not torch.cuda.is_available():
            raise click.BadParameter(f"{value!r} asked for, but {fastlic.info()['cuda']}")
        if int(form[1] or 0) >= (count := torch.cuda.device_count()):
            raise click.BadParameter(f"{value!r} asked for, but there are {count} devices, from cuda:0 on")
    return value


def _colour(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        from fastlic.codec.image_files import colour_of

        try:
            colour_of(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return value


class _Path(click.Path):
    """A path. An empty one is of a variable that is not set, ``"$FILE"``, and to pathlib the current folder."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Path:
        if not value:
            self.fail("an empty name", parameter, context)
        return Path(os.fsdecode(super().convert(value, parameter, context)))


class _File(_Path):
    """The same, or ``DASH`` for - and the system's names of the two standard streams."""

    _STREAMS = (
        "-",
        "/dev/stdin",
        "/dev/stdout",
        *(f"{folder}/{n}" for folder in ("/dev/fd", "/proc/self/fd") for n in "01"),
    )

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Path:
        if os.fspath(value) in self._STREAMS:
            return DASH
        path = super().convert(value, parameter, context)
        return path.absolute() if path == DASH else path  # ./-


PATH = _Path()
FILE = _File()

_FILES = (
    click.argument("inputs", nargs=-1, required=True, type=FILE),
    click.option("-o", "--output", type=FILE, help="File to write, - for standard output; takes one input."),
    click.option("--output-dir", type=PATH, help="Folder to write to; names of inputs are mirrored there."),
    click.option("-f", "--overwrite", "--force", is_flag=True, help="Replace files whose names were derived."),
    click.option("--skip-existing", is_flag=True, help="Leave files that exist, and do the rest."),
    click.option("--keep-suffix", is_flag=True, help="Keep whole names: a.jpg.flic of a.jpg, a.flic.png of a.flic."),
    click.option(
        "-j", "--jobs", type=click.IntRange(0, 1024), default=1, show_default=True, metavar="N",
        help="Files at a time, 0 for one per core. Several have one thread each, unless fastlic --threads says more.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print a line of JSON per file."),
    click.option("--quiet", is_flag=True, help="Print errors only."),
)  # fmt: skip


def files(command: Callable[..., None]) -> Callable[..., None]:
    """Arguments and options of a command that turns files into files; it takes them together, as ``request``."""

    @functools.wraps(command)
    def call(**values: Any) -> None:
        said = {name: values.pop(name) for name in Request.__dataclass_fields__}
        command(request=Request(**said), **values)

    for option in reversed(_FILES):
        option(call)
    return call


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int | None:
    """What ``fastlic --threads`` says for the command that is running."""
    return click.get_current_context().find_root().params.get("threads")


device = click.option(
    "--device", default="cpu", show_default=True, callback=_device, help="Where the transforms run: cpu, cuda, cuda:N."
)
train_device = click.option("--device", callback=_device, help="cpu, cuda or cuda:N.  [default: a GPU if there is one]")
max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    metavar="N",
    help="Largest height x width to take.  [default: FASTLIC_MAX_PIXELS, or 89478485]",
)
model = click.option(
    "-m", "--model", default=fastlic.DEFAULT_MODEL, show_default=True, help="Shipped weights or a codec file."
)
_TARGETS = (
    click.option("--target-bpp", type=float, metavar="BPP", help="In place of a quality: bits per pixel."),
    click.option(
        "--target-bytes", type=float, metavar="N", help="In place of a quality: the best file of N bytes or less."
    ),
    click.option("--target-psnr", type=float, metavar="DB", help="In place of a quality: PSNR over RGB."),
)


class _Region(click.ParamType):
    """WxH+X+Y: left, top, width and height of a part of an image."""

    name = "region"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int, int, int]:
        form = re.fullmatch(r"(\d{1,9})x(\d{1,9})\+(\d{1,9})\+(\d{1,9})", value, re.ASCII)
        if form is None:
            self.fail(f"must be WxH+X+Y, such as 640x480+0+100, got {value!r}", parameter, context)
        width, height, left, top = map(int, form.groups())
        return left, top, width, height


region = click.option(
    "--region",
    type=_Region(),
    metavar="WxH+X+Y",
    help="Only a part: W columns and H rows, from column X and row Y on, counted from 0.",
)
strip = click.option("--strip", is_flag=True, help="Leave out colour profile, EXIF and XMP, which are kept otherwise.")
effort = click.option(
    "--effort",
    type=click.IntRange(0, 9),
    default=0,
    show_default=True,
    help="Fewer bytes for the same PSNR, and more time; which efforts are equal differs by model: docs/effort.md.",
)


def targets(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of ``fastlic.codec.targets``."""
    for option in reversed(_TARGETS):
        command = option(command)
    return command


def chosen_target(quality: float | None, bpp: float | None, size: float | None, psnr: float | None) -> dict[str, float]:
    """The argument of ``fastlic.compress`` that the one target stands for; empty without one.

    Raises:
        click.UsageError: more than one of quality and targets, or a target that no file can have.
    """
    from fastlic.codec.targets import goal_of

    try:
        goal = goal_of(quality, bpp, size, psnr)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return {} if goal is None else {goal.kind: goal.value}


stream_model = click.option(
    "-m", "--model", help="Codec file that the streams were made with.  [default: shipped weights that fit the stream]"
)
quality = click.option("-q", "--quality", type=float, help="1 (smallest) to 8 (best), fractions allowed.  [default: 4]")
background = click.option(
    "--background", metavar="COLOR", callback=_colour, help="Lay transparent images on this colour (white, #aabbcc)."
)


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> list[float] | None:
    """Callback of an option that takes numbers separated by commas."""
    try:
        return None if value is None else [float(part) for part in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no list of numbers such as 1,2.5,4") from error


def checked_quality(codec: fastlic.Codec | light.Codec, quality: float | None) -> float | None:
    """``quality`` as a file holds it, or the default where none was given and the codec takes one.

    Raises:
        click.UsageError: outside the codec's range, or given to a codec of one fixed rate.
    """
    from fastlic.codec.targets import quality_of  # it loads numpy

    if not codec.qualities:
        if quality is not None:
            raise click.UsageError(f"codec {codec.name!r} has one fixed rate and takes no quality")
        return None
    try:
        return quality_of(quality, codec.qualities)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
