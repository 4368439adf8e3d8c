"""From a training run's best checkpoint to a codec file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fastlic.codec.codec import Codec
from fastlic.models import FAMILIES

CALIBRATION_TILES = 16


def export(checkpoint: Path, tiles: Tensor, path: Path, name: str) -> Codec:
    """Convert ``best.pt`` of a run and save it; the integer ranges are measured on evenly spaced training tiles.

    Args:
        tiles: [n, 3, H, W] uint8.
        path: the .safetensors file to write.
        name: what the codec calls itself.
    """
    stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    config = stored["config"]
    model = FAMILIES[config["family"]](config["N"], config["M"], tuple(config["widths"]), len(config["lambdas"]))
    model.load_state_dict(stored["model"])
    calibration = tiles[:: max(len(tiles) // CALIBRATION_TILES, 1)][:CALIBRATION_TILES]
    codec = Codec(model.eval(), list(calibration), name)
    codec.save(path)
    return codec
