"""examples/pillow_readers.py: libraries that open images with Pillow read .flic files."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fastlic import light, pillow
from fastlic.codec.image_files import read_image

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "pillow_readers.py"


@pytest.fixture(scope="module")
def readers():
    spec = importlib.util.spec_from_file_location("pillow_readers", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["pillow_readers"] = module  # so that functions of it can be sent to other processes
    threads = pillow.THREADS
    spec.loader.exec_module(module)
    yield module
    pillow.THREADS = threads
    del sys.modules["pillow_readers"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory, photos: Path) -> tuple[Path, list[np.ndarray]]:
    """A folder of two classes, and the pixels of its files."""
    folder, pixels = tmp_path_factory.mktemp("flic"), []
    for label, name in (("cat", "chelsea"), ("person", "astronaut")):
        data = light.compress(read_image(photos / f"{name}.png").array[:50, :70])
        (folder / label).mkdir()
        (folder / label / f"{name}.flic").write_bytes(data)
        pixels.append(light.decompress(data))
    return folder, pixels


@pytest.fixture(scope="module")
def torchvision() -> Iterator[None]:
    """Its extension fits one build of torch alone; folders of images need nothing of it."""
    try:
        pytest.importorskip("torchvision.datasets")
    except RuntimeError:  # it registers shapes for operators of the extension
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision.datasets  # noqa: F401

        yield
        library._destroy()
    else:
        yield


def check(images, pixels: list[np.ndarray]) -> None:
    found = [np.asarray(image) for image in images]
    assert len(found) == len(pixels)
    assert all(np.array_equal(a, b) for a, b in zip(found, pixels, strict=True))


def test_torchvision_reads_a_folder_of_classes(readers, stored, torchvision):
    folder, pixels = stored
    dataset = readers.of_torchvision(folder)
    assert dataset.classes == ["cat", "person"] and [label for _, label in dataset] == [0, 1]
    check(readers.images_of("torchvision", folder), pixels)


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_the_workers_of_a_loader_open_images(readers, stored, context, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE.parent)  # which spawned processes get
    folder, pixels = stored
    loader = torch.utils.data.DataLoader(
        sorted(map(str, folder.rglob("*.flic"))),  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=readers.load,  # which workers run
        num_workers=1,
        multiprocessing_context=context,
    )
    check(loader, pixels)


def test_hugging_face_datasets_decode_a_column_of_images(readers, stored):
    datasets = pytest.importorskip("datasets")
    try:
        datasets.Dataset.from_dict({"number": [1]})
    except Exception as error:
        pytest.skip(f"this datasets makes no dataset at all: {error}")
    folder, pixels = stored
    check(readers.images_of("datasets", folder), pixels)


def test_webdataset_reads_a_shard(readers, stored, tmp_path):
    pytest.importorskip("webdataset")
    folder, pixels = stored
    readers.write_shard(folder, tmp_path / "shard.tar")
    found = {sample["__key__"]: sample["flic"] for sample in readers.of_webdataset(tmp_path / "shard.tar")}
    check([found["chelsea"], found["astronaut"]], pixels)


@pytest.mark.slow
def test_ray_data_reads_a_folder(stored):
    pytest.importorskip("ray.data")
    folder, _ = stored
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RAY_DEDUP_LOGS": "0"}
    command = [sys.executable, str(EXAMPLE), "ray", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(done.stdout.splitlines()[-2:]) == ["0 (50, 70, 3)", "1 (50, 70, 3)"]
