"""One function per operation: checks in words, then a visible table of implementations.

Every operation is importable from here by its name: ``from fastlic.ops import codebook_nearest, rans_encode``. A name
is imported when it is first asked for, so that ``import fastlic.ops`` itself loads neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import Any

# Which module of this package has which names. No name is a module's own: importing that module would replace it.
_MODULES: dict[str, tuple[str, ...]] = {
    "backends": ("instruction_set", "instruction_sets"),
    "categorical": ("CategoricalTables", "categorical_tables", "decode_categorical", "decode_categorical_many",
                    "encode_categorical", "encode_categorical_many"),
    "checkerboard": ("checkerboard_encode", "checkerboard_parameters", "checkerboard_place", "pack_checkerboard"),
    "checksum": ("crc32c",),
    "codec_file": ("read_codec_file", "unpack_weights"),
    "code_context": ("choose_codes", "code_frequencies", "decode_codes", "decode_codes_many", "encode_codes",
                     "encode_codes_many", "pack_code_context"),
    "codebook": ("codebook_nearest",),
    "compressai_rans": ("CompressAiDecoder", "CompressAiEncoder", "CompressAiTables", "decode_many_with_indexes",
                        "decode_with_indexes", "encode_many_with_indexes", "encode_with_indexes"),
    "compressai_tables": ("bottleneck_tables", "compressai_gaussian_tables", "quantised_cdf", "scale_table"),
    "container": ("container_attachments", "container_limits", "container_models", "pack_container", "parse_container",
                  "unpack_container"),
    "device_board": ("DeviceBoard",),
    "device_engine": ("DeviceEngine",),
    "device_transform": ("DeviceTransform",),
    "device_slices": ("DeviceSlices",),
    "divisive": ("gdn",),
    "float_attention": ("window_attention",),
    "float_convolution": ("convolution",),
    "float_symbols": ("ScaleSearch", "round_differences"),
    "gaussian": ("decode_gaussian", "encode_gaussian"),
    "latents": ("LatentEngine", "Target"),
    "mixture": ("MixtureDecoder", "MixtureEncoder", "mixture_rows"),
    "plane": ("plane_decode", "plane_encode"),
    "rans": ("RansDecoder", "rans_decode", "rans_decode_many", "rans_encode", "rans_encode_many"),
    "tables": ("CdfTables", "gaussian_pmf", "gaussian_tables", "nearest_scale_thresholds", "normalise_pmf",
               "pmf_tables"),
    "transforms": ("TransformEngine",),
}  # fmt: skip
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
