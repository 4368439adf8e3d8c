"""Runs the hostile calls of one batch in this process: ``python run.py BATCH LOG [FIRST [ALL]]``.

The log gets the name of each call before it is made and what came of it afterwards: where it ends without an outcome,
the process did too. ALL is 1 for the values that are left out of rows that take long, too. A call that takes too long
ends the process, with the stacks of its threads.

FASTLIC_BOUNDARY_PART=I/N in the environment: of the hostile calls every Nth alone, from number I on. Runs that draw I
see all of them in the course of time.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

import hostile
import rows
import values
import values_library

from fastlic.errors import FastlicError

SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
SECONDS = 120 if SANITIZED else 30
REFUSALS = (TypeError, ValueError, FastlicError, MemoryError, OSError)  # OSError: of paths
DOCUMENTED = {"float_symbols.round_differences": OverflowError}
# They have no users but the codec, whose words these are: no crash, no hang, no gigabytes is asked of them.
TRUSTING = {"entropy": Exception, "integers": Exception}
MEMORY = 4 << 30  # what hostile calls may reserve

PART, PARTS = map(int, os.environ.get("FASTLIC_BOUNDARY_PART", "0/1").split("/"))

Case = tuple[str, Callable[[], "str | None"]]


def cases(batch: str, everything: bool = False) -> Iterator[Case]:
    """(name, run) of every call; run() says what is wrong, or nothing."""
    for entry, row in rows.BATCHES[batch].items():
        every, number = 1 if everything else rows.EVERY.get(entry, 1), 0
        if entry not in rows.MAY_BE_ABSENT:
            yield f"{entry}: valid", lambda row=row: valid(row)
        yield f"{entry}: unknown argument", lambda row=row: attempt(row, lambda a: {**a, "unknown": 1}, False)
        call = row()
        for name, value in call.arguments.items():
            yield f"{entry}: without {name}", lambda row=row, n=name: attempt(row, lambda a: without(a, n), False)
            for label, make in hostile.variants(value):
                number += 1
                if number % every:
                    continue
                same = label.startswith("same") and not (label == "same: read-only" and name in call.outputs)

                def change(a: dict[str, Any], name: str = name, make: Any = make) -> dict[str, Any]:
                    return {**a, name: make()}

                yield (
                    f"{entry}: {name} {label}",
                    lambda row=row, change=change, same=same, entry=entry: attempt(
                        row, change, same, DOCUMENTED.get(entry, TRUSTING.get(batch, ()))
                    ),
                )
        yield from overlaps(entry, row, call)


def without(arguments: dict[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in arguments.items() if k != name}


def valid(row: Callable[[], values.Call]) -> str | None:
    call = row()
    call.run(**call.arguments)
    return None


def attempt(
    row: Callable[[], values.Call], change: Callable[[dict[str, Any]], dict[str, Any]], same: bool, documented: Any = ()
) -> str | None:
    call = row()
    try:
        arguments = change(call.arguments)
    except Exception:
        return None  # numpy or torch makes no such value
    try:
        result = call.run(**arguments)
    except REFUSALS as error:
        if "Unable to cast Python instance" in str(error):
            return f"does not say what was wrong: {error}"
        return None
    except Exception as error:
        if isinstance(error, documented):
            return None
        return f"{type(error).__name__} in place of a refusal: {str(error)[:300]}"
    if same:
        again = row()
        expected = again.run(**again.arguments)
        if not equal((result, outputs(call, arguments)), (expected, outputs(again, again.arguments))):
            return "gives another answer than the same values do"
    return None


def outputs(call: values.Call, arguments: dict[str, Any]) -> list[Any]:
    return [arguments[name] for name in call.outputs]


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, bytes | int | float | str | None):
        return a is b or a == b
    return type(a) is type(b)  # objects of the core


def overlaps(entry: str, row: Callable[[], values.Call], call: values.Call) -> Iterator[Case]:
    """Every output over the memory of every other array or stream, whole, in part, and by one element at either end."""
    for out in call.outputs:
        others = [*(name for name in call.arguments if name != out), *(["the stream"] if call.data else [])]
        for other in others:
            value = call.data if other == "the stream" else call.arguments[other]
            if not isinstance(first(value), np.ndarray | torch.Tensor | bytes | bytearray):
                continue
            for place in ("at its start", "in its middle", "at its end", "before it"):
                yield (
                    f"{entry}: {out} over {other}, {place}",
                    lambda row=row, out=out, other=other, place=place: overlap(row, out, other, place),
                )
        if isinstance(call.arguments[out], list):
            yield (
                f"{entry}: {out} over itself",
                lambda row=row, out=out: attempt(
                    row, lambda a: {**a, out: [x := a[out][0], x[: a[out][1].size], *a[out][2:]]}, True
                ),
            )


def overlap(row: Callable[[], values.Call], out: str, other: str, place: str) -> str | None:
    call, expected = row(), row()
    arguments = dict(call.arguments)
    target = first(arguments[out])
    source = call.data if other == "the stream" else first(arguments[other])
    target_array = target.numpy() if isinstance(target, torch.Tensor) else target
    size, item = target_array.nbytes, target_array.itemsize
    source_bytes = source if isinstance(source, bytes | bytearray) else bytes(np.asarray(source).tobytes())
    # One memory: [target's size | source | target's size]; the source stays where it is, the target moves over it.
    lead = -(-size // 64) * 64
    at = {
        "at its start": lead,
        "in its middle": lead + len(source_bytes) // 2 // item * item,
        "at its end": lead + (len(source_bytes) - 1) // item * item,
        "before it": lead - (size - item),
    }[place]
    if other == "the stream":
        if len(source_bytes) < size:  # the stream keeps its own memory, which ends early
            return None
        moved = np.frombuffer(source, target_array.dtype, target_array.size).reshape(target_array.shape)
    else:
        memory = np.zeros(2 * lead + len(source_bytes) + 64, np.uint8)
        memory[lead : lead + len(source_bytes)] = np.frombuffer(source_bytes, np.uint8)
        view = memory[lead : lead + len(source_bytes)]
        if isinstance(source, bytes | bytearray):
            placed: Any = memoryview(view)
        else:
            placed = view.view(np.asarray(source).dtype).reshape(np.asarray(source).shape)
            placed = torch.from_numpy(placed) if isinstance(source, torch.Tensor) else placed
        arguments[other] = replaced(arguments[other], placed)
        moved = memory[at : at + size].view(target_array.dtype).reshape(target_array.shape)
    arguments[out] = replaced(arguments[out], torch.from_numpy(moved) if isinstance(target, torch.Tensor) else moved)
    try:
        call.run(**arguments)
    except ValueError as error:
        if out not in str(error) or ("data" if other == "the stream" else other) not in str(error):
            return f"does not name both arguments: {error}"
        return None
    expected.run(**expected.arguments)
    if not np.array_equal(moved, np.asarray(first(expected.arguments[out]))):
        return "accepted, and wrong"
    return None


def first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def replaced(value: Any, by: Any) -> Any:
    return [by, *value[1:]] if isinstance(value, list) else by


def limit_memory() -> None:
    if SANITIZED or sys.platform != "linux":  # AddressSanitizer reserves terabytes; its allocator refuses by itself
        return
    import resource

    reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (reserved + MEMORY, resource.RLIM_INFINITY))


def main(batch: str, log: str, start: int = 0, everything: int = 0) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    faulthandler.enable()
    limit_memory()
    sys.path[:] = map(os.path.abspath, sys.path)
    os.chdir(values_library.FOLDER)  # where names that are no paths lead
    with open(log, "a", buffering=1) as file:
        for number, (name, run) in enumerate(cases(batch, bool(everything))):
            if number < start or not (number % PARTS == PART or name.endswith(": valid")):
                continue
            file.write(json.dumps([number, name]) + "\n")
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            try:
                wrong = run()
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            faulthandler.cancel_dump_traceback_later()
            file.write(json.dumps({"wrong": wrong}) + "\n")
        file.write(json.dumps("done") + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
