"""CompressAI's latent codecs without what they do twice."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fastlic.integrations.compressai.claims import check_like, hyper_shape, lists_of_strings, whole_numbers
from fastlic.integrations.compressai.entropy_models import FastEntropyModel


class FastHyperpriorLatentCodec:
    """HyperpriorLatentCodec with words for arguments that are none."""

    def decompress(self, strings: Any, shape: Any, **kwargs: Any) -> dict[str, Any]:
        hyper_shape(shape)
        lists_of_strings(strings)
        result: dict[str, Any] = super().decompress(strings, shape, **kwargs)  # type: ignore[misc]
        return result


class FastChannelGroupsLatentCodec:
    """ChannelGroupsLatentCodec, which reserves what its shapes claim, with these held to the hyper latent's first."""

    def decompress(self, strings: Any, shape: Any, side_params: Tensor, **kwargs: Any) -> dict[str, Any]:
        codec: Any = self
        lists_of_strings(strings)
        count = len(codec.groups)
        if not isinstance(shape, (list, tuple)) or len(shape) != count or len(strings) % count:
            raise ValueError(f"a latent of {count} groups has a shape and the same number of strings for each of them")
        for k, (own, channels) in enumerate(zip(shape, codec.groups, strict=True)):
            check_like(own, (channels, *side_params.shape[2:])[-len(whole_numbers(own, None)) :], f"shape['y'][{k}]")
        result: dict[str, Any] = super().decompress(strings, shape, side_params, **kwargs)  # type: ignore[misc]
        return result


class FastGaussianLatentCodec:
    """GaussianConditionalLatentCodec whose encoder keeps its symbols; the original decodes its own stream again."""

    def compress(self, y: Tensor, ctx_params: Tensor) -> dict[str, Any]:
        codec: Any = self
        model = codec.gaussian_conditional
        if not isinstance(model, FastEntropyModel):  # somebody's own entropy model
            result: dict[str, Any] = super().compress(y, ctx_params)  # type: ignore[misc]
            return result
        scales, means = codec._chunk(codec.entropy_parameters(ctx_params))
        strings, y_hat = model.compress_and_keep(y, model.build_indexes(scales), means)
        return {"strings": [strings], "shape": y.shape[2:4], "y_hat": y_hat}

    def decompress(self, strings: Any, shape: Any, ctx_params: Tensor, **kwargs: Any) -> dict[str, Any]:
        lists_of_strings(strings, 1)
        check_like(shape, ctx_params.shape[2:])
        result: dict[str, Any] = super().decompress(  # type: ignore[misc]
            strings, ctx_params.shape[2:], ctx_params, **kwargs
        )
        return result


class FastCheckerboardLatentCodec:
    """CheckerboardLatentCodec without the context of the first pass, whose result the original throws away."""

    def compress(self, y: Tensor, side_params: Tensor) -> dict[str, Any]:
        codec: Any = self
        n, c, h, w = y.shape
        halves = codec.unembed(y)
        strings = []

        def code(half: int, params: Tensor) -> Tensor:
            out = codec.latent_codec["y"].compress(halves[half], params)
            strings.append(out["strings"][0])
            return out["y_hat"]  # type: ignore[no-any-return]

        y_hat = self._two_passes(code, side_params, (n, c, h, w))
        return {"strings": strings, "shape": y_hat.shape[1:], "y_hat": y_hat}

    def decompress(self, strings: Any, shape: Any, side_params: Tensor, **kwargs: Any) -> dict[str, Any]:
        codec: Any = self
        lists_of_strings(strings, 2)  # anchors and the rest
        channels = codec.context_prediction.in_channels
        check_like(shape, (channels, *side_params.shape[2:]))
        c, h, w = channels, *side_params.shape[2:]

        def code(half: int, params: Tensor) -> Tensor:
            out = codec.latent_codec["y"].decompress([strings[half]], (h, w // 2), params)
            return out["y_hat"]  # type: ignore[no-any-return]

        return {"y_hat": self._two_passes(code, side_params, (len(strings[0]), c, h, w))}

    def _two_passes(self, code: Any, side_params: Tensor, size: tuple[int, int, int, int]) -> Tensor:
        codec: Any = self
        n, c, h, w = size
        y_hat = side_params.new_zeros((2, n, c, h, w // 2))
        side = codec.unembed(side_params)
        # The same convolution of the same whole map as in the original, so the same floats; but once, with the anchors.
        channels = codec.context_prediction.out_channels
        context = side_params.new_zeros((n, channels, h, w // 2))
        y_hat[0] = code(0, codec.entropy_parameters(codec.merge(context, side[0])))
        context = codec.unembed(codec.context_prediction(codec.embed(y_hat)))[1]
        y_hat[1] = code(1, codec.entropy_parameters(codec.merge(context, side[1])))
        merged: Tensor = codec.embed(y_hat)
        return merged
