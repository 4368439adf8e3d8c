"""Many images, on one machine or on many: rows in, rows out, and shards that are complete or not there.

    row = fastlic.batch.Compressor(quality=4)({"bytes": path.read_bytes()})      # flic, width, height, bpp, ...

``Compressor`` and ``Decompressor`` are what ``map``, ``Dataset.map_batches`` and ``mapInPandas`` call. ``run`` does
so to folders, tars and parquet files shard by shard, what ``fastlic batch`` does. ``fastlic.batch.ray`` puts both on a
cluster. docs/scale.md shows all of it.
"""

from __future__ import annotations

from fastlic.batch.rows import Compressor, Decompressor
from fastlic.batch.shards import Shard, plan
from fastlic.batch.work import Outcome, Settings, run

__all__ = ["Compressor", "Decompressor", "Outcome", "Settings", "Shard", "plan", "run"]
