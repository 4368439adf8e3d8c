"""Runs the command line in this process, as the installed ``fastlic`` script does."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass

import pytest
import torch

from fastlic.cli.main import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def signals_as_they_are_by_default():
    """A parent such as nohup, or a shell in the background, may have had signals ignored, which children inherit."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def fastlic_command(monkeypatch, capsys, tmp_path):
    """fastlic_command("compress", path, ...) -> Outcome, with an empty folder as the current one."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fastlic", *map(str, arguments)])
        threads = torch.get_num_threads()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            torch.set_num_threads(threads)
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Outcome(code, out, err)

    return run
