"""Shards, one after the other: each is done once, complete or not there.

For a shard ``00007`` the target folder holds its output (``00007.tar``, ``00007.parquet``, or a file for each image),
for tars and folders ``00007.parquet`` with a row for each image, and ``00007_stats.json``: the layout of img2dataset.
The last of them is written when the others are whole, says what they were made from and how, and makes the shard
complete; a later run skips it. Outputs depend on sources and settings alone, so who does a shard a second time writes
the same bytes.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO, TypeVar

import fastlic
from fastlic.batch.places import located, written
from fastlic.batch.rows import Coder, Compressor, Decompressor, Row, said
from fastlic.batch.shards import KINDS, Shard, check_apart, part_of, plan
from fastlic.errors import optional

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Settings:
    """How shards are done: compressed, or decompressed."""

    coder: Compressor | Decompressor = field(default_factory=Compressor)
    to: str | None = None  # "tar" or "parquet" for a folder's files; None: what the source is
    column: str | None = (
        None  # of parquet files; None: the first by custom ("bytes", "image", ...; "flic") that is there
    )
    jobs: int = 1  # images at a time
    max_failed: float = 0.5  # share of a shard's images; a shard with more is no shard
    force: bool = False  # do complete shards again, and replace what lies under the names of outputs

    def __post_init__(self) -> None:
        if self.to not in (None, *KINDS):
            raise ValueError(f"to must be one of {', '.join(KINDS)} or None, got {self.to!r}")
        if isinstance(self.jobs, bool) or not isinstance(self.jobs, int) or self.jobs < 1:
            raise ValueError(f"jobs must be a whole number from 1 on, got {self.jobs!r}")
        if not 0 <= self.max_failed <= 1:
            raise ValueError(f"max_failed is a share from 0 to 1, got {self.max_failed}")
        _ = self.coder.makes  # files: arrays cannot be written

    def identity(self, kind: str) -> dict[str, Any]:
        """All of it that decides over outputs."""
        return {**self.coder.identity(), "to": self.to or kind, "column": self.column}


@dataclass(frozen=True)
class Outcome:
    """What became of a shard."""

    shard: str
    state: str  # "written"; "complete": before, nothing was done; "missing": not asked for; "failed"
    images: int = 0
    failed: int = 0
    bytes_in: int = 0  # of the files taken
    bytes_out: int = 0  # of the files made
    seconds: float = 0.0
    error: str | None = None  # of state "failed"


def run(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    part: tuple[int, int] = (0, 1),
    size: int = 1000,
    check: bool = False,
) -> Iterator[Outcome]:
    """Do the shards of ``source`` that task ``part`` has, into the folder ``target``.

    A shard that cannot be done is an outcome, too; others go on.

    Args:
        source, size: as of :func:`plan`. The source is not to change while tasks run; where it did, they say so.
        target: a path or an fsspec URL, outside ``source``.
        part: (i, n), task i of n, from 0 to n - 1.
        check: tell which shards are complete, and do nothing.

    Raises:
        BackendUnavailable: a package is missing.
        ValueError: no sources, no such task, settings that cannot work, a target among the sources.
    """
    settings = settings or Settings()
    source_fs, fs, root, shards = prepared(source, target, settings, size)
    return (do(source_fs, shard, fs, root, settings, check) for shard in part_of(shards, part))


def prepared(
    source: str | os.PathLike[str], target: str | os.PathLike[str], settings: Settings, size: int = 1000
) -> tuple[Any, Any, str, list[Shard]]:
    """File system of the source, that of the target, the folder in it, and all shards: held against each other.

    Raises:
        BackendUnavailable, ValueError: as of :func:`run`.
    """
    optional("pyarrow.parquet", "batch")
    source_fs, shards = plan(source, size, settings.coder.TAKES, settings.coder.makes)
    kind = shards[0].kind
    if "tar" in (settings.to, kind):  # for those alone: it imports torch where there is one
        optional("webdataset", "batch")
    fs, root = located(os.fspath(target))
    check_apart(source_fs, shards, fs, root)
    if settings.to not in (None, kind) and kind != "folder":
        raise ValueError(f"{kind} files become {kind} files; only files in folders have a choice")
    settings.coder.open()
    return source_fs, fs, root, shards


def do(source_fs: Any, shard: Shard, fs: Any, root: str, settings: Settings, check: bool = False) -> Outcome:
    """Do one shard, whatever becomes of it; the first four are of :func:`prepared`, on any machine."""
    began = time.perf_counter()
    name = shard.name
    work = _Work(source_fs, fs, root, shard, settings)
    try:
        done = None if settings.force and not check else work.complete()
        if done is None and check:
            return Outcome(name, "missing")
        counts: dict[str, Any] = work.do() if done is None else done
    except Exception as error:
        return Outcome(name, "failed", seconds=time.perf_counter() - began, error=said(error))
    return Outcome(name, "written" if done is None else "complete", **counts, seconds=time.perf_counter() - began)


class _Work:
    """One shard to be done."""

    def __init__(self, source_fs: Any, fs: Any, root: str, shard: Shard, settings: Settings) -> None:
        self.source_fs, self.fs, self.root = source_fs, fs, root
        self.shard, self.settings, self.coder = shard, settings, settings.coder
        self.stats = f"{root}/{shard.name}_stats.json"
        self.rows: list[Row] = []
        self.outputs: dict[str, int] = {}
        self.ours = settings.force  # whether what lies under the names of outputs may be replaced

    def complete(self) -> dict[str, int] | None:
        """The counts of a shard that is complete; None: it is to be done.

        Raises:
            ValueError: it is complete, but of other sources or by other settings.
        """
        if not self.fs.exists(self.stats):
            return None
        try:
            found = json.loads(self.fs.cat_file(self.stats))
            outputs, counts = found["outputs"], {key: int(found[key]) for key in _COUNTS}
            made = (found["source"], found["settings"])
        except (ValueError, KeyError, TypeError):
            return None
        if made[0] != self.shard.digest:
            raise ValueError(f"complete, but its sources are others now; {_AGAIN}")
        wanted = self.settings.identity(self.shard.kind)
        if made[1] != wanted:
            differ = ", ".join(f"{key} {made[1].get(key)}, not {wanted[key]}" for key in wanted
                               if made[1].get(key) != wanted[key])  # fmt: skip
            raise ValueError(f"complete, but by other settings ({differ}); {_AGAIN}")
        for name, size in outputs.items():
            path = f"{self.root}/{name}"
            if not self.fs.exists(path) or self.fs.size(path) != size:
                return None
        return counts

    def do(self) -> dict[str, int]:
        """Write the shard; its counts."""
        began, kind = time.time(), self.settings.to or self.shard.kind
        if self.fs.exists(self.stats):  # of what is written over now
            self.fs.rm_file(self.stats)
            self.ours = True
        make = {"folder": self._files, "tar": self._tar, "parquet": self._parquet}[kind]
        make()
        if kind != "parquet":  # whose rows say it themselves
            self._write_table(f"{self.shard.name}.parquet", _status_table(self.rows, self.coder))
        counts = self._counts()
        stats = {
            **counts,
            "seconds": round(time.time() - began, 3),
            "started": began,
            "fastlic": fastlic.__version__,
            "source": self.shard.digest,
            "settings": self.settings.identity(self.shard.kind),
            "outputs": self.outputs,
        }
        with written(self.fs, self.stats) as file:
            file.write(json.dumps(stats, indent=1).encode())
        return counts

    def _counts(self) -> dict[str, int]:
        good = [row for row in self.rows if row["error_message"] is None]
        return {
            "images": len(self.rows),
            "failed": len(self.rows) - len(good),
            "bytes_in": sum(row["original_bytes"] or 0 for row in self.rows),
            "bytes_out": sum(row["bytes"] for row in good),
        }

    def _note(self, key: str, source: str, size: int | None, one: Row) -> None:
        made, error = one[self.coder.COLUMN], one["error"]
        if error is not None and error.startswith(("OutOfMemoryError", "MemoryError")):
            raise ValueError(f"{source}: {error}")  # the machine's failure, not the image's: another run may do it
        self.rows.append(
            {
                "key": key,
                "source": source,
                "status": "success" if error is None else f"failed_to_{self.coder.ACTION}",
                "error_message": error,
                "original_bytes": size,
                "bytes": None if made is None else len(made),
                **{name: one[name] for name in _told(self.coder)},
            }
        )

    def _check_failures(self, of: int | None = None) -> None:
        """Before an output takes its name: most images failed for one reason, which is the settings' or the disk's.

        Args:
            of: images of the whole shard; None: all of them have been tried.
        """
        failed = [row for row in self.rows if row["error_message"] is not None]
        count = len(self.rows) if of is None else of
        if len(failed) > self.settings.max_failed * count:
            raise ValueError(
                f"{len(failed)} of {count} images failed, the first one, {failed[0]['source']}, by "
                f"{failed[0]['error_message']}; --max-failed allows more"
            )

    def _written(self, name: str) -> AbstractContextManager[BinaryIO]:
        return written(self.fs, f"{self.root}/{name}", self.ours)

    def _finished(self, name: str) -> None:
        self.outputs[name] = self.fs.size(f"{self.root}/{name}")

    def _write_table(self, name: str, table: Any) -> None:
        parquet = optional("pyarrow.parquet", "batch")
        with self._written(name) as file:
            parquet.write_table(table, file)
        self._finished(name)

    def _coded(self) -> Iterator[tuple[str, str, int, Row]]:
        """(source, target name, bytes, new columns) of each loose file, in order."""

        def one(pair: tuple[str, str]) -> tuple[int, Row]:
            data = self.source_fs.cat_file(pair[0])
            return len(data), self.coder.one(data)

        pairs = zip(self.shard.sources, self.shard.targets, strict=True)
        for (path, target), (size, row) in _ahead(one, pairs, self.settings.jobs):
            yield path, target, size, row

    def _files(self) -> None:
        for path, target, size, row in self._coded():
            self._note(target.removesuffix(self.coder.makes), path, size, row)
            if (made := row[self.coder.COLUMN]) is None:  # no further file takes its name once too many failed
                self._check_failures(of=len(self.shard.sources))
                continue
            with self._written(target) as file:
                file.write(made)
            self.outputs[target] = len(made)

    def _tar(self) -> None:
        name = f"{self.shard.name}.tar"
        samples = self._samples_of_tar if self.shard.kind == "tar" else self._samples_of_images
        writer = optional("webdataset", "batch").TarWriter
        with self._written(name) as file:
            # The same bytes whenever: no times. PAX, since names may be long. Members whose name begins with _ too.
            with writer(file, encoder=False, keep_meta=True, mtime=0, format="PAX_FORMAT") as tar:
                for sample in samples():
                    tar.write(sample)
            self._check_failures()
        self._finished(name)

    def _samples_of_images(self) -> Iterator[dict[str, Any]]:
        for index, (path, target, size, row) in enumerate(self._coded()):
            key = f"{self.shard.name}{index:06d}"
            self._note(key, path, size, row)
            if (made := row[self.coder.COLUMN]) is not None:
                about = {"path": target, **{name: row[name] for name in _told(self.coder) if name != "fingerprint"}}
                yield {"__key__": key, self.coder.makes[1:]: made, "json": json.dumps(about).encode()}

    def _samples_of_tar(self) -> Iterator[dict[str, Any]]:
        """Samples with each image in place of its file; those whose images all failed are left out."""

        def one(sample: dict[str, Any]) -> dict[str, Row]:
            return {name: self.coder.one(data) for name, data in sample.items() if _is_taken(name, self.coder)}

        with self.source_fs.open(self.shard.sources[0], "rb") as file:
            for sample, images in _ahead(one, samples_of(file, self.shard.sources[0]), self.settings.jobs):
                for name, row in images.items():
                    self._note(sample["__key__"], f"{sample['__key__']}.{name}", len(sample[name]), row)
                out = {name: data for name, data in sample.items() if self.coder.keep or name not in images}
                made = {name: row[self.coder.COLUMN] for name, row in images.items()}
                for name, data in made.items():
                    if data is not None:
                        short = ".".join([*name.split(".")[:-1], self.coder.makes[1:]])
                        out[name + self.coder.makes if short in out else short] = data
                if not images or any(data is not None for data in made.values()):
                    yield out

    def _parquet(self) -> None:
        name = f"{self.shard.name}.parquet"
        tables = self._tables_of_parquet if self.shard.kind == "parquet" else self._tables_of_images
        writer = None
        with self._written(name) as file:
            try:
                for table in tables():
                    if writer is None:
                        open_writer = optional("pyarrow.parquet", "batch").ParquetWriter
                        writer = open_writer(file, table.schema, use_dictionary=False)
                    writer.write_table(table)
            finally:
                if writer is not None:
                    writer.close()
            if writer is None:
                raise ValueError("it holds no rows")
            self._check_failures()
        self._finished(name)

    def _tables_of_images(self) -> Iterator[Any]:
        pyarrow = optional("pyarrow", "batch")
        schema = pyarrow.schema(
            [("path", pyarrow.string()), *((k, getattr(pyarrow, v)()) for k, v in self.coder.TYPES.items())]
        )
        rows: list[Row] = []
        for path, target, size, row in self._coded():
            self._note(target, path, size, row)
            rows.append({"path": target, **row})
            if len(rows) == 64:  # a row group
                yield pyarrow.Table.from_pylist(rows, schema=schema)
                rows.clear()
        if rows:
            yield pyarrow.Table.from_pylist(rows, schema=schema)

    def _tables_of_parquet(self) -> Iterator[Any]:
        pyarrow, parquet = optional("pyarrow", "batch"), optional("pyarrow.parquet", "batch")
        with self.source_fs.open(self.shard.sources[0], "rb") as file:
            content = parquet.ParquetFile(file)
            coder = replace(self.coder, column=_column_of(content.schema_arrow, self.settings.column, self.coder))

            def many(values: Iterable[Any]) -> list[Row]:
                rows = []
                for value, row in _ahead(coder.one, values, self.settings.jobs):
                    data = value.get("bytes") if isinstance(value, dict) else value
                    source = f"{self.shard.sources[0]}, row {len(self.rows)}"
                    self._note(str(len(self.rows)), source, len(data) if isinstance(data, bytes) else None, row)
                    rows.append(row)
                return rows

            for batch in content.iter_batches(batch_size=32 * self.settings.jobs):
                yield coder.mapped(pyarrow.Table.from_batches([batch]), many)


_COUNTS = ("images", "failed", "bytes_in", "bytes_out")
_AGAIN = "--force does it again, another folder keeps both"


def _ahead(function: Callable[[T], R], items: Iterable[T], jobs: int) -> Iterator[tuple[T, R]]:
    """Items with their results, in order, from ``jobs`` threads: the core and Pillow's decoders leave Python alone.

    No more than twice as many items are held at a time.
    """
    with ThreadPoolExecutor(jobs) as pool:
        waiting: deque[tuple[T, Any]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > 2 * jobs:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def samples_of(file: Any, url: str) -> Iterator[dict[str, Any]]:
    """Samples of a tar as webdataset groups them: members of one name before its first dot.

    Raises:
        ValueError: the tar is damaged, has two members of one name, or no end mark: whatever was behind is missing.
    """
    group = optional("webdataset.tariterators", "batch").group_by_keys
    count = 0
    try:
        with _Tar.open(fileobj=file, mode="r|*") as tar:
            for sample in group(_members(tar, url), lcase=False):
                count += 1
                yield {name: value for name, value in sample.items() if name != "__url__"}
    except tarfile.TarError as error:
        raise ValueError(f"{url} is a damaged tar behind {count} samples: {error}") from error
    except ValueError as error:  # webdataset adds what it knows of the member, which is nothing here
        raise ValueError(f"{url}: {error.args[0]}") from error
    if not tar.ended:
        raise ValueError(f"{url} ends after {count} samples without an end mark: is it cut off?")


class _Tar(tarfile.TarFile):
    """Knows whether it came to the end mark; tarfile itself takes any odd header behind the first for the end."""

    ended = False

    class tarinfo(tarfile.TarInfo):
        @classmethod
        def fromtarfile(cls, tar: Any) -> Any:
            try:
                return super().fromtarfile(tar)
            except tarfile.HeaderError as error:
                tar.ended = type(error).__name__ == "EOFHeaderError"  # which typeshed does not know
                raise


def _members(tar: Any, url: str) -> Iterator[dict[str, Any]]:
    """Files of a tar, as webdataset's own reader has them: without those that are called __so__."""
    for member in tar:
        if member.isreg() and not re.match("__[^/]*__($|/)", member.name):
            yield {"fname": member.name, "data": tar.extractfile(member).read(), "__url__": url}
        tar.members = []  # it would keep them all


def _is_taken(name: str, coder: Coder) -> bool:
    return not name.startswith("__") and PurePosixPath(f"x.{name}").suffix.lower() in coder.TAKES


def _column_of(schema: Any, wanted: str | None, coder: Coder) -> str:
    for name in (wanted,) if wanted else coder.NAMES:
        if name in schema.names:
            kind = schema.field(name).type
            if not wanted and "binary" not in str(kind):  # a struct of bytes and path names its fields
                continue
            return str(name)
    what = wanted or f"of files to {coder.ACTION}"
    raise ValueError(f"no column {what} among {', '.join(schema.names)}: name it by --column")


def _told(coder: Coder) -> list[str]:
    """New columns that the status has, too."""
    return [name for name in coder.TYPES if name not in (coder.COLUMN, "error")]


def _status_table(rows: list[Row], coder: Coder) -> Any:
    pyarrow = optional("pyarrow", "batch")
    texts, numbers = pyarrow.string(), pyarrow.int64()
    kinds = {
        **dict.fromkeys(("key", "source", "status", "error_message"), texts),
        **dict.fromkeys(("width", "height", "original_bytes", "bytes"), numbers),
        **{name: getattr(pyarrow, coder.TYPES[name])() for name in _told(coder)},
    }
    return pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(list(kinds.items())))
