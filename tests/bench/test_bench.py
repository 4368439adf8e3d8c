"""python -m fastlic.bench: one entry point that lists, measures, and records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fastlic import Codec, _native
from fastlic.bench.__main__ import main
from fastlic.bench.report import table
from fastlic.bench.runner import Case, measure
from fastlic.bench.suites import engine, throughput
from fastlic.ops.backends import instruction_set

GOLDEN = Path(__file__).parents[1] / "golden"


def test_every_suite_lists_its_cases_without_running_them(capsys):
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert "rans" in listed
    assert "  compressai decode 4 streams" in listed


def test_a_filtered_run_prints_a_table_and_appends_json(tmp_path, capsys):
    record = tmp_path / "runs.json"
    arguments = ["rans", "--filter", "*decode sigma 1.0", "--seconds", "0.01", "--json", str(record)]
    assert main(arguments) == 0
    assert main(arguments) == 0
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert len(lines) == 2
    assert lines[0]["name"] == "native decode sigma 1.0"
    assert lines[0]["seconds"]["p20"] <= lines[0]["seconds"]["median"] <= lines[0]["seconds"]["p80"]
    assert lines[0]["machine"]["cpu"]
    assert "Msym/s" in capsys.readouterr().out


def test_unknown_names_are_an_error_not_an_empty_table(capsys):
    assert main(["nonsense"]) == 2
    assert main(["rans", "--filter", "nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_peer_and_roofline_become_ratios():
    case = Case("x", lambda: None, 2.0, "op", peer=lambda: sum(range(20_000)), peer_name="slow", roofline=1e30)
    result = measure(case, budget=0.01)
    assert result.ratio is not None
    assert result.ratio > 1
    assert "slow" in table([result])


@pytest.mark.parametrize("isa", _native.supported_isas())
def test_rooflines_are_measured_for_each_instruction_set(isa, monkeypatch):
    with instruction_set(isa):
        assert (_native.peak_products() > 0) == (isa != "scalar")
    assert _native.peak_loads() > 0
    model = Codec.load(GOLDEN / "tiny_jahp.safetensors").entropy
    seen = []
    monkeypatch.setattr(_native, "peak_products", lambda: seen.append(_native.get_isa()) or 0.0)
    assert engine.roofline(isa, 1.0) == {} and seen == [isa]
    monkeypatch.setattr(_native, "peak_products", lambda: 6.0 * engine.products(model, 16, 16))
    assert engine.roofline(isa, engine.products(model, 16, 16))["roofline"] == pytest.approx(6)


def test_images_together_are_timed_beside_the_same_files_and_pixels_one_by_one():
    compress, decompress = throughput.cases(lambda name: "of mcquic 512x768, 1 together" in name)
    assert compress.run() == compress.peer()
    assert torch.equal(torch.stack(decompress.run()), torch.stack(decompress.peer()))
