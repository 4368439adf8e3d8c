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
import torch

import fastlic
from fastlic.cli.compress import compress
from fastlic.cli.decompress import decompress
from fastlic.cli.demo import demo
from fastlic.cli.evaluate import evaluate
from fastlic.cli.export import export
from fastlic.cli.files import USER_ERRORS, describe
from fastlic.cli.info import info
from fastlic.cli.train import train
from fastlic.errors import memory_errors


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(fastlic.__version__, prog_name="fastlic")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads to use; results do not depend on it.")
def cli(threads: int | None) -> None:
    """Learned image compression: images to .flic files and back."""
    if threads is not None:
        torch.set_num_threads(threads)


for command in (compress, decompress, info, evaluate, train, export, demo):
    cli.add_command(command)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    # As an exception, so that half-written files are removed on the way out.
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with memory_errors("this command"):
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
    except USER_ERRORS as error:
        click.echo(f"Error: {describe(error)}", err=True)
        sys.exit(1)
