"""``fastlic compress``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import fastlic
from fastlic.cli import files, options
from fastlic.errors import CodecFileError
from fastlic.files import write_whole

if TYPE_CHECKING:
    import numpy as np

    from fastlic.codec.image_files import Picture


@click.command()
@options.inputs
@options.output
@options.output_dir
@click.option("-q", "--quality", type=float, help="1 (smallest) to 8 (best), fractions allowed.  [default: 4]")
@options.targets
@options.effort
@options.model
@click.option(
    "--format",
    "suffix",
    type=click.Choice(["flic", "mcq"]),
    default="flic",
    show_default=True,
    help="Format of derived names; mcq is McQuic's own and needs McQuic weights.",
)
@click.option("--verify/--no-verify", default=None, help="Decompress and print PSNR.  [default: for a single input]")
@click.option("--background", metavar="COLOR", help="Lay transparent images on this colour (white, #aabbcc).")
@options.force
@options.max_pixels
@options.device
def compress(
    inputs: tuple[Path, ...],
    output: Path | None,
    output_dir: Path | None,
    quality: float | None,
    target_bpp: float | None,
    target_bytes: float | None,
    target_psnr: float | None,
    effort: int,
    model: str,
    suffix: str,
    verify: bool | None,
    background: str | None,
    force: bool,
    max_pixels: int | None,
    device: str,
) -> None:
    """Compress images: IN.png OUT.flic, or several inputs and folders (searched to any depth).

    Without an output name, IN.flic is written beside IN.png. OUT.mcq makes a file for McQuic 0.1.40.
    """
    from fastlic import light
    from fastlic.codec.container import SUFFIX
    from fastlic.codec.image_files import SUFFIXES, read_image
    from fastlic.codec.mcq_file import SUFFIX as MCQ

    jobs = files.plan(
        inputs,
        output,
        output_dir,
        names_output=lambda path: path.suffix.lower() in (SUFFIX, MCQ),
        suffixes=SUFFIXES,
        target_suffix=f".{suffix}",
        force=force,
    )
    with_torch = device != "cpu" or effort > 0 or any(job.target.suffix.lower() == MCQ for job in jobs)
    target = options.chosen_target(quality, target_bpp, target_bytes, target_psnr)
    _, encode, decode = coder(model, device, quality, max_pixels, with_torch, target, effort)
    check = len(jobs) == 1 if verify is None else verify

    def work(job: files.Job) -> str:
        picture = read_image(job.source, background, max_pixels)
        as_mcq = job.target.suffix.lower() == MCQ
        began = time.perf_counter()
        data = encode(picture, as_mcq)
        seconds = time.perf_counter() - began
        write_whole(job.target, data, make_folder=output_dir is not None)
        parts = [summary(picture.array, data), f"compressed in {seconds:.2f} s"]
        if target:
            parts.append(f"quality {fastlic.peek(data).quality:g}")
        if check:
            began = time.perf_counter()
            pixels = decode(data, as_mcq)
            seconds = time.perf_counter() - began
            parts += [f"decompressed in {seconds:.2f} s", f"PSNR {light.psnr(picture.array, pixels):.2f} dB"]
        return ", ".join([*parts, *(f"({note})" for note in picture.notes)])

    files.run(jobs, work)


Encode = Callable[["Picture", bool], bytes]
Decode = Callable[[bytes, bool], "np.ndarray"]


def coder(
    model: str,
    device: str,
    quality: float | None,
    max_pixels: int | None,
    with_torch: bool,
    target: Mapping[str, float] | None = None,
    effort: int = 0,
) -> tuple[Any, Encode, Decode]:
    """The codec, and both ways by it: without torch where the codec has integer transforms and nobody needs more.

    Args:
        target: what ``options.chosen_target`` gave.
    """
    from fastlic import light

    if not with_torch:
        try:
            codec = light.load(model)
        except CodecFileError:  # float transforms; or the whole library says what is wrong
            with_torch = True
    if with_torch:
        return _torch_coder(model, device, quality, max_pixels, target or {}, effort)
    wish = _wish(codec, quality, target)
    return (
        codec,
        lambda picture, _: light.compress(picture.array, codec, max_pixels=max_pixels, **wish),
        lambda data, _: light.decompress(data, codec, max_pixels=max_pixels),
    )


def _wish(codec: Any, quality: float | None, target: Mapping[str, float] | None) -> dict[str, Any]:
    """The argument of ``compress`` that says how much a file may take."""
    if target:
        if not codec.qualities:
            raise click.UsageError(f"codec {codec.name!r} has one fixed rate, which no target changes")
        return dict(target)
    return {"quality": options.checked_quality(codec, quality)}


def _torch_coder(
    model: str, device: str, quality: float | None, max_pixels: int | None, target: Mapping[str, float], effort: int
) -> tuple[Any, Encode, Decode]:
    import torch

    from fastlic.codec import mcq

    codec = fastlic.load(model)
    wish = _wish(codec, quality, target)

    def encode(picture: Picture, as_mcq: bool) -> bytes:
        x = picture.pixels.to(device)
        if as_mcq:
            if target or effort:
                raise ValueError("a .mcq file has neither target nor effort")
            return mcq.coder_of(codec).compress(x, wish["quality"], max_pixels=max_pixels)
        with _shown(effort):
            data = codec.compress(x, max_pixels=max_pixels, effort=effort, **wish)
        assert isinstance(data, bytes)  # one image in, one stream out
        return data

    def decode(data: bytes, as_mcq: bool) -> np.ndarray:
        coder = mcq.coder_of(codec) if as_mcq else codec
        x = coder.decompress(data, device, torch.uint8, max_pixels=max_pixels)
        assert isinstance(x, torch.Tensor)
        return x.permute(1, 2, 0).cpu().numpy()

    return codec, encode, decode


@contextmanager
def _shown(effort: int) -> Iterator[None]:
    """How far an effort is, on a terminal."""
    from tqdm import tqdm

    from fastlic.codec.effort import WATCH

    with tqdm(unit="step", disable=None if effort else True, leave=False) as bar:

        def see(done: int, of: int) -> None:
            bar.total, bar.n = of, done
            bar.refresh()

        token = WATCH.set(see)
        try:
            yield
        finally:
            WATCH.reset(token)


def summary(pixels: np.ndarray, data: bytes) -> str:
    """Shape, size and rate in words; ``pixels`` are [H, W, 3]."""
    height, width = pixels.shape[:2]
    return f"{width}x{height}, {len(data):,} bytes, {8 * len(data) / (height * width):.3f} bpp"
