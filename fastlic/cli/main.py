"""All commands together, and what a user sees when something goes wrong: one line, never a traceback.

Exit codes: 0 done, 1 an input failed or the output cannot be delivered, 2 wrong usage, 129, 130 and 143 stopped by
SIGHUP, SIGINT and SIGTERM.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

import fastlic
from fastlic.cli import jobs
from fastlic.cli.batch import batch
from fastlic.cli.compress import compress
from fastlic.cli.decompress import decompress
from fastlic.cli.demo import demo
from fastlic.cli.evaluate import evaluate
from fastlic.cli.export import export
from fastlic.cli.info import info
from fastlic.cli.inspect import inspect
from fastlic.cli.train import train
from fastlic.cli.view import view
from fastlic.cli.words import USER_ERRORS, describe
from fastlic.errors import memory_errors


def _version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        click.echo(f"fastlic, version {fastlic.__version__}")
        context.exit()


class _Commands(click.Group):
    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError as error:
            if error.filename is None:  # our own output, whose reader has gone: click ends without a word
                raise
            raise click.ClickException(describe(error)) from error


_WITHOUT_TORCH = ("batch", "compress", "decompress", "demo", "view")  # they ask options.threads


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show it and exit.")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads to use; results do not depend on it.")
@click.pass_context
def cli(context: click.Context, threads: int | None) -> None:
    """Learned image compression: images to .flic files and back."""
    if threads is not None and context.invoked_subcommand not in _WITHOUT_TORCH:
        import torch

        torch.set_num_threads(threads)


# Their modules import torch when a command runs, not before: --help, wrong usage and completion take no seconds.
for command in (compress, decompress, batch, view, info, evaluate, inspect, train, export, demo):
    cli.add_command(command)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class _Stopped(BaseException):
    """A signal that ends the process came: an exception, so that half-written files are removed on the way out."""


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise _Stopped(number)


def main() -> None:
    """Run the command line and exit."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup has it ignored: so it stays
            signal.signal(number, _stop)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may have characters that the terminal does not
        sys.stdout.reconfigure(errors="backslashreplace")
    code = _run()
    code = max(code, 1) if _output_lost() else code
    if jobs.workers_left():  # the core cannot be interrupted, and the interpreter would wait for it
        with contextlib.suppress(OSError, AttributeError):
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _run() -> int:
    """The exit code; what went wrong has been told."""
    try:
        with memory_errors("this command"):
            cli.main(prog_name="fastlic", standalone_mode=False)
    except SystemExit as stop:
        return int(stop.code or 0)
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _tell("interrupted")
        return 130
    except _Stopped as stop:
        _tell("terminated")
        return 128 + int(stop.args[0])
    except USER_ERRORS as error:
        if isinstance(error, OSError) and error.filename is None and error.errno in _FULL:
            _abandon_output(error)  # errors of other files have their names
        else:
            _tell(f"Error: {describe(error)}")
        return 1
    return 0


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # whoever closed stderr wants no words
        click.echo(text, err=True)


def _output_lost() -> bool:
    """Whether what was printed cannot be delivered; that is told, and the interpreter does not try again."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        _abandon_output(error)
        return True
    return False


def _abandon_output(error: OSError) -> None:
    if not isinstance(error, BrokenPipeError):  # `fastlic eval ... | head` is nobody's mistake
        _tell(f"Error: standard output: {describe(error)}")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
