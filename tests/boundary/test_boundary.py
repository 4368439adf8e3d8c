"""No argument crashes, hangs or confuses the core or an operation: each gives an answer or a refusal in words.

The calls run in processes of their own (run.py), so that a crash names the call. With LD_PRELOAD of AddressSanitizer's
runtime and an extension built for it they are checked access by access; .ci/run does that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import entries
import rows
import rows_native
import values

from fastlic import _native

RUN = Path(__file__).with_name("run.py")


ENTRIES = {
    "native": entries.native_entries,
    "ops": entries.ops_entries,
    "codec": entries.codec_entries,
    "integers": entries.integers_entries,
    "entropy": entries.entropy_entries,
}


@pytest.mark.parametrize(("batch", "entries"), ENTRIES.items())
def test_every_entry_and_every_parameter_has_its_row(batch, entries):
    table = rows.BATCHES[batch]
    found = dict(entries())
    # A row in brackets is a second one of its entry.
    assert {name.split(" (")[0] for name in table} == set(found), "an entry without a row, or a row without an entry"
    missing = {name: parameters - set(table[name]().arguments) for name, parameters in found.items()}
    assert not {name: lacks for name, lacks in missing.items() if lacks}, "parameters without a valid value"


EVERYTHING = [pytest.param(batch, 1, marks=pytest.mark.slow, id=f"{batch}-all") for batch in ("codec", "entropy")]


@pytest.mark.parametrize(("batch", "everything"), [*((batch, 0) for batch in rows.BATCHES), *EVERYTHING])
def test_hostile_arguments_give_an_answer_or_a_refusal_in_words(batch, everything, tmp_path):
    log, wrong, start = tmp_path / "log", [], 0
    # Tests of kernels ask for Triton's interpreter; the suite is the same with and without them.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    while True:
        command = [sys.executable, str(RUN), batch, str(log), str(start), str(everything)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        if lines and lines[-1] == "done":
            break
        assert lines and isinstance(lines[-1], list), result.stderr[-4000:]  # it never came to a call
        number, name = lines[-1]
        wrong.append(f"{name}: the process ended with {result.returncode}\n{result.stderr[-3000:]}")
        log.write_text(log.read_text() + json.dumps({"wrong": None}) + "\n")
        start = number + 1
        assert len(wrong) < 200, "\n".join(wrong)
    names = [line[1] for line in lines if isinstance(line, list)]
    for name, outcome in zip(names, (line for line in lines if isinstance(line, dict)), strict=True):
        if outcome["wrong"] is not None:
            wrong.append(f"{name}: {outcome['wrong']}")
    print(f"{batch}: {len(rows.BATCHES[batch])} rows, {len(names)} calls, {len(wrong)} wrong")
    assert not wrong, f"{len(wrong)} of {len(names)} calls:\n" + "\n".join(wrong)


def test_indexes_that_another_thread_changes_never_lead_outside_the_tables():
    command = [sys.executable, str(RUN.with_name("flip.py")), "2"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, f"{result.stdout[-200:]}\n{result.stderr[-4000:]}"


THREADS = """
import os, threading
import rows
import rows_native
import values
most, over = 0, threading.Event()
def watch():
    global most
    while not over.is_set():
        most = max(most, len(os.listdir("/proc/self/task")))
before = len(os.listdir("/proc/self/task"))
watcher = threading.Thread(target=watch)
watcher.start()
call = rows_native.NATIVE["LatentEngine.decode_many (slices)"]()
call.run(**{**call.arguments, "threads": 5000})
over.set()
watcher.join()
print(most - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads by /proc")
def test_five_thousand_threads_are_not_started():
    command = [sys.executable, "-c", THREADS]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(RUN.parent), *sys.path])}
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr[-4000:]
    assert int(result.stdout) <= max(64, os.cpu_count() or 1) + 1


def test_a_negative_number_of_threads_is_named():
    call = rows_native.NATIVE["gdn"]()
    with pytest.raises(ValueError, match=r"threads must be 0 .* got -3"):
        call.run(**{**call.arguments, "threads": -3})


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("isa", _native.supported_isas())
def test_gdn_may_write_over_its_own_input(isa, inverse):
    before, x = _native.get_isa(), np.random.default_rng(1).normal(size=(2000, 37)).astype(np.float32)
    own = {"beta": np.ones(37, np.float32), "gamma": np.full((37, 37), 0.1, np.float32), "inverse": inverse}
    expected = np.zeros_like(x)
    _native.set_isa(isa)
    _native.gdn(x, expected, **own, threads=2)
    _native.gdn(x, x, **own, threads=2)
    _native.set_isa(before)
    assert np.array_equal(x, expected)


def test_a_decoder_serves_one_thread_at_a_time():
    """Two threads in one decoder: either finds it at work, or free; nobody reads past its stream."""
    tables, indexes = values.cdf_tables().native, np.zeros(200_000, np.uint8)
    symbols = np.zeros(indexes.size, np.int16)
    decoder = _native.RansDecoder(_native.rans_encode(symbols, indexes, tables, 1), tables)
    answers: list[str] = []

    def decode() -> None:
        try:
            for _ in range(20):
                decoder.decode(indexes[:1000], np.empty(1000, np.int16))
            answers.append("decoded")
        except ValueError as error:
            answers.append(str(error))

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "decoded" in answers
    assert all(answer == "decoded" or "at work in another thread" in answer for answer in answers)
