"""fastlic.integrations.webdataset: streams in tars come out as pixels, in webdataset's own pipeline."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fastlic import light
from fastlic.errors import CorruptStreamError

wds = pytest.importorskip("webdataset")

from fastlic.integrations.webdataset import decoder  # noqa: E402

GOLDEN = Path(__file__).parents[1] / "golden"
TINY, STREAM = GOLDEN / "tiny_pixels_jahp.safetensors", (GOLDEN / "tiny_pixels_jahp_v2.flic").read_bytes()


def dataset(folder: Path, *handlers, **sample):
    path = folder / "a.tar"
    with wds.TarWriter(str(path)) as tar:
        tar.write({"__key__": "0", **sample})
    return wds.WebDataset(str(path), shardshuffle=False).decode(*handlers)


def test_streams_become_pixels_and_other_members_are_left_to_webdataset(tmp_path, photos):
    x = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    data = light.compress(x)
    image = (photos / "chelsea.png").read_bytes()
    (sample,) = dataset(tmp_path, decoder, "rgb8", **{"flic": data, "left.FLIC": data, "png": image, "txt": "a cat"})
    assert np.array_equal(sample["flic"], light.decompress(data))
    assert np.array_equal(sample["left.flic"], sample["flic"])
    assert sample["txt"] == "a cat" and sample["png"].dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_grey_and_transparent_images_have_three_channels_too(tmp_path, channels):
    data = light.compress(np.full((20, 30, channels), 90, np.uint8))
    (sample,) = dataset(tmp_path, decoder, flic=data)
    assert np.array_equal(sample["flic"], light.decompress(data, channels=3))


def test_options_come_by_partial(tmp_path):
    (sample,) = dataset(tmp_path, partial(decoder, model=light.load(TINY)), flic=STREAM)
    assert np.array_equal(sample["flic"], light.decompress(STREAM, TINY))


def test_damage_is_webdatasets_to_handle(tmp_path):
    data = light.compress(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(wds.autodecode.DecodingError) as caught:
        list(dataset(tmp_path, decoder, flic=data[:-1]))
    assert isinstance(caught.value.__cause__, CorruptStreamError)
