"""Folders and shards of .flic files, read by libraries that open images with Pillow.

    python examples/pillow_readers.py torchvision FOLDER      # FOLDER/class/name.flic
    python examples/pillow_readers.py datasets FOLDER         # .flic files at any depth; so do the others
    python examples/pillow_readers.py ray FOLDER
    python examples/pillow_readers.py webdataset FOLDER       # writes FOLDER/shard.tar first

``import fastlic.pillow`` is all that each of them needs, in every process that opens images.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

import fastlic.pillow

fastlic.pillow.THREADS = 1  # of one image: loaders of data have a process for each core


def load(path: str) -> Image.Image:
    """An image of that file. Processes that a DataLoader spawns find this module, and with it the plugin."""
    with Image.open(path) as image:
        return image.convert("RGB")


def is_flic(path: str) -> bool:
    return path.lower().endswith(".flic")


def of_torchvision(folder: Path) -> Any:
    """(image, class) of FOLDER/class/name.flic, as a dataset; ``transform`` is where it always is."""
    from torchvision.datasets import ImageFolder

    return ImageFolder(str(folder), loader=load, is_valid_file=is_flic)


def of_datasets(folder: Path) -> Any:
    """A Hugging Face dataset with a column ``image``, which is decoded when it is read."""
    from datasets import Dataset, Features
    from datasets import Image as ImageColumn

    files = sorted(map(str, folder.rglob("*.flic")))
    return Dataset.from_dict({"image": files}, features=Features({"image": ImageColumn()}))


def of_ray(folder: Path) -> Any:
    """A dataset of Ray Data with a column ``image``, uint8 [H, W, 3]; its workers register the plugin as they start."""
    import ray

    if not ray.is_initialized():
        ray.init(runtime_env={"worker_process_setup_hook": "fastlic.pillow.register"})
    return ray.data.read_images(str(folder), file_extensions=["flic"])


def of_webdataset(shard: Path) -> Any:
    """Samples of a tar file, each with a key ``flic``: an image of Pillow's."""
    import webdataset

    decoder = webdataset.imagehandler("pilrgb", extensions=["flic"])
    return webdataset.WebDataset(str(shard), shardshuffle=False).decode(decoder)


def write_shard(folder: Path, shard: Path) -> None:
    """A tar file of the folder's .flic files, their bytes as they are."""
    import webdataset

    with webdataset.TarWriter(str(shard)) as out:
        for path in sorted(folder.rglob("*.flic")):
            out.write({"__key__": path.stem, "flic": path.read_bytes()})


def images_of(library: str, folder: Path) -> Iterator[Any]:
    """Every image of the folder, as the library gives it."""
    if library == "torchvision":
        yield from (image for image, _ in of_torchvision(folder))
    elif library == "datasets":
        yield from (row["image"] for row in of_datasets(folder))
    elif library == "ray":
        yield from (row["image"] for row in of_ray(folder).iter_rows())
    else:
        write_shard(folder, folder / "shard.tar")
        yield from (sample["flic"] for sample in of_webdataset(folder / "shard.tar"))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("torchvision", "datasets", "ray", "webdataset"):
        raise SystemExit(__doc__)
    for number, image in enumerate(images_of(sys.argv[1], Path(sys.argv[2]))):
        print(number, image.shape if hasattr(image, "shape") else image)
