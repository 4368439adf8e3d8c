"""The photo on which a codec is calibrated when its owner names no images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastlic.codec.image_files import read_image

if TYPE_CHECKING:
    from torch import Tensor

PHOTO = Path(__file__).resolve().parent.parent / "data" / "photo.png"


def default_calibration() -> list[Tensor]:
    """The demonstration photo, upright and turned, and its negative: [3, H, W] each, float in [0, 1]."""
    photo = read_image(PHOTO).pixels.float() / 255
    return [photo, photo.transpose(1, 2), 1 - photo]
