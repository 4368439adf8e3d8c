"""Threads that share codecs, or load them, get what one thread alone gets: the same bytes and the same pixels."""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fastlic
from fastlic.codec.cards import cards
from fastlic.codec.codec import Codec

SHIPPED = tuple(cards())


def trip(codec: Codec, x: Tensor, quality: float | None = 4) -> tuple[bytes, bytes]:
    data = codec.compress(x, quality)
    return data, codec.decompress(data).numpy().tobytes()  # type: ignore[return-value, union-attr]


def pictures(photo: Tensor) -> list[Tensor]:
    return [photo, photo.flip(2), 255 - photo[:, :64], photo[:, 20:, :80]]


@pytest.mark.parametrize("name", ["tiny", *SHIPPED])
def test_threads_on_one_codec_give_the_serial_bytes_and_pixels(name, tiny_codec, photo, in_threads):
    codec = tiny_codec if name == "tiny" else fastlic.load(name)
    images = pictures(photo) if name == "tiny" else pictures(photo)[2:]
    expected = [trip(codec, x) for x in images]
    assert in_threads([lambda x=x: trip(codec, x) for x in images]) == expected


def test_threads_on_several_codecs_give_the_serial_bytes_and_pixels(tiny_codec, photo, in_threads):
    codecs = [tiny_codec, *map(fastlic.load, SHIPPED)]
    x = photo[:, :64, :64]
    expected = [trip(codec, x) for codec in codecs]
    assert in_threads([lambda codec=codec: trip(codec, x) for codec in codecs]) == expected


def test_the_first_use_of_a_codec_may_come_from_several_threads(tiny_codec_file, tiny_codec, photo, in_threads):
    x = photo[:, :64, :64]
    expected = trip(tiny_codec, x)
    for _ in range(5):
        fresh = Codec.load(tiny_codec_file)  # its engines and tables are made when they are first needed
        assert in_threads([lambda fresh=fresh: trip(fresh, x)] * 4) == [expected] * 4


def test_threads_may_load_the_same_and_different_files(tiny_codec_file, tiny_codec, codec, photo, tmp_path, in_threads):
    other = tmp_path / "other.safetensors"
    codec.save(other)
    x = photo[:, :64, :64]
    expected = {tiny_codec_file: trip(tiny_codec, x), other: trip(Codec.load(other), x)}

    def load_and_code(path: Any) -> tuple[bytes, bytes]:
        data = fastlic.load(path).compress(x, 4)
        return data, fastlic.decompress(data).numpy().tobytes()  # type: ignore[return-value, union-attr]

    for _ in range(3):
        paths = [tiny_codec_file, other] * 3
        assert in_threads([lambda path=path: load_and_code(path) for path in paths]) == [expected[p] for p in paths]


def test_the_number_of_threads_may_change_between_and_during_calls(tiny_codec, photo, in_threads, two_threads):
    data = tiny_codec.compress(photo, 4)
    latents = tiny_codec.decode_latents(data)["y"]
    picture = tiny_codec.decompress(data, dtype=torch.uint8).int()

    def work(threads: int) -> None:
        for extra in range(3):
            torch.set_num_threads(threads + extra)
            assert torch.equal(tiny_codec.decode_latents(data)["y"], latents)
            # The last bit of a float may depend on it.
            assert (tiny_codec.decompress(data, dtype=torch.uint8).int() - picture).abs().max() <= 1

    in_threads([lambda n=n: work(n) for n in (1, 2, 3)])


def test_an_event_loop_codes_in_threads_and_in_processes(photo):
    data = fastlic.compress(photo)
    expected = fastlic.decompress(data)

    async def main() -> tuple[list[Any], list[Any]]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(3) as pool:
            decoded = await asyncio.gather(*(loop.run_in_executor(pool, fastlic.decompress, data) for _ in range(4)))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            coded = await asyncio.gather(*(loop.run_in_executor(pool, fastlic.compress, photo) for _ in range(2)))
        return decoded, coded

    decoded, coded = asyncio.run(asyncio.wait_for(main(), 120))
    assert all(torch.equal(x, expected) for x in decoded)
    assert coded == [data] * 2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_started_processes_code_like_this_one(method, tiny_codec_file, tiny_codec, photo):
    expected = trip(tiny_codec, photo)
    with multiprocessing.get_context(method).Pool(1) as pool:
        data = pool.apply_async(fastlic.compress, (photo, str(tiny_codec_file), 4)).get(120)
        picture = pool.apply_async(fastlic.decompress, (data,)).get(120)
    assert (data, picture.numpy().tobytes()) == expected


def test_a_process_whose_first_imports_race_codes(photo, tmp_path, program):
    np.save(tmp_path / "photo.npy", photo.numpy())
    source = """
import sys, threading
import numpy as np, torch
torch.set_num_threads(1)
x = torch.from_numpy(np.load(sys.argv[1]))[:, :64, :64]
start, seen = threading.Barrier(4), []
def work():
    start.wait()
    import fastlic
    seen.append(fastlic.compress(x))
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(seen), len(set(seen)), seen[0].hex())
"""
    expected = fastlic.compress(photo[:, :64, :64])
    assert program(source, str(tmp_path / "photo.npy"), patience=120).split() == ["4", "1", expected.hex()]
