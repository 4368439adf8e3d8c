"""Latents of training tiles, computed once: all that an entropy model beside frozen transforms learns from."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fastlic.files import written_whole
from fastlic.train.data import sent

_BATCH = 8


@torch.no_grad()
def store(
    analyse: Callable[[Tensor], Tensor], tiles: Tensor, orientations: int, seed: int, path: Path, device: str = "cpu"
) -> None:
    """Write what ``analyse`` makes of every tile to a .npy, float16 [n * orientations, M, h, w].

    Args:
        analyse: [N, 3, 256, 256] float32 in [0, 1] -> [N, M, h, w].
        tiles: [n, 3, 256, 256] uint8.
        orientations: of every tile, out of eight, drawn without repetition.
    """
    if not 1 <= orientations <= 8:
        raise ValueError(f"a tile has 8 orientations, got {orientations}")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(len(tiles), 8, generator=generator).argsort(1)[:, :orientations]
    firsts = range(0, len(tiles), _BATCH)
    todo = [(rank, slice(first, first + _BATCH)) for rank in range(orientations) for first in firsts]
    with written_whole(path) as file:  # as they come: all of them may be more than memory holds
        for rank, some in tqdm(todo, desc="latents", unit="batch", leave=False):
            turned = [_turned(tile, int(o)) for tile, o in zip(tiles[some], drawn[some, rank], strict=True)]
            x = sent(torch.stack(turned), torch.device(device)).contiguous(memory_format=torch.channels_last)
            y = analyse(x.float().div_(255)).half().cpu().numpy()
            if not file.tell():
                shape = (len(tiles) * orientations, *y.shape[1:])
                header = {"descr": np.lib.format.dtype_to_descr(y.dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(y.tobytes())


def _turned(tile: Tensor, orientation: int) -> Tensor:
    """One of the eight orientations of a tile [3, n, n]."""
    turned = tile.rot90(orientation % 4, (1, 2))
    return turned.flip(2) if orientation >= 4 else turned


class StoredSampler:
    """Endless random draws of stored latents; its state is one tensor, as that of ``Sampler``.

    Args:
        path: what ``store`` wrote; the file is mapped, not read whole.
        device: where the batches go.

    Attributes:
        seconds: how long the host took for the batches so far.

    Raises:
        ValueError: the file holds no latents.
    """

    def __init__(self, path: Path, batch: int, seed: int, device: str = "cpu") -> None:
        try:
            self.latents = np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"{path} holds no latents; they are computed anew where it is not there: {error}"
            ) from error
        if self.latents.dtype != np.float16 or self.latents.ndim != 4 or not len(self.latents):
            raise ValueError(f"{path} holds no latents; they are computed anew where it is not there")
        self.batch = batch
        self.device = torch.empty(0, device=device).device
        self.generator = torch.Generator().manual_seed(seed)
        self.seconds = 0.0

    def next(self) -> Tensor:
        """[batch, M, h, w] float32."""
        began = time.perf_counter()
        drawn = torch.randint(len(self.latents), (self.batch,), generator=self.generator)
        x = torch.from_numpy(self.latents[drawn.numpy()]).float()
        self.seconds += time.perf_counter() - began
        return sent(x, self.device).contiguous(memory_format=torch.channels_last)
