"""The group of commands, and what a user sees when something goes wrong: one line, never a traceback.

Exit codes: 0 done, 1 an input failed, 2 wrong usage, 130 and 143 interrupted (SIGINT, SIGTERM).
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

import fastlic
from fastlic.cli.compress import compress
from fastlic.cli.decompress import decompress
from fastlic.cli.demo import demo
from fastlic.cli.evaluate import evaluate
from fastlic.cli.export import export
from fastlic.cli.files import describe, user_errors
from fastlic.cli.info import info
from fastlic.cli.train import train


def _version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        click.echo(f"fastlic, version {fastlic.__version__}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show it and exit.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads to use; results do not depend on it.")
def cli(threads: int | None) -> None:
    """Learned image compression: images to .flic files and back."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


# Their modules import torch when a command runs, not before: --help, wrong usage and completion take no seconds.
for command in (compress, decompress, info, evaluate, train, export, demo):
    cli.add_command(command)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    # As an exception, so that half-written files are removed on the way out.
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        cli.main(prog_name="fastlic", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone: `fastlic eval ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except user_errors() as error:
        click.echo(f"Error: {describe(error)}", err=True)
        sys.exit(1)
