"""MLIC, MLIC+ and MLIC++ of CompressAI's main branch, on the integers that fastlic's own models of that family have.

The branch builds them of channel groups whose slices are checkerboards of many contexts. Layer by layer they are
fastlic's (docs/mlic.md): weights go into fastlic's float model under its names, and that model is converted. Modules
are recognised by what they hold, and then tried: each context and each head on random latents, and the whole latent
codec on a part of a photo, has to give what fastlic's model gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.utils import parametrize

from fastlic.entropy.mlic.convert import convert_latents
from fastlic.entropy.mlic.model import IntegerMLIC
from fastlic.integrations.compressai.integers import Parts, _copy
from fastlic.integrations.compressai.layout import hyper_branch
from fastlic.integrations.compressai.slices import FAILURES, check_coded
from fastlic.integrations.compressai.theirs import (
    ChannelGroupsLatentCodec,
    GaussianConditionalLatentCodec,
    MultiContextCheckerboardLatentCodec,
)
from fastlic.models.mlic import MLIC, MLICPlus, MLICPlusPlus, Sizes
from fastlic.models.mlic.attention import HEADS_INTRA, LOCAL_REACH
from fastlic.models.mlic.checkerboard import anchors
from fastlic.models.mlic.local import HEADS
from fastlic.models.sizes import build

_MODELS: dict[str, type[MLICPlusPlus]] = {cls.family: cls for cls in (MLIC, MLICPlus, MLICPlusPlus)}
# What such a model calls the modules of a slice, by fastlic's names: of its codec, and of its channel context.
_OF_CODEC = {
    "local_context": "spatial_context_nonanchor",
    "global_intra_context": "intra_channel_context_nonanchor",
    "entropy_parameters_anchor": "entropy_parameters_anchor",
    "entropy_parameters_nonanchor": "entropy_parameters_nonanchor",
    "lrp_anchor": "lrp_anchor",
    "lrp_nonanchor": "lrp_nonanchor",
}
_OF_CONTEXT = {"channel_context": "channel_part", "global_inter_context": "global_inter_part"}
_CLOSE = 1e-4  # of the largest value: floats in another order


@dataclass(frozen=True)
class ContextParts(Parts):
    """The entropy path of a HyperpriorLatentCodec around such channel groups.

    Attributes:
        codec: the channel groups.
        family: "mlic", "mlic+" or "mlic++"; empty before :func:`recognise_contexts`.
    """

    codec: Any = None
    family: str = ""

    @property
    def modules(self) -> list[nn.Module]:
        return [self.h_s, self.bottleneck, self.codec]

    @property
    def kind(self) -> Any:
        return IntegerMLIC

    @property
    def slices(self) -> int:
        """How many there are."""
        return len(self.codec.groups)

    def convert(self, latents: Sequence[Tensor]) -> IntegerMLIC:
        return convert_latents(self.network(), latents)

    def network(self) -> MLICPlusPlus:
        """fastlic's float model with copies of the weights, but for g_a and g_s, which no entropy path needs.

        Raises:
            ValueError: weights that this model does not have, lacks, or has in other shapes.
        """
        cls, density, state = _MODELS[self.family], self.density(), _weights(self.h_s, "h_s")
        for k, (leaf, context) in enumerate(_slices(self.codec)):
            for owner, names in ((leaf, _OF_CODEC), (context, _OF_CONTEXT)):
                for ours, theirs in names.items():
                    if (module := getattr(owner, theirs, None)) is not None:
                        state |= _weights(module, f"{ours}.{k}")
        if self.family == "mlic":  # whose stack of convolutions is a Sequential here, and inside a module there
            state = {key.replace(".context.", ".") if "local_context" in key else key: v for key, v in state.items()}
        sizes = Sizes.inferred(state, self.slices)
        config = {"N": density.channels, "M": sum(self.codec.groups), "slices": self.slices, "sizes": sizes}
        model = build(cls, config, state)
        model.g_a, model.g_s = nn.Identity(), nn.Identity()  # type: ignore[assignment]
        model.h_a, model.entropy_bottleneck = _copy(self.h_a), density  # type: ignore[assignment]
        missing, _ = model.load_state_dict(state, strict=False)
        own = ("h_a.", "entropy_bottleneck.", "gaussian_conditional.")
        if lacks := [name for name in missing if not name.startswith(own)]:
            raise ValueError(f"it lacks {lacks[0]}, which {cls.__name__} has")
        return model


def _weights(module: nn.Module, name: str) -> dict[str, Tensor]:
    """What the state dict of a copy on the CPU in float32 holds, with parametrized weights as they are computed.

    Raises:
        ValueError: a hook or an instance decides over what the module computes.
    """
    if own := [path for path, layer in module.named_modules(prefix=name) if "forward" in vars(layer)]:
        raise ValueError(f"{own[0]} has a forward of its own")
    out: dict[str, Tensor] = {}
    for path, layer in _copy(module, name).named_modules(prefix=name):
        if ".parametrizations" in path:
            continue
        computed = layer.parametrizations if parametrize.is_parametrized(layer) else ()
        for key in (*layer._parameters, *layer._buffers, *computed):  # type: ignore[misc]
            if isinstance(value := getattr(layer, key), Tensor) and key not in layer._non_persistent_buffers_set:
                out[f"{path}.{key}"] = value.detach()
    return out


def _slices(codec: Any) -> list[tuple[Any, Any]]:
    """(codec, channel context) of each slice."""
    return [(codec.latent_codec[f"y{k}"], codec.channel_context[f"y{k}"]) for k in range(len(codec.groups))]


def codes_contexts(codec: Any) -> bool:
    """Whether a latent codec of y is channel groups of checkerboards whose contexts have the family's names."""
    if not isinstance(codec, ChannelGroupsLatentCodec):
        return False
    names = {f"y{k}" for k in range(len(codec.groups))}
    if set(codec.channel_context) != names or set(codec.latent_codec) != names:
        return False
    return all(
        isinstance(leaf, MultiContextCheckerboardLatentCodec) and all(hasattr(own, n) for n in _OF_CONTEXT.values())
        for leaf, own in _slices(codec)
    )


def context_parts(codec: Any) -> ContextParts:
    """The entropy path of a HyperpriorLatentCodec around channel groups that ``codes_contexts``.

    Raises:
        ValueError: z has a codec of a kind that is not known.
    """
    return ContextParts(*hyper_branch(codec), codec=codec.latent_codec["y"])


@torch.no_grad()
def recognise_contexts(codec: Any, analysis: nn.Module) -> ContextParts:
    """The same with its family, tried out.

    Raises:
        ValueError: it is of no family, or computes something else than fastlic's model of it; the message says what.
    """
    parts = context_parts(codec)
    for reason in _reasons(parts.codec):
        raise ValueError(reason)
    families = _families(parts.codec)
    twin: Any = _copy(codec)
    other = ""
    for family in families:
        parts = replace(parts, family=family)
        network = parts.network()
        try:
            other = _first_other(network, twin.latent_codec["y"])
        except FAILURES as error:
            raise ValueError(f"its contexts do not run on random latents: {error}") from error
        if not other:
            break
    if other:
        raise ValueError(f"the {other} computes something else than that of {' and '.join(map(str.upper, families))}")

    def decoded(y: Tensor) -> Tensor:
        return network.code_latent(y, network.entropy_bottleneck(network.hyper_analysis(y))[0])[0]

    check_coded(twin, analysis, decoded)
    return parts


def _reasons(codec: Any) -> Iterator[str]:
    """Why no model of the family is built so."""
    if len(set(codec.groups)) > 1:
        yield f"its slices have different sizes: {list(codec.groups)}"
    for k, (leaf, context) in enumerate(_slices(codec)):
        if getattr(leaf, "selective_predictor", None) is not None:
            yield "a network decides which symbols are left out, as in MLICv2: integers of the family code all of them"
        if getattr(leaf, "spatial_context_anchor", None) is not None:
            yield f"anchors of slice {k} have a context of their own, which no model of the family has"
        if leaf.anchor_parity != "odd":
            yield f"anchors of slice {k} are at even sums of row and column, those of the family at odd ones"
        gaussian = leaf.latent_codec["y"]
        plain = type(gaussian) is GaussianConditionalLatentCodec and type(gaussian.entropy_parameters) is nn.Identity
        if not plain or tuple(gaussian.chunks) != ("scales", "means"):
            yield f"slice {k} is coded by a {type(gaussian).__name__} that is no plain one of scales and means"
        local, intra = leaf.spatial_context_nonanchor, getattr(leaf, "intra_channel_context_nonanchor", None)
        for name, module, attribute, expected in (
            ("local context", local, "num_heads", HEADS),
            ("intra context", intra, "num_heads", HEADS_INTRA),
            ("intra context", intra, "local_mask_radius", LOCAL_REACH),
            ("inter context", context.global_inter_part, "num_heads", k),
        ):
            if (found := getattr(module, attribute, expected)) != expected:
                yield f"the {name} of slice {k} has {attribute} = {found}, that of the family {expected}"


def _families(codec: Any) -> tuple[str, ...]:
    """Those that a latent codec may be of, by the contexts that it has.

    Raises:
        ValueError: none.
    """
    slices = _slices(codec)
    windows = {hasattr(leaf.spatial_context_nonanchor, "relative_position_table") for leaf, _ in slices}
    between = {context.global_inter_part is not None for _, context in slices[1:]} or windows
    if windows == between == {True}:
        return ("mlic++", "mlic+")
    if windows == between == {False}:
        return ("mlic",)
    raise ValueError("windows as local context and attention between slices do not come together, as in the family")


def _first_other(network: MLICPlusPlus, codec: Any) -> str:
    """The first module of a slice that does not compute what fastlic's does, on random latents; "" if all do."""
    random = torch.Generator().manual_seed(0)

    def latents(channels: int) -> Tensor:
        return 4 * torch.randn(1, channels, 12, 16, generator=random)

    hyper, decoded = latents(2 * network.M), [latents(network.slice_channels) for _ in codec.groups]
    for k, (leaf, context) in enumerate(_slices(codec)):
        past, current = network.past_contexts(k, decoded[:k]), anchors(decoded[k])
        near = network.near_contexts(k, decoded[:k], current)
        side = codec._get_ctx_params(k, hyper, decoded)
        local = leaf.spatial_context_nonanchor(current)
        found, expected = [("local context", local)], near[:1]
        given = [local, side]
        if k:
            joined = torch.cat(decoded[:k], 1)
            names = {"global_inter_part": "inter context", "channel_part": "channel context"}
            own = [(name, getattr(context, part)) for part, name in names.items()]
            found += [(name, module(joined)) for name, module in own if module is not None]
            given.append(leaf.intra_channel_context_nonanchor(side, current))
            found.append(("intra context", given[-1]))
            expected += [*past, near[1]]
        heads = (leaf.entropy_parameters_anchor, leaf.entropy_parameters_nonanchor)
        found += [("network of anchors' parameters", heads[0](side))]
        found += [("network of the others' parameters", heads[1](torch.cat(given, 1)))]
        expected.append(network.entropy_parameters_anchor[k](torch.cat([*past, hyper], 1)))
        expected.append(network.entropy_parameters_nonanchor[k](torch.cat([*near, *past, hyper], 1)))
        for (name, theirs), ours in zip(found, expected, strict=True):
            if theirs.shape != ours.shape or not (theirs - ours).abs().max() <= _CLOSE * ours.abs().max():
                return f"{name} of slice {k}"
    return ""
