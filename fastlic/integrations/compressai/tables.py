"""An entropy model's integer tables in the form that the coders read, made once and again when a buffer changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from fastlic.integrations.compressai.snapshot import content
from fastlic.integrations.compressai.swap import Cache, state_of
from fastlic.ops.compressai_rans import CompressAiTables

Made = TypeVar("Made")


def cached(cache: Cache, name: str, sources: tuple[Tensor, ...], make: Callable[[], Made]) -> Made:
    """``make()``, remembered until ``sources``, which are small, have other values or are on another device.

    Values are compared, so it does not matter how they came in: ``update(force=True)`` and ``load_state_dict`` replace
    or overwrite buffers, averages of weights are written through ``.data``.
    """
    now = content(sources)
    known = cache.values.get(name)
    if known is not None and known[0] == now:
        return known[1]  # type: ignore[no-any-return]
    result = make()
    cache.values[name] = (now, result)
    return result


TABLES = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")


class LoadsTables:
    """Entropy models, and models that hold some, whose tables become as large as those that a state dict brings.

    CompressAI does so where there are no tables yet, and ``accelerate`` makes them where they were missing.
    """

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        owner: Any = self
        for name, module in owner.named_modules(prefix=prefix.removesuffix(".")):
            buffers = module._buffers if "_quantized_cdf" in module._buffers else {}
            for key in TABLES:
                own, given = buffers.get(key), state_dict.get(f"{name}.{key}".removeprefix("."))
                if own is not None and isinstance(given, Tensor) and own.shape != given.shape:
                    buffers[key] = own.new_zeros(given.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[misc]


def coding_tables(module: Any) -> CompressAiTables:
    """The tables of an entropy model.

    Raises:
        ValueError: ``update()`` was never called, as CompressAI itself says; or the tables are damaged.
    """
    module._check_cdf_size()
    module._check_cdf_length()
    module._check_offsets_size()
    buffers = (module._quantized_cdf, module._cdf_length, module._offset)

    def make() -> CompressAiTables:
        cdf, lengths, offsets = buffers
        return CompressAiTables(cdf, lengths.reshape(-1), offsets.reshape(-1))

    return cached(state_of(module).cache, "tables", buffers, make)
