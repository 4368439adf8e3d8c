"""What a call may cost: limits that are asked before any work, and words for memory that runs out."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fastlic
from fastlic import Codec, config
from fastlic.codec import codec as codec_module
from fastlic.codec import container, mcq, registry
from fastlic.errors import CorruptStreamError, FastlicError, OutOfMemoryError, PixelLimitError, memory_errors
from fastlic.models import McQuic


class Worked(Exception):
    """Work was done that a limit should have prevented."""


def _refuse_work(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*arguments: object, **named: object) -> None:
        raise Worked

    for name in ("analyse", "encode_many", "sections_many", "decode_many", "synthesise"):
        monkeypatch.setattr(codec._coder, name, work, raising=True)


@pytest.fixture(scope="module")
def mcquic() -> Codec:
    """Two levels: padded to multiples of 32, at least 64."""
    torch.manual_seed(0)
    return Codec(McQuic(8, 2, [16, 8]).eval(), calibration=[torch.rand(3, 64, 64)])


def test_the_default_is_what_pillow_opens_without_a_warning(monkeypatch):
    from PIL import Image

    monkeypatch.delenv(config.MAX_PIXELS_VARIABLE, raising=False)
    assert config.max_pixels() == Image.MAX_IMAGE_PIXELS
    monkeypatch.setenv(config.MAX_PIXELS_VARIABLE, "1000")
    assert config.max_pixels() == 1000 and config.max_pixels(7) == 7
    monkeypatch.setenv(config.MAX_PIXELS_VARIABLE, "many")
    with pytest.raises(ValueError, match="positive integer, got 'many'"):
        config.max_pixels()


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "9"])
def test_a_limit_is_a_positive_integer(codec: Codec, photo: Tensor, limit):
    with pytest.raises(ValueError, match="max_pixels must be a positive integer"):
        codec.compress(photo, 4, max_pixels=limit)
    with pytest.raises(ValueError, match="max_pixels must be a positive integer"):
        codec.decompress(codec.compress(photo, 4), max_pixels=limit)


def test_compress_refuses_before_it_looks_at_a_value(codec: Codec, monkeypatch):
    """16 bytes that claim to be 75 gigapixels: any pass over them would take minutes, any copy 300 GB."""
    _refuse_work(codec, monkeypatch)
    for dtype in (torch.uint8, torch.float32):
        x = torch.zeros(1, dtype=dtype).expand(3, 1 << 18, 1 << 18)
        for call in (codec.compress, codec.latents, codec.estimate):
            with pytest.raises(PixelLimitError, match=r"262144 x 262144 .*limit of 89478485 pixels.*max_pixels"):
                call(x, 4)
        with pytest.raises(PixelLimitError, match="limit of 1000 pixels"):
            fastlic.compress(torch.zeros(1, dtype=dtype).expand(2, 3, 32, 32), codec, 4, max_pixels=1000)
    with pytest.raises(ValueError, match="height and width must be"):
        codec.compress(torch.zeros(1).expand(3, 1, 1 << 20), 4)
    with pytest.raises(Worked):
        codec.compress(torch.zeros(3, 32, 32), 4, max_pixels=1024)


def test_decompress_refuses_before_it_decodes_previews_included(mcquic: Codec, monkeypatch):
    x = torch.rand(3, 70, 50)
    data = mcquic.compress(x)
    shown = mcquic.decompress(data, max_pixels=3500, levels=1)
    assert isinstance(shown, Tensor) and shown.shape == x.shape
    _refuse_work(mcquic, monkeypatch)
    for preview in ({}, {"levels": 1}):
        with pytest.raises(PixelLimitError, match=r"70 x 50 .*3500 pixels, above the limit of 3499 pixels"):
            mcquic.decompress(data, max_pixels=3499, **preview)
        with pytest.raises(PixelLimitError, match="limit of 3499 pixels"):
            fastlic.decompress(data, max_pixels=3499, **preview)
        monkeypatch.setenv(config.MAX_PIXELS_VARIABLE, "3499")
        with pytest.raises(PixelLimitError, match="FASTLIC_MAX_PIXELS"):
            mcquic.decompress(data, **preview)
        monkeypatch.delenv(config.MAX_PIXELS_VARIABLE)


def test_padding_counts_where_it_makes_an_image_costly(codec: Codec, mcquic: Codec, monkeypatch):
    """1 x 1,000,000 is worked on as 16 x 1,000,000 (jahp), 64 x 1,000,000 (mcquic)."""
    assert codec._coder.padded((1, 1_000_000)) == (16, 1_000_000)
    assert mcquic._coder.padded((1, 1_000_000)) == (64, 1_000_000)
    thin = torch.zeros(1, dtype=torch.uint8).expand(3, 1, 1_000_000)
    for each, level, cost in ((codec, 4, 16_000_000), (mcquic, None, 64_000_000)):
        _refuse_work(each, monkeypatch)
        with pytest.raises(PixelLimitError, match=rf"costs {cost} pixels, above the limit of 1000000 pixels"):
            each.compress(thin, level, max_pixels=1_000_000)
        header = container.Header(container.MODEL_IDS[each.family], level, each.fingerprint, 1, 1_000_000)
        with pytest.raises(PixelLimitError, match=rf"costs {cost} pixels"):
            each.decompress(container.pack(header, [b"z", b"y"]), max_pixels=1_000_000)
        with pytest.raises(Worked):
            each.compress(torch.zeros(1, dtype=torch.uint8).expand(3, 1, 1000), level, max_pixels=1000)
        monkeypatch.undo()


def test_every_head_of_a_list_is_checked_before_the_first_stream_is_decoded(codec: Codec, photo: Tensor, monkeypatch):
    small, large = codec.compress(photo[:, :40, :40], 4), codec.compress(photo, 4)
    names = registry._Names.of(codec)
    monkeypatch.setitem(registry._files, names, Path("codec.safetensors"))
    monkeypatch.setitem(registry._recent, names, codec)
    with monkeypatch.context() as patch:
        _refuse_work(codec, patch)
        for decompress in (codec.decompress, fastlic.decompress):
            with pytest.raises(PixelLimitError, match="96 x 136"):
                decompress([small, small, large], max_pixels=1600)
        with pytest.raises(CorruptStreamError):
            codec.decompress([small, small[:-1]])
    for decompress in (codec.decompress, fastlic.decompress):
        assert len(decompress([small, small], max_pixels=1600)) == 2
        assert decompress([]) == []


def test_a_batch_is_worked_on_in_parts_with_the_bytes_and_pixels_of_the_whole(codec: Codec, photo: Tensor, monkeypatch):
    batch = torch.stack([photo[:, :40, i : i + 40] for i in range(5)])
    streams = codec.compress(batch, 4)
    images = codec.decompress(streams)
    held: list[int] = []
    for name in ("sections_many", "decode_many"):
        real = getattr(codec._coder, name)

        def counted(items, *rest, real=real):
            held.append(len(items))
            return real(items, *rest)

        monkeypatch.setattr(codec._coder, name, counted)
    monkeypatch.setattr(codec_module, "_TOGETHER", 2 * 1600)
    assert codec.compress(batch, 4) == streams
    assert all(torch.equal(a, b) for a, b in zip(codec.decompress(streams), images, strict=True))
    assert held == [2, 2, 1] * 2


def test_peek_tells_the_size_without_sections_weights_or_limit(mcquic: Codec, monkeypatch):
    data = mcquic.compress(torch.rand(3, 70, 50))
    monkeypatch.setenv(config.MAX_PIXELS_VARIABLE, "1")
    head = fastlic.peek(data)
    assert (head.height, head.width, head.model, head.quality) == (70, 50, "mcquic", None)
    assert head.fingerprint == mcquic.fingerprint.hex()
    assert head.framing_bytes + sum(head.section_bytes) == len(data)
    assert fastlic.peek(memoryview(data)[: head.framing_bytes]) == head
    with pytest.raises(AttributeError):
        head.height = 1  # type: ignore[misc]
    with pytest.raises(CorruptStreamError):
        fastlic.peek(data[: head.framing_bytes - 1])
    with pytest.raises(TypeError, match="bytes, a path or a binary file; got int"):
        fastlic.peek(3)  # type: ignore[arg-type]


def test_peek_allocates_nothing_that_a_head_claims():
    data = container.pack(container.Header(3, 4.0, bytes(8), 1_000_000, 1_000_000), [b"z", b"y"])
    tracemalloc.start()
    assert fastlic.peek(data).height == 1_000_000
    with pytest.raises(PixelLimitError):
        fastlic.decompress(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_mcq_files_are_held_to_the_limit_too():
    pytest.importorskip("msgpack")
    torch.manual_seed(0)
    coder = mcq.McqCoder(McQuic(8, 2, [16, 8]).eval())
    x = torch.rand(3, 70, 50)
    data = coder.compress(x, max_pixels=3500)
    assert mcq.parse(data).height == 70
    assert coder.decompress(data, max_pixels=3500).shape == x.shape
    with pytest.raises(PixelLimitError, match="limit of 3499"):
        coder.compress(x, max_pixels=3499)
    with pytest.raises(PixelLimitError, match="limit of 3499"):
        coder.decompress(data, max_pixels=3499)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("std::bad_alloc"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you ..."
        ),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    ],
)
def test_running_out_of_memory_is_one_error_of_ours(error):
    with pytest.raises(OutOfMemoryError, match="not enough memory for this") as caught, memory_errors("this"):
        raise error
    assert isinstance(caught.value, FastlicError) and isinstance(caught.value, MemoryError)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not fit"), ValueError("out of memory"), PixelLimitError("x")]
)
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as caught, memory_errors("this"):
        raise error
    assert caught.value is error


_UNDER_A_LIMIT = """
    import ctypes, resource, sys
    import torch
    torch.set_num_threads(1)
    import fastlic
    from fastlic.errors import OutOfMemoryError
    codec = fastlic.Codec.load(sys.argv[1])
    small = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    large = torch.zeros(1, dtype=torch.uint8).expand(3, 4096, 4096)
    data = codec.compress(small, 4)
    bomb = codec.compress(large, 4)
    codec.decompress(data)
    ctypes.CDLL(None).malloc_trim(0)  # what is freed may be had again
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (24 << 20), resource.RLIM_INFINITY))
    larger = large[:, :1, :1].expand(3, 8192, 8192)
    for call, given in ((codec.compress, larger), (codec.decompress, bomb), (codec.decompress, [bomb, data])):
        try:
            call(given, *[4] * (given is larger))
            print("done")
        except OutOfMemoryError as error:
            print(error)
    assert codec.compress(small, 4) == data
    codec.decompress(data)
    print("and on")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux")
def test_under_a_memory_limit_a_large_image_is_our_error_and_small_ones_go_on(tiny_codec_file: Path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_UNDER_A_LIMIT), tiny_codec_file],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    compressed, decompressed, both, rest = done.stdout.splitlines()
    assert compressed.startswith("not enough memory for compressing an image of 8192 x 8192 (height x width)")
    assert decompressed.startswith("not enough memory for decompressing an image of 4096 x 4096 (height x width)")
    assert both.startswith("not enough memory for decompressing 2 images, the largest an image of 4096 x 4096")
    assert rest == "and on"
