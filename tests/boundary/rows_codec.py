"""One row for each public function, class and method of ``fastlic`` itself and of ``fastlic.codec`` (rows.py)."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import values
from PIL import Image
from values import F32, GOLDEN, I32, Call, H, W
from values_library import FOLDER, MLIC, as_coded, image, integers, jahp, mlic, picture, target

import fastlic
from fastlic import light
from fastlic.codec import (
    calibration,
    cards,
    container,
    drivers,
    effort,
    hub,
    image_files,
    images,
    mcq,
    mlicpp_official,
    packing,
    registry,
    sources,
    storage,
    targets,
)
from fastlic.codec.codec import Codec
from fastlic.models import McQuic
from fastlic.models.mcquic.context import CodeContext

PIXEL_CODEC = GOLDEN / "tiny_pixels_jahp.safetensors"


@cache
def codec() -> Codec:
    return Codec.load(GOLDEN / "tiny_jahp.safetensors")


@cache
def stream() -> bytes:
    return codec().compress(image(), 4)


def file_of(name: str, content: Callable[[], bytes]) -> Path:
    path = FOLDER / name
    if not path.exists():
        path.write_bytes(content())
    return path


def codec_file() -> Path:
    return file_of("codec.safetensors", (GOLDEN / "tiny_jahp.safetensors").read_bytes)


def png() -> Path:
    path = FOLDER / "images" / "photo.png"
    if not path.exists():
        path.parent.mkdir()
        Image.fromarray(image().permute(1, 2, 0).numpy()).save(path)
    return path


def flic() -> Path:
    return file_of("photo.flic", stream)


def opened_and_closed(path: Any, otherwise: Any) -> None:
    sources.open_file(path, otherwise).close()


@cache
def quantiser() -> McQuic:
    import safetensors.torch

    found = safetensors.torch.load_file(GOLDEN / "mcquic_official.safetensors")
    prefix = "model/"
    return McQuic.from_state_dict({k.removeprefix(prefix): v.float() for k, v in found.items() if k.startswith(prefix)})


@cache
def mcq_coder() -> mcq.McqCoder:
    return mcq.McqCoder(quantiser(), "tiny")


@cache
def mcq_data() -> bytes:
    return mcq_coder().compress(image())


@cache
def official_data() -> dict[str, Any]:
    return mlicpp_official.compress(mlic(), picture()[None])


def to_refine() -> dict[str, Any]:
    coder = Codec.load(PIXEL_CODEC)._coder
    pixels = torch.from_numpy(values.rows_of_pixels()).permute(2, 0, 1).contiguous()
    own = {"coder": coder, "pixels": pixels, "target": coder.analyse(pixels, 2.0, 1)}
    return {**own, "quality": 2.0, "effort": 3, "threads": 1}


def driven(name: str) -> dict[str, Any]:
    own = {"streams": [(as_coded(name)[0], H, W)], "groups": None, "symbols": True}
    return {"model": integers(name), **own, "backend": "auto", "threads": 2}


def driver(name: str) -> dict[str, Any]:
    return {"model": integers(name), "targets": [target(name)], "backend": "auto", "threads": 2}


def sizes(name: str) -> dict[str, Any]:
    return {"model": integers(name), "sections": as_coded(name)[0], "height": H, "width": W}


NO_TARGET = {"target_bpp": None, "target_bytes": None, "target_psnr": None}

CODEC: dict[str, Callable[[], Call]] = {
    "fastlic.peek": lambda: Call(fastlic.peek, {"data": stream()}),
    "fastlic.read_metadata": lambda: Call(fastlic.read_metadata, {"data": stream()}),
    "fastlic.compress": lambda: Call(
        fastlic.compress,
        {
            **{"x": image(), "model": codec(), "quality": 4.0, "max_pixels": 10_000, "transforms": "float"},
            **{**NO_TARGET, "effort": 0},
            **{"metadata": fastlic.Metadata(exif=b"MM"), "backend": "cpp"},
        },
    ),
    "fastlic.compress (by name)": lambda: Call(
        fastlic.compress,
        {
            **{"x": image(2), "model": str(codec_file()), "quality": None, "max_pixels": 10_000, "transforms": "float"},
            **{**NO_TARGET, "target_bytes": 900, "effort": 0, "backend": "auto"},
        },
    ),
    "fastlic.decompress": lambda: Call(
        fastlic.decompress,
        {
            "data": [known()],
            "device": "cpu",
            "dtype": torch.uint8,
            "max_pixels": 10_000,
            "levels": None,
            "transforms": "float",
            "backend": "cpp",
            "channels": 4,
        },
    ),
    "fastlic.info": lambda: Call(fastlic.info, {}),
    "calibration.default_calibration": lambda: Call(calibration.default_calibration, {}),
    "cards.cards": lambda: Call(cards.cards, {}),
    "cards.unknown": lambda: Call(cards.unknown, {"name_or_path": "jhap"}),
    "cards.shipped_with": lambda: Call(cards.shipped_with, {"fingerprint": "00" * 8, "version": 2}),
    "cards.shipped_reading": lambda: Call(cards.shipped_reading, {"fingerprint": "00" * 8}),
    "codec.Codec": lambda: Call(Codec, {"model": jahp(), "calibration": [picture()], "name": "tiny", "context": None}),
    "codec.Codec (with a context)": lambda: Call(
        Codec, {"model": quantiser(), "calibration": [picture()], "name": None, "context": quantiser_context()}
    ),
    "codec.Codec.load": lambda: Call(Codec.load, {"path": codec_file()}),
    "codec.Codec.save": lambda: Call(
        codec().save, {"path": FOLDER / "saved.safetensors", "half": True, "training": True, "packed": False}
    ),
    "codec.Codec.with_integer_transforms": lambda: Call(
        codec().with_integer_transforms, {"calibration": [picture()], "precision": None}
    ),
    "codec.Codec.compress": lambda: Call(
        codec().compress,
        {
            **{"x": picture(), "quality": 4.0, "backend": "cpp", "max_pixels": 10_000, "transforms": "float"},
            **{**NO_TARGET, "effort": 0},
            "metadata": fastlic.Metadata(exif=b"MM"),
        },
    ),
    "codec.Codec.decompress": lambda: Call(
        codec().decompress,
        {
            **{"data": stream(), "device": "cpu", "dtype": torch.float32, "backend": "cpp"},
            **{"max_pixels": 10_000, "slices": None, "transforms": "float", "channels": 2},
        },
    ),
    "codec.Codec.transforms": lambda: Call(codec().transforms, {"device": "cpu"}),
    "codec.Codec.analyse": lambda: Call(codec().analyse, {"x": image(), "quality": 4.0, "transforms": "float"}),
    "codec.Codec.encode": lambda: Call(codec().encode, {"analysed": [codec().analyse(image(), 4)], "backend": "cpp"}),
    "codec.Codec.symbols": lambda: Call(codec().symbols, {"analysed": codec().analyse(image(), 4)}),
    "codec.Codec.latents": lambda: Call(codec().latents, {"x": image(), "quality": 4.0}),
    "codec.Codec.decode_latents": lambda: Call(codec().decode_latents, {"data": stream()}),
    "codec.Codec.estimate": lambda: Call(codec().estimate, {"x": picture(), "quality": 4.0}),
    "container.Header": lambda: Call(
        container.Header,
        {
            "model_id": 3,
            "quality": 4.0,
            "fingerprint": b"01234567",
            "height": 20,
            "width": 33,
            "version": 3,
            "channels": 1,
        },
    ),
    "container.round_quality": lambda: Call(container.round_quality, {"quality": 4.3}),
    "container.model_name": lambda: Call(container.model_name, {"model_id": 3}),
    "container.pack": lambda: Call(
        container.pack,
        {
            "header": container.Header(3, 4.0, b"01234567", 20, 33, version=3),
            "sections": [b"one", b"two"],
            "attachments": [(2, b"icc")],
        },
    ),
    "container.Metadata": lambda: Call(container.Metadata, {"icc_profile": b"icc", "exif": b"MM", "xmp": b"<x/>"}),
    "container.attachments": lambda: Call(container.attachments, {"data": stream()}),
    "container.read_metadata": lambda: Call(container.read_metadata, {"data": stream()}),
    "container.check_channels": lambda: Call(container.check_channels, {"channels": 3}),
    "container.unpack": lambda: Call(container.unpack, {"data": stream(), "count": 1}),
    "container.peek": lambda: Call(container.peek, {"data": stream()}),
    "container.look": lambda: Call(container.look, {"data": stream()}),
    "container.parse": lambda: Call(container.parse, {"data": stream()}),
    "drivers.check_sizes": lambda: Call(drivers.check_sizes, sizes("groups")),
    "drivers.encode_many": lambda: Call(drivers.encode_many, driver("jahp")),
    "drivers.encode_many (reference)": lambda: Call(drivers.encode_many, {**driver("jahp"), "backend": "reference"}),
    "drivers.encode_many (groups)": lambda: Call(drivers.encode_many, driver("groups")),
    "drivers.encode_many (slices)": lambda: Call(drivers.encode_many, {**driver(MLIC), "backend": "reference"}),
    "drivers.encode_many (its parts)": lambda: Call(
        lambda z, y, zones: drivers.encode_many(integers("jahp"), [(z, y, zones)], "reference"),
        target("jahp")._asdict(),
    ),
    "drivers.sections_many": lambda: Call(drivers.sections_many, driver("jahp")),
    "drivers.decode_many": lambda: Call(drivers.decode_many, driven("jahp")),
    "drivers.decode_many (reference)": lambda: Call(drivers.decode_many, {**driven("jahp"), "backend": "reference"}),
    "drivers.decode_many (groups)": lambda: Call(drivers.decode_many, driven("groups")),
    "drivers.decode_many (slices)": lambda: Call(
        drivers.decode_many, {**driven(MLIC), "groups": 1, "backend": "reference"}
    ),
    "drivers.analyse_many": lambda: Call(
        drivers.analyse_many,
        {
            **{"model": integers("groups"), "backend": "auto", "threads": 2},
            "latents": [torch.randn(10, 4, 8, generator=torch.Generator().manual_seed(1))],
        },
    ),
    "image_files.find_images": lambda: Call(
        image_files.find_images, {"folder": png().parent, "suffixes": [".png", ".jpg"]}
    ),
    "image_files.colour_of": lambda: Call(image_files.colour_of, {"name": "white"}),
    "image_files.formats": lambda: Call(image_files.formats, {}),
    "image_files.read_image": lambda: Call(
        image_files.read_image, {"source": png(), "background": "white", "max_pixels": 10_000, "channels": 3}
    ),
    "image_files.keeps_metadata": lambda: Call(image_files.keeps_metadata, {"suffix": ".png"}),
    "image_files.format_of": lambda: Call(image_files.format_of, {"suffix": ".png"}),
    "image_files.encode_image": lambda: Call(
        image_files.encode_image,
        {"pixels": values.rows_of_pixels(), "suffix": ".png", "metadata": container.Metadata(b"icc", b"MM", b"<x/>")},
    ),
    "images.as_images": lambda: Call(images.as_images, {"x": image(), "channels": (1, 3)}),
    "images.check_range": lambda: Call(images.check_range, {"batch": picture()[None]}),
    "images.as_float": lambda: Call(images.as_float, {"image": image()}),
    "images.as_batch": lambda: Call(images.as_batch, {"x": picture()}),
    "images.as_pixels": lambda: Call(images.as_pixels, {"image": picture()}),
    "images.colours": lambda: Call(images.colours, {"image": image()}),
    "images.with_channels": lambda: Call(
        images.with_channels,
        {"image": image(), "channels": 2, "grey": False, "alpha": image()[0], "dtype": torch.float32},
    ),
    "images.check_dtype": lambda: Call(images.check_dtype, {"dtype": torch.uint8}),
    "images.to_dtype": lambda: Call(images.to_dtype, {"x": picture(), "dtype": torch.uint8}),
    "mcq_file.parse": lambda: Call(mcq.parse, {"data": mcq_data()}),
    "mcq_file.serialise": lambda: Call(mcq.serialise, {"file": mcq.parse(mcq_data())}),
    "mcq.quantised_cdf": lambda: Call(mcq.quantised_cdf, {"shares": np.full(9, 0.1, F32)}),
    "mcq.McqCoder": lambda: Call(mcq.McqCoder, {"model": quantiser(), "qp": "tiny"}),
    "mcq.McqCoder.pack": lambda: Call(mcq_coder().pack, dict(zip(("codes", "size"), unpacked(), strict=True))),
    "mcq.McqCoder.unpack": lambda: Call(mcq_coder().unpack, {"data": mcq_data(), "max_pixels": 10_000}),
    "mcq.McqCoder.compress": lambda: Call(mcq_coder().compress, {"x": image(), "quality": None, "max_pixels": 10_000}),
    "mcq.McqCoder.decompress": lambda: Call(
        mcq_coder().decompress,
        {"data": mcq_data(), "device": "cpu", "dtype": torch.uint8, "max_pixels": 10_000},
    ),
    "mcq.coder_of": lambda: Call(mcq.coder_of, {"codec": quantiser_codec()}),
    "mcq.weights_of": lambda: Call(mcq.weights_of, {"codec": codec()}),
    "mlicpp_official.update": lambda: Call(mlicpp_official.update, {"model": mlic()}),
    "mlicpp_official.compress": lambda: Call(
        mlicpp_official.compress, {"model": mlic(), "x": picture()[None], "max_pixels": 10_000}
    ),
    "mlicpp_official.decompress": lambda: Call(
        mlicpp_official.decompress, {"model": mlic(), **official_data(), "max_pixels": 10_000}
    ),
    "mlicpp_official.write_file": lambda: Call(
        mlicpp_official.write_file, {"compressed": official_data(), "height": 16, "width": 32}
    ),
    "mlicpp_official.read_file": lambda: Call(
        mlicpp_official.read_file, {"data": mlicpp_official.write_file(official_data(), 16, 32)}
    ),
    "hub.fetched": lambda: Call(hub.fetched, {"name_or_path": "jahp"}),
    "effort.squared_error": lambda: Call(effort.squared_error, {"a": image(), "b": image() // 2}),
    "effort.refined": lambda: Call(effort.refined, to_refine()),
    "targets.goal_of": lambda: Call(targets.goal_of, {"quality": None, **NO_TARGET, "target_psnr": 30}),
    "targets.quality_of": lambda: Call(targets.quality_of, {"quality": 2.5, "qualities": 8}),
    "targets.psnr": lambda: Call(targets.psnr, {"a": values.rows_of_pixels(), "b": values.rows_of_pixels() // 2}),
    "targets.search": lambda: Call(
        targets.search,
        {
            **{"goal": targets.Goal("target_bytes", 900), "encode": lambda q, worth: bytes(int(q * 200))},
            **{"psnr_of": lambda data: 30.0, "qualities": 8, "pixels": 900, "start": 2.0, "finer": True},
        },
    ),
    "light.load": lambda: Call(light.load, {"name_or_path": PIXEL_CODEC}),
    "light.compress": lambda: Call(
        light.compress,
        {
            **{"x": values.rows_of_pixels(), "model": PIXEL_CODEC, "quality": 1.5, **NO_TARGET, "effort": 0},
            **{"threads": 2, "max_pixels": 1 << 20, "metadata": fastlic.Metadata(exif=b"MM")},
            "progress": None,
        },
    ),
    "light.decompress": lambda: Call(
        light.decompress,
        {
            **{"data": values.pixel_stream(), "model": PIXEL_CODEC, "parts": 0},
            **{"threads": 2, "max_pixels": 1 << 20, "channels": 4, "progress": None, "region": (1, 2, 3, 4)},
        },
    ),
    "packing.pack": lambda: Call(
        packing.pack, {"arrays": {"a": weights(), "b": np.arange(5)}, "kind": "int8", "last": {"a"}}
    ),
    "packing.pack (of int16)": lambda: Call(
        packing.pack, {"arrays": {"a": weights().astype(np.int16)}, "kind": "int16", "last": set()}
    ),
    "packing.unpack": lambda: Call(packing.unpack, {"packed": packing.pack({"a": weights()})}),
    "packing.unpack (its parts)": lambda: Call(
        lambda **parts: packing.unpack(packing.Packed(**parts)), dict(vars(packing.pack({"a": weights()})))
    ),
    "packing.unpack (of int16)": lambda: Call(
        lambda **parts: packing.unpack(packing.Packed(**parts)),
        dict(vars(packing.pack({"a": weights().astype(np.int16)}, "int16"))),
    ),
    "sources.is_file": lambda: Call(sources.is_file, {"source": stream()}),
    "sources.is_stream": lambda: Call(sources.is_stream, {"data": flic()}),
    "sources.streams_of": lambda: Call(sources.streams_of, {"data": [stream()]}),
    "sources.stream_of": lambda: Call(sources.stream_of, {"data": stream()}),
    "sources.stream_of (a file)": lambda: Call(sources.stream_of, {"data": flic()}),
    "sources.head_of": lambda: Call(sources.head_of, {"data": flic()}),
    "sources.read_head": lambda: Call(sources.read_head, {"file": io.BytesIO(stream())}),
    "sources.read_from": lambda: Call(sources.read_from, {"file": io.BytesIO(stream()), "size": 100}),
    "sources.open_file": lambda: Call(opened_and_closed, {"path": flic(), "otherwise": "a hint"}),
    "sources.picture_of": lambda: Call(sources.picture_of, {"x": values.rows_of_pixels(), "max_pixels": 10_000}),
    "sources.picture_of (a file)": lambda: Call(sources.picture_of, {"x": png(), "max_pixels": 10_000}),
    "sources.model_and_quality": lambda: Call(sources.model_and_quality, {"model": 3, "quality": None}),
    "registry.load": lambda: Call(registry.load, {"name_or_path": str(codec_file())}),
    "registry.load (of a Path)": lambda: Call(registry.load, {"name_or_path": codec_file()}),
    "registry.for_stream": lambda: Call(registry.for_stream, {"data": known()}),
    "storage.write": lambda: Call(
        storage.write,
        {"path": FOLDER / "stored.safetensors", "stored": storage.read(codec_file()), "half": True, "packed": True},
    ),
    "storage.write (its parts)": lambda: Call(
        lambda **parts: storage.write(FOLDER / "stored.safetensors", storage.StoredCodec(**parts), True, True), stored()
    ),
    "storage.sealed": lambda: Call(
        storage.sealed, {"tensors": {"a": torch.ones(2)}, "description": {"layout": 3, "name": "a"}}
    ),
    "storage.read": lambda: Call(storage.read, {"path": codec_file(), "digest": None}),
}


@cache
def known() -> bytes:
    """A stream of a codec that is loaded."""
    registry.load(codec_file())
    return stream()


@cache
def quantiser_codec() -> Codec:
    return Codec(quantiser(), [picture()])


@cache
def quantiser_context() -> CodeContext:
    own = quantiser()
    return CodeContext(own.m, own.k[0], 3, 4).eval()


def unpacked() -> Any:
    return mcq_coder().unpack(mcq_data())


def weights() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(64, 256)).round().astype(np.int8)


def stored() -> dict[str, Any]:
    some = {"a": np.zeros(3, I32), "b": weights()}
    more = {"transforms": {"d": weights().astype(np.int16)}, "reads": (b"01234567",)}
    return {"name": "a", "family": "jahp", "config": {"N": 4}, "floats": {"c": torch.ones(2)}, "integers": some, **more}
