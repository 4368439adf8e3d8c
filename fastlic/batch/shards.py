"""What is to be done, cut into shards the same way on every machine that asks."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastlic.batch.places import local, located
from fastlic.codec.container import SUFFIX
from fastlic.codec.image_files import SUFFIXES

KINDS = ("folder", "tar", "parquet")


@dataclass(frozen=True)
class Shard:
    """One piece of work: sources that become one tar, one parquet file, or files of their own."""

    name: str  # of its outputs, without a suffix: "00007", or what the source is called
    kind: str  # of its sources: one of KINDS
    sources: tuple[str, ...]  # paths in the file system
    targets: tuple[str, ...]  # names under the target folder, were each source to become one file
    digest: str  # SHA-256 of names and sizes of the sources


def plan(
    source: str | os.PathLike[str], size: int = 1000, takes: Sequence[str] = SUFFIXES, makes: str = SUFFIX
) -> tuple[Any, list[Shard]]:
    """The file system of ``source``, and all its shards in order.

    Args:
        source: a folder, a file or a pattern (``*``) of either loose files, ``.tar`` or ``.parquet`` files; a path or
            an fsspec URL. Folders are searched to any depth. A tar or parquet file is a shard, and loose files are
            sorted by path and cut. Parquet files that only say what became of a shard are passed over.
        size: loose files in a shard.
        takes: suffixes of the loose files, images by default.
        makes: suffix of what each becomes.

    Raises:
        BackendUnavailable: no fsspec.
        ValueError: nothing of that kind, or of several kinds.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"a shard has 1 file or more, got {size!r}")
    fs, root = located(os.fspath(source))
    if "*" not in root and not fs.exists(root):
        raise ValueError(f"there is no {source}")
    found = _found(fs, root, takes)
    kinds = sorted({_kind(path) for path in found})
    if len(kinds) != 1:
        raise ValueError(
            f"{source} holds {' and '.join(kinds)} files: choose one kind by a pattern"
            if kinds
            else f"{source} holds no image file ({', '.join(takes)}), no .tar and no .parquet"
        )
    paths = sorted(found)
    base = os.path.commonpath([path.rpartition("/")[0] for path in paths]) if root in found or "*" in root else root
    names = [path[len(base) :].lstrip("/") for path in paths]
    if kinds[0] != "folder":
        return fs, [
            _shard(name.rpartition(".")[0], kinds[0], [path], [name], [(name, found[path])])
            for path, name in zip(paths, names, strict=True)
        ]
    taken = Counter([*names, *(name.rpartition(".")[0] for name in names)])
    shards = []
    for start in range(0, len(paths), size):
        some = slice(start, start + size)
        # a.png, a.jpg and a.png.jpg are three images: where the stem is not enough, the whole name is kept.
        targets = [(name if taken[stem := name.rpartition(".")[0]] > 1 else stem) + makes for name in names[some]]
        sizes = [(name, found[path]) for name, path in zip(names[some], paths[some], strict=True)]
        shards.append(_shard(f"{start // size:05d}", "folder", paths[some], targets, sizes))
    return fs, shards


def part_of(shards: Sequence[Shard], part: tuple[int, int]) -> list[Shard]:
    """The shards of task ``i`` of ``n``: every n-th from the i-th on.

    Raises:
        ValueError: no such task.
    """
    index, count = part
    if not 0 <= index < count:
        raise ValueError(f"shard {index}/{count}: tasks of {count} are numbered from 0 to {count - 1}")
    return list(shards[index::count])


def _kind(path: str) -> str:
    suffix = os.path.splitext(path)[1].lower()
    return suffix[1:] if suffix in (".tar", ".parquet") else "folder"


def _found(fs: Any, root: str, takes: Sequence[str]) -> dict[str, int]:
    """Paths of all files that may be meant, and their bytes."""
    if "*" in root:
        entries = fs.glob(root, detail=True)
    elif fs.isfile(root):
        entries = {root: fs.info(root)}
    else:
        entries = fs.find(root, detail=True)
    wanted = (*takes, ".tar", ".parquet")
    found = {}
    for path, entry in entries.items():
        if os.path.splitext(path)[1].lower() not in wanted:
            continue
        if entry["type"] == "file":
            found[path] = entry["size"]
        elif entry.get("islink") and fs.isfile(path):  # listings tell of the link itself
            found[path] = fs.info(path)["size"]
    if any(_kind(path) != "parquet" for path in found):  # the status of shards, beside their outputs
        for path in [path for path in found if f"{path.removesuffix('.parquet')}_stats.json" in entries]:
            if path.endswith(".parquet"):
                del found[path]
    return found


def _shard(
    name: str, kind: str, sources: Sequence[str], targets: Sequence[str], sizes: Sequence[tuple[str, int]]
) -> Shard:
    digest = hashlib.sha256(repr(list(sizes)).encode()).hexdigest()
    return Shard(name, kind, tuple(sources), tuple(targets), digest)


def check_apart(source_fs: Any, shards: Sequence[Shard], fs: Any, root: str) -> None:
    """Raises ValueError where outputs would lie among the sources, or take their names."""
    if local(source_fs) != local(fs) or type(source_fs) is not type(fs):
        return
    folders = {path.rpartition("/")[0] for shard in shards for path in shard.sources}
    if common := [folder for folder in folders if root == folder or root.startswith(f"{folder}/")]:
        raise ValueError(f"{root} lies in {common[0]}, which is read: write to another folder")
    sources = {path for shard in shards for path in shard.sources}
    outputs = {f"{root}/{shard.name}.{shard.kind}" for shard in shards if shard.kind != "folder"}
    if both := sorted(sources & outputs):
        raise ValueError(f"{both[0]} would be written over, and is read: write to another folder")
