"""fastlic on a Ray cluster: a step of a Ray Data pipeline, or whole shards as tasks. ``pip install "fastlic[ray]"``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from fastlic.batch.rows import Compressor, Decompressor, said
from fastlic.batch.work import Outcome, Settings, do, prepared
from fastlic.errors import optional

BLOCK_BYTES = 32 << 20


def read(paths: str | list[str], block_bytes: int = BLOCK_BYTES, **options: Any) -> Any:
    """A Dataset of files, columns ``bytes`` and ``path``, cut into blocks by their bytes.

    Args:
        paths: files or folders, paths or URLs.
        block_bytes: what a block may hold; it sets ``DataContext.target_max_block_size`` of this driver.
        options: of ``ray.data.read_binary_files``.
    """
    data = optional("ray.data", "ray")
    data.DataContext.get_current().target_max_block_size = block_bytes
    return data.read_binary_files(paths, include_paths=True, **options)


def apply(dataset: Any, callable: Compressor | Decompressor | None = None, workers: int | None = None) -> Any:
    """``dataset`` after a :class:`Compressor`, the default, or a :class:`Decompressor`: one actor per core.

    Args:
        workers: most actors; None: as many as the cluster has cores, but for a sixteenth, which read and write.

    Raises:
        ValueError: fewer cores than two, or with checkpoints four: an actor keeps one, Ray's filter of checkpoints
            another, and reading and writing would wait for theirs for ever.
    """
    ray = optional("ray", "ray")
    callable = callable or Compressor()
    cores = int(ray.cluster_resources().get("CPU", 1))
    least = 2 if ray.data.DataContext.get_current().checkpoint_config is None else 4
    if cores < least:
        raise ValueError(f"the cluster has {cores} cores, and this pipeline needs {least}: ray.init(num_cpus={least})")
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=workers or max(1, cores - max(1, cores // 16)))
    settings = {**asdict(callable), "threads": 1}
    return dataset.map_batches(
        type(callable), fn_constructor_kwargs=settings, batch_size=8, batch_format="pyarrow", num_cpus=1, compute=pool
    )


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
