"""One row for each public function, class and method of ``fastlic.ops`` (rows.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
import values as v
from values import F32, I32, SLICES, Call, H, N, W
from values_networks import ends as network_changes
from values_networks import latents as network_latents
from values_networks import network_arrays, pixel_arrays
from values_networks import pixels as network_pixels

from fastlic import _native
from fastlic.ops import (
    backends,
    categorical,
    checkerboard,
    checksum,
    code_context,
    codebook,
    codec_file,
    compressai_rans,
    compressai_tables,
    container,
    device_board,
    device_engine,
    device_slices,
    device_transform,
    divisive,
    float_attention,
    float_convolution,
    float_symbols,
    gaussian,
    mixture,
    plane,
    rans,
    tables,
    transforms,
)
from fastlic.ops import latents as engines


@cache
def categorical_stream() -> bytes:
    return categorical.encode_categorical(v.codes(), v.indexes(), v.categories())


def streams(name: str) -> dict[str, Any]:
    return {"streams": [(v.coded(name)[0], H, W)], "threads": 2, "groups": 2, "symbols": True}


@cache
def board() -> Any:
    from fastlic.integers.fixed import Requantiser as Factors

    rng = np.random.default_rng(7)
    layers = []
    for inputs, outputs, bits in ((20, 24, 12), (24, 20, 21)):
        factors = Factors.from_factors(rng.uniform(0.5, 1.5, outputs) / 5000, bits, 0.25)
        bias = rng.integers(-1000, 1000, outputs).astype(I32)
        weight = rng.integers(-127, 128, (outputs, inputs, 1, 1)).astype(np.int8)
        layers.append({"weight": weight, "bias": bias, **factors.to_arrays("requantise")})
    return layers


@cache
def transform() -> transforms.TransformEngine:
    return transforms.TransformEngine("n", network_arrays())


@cache
def pixel_transform() -> transforms.TransformEngine:
    return transforms.TransformEngine("p", pixel_arrays())


def board_arguments() -> dict[str, Any]:
    return {"layers": board(), "channels": [20], "thresholds": np.arange(1, 8, dtype=I32) * 100}


@cache
def network() -> Any:
    return checkerboard.pack_checkerboard(**board_arguments())


def board_maps() -> list[Any]:
    values = np.random.default_rng(8).integers(-2047, 2048, (2, H, W, 20))
    return [checkerboard.as_map(torch.from_numpy(values), 0)]


def board_latents() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(9).integers(-5000, 5000, (2, H, W, 10)).astype(I32))


def board_zones() -> torch.Tensor:
    return torch.ones((2, 1 << network().levels), dtype=torch.int32)


def board_symbols() -> torch.Tensor:
    return torch.ones((2, checkerboard.count_of(H, W, 1, 0), 10), dtype=torch.int32)


class Density:
    """What bottleneck_tables reads of a density."""

    def __init__(self) -> None:
        self.quantiles = torch.tensor([[[-3.0, 0.0, 3.0]], [[-5.0, 1.0, 9.0]]])

    def logits_cumulative(self, x: torch.Tensor) -> torch.Tensor:
        return x


def on_instruction_set(name: str) -> str:
    with backends.instruction_set(name):
        return _native.get_isa()


def on_threads(count: int) -> int:
    with backends.torch_threads(count):
        return torch.get_num_threads()


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


def mixture_rows() -> np.ndarray:
    return mixture.mixture_rows(v.probabilities())


def decoded(decoder: Any, *arguments: Any) -> Call:
    decoder.decode(*arguments)
    return Call(decoder.finish, {})


OPS: dict[str, Callable[[], Call]] = {
    "backends.instruction_sets": lambda: Call(backends.instruction_sets, {}),
    "backends.instruction_set": lambda: Call(on_instruction_set, {"name": "scalar"}),
    "backends.torch_threads": lambda: Call(on_threads, {"count": 2}),
    "backends.triton_package_lacks": lambda: Call(backends.triton_package_lacks, {}),
    "backends.triton_lacks": lambda: Call(backends.triton_lacks, {}),
    "backends.require_triton": lambda: Call(backends.require_triton, {}),
    "backends.triton_device": lambda: Call(backends.triton_device, {}),
    "backends.choose": lambda: Call(
        backends.choose, {"table": {"cpp": int, "reference": str}, "backend": "auto", "device": torch.device("cpu")}
    ),
    "backends.backends": lambda: Call(backends.backends, {}),
    "categorical.CategoricalTables": lambda: Call(
        categorical.CategoricalTables,
        {"cdf": v.categories().cdf, "lengths": v.categories().lengths, "precision": v.categories().precision},
    ),
    "categorical.CategoricalTables.to_arrays": lambda: Call(v.categories().to_arrays, {}),
    "categorical.CategoricalTables.from_arrays": lambda: Call(
        categorical.CategoricalTables.from_arrays, {"arrays": v.categories().to_arrays()}
    ),
    "categorical.categorical_tables": lambda: Call(
        categorical.categorical_tables, {"pmfs": [np.ones(3), np.ones(9)], "precision": 12}
    ),
    "categorical.encode_categorical": lambda: Call(
        categorical.encode_categorical,
        {"symbols": v.codes(), "indexes": v.indexes(), "tables": v.categories(), "backend": "cpp"},
    ),
    "categorical.decode_categorical": lambda: Call(
        categorical.decode_categorical,
        {
            **{"data": categorical_stream(), "indexes": v.indexes(), "tables": v.categories()},
            **{"shape": (N,), "backend": "cpp"},
        },
    ),
    "categorical.encode_categorical_many": lambda: Call(
        categorical.encode_categorical_many,
        {
            **{"symbols": v.batch(v.codes()), "indexes": v.batch(v.indexes()), "tables": v.categories()},
            **{"threads": 2, "backend": "cpp"},
        },
    ),
    "categorical.decode_categorical_many": lambda: Call(
        categorical.decode_categorical_many,
        {
            **{"data": v.categorical_streams(), "indexes": v.batch(v.indexes()), "tables": v.categories()},
            **{"threads": 2, "backend": "cpp"},
        },
    ),
    "checkerboard.pack_checkerboard": lambda: Call(
        checkerboard.pack_checkerboard, {**board_arguments(), "gelu": None, "device": "cpu"}
    ),
    "checkerboard.checkerboard_parameters": lambda: Call(
        checkerboard.checkerboard_parameters,
        {
            **{"network": network(), "maps": board_maps(), "parity": 1, "rows": 1, "backend": "auto"},
        },
    ),
    "checkerboard.checkerboard_encode": lambda: Call(
        checkerboard.checkerboard_encode,
        {
            **{"network": network(), "maps": board_maps(), "parity": 1, "target": board_latents()},
            **{"y": torch.zeros_like(board_latents()), "rows": 0, "zones": board_zones()},
            "backend": "auto",
        },
        ("y",),
    ),
    "checkerboard.checkerboard_place": lambda: Call(
        checkerboard.checkerboard_place,
        {
            **{"symbols": board_symbols(), "means": board_symbols(), "y": torch.zeros_like(board_latents())},
            **{"parity": 1, "rows": 0, "backend": "auto"},
        },
        ("y",),
    ),
    "checksum.crc32c": lambda: Call(checksum.crc32c, {"data": v.rans_stream(), "crc": 0}),
    "code_context.pack_code_context": lambda: Call(
        code_context.pack_code_context, {"arrays": v.code_model().to_arrays()}
    ),
    "code_context.encode_codes": lambda: Call(
        code_context.encode_codes, {"codes": v.words(), "context": v.code_model(), "backend": "cpp"}
    ),
    "code_context.decode_codes": lambda: Call(
        code_context.decode_codes,
        {"data": v.code_stream(), "context": v.code_model(), "height": 4, "width": 17, "backend": "cpp"},
    ),
    "code_context.encode_codes_many": lambda: Call(
        code_context.encode_codes_many,
        {"codes": [v.words(), v.words()], "context": v.code_model(), "threads": 2, "backend": "cpp"},
    ),
    "code_context.decode_codes_many": lambda: Call(
        code_context.decode_codes_many,
        {"streams": [(v.code_stream(), 4, 17)] * 2, "context": v.code_model(), "threads": 2, "backend": "cpp"},
    ),
    "code_context.code_frequencies": lambda: Call(
        code_context.code_frequencies, {"codes": v.words(), "context": v.code_model(), "backend": "cpp"}
    ),
    "code_context.choose_codes": lambda: Call(
        code_context.choose_codes, {**v.code_costs(), "context": v.code_model(), "backend": "cpp"}
    ),
    "codebook.codebook_nearest": lambda: Call(
        codebook.codebook_nearest,
        {"x": tensor(v.vectors()), "codebook": tensor(v.codewords()), "backend": "auto", "threads": 2},
    ),
    "compressai_rans.CompressAiTables": lambda: Call(compressai_rans.CompressAiTables, v.compressai_arrays()),
    "compressai_rans.encode_with_indexes": lambda: Call(
        compressai_rans.encode_with_indexes,
        {"symbols": v.symbols(), "indexes": v.indexes(), "tables": v.compressai(), "backend": "cpp"},
    ),
    "compressai_rans.CompressAiEncoder": lambda: Call(compressai_rans.CompressAiEncoder, {"backend": "cpp"}),
    "compressai_rans.CompressAiEncoder.put": lambda: Call(
        compressai_rans.CompressAiEncoder().put,
        {"symbols": v.symbols(), "indexes": v.indexes(), "tables": v.compressai()},
    ),
    "compressai_rans.CompressAiEncoder.finish": lambda: Call(compressai_rans.CompressAiEncoder().finish, {}),
    "compressai_rans.CompressAiDecoder": lambda: Call(
        compressai_rans.CompressAiDecoder, {"data": v.compressai_stream(), "tables": v.compressai(), "backend": "cpp"}
    ),
    "compressai_rans.CompressAiDecoder.decode": lambda: Call(
        compressai_rans.CompressAiDecoder(v.compressai_stream(), v.compressai()).decode,
        {"indexes": v.indexes(), "tables": v.compressai()},
    ),
    "compressai_rans.CompressAiDecoder.finish": lambda: decoded(
        compressai_rans.CompressAiDecoder(v.compressai_stream(), v.compressai()), v.indexes()
    ),
    "compressai_rans.decode_with_indexes": lambda: Call(
        compressai_rans.decode_with_indexes,
        {
            **{"data": v.compressai_stream(), "indexes": v.indexes(), "tables": v.compressai()},
            **{"strict": True, "backend": "cpp"},
        },
    ),
    "compressai_rans.encode_many_with_indexes": lambda: Call(
        compressai_rans.encode_many_with_indexes,
        {
            **{"symbols": v.compressai_batch(v.symbols()), "indexes": v.compressai_batch(v.indexes())},
            **{"tables": v.compressai(), "threads": 2},
        },
    ),
    "compressai_rans.decode_many_with_indexes": lambda: Call(
        compressai_rans.decode_many_with_indexes,
        {
            **{"data": [v.compressai_stream()] * 5, "indexes": v.compressai_batch(v.indexes())},
            **{"tables": v.compressai(), "threads": 2},
        },
    ),
    "compressai_tables.scale_table": lambda: Call(compressai_tables.scale_table, {}),
    "compressai_tables.quantised_cdf": lambda: Call(compressai_tables.quantised_cdf, {"pmf": np.full(9, 0.1, F32)}),
    "compressai_tables.compressai_gaussian_tables": lambda: Call(
        compressai_tables.compressai_gaussian_tables, {"scales": np.array([0.3, 2.0], F32)}
    ),
    "compressai_tables.bottleneck_tables": lambda: Call(compressai_tables.bottleneck_tables, {"density": Density()}),
    "device_board.DeviceBoard": lambda: Call(device_board.DeviceBoard, {**v.ops_arrays("groups"), "device": "cpu"}),
    "device_slices.DeviceSlices": lambda: Call(device_slices.DeviceSlices, {**v.ops_arrays(SLICES), "device": "cpu"}),
    "device_engine.DeviceEngine": lambda: Call(device_engine.DeviceEngine, {**v.ops_arrays("jahp"), "device": "cpu"}),
    "device_transform.DeviceTransform": lambda: Call(
        device_transform.DeviceTransform, {"name": "n", "arrays": network_arrays(), "device": "cpu"}
    ),
    "float_symbols.ScaleSearch": lambda: Call(
        float_symbols.ScaleSearch, {"bounds": np.geomspace(0.1, 9, 20).astype(F32), "least": 0.11}
    ),
    "float_symbols.round_differences": lambda: Call(
        float_symbols.round_differences, {"inputs": v.scales(), "means": v.means(), "backend": "cpp"}
    ),
    "gaussian.encode_gaussian": lambda: Call(
        gaussian.encode_gaussian,
        {"symbols": v.symbols(), "mean": v.means(), "scale": v.scales(), "lanes": 16, "backend": "cpp"},
    ),
    "gaussian.decode_gaussian": lambda: Call(
        gaussian.decode_gaussian,
        {"data": v.gaussian_stream(), "mean": v.means(), "scale": v.scales(), "backend": "cpp"},
    ),
    "codec_file.require_instruction_set": lambda: Call(codec_file.require_instruction_set, {}),
    "codec_file.read_codec_file": lambda: Call(codec_file.read_codec_file, {"data": v.pixel_codec()}),
    "codec_file.unpack_weights": lambda: Call(
        codec_file.unpack_weights,
        {("size" if name == "bytes" else name): value for name, value in v.packed_parts().items()},
    ),
    "container.parse_container": lambda: Call(container.parse_container, {"data": v.image_file()}),
    "container.unpack_container": lambda: Call(container.unpack_container, {"data": v.image_file(), "count": 1}),
    "container.pack_container": lambda: Call(
        container.pack_container,
        {"header": (3, *tuple(v.header().values())[1:]), "sections": [b"one", b"two"], "attachments": [(2, b"icc")]},
    ),
    "container.container_attachments": lambda: Call(container.container_attachments, {"data": v.image_file()}),
    "plane.plane_encode": lambda: Call(plane.plane_encode, {"samples": v.plane()}),
    "plane.plane_decode": lambda: Call(
        plane.plane_decode, {"data": plane.plane_encode(v.plane()), "height": 20, "width": 33}
    ),
    "container.container_models": lambda: Call(container.container_models, {}),
    "container.container_limits": lambda: Call(container.container_limits, {}),
    "divisive.gdn": lambda: Call(
        divisive.gdn,
        {
            **{"x": torch.ones(1, 5, 3, 4), "beta": torch.ones(5), "gamma": torch.ones(5, 5)},
            **{"inverse": False, "threads": 2, "backend": "cpp"},
        },
    ),
    "float_attention.window_attention": lambda: Call(
        float_attention.window_attention,
        {
            **{"qkv": torch.ones(1, 4, 6, 18), "bias": torch.ones(3, 4, 4), "mask": torch.ones(6, 4, 4)},
            **{"shift": 1, "scale": 0.5, "apart": -100.0, "threads": 2, "backend": "cpp"},
        },
    ),
    "float_convolution.convolution": lambda: Call(
        float_convolution.convolution,
        {
            **{"x": torch.ones(1, 16, 3, 4), "weight": torch.ones(16, 5, 5, 5), "bias": torch.ones(5)},
            **{"stride": 2, "transposed": True, "threads": 2, "backend": "cpp"},
        },
    ),
    "latents.LatentEngine": lambda: Call(engines.LatentEngine, {"kind": "wavefront", **v.ops_arrays("jahp")}),
    "latents.LatentEngine (groups)": lambda: Call(engines.LatentEngine, {"kind": "groups", **v.ops_arrays("groups")}),
    "latents.LatentEngine (slices)": lambda: Call(
        engines.LatentEngine, {"kind": "slices", **v.ops_arrays("mlic_plus")}
    ),
    "latents.LatentEngine.vary": lambda: Call(v.entropy().vary, v.changes()),
    "latents.LatentEngine.encode_many": lambda: Call(
        v.entropy().encode_many, {"targets": [v.target("jahp")], "threads": 2}
    ),
    "latents.LatentEngine.encode_many (groups)": lambda: Call(
        v.entropy("groups").encode_many, {"targets": [v.target("groups")], "threads": 2}
    ),
    "latents.LatentEngine.encode_many (its parts)": lambda: Call(
        lambda z, y, zones: v.entropy().encode_many([(z, y, zones)]), {**v.z_and_y("jahp"), "zones": v.zones()}
    ),
    "latents.LatentEngine.sections_many": lambda: Call(
        v.entropy().sections_many, {"targets": [v.target("jahp")], "threads": 2}
    ),
    "latents.LatentEngine.decode_many": lambda: Call(v.entropy(SLICES).decode_many, streams(SLICES)),
    "latents.LatentEngine.decode_many (its parts)": lambda: Call(
        lambda sections, height, width: v.entropy().decode_many([(sections, height, width)]),
        {"sections": v.coded("jahp")[0], "height": H, "width": W},
    ),
    "latents.LatentEngine.symbols": lambda: Call(v.entropy().symbols, {"target": v.target("jahp"), "threads": 2}),
    "latents.LatentEngine.analyse_many": lambda: Call(
        v.entropy("groups").analyse_many, {"y": [v.z_and_y("groups")["y"]], "threads": 2}
    ),
    "latents.LatentEngine.local_context": lambda: Call(
        v.entropy(SLICES).local_context, {"index": 1, "latent": v.latents(4, H, W, False), "threads": 2}
    ),
    "latents.LatentEngine.inter_context": lambda: Call(
        v.entropy(SLICES).inter_context, {"index": 1, "decoded": v.latents(4, H, W, False), "threads": 2}
    ),
    "transforms.TransformEngine": lambda: Call(transforms.TransformEngine, {"name": "n", "arrays": network_arrays()}),
    "transforms.TransformEngine.vary": lambda: Call(transform().vary, {"changes": network_changes()}),
    "transforms.TransformEngine.run": lambda: Call(
        transform().run, {"x": network_latents(), "size": (9, 7), "threads": 2, "band": 3}
    ),
    "transforms.TransformEngine.run (pixels)": lambda: Call(
        pixel_transform().run, {"x": network_pixels(), "size": None, "threads": 2, "band": 0}
    ),
    "mixture.mixture_rows": lambda: Call(mixture.mixture_rows, {"probabilities": v.probabilities(), "backend": "cpp"}),
    "mixture.MixtureEncoder": lambda: Call(mixture.MixtureEncoder, {"backend": "cpp"}),
    "mixture.MixtureEncoder.add": lambda: Call(
        mixture.MixtureEncoder().add, {"probabilities": v.probabilities(), "symbols": v.slots()}
    ),
    "mixture.MixtureEncoder.finish": lambda: Call(v.encoder().finish, {}),
    "mixture.MixtureDecoder": lambda: Call(mixture.MixtureDecoder, {"data": v.mixture_stream()}),
    "mixture.MixtureDecoder.decode": lambda: Call(
        mixture.MixtureDecoder(v.mixture_stream()).decode, {"probabilities": v.probabilities()}
    ),
    "mixture.MixtureDecoder.finish": lambda: decoded(mixture.MixtureDecoder(v.mixture_stream()), v.probabilities()),
    "mixture.decode_reference": lambda: Call(
        mixture.decode_reference, {"data": v.mixture_stream(), "rows": mixture_rows()}
    ),
    "rans.as_symbols": lambda: Call(rans.as_symbols, {"symbols": v.symbols()}),
    "rans.as_indexes": lambda: Call(rans.as_indexes, {"indexes": v.indexes(), "tables": v.cdf_tables()}),
    "rans.rans_encode": lambda: Call(
        rans.rans_encode,
        {"symbols": v.symbols(), "indexes": v.indexes(), "tables": v.cdf_tables(), "lanes": 16, "backend": "cpp"},
    ),
    "rans.RansDecoder": lambda: Call(
        rans.RansDecoder, {"data": v.rans_stream(), "tables": v.cdf_tables(), "backend": "cpp"}
    ),
    "rans.RansDecoder.decode": lambda: Call(
        rans.RansDecoder(v.rans_stream(), v.cdf_tables()).decode,
        {"indexes": v.indexes(), "out": np.zeros(N, I32), "dtype": np.int32},
        ("out",),
    ),
    "rans.RansDecoder.finish": lambda: decoded(rans.RansDecoder(v.rans_stream(), v.cdf_tables()), v.indexes()),
    "rans.rans_decode": lambda: Call(
        rans.rans_decode,
        {
            **{"data": v.rans_stream(), "indexes": v.indexes(), "tables": v.cdf_tables()},
            **{"dtype": np.int16, "backend": "cpp"},
        },
    ),
    "rans.rans_encode_many": lambda: Call(
        rans.rans_encode_many,
        {
            **{"symbols": v.batch(v.symbols()), "indexes": v.batch(v.indexes()), "tables": v.cdf_tables()},
            **{"lanes": 0, "threads": 2},
        },
    ),
    "rans.rans_decode_many": lambda: Call(
        rans.rans_decode_many,
        {
            **{"data": v.rans_streams(), "indexes": v.batch(v.indexes()), "tables": v.cdf_tables()},
            **{"dtype": np.int32, "threads": 2},
        },
    ),
    "tables.CdfTables": lambda: Call(tables.CdfTables, {**v.cdf_arrays(), "precision": 12}),
    "tables.CdfTables.row": lambda: Call(v.cdf_tables().row, {"index": 1}),
    "tables.CdfTables.to_arrays": lambda: Call(v.cdf_tables().to_arrays, {}),
    "tables.CdfTables.from_arrays": lambda: Call(tables.CdfTables.from_arrays, {"arrays": v.cdf_tables().to_arrays()}),
    "tables.normalise_pmf": lambda: Call(tables.normalise_pmf, {"pmf": np.full(9, 0.1), "precision": 12}),
    "tables.gaussian_pmf": lambda: Call(tables.gaussian_pmf, {"scale": 2.0}),
    "tables.gaussian_tables": lambda: Call(tables.gaussian_tables, {"scales": np.array([0.3, 2.0]), "precision": 12}),
    "tables.nearest_scale_thresholds": lambda: Call(tables.nearest_scale_thresholds, {"scales": np.array([0.3, 2.0])}),
    "tables.pmf_tables": lambda: Call(
        tables.pmf_tables,
        {"pmfs": [np.full(9, 0.1), np.ones(1)], "offsets": [-3, 7], "precision": 12, "raw_cost": 0.02},
    ),
}
