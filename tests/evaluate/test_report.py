"""Averages, tables and BD-rates of records with known answers."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from fastlic.evaluate import Record
from fastlic.evaluate.report import averages, bd_rates, table, to_json

RECORD = Record(
    codec="ours", image="a", quality=1, height=10, width=10, size=100, psnr=30.0, ms_ssim=None,
    compress_seconds=1.0, decompress_seconds=3.0,
)  # fmt: skip


def curve(codec: str, image: str, factor: float) -> list[Record]:
    return [
        dataclasses.replace(RECORD, codec=codec, image=image, quality=q, size=round(1000 * q * factor), psnr=28.0 + q)
        for q in (1, 2, 3)
    ]


def test_psnr_and_bpp_are_averaged_over_images():
    other = dataclasses.replace(RECORD, image="b", size=50, psnr=40.0, width=20, compress_seconds=2.0)
    (row,) = averages([RECORD, other])
    assert (row.bpp, row.psnr, row.images, row.compress_seconds) == ((8.0 + 2.0) / 2, 35.0, 2, 1.5)
    assert (row.ms_ssim, row.over_estimate, row.same_latents) == (None, None, None)


def test_the_estimate_is_compared_with_all_sections_together():
    records = [
        dataclasses.replace(RECORD, image=name, size=size, framing_bytes=40, estimated_bits=bits)
        for name, size, bits in (("a", 140, 790.0), ("b", 240, 1600.0))
    ]
    (row,) = averages(records)
    assert row.over_estimate == pytest.approx(100 * (8 * 300 / 2390 - 1))


def test_one_image_with_other_latents_spoils_the_row():
    records = [dataclasses.replace(RECORD, image=n, same_latents=s) for n, s in (("a", True), ("b", False))]
    assert averages(records)[0].same_latents is False
    assert "DIFFERENT" in table(averages(records))


def test_bd_rate_of_scaled_curves_is_the_scale():
    records = [*curve("ours", "a", 0.8), *curve("JPEG", "a", 1), *curve("ours", "b", 0.6), *curve("JPEG", "b", 1)]
    (result,) = bd_rates(records, "ours", ["JPEG"])
    assert result.of_averages == pytest.approx(-30)
    assert result.over_images == pytest.approx(-30)
    assert result.text() == "-30.00 % from the averaged curves, -30.00 % on average over images"


def test_bd_rate_at_equal_ms_ssim_is_of_ms_ssim_and_only_where_all_have_it():
    ours, theirs = curve("ours", "a", 0.8), curve("JPEG", "a", 1)
    assert bd_rates([*ours, *theirs], "ours", ["JPEG"], "MS-SSIM") == []
    measured = [dataclasses.replace(r, ms_ssim=1 - 10 ** (-r.psnr / 10), psnr=50 - r.psnr) for r in (*ours, *theirs)]
    (result,) = bd_rates(measured, "ours", ["JPEG"], "MS-SSIM")
    assert (result.of_averages, result.metric) == (pytest.approx(-20), "MS-SSIM")
    assert (
        bd_rates([*measured, dataclasses.replace(measured[0], ms_ssim=None, quality=9)], "ours", ["JPEG"], "MS-SSIM")
        == []
    )


def test_an_undefined_bd_rate_says_why():
    (result,) = bd_rates([RECORD, *curve("JPEG", "a", 1)], "ours", ["JPEG"])
    assert result.text() == "not defined for the averaged curves: the test curve needs at least two points, got 1"


def test_columns_without_a_value_are_left_out_and_the_rest_is_aligned():
    text = table(averages([*curve("ours", "a", 1), *curve("JPEG", "a", 1)]))
    assert "MS-SSIM" not in text
    assert len({len(line) for line in text.splitlines()}) == 1
    assert len(text.splitlines()) == 7


def test_json_is_strict_even_for_lossless_images():
    records = [dataclasses.replace(RECORD, psnr=math.inf)]
    content = to_json(records, [], {"codec": "ours"})
    assert json.loads(json.dumps(content, allow_nan=False))["records"][0]["psnr"] is None
