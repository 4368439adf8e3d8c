"""PSNR and MS-SSIM of 8-bit images."""

from __future__ import annotations

import io
import math

import pytest
import torch
from PIL import Image

from fastlic.codec.image_files import read_image
from fastlic.evaluate import ms_ssim, psnr

DARK = torch.zeros(3, 170, 180, dtype=torch.uint8)


def test_psnr_is_10_log_of_peak_over_mean_squared_error():
    assert psnr(DARK, DARK) == math.inf
    assert psnr(DARK, DARK + 255) == 0
    assert psnr(DARK, DARK + 1) == pytest.approx(20 * math.log10(255))
    one_sample = DARK.clone()
    one_sample[0, 0, 0] = 5
    assert psnr(one_sample, DARK) == pytest.approx(10 * math.log10(255**2 * DARK.numel() / 25))


@pytest.mark.parametrize("other", [DARK.float(), DARK[:, :-1]])
def test_psnr_compares_like_with_like(other):
    with pytest.raises(ValueError, match="uint8 images of one shape"):
        psnr(DARK, other)


def test_ms_ssim_is_1_for_equal_images_and_falls_with_noise():
    pytest.importorskip("pytorch_msssim")
    noise = torch.randint(0, 256, DARK.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert ms_ssim(noise, noise) == pytest.approx(1)
    assert 0.5 < ms_ssim(noise, noise // 2) < 0.99


@pytest.mark.parametrize("quality", [5, 30, 75, 95, 100])
def test_ms_ssim_is_that_of_float64_within_a_millionth_and_five_thousandths_of_a_decibel(photos, quality):
    msssim = pytest.importorskip("pytorch_msssim")
    jpeg = io.BytesIO()
    with Image.open(photos / "astronaut.png") as image:
        image.convert("RGB").save(jpeg, "JPEG", quality=quality)
    pair = read_image(photos / "astronaut.png").pixels, read_image(jpeg).pixels
    exact = msssim.ms_ssim(*(x[None].double() for x in pair), data_range=255).item()
    index = ms_ssim(*pair)
    assert index == pytest.approx(exact, abs=2e-6)
    assert -10 * math.log10(1 - index) == pytest.approx(-10 * math.log10(1 - exact), abs=0.005)


def test_ms_ssim_close_to_1_is_computed_in_float64(photos):
    msssim = pytest.importorskip("pytorch_msssim")
    x = read_image(photos / "astronaut.png").pixels
    y = x.clone()
    y[0, ::7, ::5] ^= 1
    assert ms_ssim(x, y) == msssim.ms_ssim(x[None].double(), y[None].double(), data_range=255).item() > 0.9999


def test_ms_ssim_of_a_small_image_does_not_exist():
    pytest.importorskip("pytorch_msssim")
    assert ms_ssim(DARK[:, :160], DARK[:, :160]) is None
    assert ms_ssim(DARK[:, :161], DARK[:, :161]) is not None
