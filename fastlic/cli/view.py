"""``fastlic view``: a look at a file, in the system's viewer or in the terminal."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastlic.cli import files, options
from fastlic.cli.coder import Coder, is_mcq

if TYPE_CHECKING:
    from PIL import Image

_PATIENCE = 3.0  # seconds within which an xdg-open that finds nothing has said so


@click.command()
@click.argument("file", type=options.FILE)
@options.stream_model
@click.option("--terminal", is_flag=True, help="Draw it here in coloured half blocks, as wide as the terminal.")
@options.max_pixels
def view(file: Path, model: str | None, terminal: bool, max_pixels: int | None) -> None:
    """Decompress FILE.flic or FILE.mcq and show it.

    The system's viewer gets a temporary PNG, which the system removes in its own time.
    """
    from PIL import Image

    coder = Coder(model, threads=options.threads() or 0, max_pixels=max_pixels)
    with files.about(file):
        pixels = coder.decompress(files.contents(file), is_mcq(file))
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if terminal:
        columns, lines = shutil.get_terminal_size()
        for line in _half_blocks(image, columns, max(lines - 1, 1)):  # one is the next prompt's
            click.echo(line, color=True)
    elif not _viewed(image, str(file)):
        raise ValueError("there is no viewer of images that could be started: --terminal draws it here")


def _viewed(image: Image.Image, title: str) -> bool:
    """Whether a viewer was started. Pillow takes every xdg-open for one, and does not ask how that ended."""
    from PIL import ImageShow

    class Asked(ImageShow.XDGViewer):
        def show_file(self, path: str, **options: object) -> int:
            opened = subprocess.Popen(["xdg-open", path])
            try:
                return int(opened.wait(_PATIENCE) == 0)
            except subprocess.TimeoutExpired:  # it has become the viewer
                return 1

    xdg = sys.platform not in ("darwin", "win32") and shutil.which("xdg-open")
    return bool(Asked().show(image, title=title)) if xdg else ImageShow.show(image, title=title)


def _half_blocks(image: Image.Image, columns: int, lines: int) -> list[str]:
    """Lines of upper half blocks, two pixels each: the image as large as fits, and no larger than it is."""
    scale = min(columns / image.width, 2 * lines / image.height, 1)
    width, height = max(round(image.width * scale), 1), 2 * max(round(image.height * scale / 2), 1)
    rows = list(
        image.resize((width, height)).convert("RGB").tobytes()[i : i + 3 * width]
        for i in range(0, 3 * width * height, 3 * width)
    )

    def cell(above: bytes, below: bytes) -> str:
        return "\x1b[38;2;{};{};{}m\x1b[48;2;{};{};{}m▀".format(*above, *below)

    return [
        "".join(cell(a[i : i + 3], b[i : i + 3]) for i in range(0, 3 * width, 3)) + "\x1b[0m"
        for a, b in zip(rows[::2], rows[1::2], strict=True)
    ]
