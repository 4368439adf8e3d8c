"""Timing: a case and its peer take turns, so that whatever else the machine does hits both alike."""

from __future__ import annotations

import importlib
import pkgutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch

from fastlic.ops.backends import torch_threads

Run = Callable[[], Any]
Runs = dict[str, Run]  # by way
Wanted = Callable[[str], bool]
Key = TypeVar("Key")
Choice = TypeVar("Choice", bound=tuple[Any, ...])
Clock = Literal["thread", "process", "wall"]
WAYS = ("encode", "decode")
CLOCKS: dict[str, Callable[[], float]] = {
    "thread": time.thread_time,
    "process": time.process_time,
    "wall": time.perf_counter,
}
MOST_ROUNDS = 25
Figures = dict[str, float]
Part = Callable[[], Figures]


@dataclass(frozen=True)
class Case:
    """One measured operation.

    work / seconds is reported in ``unit`` per second; ``roofline`` is the rate that the hardware's limit allows, with
    the reason in ``bound``. ``clock``: CPU time of the calling thread, or wall time where other threads do the work.
    """

    name: str
    run: Run
    work: float
    unit: str
    peer: Run | None = None
    peer_name: str = ""
    peer_work: float | None = None  # if the peer is given less to do
    roofline: float | None = None
    bound: str = ""
    clock: Clock = "thread"
    note: str = ""
    repeats: int = 1  # operations that one call of ``run`` does; times are reported for one
    traffic: float | None = None  # bytes that one call moves at least


@dataclass
class Measurement:
    name: str
    unit: str
    rate: float  # unit per second, at the median time
    seconds: dict[str, float]  # median, p20, p80, best
    repeats: int
    peer: str = ""
    peer_rate: float | None = None
    ratio: float | None = None
    roofline: float | None = None
    bound: str = ""
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


# A suite gives its name and a function that yields cases one by one, so that a filtered-out case costs no set-up.
Suite = Callable[[Wanted], Iterator[Case]]


def suites() -> dict[str, Suite]:
    """Every module in fastlic.bench.suites, by name; each defines ``cases(wanted)``."""
    names = [info.name for info in pkgutil.iter_modules(importlib.import_module("fastlic.bench.suites").__path__)]
    return {name: importlib.import_module(f"fastlic.bench.suites.{name}").cases for name in names}


def glob(text: str) -> str:
    """A pattern as it is; other text wherever it stands in a name."""
    return text if any(c in text for c in "*?[") else f"*{text}*"


def chosen(wanted: Wanted, names: dict[Key, str]) -> dict[Key, str]:
    """Those of a suite's cases that are asked for."""
    return {key: name for key, name in names.items() if wanted(name)}


def offered(
    wanted: Wanted, choices: Iterable[Choice], label: str, ways: tuple[str, ...] = WAYS
) -> Iterator[tuple[Choice, dict[str, str]]]:
    """Each choice of which a case is asked for, and its names by way; ``label`` has a place for every field, and
    ``{way}``."""
    for choice in choices:
        if names := chosen(wanted, {way: label.format(*choice, way=way) for way in ways}):
            yield choice, names


def clock_of_torch() -> Clock:
    return "thread" if torch.get_num_threads() == 1 else "wall"


@contextmanager
def one_thread() -> Iterator[None]:
    """No gradients, and one thread of torch; as a decorator, too."""
    with torch_threads(1), torch.no_grad():
        yield


def timed(name: str, run: Run, clock: Clock = "wall") -> Part:
    """A part for ``medians``: the seconds that ``run`` takes."""

    def part() -> Figures:
        began = CLOCKS[clock]()
        run()
        return {name: CLOCKS[clock]() - began}

    return part


def medians(parts: Sequence[Part], rounds: int, unmeasured: int = 0, seconds: float = 0) -> Figures:
    """Medians of all the figures that ``parts`` give, taking turns.

    Args:
        rounds: how often each is called, after ``unmeasured`` rounds.
        seconds: and on until so long has passed, at most MOST_ROUNDS times.
    """
    found: dict[str, list[float]] = {}
    done, end = -unmeasured, time.perf_counter() + seconds
    while done < rounds or (done < MOST_ROUNDS and time.perf_counter() < end):
        for part in parts:
            for name, value in part().items():
                found.setdefault(name, []).append(value)
        done += 1
    return {name: statistics.median(values[unmeasured:]) for name, values in found.items()}


# Started by a small process: a fork counts what its parent had in memory. What the command prints is dropped.
_START = """
import os, sys, time
began = time.perf_counter()
silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=silent)
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - began, usage.ru_maxrss << 10)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def process(command: list[str]) -> tuple[float, int]:
    """Seconds from start to end of a process, and its peak of memory in bytes."""
    start = [sys.executable, "-I", "-S", "-c", _START, *command]
    seconds, peak = subprocess.run(start, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return float(seconds), int(peak)


def measure(case: Case, budget: float = 1.0, least: int = 5, most: int = 200) -> Measurement:
    """Runs case and peer in turns for about ``budget`` seconds each, after one unmeasured run."""
    clock = CLOCKS[case.clock]
    sides = [case.run] + ([case.peer] if case.peer else [])
    times: list[list[float]] = [[] for _ in sides]
    spent = [0.0] * len(sides)
    for side in sides:
        side()
    while True:
        due = [i for i in range(len(sides)) if len(times[i]) < least or (spent[i] < budget and len(times[i]) < most)]
        if not due:
            break
        for i in due:
            # A peer thousands of times slower needs no more than three runs.
            if spent[i] > 4 * budget and len(times[i]) >= 3:
                times[i] += [statistics.median(times[i])] * (least - len(times[i]))
                continue
            wall, start = time.perf_counter(), clock()
            sides[i]()
            times[i].append(clock() - start)
            spent[i] += time.perf_counter() - wall
    median, last = statistics.median(times[0]), len(times[0]) - 1
    ordered = [seconds / case.repeats for seconds in sorted(times[0])]
    result = Measurement(
        **{name: getattr(case, name) for name in ("name", "unit", "roofline", "bound", "note")},
        rate=case.work / median,
        seconds={
            "median": median / case.repeats,
            "p20": ordered[round(0.2 * last)],
            "p80": ordered[round(0.8 * last)],
            "best": ordered[0],
        },
        repeats=len(ordered),
        peer=case.peer_name,
    )
    if case.traffic:
        result.extra["bytes_per_second"] = case.traffic / median
    if case.peer:
        result.peer_rate = (case.peer_work or case.work) / statistics.median(times[1])
        result.ratio = result.rate / result.peer_rate
    return result
