"""Integer models as flat dictionaries of named arrays, the form in which they are stored and fingerprinted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from fastlic.ops.tables import CdfTables


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Whatever is wrong with named arrays that are read in here is a ValueError that begins with ``what``."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{what} need an array {error} that is missing") from error
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError) as error:
        raise ValueError(f"{what} are damaged: {error}") from error


def below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with ``prefix``, under what follows it."""
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def tables_of(arrays: Mapping[str, np.ndarray], name: str) -> CdfTables:
    """The frequency tables stored under ``name``. Raises KeyError or ValueError as ``CdfTables.from_arrays`` does."""
    return CdfTables.from_arrays(below(arrays, f"{name}.tables."))


def names_of(arrays: Mapping[str, np.ndarray], kind: str, part: str) -> list[str]:
    """Sorted names of all that is stored as ``kind.<name>.part``."""
    return sorted(name[: -len(part) - 1] for name in below(arrays, f"{kind}.") if name.endswith(f".{part}"))
