"""What whole images ask of a device, counted while no kernel computes anything."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from fastlic.bench import launches
from fastlic.bench.suites.transforms import pixels

SIZE = (128, 192)
FAMILIES = pytest.mark.parametrize("model", ["jahp", "mlic++", "mcquic"])


@pytest.fixture(autouse=True)
def interpreter(device):
    if device.type == "cuda":
        pytest.skip("kernels are passed over in Triton's interpreter alone")


@cache
def tallies(model: str, count: int) -> dict[str, launches.Tally]:
    return dict(launches.tallies(model, pixels()[:, : SIZE[0], : SIZE[1]].expand(count, -1, -1, -1)))


@FAMILIES
def test_images_together_take_the_launches_and_waits_of_one(model):
    one, three = tallies(model, 1), tallies(model, 3)
    for way, of_one in one.items():
        assert of_one.launches.total() > 10
        assert three[way].launches == of_one.launches, way
        assert three[way].waits == of_one.waits, way
        assert three[way].given > 1.5 * of_one.given, way  # weights are given once


@FAMILIES
def test_a_decoder_waits_for_no_number_until_its_streams_end(model):
    assert tallies(model, 3)["decompress"].waits == 0


def test_a_wavefront_meets_four_times_a_step_and_once_more_to_decode():
    steps = SIZE[1] // 16 + 3 * (SIZE[0] // 16 - 1)
    assert [tally.barriers for tally in tallies("jahp", 3).values()] == [4 * steps, 5 * steps]
    assert not any(tally.barriers for tally in tallies("mlic++", 1).values())


def test_what_is_seen_of_torch_is_work_on_a_device_and_no_view():
    from fastlic.kernels.packing import Map

    with launches.counted() as tally:
        made = Map.zeros(1, 4, 4, 64, 1, "cpu")
        assert made.part(0, 64).inner.shape == (1, 4, 4, 2, 64)
        torch.zeros(3)  # of no driver
    assert tally.operations == {"zeros": 1} and not tally.launches and not tally.waits


def test_the_command_prints_a_line_for_each_direction(capsys, monkeypatch):
    from triton import knobs

    monkeypatch.setattr(knobs.runtime, "interpret", True)  # which it sets
    assert launches.main(["--models", "mcquic", "--batch", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[2:]] == [["mcquic", "compress", "1"], ["mcquic", "decompress", "1"]]
