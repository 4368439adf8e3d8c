"""Images to measure on: those of a folder, or the demonstration photo laid out to a size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fastlic.codec.calibration import PHOTO
from fastlic.codec.image_files import find_images, read_image


def images(folder: Path | None, limit: int | None = None) -> Iterator[tuple[str, Tensor]]:
    """Name and pixels, uint8 [3, H, W], of the first images of a folder; without one, of the demonstration photo."""
    for path in [PHOTO] if folder is None else find_images(folder)[:limit]:
        yield path.name, read_image(path).pixels


def tiled(height: int, width: int, moved: int = 0) -> Tensor:
    """The demonstration photo and its mirror images, side by side, cut to a size: uint8 [3, height, width].

    Args:
        moved: another number begins at another place.
    """
    photo = read_image(PHOTO).pixels
    wide = torch.cat([photo, photo.flip(2)], 2)
    tile = torch.cat([wide, wide.flip(1)], 1).roll((7 * moved, 11 * moved), (1, 2))
    down, across = -(-height // tile.shape[1]), -(-width // tile.shape[2])
    return tile.repeat(1, down, across)[:, :height, :width].contiguous()


def photos(folder: Path, count: int, megapixels: float, suffix: str) -> None:
    """Writes image files 00000.SUFFIX, ... of that size each, all different."""
    folder.mkdir()
    height, width = (round((megapixels * 1e6 * a / b) ** 0.5) for a, b in ((2, 3), (3, 2)))
    for index in range(count):
        pixels = tiled(height, width, index).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{index:05d}{suffix}", quality=92)
