"""fastlic on a Ray cluster: a step of a Ray Data pipeline, or whole shards as tasks. ``pip install "fastlic[ray]"``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fastlic.batch.rows import Compressor, Decompressor, said
from fastlic.batch.work import Outcome, Settings, do, prepared
from fastlic.errors import optional

BLOCK_BYTES = 32 << 20
BLOCKS_PER_CORE = 8  # of a small folder: few, since each is a task and a file, and enough that cores end together
OPENERS = 64  # processes that open the weights while Ray plans: of small clusters all, where the start counts
ROWS = 8  # given to a callable at a time: a block of streams would be one of images twenty times as large


def read(paths: str | list[str], block_bytes: int = BLOCK_BYTES, **options: Any) -> Any:
    """A Dataset of files, columns ``bytes`` and ``path``, cut into blocks by their bytes.

    Args:
        paths: files or folders, paths or URLs.
        block_bytes: what a block may hold. It sets ``target_max_block_size`` of this driver's ``DataContext``, as
            ``read_op_min_num_blocks`` becomes eight per core, in place of Ray's 200.
        options: of ``ray.data.read_binary_files``. With ``concurrency=n`` reading has tasks of its own, which run
            ahead: of use where files come from far away.
    """
    ray, data = optional("ray", "ray"), optional("ray.data", "ray")
    context = data.DataContext.get_current()
    context.target_max_block_size = block_bytes
    if not ray.is_initialized():  # as read_binary_files would
        ray.init()
    context.read_op_min_num_blocks = BLOCKS_PER_CORE * max(1, _cores(ray.cluster_resources()))
    return data.read_binary_files(paths, include_paths=True, **options)


def apply(dataset: Any, callable: Compressor | Decompressor | None = None, workers: int | None = None) -> Any:
    """``dataset`` after a :class:`Compressor`, the default, or a :class:`Decompressor`, in tasks of one core each.

    Ray fuses such tasks with those that read before and write after: a task reads its files, compresses and writes. A
    process opens the weights once; those of free cores do so at once, while Ray still plans. A task whose process is
    killed is done again.

    Args:
        workers: most tasks at a time; None: as many as the cluster has cores. A number keeps tasks of reading and
            writing apart, which take cores of their own.

    Raises:
        ValueError: no cores, or with checkpoints one: Ray's filter of checkpoints keeps one, and the tasks would wait
            for theirs for ever.
    """
    ray = optional("ray", "ray")
    callable = callable or Compressor()
    callable = replace(callable, threads=1)
    cores = _cores(ray.cluster_resources())
    least = 1 if ray.data.DataContext.get_current().checkpoint_config is None else 2
    if cores < least:
        raise ValueError(f"the cluster has {cores} cores, and this pipeline needs {least}: ray.init(num_cpus={least})")
    opener = ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(_open)
    for _ in range(min(workers or cores, _cores(ray.available_resources()), OPENERS)):
        opener.remote(callable)
    return dataset.map_batches(
        _by_rows(callable), batch_size=None, batch_format="pyarrow", compute=ray.data.TaskPoolStrategy(workers)
    )


def _cores(resources: dict[str, float]) -> int:
    return int(resources.get("CPU", 0))


def _open(callable: Compressor | Decompressor) -> None:
    """In a worker: import and open what its first task would wait for. What is wrong with it that task tells."""
    with contextlib.suppress(Exception):
        optional("ray.data", "ray")
        callable.open()


def _by_rows(callable: Compressor | Decompressor) -> Any:
    """``callable`` for a whole block, some rows at a time.

    A ``batch_size`` would do so as well, but has Ray gather rows of several blocks, and so read in other tasks.
    """

    def streamed(block: Any) -> Iterator[Any]:
        for start in range(0, block.num_rows, ROWS):
            yield callable(block.slice(start, ROWS))

    streamed.__name__ = streamed.__qualname__ = type(callable).__name__  # what Ray calls the step
    return streamed


def checkpoint(path: str, id_column: str = "path") -> None:
    """Have pipelines of this driver go on where an earlier run of theirs ended, by Ray's own checkpoints.

    Rows whose ``id_column`` was written before are not read again. Ray commits a file with its rows in two phases; its
    class for this is called beta. All ids are held in memory by the driver: shards (:func:`run`) scale further.

    Args:
        path: where checkpoints are kept, a folder that all machines see or a bucket; of one pipeline alone.
    """
    data = optional("ray.data", "ray")
    config = optional("ray.data.checkpoint", "ray").CheckpointConfig
    data.DataContext.get_current().checkpoint_config = config(
        id_column=id_column, checkpoint_path=path, delete_checkpoint_on_success=False
    )


def run(source: str, target: str, settings: Settings | None = None, *, size: int = 1000) -> Iterator[Outcome]:
    """``fastlic.batch.run`` with a task of ``settings.jobs`` cores for each shard; outcomes in the order they end in.

    What a machine that dies was doing is done again elsewhere, three times; after that it is a failed outcome.

    Args:
        source, target: as all machines see them: shared folders or URLs.
    """
    ray = optional("ray", "ray")
    settings = settings or Settings()
    source_fs, fs, root, shards = prepared(source, target, settings, size)
    task = ray.remote(num_cpus=settings.jobs, max_retries=3)(do)
    most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)) // settings.jobs)
    waiting: dict[Any, str] = {}
    for shard in shards:
        waiting[task.remote(source_fs, shard, fs, root, settings)] = shard.name
        if len(waiting) >= most:
            yield _ended(ray, waiting)
    while waiting:
        yield _ended(ray, waiting)


def _ended(ray: Any, waiting: dict[Any, str]) -> Outcome:
    (reference,), _ = ray.wait(list(waiting))
    name = waiting.pop(reference)
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Outcome(name, "failed", error=said(error))
    return outcome
