"""Targets in place of a quality: they are met, or an error says what the codec reaches; one search for every way in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import fastlic
from fastlic import light
from fastlic.codec.calibration import PHOTO
from fastlic.codec.image_files import read_image
from fastlic.codec.targets import Goal, goal_of, psnr, quality_of, search


@pytest.fixture(scope="module")
def part() -> np.ndarray:
    return np.ascontiguousarray(read_image(PHOTO).array[64:192, 100:260])


class Made:
    """A codec that is nothing but a curve, and counts; ``gives``: by how much bytes fall with ln worth."""

    def __init__(self, curve, qualities=8, gives=0.0):
        self.curve, self.qualities, self.gives, self.asked = curve, qualities, gives, []

    def search(self, goal, start=None, finer=True):
        def encode(quality, worth):
            self.asked.append((quality, worth))
            return bytes(round(self.curve(quality) * worth**self.gives))

        return search(goal, encode, lambda data: 10 * math.log10(len(data)), self.qualities, 4096, start, finer)


CURVES = {
    "even": lambda q: round(300 * math.exp(0.37 * q)),
    "steps": lambda q: 100 * round(8 * q),
    "bent": lambda q: round(2000 + 3 * q**5),
    "rough": lambda q: round(300 * math.exp(0.37 * q) + 20 * math.sin(40 * q)),
}


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.77, 0.99, 1.0])
@pytest.mark.parametrize("start", [None, 1, 6.25, 8])
def test_the_best_file_of_so_many_bytes_is_found_in_few_encodes(curve, share, start):
    made = Made(curve)
    most = curve(1) + share * (curve(8) - curve(1))
    found = made.search(Goal("target_bytes", most), start)
    assert len(found.data) <= most
    assert found.quality == 8 or curve(found.quality + 1 / 16) > most or len(found.data) >= 0.99 * most
    assert found.encodes == len(made.asked) == len(set(made.asked)) <= 14
    assert all(worth == 1 for _, worth in made.asked[:-1])  # without dead zones one look is enough


@pytest.mark.parametrize("gives", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("kind", ["target_bytes", "target_bpp", "target_psnr"])
def test_dead_zones_meet_what_lies_between_two_qualities(kind, gives):
    curve = CURVES["even"]
    for share in (0.1, 0.34, 0.55, 0.8):
        size = curve(1) + share * (curve(8) - curve(1))
        value = {"target_bytes": size, "target_bpp": 8 * size / 4096, "target_psnr": 10 * math.log10(size)}[kind]
        made = Made(curve, gives=gives)
        found = made.search(Goal(kind, value))
        assert abs(math.log(len(found.data) / size)) <= math.log(1.0125)
        assert len(found.data) <= size or kind != "target_bytes"
        assert found.encodes == len(made.asked) == len(set(made.asked)) <= 12
        assert all(0.39 < worth <= 1 for _, worth in made.asked)
        coarse = Made(curve, gives=gives)
        coarse.search(Goal(kind, value), finer=False)
        assert all(worth == 1 for _, worth in coarse.asked)


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_the_nearest_rate_is_found(curve):
    for goal in (0.3, 0.5, 0.71, 0.94):
        size = curve(1) + goal * (curve(8) - curve(1))
        found = Made(curve).search(Goal("target_bpp", 8 * size / 4096))
        nearest = min((curve(k / 16) for k in range(16, 129)), key=lambda n: abs(math.log(n / size)))
        off = abs(math.log(len(found.data) / size))
        assert off <= max(abs(math.log(nearest / size)) + 1e-9, math.log(1.01))


def test_what_lies_outside_the_qualities_is_told_with_what_they_give():
    made = Made(CURVES["even"])
    first, last = made.curve(1), made.curve(8)
    with pytest.raises(ValueError, match=rf"target_bytes=200 is out .* {first} bytes at quality 1 and {last:,} bytes"):
        made.search(Goal("target_bytes", 200))
    with pytest.raises(ValueError, match=r"target_bpp=90 is out .*bpp, .* bytes at quality 8"):
        made.search(Goal("target_bpp", 90))
    with pytest.raises(ValueError, match=r"target_psnr=10 is out of reach: .* dB at quality 1 and .* dB at quality 8"):
        made.search(Goal("target_psnr", 10))
    best = 10 * math.log10(made.curve(8))
    with pytest.raises(ValueError, match=rf"this image reaches .* dB at quality 1 and {best:.2f} dB at quality 8"):
        made.search(Goal("target_psnr", 1e20))
    assert made.search(Goal("target_bytes", 10**9)).quality == 8  # there is no need to fill a budget


def test_an_image_that_comes_back_as_it_was_has_a_finite_psnr_in_messages():
    with pytest.raises(ValueError, match=r"200\.00 dB"):
        search(Goal("target_psnr", 60), lambda q, worth: bytes(9), lambda data: math.inf, 8, 4096)


@pytest.mark.parametrize("name", ["jahp", "mlic++"])
def test_every_way_in_meets_a_target_with_the_same_file(name, part):
    x = torch.from_numpy(part).permute(2, 0, 1)
    sizes = [len(light.compress(part, name, quality)) for quality in (2, 3)]
    for target in ({"target_bytes": sum(sizes) // 2}, {"target_bpp": 4 * sum(sizes) / part[..., 0].size}):
        data = light.compress(part, name, **target)
        assert fastlic.compress(x, name, **target) == data == fastlic.load(name).compress(x, **target)
        assert sizes[0] <= len(data) <= sizes[1]


@pytest.mark.parametrize("name", ["jahp", "mlic++"])
@pytest.mark.parametrize("worth", [0.41, 0.85])
def test_wider_dead_zones_give_the_same_smaller_file_with_and_without_torch(name, worth, part):
    x, codec, own = torch.from_numpy(part).permute(2, 0, 1), fastlic.load(name), light.load(name)
    data = own.encode(part, 72, 1, 1 << 20, worth=worth)
    header = codec._header(*part.shape[:2], 4.5)
    assert codec._compress_many(x[None], header, worth=worth)[0] == data
    assert len(data) < len(light.compress(part, name, 4.5)) and fastlic.peek(data).quality == 4.5
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="worth must be above 0"):
            own.encode(part, 72, 1, 1 << 20, worth=wrong)


def test_a_psnr_is_met_within_a_twentieth_of_a_decibel(part):
    around = [psnr(part, light.decompress(light.compress(part, quality=q))) for q in (4, 5)]
    data = light.compress(part, target_psnr=sum(around) / 2)
    assert abs(psnr(part, light.decompress(data)) - sum(around) / 2) <= 0.05


def test_each_image_of_a_batch_meets_the_target(part):
    x = torch.from_numpy(part).permute(2, 0, 1)
    both = torch.stack([x, x.flip(0) // 2])
    streams = fastlic.compress(both, target_bytes=900)
    assert [fastlic.compress(one, target_bytes=900) for one in both] == streams
    assert all(len(data) <= 900 for data in streams)


def test_one_of_quality_and_targets_decides(part):
    x = torch.from_numpy(part).permute(2, 0, 1)
    for compress, image in ((fastlic.compress, x), (light.compress, part)):
        with pytest.raises(ValueError, match="quality and target_bpp"):
            compress(image, quality=4, target_bpp=0.5)
        with pytest.raises(ValueError, match="target_bpp and target_psnr"):
            compress(image, target_bpp=0.5, target_psnr=30)
        with pytest.raises(ValueError, match="target_bytes must be above 0"):
            compress(image, target_bytes=0)
        with pytest.raises(TypeError, match="target_bytes must be a number"):
            compress(image, target_bytes="9 kB")
        with pytest.raises(ValueError, match=r"target_psnr=90 is out of reach"):
            compress(image, target_psnr=90)
    assert goal_of(4) is None and goal_of(None) is None


def test_codecs_of_one_rate_have_no_targets(part, monkeypatch):
    codec = fastlic.load("jahp")
    monkeypatch.setattr(type(codec), "qualities", 0)
    with pytest.raises(ValueError, match="one fixed rate, which target_bytes cannot change"):
        codec.compress(torch.from_numpy(part).permute(2, 0, 1), target_bytes=500)


def test_a_quality_is_kept_in_sixteenths_and_defaults_to_four_or_the_last():
    assert quality_of(2.51, 8) == 2.5 and quality_of(None, 8) == 4 and quality_of(None, 3) == 3
    with pytest.raises(TypeError, match="quality must be a number from 1 to 8, got str"):
        quality_of("4", 8)
    with pytest.raises(ValueError, match=r"quality must be from 1 to 8, got 8\.1"):
        quality_of(8.1, 8)
