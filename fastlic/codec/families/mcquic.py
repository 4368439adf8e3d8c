"""McQuic: one section per level of codebook indexes, the deepest level first, so that a beginning is a preview."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor
from typing_extensions import Self

from fastlic.codec.calibration import default_calibration
from fastlic.codec.effort import refined as effort_of
from fastlic.codec.families.base import Backend, FamilyCoder, Preview, Size, Streams, frozen, sizes_of
from fastlic.codec.storage import StoredCodec
from fastlic.entropy.code_context import IntegerCodeContext
from fastlic.entropy.codes import CodeTables
from fastlic.integers.conversion import Precision
from fastlic.integers.engines import Way
from fastlic.integers.vq import VqTransforms, convert_vq
from fastlic.models import McQuic
from fastlic.models.mcquic.context import CodeContext
from fastlic.models.mcquic.padding import crop, padded_size
from fastlic.models.sizes import build, check_config
from fastlic.ops import backends

Levels = list[Tensor]  # int64 [m, h, w] on the CPU, finest first; of a preview the deepest few

# Who codes codes: on a device nothing does (``Engines.way``).
_WAYS: dict[str, Any] = {"reference": "reference", "cpp": "cpp", "triton": "cpp"}
_ALIAS = "_dequantizer._codebook"
# What only training reads: the frequencies are in the tables, and no code depends on the temperatures.
_TRAINING_ONLY = ("*._freqEMA.*", "*._temperature")
_CALIBRATED = 192  # pixels, in both directions, of what transforms are calibrated on


class McQuicCoder(FamilyCoder[Levels, Levels]):
    """See :class:`FamilyCoder`. The integers are :class:`CodeTables` and :class:`VqTransforms`."""

    models = {"mcquic": McQuic}  # noqa: RUF012 - a constant
    restored = ("_encoder.*", "_decoder.*", "_quantizer._encoders.*", "_quantizer._decoders.*")
    deciding = ("_decoder.*", "_quantizer._decoders.*", "_quantizer._encoders.*._quantizer._codebook")
    entropy: CodeTables
    pixels: VqTransforms | None
    transforms: McQuic

    def __init__(self, model: McQuic, entropy: CodeTables, whole: bool, pixels: VqTransforms | None = None) -> None:
        self.family = model.family
        self.config: dict[str, Any] = model.config
        self.qualities = len(model.prices)
        self.entropy = entropy
        self.model: McQuic | None = model if whole else None
        self.pixels = pixels
        self.transforms = frozen(model, copied=whole)
        # Previews fill in what the tables expect, so that every copy of a codec shows the same ones.
        for running, share in zip(self.transforms._quantizer._entropyCoder._freqEMA, entropy.shares(), strict=True):
            running.copy_(torch.from_numpy(share))
        self.previews = {"levels": model.levels}
        self.bytes_per_pixel = 6.0 * model.config["channel"]

    @classmethod
    def from_model(cls, model: McQuic, images: Sequence[Tensor] | None) -> McQuicCoder:
        """Tables from the model's running frequencies, which calibration images refine: they add their counts to one
        pseudo-count per word on average."""
        shares = [share.numpy() for share in model.frequencies()]
        if images is not None:
            shares = _counted(model, shares, images)
        books = [book._codebook.detach().numpy() for book in model._quantizer.codebooks]
        return cls(model, CodeTables.from_shares(shares, books), True).with_pixels(images)

    def convert_pixels(self, images: Sequence[Tensor], precision: Precision | None) -> VqTransforms:
        return convert_vq(self.transforms, [_middle(x) for x in images], self.entropy.shares(), precision)

    @torch.no_grad()
    def with_context(self, context: nn.Module, images: Sequence[Tensor] | None) -> McQuicCoder:
        """A coder of the same model whose finest level is coded by ``context``, a ``CodeContext``.

        Args:
            images: calibration images, each [3, H, W] float in [0, 1]; None: the package's demonstration photo. Their
                codes set the ranges of the context's hidden activations.
        """
        if not isinstance(context, CodeContext):
            raise TypeError(f"expected a fastlic.models.mcquic.context.CodeContext, got {type(context).__name__}")
        if (context.m, context.k) != (self.entropy.groups, self.config["k"][0]):
            raise ValueError(f"a context of {context.config} for a model of {self.config}")
        calibration = default_calibration() if images is None else images
        finest = [self.analyse_floats(self.transforms, image, None)[0] for image in calibration]
        rows = [context.rows(codes[None]) for codes in finest]
        if not rows:
            raise ValueError("calibration needs at least one image")
        integers = IntegerCodeContext.from_float(copy.deepcopy(context).float().cpu(), torch.cat(rows))
        model, whole = (self.transforms, False) if self.model is None else (self.model, True)
        return type(self)(model, replace(self.entropy, context=integers), whole, self.pixels)

    @classmethod
    def from_stored(cls, stored: StoredCodec) -> Self:
        entropy = CodeTables.from_arrays(stored.integers)
        config = {"prices": [], **check_config(McQuic, stored.config)}
        shapes = [(table.rows, len(table.cdf) // table.rows - 1) for table in entropy.tables]
        if shapes != [(config["m"], k) for k in config["k"]]:
            raise ValueError(f"tables of {shapes} (groups, words) for a model of {config}")
        made = VqTransforms.from_arrays(stored.transforms) if stored.transforms else None
        state = dict(stored.floats)
        if config["prices"]:  # files of float16 may hold them rounded
            prices = torch.tensor(config["prices"], dtype=torch.float32)
            if not torch.equal(state.get("_prices", prices).half(), prices.half()):
                raise ValueError(f"prices of {config['prices']} beside others among the weights")
            state["_prices"] = prices
        whole = True
        for level, share in enumerate(entropy.shares()):  # what a file for coding alone leaves out
            state.setdefault(f"_quantizer._entropyCoder._freqEMA.{level}", torch.from_numpy(share).float())
            temperature = f"_quantizer._encoders.{level}._quantizer._temperature"
            whole = whole and temperature in state
            state.setdefault(temperature, torch.ones(config["m"], 1, 1, 1))
        if made is not None and not any(
            fnmatchcase(name, pattern) for name in stored.floats for pattern in cls.restored
        ):
            model = build(McQuic, config, state, sizes_of(stored.integers) + sizes_of(stored.transforms))
            model.load_state_dict(state, strict=False)
            made.restore(model)
            whole = False
        else:
            model = McQuic.from_state_dict(state)
        if {"prices": [], **model.config} != config:
            raise ValueError(f"weights of {model.config}")
        if made is not None:
            made.check_model(model)
            made.check()
        return cls(model, entropy, whole, made)

    def floats(self, training: bool) -> dict[str, Tensor]:
        source = self.model if self.model is not None and training else self.transforms
        # Constants are left out, since a file of float16 would round 1e-12 to nothing.
        constants = _constants(self.entropy.levels)
        left_out = () if training else (*_TRAINING_ONLY, *(() if self.pixels is None else self.restored))
        kept = {}
        for name, value in source.state_dict().items():
            constant = name in constants and torch.equal(constants[name], value)
            if constant or name.endswith(_ALIAS) or any(fnmatchcase(name, pattern) for pattern in left_out):
                continue
            kept[name] = value
        return kept

    def padded(self, size: Size) -> Size:
        return self._padded(size[0]), self._padded(size[1])

    def analyse(
        self, pixels: Tensor, quality: float | None, threads: int, worth: float = 1.0, way: Way = "cpp"
    ) -> Levels:
        assert self.pixels is not None
        return self.pixels.analyse(pixels, quality, threads=threads, backend=way)

    def apart(self, analysed: Levels) -> list[Levels]:
        return [list(own) for own in zip(*(codes.cpu() for codes in analysed), strict=True)]

    def analyse_floats(self, parts: McQuic, image: Tensor, quality: float | None, worth: float = 1.0) -> Levels:
        x = (image[None] * 2 - 1).contiguous(memory_format=torch.channels_last)
        return [codes[0].cpu() for codes in parts.encode(x, parts.stride, parts.price(quality))]

    def refined(
        self, pixels: Tensor, analysed: Levels, quality: float | None, effort: int, threads: int
    ) -> tuple[Levels, tuple[list[bytes], Levels]]:
        if quality is None or self.entropy.context is None:
            lacks = "of one fixed rate" if quality is None else "without a context"
            raise ValueError(f"a McQuic codec {lacks} has effort 0 alone, got {effort}")
        coded = effort_of(self, pixels, analysed, quality, effort, threads)
        return coded.target, (coded.sections, coded.latents)

    def encode_many(
        self, analysed: Sequence[Levels], backend: Backend, threads: int
    ) -> list[tuple[list[bytes], Levels]]:
        way = backends.choose(_WAYS, backend, torch.device("cpu"))
        levels = range(self.entropy.levels - 1, -1, -1)
        sections = [
            self.entropy.encode_many(level, [codes[level].numpy() for codes in analysed], way, threads)
            for level in levels
        ]
        return [([own[i] for own in sections], codes) for i, codes in enumerate(analysed)]

    def decode_many(
        self, streams: Streams, backend: Backend, threads: int, preview: Preview, pixels_only: bool = False
    ) -> list[Levels]:
        way = backends.choose(_WAYS, backend, torch.device("cpu"))
        sizes = [(self._padded(height), self._padded(width)) for _, (height, width) in streams]
        levels = []
        for depth in range(self.sections_needed(preview)):
            level = self.entropy.levels - 1 - depth
            stride = 16 << level
            parts = [(own[depth], h // stride, w // stride) for (own, _), (h, w) in zip(streams, sizes, strict=True)]
            levels.append(self.entropy.decode_many(level, parts, way, threads))
        return [[torch.from_numpy(own[i]).long() for own in reversed(levels)] for i in range(len(streams))]

    def _padded(self, side: int) -> int:
        stride = 8 << self.entropy.levels
        return padded_size(side, stride, 2 * stride)

    def together(self, latents: Sequence[Levels]) -> Levels:
        return [torch.stack(codes) for codes in zip(*latents, strict=True)]

    def synthesise(self, latents: Levels, quality: float | None, size: Size, threads: int, way: Way = "cpp") -> Tensor:
        assert self.pixels is not None
        return self.pixels.synthesise(latents, size, threads=threads, backend=way)

    def synthesise_floats(
        self, parts: McQuic, latents: Levels, quality: float | None, size: Size, preview: Preview
    ) -> Tensor:
        device = next(parts.parameters()).device
        x = parts.decode([codes[None].to(device) for codes in latents], size)
        return (x[0] + 1) / 2

    def sections_needed(self, preview: Preview) -> int:
        return preview.get("levels", self.entropy.levels)

    def named(self, latents: Levels) -> dict[str, Tensor]:
        return {f"codes_{level}": codes for level, codes in enumerate(latents)}

    def estimate(self, latents: Levels) -> dict[str, float]:
        parts = {f"codes_{n}_bits": self.entropy.bits(n, codes.numpy()) for n, codes in enumerate(latents)}
        return {"bits": sum(parts.values()), **parts}


def _middle(image: Tensor) -> Tensor:
    """A part of an image [3, H, W] that transforms are calibrated on."""
    return crop(image, min(image.shape[1], _CALIBRATED), min(image.shape[2], _CALIBRATED))


@lru_cache(maxsize=8)
def _constants(levels: int) -> dict[str, Tensor]:
    """Buffers that every model of so many levels has, of any width."""
    return dict(McQuic(1, 1, [2] * levels).named_buffers())


def _counted(model: McQuic, shares: list[np.ndarray], images: Sequence[Tensor]) -> list[np.ndarray]:
    """Shares [m, k] per level with the counts of ``images`` added, in units of one code."""
    totals = [share * k for share, k in zip(shares, model.k, strict=True)]
    for image in images:
        for level, codes in enumerate(model.encode(image[None] * 2 - 1, model.stride)):
            for group, code in enumerate(codes[0]):
                totals[level][group] += np.bincount(code.flatten().numpy(), minlength=model.k[level])
    return totals
