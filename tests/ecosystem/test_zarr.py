"""Codecs of Zarr v3 and numcodecs: images in arrays, by the names in their metadata."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from fastlic import light
from fastlic.codec.image_files import read_image
from fastlic.errors import CorruptStreamError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

registry = pytest.importorskip("numcodecs.registry")

from fastlic.integrations import numcodecs as ours  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def images(photos) -> np.ndarray:
    x = read_image(photos / "chelsea.png").array
    return np.stack([x[i : i + 48, i : i + 64] for i in (0, 20)])


@pytest.fixture
def zarr():
    zarr = pytest.importorskip("zarr", minversion="3")
    from fastlic.integrations.zarr import Fastlic

    zarr.registry.register_codec("fastlic", Fastlic)  # what the entry point does where the package is installed
    return zarr


def test_entry_points_name_the_classes():
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    for group, module in (("zarr.codecs", "zarr"), ("numcodecs.codecs", "numcodecs")):
        if module == "zarr":
            pytest.importorskip("zarr", minversion="3")
        home, _, name = points[group]["fastlic"].partition(":")
        assert getattr(import_module(home), name).__name__ == "Fastlic"


def test_numcodecs_finds_it_by_its_configuration(images):
    registry.register_codec(ours.Fastlic)
    codec = registry.get_codec({"id": "fastlic", "quality": 5})
    assert codec.get_config() == {"id": "fastlic", "model": "jahp", "quality": 5}
    data = codec.encode(images[:1])
    assert data == light.compress(images[0], quality=5)
    assert np.array_equal(codec.decode(data), light.decompress(data))
    out = np.empty((1, 48, 64, 3), np.uint8)
    assert codec.decode(data, out) is out and np.array_equal(out[0], light.decompress(data))
    for channels in (1, 4):  # by another writer
        foreign = light.compress(np.full((48, 64, channels), 90, np.uint8))
        assert np.array_equal(codec.decode(foreign, out)[0], light.decompress(foreign, channels=3))
    with pytest.raises(CorruptStreamError, match="48 x 64"):
        codec.decode(data, np.empty((1, 48, 63, 3), np.uint8))
    with pytest.raises(ValueError, match="a chunk is one image"):
        codec.encode(images)


def test_an_array_of_images_comes_back_as_the_codec_shows_it(zarr, images, tmp_path):
    from fastlic.integrations.zarr import Fastlic

    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=(3, 48, 64, 3),
        chunks=(1, 48, 64, 3),
        dtype="uint8",
        serializer=Fastlic(quality=6),
        compressors=None,
    )
    array[:2] = images
    back = zarr.open_array(tmp_path / "a.zarr", mode="r")
    for i in range(2):
        assert np.array_equal(back[i], light.decompress(light.compress(images[i], quality=6)))
    assert not back[2].any()
    assert Fastlic(quality=6).to_dict() in [codec.to_dict() for codec in back.metadata.codecs]
    assert light.psnr(np.ascontiguousarray(back[0]), images[0]) > 30


def test_edges_are_cut_from_whole_chunks(zarr, images, tmp_path):
    from fastlic.integrations.zarr import Fastlic

    x = images[0]
    options = {"chunks": (32, 32, 3), "dtype": "uint8", "serializer": Fastlic(), "compressors": None}
    array = zarr.create_array(tmp_path / "a.zarr", shape=x.shape, **options)
    array[:] = x
    assert array[:].shape == x.shape and light.psnr(array[:], x) > 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": (48, 64, 3), "chunks": (48, 64, 3), "dtype": "uint16"}, "uint8 images, not uint16"),
        ({"shape": (2, 48, 64, 3), "chunks": (2, 48, 64, 3), "dtype": "uint8"}, "a chunk is one image"),
        ({"shape": (48, 64), "chunks": (48, 64), "dtype": "uint8"}, "a chunk is one image"),
    ],
)
def test_arrays_that_are_no_images_are_refused_when_they_are_made(options, words, zarr, tmp_path):
    from fastlic.integrations.zarr import Fastlic

    with pytest.raises(ValueError, match=words):
        zarr.create_array(tmp_path / "a.zarr", serializer=Fastlic(), compressors=None, **options)


def test_a_damaged_chunk_is_an_error_of_its_own(zarr, images, tmp_path):
    from fastlic.integrations.zarr import Fastlic

    options = {"shape": (48, 64, 3), "chunks": (48, 64, 3), "dtype": "uint8", "serializer": Fastlic()}
    zarr.create_array(tmp_path / "a.zarr", compressors=None, **options)[:] = images[0]
    (chunk,) = [path for path in (tmp_path / "a.zarr" / "c").rglob("*") if path.is_file()]
    chunk.write_bytes(light.compress(np.zeros((200, 100, 3), np.uint8)))
    with pytest.raises(CorruptStreamError, match="200 x 100"):
        zarr.open_array(tmp_path / "a.zarr", mode="r")[:]
