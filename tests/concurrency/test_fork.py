"""Forked children code like their parent, whatever the parent has done and whatever its other threads are doing."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import fastlic
from fastlic import forks
from fastlic.codec.cards import cards
from fastlic.codec.codec import Codec
from fastlic.train.data import Sampler

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    # Newer Pythons warn of every fork beside threads: what comes of it is what is tested.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning"),
]

SHIPPED = tuple(cards())


def trip(codec: Codec, x: Tensor, quality: float | None = 4) -> tuple[bytes, np.ndarray]:
    """Stream and picture of one image."""
    data = codec.compress(x, quality)
    return data, codec.decompress(data).numpy()  # type: ignore[return-value, union-attr]


def alone(codec: Codec, x: Tensor) -> tuple[bytes, np.ndarray]:
    """The same as one thread of torch makes it; last bits of a picture may depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return trip(codec, x)
    finally:
        torch.set_num_threads(before)


def same(one: tuple[bytes, np.ndarray], other: tuple[bytes, np.ndarray]) -> bool:
    return one[0] == other[0] and np.array_equal(one[1], other[1])


@contextmanager
def busy(*works: Callable[[], Any]) -> Iterator[None]:
    """Threads of the parent that go on with their work."""
    stop, failures = threading.Event(), []

    def run(work: Callable[[], Any]) -> None:
        torch.set_num_threads(2)
        while not stop.is_set():
            try:
                work()
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures


@pytest.mark.parametrize("name", SHIPPED)
def test_a_child_codes_like_its_parent_which_has_used_two_threads(name, photo, two_threads, in_child):
    codec = fastlic.load(name)
    expected = alone(codec, photo)
    trip(codec, photo)
    assert same(in_child(lambda: trip(codec, photo)), expected)
    assert in_child(torch.get_num_threads) == 1
    assert torch.get_num_threads() == 2, "the parent keeps its own"


def test_a_child_of_a_child_codes_too(tiny_codec, photo, two_threads, in_child):
    expected = alone(tiny_codec, photo)
    trip(tiny_codec, photo)
    assert same(in_child(lambda: in_child(lambda: trip(tiny_codec, photo))), expected)


def test_threads_of_a_child_code_too(tiny_codec, photo, two_threads, in_child, in_threads):
    expected = alone(tiny_codec, photo)
    trip(tiny_codec, photo)
    assert all(same(seen, expected) for seen in in_child(lambda: in_threads([lambda: trip(tiny_codec, photo)] * 3)))


def test_the_c_plus_plus_threads_start_anew_in_a_child(tiny_codec, photo, two_threads, in_child):
    data = tiny_codec.compress(torch.stack([photo] * 4), 4)
    sections = [tiny_codec._read(stream, {}).sections for stream in data]
    engine = tiny_codec.entropy.engine
    size = tiny_codec.decode_latents(data[0])["y"].shape[1:]
    streams = [(own, *size) for own in sections]

    def decoded() -> list[np.ndarray]:
        return [latents for _, latents, _ in engine.decode_many(streams, 4)]

    expected = decoded()
    assert all(np.array_equal(a, b) for a, b in zip(in_child(decoded), expected, strict=True))


def test_a_pool_of_forked_workers_decodes(photo, two_threads):
    data = fastlic.compress(photo)
    expected = alone(fastlic.load("jahp"), photo)[1]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        seen = pool.starmap_async(fastlic.decompress, [(data,)] * 4).get(60)
    assert all(np.array_equal(x.numpy(), expected) for x in seen)


def test_an_executor_of_forked_workers_compresses(photo, two_threads):
    data = fastlic.compress(photo)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        seen = [pool.submit(fastlic.compress, photo) for _ in range(4)]
        assert [future.result(60) for future in seen] == [data] * 4


class Streams(Dataset):
    def __init__(self, streams: list[bytes]) -> None:
        self.streams = streams

    def __len__(self) -> int:
        return len(self.streams)

    def __getitem__(self, i: int) -> Tensor:
        return fastlic.decompress(self.streams[i])  # type: ignore[return-value]


def test_workers_of_a_data_loader_decode(photo, two_threads):
    images = [photo, photo.flip(2), 255 - photo, photo.flip(1)]
    streams = [fastlic.compress(x) for x in images]
    expected = [alone(fastlic.load("jahp"), x)[1] for x in images]
    loader = DataLoader(Streams(streams), batch_size=2, num_workers=2, timeout=60, multiprocessing_context="fork")
    seen = [x.numpy() for batch in loader for x in batch]
    assert all(np.array_equal(a, b) for a, b in zip(seen, expected, strict=True))


def test_a_child_draws_the_training_batches_of_its_parent(two_threads, in_child):
    tiles = torch.randint(0, 256, (6, 3, 256, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))

    def drawn() -> np.ndarray:
        return Sampler(tiles, batch=2, crop=64, seed=5).next().numpy()

    assert np.array_equal(drawn(), in_child(drawn))


def test_accelerated_models_code_in_a_child(photo, two_threads, in_child):
    models = pytest.importorskip("compressai.models")
    torch.manual_seed(3)
    model = models.JointAutoregressiveHierarchicalPriors(8, 12).eval()
    fastlic.accelerate(model)
    x = photo[None, :, :64, :128].float() / 255

    def coded() -> tuple[Any, np.ndarray]:
        out = model.compress(x)
        return out["strings"], model.decompress(out["strings"], out["shape"])["x_hat"].numpy()

    torch.set_num_threads(1)
    expected = coded()
    torch.set_num_threads(2)
    coded()
    with busy(coded):
        for _ in range(5):
            strings, pixels = in_child(coded)
            assert strings == expected[0] and np.array_equal(pixels, expected[1])


FORKS = [10, pytest.param(400, marks=pytest.mark.slow)]


@pytest.mark.parametrize("forks_", FORKS)
@pytest.mark.parametrize("name", ["tiny", "jahp"])
def test_children_code_though_other_threads_of_the_parent_were_coding(
    name, forks_, tiny_codec, photo, two_threads, in_child
):
    codec = tiny_codec if name == "tiny" else fastlic.load(name)
    x = photo[:, :64, :96]
    expected = alone(codec, x)
    sides = iter(range(10**9))

    def other_sizes() -> None:
        # Sizes that torch has not seen: oneDNN makes new primitives, behind the lock of its cache.
        side = next(sides)
        trip(codec, torch.zeros(3, 64 + side % 150, 64 + 7 * side % 130))

    with busy(other_sizes, lambda: trip(codec, x)):
        for _ in range(forks_):
            assert same(in_child(lambda: trip(codec, x)), expected)


def test_a_fork_beside_a_thread_that_builds_a_lazy_value_leaves_no_closed_lock(in_child):
    begun, go_on = threading.Event(), threading.Event()

    class Lazy:
        def __init__(self, waits: bool) -> None:
            self.waits = waits

        @forks.cached_property
        def value(self) -> int:
            if self.waits:
                begun.set()
                go_on.wait(60)
            return 5

    slow, quick = Lazy(True), Lazy(False)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    assert begun.wait(60)
    try:
        assert in_child(lambda: quick.value) == 5
    finally:
        go_on.set()
        thread.join()
    assert slow.value == 5


def test_a_fork_waits_for_what_other_threads_do_under_held_off(in_child):
    lock, inside = threading.Lock(), threading.Event()

    def hold() -> None:
        with forks.held_off, lock:
            inside.set()
            time.sleep(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(60)
    assert in_child(lambda: lock.acquire(timeout=1)), "the child was forked while the lock was held"
    thread.join()


def test_a_fork_gets_its_turn_between_threads_that_are_always_busy(in_child):
    def work() -> None:
        with forks.held_off, forks.held_off:
            time.sleep(0.01)

    began = time.monotonic()
    with busy(work, work, work):
        for _ in range(5):
            in_child(lambda: 0)
    assert time.monotonic() - began < forks.PATIENCE


def test_a_fork_by_the_thread_that_is_inside_does_not_wait_for_itself(in_child):
    began = time.monotonic()
    with forks.held_off:
        in_child(lambda: forks.held_off.__enter__())
    with forks.held_off:
        assert in_child(lambda: in_child(lambda: 3)) == 3
    assert time.monotonic() - began < forks.PATIENCE / 2


def test_a_fork_that_waits_in_vain_goes_ahead(monkeypatch, in_child):
    """Whoever is inside may be waiting for the thread that forks."""
    monkeypatch.setattr(forks, "PATIENCE", 0.2)
    inside, forked = threading.Event(), threading.Event()

    def wait_for_the_fork() -> None:
        with forks.held_off:
            inside.set()
            forked.wait(60)

    thread = threading.Thread(target=wait_for_the_fork)
    thread.start()
    assert inside.wait(60)
    assert in_child(lambda: trip_gate()) == "in and out"
    forked.set()
    thread.join()
    assert trip_gate() == "in and out"


def trip_gate() -> str:
    with forks.held_off:
        pass
    return "in and out"
