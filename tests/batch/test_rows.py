"""Compressor and Decompressor: rows in every form, errors in their rows, settings that cannot work at once."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastlic
from fastlic import light
from fastlic.batch import Compressor, Decompressor
from fastlic.codec.image_files import read_image

TINY = Path(__file__).parents[1] / "golden" / "tiny_pixels_jahp.safetensors"


@pytest.fixture(scope="module")
def png(photos: Path) -> bytes:
    out = io.BytesIO()
    with Image.open(photos / "chelsea.png") as image:
        image.convert("RGB").crop((0, 0, 64, 48)).save(out, "PNG")
    return out.getvalue()


def test_a_row_is_compressed_to_the_bytes_of_light(png):
    row = Compressor(quality=2.5)({"bytes": png, "path": "a"})
    x = read_image(io.BytesIO(png)).array
    assert row["flic"] == light.compress(x, quality=2.5)
    assert (row["path"], row["width"], row["height"], row["error"]) == ("a", 64, 48, None)
    assert row["bpp"] == 8 * len(row["flic"]) / (64 * 48)
    assert row["fingerprint"] == light.load("jahp").fingerprint.hex()
    assert "bytes" not in row and "bytes" in Compressor(keep=True)({"bytes": png})

    back = Decompressor(suffix=None)(row)
    assert np.array_equal(back["image"], light.decompress(row["flic"]))
    with Image.open(io.BytesIO(Decompressor()(row)["image"])) as image:
        assert np.array_equal(np.array(image), back["image"])
    assert (back["path"], back["width"], back["height"], back["error"]) == ("a", 64, 48, None)


def columns_of(kind: str, png: bytes):
    columns = {"bytes": [png, b"bad", None], "path": ["a", "b", "c"]}
    if kind == "lists":
        return columns
    if kind == "numpy":
        return {name: np.array(values, object) for name, values in columns.items()}
    if kind == "pandas":
        return pytest.importorskip("pandas").DataFrame(columns)
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(columns)
    return table if kind == "table" else table.to_batches()[0]


def listed(column) -> list:
    return [value.as_py() if hasattr(value, "as_py") else value for value in column]


@pytest.mark.parametrize("kind", ["lists", "numpy", "pandas", "table", "record batch"])
def test_a_failed_image_is_a_row_with_its_error_in_every_form_of_batch(kind, png):
    rows = columns_of(kind, png)
    out = Compressor()(rows)
    expected = Compressor()({"bytes": png})["flic"]
    if kind not in ("lists", "numpy"):
        assert type(out) is type(rows)
    assert listed(out["flic"]) == [expected, None, None]
    assert listed(out["path"]) == ["a", "b", "c"]
    errors = listed(out["error"])
    assert errors[0] is None or errors[0] != errors[0]
    assert "no image that Pillow can read" in errors[1] and errors[2] == "ValueError: the row holds no bytes"

    back = Decompressor()(out)
    assert listed(back["width"]) == [64, None, None]
    assert listed(back["image"])[0] == Decompressor()({"flic": expected})["image"]
    assert "the row holds no bytes" in listed(back["error"])[1]


def test_streams_that_end_in_zeros_pass_through_numpy_whole():
    streams = np.empty(1, object)
    streams[0] = b"\0\0"
    assert Decompressor(column="x", keep=True)({"x": streams})["x"][0] == b"\0\0"
    with pytest.raises(TypeError, match="dtype object"):
        Decompressor()({"flic": np.array([b"\0\0"])})


def test_a_damaged_stream_and_one_of_other_weights_are_rows_with_their_errors(png):
    flic = Compressor(TINY)({"bytes": png})["flic"]
    assert "ModelMismatchError" in Decompressor()({"flic": flic})["error"]
    assert "CorruptStreamError" in Decompressor(TINY)({"flic": flic[:-1]})["error"]
    assert Decompressor(TINY)({"flic": flic})["error"] is None


def test_limits_and_backgrounds_reach_the_image(png):
    assert "PixelLimitError" in Compressor(max_pixels=100)({"bytes": png})["error"]
    clear = io.BytesIO()
    Image.new("RGBA", (20, 10), (255, 0, 0, 0)).save(clear, "PNG")
    kept, laid = (Compressor(background=name)({"bytes": clear.getvalue()}) for name in (None, "white"))
    assert kept["error"] is laid["error"] is None
    assert (fastlic.peek(kept["flic"]).channels, fastlic.peek(laid["flic"]).channels) == (4, 3)


@pytest.mark.parametrize(
    "settings", [{"model": "nonesuch"}, {"quality": 9}, {"background": "nonesuch"}, {"max_pixels": 0}, {"threads": -1}]
)
def test_settings_that_cannot_work_are_exceptions_not_rows(settings, png):
    with pytest.raises(ValueError):
        Compressor(**settings)({"bytes": png})


def test_a_missing_column_is_named(png):
    with pytest.raises(KeyError, match=r"no column 'jpg', only bytes"):
        Compressor(column="jpg")({"bytes": png})


def test_callables_travel_without_weights_and_torch_is_never_imported(png, tmp_path):
    data = pickle.dumps((Compressor(quality=3), Decompressor()))
    assert len(data) < 1000
    (tmp_path / "x").write_bytes(data)
    (tmp_path / "x.png").write_bytes(png)
    script = (
        "import pickle, sys\n"
        "compressor, decompressor = pickle.load(open('x', 'rb'))\n"
        "row = decompressor(compressor({'bytes': open('x.png', 'rb').read()}))\n"
        "print(row['error'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "None False\n", done.stderr


def test_map_and_the_package_find_them(png):
    rows = list(map(fastlic.batch.Compressor(), [{"bytes": png}] * 2))
    assert rows[0] == rows[1]
