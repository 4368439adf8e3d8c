"""The shipped weights on Kodak: the figures that README states, as bounds. Slow; skips without the images."""

from __future__ import annotations

import pytest

import fastlic
from fastlic.codec.image_files import find_images, read_image
from fastlic.evaluate import Record, evaluate, evaluate_peer
from fastlic.evaluate.peers import find_peer
from fastlic.evaluate.report import averages, bd_rates

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def records(kodak) -> list[Record]:
    codec = fastlic.load(fastlic.DEFAULT_MODEL)
    found = []
    for path in find_images(kodak):
        x = read_image(path).pixels
        for quality in (1, 3, 5, 7):
            found.append(evaluate(codec, x, path.name, quality, with_estimate=True, with_check=quality == 3))
        for peer in ("jpeg", "webp"):
            found += evaluate_peer(find_peer(peer), x, path.name)
    return found


def test_both_sides_have_the_same_latents_on_one_thread_and_two(records):
    assert {r.same_latents for r in records if r.quality == 3 and r.codec == fastlic.DEFAULT_MODEL} == {True}


def test_framing_takes_at_most_48_bytes(records):
    # 8 bytes more than the container's own: the two sections begin with the coder's headers (docs/stream.md).
    assert max(r.framing_bytes for r in records if r.framing_bytes is not None) <= 40


def test_real_bytes_stay_within_half_a_per_cent_of_the_estimate(records):
    for row in averages(records):
        if row.over_estimate is not None:
            assert row.over_estimate <= 0.5, row


def test_files_are_as_much_smaller_than_jpegs_as_readme_says(records):
    # Of the records in docs/kodak.json at these four qualities: -52.6 % and -26.4 % (all eight: -51.5 % and -24.8 %).
    jpeg, webp = bd_rates(records, fastlic.DEFAULT_MODEL, ["JPEG", "WebP"])
    assert jpeg.of_averages is not None and jpeg.of_averages <= -52
    assert webp.of_averages is not None and webp.of_averages <= -25.5
