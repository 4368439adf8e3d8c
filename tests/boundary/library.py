"""One row for each public function, class and method of ``fastlic`` itself, and of its codec, integers and entropy.

As rows.py, whose models these are made of; ``BATCHES`` has the rows of both.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import pkgutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import rows
import torch
import torch.nn as nn
from PIL import Image
from rows import F32, GOLDEN, I32, Call, H, W, arrays_of, latents

import fastlic.api
import fastlic.codec
import fastlic.entropy
import fastlic.integers
from fastlic.codec import (
    calibration,
    cards,
    container,
    drivers,
    image_files,
    images,
    mcq,
    mlicpp_official,
    packing,
    registry,
    storage,
)
from fastlic.codec.codec import Codec
from fastlic.entropy import (
    arrays,
    code_context,
    coded,
    codes,
    convert,
    convert_variable,
    fingerprint,
    fitting,
    float_path,
    model,
    passes,
    rate,
    scales,
    stacked,
    variable,
    wavefront,
    zones,
)
from fastlic.entropy import calibration as entropy_calibration
from fastlic.entropy.groups import convert as groups_convert
from fastlic.entropy.groups import model as groups_model
from fastlic.entropy.groups import schedule as groups_schedule
from fastlic.entropy.mlic import convert as mlic_convert
from fastlic.entropy.mlic import model as mlic_model
from fastlic.entropy.mlic import rate as mlic_rate
from fastlic.entropy.mlic import schedule as mlic_schedule
from fastlic.integers import builder, fixed, functions, layer, layouts, ranges, rounding, stages
from fastlic.models import JAHP, McQuic, MLICPlusPlus
from fastlic.models.density import EntropyBottleneck
from fastlic.models.gain import Gain
from fastlic.models.mcquic.context import CodeContext
from fastlic.models.mlic import Sizes
from fastlic.ops.latents import Target

SCRATCH = tempfile.TemporaryDirectory(prefix="fastlic-boundary-")
FOLDER = Path(SCRATCH.name)
I64, F64 = torch.int64, np.float64


# ---- what valid calls are made of


@cache
def codec() -> Codec:
    return Codec.load(GOLDEN / "tiny_jahp.safetensors")


def image(*lead: int) -> torch.Tensor:
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.integers(0, 256, (*lead, 3, 20, 33)).astype(np.uint8))


def picture() -> torch.Tensor:
    return image()[:, :16, :32].float() / 255


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


@cache
def jahp() -> JAHP:
    torch.manual_seed(1)
    return JAHP(4, 6, (4, 4, 4), qualities=2).eval()


@cache
def mlic() -> MLICPlusPlus:
    torch.manual_seed(3)
    made = MLICPlusPlus(3, 8, slices=2, sizes=Sizes((5,), (4, 4, 3), (4, 3), (4, 4), (6, 5), (5,))).eval()
    mlicpp_official.update(made)
    return made


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


@cache
def integers(name: str) -> Any:
    kind = {"jahp": model.IntegerEntropyModel, "groups": groups_model.IntegerGroups}.get(name, mlic_model.IntegerMLIC)
    return kind.from_arrays(arrays_of(name))


MLIC = "mlic_plus_plus"


def floats(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    z, y = rows.z_and_y(name).values()
    return torch.from_numpy(z) / 64, torch.from_numpy(y) / 64


def longs(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value).long() for key, value in rows.z_and_y(name).items()}


def target(name: str) -> Target:
    return Target(*floats(name), rows.zones() if name != "groups" else None)


@cache
def as_coded(name: str) -> Any:
    return drivers.encode_many(integers(name), [target(name)])[0]


def driven(name: str) -> dict[str, Any]:
    own = {"streams": [(as_coded(name)[0], H, W)], "groups": None}
    return {"model": integers(name), **own, "backend": "auto", "threads": 2}


def driver(name: str) -> dict[str, Any]:
    return {"model": integers(name), "targets": [target(name)], "backend": "auto", "threads": 2}


def sizes(name: str) -> dict[str, Any]:
    return {"model": integers(name), "sections": as_coded(name)[0], "height": H, "width": W}


def maps(channels: int, height: int = H, width: int = W) -> torch.Tensor:
    return torch.from_numpy(latents(channels, height, width, False)).long().clamp(-2000, 2000)


def taken(run: Callable[..., Any]) -> Callable[..., Any]:
    """The first items of what a generator yields."""
    return lambda **arguments: [type(item) for item in itertools.islice(run(**arguments), 1)]


def passing(schedule: Any) -> Any:
    next(schedule)
    return schedule


@cache
def variable_model() -> variable.VariableRateModel:
    base = integers("jahp")
    step = variable.HyperStep(0.5, base.z_tables, base.z_median)
    layer = (np.full((1, 2), 0.01), np.zeros(1))
    shift = np.ones((2, 2 * base.latent_channels))
    return variable.VariableRateModel(base, np.array([0.5, 2.0]), (step, step), shift, (layer,))


@cache
def code_tables() -> codes.CodeTables:
    shares = [np.random.default_rng(level).random((2, 3)) + 0.1 for level in range(2)]
    return codes.CodeTables.from_shares(shares, [np.ones((2, 3, 2), F32)] * 2)


@cache
def code_context_float() -> CodeContext:
    torch.manual_seed(1)
    return CodeContext(2, 3, 5, 7).eval()


def context_rows() -> torch.Tensor:
    return code_context_float().rows(torch.from_numpy(rows.words()).long()[None])


def moments() -> torch.Tensor:
    return rounding.second_moments(torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(1)))


@cache
def bottleneck() -> EntropyBottleneck:
    torch.manual_seed(1)
    return EntropyBottleneck(4).eval()


@cache
def networks() -> convert.EntropyNetworks:
    return convert.networks_of(jahp())


def float_latents() -> list[torch.Tensor]:
    return [torch.randn(1, 6, 4, 4, generator=torch.Generator().manual_seed(2)) * 3]


@cache
def seen() -> ranges.Ranges:
    return convert.calibrate(networks(), float_latents())


@cache
def variable_networks() -> convert_variable.VariableNetworks:
    torch.manual_seed(1)
    offsets = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    return convert_variable.VariableNetworks(networks(), (0.5, 2.0), (1.0, 0.5), nn.Linear(1, 12), offsets)


@cache
def group_networks() -> groups_convert.Networks:
    torch.manual_seed(3)
    group = groups_model.Group(6, 0)
    own = groups_convert.GroupNetworks(
        group, None, nn.Conv2d(6, 5, 3, padding=1), nn.Sequential(nn.Conv2d(9, 7, 1), nn.ReLU(), nn.Conv2d(7, 12, 1))
    )
    h_s = nn.Sequential(nn.ConvTranspose2d(4, 5, 5, 2, 2, 1), nn.LeakyReLU(), nn.ConvTranspose2d(5, 4, 3, 2, 1, 1))
    h_a = nn.Sequential(nn.Conv2d(6, 4, 5, 2, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1))
    return groups_convert.Networks(h_a, h_s, bottleneck(), [own])


def requantiser() -> fixed.Requantiser:
    return fixed.Requantiser.from_factors(np.full(4, 0.3), 12)


def float_layer() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    weight = torch.from_numpy(rng.normal(size=(4, 3, 1, 1)).astype(F32))
    bias = torch.from_numpy(rng.normal(size=4).astype(F32))
    return {"weight": weight, "bias": bias, "input_scale": np.full(3, 0.01), "output_scale": np.full(4, 0.02)}


@cache
def integer_layer() -> layer.Layer:
    return layer.Layer.from_float(**float_layer())


def built() -> builder.Builder:
    return builder.Builder(seen())


def stage() -> stages.Stage:
    torch.manual_seed(1)
    return stages.stage_of(nn.Conv2d(3, 4, 1), "a")


def symbols_of_rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.integers(0, 3, 90).astype(np.uint8), rng.integers(-4, 5, 90)


def pair(a: int, b: int) -> dict[str, torch.Tensor]:
    return {"sums": torch.arange(a, a + 6), "totals": torch.arange(b, b + 6)}


def joined(name: str, key: str) -> torch.Tensor:
    weight = arrays_of(name)[f"layers.{key}.weight"]
    return torch.ones(weight.shape[1], H, W, dtype=I64)


def written(run: Callable[..., Any], path: str) -> Callable[..., Any]:
    return lambda **arguments: run(**{path: FOLDER / "written.safetensors", **arguments})


# ---- the rows

CODEC: dict[str, Callable[[], Call]] = {
    "fastlic.peek": lambda: Call(fastlic.peek, {"data": stream()}),
    "fastlic.compress": lambda: Call(
        fastlic.compress, {"x": image(), "model": codec(), "quality": 4.0, "max_pixels": 10_000}
    ),
    "fastlic.compress (by name)": lambda: Call(
        fastlic.compress, {"x": image(2), "model": str(codec_file()), "quality": 4.0, "max_pixels": 10_000}
    ),
    "fastlic.decompress": lambda: Call(
        fastlic.decompress,
        {"data": [known()], "device": "cpu", "dtype": torch.uint8, "max_pixels": 10_000, "levels": None},
    ),
    "fastlic.info": lambda: Call(fastlic.info, {}),
    "calibration.default_calibration": lambda: Call(calibration.default_calibration, {}),
    "cards.cards": lambda: Call(cards.cards, {}),
    "codec.Codec": lambda: Call(Codec, {"model": jahp(), "calibration": [picture()], "name": "tiny", "context": None}),
    "codec.Codec (with a context)": lambda: Call(
        Codec, {"model": quantiser(), "calibration": [picture()], "name": None, "context": quantiser_context()}
    ),
    "codec.Codec.load": lambda: Call(Codec.load, {"path": codec_file()}),
    "codec.Codec.save": lambda: Call(
        codec().save, {"path": FOLDER / "saved.safetensors", "half": True, "training": True, "packed": False}
    ),
    "codec.Codec.compress": lambda: Call(
        codec().compress, {"x": picture(), "quality": 4.0, "backend": "cpp", "max_pixels": 10_000}
    ),
    "codec.Codec.decompress": lambda: Call(
        codec().decompress,
        {
            **{"data": stream(), "device": "cpu", "dtype": torch.float32, "backend": "cpp"},
            **{"max_pixels": 10_000, "slices": None},
        },
    ),
    "codec.Codec.transforms": lambda: Call(codec().transforms, {"device": "cpu"}),
    "codec.Codec.analyse": lambda: Call(codec().analyse, {"x": image(), "quality": 4.0}),
    "codec.Codec.encode": lambda: Call(codec().encode, {"analysed": [codec().analyse(image(), 4)], "backend": "cpp"}),
    "codec.Codec.symbols": lambda: Call(codec().symbols, {"analysed": codec().analyse(image(), 4)}),
    "codec.Codec.latents": lambda: Call(codec().latents, {"x": image(), "quality": 4.0}),
    "codec.Codec.decode_latents": lambda: Call(codec().decode_latents, {"data": stream()}),
    "codec.Codec.estimate": lambda: Call(codec().estimate, {"x": picture(), "quality": 4.0}),
    "container.Header": lambda: Call(
        container.Header,
        {"model_id": 3, "quality": 4.0, "fingerprint": b"01234567", "height": 20, "width": 33, "version": 2},
    ),
    "container.round_quality": lambda: Call(container.round_quality, {"quality": 4.3}),
    "container.model_name": lambda: Call(container.model_name, {"model_id": 3}),
    "container.pack": lambda: Call(container.pack, {"header": container.peek(stream()), "sections": [b"one", b"two"]}),
    "container.unpack": lambda: Call(container.unpack, {"data": stream(), "count": 1}),
    "container.peek": lambda: Call(container.peek, {"data": stream()}),
    "container.look": lambda: Call(container.look, {"data": stream()}),
    "container.parse": lambda: Call(container.parse, {"data": stream()}),
    "drivers.fewest_bits": lambda: Call(drivers.fewest_bits, {"tables": rows.cdf_tables()}),
    "drivers.check_sizes": lambda: Call(drivers.check_sizes, sizes("groups")),
    "drivers.encode_many": lambda: Call(drivers.encode_many, driver("jahp")),
    "drivers.encode_many (reference)": lambda: Call(drivers.encode_many, {**driver("jahp"), "backend": "reference"}),
    "drivers.encode_many (groups)": lambda: Call(drivers.encode_many, driver("groups")),
    "drivers.encode_many (slices)": lambda: Call(drivers.encode_many, {**driver(MLIC), "backend": "reference"}),
    "drivers.encode_many (its parts)": lambda: Call(
        lambda z, y, zones: drivers.encode_many(integers("jahp"), [(z, y, zones)], "reference"),
        target("jahp")._asdict(),
    ),
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
    "image_files.formats": lambda: Call(image_files.formats, {}),
    "image_files.read_image": lambda: Call(
        image_files.read_image, {"path": png(), "background": "white", "max_pixels": 10_000}
    ),
    "image_files.encode_image": lambda: Call(image_files.encode_image, {"pixels": image(), "suffix": ".png"}),
    "images.as_images": lambda: Call(images.as_images, {"x": image()}),
    "images.check_range": lambda: Call(images.check_range, {"batch": picture()[None]}),
    "images.as_float": lambda: Call(images.as_float, {"image": image()}),
    "images.as_batch": lambda: Call(images.as_batch, {"x": picture()}),
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
    "mlicpp_official.compress": lambda: Call(mlicpp_official.compress, {"model": mlic(), "x": picture()[None]}),
    "mlicpp_official.decompress": lambda: Call(mlicpp_official.decompress, {"model": mlic(), **official_data()}),
    "mlicpp_official.write_file": lambda: Call(
        mlicpp_official.write_file, {"compressed": official_data(), "height": 16, "width": 32}
    ),
    "mlicpp_official.read_file": lambda: Call(
        mlicpp_official.read_file, {"data": mlicpp_official.write_file(official_data(), 16, 32)}
    ),
    "packing.pack": lambda: Call(packing.pack, {"arrays": {"a": weights(), "b": np.arange(5)}}),
    "packing.unpack": lambda: Call(packing.unpack, {"packed": packing.pack({"a": weights()})}),
    "packing.unpack (its parts)": lambda: Call(
        lambda **parts: packing.unpack(packing.Packed(**parts)), dict(vars(packing.pack({"a": weights()})))
    ),
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
    return {"name": "a", "family": "jahp", "config": {"N": 4}, "floats": {"c": torch.ones(2)}, "integers": some}


INTEGERS: dict[str, Callable[[], Call]] = {
    "builder.Builder": lambda: Call(builder.Builder, {"ranges": seen()}),
    "builder.Builder.layer": lambda: Call(
        built().layer,
        {
            **{"name": "a", "stage": stage(), "inputs": np.full(3, 0.01), "outputs": np.full(4, 0.02), "bits": 12},
        },
    ),
    "builder.Builder.made": lambda: Call(built().made, {"name": "a"}),
    "builder.Builder.stack": lambda: Call(
        built().stack,
        {
            **{"name": "a", "stages": [stage()], "inputs": np.full(3, 0.01), "outputs": np.full(4, 0.02), "bits": 12},
            "inner_bits": 12,
        },
    ),
    "fixed.Requantiser.from_arrays": lambda: Call(
        fixed.Requantiser.from_arrays, {"arrays": requantiser().to_arrays("a"), "prefix": "a"}
    ),
    "fixed.Requantiser.from_factors": lambda: Call(
        fixed.Requantiser.from_factors, {"factors": np.full(4, 0.3), "bits": 12, "negative_slope": 0.5}
    ),
    "fixed.Requantiser.to_arrays": lambda: Call(requantiser().to_arrays, {"prefix": "a"}),
    "fixed.fixed_point": lambda: Call(fixed.fixed_point, {"y": float_latents()[0], "dtype": torch.int32}),
    "fixed.largest": lambda: Call(fixed.largest, {"bits": 12}),
    "fixed.quantise": lambda: Call(fixed.quantise, {"latent": maps(3), "means": maps(3), "zones": maps(3).abs()}),
    "fixed.reconstruct": lambda: Call(fixed.reconstruct, {"symbols": maps(3), "means": maps(3)}),
    "functions.Tables.exp_of": lambda: Call(tables().exp_of, {"distances": torch.arange(9)}),
    "functions.Tables.from_arrays": lambda: Call(functions.Tables.from_arrays, {"arrays": tables().to_arrays()}),
    "functions.Tables.gelu": lambda: Call(
        tables().gelu, {"x": maps(5).permute(1, 2, 0), "exponents": np.arange(5, dtype=np.uint8)}
    ),
    "functions.Tables.make": lambda: Call(functions.Tables.make, {}),
    "functions.Tables.residue": lambda: Call(tables().residue, {"x": maps(5)}),
    "functions.Tables.to_arrays": lambda: Call(tables().to_arrays, {}),
    "functions.Tables.weights": lambda: Call(
        tables().weights, {"scores": maps(5), "dim": 0, "allowed": torch.ones(5, H, W, dtype=torch.bool)}
    ),
    "functions.epsilon_of": lambda: Call(functions.epsilon_of, {"real": 1e-5, "channels": 8, "unit": 0.01}),
    "functions.mean_of_few": lambda: Call(functions.mean_of_few, pair(5, 1)),
    "functions.mean_of_many": lambda: Call(functions.mean_of_many, pair(5, 1)),
    "functions.normalise": lambda: Call(functions.normalise, {"x": maps(5), "epsilon": 3}),
    "functions.square_root": lambda: Call(functions.square_root, {"x": torch.arange(9)}),
    "layer.Layer.accumulate": lambda: Call(integer_layer().accumulate, {"x": maps(3)}),
    "layer.Layer.as_matrix": lambda: Call(integer_layer().as_matrix, {}),
    "layer.Layer.from_float": lambda: Call(
        layer.Layer.from_float,
        {
            **float_layer(),
            **{"input_bits": 12, "output_bits": 12, "weight_bits": 8, "kind": layer.PLAIN, "groups": 1, "slope": 0.5},
            **{"exponents": np.zeros(4, np.uint8), "moments": torch.eye(4, dtype=torch.float64) * 9},
            "biases_up_to": np.ones(4),
        },
    ),
    "layer.Layer.rows": lambda: Call(integer_layer().rows, {"x": maps(3)[:, 0].T, "tables": tables()}),
    "layer.Layer.split_inputs": lambda: Call(integer_layer().split_inputs, {"first": 2}),
    "layer.convolve": lambda: Call(
        layer.convolve,
        {
            **{"x": doubles(1, 3, H, W), "weight": doubles(4, 3, 1, 1), "bias": doubles(4)},
            **{"kind": layer.PLAIN, "groups": 1},
        },
    ),
    "ranges.Ranges": lambda: Call(ranges.Ranges, {}),
    "ranges.Ranges.exponents": lambda: Call(seen().exponents, {"name": "y"}),
    "ranges.Ranges.largest": lambda: Call(seen().largest, {"name": "y", "slope": 0.5}),
    "ranges.Ranges.remember_inputs": lambda: Call(
        ranges.Ranges().remember_inputs, {"name": "a", "x": float_latents()[0]}
    ),
    "ranges.Ranges.run": lambda: Call(ranges.Ranges().run, {"stages": [stage()], "x": float_latents()[0][:, :3]}),
    "ranges.Ranges.scale": lambda: Call(seen().scale, {"name": "y", "floor": 1.0, "bits": 12, "slope": 0.5}),
    "ranges.Ranges.see": lambda: Call(ranges.Ranges().see, {"name": "a", "x": float_latents()[0], "dim": 1}),
    "rounding.round_rows": lambda: Call(
        rounding.round_rows,
        {
            **{"weight": doubles(3, 4), "bias": doubles(3), "unit": doubles(3).abs() / 50},
            **{"moments": moments(), "limit": 127},
        },
    ),
    "rounding.second_moments": lambda: Call(rounding.second_moments, {"x": float_latents()[0], "kernel": 3}),
    "stages.Stage.activate": lambda: Call(stage().activate, {"x": float_latents()[0]}),
    "stages.Stage.convolve": lambda: Call(stage().convolve, {"x": float_latents()[0][:, :3]}),
    "stages.Stage.of": lambda: Call(stages.Stage.of, {"module": nn.Conv2d(3, 4, 1), "name": "a"}),
    "stages.Stage.shuffled": lambda: Call(stage().shuffled, {"x": float_latents()[0]}),
    "stages.Stage.turned": lambda: Call(stage().turned, {}),
    "stages.stage_of": lambda: Call(stages.stage_of, {"module": nn.Conv2d(3, 4, 1), "name": "a"}),
    "stages.stages_of": lambda: Call(stages.stages_of, {"network": group_networks().h_s, "name": "a"}),
    "layouts.Layout": lambda: Call(layouts.Layout, {}),
    "layouts.Layout.from_arrays": lambda: Call(
        layouts.STRIDES.from_arrays, {"arrays": layouts.STRIDES.to_arrays(integer_layer(), "a"), "prefix": "a"}
    ),
    "layouts.Layout.from_arrays (kinds)": lambda: Call(
        layouts.KINDS.from_arrays, {"arrays": layouts.KINDS.to_arrays(integer_layer(), "a"), "prefix": "a"}
    ),
    "layouts.Layout.from_arrays (matrices)": lambda: Call(
        layouts.MATRICES.from_arrays, {"arrays": layouts.MATRICES.to_arrays(integer_layer(), "a"), "prefix": "a"}
    ),
    "layouts.Layout.to_arrays": lambda: Call(layouts.STRIDES.to_arrays, {"layer": integer_layer(), "prefix": "a"}),
    "layouts.Layout.to_arrays (kinds)": lambda: Call(
        layouts.KINDS.to_arrays, {"layer": integer_layer(), "prefix": "a"}
    ),
}


ENTROPY: dict[str, Callable[[], Call]] = {
    "arrays.below": lambda: Call(arrays.below, {"arrays": {"a.b": np.zeros(1)}, "prefix": "a."}),
    "arrays.tables_of": lambda: Call(arrays.tables_of, {"arrays": dict(arrays_of("jahp")), "name": "z"}),
    "arrays.names_of": lambda: Call(
        arrays.names_of, {"arrays": {"layers.a.geometry": np.zeros(1)}, "kind": "layers", "part": "geometry"}
    ),
    "calibration.latents_of": lambda: Call(
        taken(entropy_calibration.latents_of), {"model": jahp(), "images": [picture()]}
    ),
    "calibration.bottleneck_tables": lambda: Call(
        entropy_calibration.bottleneck_tables, {"bottleneck": bottleneck(), "median": np.zeros(4, I32), "step": 0.5}
    ),
    "calibration.hyper_medians": lambda: Call(
        entropy_calibration.hyper_medians, {"bottleneck": bottleneck(), "step": 0.5}
    ),
    "calibration.entry": lambda: Call(entropy_calibration.entry, {"scale": np.full(4, 0.3)}),
    "calibration.head_units": lambda: Call(entropy_calibration.head_units, {"channels": 4}),
    "calibration.plain_tables": lambda: Call(entropy_calibration.plain_tables, {"bottleneck": bottleneck()}),
    "calibration.coded_latents": lambda: Call(
        taken(entropy_calibration.coded_latents),
        {
            **{"model": integers("groups"), "hyper_analysis": lambda y: y[:, :3, ::4, ::4]},
            "latents": [(torch.ones(1, 10, 4, 4), 0.5)],
        },
    ),
    "code_context.IntegerCodeContext": lambda: Call(
        code_context.IntegerCodeContext,
        {f.name: getattr(rows.code_model(), f.name) for f in dataclasses.fields(code_context.IntegerCodeContext)},
    ),
    "code_context.IntegerCodeContext.from_float": lambda: Call(
        code_context.IntegerCodeContext.from_float, {"context": code_context_float(), "rows": context_rows()}
    ),
    "code_context.IntegerCodeContext.to_arrays": lambda: Call(rows.code_model().to_arrays, {}),
    "code_context.IntegerCodeContext.from_arrays": lambda: Call(
        code_context.IntegerCodeContext.from_arrays, {"arrays": rows.code_model().to_arrays()}
    ),
    "coded.code": lambda: Call(
        coded.code, {"schedule": integers("jahp").schedule(H, W), **longs("jahp"), "zones": rows.zones()}
    ),
    "coded.joined": lambda: Call(
        coded.joined, {"passes": [(0, rows.indexes(), rows.symbols()), (1, rows.indexes(), rows.symbols())]}
    ),
    "coded.coded_by_channel": lambda: Call(coded.coded_by_channel, {"z": maps(4), "medians": np.zeros(4, np.int32)}),
    "codes.CodeTables": lambda: Call(
        codes.CodeTables, {"tables": code_tables().tables, "words": code_tables().words, "context": rows.code_model()}
    ),
    "codes.CodeTables.from_shares": lambda: Call(
        codes.CodeTables.from_shares,
        {"shares": [np.ones((2, 3)), np.ones((2, 4))], "codebooks": [np.ones((2, 3, 5), F32)]},
    ),
    "codes.CodeTables.shares": lambda: Call(code_tables().shares, {}),
    "codes.CodeTables.encode": lambda: Call(
        code_tables().encode, {"level": 1, "codes": rows.words(), "backend": "cpp"}
    ),
    "codes.CodeTables.decode": lambda: Call(
        code_tables().decode,
        {"level": 1, "data": code_tables().encode(1, rows.words()), "height": 4, "width": 17, "backend": "cpp"},
    ),
    "codes.CodeTables.encode_many": lambda: Call(
        code_tables().encode_many, {"level": 1, "codes": [rows.words()] * 2, "backend": "cpp", "threads": 2}
    ),
    "codes.CodeTables.decode_many": lambda: Call(
        code_tables().decode_many,
        {
            **{"level": 1, "streams": [(code_tables().encode(1, rows.words()), 4, 17)] * 2},
            **{"backend": "cpp", "threads": 2},
        },
    ),
    "codes.CodeTables.bits": lambda: Call(code_tables().bits, {"level": 1, "codes": rows.words()}),
    "codes.CodeTables.to_arrays": lambda: Call(code_tables().to_arrays, {}),
    "codes.CodeTables.from_arrays": lambda: Call(codes.CodeTables.from_arrays, {"arrays": code_tables().to_arrays()}),
    "codes.CodeTables.fingerprint": lambda: Call(code_tables().fingerprint, {}),
    "convert.Rate.round": lambda: Call(
        convert.Rate(2.0).round,
        {
            **{"y": float_latents()[0], "means": float_latents()[0] / 3},
            **{"scales": float_latents()[0].abs() + 0.2, "worth": 0.5},
        },
    ),
    "convert.networks_of": lambda: Call(convert.networks_of, {"model": jahp()}),
    "convert.calibrate": lambda: Call(
        convert.calibrate,
        {"networks": networks(), "latents": float_latents(), "rates": [convert.Rate()], "worths": [0.5]},
    ),
    "convert.convert": lambda: Call(convert.convert, {"model": jahp(), "images": [picture()]}),
    "convert.convert_networks": lambda: Call(
        convert.convert_networks, {"networks": networks(), "latents": float_latents(), "worths": [0.5]}
    ),
    "convert.quantise_networks": lambda: Call(
        convert.quantise_networks, {"networks": networks(), "ranges": seen(), "m": 6, "shifts": np.ones(12)}
    ),
    "convert_variable.VariableNetworks.rates": lambda: Call(variable_networks().rates, {}),
    "convert_variable.convert_variable": lambda: Call(
        convert_variable.convert_variable, {"variable": variable_networks(), "latents": float_latents()}
    ),
    "convert_variable.linear_layers": lambda: Call(
        convert_variable.linear_layers, {"network": variable_networks().offsets}
    ),
    "fingerprint.of_arrays": lambda: Call(fingerprint.of_arrays, {"arrays": {"a": np.zeros(3, I32)}}),
    "fingerprint.of_codec": lambda: Call(
        fingerprint.of_codec,
        {
            **{"family": "a", "config": {"N": 3}, "integers": {"a": np.zeros(3, I32)}},
            "floats": {"b": np.zeros((2, 2), F32)},
        },
    ),
    "fitting.coded_symbols": lambda: Call(
        fitting.coded_symbols, {"model": integers("jahp"), **longs("jahp"), "zones": rows.zones()}
    ),
    "fitting.fit_tables": lambda: Call(
        fitting.fit_tables, {"levels": np.array([0.3, 1.0, 2.0]), "coded": [symbols_of_rows()]}
    ),
    "fitting.choose_tables": lambda: Call(
        fitting.choose_tables, {"levels": np.array([0.3, 1.0, 2.0]), "coded": [symbols_of_rows()] * 3, "each": 1}
    ),
    "fitting.symbols_of": lambda: Call(fitting.symbols_of, {"model": integers("jahp"), "target": target("jahp")}),
    "float_path.float_path": lambda: Call(float_path.float_path, float_path_arguments()),
    "groups.convert.convert_groups": lambda: Call(
        groups_convert.convert_groups, {"networks": group_networks(), "latents": float_latents()}
    ),
    "groups.model.IntegerGroups.schedule": lambda: Call(taken(integers("groups").schedule), {"height": H, "width": W}),
    "groups.model.IntegerGroups.counts": lambda: Call(integers("groups").counts, {"height": H, "width": W}),
    "groups.model.IntegerGroups.known_channels": lambda: Call(integers("groups").known_channels, {"groups": 1}),
    "groups.model.IntegerGroups.first_channel": lambda: Call(integers("groups").first_channel, {"index": 1}),
    "groups.model.IntegerGroups.hyper_analysis": lambda: Call(integers("groups").hyper_analysis, {"y": maps(10, 4, 8)}),
    "groups.model.IntegerGroups.latent_input": lambda: Call(
        integers("groups").latent_input, {"index": 1, "latent": maps(5)}
    ),
    "groups.model.IntegerGroups.channel": lambda: Call(integers("groups").channel, {"index": 1, "decoded": [maps(3)]}),
    "groups.model.IntegerGroups.context": lambda: Call(integers("groups").context, {"index": 1, "current": maps(5)}),
    "groups.model.IntegerGroups.context_channels": lambda: Call(integers("groups").context_channels, {"index": 1}),
    "groups.model.IntegerGroups.parameters": lambda: Call(
        integers("groups").parameters, {"index": 1, "joined": joined("groups", "parameters.1.0")}
    ),
    "groups.model.IntegerGroups.scale_indexes": lambda: Call(integers("groups").scale_indexes, {"scales": maps(3)}),
    "groups.model.IntegerGroups.to_arrays": lambda: Call(integers("groups").to_arrays, {}),
    "groups.model.IntegerGroups.from_arrays": lambda: Call(
        groups_model.IntegerGroups.from_arrays, {"arrays": dict(arrays_of("groups"))}
    ),
    "groups.schedule.groups_schedule": lambda: Call(
        taken(groups_schedule.groups_schedule), {"model": integers("groups"), "height": H, "width": W}
    ),
    "mlic.convert.convert": lambda: Call(mlic_convert.convert, {"model": mlic(), "images": [picture()]}),
    "mlic.model.IntegerMLIC.latent_input": lambda: Call(integers(MLIC).latent_input, {"index": 1, "latent": maps(4)}),
    "mlic.model.IntegerMLIC.channel": lambda: Call(integers(MLIC).channel, {"index": 1, "decoded": maps(4)}),
    "mlic.model.IntegerMLIC.early_context": lambda: Call(integers("mlic_early").early_context, {"current": maps(4)}),
    "mlic.model.IntegerMLIC.inter": lambda: Call(integers(MLIC).inter, {"index": 1, "decoded": maps(4)}),
    "mlic.model.IntegerMLIC.inter (softmax)": lambda: Call(
        integers("mlic_plus").inter, {"index": 1, "decoded": maps(4)}
    ),
    "mlic.model.IntegerMLIC.intra": lambda: Call(
        integers(MLIC).intra, {"index": 1, "previous": maps(4), "current": maps(4)}
    ),
    "mlic.model.IntegerMLIC.local": lambda: Call(
        integers(MLIC).local, {"index": 1, "latent": maps(4), "current": maps(4)}
    ),
    "mlic.model.IntegerMLIC.parameters": lambda: Call(
        integers(MLIC).parameters,
        {"which": "a", "index": 1, "joined": joined(MLIC, "parameters.a.1.0").flatten(1).T},
    ),
    "mlic.model.IntegerMLIC.residue": lambda: Call(
        integers(MLIC).residue, {"which": "a", "index": 1, "joined": joined(MLIC, "residual.a.1.0")}
    ),
    "mlic.model.IntegerMLIC.scale_indexes": lambda: Call(integers(MLIC).scale_indexes, {"scales": maps(3)}),
    "mlic.model.IntegerMLIC.to_arrays": lambda: Call(integers(MLIC).to_arrays, {}),
    "mlic.model.IntegerMLIC.from_arrays": lambda: Call(
        mlic_model.IntegerMLIC.from_arrays, {"arrays": dict(arrays_of(MLIC))}
    ),
    "mlic.rate.float_bits": lambda: Call(
        mlic_rate.float_bits, {"network": mlic(), "model": integers(MLIC), "latents": as_coded(MLIC)[1]}
    ),
    "mlic.schedule.mlic_schedule": lambda: Call(
        taken(mlic_schedule.mlic_schedule), {"model": integers(MLIC), "height": H, "width": W}
    ),
    "mlic.model.IntegerMLIC.schedule": lambda: Call(taken(integers(MLIC).schedule), {"height": H, "width": W}),
    "mlic.model.IntegerMLIC.known_channels": lambda: Call(integers(MLIC).known_channels, {"groups": 1}),
    "model.IntegerEntropyModel.vary": lambda: Call(integers("jahp").vary, {"z_median": integers("jahp").z_median}),
    "model.IntegerEntropyModel.hyper_features": lambda: Call(
        integers("jahp").hyper_features, {"z": longs("jahp")["z"], "height": H, "width": W}
    ),
    "model.IntegerEntropyModel.scale_indexes": lambda: Call(integers("jahp").scale_indexes, {"scales": maps(3)}),
    "model.IntegerEntropyModel.reconstruct": lambda: Call(
        dataclasses.replace(integers("jahp"), offsets=np.arange(64, dtype=I32)).reconstruct,
        {"symbols": maps(3), "means": maps(3), "indexes": torch.ones(3, H, W, dtype=torch.uint8)},
    ),
    "model.IntegerEntropyModel.to_arrays": lambda: Call(integers("jahp").to_arrays, {}),
    "model.IntegerEntropyModel.from_arrays": lambda: Call(
        model.IntegerEntropyModel.from_arrays, {"arrays": dict(arrays_of("jahp"))}
    ),
    "model.IntegerEntropyModel.fingerprint": lambda: Call(integers("jahp").fingerprint, {}),
    "model.IntegerEntropyModel.schedule": lambda: Call(taken(integers("jahp").schedule), {"height": H, "width": W}),
    "passes.Latents.named": lambda: Call(jahp_latents().named, {}),
    "passes.drive": lambda: Call(
        passes.drive, {"schedule": integers("jahp").schedule(H, W), "answer": lambda step: step.indexes.long()}
    ),
    "passes.hyper_size": lambda: Call(passes.hyper_size, {"height": H, "width": W}),
    "passes.hyper_pass": lambda: Call(taken(passes.hyper_pass), {"channels": 4, "height": H, "width": W}),
    "passes.LatentModel.from_arrays": lambda: Call(
        type(integers("jahp")).from_arrays, {"arrays": dict(arrays_of("jahp"))}
    ),
    "passes.LatentModel.schedule": lambda: Call(taken(integers("jahp").schedule), {"height": H, "width": W}),
    "passes.LatentModel.to_arrays": lambda: Call(integers("jahp").to_arrays, {}),
    "passes.LatentModel.counts": lambda: Call(integers("jahp").counts, {"height": H, "width": W}),
    "passes.LatentModel.known_channels": lambda: Call(integers("jahp").known_channels, {"groups": 1}),
    "passes.LatentModel.hyper_analysis": lambda: Call(integers("groups").hyper_analysis, {"y": maps(10, 4, 8)}),
    "rate.bits_of": lambda: Call(rate.bits_of, {"probabilities": torch.full((3,), 0.5)}),
    "rate.float_bits": lambda: Call(rate.float_bits, {"model": jahp(), "latents": jahp_latents()}),
    "rate.replay": lambda: Call(
        rate.replay, {"model": integers("jahp"), "latents": as_coded("jahp")[1], "see": lambda step, symbols: None}
    ),
    "rate.table_bits": lambda: Call(
        rate.table_bits,
        {"model": integers(MLIC), "latents": as_coded(MLIC)[1], "tables": integers(MLIC).y_tables},
    ),
    "rate.coded_bits": lambda: Call(
        rate.coded_bits, {"tables": rows.cdf_tables(), "indexes": rows.indexes(), "symbols": rows.symbols()}
    ),
    "scales.scale_levels": lambda: Call(scales.scale_levels, {}),
    "scales.scale_thresholds": lambda: Call(scales.scale_thresholds, {"levels": scales.scale_levels()}),
    "stacked.StackedModel.stack": lambda: Call(integers("groups").stack, {"name": "hyper", "x": maps(3, 1, 2)}),
    "stacked.StackedModel.stack (slices)": lambda: Call(integers(MLIC).stack, {"name": "hyper", "x": maps(3, 1, 2)}),
    "stacked.StackedModel.hyper_features": lambda: Call(
        integers("groups").hyper_features, {"z": maps(3, 1, 2), "height": H, "width": W}
    ),
    "stacked.StackedModel.channels_input": lambda: Call(
        integers("groups").channels_input, {"first": 1, "latent": maps(5)}
    ),
    "stacked.StackedModel.stored": lambda: Call(integers("groups").stored, {}),
    "stacked.StackedModel.fields_of": lambda: Call(
        stacked.StackedModel.fields_of, {"arrays": dict(arrays_of("groups"))}
    ),
    "stacked.StackedModel.fingerprint": lambda: Call(integers("groups").fingerprint, {}),
    "variable.evaluate": lambda: Call(
        variable.evaluate, {"layers": variable_model().offsets, "inputs": [np.ones(4), np.ones(4)]}
    ),
    "variable.VariableRateModel.hyper_step": lambda: Call(variable_model().hyper_step, {"gain": 1.5}),
    "variable.VariableRateModel.at": lambda: Call(variable_model().at, {"gain": 1.5, "stepped": True, "offset": True}),
    "variable.VariableRateModel.to_arrays": lambda: Call(variable_model().to_arrays, {}),
    "variable.VariableRateModel.from_arrays": lambda: Call(
        variable.VariableRateModel.from_arrays, {"arrays": variable_model().to_arrays()}
    ),
    "variable.VariableRateModel.fingerprint": lambda: Call(variable_model().fingerprint, {}),
    "variable.scaled": lambda: Call(variable.scaled, {"requantiser": requantiser(), "factor": 0.5}),
    "wavefront.steps": lambda: Call(taken(wavefront.steps), {"height": H, "width": W}),
    "wavefront.wavefront_schedule": lambda: Call(
        taken(wavefront.wavefront_schedule), {"model": integers("jahp"), "height": H, "width": W}
    ),
    "zones.worth_at": lambda: Call(zones.worth_at, {"gain": gain(), "quality": 2.0}),
    "zones.zones_for": lambda: Call(zones.zones_for, {"worth": 0.5}),
    "zones.looked_up": lambda: Call(
        zones.looked_up, {"zones": rows.zones(), "indexes": torch.ones(3, dtype=torch.uint8)}
    ),
}


@cache
def tables() -> functions.Tables:
    return functions.Tables.make()


def doubles(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=shape))


def float_path_arguments() -> dict[str, Any]:
    z = torch.randn(4, 1, 1, generator=torch.Generator().manual_seed(3)) * 3
    return {"model": jahp(), "z": z, "y": float_latents()[0][0], "worth": 0.5}


def jahp_latents() -> passes.Latents:
    return passes.Latents(maps(4, 1, 1), maps(6, 4, 4))


@cache
def gain() -> Gain:
    return jahp().gain


BATCHES = {**rows.BATCHES, "codec": CODEC, "integers": INTEGERS, "entropy": ENTROPY}
MAY_BE_ABSENT = rows.MAY_BE_ABSENT

# Rows whose calls take long: one in so many of their hostile values, where not all are asked for.
EVERY = {
    **dict.fromkeys(("codec.Codec", "codec.Codec (with a context)", "mlic.model.IntegerMLIC.from_arrays"), 24),
    **dict.fromkeys(("convert.convert", "convert.convert_networks", "convert.quantise_networks"), 12),
    **dict.fromkeys(("mlic.convert.convert", "groups.convert.convert_groups", "convert_variable.convert_variable"), 12),
    **dict.fromkeys(("code_context.IntegerCodeContext.from_float", "fitting.choose_tables"), 6),
    **dict.fromkeys(("fastlic.compress (by name)", "mcq.McqCoder"), 8),
}

# Public to Python, and to nobody's use but the library's own; each with the reason.
LEFT_OUT = {
    "families": "the protocol that Codec drives: its rows reach every family's coder",
    "layer.Kind": "an enumeration",
    "arrays.reading": "a context around code, not around values",
}


def codec_entries() -> Iterator[tuple[str, set[str]]]:
    """The entries of ``fastlic`` itself and of ``fastlic.codec``."""
    for module in (fastlic, fastlic.api):
        for name, value in rows.public(module):
            yield f"fastlic.{name}", rows.signature(value)
    yield from entries(fastlic.codec)


def entropy_entries() -> Iterator[tuple[str, set[str]]]:
    """The entries of ``fastlic.entropy``."""
    yield from entries(fastlic.entropy)


def integers_entries() -> Iterator[tuple[str, set[str]]]:
    """The entries of ``fastlic.integers``."""
    yield from entries(fastlic.integers)


def entries(package: ModuleType) -> Iterator[tuple[str, set[str]]]:
    """(name, its parameters) of all that is public, plain containers of fields left out: they keep what they get."""
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = info.name.removeprefix(f"{package.__name__}.")
        for name, parameters in rows.entries_of(importlib.import_module(info.name), module):
            if not any(name == left or name.startswith(f"{left}.") for left in LEFT_OUT):
                yield name, parameters
