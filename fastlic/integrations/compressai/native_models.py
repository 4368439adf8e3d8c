"""Models whose whole entropy path runs on integers: format "native" of the hyperpriors, mbt2018 and cheng2020."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastlic.integrations.compressai.claims import hyper_shape, in_words, lists_of_strings, whole_numbers
from fastlic.integrations.compressai.contexts import codes_contexts, context_parts
from fastlic.integrations.compressai.integers import CodingRate, IntegerCoder, Parts, VariableParts, checked_coder
from fastlic.integrations.compressai.layout import hyper_branch, hyper_key, shape_of
from fastlic.integrations.compressai.slices import codec_slice_parts, codes_slices, looks_sliced, slice_parts
from fastlic.integrations.compressai.stages import analysis_of, synthesis_of
from fastlic.integrations.compressai.tables import LoadsTables


def model_parts(model: Any) -> Parts:
    """The entropy path of a model of compressai.models.google, .waseda or .vbr, or of channel slices.

    Raises:
        ValueError: it is set to code in a way that the integer path does not know.
    """
    from fastlic.integrations.compressai.theirs import (
        JointAutoregressiveHierarchicalPriors,
        MeanScaleHyperprior,
        ScaleHyperpriorVbr,
    )

    if looks_sliced(model):
        return slice_parts(model)
    contextual = isinstance(model, JointAutoregressiveHierarchicalPriors)
    means = isinstance(model, MeanScaleHyperprior)
    return Parts(
        model.h_a,
        model.h_s,
        model.entropy_bottleneck,
        model.context_prediction if contextual else None,
        model.entropy_parameters if contextual else None,
        of_magnitude=not means,
        scales_alone=not means,
        variable=_variable_parts(model) if isinstance(model, ScaleHyperpriorVbr) else None,
    )


def _variable_parts(model: Any) -> VariableParts:
    if not getattr(model, "ste_recursive", True):
        raise ValueError("with ste_recursive = False its context and its picture see different latents")
    shift = model.scale_to_context if getattr(model, "scl2ctx", False) else None
    step, least = (model.gayn2zqstep, float(model.lower_bound_zqstep.bound)) if model.vr_entbttlnck else (None, 0.0)
    return VariableParts(model.Gain, model.QuantABCD, shift, step, least)


class IntegerModel(LoadsTables):
    """``compress`` and ``decompress`` of ScaleHyperprior, MeanScaleHyperprior and the raster models built on them."""

    @in_words
    def compress(self, x: Tensor) -> dict[str, Any]:
        return _analysis(self, x)

    @in_words
    def decompress(self, strings: list[list[bytes]], shape: Any) -> dict[str, Tensor]:
        return _synthesis(self, strings, shape)


def _analysis(model: Any, x: Tensor, *rate: Any) -> dict[str, Any]:
    """What ``compress`` returns; ``rate`` is what a call of a model of variable rate names."""
    coder, parts = checked_coder(model, model_parts)
    at = _coding_rate(model, coder, *rate) if rate else None
    y = analysis_of(model)(x)
    z = model.h_a(torch.abs(y) if parts.of_magnitude else y)
    y_strings, z_strings, _ = coder.encode(y, z, at)
    return {"strings": [y_strings, z_strings], "shape": z.shape[-2:]}


def _synthesis(model: Any, strings: Any, shape: Any, *rate: Any) -> dict[str, Tensor]:
    """What ``decompress`` returns."""
    coder, _ = checked_coder(model, model_parts)
    at = _coding_rate(model, coder, *rate) if rate else None
    lists_of_strings(strings, 2)  # of y and of z
    rows, columns = whole_numbers(shape)
    y_hat = coder.decode(strings[0], strings[1], rows, columns, at)
    synthesis = synthesis_of(model)
    like = next(synthesis.parameters())
    return {"x_hat": synthesis(y_hat.to(like.device, like.dtype)).clamp_(0, 1)}


class IntegerVariableModel(LoadsTables):
    """The same of the models of variable rate, whose calls also name the rate; stage 1 codes without any."""

    @in_words
    def compress(self, x: Tensor, stage: int = 2, s: int = 1, inputscale: Any = 0) -> dict[str, Any]:
        return _analysis(self, x, stage, s, inputscale)

    @in_words
    def decompress(
        self, strings: list[list[bytes]], shape: Any, stage: int = 2, s: int = 1, inputscale: Any = 0
    ) -> dict[str, Tensor]:
        return _synthesis(self, strings, shape, stage, s, inputscale)


def _coding_rate(model: Any, coder: IntegerCoder, stage: int, s: int, inputscale: Any) -> CodingRate:
    if stage not in (1, 2):
        raise ValueError(f"stage must be 1 or 2, got {stage!r}")
    if stage == 1:
        return CodingRate(1.0, False, False)
    if inputscale != 0:
        gain = float(torch.as_tensor(inputscale, dtype=torch.float32))
    else:
        gains = coder.integers.gains  # type: ignore[union-attr]  # in float32, whatever precision the model has now
        if s not in range(len(gains)):
            raise ValueError(f"s must be from 0 to {len(gains) - 1}, got {s!r}")
        gain = float(gains[s])
    return CodingRate(gain, True, not model.no_quantoffset)


def codec_parts(codec: Any) -> Parts:
    """The entropy path of a HyperpriorLatentCodec around a raster-scan or a Gaussian latent codec.

    Raises:
        ValueError: it is built in a way that the integer path does not know.
    """
    from fastlic.integrations.compressai.theirs import GaussianConditionalLatentCodec, RasterScanLatentCodec

    hyper, y = hyper_branch(codec), codec.latent_codec["y"]
    if codes_slices(y):
        return codec_slice_parts(codec)
    if codes_contexts(y):
        return context_parts(codec)
    if type(y) is RasterScanLatentCodec and "merge" not in vars(y):
        return Parts(*hyper, y.context_prediction, y.entropy_parameters)
    if type(y) is GaussianConditionalLatentCodec and isinstance(y.entropy_parameters, torch.nn.Identity):
        if y.chunks == ("scales", "means"):
            return Parts(*hyper)
        raise ValueError(f"its parameters come as {', '.join(y.chunks)}")
    raise ValueError(f"its latent codec is a {type(y).__name__}")


class IntegerHyperprior(LoadsTables):
    """``compress`` and ``decompress`` of HyperpriorLatentCodec around raster-scan and Gaussian latent codecs."""

    def compress(self, y: Tensor) -> dict[str, Any]:
        codec: Any = self
        coder, parts = checked_coder(codec, codec_parts)
        z = parts.h_a(y)
        y_strings, z_strings, y_hat = coder.encode(y, z)
        shape = {"y": shape_of(y), hyper_key(codec): shape_of(z)}
        return {"strings": [y_strings, z_strings], "shape": shape, "y_hat": y_hat.to(y.device, y.dtype)}

    def decompress(self, strings: Any, shape: Any, **kwargs: Any) -> dict[str, Tensor]:
        coder, parts = checked_coder(self, codec_parts)
        rows, columns = hyper_shape(self, shape)
        lists_of_strings(strings, 2)  # of y and of z
        y_hat = coder.decode(strings[0], strings[1], rows, columns)
        like = next(parts.h_a.parameters())
        return {"y_hat": y_hat.to(like.device, like.dtype)}
