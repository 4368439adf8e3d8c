"""The McQuic suite, at sizes that take no time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from fastlic.bench import codes
from fastlic.bench.memory import peak
from fastlic.bench.runner import measure
from fastlic.bench.suites import mcquic as suite
from fastlic.codec import Codec
from fastlic.models import McQuic
from fastlic.models.mcquic import save_published
from fastlic.ops.codebook import codebook_nearest


@pytest.mark.parametrize("dense", [False, True])
def test_the_search_and_its_peer_find_the_same_words(dense: bool):
    case = suite.search_case("search", 2, 8, dense, n=20, k=300)
    assert "40 of 40 indexes are" in case.note
    result = measure(case, budget=0.001)
    assert result.ratio is not None and result.ratio > 0


def test_all_distances_lead_to_the_nearest_word():
    torch.manual_seed(0)
    x, words = torch.randn(3, 10, 4, 5), torch.randn(2, 70, 5)
    expected = codebook_nearest(x.permute(0, 2, 3, 1).reshape(60, 2, 5), words)
    assert torch.equal(suite.all_distances(x, words).permute(0, 2, 3, 1).reshape(60, 2), expected)


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
    if peak(lambda: None) is None:
        pytest.skip("this system does not tell what a process peaks at")
    found = re.search(r"peak (\d+) MiB .* has ([\d.]+) GiB", case.note)
    assert found is not None, case.note
    assert 0 < int(found[1]) < 100 < 1024 * float(found[2])


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


def test_searches_are_held_against_float64(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.manual_seed(0)
    save_published(McQuic(8, 2, [40, 20]), tmp_path / "x.mcquic")
    images = Path(__file__).parents[1] / "images"
    assert codes.main([str(tmp_path / "x.mcquic"), str(images)]) == 0
    assert " 0 differ from the float64 search" in capsys.readouterr().out
    assert codes.main(["jahp", str(images)]) == 2
    assert codes.main([str(tmp_path / "x.mcquic"), str(tmp_path)]) == 2


def test_a_wrong_index_is_counted():
    x, words, found = codes.searches(Codec(McQuic(8, 2, [40, 20]).eval()), torch.rand(3, 40, 40))[0]
    assert codes.compare(x, words, found)[0] == 0
    found[0, 0] = (found[0, 0] + 1) % 40
    assert codes.compare(x, words, found)[0] == 1


def test_bits_are_those_of_the_codec_without_its_context_and_with_it():
    from fastlic.models.mcquic.context import CodeContext

    torch.manual_seed(0)
    model, image = McQuic(8, 2, [16, 8]), torch.rand(3, 64, 96)
    plain = Codec(model, calibration=[image])
    knowing = Codec(model, calibration=[image], context=CodeContext(2, 16, depth=4, width=8))
    expected = plain.estimate(image)["bits"], knowing.estimate(image)["bits"]
    assert expected[0] != expected[1]
    assert codes.bits(knowing, [image]) == pytest.approx(expected)
    assert codes.bits(plain, [image]) == pytest.approx((expected[0], expected[0]))
