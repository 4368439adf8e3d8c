"""What a terminal shows while one file takes long: how far its step is, and the time left.

Only where files are done one after the other, by the thread that also hears of Ctrl-C: whatever comes there, a signal
too, ends the step at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

_DELAY = 1.0  # seconds: what is over by then needs no bar


@contextlib.contextmanager
def shares(step: str, quiet: bool = False) -> Iterator[Callable[[float], None] | None]:
    """Gives what is told the share of the step that is over, 0 to 1; None in a thread of several that work."""
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    # Shares are of time: the rate of the whole tells more than that of the last moments.
    words = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with _bar(step, quiet, total=1, smoothing=0, bar_format=words) as bar:
        last = 0.0

        def see(share: float) -> None:
            nonlocal last
            if share < last:  # a target's next try
                bar.reset()
                last = 0.0
            bar.update(share - last)
            last = share

        yield see


@contextlib.contextmanager
def written(step: str, quiet: bool = False) -> Iterator[None]:
    """Shows how many bytes ``encode_image`` has written: how many they will be, nobody knows."""
    from fastlic.codec.image_files import WATCH

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _bar(step, quiet, unit="B", unit_scale=True) as bar:
        token = WATCH.set(bar.update)
        try:
            yield
        finally:
            WATCH.reset(token)


def _bar(step: str, quiet: bool, **options: Any) -> Any:
    from tqdm import tqdm

    return tqdm(desc=step, delay=_DELAY, leave=False, disable=True if quiet else None, **options)
