"""The McQuic suite, at sizes that take no time."""

from __future__ import annotations

import re

import pytest
import torch

from fastlic.bench.runner import measure
from fastlic.bench.suites import mcquic as suite


@pytest.mark.parametrize("dense", [False, True])
def test_the_search_and_its_peer_find_the_same_words(dense: bool):
    case = suite.search_case("search", 2, 8, dense, n=20, k=300)
    assert "40 of 40 indexes are" in case.note
    result = measure(case, budget=0.001)
    assert result.ratio is not None and result.ratio > 0


def test_whole_images_run_beside_the_convolutions_of_the_same_pass():
    cases = list(suite.cases(lambda name: "compress" in name, channel=8, m=2, height=64, width=96, k=(64, 32, 16)))
    assert [case.name.split()[0] for case in cases] == ["compress", "decompress"]
    for case in cases:
        assert case.peer is not None
        seen: list[tuple[int, ...]] = []
        true = torch.nn.functional.conv2d

        def count(x, weight, *others, true=true, seen=seen, **named):
            y = true(x, weight, *others, **named)
            seen.append((*y.shape, *weight.shape))
            return y

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.nn.functional, "conv2d", count)
            floor = suite.convolutions(case.run)
            before = len(seen)
            case.run()
        assert before == 165 and seen[:before] == seen[before:]  # of either direction, GDN's five included
        floor()


def test_the_search_of_a_large_image_needs_little_memory():
    case = suite.memory_case("memory", height=512, width=768)
    found = re.search(r"peak (\d+) MiB .* has ([\d.]+) GiB", case.note)
    assert found is None or int(found[1]) < 100 < 1024 * float(found[2])


def test_indexes_come_back_from_either_coder():
    for way in ("encode", "decode"):
        case = suite.coder_case("coder", way)
        assert case.work == 24192
        case.run()
        if case.peer is not None:
            case.peer()


@pytest.mark.parametrize("way", ["encode", "decode"])
def test_the_context_runs_beside_the_tables_alone(way: str):
    case = suite.context_case("context", way)
    assert case.work == 7680 and case.peer is not None
    assert (case.run() != case.peer()) if way == "encode" else (case.run() == case.peer()).all()
