"""Whole files and strings, changed under lengths and checksums that fit: a result or an error of ours, nothing else.

FASTLIC_FUZZ_SEED chooses other changes, FASTLIC_FUZZ_SECONDS how long each target goes on.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import struct
import sys
from pathlib import Path

import pytest

from fastlic.codec import container
from fastlic.codec.container import Metadata
from fastlic.errors import CorruptStreamError

FILES = Path(__file__).parents[2] / "fuzz" / "files"
SEED = os.environ.get("FASTLIC_FUZZ_SEED", "7")
SECONDS = float(os.environ.get("FASTLIC_FUZZ_SECONDS", "600"))
RUNS = 10**9 if "FASTLIC_FUZZ_SECONDS" in os.environ else 300

sys.path.insert(0, str(FILES))
mutate = importlib.import_module("mutate")
run = importlib.import_module("run")
targets = importlib.import_module("targets")
sys.path.remove(str(FILES))

QUICK = ("flic-jahp", "flic-mlicpp", "flic-mcquic", "strings", "mcq")


def fuzzed(name: str, runs: int, folder: Path) -> None:
    print(f"replay: python fuzz/files/run.py {name} --runs {runs} --seed {SEED}")
    findings = run.Findings(folder)
    try:
        assert run.fuzz(name, SECONDS, runs, int(SEED), findings) > 0
    except ImportError as error:
        pytest.skip(str(error))
    assert not findings.kinds


@pytest.mark.fuzz
@pytest.mark.parametrize("name", QUICK)
def test_changed_streams_give_a_result_or_an_error_of_ours_everywhere_alike(name, tmp_path):
    fuzzed(name, 60, tmp_path)


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("name", targets.TARGETS)
def test_changed_files_give_a_result_or_an_error_of_ours_everywhere_alike(name, tmp_path):
    fuzzed(name, RUNS, tmp_path)


@pytest.mark.parametrize("version", [2, 3])
def test_mutators_repair_what_guards_a_stream(tiny_codec, photo, version):
    metadata = Metadata(b"profile", b"II*\0", b"<x/>") if version == 3 else None
    data = tiny_codec.compress(photo, 3.0, metadata=metadata)
    assert data[4] == version and mutate.Flic(data).pack() == data
    draw, refused, same = random.Random(3), 0, 0
    for _ in range(400):
        changed = mutate.of_flic(data, draw)
        same += changed == data
        try:
            container.unpack(changed)
        except CorruptStreamError as error:
            refused += "checksum" in str(error)
    assert refused < 40 and same < 20


def test_mutators_repair_what_lays_out_a_codec_file(tiny_codec_file):
    data = tiny_codec_file.read_bytes()
    file = mutate.Safetensors(data)
    again = mutate.Safetensors(file.pack())
    assert (
        again.tensors == file.tensors and again.metadata == file.metadata and again.header.keys() == file.header.keys()
    )
    damaged_byte = bytearray(data)
    damaged_byte[-1] ^= 1
    assert mutate.sealed(data) == data != mutate.sealed(bytes(damaged_byte))
    assert mutate.sealed(bytes(damaged_byte))[-100:] == damaged_byte[-100:] and b"sha256" in data
    draw, damaged = random.Random(3), 0
    for _ in range(100):
        try:
            mutate.Safetensors(mutate.of_safetensors(data, draw))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            damaged += 1
    assert damaged < 30


@pytest.mark.parametrize("mutator", ["of_flic", "of_safetensors", "of_msgpack", "of_zip", "of_strings", "of_wrapped"])
def test_a_seed_gives_the_same_changes_and_takes_any_bytes(mutator):
    change = getattr(mutate, mutator)
    for size in (0, 1, 9, 500):
        data = random.Random(size).randbytes(size)
        assert [change(data, random.Random(n)) for n in range(40)] == [
            change(data, random.Random(n)) for n in range(40)
        ]


def test_mutators_take_what_mutators_made():
    """A run goes on from what it found, so descriptions of tensors are of any type after some rounds."""
    entries = {name: {"dtype": "I16", "shape": [3], "data_offsets": [at, at + 6]} for at, name in ((0, "a"), (6, "b"))}
    header = json.dumps({"__metadata__": {"fastlic": '{"layers": [1]}'}} | entries).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(12)
    draw = random.Random(5)
    for _ in range(1000):
        changed = data
        for _ in range(12):
            changed = mutate.of_safetensors(changed, draw)


def test_findings_are_kept_one_of_a_kind(tmp_path, capsys, monkeypatch):
    def fails(data: bytes) -> None:
        raise KeyError(data[:1])

    target = targets.Target(lambda: [b"seed"], mutate.of_bytes, lambda data: None if data == b"seed" else fails(data))
    monkeypatch.setitem(targets.TARGETS, "faulty", target)
    findings = run.Findings(tmp_path)
    assert run.fuzz("faulty", 60, 50, 1, findings) == 50
    (kept,) = tmp_path.iterdir()
    assert len(findings.kinds) == 1 and "KeyError" in capsys.readouterr().out
    with pytest.raises(KeyError):
        target.execute(kept.read_bytes())
