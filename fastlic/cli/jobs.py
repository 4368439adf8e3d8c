"""Jobs, one at a time or several, and the lines, the progress and the exit code that come of them.

Several run in threads of this process rather than in processes: the core, Pillow and zlib work outside Python's lock,
threads start at once, share the weights, and need no pickles of images.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import click

from fastlic.cli import options
from fastlic.cli.files import Job, Plan, Request, named
from fastlic.cli.words import DASH, USER_ERRORS, say, told
from fastlic.errors import memory_errors
from fastlic.files import status, write_whole

_WORKERS = "fastlic-job"  # what their threads are called
_HEED = 0.5  # seconds until a signal is heeded at the latest


class Watch:
    """Seconds since the job began, and what they went into."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self.parts: dict[str, float] = {}

    def lap(self, part: str) -> None:
        """Book the time since the last lap to ``part``."""
        now = time.perf_counter()
        self.parts[part] = now - self._last
        self._last = now

    @property
    def seconds(self) -> float:
        """From the beginning to the last lap."""
        return self._last - self._began


@dataclass(frozen=True)
class Done:
    """What became of a job: the output's bytes, and what there is to tell."""

    data: bytes
    height: int
    width: int
    stream_bytes: int  # of the .flic or .mcq
    psnr: float | None = None  # dB
    notes: tuple[str, ...] = ()
    stream_pixels: int | None = None  # of the image that the stream holds; None: height x width


Work = Callable[[Job, Watch], Done]


@dataclass
class _Outcome:
    """A job that is over."""

    job: Job
    watch: Watch
    done: Done | None = None  # None: it failed, or its output was there
    error: str | None = None
    size: int = 0  # bytes of the output

    def line(self, verb: str) -> str:
        done = self.done
        assert done is not None
        parts = [f"{done.width}x{done.height}", f"{self.size:,} bytes"]
        if done.stream_bytes == self.size:
            parts.append(f"{self.bpp:.3f} bpp")
        laps = ", ".join(f"{part} {seconds:.2f}" for part, seconds in self.watch.parts.items())
        parts.append(f"{verb} in {self.watch.seconds:.2f} s ({laps})")
        if done.psnr is not None:
            parts.append(f"PSNR {done.psnr:.2f} dB")
        text = ", ".join([*parts, *(f"({note})" for note in done.notes)])
        return f"{named(self.job.source)} -> {named(self.job.target, 'output')}: {text}"

    @property
    def bpp(self) -> float:
        assert self.done is not None
        return 8 * self.done.stream_bytes / (self.done.stream_pixels or self.done.height * self.done.width)

    def facts(self) -> dict[str, Any]:
        """The line in JSON; docs/command-line.md lists its keys."""
        facts: dict[str, Any] = {"path": str(self.job.source), "output": str(self.job.target)}
        if self.error is not None:
            return facts | {"error": self.error}
        if self.done is None:
            return facts | {"skipped": True}
        facts |= {"bytes": self.size, "bpp": round(self.bpp, 6), "width": self.done.width, "height": self.done.height}
        facts |= {"seconds": round(self.watch.seconds, 4)}
        if self.done.psnr is not None:  # JSON has no infinity
            facts["psnr"] = round(self.done.psnr, 4) if math.isfinite(self.done.psnr) else None
        return facts | ({"notes": list(self.done.notes)} if self.done.notes else {})


@dataclass
class _Gate:
    """Through which workers write: once it is shut nobody writes, and nobody will."""

    workers: int
    _shut: bool = False
    _places: threading.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._places = threading.Semaphore(self.workers)

    def write(self, job: Job, data: bytes, make_folder: bool) -> None:
        with self._places:
            if self._shut:
                raise SystemExit(1)
            write_whole(job.target, data, make_folder)

    def shut(self) -> None:
        self._shut = True
        for _ in range(self.workers):
            self._places.acquire()
        self._places.release(self.workers)


def _workers(request: Request, plan: Plan) -> int:
    return max(min(request.jobs or options.cores(), sum(not job.skip for job in plan.jobs)), 1)


def threads(request: Request, plan: Plan) -> int:
    """Threads of each job, 0 for one per core: what the user says, or one where several jobs run at a time."""
    return options.threads() or (1 if _workers(request, plan) > 1 else 0)


def run(plan: Plan, request: Request, verb: str, work: Work) -> None:
    """Do ``work`` for each job and print a line for it; go on after a bad file and exit with 1 at the end.

    Args:
        verb: what is done to the files, in the past tense.
        work: gives what to write; it laps its watch for each part of what it does.
    """
    from tqdm import tqdm

    jobs = plan.jobs
    gate = _Gate(_workers(request, plan))

    def attempt(job: Job) -> _Outcome:
        outcome = _Outcome(job, Watch())
        if job.skip:
            return outcome
        try:
            _check_target(job)
            with memory_errors("an image of this size"):  # reading and measuring included
                done = work(job, outcome.watch)
            _check_target(job)  # others may have written it in the meantime
            if job.target != DASH:
                gate.write(job, done.data, make_folder=request.output_dir is not None)
        except USER_ERRORS as error:
            outcome.error = told(error, named(job.source))
            return outcome
        if job.target == DASH:  # outside: that nobody reads our output is not the file's failure
            sys.stdout.buffer.write(done.data)
            sys.stdout.buffer.flush()
        outcome.watch.lap("writing")
        # The lines need no bytes: many outcomes may wait for an earlier one.
        outcome.done, outcome.size = replace(done, data=b""), len(done.data)
        return outcome

    if note := "" if request.quiet else plan.note():
        say(note, err=True)
    began = time.perf_counter()
    outcomes: list[_Outcome] = []
    bar = tqdm(total=len(jobs), unit="file", disable=None if len(jobs) > 1 and not request.quiet else True, leave=False)
    with bar, closing(_in_order(jobs, attempt, gate)) as over:
        for outcome in over:
            outcomes.append(outcome)
            with bar.external_write_mode():
                if request.as_json:
                    click.echo(json.dumps(outcome.facts()))
                elif outcome.done is not None and not request.quiet:
                    say(outcome.line(verb), err=plan.to_stdout)
            bar.update()
    if not request.as_json and not request.quiet:
        for line in _summary(outcomes, time.perf_counter() - began):
            say(line, err=plan.to_stdout)
    failures = [outcome.error for outcome in outcomes if outcome.error is not None]
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    if failures:
        raise SystemExit(1)


def _in_order(jobs: Sequence[Job], attempt: Callable[[Job], _Outcome], gate: _Gate) -> Generator[_Outcome, None, None]:
    """The outcomes in the order of the jobs; who stops early leaves no file half written."""
    if gate.workers == 1:
        yield from map(attempt, jobs)
        return
    pool = ThreadPoolExecutor(gate.workers, thread_name_prefix=_WORKERS)
    try:
        futures = deque(pool.submit(attempt, job) for job in jobs)
        while futures:
            # Not one long wait: a signal that comes just before it, or to another thread, would be seen at its end.
            while not wait([futures[0]], timeout=_HEED).done:
                pass
            yield futures.popleft().result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        gate.shut()
        raise
    pool.shutdown()


def workers_left() -> bool:
    """Whether jobs that nobody waits for any more are still running; they write nothing."""
    return any(thread.name.startswith(_WORKERS) for thread in threading.enumerate())


def _summary(outcomes: Sequence[_Outcome], seconds: float) -> list[str]:
    done = [outcome for outcome in outcomes if outcome.done is not None]
    kept = sum(outcome.done is None and outcome.error is None for outcome in outcomes)
    if len(outcomes) == 1:
        return [f"{outcomes[0].job.target} exists and was kept"] if kept else []
    words = f"{len(done)} of {len(outcomes)} files" + (f", {kept} kept that existed" if kept else "")
    return [f"{words}, {sum(outcome.size for outcome in done):,} bytes, {seconds:.1f} s"]


def _check_target(job: Job) -> None:
    if job.target == DASH:
        return
    if os.path.lexists(job.target) and not job.overwrite:  # made since the plan was
        raise ValueError(f"{job.target} exists: --overwrite replaces it")
    if job.target.parent.is_dir():
        status(job.target)
