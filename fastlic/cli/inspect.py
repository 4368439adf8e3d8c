"""``fastlic inspect``: analyses of codecs, and of what they code of a folder of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import fastlic
from fastlic.cli import options
from fastlic.cli.words import say
from fastlic.inspect.cluster import CASES, Cluster, simulate

if TYPE_CHECKING:
    from torch import Tensor

_folder = click.argument("folder", type=options.PATH)
_limit = click.option("--limit", type=click.IntRange(min=1), help="Only the first N images.")


def _qualities(default: str | None) -> Callable[[Any], Any]:
    shown = default or "all whole ones"
    return click.option(
        "--qualities", metavar="1,2,..", default=default, callback=options.numbers, help=f"[default: {shown}]"
    )


@click.group("inspect")
def inspect() -> None:
    """Analyse codecs, and what they code of a folder of images; reckon what a cluster takes."""


def _of_images(function: Callable[..., None]) -> click.Command:
    """A command over MODEL and the images in FOLDER."""
    return inspect.command()(click.argument("model")(_folder(_limit(function))))


def _images(folder: Path, limit: int | None = None) -> list[Tensor]:
    """uint8 [3, H, W] of each."""
    from fastlic.codec.image_files import find_images, read_image

    return [read_image(path).pixels for path in find_images(folder)[:limit]]


def _head(*titles: str) -> None:
    """Of a Markdown table."""
    say(f"| {' | '.join(titles)} |")
    say("|---" * len(titles) + "|")


def _levels(codec: fastlic.Codec, qualities: list[float] | None) -> list[float | None]:
    if qualities is None:
        return [float(q) for q in range(1, codec.qualities + 1)] or [None]
    return [options.checked_quality(codec, q) for q in qualities]


@inspect.command()
@click.argument("model")
@_folder
@_qualities(None)
@_limit
def growth(model: str, folder: Path, qualities: list[float] | None, limit: int | None) -> None:
    """Hold the rate of MODEL's integers against the float path of its networks, on the images in FOLDER.

    The float path is the model as it was trained, with exact Gaussians and an ideal coder. In percent over its
    bits: "gaussians", the integers' y under plain Gaussians (the networks' share), "tables", all latents under the
    stored tables, "bytes", the coded sections; then PSNR, and what it loses. MODEL is a codec file with its float
    entropy network (fastlic export --whole).
    """
    from fastlic.inspect import rates

    codec = fastlic.load(model)
    rates.float_model(codec)
    images = _images(folder, limit)
    say(f"{len(images)} images of {folder}, {codec!r}")
    say("quality  float bytes  gaussians    tables     bytes      PSNR      loss")
    for quality in _levels(codec, qualities):
        found = [rates.growth(codec, image, quality) for image in images]
        means = rates.Growth(*(sum(column) / len(images) for column in zip(*found, strict=True)))
        whole = means.float_y + means.float_z
        pairs = ((means.gaussians_y, means.float_y), (means.tables, whole), (means.sections, whole))
        text = "".join(f"{100 * (a / b - 1):+10.3f}" for a, b in pairs)
        text += f"{means.psnr:10.3f}{means.float_psnr - means.psnr:+10.4f}"
        say(f"{quality or 'fixed'!s:>7}  {whole / 8:11.0f} {text}")


@inspect.command()
@click.argument("model")
@_folder
@click.option("--floats", metavar="MODEL", help="The codec whose float transforms count.  [default: MODEL itself]")
@_qualities("1,4,8")
@_limit
def pixels(model: str, folder: Path, floats: str | None, qualities: list[float], limit: int | None) -> None:
    """Tell what MODEL's integer transforms lose beside float ones, on the images in FOLDER.

    PSNR by floats, then, by integers less floats, the mean and the worst image: decibels of both ways, decibels of the
    synthesis alone, and bytes. Floats of a codec file for coding alone are what its integers stand for: --floats names
    the codec that these were made of.
    """
    from fastlic.inspect import pixels as analysis

    codec = fastlic.load(model)
    other = codec if floats is None else fastlic.load(floats)
    images = _images(folder, limit)
    say(f"{len(images)} images of {folder}, {codec!r}")
    say("quality      PSNR  both, dB, worst  synthesis, worst  bytes, %, worst")
    for quality in _levels(codec, qualities if codec.qualities else None):
        found = list(analysis.compare(codec, other, images, quality))
        columns = [[100 * value for value in row] if i == 3 else row for i, row in enumerate(zip(*found, strict=True))]
        mean = [sum(row) / len(row) for row in columns]
        worst = [min(columns[1]), min(columns[2]), max(columns[3])]
        text = "".join(f"{a:+10.4f}{b:+8.4f}" for a, b in zip(mean[1:], worst, strict=True))
        say(f"{quality or 'fixed'!s:>7}{mean[0]:10.3f}{text}")


@inspect.command()
@click.argument("models", nargs=-1, required=True, type=options.PATH)
@_folder
@_qualities("1,4,8")
@_limit
def bits(models: tuple[Path, ...], folder: Path, qualities: list[float], limit: int | None) -> None:
    """Tell where the bits of Gaussian latents are: by slices of 32 channels and halves of the checkerboard.

    Bits are the float path's, means over the images in FOLDER, cropped to multiples of 64 pixels. MODELS are codec
    files with their float entropy networks, or state dicts of JAHP or MLIC++ such as
    checkpoints/jahp_float16.safetensors.
    """
    from fastlic.inspect import rates

    networks = {path.name: rates.read_model(path) for path in models}
    images = _images(folder, limit)
    say(f"{len(images)} images; bits per image: all, z, then y by slices of {rates.SLICE} channels")
    for quality in qualities:
        for name, network in networks.items():
            level = quality if network.qualities else None
            found: Any = sum(rates.latent_bits(network, image.float() / 255, level) for image in images)
            mean = found / len(images)
            say(f"quality {quality:g}, {name}: {mean.sum():.0f}, z {mean[0, 0]:.0f}")
            for label, row in zip(("anchors", "others"), mean[:, 1:], strict=True):
                say(f"  {label:8}" + "".join(f"{value:9.0f}" for value in row))


@inspect.command("same-bits")
@click.argument("model")
@_folder
@click.option("--batch", "batches", type=click.IntRange(min=1), multiple=True, default=(1, 3, 8), show_default=True)
@_limit
def same_bits(model: str, folder: Path, batches: tuple[int, ...], limit: int | None) -> None:
    """Compare streams, latents and pixels over instruction sets, thread counts and batches: none may change a bit.

    Each image in FOLDER is coded at MODEL's middle quality, and decoded, in every setting. Prints the SHA-256 of all
    streams and of all pixels, which are those of every machine. Exits with 1 if anything differs.
    """
    from fastlic.inspect import same_bits as analysis

    codec = fastlic.load(model)
    quality = (1 + codec.qualities) / 2 if codec.qualities else None
    images, different, result = _images(folder, limit), 0, None
    for result in analysis.same_bits(codec, images, quality, batches):
        say(f"{result.isa}: {result.different} of {result.images} differ")
        different += result.different
    settings = f"{len(analysis.THREADS)} thread counts, batches of {', '.join(map(str, batches))}"
    say(f"{different} differences: {len(images)} images, {settings}")
    if result is not None and codec.pixels is not None:
        say(f"streams {result.streams}")
        say(f"pixels  {result.pixels}")
    if different:
        raise SystemExit(1)


@_of_images
def codes(model: str, folder: Path, limit: int | None) -> None:
    """Repeat every codebook search of MODEL, a McQuic, in float64 on the images in FOLDER.

    Tells how many words a search by float32 distances would choose otherwise, and what a context of codes saves.
    Exits with 1 if the codec chose a word that is not the nearest.
    """
    from fastlic.inspect import codes as analysis

    codec = fastlic.load(model)
    if codec.family != "mcquic":
        raise click.UsageError(f"{codec!r} searches no codebook")
    images, quality = _images(folder, limit), options.checked_quality(codec, None)
    verdicts = [analysis.compare(search) for image in images for search in analysis.searches(codec, image, quality)]
    total, wrong, otherwise = (sum(verdict[i] for verdict in verdicts) for i in range(3))
    loss = max(verdict.loss for verdict in verdicts)
    say(f"{len(images)} images, {codec!r}: {total} indexes, {wrong} differ from the float64 search")
    say(f"float32 distances would choose {otherwise} otherwise, the worst {100 * loss:.2g} % farther away (squared)")
    if codec.entropy.context is not None:
        plain, known = analysis.context_bits(codec, images, quality)
        saved = f"{known / 8e3:.1f} kB with their context: {100 * (1 - known / plain):.1f} % less"
        say(f"{plain / 8e3:.1f} kB of codes by how often words are used, {saved}")
    if wrong:
        raise SystemExit(1)


@_of_images
def targets(model: str, folder: Path, limit: int | None) -> None:
    """Tell how near MODEL meets targets on the images in FOLDER, and in how many encodes, as a Markdown table.

    Of each image five targets of each kind, evenly spaced from what quality 1 gives to what the last one does.
    """
    import numpy as np

    from fastlic import light
    from fastlic.inspect.targets import KINDS, met

    codec = light.load(model)
    found = [
        each for image in _images(folder, limit) for each in met(codec, image.permute(1, 2, 0).contiguous().numpy())
    ]
    _head("target", "encodes, median and worst", "off by, median and worst")
    for kind in KINDS:
        encodes, off = (np.array(column) for column in zip(*[f[1:] for f in found if f[0] == kind], strict=True))
        shown = [f"{v:.3f} dB" if kind == "target_psnr" else f"{v:.2%}" for v in (np.median(abs(off)), abs(off).max())]
        say(f"| {kind} | {np.median(encodes):g}, {encodes.max()} | {', '.join(shown)} |")


@inspect.command()
@click.argument("models", nargs=-1)
def packing(models: tuple[str, ...]) -> None:
    """Tell what packing saves of MODELS' files, and what it costs to read them, as a Markdown table.

    Without MODELS: all that ship.
    """
    from fastlic.codec.cards import cards
    from fastlic.inspect.packing import packed

    values = ("int8: values, bits each", "int16: values, bits each")
    codecs = {name: fastlic.load(name) for name in models or cards()}
    _head("codec", *values, "file, plain and packed", "read, plain and packed")
    for name, codec in codecs.items():
        found = packed(codec)
        files = ", ".join(f"{size / 1e6:.2f}" for size in found.files)
        reading = ", ".join(f"{1e3 * seconds:.0f}" for seconds in found.reading)
        sizes = " | ".join(f"{own.values / 1e6:.2f} M, {own.bits:.2f}" for own in (found.int8, found.int16))
        say(f"| `{name}` | {sizes} | {files} MB | {reading} ms |")


def _of_cluster(function: Callable[..., None]) -> Callable[..., None]:
    """An option for each figure of a cluster."""
    for one in reversed(fields(Cluster)):
        if one.name == "scheduler":  # cases have both
            continue
        none = one.name in ("spread", "life", "gap", "price", "seed")  # may be 0
        kind: click.ParamType = click.FloatRange(min=0, min_open=not none)
        if isinstance(one.default, int):
            kind = click.IntRange(min=0 if none else 1)
        name = f"--{one.name.replace('_', '-')}"
        function = click.option(name, type=kind, default=one.default, show_default=True)(function)
    return function


@inspect.command()
@_of_cluster
def cluster(**figures: Any) -> None:
    """Simulate machines that compress a billion images, as a Markdown table: nothing is run, nothing measured.

    docs/scale.md explains the figures and the cases.
    """
    given = Cluster(**figures)
    ends = ("hours", "core hours", "cost", "shards begun in vain", "time lost", "in the last 1 %", "shards/s", "GB/s")
    _head("case", *ends)
    for name, different in CASES.items():
        one = simulate(replace(given, **different))
        times = f"{one.hours:.1f} | {one.core_hours:,.0f} | {one.cost:,.0f} | {one.again:,}"
        say(
            f"| {name} | {times} | {100 * one.lost:.2f} % | {100 * one.tail:.1f} % | {one.tasks:.1f} | {one.read:.1f} |"
        )
