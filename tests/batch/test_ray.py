"""A real Ray cluster on this machine: workers and drivers are killed in the middle, and nothing is lost or twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from fastlic.batch import Compressor, Decompressor, Settings, run

pytest.importorskip("ray.data")
pq = pytest.importorskip("pyarrow.parquet")

DRIVER = """
import sys
import ray
from fastlic import batch
from fastlic.batch import ray as cluster

kind, source, target = sys.argv[1:]
for attempt in range(3):  # a busy machine has no answer within Ray's own half minute
    try:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
        break
    except Exception as error:
        print(error, file=sys.stderr)
        ray.shutdown()
if kind == "shards":
    for outcome in cluster.run(source, target, batch.Settings(to="parquet"), size=8):
        print(outcome.state, flush=True)
elif kind == "there and back":
    dataset = cluster.apply(cluster.read(source), batch.Compressor(quality=3))
    dataset = cluster.apply(dataset, batch.Decompressor())
    dataset.write_parquet(target + "/rows")
else:
    cluster.checkpoint(target + "/checkpoint")
    dataset = cluster.apply(cluster.read(source, override_num_blocks=20), batch.Compressor(quality=3))
    dataset.write_parquet(target + "/rows")
"""
COUNT = 160
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds workers by /proc"),
]


@pytest.fixture
def folder(photos, tmp_path) -> Path:
    path = tmp_path / "photos"
    path.mkdir()
    with Image.open(photos / "chelsea.png") as image:
        for i in range(COUNT):
            image.convert("RGB").crop((i % 90, i // 2, i % 90 + 320, i // 2 + 200)).save(path / f"{i:03d}.jpg")
    return path


@contextlib.contextmanager
def driver(kind: str, folder: Path, target: Path) -> Iterator[subprocess.Popen]:
    settings = {"RAY_agent_register_timeout_ms": "300000", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
    environment = {**os.environ, **settings, "FASTLIC_TEST": str(target)}
    command = [sys.executable, "-c", DRIVER, kind, str(folder), str(target)]
    with (target.parent / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.wait()
    for _ in range(300):  # the cluster goes with its driver
        if not workers(target, ""):
            break
        time.sleep(0.1)


def workers(target: Path, name: str) -> list[int]:
    """Processes of our own cluster that Ray calls ``name``."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = f"FASTLIC_TEST={target}".encode() in (path / "environ").read_bytes().split(b"\0")
            if ours and (path / "cmdline").read_bytes().startswith(f"ray::{name}".encode()):
                found.append(int(path.name))
    return found


def kill_one(process: subprocess.Popen, target: Path, name: str, pattern: str, after: int) -> None:
    """Once there are so many outputs, end a worker that is at work."""
    while len(list(target.glob(pattern))) < after or not workers(target, name):
        assert process.poll() is None, (target.parent / "log").read_text()[-4000:]
        time.sleep(0.02)
    os.kill(workers(target, name)[0], signal.SIGKILL)


def test_a_worker_and_a_driver_are_killed_and_the_pipeline_goes_on(folder, tmp_path):
    target, committed = tmp_path / "out", "checkpoint/*[0-9].parquet"
    target.mkdir()
    with driver("rows", folder, target) as process:
        kill_one(process, target, "ReadBinary", committed, 2)
        done = len(list(target.glob(committed)))
        while len(list(target.glob(committed))) < done + 3:  # it went on
            assert process.poll() is None, (tmp_path / "log").read_text()[-4000:]
            time.sleep(0.02)
    before = sum(pq.read_metadata(path).num_rows for path in target.glob(committed))
    assert 0 < before < COUNT
    with driver("rows", folder, target) as process:
        assert process.wait(timeout=600) == 0, (tmp_path / "log").read_text()[-4000:]
    rows = [row for path in (target / "rows").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert sorted(Path(row["path"]).name for row in rows) == sorted(path.name for path in folder.iterdir())
    sample = rows[len(rows) // 2]
    expected = Compressor(quality=3)({"bytes": (folder / Path(sample["path"]).name).read_bytes()})
    assert {name: sample[name] for name in expected} == expected


def test_images_go_there_and_back_in_one_kind_of_task_and_what_failed_is_a_row(folder, tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    for path in sorted(folder.iterdir())[20:]:
        path.unlink()
    (folder / "bad.jpg").write_bytes(b"no image")
    with driver("there and back", folder, target) as process:
        assert process.wait(timeout=600) == 0, (tmp_path / "log").read_text()[-4000:]
    assert "ReadBinary->MapBatches(Compressor)->MapBatches(Decompressor)->Write" in (tmp_path / "log").read_text()
    rows = [row for path in (target / "rows").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert len(rows) == 21 and len(list((target / "rows").glob("*.parquet"))) <= 16
    for row in rows:
        if Path(row["path"]).name == "bad.jpg":
            assert row["image"] is None and "the row holds no bytes" in row["error"]
        else:
            data = Compressor(quality=3)({"bytes": (folder / Path(row["path"]).name).read_bytes()})
            assert Decompressor()(data)["image"] == row["image"]


def test_a_worker_and_a_driver_are_killed_and_shards_are_done_once(folder, tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    with driver("shards", folder, target) as process:
        kill_one(process, target, "do", "*_stats.json", 2)
        done = len(list(target.glob("*_stats.json")))
        while len(list(target.glob("*_stats.json"))) < done + 3:
            assert process.poll() is None, (tmp_path / "log").read_text()[-4000:]
            time.sleep(0.02)
    assert 0 < len(list(target.glob("*_stats.json"))) < COUNT / 8
    with driver("shards", folder, target) as process:
        told = process.stdout.read().split()
        assert process.wait(timeout=600) == 0, (tmp_path / "log").read_text()[-4000:]
    assert set(told) == {"complete", "written"} and len(told) == COUNT / 8
    rows = [row["path"] for path in sorted(target.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert rows == [f"{i:03d}.flic" for i in range(COUNT)]
    list(run(folder, tmp_path / "here", Settings(to="parquet"), size=8))
    files = list((tmp_path / "here").glob("*.parquet"))
    assert files
    for path in files:
        assert (target / path.name).read_bytes() == path.read_bytes()
