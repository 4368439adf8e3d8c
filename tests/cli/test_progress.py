"""One large image: how far it is and the time left on a terminal, and Ctrl-C in the middle."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import textwrap
from pathlib import Path

import numpy as np
import pytest

from fastlic import light
from fastlic.codec.calibration import PHOTO
from fastlic.codec.image_files import encode_image, read_image


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """About 2 MP, as a PNG and as a stream."""
    path = tmp_path_factory.mktemp("large") / "a.png"
    pixels = np.tile(read_image(PHOTO).array, (3, 3, 1))[:1200, :1800]
    path.write_bytes(encode_image(pixels, ".png"))
    path.with_suffix(".flic").write_bytes(light.compress(pixels))
    return path


# Both commands in one process; a bar at once, and at each of its chances.
_BOTH = """
    import functools, sys
    import tqdm
    from fastlic.cli import progress
    from fastlic.cli.main import main
    progress._DELAY = 0
    tqdm.tqdm = functools.partial(tqdm.tqdm, mininterval=0)
    for command in (["compress", sys.argv[1], "a.flic"], ["decompress", "a.flic", "a.png"]):
        # Many threads would be done before there is anything to tell.
        sys.argv[1:] = ["--threads", "1", *command, *(sys.argv[2:] if command[0] == "compress" else [])]
        try:
            main()
        except SystemExit as stop:
            assert not stop.code
"""


def written_to(terminal: int) -> str:
    """All that came to a terminal whose other side is closed."""
    pieces = []
    with contextlib.suppress(OSError):  # which is how its end is told
        while piece := os.read(terminal, 4096):
            pieces.append(piece)
    return b"".join(pieces).decode()


def test_a_terminal_shows_each_step_of_one_large_image_and_the_time_left(large, tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    command = [sys.executable, "-c", textwrap.dedent(_BOTH), str(large)]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, timeout=120, text=True)
    os.close(theirs)
    shown = written_to(ours)
    os.close(ours)
    assert done.returncode == 0 and done.stdout.count("\n") == 2, shown
    for step in ("compressing", "verifying", "decompressing"):
        seen = [int(share) for share in re.findall(rf"\r{step}: +(\d+)%\|[^\r]*\| \d+:\d\d<\d+:\d\d", shown)]
        assert len(seen) > 1 and seen == sorted(seen) and seen[-1] <= 100, step
    assert re.search(r"encoding: [\d.]+[kM]?B \[", shown)
    assert shown.rstrip("\r").split("\r")[-1].strip() == ""  # nothing of it is left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_a_signal_within_one_large_image_ends_it_at_once_and_leaves_no_file(
    fastlic_command, monkeypatch, large, tmp_path, command, number
):
    call, told = getattr(light, command), []

    def signalled(*arguments, progress, **named):
        def see(share: float) -> None:
            told.append(share)
            if len(told) == 1:
                os.kill(os.getpid(), number)
            progress(share)

        return call(*arguments, progress=see, **named)

    monkeypatch.setattr(light, command, signalled)
    source, target = (large, "b.flic") if command == "compress" else (large.with_suffix(".flic"), "b.png")
    result = fastlic_command("--threads", "1", command, source, target, "--quiet")
    assert result.code == 128 + number and len(told) == 1
    assert result.err.strip() == ("interrupted" if number == signal.SIGINT else "terminated")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_shown_where_it_is_no_terminal(fastlic_command, large):
    assert fastlic_command("compress", large, "a.flic").err == ""
    assert fastlic_command("decompress", "a.flic", "a.png").err == ""
