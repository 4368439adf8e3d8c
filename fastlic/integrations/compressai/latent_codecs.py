"""CompressAI's latent codecs without what they do twice, and with sizes held to what came.

An encoder goes on from what its decoder will see, and CompressAI's decode their own streams for that; within
``keeping()`` the entropy models remember instead. So ``compress`` may be anybody's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn as nn
from torch import Tensor

from fastlic.integrations.compressai.claims import check_like, hyper_shape, lists_of_strings, whole_numbers
from fastlic.integrations.compressai.entropy_models import keeping
from fastlic.integrations.compressai.layout import expected_shape, shapes_name_channels
from fastlic.integrations.compressai.theirs import GaussianConditionalLatentCodec


class _Keeping:
    def compress(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        with keeping():
            result: dict[str, Any] = super().compress(*args, **kwargs)  # type: ignore[misc]
        return result


class FastHyperpriorLatentCodec(_Keeping):
    """HyperpriorLatentCodec with words for arguments that are none."""

    def decompress(self, strings: Any, shape: Any, **kwargs: Any) -> dict[str, Any]:
        hyper_shape(self, shape)
        lists_of_strings(strings)
        result: dict[str, Any] = super().decompress(strings, shape, **kwargs)  # type: ignore[misc]
        return result


class FastChannelGroupsLatentCodec(_Keeping):
    """ChannelGroupsLatentCodec, which reserves what its shapes claim, with these held to the hyper latent's first."""

    def decompress(self, strings: Any, shape: Any, side_params: Tensor, **kwargs: Any) -> dict[str, Any]:
        codec: Any = self
        lists_of_strings(strings)
        count = len(codec.groups)
        if shapes_name_channels():
            check_like(shape, (sum(codec.groups), *side_params.shape[2:]))
            shape = tuple(shape)
        elif not isinstance(shape, (list, tuple)) or len(shape) != count:
            raise ValueError(f"a latent of {count} groups has a shape for each of them; got {shape!r:.200}")
        else:
            for k, (own, channels) in enumerate(zip(shape, codec.groups, strict=True)):
                expected = (channels, *side_params.shape[2:])
                check_like(own, expected[-len(whole_numbers(own, None)) :], f"shape['y'][{k}]")
        if len(strings) % count:
            raise ValueError(f"a latent of {count} groups has the same number of strings for each; got {len(strings)}")
        result: dict[str, Any] = super().decompress(strings, shape, side_params, **kwargs)  # type: ignore[misc]
        return result


class FastBottleneckLatentCodec(_Keeping):
    """EntropyBottleneckLatentCodec; sizes are the bottleneck's own matter, but for the channels that a shape names."""

    def decompress(self, strings: Any, shape: Any, **kwargs: Any) -> dict[str, Any]:
        codec: Any = self
        lists_of_strings(strings, 1)
        if shapes_name_channels():
            channels = codec.entropy_bottleneck.channels
            check_like(shape, (channels, *whole_numbers(shape, 3, "the latent's shape")[1:]), "the latent's shape")
        result: dict[str, Any] = super().decompress(strings, shape, **kwargs)  # type: ignore[misc]
        return result


class FastGaussianLatentCodec(_Keeping):
    """GaussianConditionalLatentCodec."""

    def decompress(self, strings: Any, shape: Any, ctx_params: Tensor, **kwargs: Any) -> dict[str, Any]:
        lists_of_strings(strings, 1)
        numbers = whole_numbers(shape, 3 if shapes_name_channels() else 2, "shape['y']")
        check_like(shape, (*numbers[:-2], *ctx_params.shape[2:]))
        try:
            result: dict[str, Any] = super().decompress(strings, numbers, ctx_params, **kwargs)  # type: ignore[misc]
        except AssertionError:  # that it compares the decoded latent with
            raise ValueError(f"shape['y'] is {shape!r:.200}, but the codec has another number of channels") from None
        return result


class GaussianBehind(FastGaussianLatentCodec, GaussianConditionalLatentCodec):
    """The same behind a subclass that codes in its own way, and whose ``super().decompress`` arrives here."""


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

        with keeping():
            y_hat = self._two_passes(code, side_params, (n, c, h, w))
        return {"strings": strings, "shape": y_hat.shape[1:], "y_hat": y_hat}

    def decompress(self, strings: Any, shape: Any, side_params: Tensor, **kwargs: Any) -> dict[str, Any]:
        codec: Any = self
        lists_of_strings(strings, 2)  # anchors and the rest
        channels = codec.context_prediction.in_channels
        check_like(shape, (channels, *side_params.shape[2:]))
        c, h, w = channels, *side_params.shape[2:]

        def code(half: int, params: Tensor) -> Tensor:
            out = codec.latent_codec["y"].decompress([strings[half]], expected_shape(c, (h, w // 2)), params)
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


class FastContextsLatentCodec(_Keeping):
    """The main branch's MultiContextCheckerboardLatentCodec, which reserves what its shape claims."""

    def decompress(self, strings: Any, shape: Any, side_params: Tensor, **kwargs: Any) -> dict[str, Any]:
        codec: Any = self
        lists_of_strings(strings, 2)  # anchors and the rest
        numbers = whole_numbers(shape, 3, "shape['y']")
        check_like(shape, (_latent_channels(codec) or numbers[0], *side_params.shape[2:]))
        result: dict[str, Any] = super().decompress(strings, numbers, side_params, **kwargs)  # type: ignore[misc]
        return result


def _latent_channels(codec: Any) -> int | None:
    """Half of what its network of scales and means ends with, if it ends with a convolution."""
    layers: Sequence[Any] = [m for m in codec.entropy_parameters_anchor.modules() if isinstance(m, nn.Conv2d)]
    return layers[-1].out_channels // 2 if layers else None
