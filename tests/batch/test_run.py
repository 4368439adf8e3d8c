"""Shards: complete or not there, skipped when complete, the same whoever does them, nothing lost and nothing twice."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastlic
from fastlic import light
from fastlic.batch import Compressor, Decompressor, Settings, run
from fastlic.batch.shards import plan
from fastlic.batch.work import samples_of
from fastlic.codec.image_files import find_images, read_image
from fastlic.errors import BackendUnavailable

fsspec = pytest.importorskip("fsspec")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
wds = pytest.importorskip("webdataset")


def states(outcomes) -> list[str]:
    return [outcome.state for outcome in outcomes]


def streams(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.flic")}


def samples(path: Path) -> list[dict]:
    with path.open("rb") as file:
        return list(samples_of(file, str(path)))


@pytest.fixture
def tars(crops, tmp_path) -> Path:
    """Two tars: samples with an image, a text, one that is damaged, one with two images, one without any."""
    folder = tmp_path / "tars"
    folder.mkdir()
    images = [path.read_bytes() for path in find_images(crops) if path.name != "bad.png"]
    contents = [
        [{"jpg": images[0], "txt": b"a cat"}, {"png": b"damaged", "txt": b"lost"}, {"cls": b"3"}],
        [{"left.png": images[1], "right.PNG": images[2]}, {"png": images[3], "jpg": images[4], "_note": b"x"}],
    ]
    for i, rows in enumerate(contents):
        with wds.TarWriter(str(folder / f"{i:03d}.tar"), encoder=False, keep_meta=True) as tar:
            for j, row in enumerate(rows):
                tar.write({"__key__": f"{i}/{j:04d}", **row})
    return folder


def test_a_folder_becomes_streams_beside_a_status_of_each_image(crops, tmp_path):
    (outcome,) = run(crops, tmp_path / "out", Settings(Compressor(quality=3)))
    assert (outcome.state, outcome.images, outcome.failed) == ("written", 7, 1)
    found = streams(tmp_path / "out")
    images = [path for path in find_images(crops) if path.name != "bad.png"]
    assert found == {
        path.relative_to(crops).with_suffix(".flic").as_posix(): light.compress(read_image(path).array, quality=3)
        for path in images
    }
    rows = pq.read_table(tmp_path / "out" / "00000.parquet").to_pylist()
    assert [row["key"] for row in rows] == [
        path.relative_to(crops).with_suffix("").as_posix() for path in find_images(crops)
    ]
    (bad,) = [row for row in rows if row["status"] != "success"]
    assert bad["source"].endswith("deep/bad.png") and "no image that Pillow can read" in bad["error_message"]
    stats = json.loads((tmp_path / "out" / "00000_stats.json").read_text())
    assert stats["bytes_out"] == sum(map(len, found.values())) == outcome.bytes_out
    assert stats["settings"]["fingerprint"] == light.load("jahp").fingerprint.hex()


def test_two_images_of_one_stem_are_two_streams(crops, tmp_path):
    shutil.copy(crops / "0.png", crops / "2.png")
    shutil.copy(crops / "0.png", crops / "2.png.png")
    (outcome,) = run(crops, tmp_path / "out")
    found = streams(tmp_path / "out")
    assert {"2.png.flic", "2.png.png.flic", "2.webp.flic", "0.flic"} <= set(found)
    assert len(found) == outcome.images - outcome.failed


def test_links_to_images_are_images(crops, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.png").symlink_to(crops / "0.png")
    (tmp_path / "links" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (outcome,) = run(tmp_path / "links", tmp_path / "out")
    assert (outcome.images, outcome.failed) == (1, 0)
    assert streams(tmp_path / "out") == {"a.flic": light.compress(read_image(crops / "0.png").array)}


def test_a_folder_that_is_not_there_is_told_apart_from_an_empty_one(tmp_path):
    with pytest.raises(ValueError, match=r"there is no .*nowhere"):
        run(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image file"):
        run(tmp_path / "empty", tmp_path / "out")


def test_a_tar_that_is_cut_off_is_an_error_wherever_it_was_cut(tars, tmp_path):
    whole = (tars / "001.tar").read_bytes()
    with tarfile.open(tars / "001.tar") as tar:
        ends = [member.offset_data + -(-member.size // 512) * 512 for member in tar.getmembers()]
    assert len(samples(tars / "001.tar")) == 2
    for end in (ends[0], ends[-1], ends[0] + 100):
        (tmp_path / "cut.tar").write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"cut\.tar ends after \d samples without an end mark: is it cut off\?"):
            samples(tmp_path / "cut.tar")
    (tmp_path / "cut.tar").write_bytes(whole[: ends[1] - 600])
    with pytest.raises(ValueError, match=r"cut\.tar is a damaged tar behind \d samples: unexpected end of data$"):
        samples(tmp_path / "cut.tar")
    (tmp_path / "cut.tar").write_bytes(gzip.compress(whole[: ends[-1]]))
    with pytest.raises(ValueError, match="without an end mark"):
        samples(tmp_path / "cut.tar")


def test_a_header_that_is_damaged_ends_no_tar_in_silence(tars):
    path = tars / "000.tar"
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[2].offset
    content = bytearray(path.read_bytes())
    content[offset + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"ends after \d samples without an end mark"):
        samples(path)


@pytest.mark.parametrize("blocks", range(1, 42))
def test_a_whole_tar_is_whole_wherever_its_end_mark_lies(blocks, tmp_path):
    member = tarfile.TarInfo("a.txt")
    member.size = 512 * (blocks - 1)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(member, io.BytesIO(bytes(b"x" * member.size)))
    assert [len(sample["txt"]) for sample in samples(tmp_path / "a.tar")] == [member.size]


def test_two_members_of_one_name_are_told_by_the_tar_that_has_them(tmp_path):
    with tarfile.open(tmp_path / "twice.tar", "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("a.txt"))
    with pytest.raises(ValueError, match=r"twice\.tar: a\.txt: duplicate file name in tar file"):
        samples(tmp_path / "twice.tar")


@pytest.mark.parametrize("to", [None, "tar", "parquet"])
def test_tasks_of_a_job_array_do_each_shard_once_and_the_same(to, crops, tmp_path):
    settings = Settings(to=to, max_failed=1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert states(run(crops, whole, settings, size=2)) == ["written"] * 4
    for task in (2, 0, 1):
        done = list(run(crops, parts, Settings(to=to, max_failed=1, jobs=2), part=(task, 3), size=2))
        assert {outcome.state for outcome in done} == {"written"}
    outputs = [
        {p.relative_to(f).as_posix(): p.read_bytes() for p in f.rglob("*") if p.suffix != ".json" and p.is_file()}
        for f in (whole, parts)
    ]
    assert outputs[0] == outputs[1] and outputs[0]
    with pytest.raises(ValueError, match="numbered from 0 to 2"):
        run(crops, parts, settings, part=(3, 3))


def test_complete_shards_are_skipped_and_damaged_ones_done_again(crops, tmp_path):
    out, settings = tmp_path / "out", Settings(to="tar", max_failed=1)
    assert states(run(crops, out, settings, size=2, check=True)) == ["missing"] * 4
    list(run(crops, out, settings, size=2))
    whole = (out / "00001.tar").read_bytes()
    assert states(run(crops, out, settings, size=2)) == ["complete"] * 4
    assert states(run(crops, out, settings, size=2, check=True)) == ["complete"] * 4
    (out / "00001.tar").write_bytes(whole[:-1])
    (out / "00002_stats.json").unlink()
    (out / "00003_stats.json").write_text("{")
    assert states(run(crops, out, settings, size=2)) == ["complete", "written", "written", "written"]
    assert (out / "00001.tar").read_bytes() == whole


def test_complete_shards_of_other_settings_or_sources_are_refused_not_replaced(crops, tmp_path):
    out = tmp_path / "out"
    list(run(crops, out))
    before = streams(out)
    (other,) = run(crops, out, Settings(Compressor(quality=5)))
    assert other.state == "failed" and "quality 4.0, not 5.0" in other.error and "--force" in other.error
    (crops / "new.png").write_bytes((crops / "0.png").read_bytes())
    (other,) = run(crops, out)
    assert other.state == "failed" and "its sources are others now" in other.error
    assert streams(out) == before
    assert states(run(crops, out, Settings(force=True))) == ["written"]
    assert len(streams(out)) == len(before) + 1


@pytest.mark.parametrize("place", ["memory://way/out", None])
def test_a_file_that_no_run_made_is_left_as_it_is(place, crops, tmp_path):
    target = place or str(tmp_path / "out")
    fs, root = fsspec.core.url_to_fs(target)
    fs.makedirs(root)
    fs.pipe_file(f"{root}/00000.tar", b"someone's")
    (outcome,) = run(crops, target, Settings(to="tar"))
    assert outcome.state == "failed" and "is there, and is not what this run makes" in outcome.error
    assert [path.rpartition("/")[2] for path in fs.find(root)] == ["00000.tar"]
    assert fs.cat_file(f"{root}/00000.tar") == b"someone's"
    assert states(run(crops, target, Settings(to="tar", force=True))) == ["written"]
    fs.rm_file(f"{root}/00000_stats.json")  # as of a run that ended before it: the same bytes are no other's
    assert states(run(crops, target, Settings(to="tar"))) == ["written"]
    fs.rm(root, recursive=True)


def test_streams_in_the_way_are_left_as_they_are(crops, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0.flic").write_bytes(b"someone's")
    (outcome,) = run(crops, tmp_path / "out")
    assert outcome.state == "failed" and (tmp_path / "out" / "0.flic").read_bytes() == b"someone's"


def test_a_url_whose_package_is_missing_names_it(crops, monkeypatch):
    def fails(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", fails)
    with pytest.raises(BackendUnavailable, match="Install s3fs"):
        run("s3://bucket/photos", "out")


def test_images_of_tars_are_replaced_and_everything_else_stays(tars, tmp_path):
    outcomes = list(run(f"{tars}/*.tar", tmp_path / "out", Settings(jobs=2)))
    assert [(o.shard, o.state, o.images, o.failed) for o in outcomes] == [
        ("000", "written", 2, 1),
        ("001", "written", 4, 0),
    ]
    first, second = samples(tmp_path / "out" / "000.tar"), samples(tmp_path / "out" / "001.tar")
    assert [(s["__key__"], *sorted(set(s) - {"__key__"})) for s in first + second] == [
        ("0/0000", "flic", "txt"),
        ("0/0002", "cls"),
        ("1/0000", "left.flic", "right.flic"),
        ("1/0001", "_note", "flic", "png.flic"),
    ]
    assert first[0]["txt"] == b"a cat"
    source = samples(tars / "001.tar")[0]
    expected = light.compress(read_image(io.BytesIO(source["left.png"])).array)
    assert second[0]["left.flic"] == expected
    rows = pq.read_table(tmp_path / "out" / "000.parquet").to_pylist()
    assert [(row["key"], row["status"]) for row in rows] == [("0/0000", "success"), ("0/0001", "failed_to_compress")]
    assert rows[1]["source"] == "0/0001.png"


def test_a_truncated_tar_is_no_shard(tars, tmp_path):
    whole = (tars / "001.tar").read_bytes()
    (tars / "001.tar").write_bytes(whole[: len(whole) // 2 + 100])
    outcomes = list(run(tars, tmp_path / "out"))
    assert states(outcomes) == ["written", "failed"] and "unexpected end" in outcomes[1].error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000.parquet", "000.tar", "000_stats.json"]


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_rows_of_parquet_files_keep_their_other_columns(form, crops, tmp_path):
    data = [path.read_bytes() for path in find_images(crops)]
    images = data if form == "bytes" else [{"bytes": one, "path": "x"} for one in data]
    (tmp_path / "in").mkdir()
    table = pa.table({"id": range(len(data)), "image": images, "text": ["t"] * len(data)})
    pq.write_table(table, tmp_path / "in" / "a.parquet", row_group_size=3)
    (outcome,) = run(tmp_path / "in", tmp_path / "out")
    assert (outcome.state, outcome.images, outcome.failed) == ("written", 7, 1)
    rows = pq.read_table(tmp_path / "out" / "a.parquet").to_pylist()
    assert [(row["id"], row["text"]) for row in rows] == [(i, "t") for i in range(7)]
    for one, row in zip(data, rows, strict=True):
        assert row["flic"] == Compressor()({"bytes": one})["flic"] and "image" not in row
    assert states(run(tmp_path / "in", tmp_path / "out")) == ["complete"]


def test_a_column_of_no_images_is_told_as_what_it_is(tmp_path):
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "in" / "a.parquet")
    (outcome,) = run(tmp_path / "in", tmp_path / "out", Settings(column="id"))
    assert outcome.state == "failed"
    assert "2 of 2 images failed" in outcome.error and "bytes of a file are expected, got int" in outcome.error


def test_any_fsspec_url_will_do(crops, tmp_path):
    fs = fsspec.filesystem("memory")
    target = "memory://bucket/out"
    list(run(f"file://{crops}", target, Settings(to="tar")))
    assert states(run(crops, target, Settings(to="tar"))) == ["complete"]
    assert sorted(fs.ls("/bucket/out", detail=False)) == [
        f"/bucket/out/00000{end}" for end in (".parquet", ".tar", "_stats.json")
    ]
    list(run(crops, tmp_path / "here", Settings(to="tar")))
    assert fs.cat_file("/bucket/out/00000.tar") == (tmp_path / "here" / "00000.tar").read_bytes()
    fs.rm("/bucket", recursive=True)


def test_a_shard_most_of_whose_images_fail_is_not_written(crops, tmp_path):
    for path in find_images(crops):
        path.write_bytes(b"no image")
    (outcome,) = run(crops, tmp_path / "out", Settings(to="tar"))
    assert outcome.state == "failed" and "7 of 7 images failed" in outcome.error and "no image" in outcome.error
    assert not list((tmp_path / "out").iterdir())
    assert states(run(crops, tmp_path / "out", Settings(to="tar", max_failed=1))) == ["written"]


def test_short_memory_is_not_the_images_failure(crops, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("fastlic.batch.rows.read_image", fails)
    (outcome,) = run(crops, tmp_path / "out", Settings(max_failed=1))
    assert outcome.state == "failed" and "MemoryError" in outcome.error
    assert not list((tmp_path / "out").glob("*.json"))


def test_a_disk_that_fails_leaves_no_shard_behind(crops, monkeypatch):
    fs = fsspec.filesystem("memory")

    def fails(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(type(fs), "mv", fails)
    (outcome,) = run(crops, "memory://full/out", Settings(to="tar"))
    assert outcome.state == "failed" and "disk full" in outcome.error
    assert fs.ls("/full/out", detail=False) == []


def test_outputs_never_lie_among_the_sources(crops, tars, tmp_path):
    for source, target in ((crops, crops), (crops, crops / "out"), (tars, tars), (f"{tars}/*.tar", tars)):
        with pytest.raises(ValueError, match="lies in"):
            run(source, target)
    nested = tars / "tars"
    nested.mkdir()
    shutil.copy(tars / "000.tar", nested / "000.tar")
    shutil.copytree(tars, tmp_path / "x" / "x")
    shutil.copy(tars / "000.tar", tmp_path / "x" / "000.tar")
    with pytest.raises(ValueError):
        run(tmp_path / "x" / "x", tmp_path / "x" / "x")


def test_sources_of_several_kinds_or_none_are_named(crops, tars, tmp_path):
    shutil.copy(crops / "0.png", tars)
    with pytest.raises(ValueError, match="folder and tar files"):
        run(tars, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image file"):
        run(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ValueError, match="only files in folders"):
        run(f"{tars}/*.tar", tmp_path / "out", Settings(to="parquet"))


def test_a_plan_is_the_same_whoever_asks(crops):
    assert plan(crops, 2)[1] == plan(str(crops), 2)[1]
    assert [len(shard.sources) for shard in plan(crops, 2)[1]] == [2, 2, 2, 1]


def test_a_task_that_is_killed_leaves_only_whole_shards_and_the_next_run_ends_it(crops, tmp_path):
    out = tmp_path / "out"
    slow = (
        "import sys, time, fastlic.batch.rows as rows\n"
        "from fastlic.batch import Settings, run\n"
        "read = rows.read_image\n"
        "def slowly(*a, **b):\n    time.sleep(0.3)\n    return read(*a, **b)\n"
        "rows.read_image = slowly\n"
        "list(run(sys.argv[1], sys.argv[2], Settings(to='parquet', max_failed=1), size=2))"
    )
    with subprocess.Popen([sys.executable, "-c", slow, str(crops), str(out)]) as process:
        while not (out / "00000_stats.json").exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGKILL)
    assert not (out / "00003_stats.json").exists()
    settings = Settings(to="parquet", max_failed=1)
    done = states(run(crops, out, settings, size=2))
    assert done[0] == "complete" and done[-1] == "written"
    keys = [row["path"] for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert keys == [path.relative_to(crops).with_suffix(".flic").as_posix() for path in find_images(crops)]


def test_files_take_no_names_once_too_many_images_of_a_folder_failed(photos, tmp_path):
    folder, out = tmp_path / "some", tmp_path / "out"
    folder.mkdir()
    for index in range(6):  # all but two: the fourth failure of six is one too many
        good = (photos / "chelsea.png").read_bytes()
        (folder / f"{index}.png").write_bytes(good if index in (1, 5) else b"no image")
    (outcome,) = run(folder, out, Settings())
    assert outcome.state == "failed" and "4 of 6 images failed" in (outcome.error or "")
    assert [path.name for path in out.rglob("*.flic")] == ["1.flic"]
    (outcome,) = run(folder, out, Settings(max_failed=0.7))
    assert (outcome.state, outcome.images, outcome.failed) == ("written", 6, 4)


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


@pytest.mark.parametrize("to", [None, "tar", "parquet"])
def test_a_folder_goes_there_and_back_to_the_pixels_of_decompress(to, crops, tmp_path):
    packed, back = tmp_path / "packed", tmp_path / "back"
    list(run(crops, packed, Settings(to=to), size=4))
    settings = Settings(Decompressor(), jobs=2)
    outcomes = list(run(packed, back, settings, size=4))  # the status of shards, beside them, is no source
    assert states(outcomes) == ["written"] * 2
    if to is None:
        made = {path.with_suffix("").relative_to(back).as_posix(): path.read_bytes() for path in back.rglob("*.png")}
        given = {name.removesuffix(".flic"): data for name, data in streams(packed).items()}
    elif to == "tar":
        made, given = (
            {sample["__key__"]: sample[kind] for path in sorted(folder.glob("*.tar")) for sample in samples(path)}
            for folder, kind in ((back, "png"), (packed, "flic"))
        )
    else:
        rows = [
            {row["path"]: row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()}
            for folder in (back, packed)
        ]
        assert all("flic" not in row and row["bpp"] == rows[1][name]["bpp"] for name, row in rows[0].items())
        (bad,) = [name for name, row in rows[0].items() if row["error"]]
        made, given = (
            {n: r[c] for n, r in t.items() if n != bad} for t, c in zip(rows, ("image", "flic"), strict=True)
        )
    assert made.keys() == given.keys() and len(made) == 6
    for name, data in made.items():
        expected = fastlic.decompress(given[name]).permute(1, 2, 0).mul(255).round().byte()
        assert np.array_equal(pixels(data), expected.numpy())
    assert states(run(packed, back, settings, size=4)) == ["complete"] * 2


def test_a_damaged_stream_is_told_and_left_out(crops, tmp_path):
    packed, back = tmp_path / "packed", tmp_path / "back"
    list(run(crops, packed))
    whole = (packed / "0.flic").read_bytes()
    (packed / "0.flic").write_bytes(whole[:-1])
    (outcome,) = run(packed, back, Settings(Decompressor()))
    assert (outcome.state, outcome.images, outcome.failed) == ("written", 6, 1)
    assert not (back / "0.png").exists() and (back / "deep" / "1.png").exists()
    (bad,) = [row for row in pq.read_table(back / "00000.parquet").to_pylist() if row["status"] != "success"]
    assert bad["status"] == "failed_to_decompress" and "CorruptStreamError" in bad["error_message"]
    (other,) = run(packed, back, Settings(Decompressor(suffix=".ppm")))
    assert other.state == "failed" and "suffix .png, not .ppm" in other.error


def test_tasks_share_the_streams_of_tars_and_everything_else_stays(tars, tmp_path):
    packed, back = tmp_path / "packed", tmp_path / "back"
    list(run(tars, packed))
    settings = Settings(Decompressor(suffix=".webp"))
    for task in range(2):
        (outcome,) = run(f"{packed}/*.tar", back, settings, part=(task, 2))
        assert outcome.state == "written"
    assert states(run(packed, back, settings, check=True)) == ["complete"] * 2
    first, second = samples(back / "000.tar"), samples(back / "001.tar")
    assert [(s["__key__"], *sorted(set(s) - {"__key__"})) for s in first + second] == [
        ("0/0000", "txt", "webp"),
        ("0/0002", "cls"),
        ("1/0000", "left.webp", "right.webp"),
        ("1/0001", "_note", "png.webp", "webp"),
    ]
    given = samples(packed / "001.tar")[1]
    assert np.array_equal(pixels(second[1]["png.webp"]), light.decompress(given["png.flic"]))


def test_shards_are_files_and_no_arrays():
    with pytest.raises(ValueError, match="name the suffix"):
        Settings(Decompressor(suffix=None))
