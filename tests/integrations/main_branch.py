"""The latent codecs of CompressAI's main branch (2026) as far as their interface goes, where 1.2.8 is installed.

Rebuilt from documented signatures: who is called with what, what ``compress`` returns, and shapes as (channels, rows,
columns). ``codecs()`` gives these, or the real ones where they are.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn as nn
from compressai import latent_codecs as installed
from torch import Tensor

REAL = hasattr(installed, "MultiContextCheckerboardLatentCodec")


class EntropyBottleneckLatentCodec(installed.LatentCodec):
    def __init__(self, entropy_bottleneck: Any, quantizer: str = "noise") -> None:
        super().__init__()
        self.entropy_bottleneck, self.quantizer = entropy_bottleneck, quantizer

    def compress(self, y: Tensor) -> dict[str, Any]:
        strings = self.entropy_bottleneck.compress(y)
        y_hat = self.entropy_bottleneck.decompress(strings, y.shape[2:])
        return {"strings": [strings], "shape": y.shape[1:], "y_hat": y_hat}

    def decompress(self, strings: Any, shape: Any, **kwargs: Any) -> dict[str, Any]:
        (own,) = strings
        return {"y_hat": self.entropy_bottleneck.decompress(own, shape[1:])}


class GaussianConditionalLatentCodec(installed.GaussianConditionalLatentCodec):
    def compress(self, y: Tensor, ctx_params: Tensor) -> dict[str, Any]:
        return {**super().compress(y, ctx_params), "shape": y.shape[1:]}

    def decompress(self, strings: Any, shape: Any, ctx_params: Tensor, **kwargs: Any) -> dict[str, Any]:
        out = super().decompress(strings, shape[1:], ctx_params)
        assert out["y_hat"].shape[1:] == shape
        return out


class RasterScanLatentCodec(installed.RasterScanLatentCodec):
    def compress(self, y: Tensor, ctx_params: Tensor) -> dict[str, Any]:
        return {**super().compress(y, ctx_params), "shape": y.shape[1:]}

    def decompress(self, strings: Any, shape: Any, ctx_params: Tensor, **kwargs: Any) -> dict[str, Any]:
        return super().decompress(strings, shape[1:], ctx_params)


class CheckerboardLatentCodec(installed.CheckerboardLatentCodec):
    def decompress(self, strings: Any, shape: Any, side_params: Tensor, **kwargs: Any) -> dict[str, Any]:
        channels, rows, columns = shape
        y_hat = side_params.new_zeros((2, len(strings[0]), channels, rows, columns // 2))
        for i, side in enumerate(self.unembed(side_params)):
            context = self.unembed(self.context_prediction(self.embed(y_hat)))[i] * i
            params = self.entropy_parameters(self.merge(context, side))
            y_hat[i] = self.latent_codec["y"].decompress([strings[i]], (channels, rows, columns // 2), params)["y_hat"]
        return {"y_hat": self.embed(y_hat)}


class HyperpriorLatentCodec(installed.LatentCodec):
    def __init__(self, latent_codec: Any, h_a: Any = None, h_s: Any = None) -> None:
        super().__init__()
        self.h_a, self.h_s = h_a or nn.Identity(), h_s or nn.Identity()
        self.y, self.z = latent_codec["y"], latent_codec["z"]
        self.latent_codec = dict(latent_codec)

    def compress(self, y: Tensor) -> dict[str, Any]:
        z_out = self.latent_codec["z"].compress(self.h_a(y))
        y_out = self.latent_codec["y"].compress(y, self.h_s(z_out["y_hat"]))
        shape = {"y": y_out["shape"], "z": z_out["shape"]}
        return {"strings": [*y_out["strings"], *z_out["strings"]], "shape": shape, "y_hat": y_out["y_hat"]}

    def decompress(self, strings: Any, shape: Any, **kwargs: Any) -> dict[str, Any]:
        *own, z_strings = strings
        z_hat = self.latent_codec["z"].decompress([z_strings], shape["z"])["y_hat"]
        return {"y_hat": self.latent_codec["y"].decompress(own, shape["y"], self.h_s(z_hat))["y_hat"]}


class ChannelGroupsLatentCodec(installed.LatentCodec):
    def __init__(self, latent_codec: Any, channel_context: Any, *, groups: Any, support_slices: Any = None) -> None:
        super().__init__()
        self.groups = list(groups)
        self.support_slices = support_slices or [list(range(k)) for k in range(len(self.groups))]
        self.channel_context, self.latent_codec = nn.ModuleDict(channel_context), nn.ModuleDict(latent_codec)

    def compress(self, y: Tensor, side_params: Tensor) -> dict[str, Any]:
        y_hat = torch.zeros_like(y)
        parts, strings = y_hat.split(self.groups, 1), []
        for k, own in enumerate(y.split(self.groups, 1)):
            out = self.latent_codec[f"y{k}"].compress(own, self._get_ctx_params(k, side_params, parts))
            parts[k][:] = out["y_hat"]
            strings += out["strings"]
        return {"strings": strings, "shape": y.shape[1:], "y_hat": y_hat}

    def decompress(self, strings: Any, shape: Any, side_params: Tensor, **kwargs: Any) -> dict[str, Any]:
        y_hat = torch.zeros((len(strings[0]), *shape))
        parts, each = y_hat.split(self.groups, 1), len(strings) // len(self.groups)
        for k, channels in enumerate(self.groups):
            params, own = self._get_ctx_params(k, side_params, parts), strings[each * k : each * (k + 1)]
            parts[k][:] = self.latent_codec[f"y{k}"].decompress(own, (channels, *shape[1:]), params)["y_hat"]
        return {"y_hat": y_hat}

    def merge_y(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=1)

    def merge_params(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=1)

    def _get_ctx_params(self, k: int, side_params: Tensor, y_hat_: Any) -> Tensor:
        if k == 0:
            return side_params
        context = self.channel_context[f"y{k}"](self.merge_y(*(y_hat_[i] for i in self.support_slices[k])))
        return self.merge_params(context, side_params)


class MultiContextCheckerboardLatentCodec(installed.LatentCodec):
    """Two passes, each with a network of its own; what the second pass adds to the first one's latent comes after.

    Contexts that are None are left out: spatial ones read the latent so far, the intra-channel one parameters as well.
    """

    def __init__(
        self,
        *,
        entropy_parameters_anchor: nn.Module,
        entropy_parameters_nonanchor: nn.Module,
        spatial_context_nonanchor: nn.Module,
        lrp_anchor: nn.Module,
        lrp_nonanchor: nn.Module,
        spatial_context_anchor: Any = None,
        intra_channel_context_nonanchor: Any = None,
        selective_predictor: Any = None,
        lrp_input_builder: Any = None,
        lrp_activation: Any = torch.tanh,
        lrp_scale: float = 0.5,
        anchor_parity: str = "even",
    ) -> None:
        super().__init__()
        self.entropy_parameters_anchor = entropy_parameters_anchor
        self.entropy_parameters_nonanchor = entropy_parameters_nonanchor
        self.spatial_context_anchor = spatial_context_anchor
        self.spatial_context_nonanchor = spatial_context_nonanchor
        self.intra_channel_context_nonanchor = intra_channel_context_nonanchor
        self.selective_predictor, self.lrp_input_builder = selective_predictor, lrp_input_builder
        self.lrp_anchor, self.lrp_nonanchor = lrp_anchor, lrp_nonanchor
        self.lrp_activation, self.lrp_scale = lrp_activation, lrp_scale
        self.anchor_parity = anchor_parity
        self.y = GaussianConditionalLatentCodec()
        self.latent_codec = {"y": self.y}

    def _own(self, step: int, rows: int, columns: int) -> Tensor:
        odd = (torch.arange(rows)[:, None] + torch.arange(columns)) % 2
        return odd == (step if self.anchor_parity == "even" else 1 - step)

    def _known(self, step: int, side: Tensor, y_hat: Tensor) -> list[Tensor]:
        spatial = self.spatial_context_nonanchor if step else self.spatial_context_anchor
        known = [side] if spatial is None else [spatial(y_hat), side]
        if step and self.intra_channel_context_nonanchor is not None:
            known.append(self.intra_channel_context_nonanchor(side, y_hat))
        return known

    def _run(self, code: Any, side: Tensor, images: int, channels: int) -> Tensor:
        rows, columns = side.shape[2:]
        y_hat = side.new_zeros((images, channels, rows, columns))
        networks = (self.entropy_parameters_anchor, self.lrp_anchor)
        networks = networks, (self.entropy_parameters_nonanchor, self.lrp_nonanchor)
        for step, (parameters, lrp) in enumerate(networks):
            own, params = self._own(step, rows, columns), parameters(torch.cat(self._known(step, side, y_hat), 1))
            y_hat[:, :, own] = code(step, own, params[:, :, own].unflatten(2, (rows, columns // 2))).flatten(2)
            build = self.lrp_input_builder or (lambda side, _params, y_hat: torch.cat([side, y_hat], 1))
            more = lrp(build(side, params, y_hat))
            more = self.lrp_scale * (more if self.lrp_activation is None else self.lrp_activation(more))
            y_hat[:, :, own] += more[:, :, own]
        return y_hat

    def compress(self, y: Tensor, side_params: Tensor) -> dict[str, Any]:
        strings = []

        def code(step: int, own: Tensor, params: Tensor) -> Tensor:
            out = self.y.compress(y[:, :, own].unflatten(2, params.shape[2:]), params)
            strings.extend(out["strings"])
            return out["y_hat"]

        y_hat = self._run(code, side_params, len(y), y.shape[1])
        return {"strings": strings, "shape": y.shape[1:], "y_hat": y_hat}

    def decompress(self, strings: Any, shape: Any, side_params: Tensor, **kwargs: Any) -> dict[str, Any]:
        def code(step: int, own: Tensor, params: Tensor) -> Tensor:
            return self.y.decompress([strings[step]], (shape[0], *params.shape[2:]), params)["y_hat"]

        return {"y_hat": self._run(code, side_params, len(strings[0]), shape[0])}


_REBUILT = (
    EntropyBottleneckLatentCodec,
    GaussianConditionalLatentCodec,
    RasterScanLatentCodec,
    CheckerboardLatentCodec,
    HyperpriorLatentCodec,
    ChannelGroupsLatentCodec,
    MultiContextCheckerboardLatentCodec,
)


def _put(own: dict[str, Any]) -> None:
    for name, cls in own.items():
        if cls is not None:
            setattr(installed, name, cls)
        elif hasattr(installed, name):
            delattr(installed, name)


_NAMES = tuple(cls.__name__ for cls in _REBUILT)
_BEFORE = {name: vars(installed).get(name) for name in _NAMES}
_OURS = "fastlic.integrations.compressai"


@contextmanager
def codecs(rebuilt: tuple[str, ...] = _NAMES) -> Iterator[SimpleNamespace]:
    """The branch's latent codecs by name, ``accelerate`` for them, and ``module`` of the integration by name.

    Where they are rebuilt, CompressAI has them in place of its own meanwhile, and the integration is imported anew:
    which classes it serves is settled when it is imported.

    Args:
        rebuilt: which; the others stay 1.2.8's.
    """

    def module(name: str) -> Any:
        return importlib.import_module(f"{_OURS}.{name}")

    if REAL:
        own = {name: getattr(installed, name) for name in _NAMES}
        yield SimpleNamespace(**own, accelerate=module("api").accelerate, module=module)
        return
    import fastlic.integrations

    before = {name: vars(installed).get(name) for name in _NAMES}
    own = {cls.__name__: cls if cls.__name__ in rebuilt else _BEFORE[cls.__name__] for cls in _REBUILT}
    parent, ours = vars(fastlic.integrations).get("compressai"), {}
    for name in [name for name in sys.modules if name == _OURS or name.startswith(f"{_OURS}.")]:
        ours[name] = sys.modules.pop(name)
    _put(own)
    try:
        yield SimpleNamespace(**own, accelerate=module("api").accelerate, module=module)
    finally:
        _put(before)
        for name in [name for name in sys.modules if name == _OURS or name.startswith(f"{_OURS}.")]:
            del sys.modules[name]
        sys.modules.update(ours)
        if parent is not None:
            fastlic.integrations.compressai = parent
