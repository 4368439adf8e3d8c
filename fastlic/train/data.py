"""Training images held as uint8 tiles in memory; crops and flips drawn from one seeded, resumable generator."""

from __future__ import annotations

import csv
import hashlib
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fastlic.codec.image_files import find_images, read_image
from fastlic.files import written_whole

TILE = 256


def _sources(folder: Path) -> dict[str, str]:
    """File name -> photograph it was cut from, where the folder's TILES.tsv says so."""
    table = folder / "TILES.tsv"
    if not table.is_file():
        return {}
    try:
        with table.open(newline="") as file:
            return {row["tile"]: row["source"] for row in csv.DictReader(file, delimiter="\t")}
    except (csv.Error, KeyError, ValueError) as error:
        raise ValueError(f"{table} is no table of tabs with the columns tile and source: {error}") from error


def _is_validation(source: str, share: float) -> bool:
    # A hash of the photograph's name, not a random draw: the split survives added files and other machines, and
    # tiles of one photograph never fall on both sides.
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:4], "big") < share * 2**32


def _tiles(path: Path) -> list[np.ndarray]:
    try:
        pixels = read_image(path, background="black").pixels.numpy()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    rows, columns = pixels.shape[1] // TILE, pixels.shape[2] // TILE
    cut = pixels[:, : rows * TILE, : columns * TILE].reshape(3, rows, TILE, columns, TILE)
    return list(cut.transpose(1, 3, 0, 2, 4).reshape(-1, 3, TILE, TILE))


def load_tiles(folder: Path, validation_share: float = 0.02, cache: Path | None = None) -> tuple[Tensor, Tensor]:
    """(training, validation) tiles, each [n, 3, 256, 256] uint8; images are cut into whole tiles.

    Args:
        folder: images of at least 256x256; smaller ones are skipped.
        validation_share: share of photographs held out.
        cache: a .npz written on the first call and read on later ones.

    Raises:
        ValueError: no image, or none large enough; one that cannot be read; a damaged cache.
    """
    if cache is not None and cache.is_file():
        return _cached(cache)
    sources = _sources(folder)
    parts: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for path in tqdm(find_images(folder), desc="decoding", unit="image", leave=False):
        parts[_is_validation(sources.get(path.name, path.name), validation_share)] += _tiles(path)
    if not parts[False]:
        raise ValueError(f"{folder} holds no image of at least {TILE}x{TILE} pixels")
    empty = np.empty((0, 3, TILE, TILE), np.uint8)
    train, validation = (np.stack(parts[key]) if parts[key] else empty for key in (False, True))
    if cache is not None:
        with written_whole(cache) as file:
            np.savez(file, train=train, validation=validation)
    return torch.from_numpy(train), torch.from_numpy(validation)


def _cached(path: Path) -> tuple[Tensor, Tensor]:
    try:
        with np.load(path) as stored:
            parts = [stored[name] for name in ("train", "validation")]
        if any(part.dtype != np.uint8 or part.shape[1:] != (3, TILE, TILE) for part in parts) or not len(parts[0]):
            raise ValueError("the arrays are no tiles")
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} holds no tiles; they are cut anew where it is not there: {error}") from error
    return torch.from_numpy(parts[0]), torch.from_numpy(parts[1])


class Sampler:
    """Endless random crops of tiles in all eight orientations; its state is one tensor, so training resumes exactly.

    Args:
        tiles: [n, 3, 256, 256] uint8; moved to ``device`` if they take less than half of its free memory.
        device: where the batches go.

    Attributes:
        seconds: how long the host took for the batches so far. What a GPU does with tiles that it holds is not in it.
    """

    def __init__(self, tiles: Tensor, batch: int, crop: int, seed: int, device: str = "cpu") -> None:
        if crop > TILE or crop % 64 or crop < 64:
            raise ValueError(f"crop must be a multiple of 64 up to {TILE}, got {crop}")
        self.batch, self.crop = batch, crop
        self.device = torch.empty(0, device=device).device  # with its index, as a tensor there names it
        self.tiles = tiles.to(self.device) if _fits(tiles, self.device) else tiles
        self.generator = torch.Generator().manual_seed(seed)
        self.seconds = 0.0

    def next(self) -> Tensor:
        """[batch, 3, crop, crop] float32 in [0, 1], channels last in memory."""
        began = time.perf_counter()
        room = TILE - self.crop + 1
        ranges = (len(self.tiles), room, room, 2, 2, 2)
        drawn = torch.stack([torch.randint(high, (self.batch, 1, 1), generator=self.generator) for high in ranges])
        held = self.tiles.is_cuda
        if held:  # the GPU does the rest, when its turn comes
            self.seconds += time.perf_counter() - began
        pixels = self._cut(sent(drawn, self.tiles.device))
        if not held:
            self.seconds += time.perf_counter() - began
        return sent(pixels, self.device).permute(0, 3, 1, 2).float().div_(255)

    def _cut(self, drawn: Tensor) -> Tensor:
        """[batch, crop, crop, 3] uint8, cut from the tiles where they are."""
        pick, top, left, upside_down, mirrored, turned = drawn
        # One gather for the whole batch: row and column of the tile for every pixel of every crop.
        along = torch.arange(self.crop, device=drawn.device)
        down, right = along[None, :, None], along[None, None, :]
        rows, columns = torch.where(turned > 0, right, down), torch.where(turned > 0, down, right)
        rows = top + torch.where(upside_down > 0, self.crop - 1 - rows, rows)
        columns = left + torch.where(mirrored > 0, self.crop - 1 - columns, columns)
        return self.tiles.permute(0, 2, 3, 1)[pick, rows, columns]


def sent(x: Tensor, device: torch.device) -> Tensor:
    """``x`` on ``device``; a host that hands it to a GPU does not wait for it."""
    if x.device == device:
        return x
    return (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)


def _fits(tiles: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return tiles.numel() < free / 2
