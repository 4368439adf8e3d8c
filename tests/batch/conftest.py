"""A folder of small crops of the test photos, one of them no image."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def crops(photos: Path, tmp_path: Path) -> Path:
    """tmp_path/photos: six images of 64x48 in two folders, and one that is damaged."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    with Image.open(photos / "chelsea.png") as image:
        for i in range(6):
            crop = image.convert("RGB").crop((10 * i, 5 * i, 10 * i + 64, 5 * i + 48))
            crop.save(folder / ("deep" if i % 2 else ".") / f"{i}.{('png', 'jpg', 'webp')[i % 3]}")
    (folder / "deep" / "bad.png").write_bytes(b"no image")
    return folder
