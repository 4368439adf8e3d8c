"""CompressAI's checkerboards and channel groups on the integer path: conversion, and coding through their engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FunctionType, MethodType
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from fastlic import config
from fastlic.codec import drivers
from fastlic.entropy.groups.convert import GroupNetworks, Networks, convert_groups
from fastlic.entropy.groups.model import Group, IntegerGroups
from fastlic.entropy.passes import Latents
from fastlic.integers.fixed import MEAN_BITS
from fastlic.integrations.compressai import native_stream
from fastlic.integrations.compressai.claims import hyper_shape, lists_of_strings
from fastlic.integrations.compressai.integers import (
    IMAGE_STRIDE,
    IntegerCoder,
    Parts,
    _sequence,
    check_sizes,
    checked_coder,
)
from fastlic.integrations.compressai.layout import (
    expected_shape,
    hyper_branch,
    hyper_key,
    shapes_name_channels,
)
from fastlic.integrations.compressai.tables import LoadsTables
from fastlic.integrations.compressai.theirs import (
    ChannelGroupsLatentCodec,
    CheckerboardLatentCodec,
    GaussianConditionalLatentCodec,
)
from fastlic.ops.latents import HYPER_STRIDE, Target

_PARITY = {"even": 0, "odd": 1}


@dataclass(frozen=True)
class GroupParts(Parts):
    """The entropy path of a HyperpriorLatentCodec around a checkerboard or channel groups, ``codec``."""

    codec: Any = None

    @property
    def modules(self) -> list[nn.Module]:
        return [self.h_a, self.h_s, self.bottleneck, self.codec]

    @property
    def kind(self) -> Any:
        return IntegerGroups

    def convert(self, latents: Sequence[Tensor]) -> IntegerGroups:
        return convert_groups(self.group_networks(), latents)

    def group_networks(self) -> Networks:
        """Copies on the CPU in float32, as conversion takes them.

        Raises:
            ValueError: a part is of a kind that has no integer form.
        """
        common = replace(self, codec=None).networks()
        features = _outputs(common.h_s)
        if isinstance(self.codec, ChannelGroupsLatentCodec):
            groups = _channel_groups(self.codec, features)
        else:
            group = Group(_latent_channels(self.codec), None)
            groups = [_group(self.codec, None, group, features, range(features))]
        return Networks(_plain_sequence(self.h_a) or common.hyper_analysis, common.h_s, common.bottleneck, groups)


def group_parts(codec: Any) -> GroupParts:
    """The entropy path of a HyperpriorLatentCodec.

    Raises:
        ValueError: it is built in a way that this path does not know.
    """
    return GroupParts(*hyper_branch(codec), codec=codec.latent_codec["y"])


def serves(codec: Any) -> bool:
    """Whether this path is for the latent codec of y."""
    return type(codec) in (CheckerboardLatentCodec, ChannelGroupsLatentCodec)


# ---- reading CompressAI's modules


def _merged(merge: Callable[..., Tensor], sizes: Sequence[int], name: str) -> list[int]:
    """Which of its inputs' channels each output of a merge is, counted through.

    Models replace these methods (ELIC's second variant does), so what they do is tried out.

    Raises:
        ValueError: it does something else than to choose and order channels.
    """
    total = sum(sizes)
    first = torch.arange(1.0, total + 1)
    second = torch.cat([torch.arange(2.0, total + 1), torch.ones(1)]) * 3 + 0.25
    try:
        outputs = [
            merge(*(part.reshape(1, -1, 1, 1).expand(1, -1, 4, 4) for part in values.split(list(sizes))))
            for values in (first, second)
        ]
        chosen = outputs[0][0, :, 0, 0].long() - 1
        fits = torch.equal(outputs[0][0, :, 0, 0], first[chosen]) and torch.equal(
            outputs[1][0, :, 0, 0], second[chosen]
        )
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{name} cannot be tried out: {error}") from error
    if not fits:
        raise ValueError(f"{name} does more than to concatenate")
    return [int(c) for c in chosen]


def _reordered(network: nn.Sequential, chosen: Sequence[int], inputs: int, name: str) -> nn.Sequential:
    """The network as it reads all ``inputs`` channels in their order, of which it got those ``chosen``."""
    first = next((m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))), None)
    if first is None or first.in_channels != len(chosen) or first.groups != 1:
        raise ValueError(f"{name} does not begin with a convolution of {len(chosen)} channels")
    if list(chosen) == list(range(inputs)):
        return network
    dim = 1 if isinstance(first, nn.Conv2d) else 0
    shape = list(first.weight.shape)
    shape[dim] = inputs
    weight = torch.zeros(shape).index_add_(dim, torch.tensor(chosen), first.weight.detach())
    first.weight, first.in_channels = nn.Parameter(weight), inputs
    return network


class _StandIn:
    """Channel groups with other channel contexts, for their methods to be tried out on."""

    def __init__(self, codec: Any, channel_context: Any) -> None:
        self.__dict__.update(_codec=codec, channel_context=channel_context)

    def __getattr__(self, name: str) -> Any:
        own = None if name in vars(self._codec) else getattr(type(self._codec), name, None)
        return MethodType(own, self) if isinstance(own, FunctionType) else getattr(self._codec, name)


def context_reads(codec: Any, k: int, features: int) -> list[int]:
    """Which channels of (hyper parameters, earlier groups), in that order, the channel context of group ``k`` reads.

    Main-branch models choose earlier groups (``support_slices``), or have the hyper parameters among them.

    Raises:
        ValueError: it has none, or does more than to choose and order channels.
    """
    seen: list[Tensor] = []

    def read(*parts: Tensor) -> Tensor:
        seen.clear()
        side, *earlier = parts

        def context(x: Tensor) -> Tensor:
            seen.append(x)
            return x

        later = [None] * (len(codec.groups) - k)
        _StandIn(codec, {f"y{k}": context})._get_ctx_params(k, side, [*earlier, *later])
        (x,) = seen
        return x

    return _merged(read, [features, *codec.groups[:k]], f"the channel context of group {k}")


def params_of(codec: Any, k: int, made: int, features: int) -> list[int]:
    """Which channels of (what its channel context made, hyper parameters, earlier groups) the codec of group k gets.

    Raises:
        ValueError: it gets something else; or a context is asked for and ``made`` is 0.
    """

    def merge(*parts: Tensor) -> Tensor:
        own, side, *earlier = parts if made else (None, *parts)

        def context(_x: Tensor) -> Any:
            if own is None:
                raise ValueError("a network makes them, which reads the hyper latent's parameters too")
            return own

        later = [None] * (len(codec.groups) - k)
        out: Tensor = _StandIn(codec, {f"y{k}": context})._get_ctx_params(k, side, [*earlier, *later])
        return out

    sizes = [features, *codec.groups[:k]]
    return _merged(merge, [made, *sizes] if made else sizes, f"the parameters of group {k}")


def _channel_groups(codec: Any, features: int) -> list[GroupNetworks]:
    _check_own(codec, ("compress", "decompress", "_get_ctx_params"))
    out: list[GroupNetworks] = []
    sizes = list(codec.groups)
    for k, channels in enumerate(sizes):
        own = codec.latent_codec[f"y{k}"]
        if k == 0:
            out.append(_group(own, None, Group(channels, None), features, params_of(codec, 0, 0, features)))
            continue
        name = f"channel_context of group {k}"
        chosen = [c - features for c in context_reads(codec, k, features)]
        if min(chosen, default=0) < 0:
            raise ValueError(f"{name} reads the hyper latent's parameters too")
        owners = [i for i, size in enumerate(sizes[:k]) for _ in range(size)]
        reads = tuple(sorted({owners[c] for c in chosen}))
        kept = [c for c, owner in enumerate(owners) if owner in reads]
        place = {c: i for i, c in enumerate(kept)}
        network = _sequence(codec.channel_context[f"y{k}"], name)
        network = _reordered(network, [place[c] for c in chosen], len(kept), name)
        made = _outputs(network)
        params = params_of(codec, k, made, features)
        if max(params, default=0) >= made + features:
            raise ValueError(f"the parameters of group {k} are earlier groups themselves, too")
        out.append(_group(own, network, Group(channels, None, reads), features, params))
    return out


def _group(
    codec: Any, channel: nn.Sequential | None, group: Group, features: int, params: Sequence[int]
) -> GroupNetworks:
    """One group's codec: a checkerboard, or a Gaussian codec that codes all positions at once.

    Args:
        params: which channels of (channel context, hyper parameters) it gets.
    """
    known = [features] if channel is None else [_outputs(channel), features]
    if type(codec) is CheckerboardLatentCodec:
        _check_own(codec, ("compress", "decompress", "embed", "unembed", "_mask_all"))
        context = _context(codec.context_prediction, group.channels)
        joined = _merged(codec.merge, [context.out_channels, len(params)], "merge")
        # Channels of [context, channel, hyper], through both merges.
        chosen = [
            c if c < context.out_channels else context.out_channels + params[c - context.out_channels] for c in joined
        ]
        networks = [_sequence(codec.entropy_parameters, "entropy_parameters")]
        gaussian = codec.latent_codec["y"]
        group = replace(group, parity=_PARITY[codec.anchor_parity])
    else:
        context, chosen, networks, gaussian = None, list(params), [], codec
    if type(gaussian) is not GaussianConditionalLatentCodec:
        raise ValueError(f"a {type(gaussian).__name__} codes a group")
    _check_own(gaussian, ("compress", "decompress", "_chunk"))
    if not isinstance(gaussian.entropy_parameters, nn.Identity):
        networks.append(_sequence(gaussian.entropy_parameters, "entropy_parameters"))
    if not networks:
        raise ValueError("a group's parameters come from no network of its own")
    inputs = sum(known) + (context.out_channels if context is not None else 0)
    parameters = _reordered(nn.Sequential(*networks), chosen, inputs, "entropy_parameters")
    return GroupNetworks(group, channel, context, _scales_first(parameters, gaussian.chunks, group.channels))


def _plain_sequence(module: nn.Module) -> nn.Sequential | None:
    try:
        return _sequence(module, "h_a")
    except ValueError:
        return None


def _check_own(codec: Any, methods: tuple[str, ...]) -> None:
    if own := sorted(set(methods) & set(vars(codec))):
        raise ValueError(f"a {type(codec).__name__} has its own {', '.join(own)}")


def _latent_channels(codec: Any) -> int:
    return int(codec.context_prediction.in_channels)


def _outputs(network: nn.Sequential) -> int:
    """Channels that come out of a network."""
    count = 0
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            count = module.out_channels
        elif isinstance(module, nn.PixelShuffle):
            count //= module.upscale_factor**2
    return count


def _context(conv: Any, channels: int) -> nn.Conv2d:
    """A checkerboard's convolution without its mask; taps between positions of one colour never count."""
    if not isinstance(conv, nn.Conv2d) or conv.in_channels != channels:
        raise ValueError(f"the context is no convolution of {channels} channels: {conv}")
    rows, columns = conv.kernel_size
    odd = (torch.arange(rows)[:, None] + torch.arange(columns) + rows // 2 + columns // 2) % 2
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (rows, columns),
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        dilation=conv.dilation,  # type: ignore[arg-type]
        groups=conv.groups,
        padding_mode=conv.padding_mode,
    )
    mask = getattr(conv, "mask", torch.ones_like(conv.weight))
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    plain.weight = nn.Parameter((conv.weight * mask).detach().float().cpu() * odd)
    plain.bias = nn.Parameter(bias.detach().float().cpu().clone())
    return plain


def _scales_first(network: nn.Sequential, chunks: tuple[str, ...], channels: int) -> nn.Sequential:
    """The network with its outputs in the order (scales, means)."""
    if sorted(chunks) != ["means", "scales"]:
        raise ValueError(f"its parameters come as {', '.join(chunks)}")
    last = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))][-1]
    if _outputs(network) != 2 * channels or last.out_channels != 2 * channels:
        raise ValueError(f"entropy_parameters ends with {last.out_channels} channels, not {2 * channels}")
    if chunks[0] == "means":
        last = _turned(last, channels)
    return network


def _turned(conv: Any, channels: int) -> Any:
    dim = 1 if isinstance(conv, nn.ConvTranspose2d) else 0
    conv.weight = nn.Parameter(conv.weight.detach().roll(channels, dim))
    if conv.bias is not None:
        conv.bias = nn.Parameter(conv.bias.detach().roll(channels, 0))
    return conv


# ---- coding


@dataclass
class GroupsCoder(IntegerCoder):
    """The converted entropy path of one such model, and who codes with it."""

    integers: IntegerGroups  # type: ignore[assignment]

    def encode_passes(self, y: Tensor, h_a: Any) -> tuple[list[list[bytes]], Tensor, torch.Size]:
        """y [B, M, h, w], before rounding, to (strings of each pass and of z, y_hat, size of z).

        Args:
            h_a: makes z of y where the integers do not.
        """
        if self.integers.analyses and all(n % HYPER_STRIDE == 0 for n in y.shape[2:]):
            maps = list(self._given(y))
            targets = drivers.analyse_many(self.integers, maps, self.settings.backend, self.settings.threads)
            return self._encoded(y, targets, torch.Size(n // HYPER_STRIDE for n in y.shape[2:]))
        z = h_a(y)
        check_sizes(y, z)
        return self._encoded(y, list(map(Target, self._given(z), self._given(y))), z.shape[2:])

    def _encoded(
        self, y: Tensor, targets: list[Target], size: torch.Size
    ) -> tuple[list[list[bytes]], Tensor, torch.Size]:
        coded = drivers.encode_many(self.integers, targets, self.settings.backend, self.settings.threads)
        order = [*range(1, 1 + self.integers.passes), 0]
        strings = [[native_stream.wrap(sections[i], self._check) for sections, _ in coded] for i in order]
        return strings, _floats([latents for _, latents in coded], y), size

    def decode_passes(self, strings: Sequence[Sequence[bytes]], rows: int, columns: int) -> Tensor:
        """y_hat [B, M, 4 rows, 4 columns] float32, as of ``decode``; rows and columns are z's."""
        *passes, z = strings
        if len(passes) != self.integers.passes or any(len(part) != len(z) for part in passes):
            raise ValueError(
                f"strings must be {self.integers.passes} lists of bytes for y and one for z, a string of each for "
                f"every image; got {[len(part) for part in strings]}"
            )
        config.check_pixels(rows * IMAGE_STRIDE, columns * IMAGE_STRIDE)
        height, width = HYPER_STRIDE * rows, HYPER_STRIDE * columns
        streams = [
            ([native_stream.unwrap(item, self._check, self._mismatch) for item in image], height, width)
            for image in zip(z, *passes, strict=True)
        ]
        decoded = drivers.decode_many(self.integers, streams, self.settings.backend, self.settings.threads)
        return _floats(decoded, torch.empty(0, self.integers.latent_channels, height, width))


def _floats(decoded: Sequence[Latents], like: Tensor) -> Tensor:
    """y_hat float32 [B, M, h, w], channels-last as the engine leaves it."""
    if not decoded:
        return torch.empty(0, *like.shape[1:])
    maps = [item.y.float().mul_(2.0**-MEAN_BITS) for item in decoded]
    return maps[0][None] if len(maps) == 1 else torch.stack(maps)


class IntegerGroupsHyperprior(LoadsTables):
    """``compress`` and ``decompress`` of HyperpriorLatentCodec around a checkerboard or channel groups."""

    def compress(self, y: Tensor) -> dict[str, Any]:
        codec: Any = self
        coder, parts = checked_coder(codec, group_parts)
        strings, y_hat, size = coder.encode_passes(y, parts.h_a)
        shape = {
            "y": _shape(coder.integers, parts.codec, y),
            hyper_key(codec): expected_shape(parts.bottleneck.channels, size),
        }
        return {"strings": strings, "shape": shape, "y_hat": y_hat.to(y.device, y.dtype)}

    def decompress(self, strings: Any, shape: Any, **kwargs: Any) -> dict[str, Tensor]:
        coder, parts = checked_coder(self, group_parts)
        rows, columns = hyper_shape(self, shape)
        lists_of_strings(strings)
        y_hat = coder.decode_passes(strings, rows, columns)
        like = next(parts.h_s.parameters())
        return {"y_hat": y_hat.to(like.device, like.dtype)}


def _shape(integers: IntegerGroups, codec: Any, y: Tensor) -> Any:
    """What CompressAI's codecs tell of y."""
    if shapes_name_channels():
        return y.shape[1:]
    size = y.shape[2:4]
    shapes = [size if group.parity is None else torch.Size([group.channels, *size]) for group in integers.groups]
    return shapes if isinstance(codec, ChannelGroupsLatentCodec) else shapes[0]
