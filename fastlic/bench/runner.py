"""Timing: a case and its peer take turns, so that whatever else the machine does hits both alike."""

from __future__ import annotations

import importlib
import pkgutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch

from fastlic.ops.backends import instruction_set

Run = Callable[[], Any]
Wanted = Callable[[str], bool]
Key = TypeVar("Key")
Clock = Literal["thread", "wall"]
CLOCKS: dict[str, Callable[[], float]] = {"thread": time.thread_time, "wall": time.perf_counter}


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
    package = importlib.import_module("fastlic.bench.suites")
    found: dict[str, Suite] = {}
    for info in pkgutil.iter_modules(package.__path__):
        found[info.name] = importlib.import_module(f"fastlic.bench.suites.{info.name}").cases
    return found


def chosen(wanted: Wanted, names: dict[Key, str]) -> dict[Key, str]:
    """Those of a suite's cases that are asked for."""
    return {key: name for key, name in names.items() if wanted(name)}


def on_isa(isa: str, run: Run) -> Run:
    """``run`` on that instruction set."""

    def forced() -> Any:
        with instruction_set(isa):
            return run()

    return forced


def one_thread(run: Run) -> Run:
    """``run`` without gradients and with one thread of torch."""

    def alone() -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.no_grad():
                return run()
        finally:
            torch.set_num_threads(before)

    return alone


def without_gradients(run: Run) -> Run:
    """``run`` without gradients, on torch's threads."""

    def plain() -> Any:
        with torch.no_grad():
            return run()

    return plain


def percentile(times: list[float], fraction: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, round(fraction * (len(ordered) - 1)))]


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
    median = statistics.median(times[0])
    result = Measurement(
        name=case.name,
        unit=case.unit,
        rate=case.work / median,
        seconds={
            "median": median,
            "p20": percentile(times[0], 0.2),
            "p80": percentile(times[0], 0.8),
            "best": min(times[0]),
        },
        repeats=len(times[0]),
        peer=case.peer_name,
        roofline=case.roofline,
        bound=case.bound,
        note=case.note,
    )
    if case.repeats > 1:
        result.seconds = {key: value / case.repeats for key, value in result.seconds.items()}
    if case.traffic:
        result.extra["bytes_per_second"] = case.traffic / median
    if case.peer:
        result.peer_rate = (case.peer_work or case.work) / statistics.median(times[1])
        result.ratio = result.rate / result.peer_rate
    return result
