"""A folder of .flic files as training data: a Dataset of tensors, read by the processes of torch's DataLoader.

    fastlic compress photos --output-dir packed
    python examples/dataloader.py packed --workers 4 --crop 128

Workers decode by fastlic.light on one thread each, so cores are counted once; a damaged file is told and left out. The
weights are opened once in each worker.
"""

import argparse
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from fastlic import light
from fastlic.errors import FastlicError


class Photos(Dataset):
    """Crops [3, side, side] uint8 at places of their own; None for a file that cannot be decoded or is too small."""

    def __init__(self, folder: Path, side: int) -> None:
        self.paths, self.side = sorted(folder.rglob("*.flic")), side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor | None:
        try:
            x = light.decompress(self.paths[index].read_bytes(), threads=1, channels=3)
        except FastlicError as error:
            print(f"{self.paths[index]}: {error}")
            return None
        if min(x.shape[:2]) < self.side:
            return None
        top, left = (int(torch.randint(size - self.side + 1, ())) for size in x.shape[:2])
        return torch.from_numpy(x[top : top + self.side, left : left + self.side]).permute(2, 0, 1)


def stacked(items: list[torch.Tensor | None]) -> torch.Tensor:
    """Those that are there, [N, 3, side, side]."""
    found = [item for item in items if item is not None]
    return torch.stack(found) if found else torch.empty(0, 3, 0, 0, dtype=torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--batch", type=int, default=16, help="images (default: 16)")
    parser.add_argument("--crop", type=int, default=128, help="side in pixels (default: 128)")
    options = parser.parse_args()
    photos = Photos(options.folder, options.crop)
    # spawn: a forked child would inherit torch's threads (docs/security.md, "Threads and processes")
    loader = DataLoader(
        photos,
        options.batch,
        shuffle=True,
        num_workers=options.workers,
        collate_fn=stacked,
        multiprocessing_context="spawn" if options.workers else None,
    )
    began, count = time.perf_counter(), 0
    for images in loader:
        count += len(images)
    print(f"{count} of {len(photos)} images, {time.perf_counter() - began:.1f} s with {options.workers} workers")


if __name__ == "__main__":  # spawned workers import this file
    main()
