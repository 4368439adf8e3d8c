"""Uneven channel groups, each a checkerboard, in loops of a fork's own: a re-implementation of ELIC and its like.

Recognised by names, then tried: the model codes a part of a photo, and what its decoder gets has to be what the reading
of it computes. The integers are those of CompressAI's ELIC models, on the board engine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.entropy.groups.convert import GroupNetworks, Networks, decoded
from fastlic.entropy.groups.model import Group
from fastlic.integrations.compressai.claims import in_words, whole_numbers
from fastlic.integrations.compressai.groups import GroupParts, _context, _plain_sequence, _scales_first
from fastlic.integrations.compressai.integers import _copy, _sequence, checked_coder
from fastlic.integrations.compressai.slices import same_latents, tried
from fastlic.integrations.compressai.snapshot import Named

_MODULES = ("g_a", "g_s", "h_a", "h_s", "entropy_bottleneck", "cc_transforms", "context_prediction", "ParamAggregation")
_PARITY = 0  # anchors are at even sums of row and column
_CHUNKS = ("means", "scales")


@dataclass(frozen=True)
class LoopedGroupParts(GroupParts):
    """The entropy path of such a model, which is ``codec``."""

    @property
    def modules(self) -> list[nn.Module]:
        own = self.codec
        return [self.h_a, self.h_s, self.bottleneck, own.cc_transforms, own.context_prediction, own.ParamAggregation]

    @property
    def named(self) -> Named:
        names = ("h_a", "h_s", "entropy_bottleneck", *_MODULES[-3:])
        return list(zip(names, self.modules, strict=True))

    def group_networks(self) -> Networks:
        """Copies on the CPU in float32, as conversion takes them.

        Raises:
            ValueError: a part is of a kind that has no integer form.
        """
        h_a, h_s = _copy(self.h_a, "h_a"), _sequence(self.h_s, "h_s")
        groups = [self._group(k, channels) for k, channels in enumerate(_sizes(self.codec))]
        return Networks(_plain_sequence(self.h_a) or h_a, h_s, self.density(), groups)

    def _group(self, k: int, channels: int) -> GroupNetworks:
        own = self.codec
        reads = () if k == 0 else (0,) if k == 1 else (0, k - 1)
        channel = _sequence(own.cc_transforms[k - 1], f"cc_transforms.{k - 1}") if k else None
        context = _context(own.context_prediction[k], channels)
        parameters = _sequence(own.ParamAggregation[k], f"ParamAggregation.{k}")
        parameters = _scales_first(parameters, _CHUNKS, channels)
        return GroupNetworks(Group(channels, _PARITY, reads), channel, context, parameters)


def _sizes(model: Any) -> list[int]:
    """Channels of each group; the model's list begins with a 0."""
    return list(model.groups[1:])


def looks_grouped(model: Any) -> bool:
    """Whether a module has the attributes of such a model."""
    if not all(isinstance(getattr(model, name, None), nn.Module) for name in _MODULES):
        return False
    groups = getattr(model, "groups", None)
    lists = [getattr(model, name) for name in _MODULES[-3:]]
    if not isinstance(groups, (list, tuple)) or not all(isinstance(own, nn.ModuleList) for own in lists):
        return False
    count = len(groups) - 1
    return count > 0 and groups[0] == 0 and [len(own) for own in lists] == [count - 1, count, count]


def looped_group_parts(model: Any) -> LoopedGroupParts:
    """The entropy path of a model that ``looks_grouped``."""
    return LoopedGroupParts(model.h_a, model.h_s, model.entropy_bottleneck, codec=model)


@torch.no_grad()
def check_grouped_loop(model: Any) -> None:
    """Raise ValueError unless the model's own ``compress`` and ``decompress`` do what the reading of it does."""
    twin: Any = _copy(model)
    networks = looped_group_parts(twin).group_networks()
    trial = tried(twin, ("time",))
    nested = trial.coded["strings"][0]
    if not isinstance(nested, (list, tuple)) or [len(group) for group in nested] != [2] * len(_sizes(twin)):
        raise ValueError("its strings are not two for each group")
    if not same_latents(decoded(networks, trial.y), trial.latent):
        raise ValueError("its loop over the groups computes something else than the usual one")


class IntegerLoopedGroups:
    """``compress`` and ``decompress`` of such a model.

    As the fork they tell seconds under "time": ``y_enc`` and ``y_dec`` are those of g_a and g_s, ``params`` those of
    all entropy coding, hyper networks included.
    """

    @in_words
    def compress(self, x: Tensor) -> dict[str, Any]:
        model: Any = self
        coder, _ = checked_coder(model, looped_group_parts)
        start = time.perf_counter()
        y = model.g_a(x)
        middle = time.perf_counter()
        strings, _, size = coder.encode_passes(y, model.h_a)
        *passes, z_strings = strings
        spent = {"y_enc": middle - start, "z_enc": 0.0, "z_dec": 0.0, "params": time.perf_counter() - middle}
        nested = [list(pair) for pair in zip(passes[::2], passes[1::2], strict=True)]
        return {"strings": [nested, z_strings], "shape": size, "time": spent}

    @in_words
    def decompress(self, strings: Any, shape: Any) -> dict[str, Any]:
        model: Any = self
        coder, _ = checked_coder(model, looped_group_parts)
        rows, columns = whole_numbers(shape)
        y_hat = coder.decode_passes([*_passes(strings, len(_sizes(model))), strings[1]], rows, columns)
        like = next(model.g_s.parameters())
        start = time.perf_counter()
        x_hat = model.g_s(y_hat.to(like.device, like.dtype)).clamp_(0, 1)
        return {"x_hat": x_hat, "time": {"y_dec": time.perf_counter() - start}}


def _passes(strings: Any, groups: int) -> list[Sequence[bytes]]:
    """The strings of each pass, in order. Raises ValueError for anything but pairs of lists and z's."""
    pair = isinstance(strings, (list, tuple)) and len(strings) == 2 and isinstance(strings[0], (list, tuple))
    if not pair or any(not isinstance(group, (list, tuple)) or len(group) != 2 for group in strings[0]):
        raise ValueError("strings must be [a pair of lists of bytes for each group, a list of bytes for z]")
    if len(strings[0]) != groups:
        raise ValueError(f"strings must be of {groups} groups, got {len(strings[0])}")
    return [part for group in strings[0] for part in group]
