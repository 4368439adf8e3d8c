"""Everything here is bounded: what does not end in time is killed, and the test says so."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from fastlic.ops.backends import torch_threads

PATIENCE = 60.0  # seconds; what is awaited takes less than one


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Floats of transforms differ in their last digits between thread counts, and McQuic's codes with them."""
    torch.set_num_threads(1)  # of this thread, and of those that begin later


def call_in_child(work: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """``work()`` in a forked child; what it returns. Fails if it raises, dies, or does not end in time."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            try:
                answer = (True, work())
            except BaseException:
                answer = (False, traceback.format_exc())
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(answer, pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    received, until = b"", time.monotonic() + patience
    try:
        while select.select([reader], [], [], max(until - time.monotonic(), 0))[0]:
            piece = os.read(reader, 1 << 16)
            if not piece:
                break
            received += piece
        else:
            pytest.fail(f"a forked child was still running after {patience:g} s: it waits for what only its parent has")
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)  # of a child that has ended, nothing
        _, status = os.waitpid(child, 0)
    if not received:
        pytest.fail(f"a forked child died: {os.waitstatus_to_exitcode(status)}")
    good, value = pickle.loads(received)
    if not good:
        pytest.fail(f"a forked child failed:\n{value}")
    return value


def call_in_threads(works: Sequence[Callable[[], Any]], patience: float = PATIENCE) -> list[Any]:
    """What each ``work()`` returns, all begun at the same moment, each in a thread of its own."""
    start = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)
    failures: list[BaseException] = []

    def run(i: int) -> None:
        try:
            start.wait(patience)
            results[i] = works[i]()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(works))]
    for thread in threads:
        thread.start()
    until = time.monotonic() + patience
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))
        if thread.is_alive():
            pytest.fail(f"threads were still running after {patience:g} s: they wait for each other")
    if failures:
        raise failures[0]
    return results


def run_program(source: str, *arguments: str, patience: float = PATIENCE) -> str:
    """What a Python program prints; it and all that it started are killed if it does not end in time."""
    dump = f"import faulthandler; faulthandler.dump_traceback_later({patience - 5}, exit=True)\n"
    command = [sys.executable, "-c", dump + source, *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, errors = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        pytest.fail(f"a program was still running after {patience:g} s")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        pytest.fail(f"a program ended with {process.returncode}:\n{errors[-4000:]}")
    return out


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads of torch, whatever the machine has."""
    with torch_threads(2):
        yield


@pytest.fixture
def in_child() -> Callable[..., Any]:
    return call_in_child


@pytest.fixture
def in_threads() -> Callable[..., list[Any]]:
    return call_in_threads


@pytest.fixture
def program() -> Callable[..., str]:
    return run_program
