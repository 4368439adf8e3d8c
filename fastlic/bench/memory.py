"""Peak memory of one call, as the operating system sees it: what a process needs beyond what it held before."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _kilobytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def peak(run: Callable[[], Any]) -> int | None:
    """Bytes by which ``run`` raises resident memory at its highest; None where the system does not tell (not Linux).

    ``run`` is called once before. Freed memory is handed back first, so that it cannot hide what is needed again.
    """
    run()
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text("5")  # resets the high-water mark
        before = _kilobytes("VmRSS:")
        run()
        return max(_kilobytes("VmHWM:") - before, 0) << 10
    except (OSError, AttributeError, StopIteration):
        return None
