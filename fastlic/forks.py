"""What a forked child needs to work: torch on one thread, and no lock that a thread it does not have still holds.

A fork copies the memory of all threads, but only the thread that forked goes on in the child. OpenMP's workers are not
there, so a convolution of torch that counts on them waits for ever: a child runs torch on one thread, as PyTorch's
DataLoader has it. oneDNN and Python's imports have locks that another thread may hold at that moment: a fork waits for
what runs under ``held_off``. fastlic's own C++ starts its threads within each call and keeps none.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from contextlib import ContextDecorator, nullcontext
from typing import Any, TypeVar

# A fork that has waited so long goes ahead: whoever runs may itself be waiting for the thread that forks.
PATIENCE = 30.0  # seconds

T = TypeVar("T")


class HeldOff(ContextDecorator):
    """While a thread is in here, forks by other threads wait; one that forks itself is not held up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: dict[int, int] = {}  # thread -> how many times it has entered
        self._forking = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            if me not in self._inside:  # a fork that waits goes first, or busy threads would hold it up for ever
                self._changed.wait_for(lambda: not self._forking, PATIENCE)
            self._inside[me] = self._inside.get(me, 0) + 1

    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        with self._changed:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
                self._changed.notify_all()

    def before_fork(self) -> None:
        me = threading.get_ident()
        self._changed.acquire()  # until the fork is over
        self._forking += 1
        self._changed.wait_for(lambda: self._inside.keys() <= {me}, PATIENCE)

    def after_fork_in_parent(self) -> None:
        self._forking -= 1
        self._changed.notify_all()
        self._changed.release()

    def after_fork_in_child(self) -> None:
        me = threading.get_ident()
        self._changed, self._forking = threading.Condition(), 0
        self._inside = {thread: times for thread, times in self._inside.items() if thread == me}


held_off = HeldOff()


class cached_property(functools.cached_property[T]):
    """functools' without its lock, which Python before 3.12 has and a child may find closed.

    Threads that ask at once may each make the value; they are equal, and one is kept.
    """

    def __init__(self, func: Callable[[Any], T]) -> None:
        super().__init__(func)
        self.lock = nullcontext()


def _one_thread() -> None:
    held_off.after_fork_in_child()
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):  # else it is not imported, or not to the end
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=held_off.before_fork,
        after_in_parent=held_off.after_fork_in_parent,
        after_in_child=_one_thread,
    )
