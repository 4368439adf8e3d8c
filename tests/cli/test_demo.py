"""``fastlic demo`` with a small codec; with the shipped weights it runs in tests/test_readme.py."""

from __future__ import annotations

from fastlic.codec.image_files import read_image


def test_the_demo_writes_both_files_and_prints_the_figures(fastlic_command, tiny_codec_file, tmp_path):
    result = fastlic_command("demo", "-m", tiny_codec_file, "--out", "here")
    assert result.code == 0
    assert read_image(tmp_path / "here" / "photo.png").pixels.shape == (3, 400, 600)
    size = (tmp_path / "here" / "photo.flic").stat().st_size
    assert f"600x400, {size:,} bytes, {8 * size / 240000:.3f} bpp" in result.out
    assert "PSNR" in result.out
    assert "compressed in" in result.out
