"""Models that code their latent slice by slice of its channels: WACNN, TCM and their kind, forks and CompressAI's own.

Forks share no class, but names of attributes and what their loops compute; CompressAI's main branch has the same
networks in latent codecs. Either is recognised by its names, and then tried: it codes a part of a photo, and what its
decoder gets has to be what the reading of it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.codec.calibration import default_calibration
from fastlic.entropy.channel_slices.convert import SliceNetworks, convert_slices
from fastlic.entropy.channel_slices.model import FEATURES, IntegerChannelSlices, Slice
from fastlic.integers.graph import Graph
from fastlic.integrations.compressai import traces  # noqa: F401  (adds CompressAI's layers to the table)
from fastlic.integrations.compressai.dictionaries import Looked, reads_dictionary
from fastlic.integrations.compressai.groups import context_reads, params_of
from fastlic.integrations.compressai.integers import Parts, _copy
from fastlic.integrations.compressai.layout import hyper_branch
from fastlic.integrations.compressai.snapshot import Named
from fastlic.integrations.compressai.stages import analysis_of, synthesis_of, watch_synthesis
from fastlic.integrations.compressai.theirs import ChannelGroupsLatentCodec

# Names by what they are of; a list of one network for each slice, but for the first four.
_NAMES = {
    "h_a": ("h_a",),
    "hyper.mean": ("h_mean_s",),
    "hyper.scale": ("h_scale_s",),
    "bottleneck": ("entropy_bottleneck", "z_entropy_bottleneck"),
    "mean": ("cc_mean_transforms", "mean_cc_transforms"),
    "scale": ("cc_scale_transforms", "scale_cc_transforms"),
    "residue": ("lrp_transforms",),
    "mean_support": ("atten_mean", "mean_NAF_transforms"),
    "scale_support": ("atten_scale", "scale_NAF_transforms"),
}
_OPTIONAL = ("residue", "mean_support", "scale_support")
# Sides that all of these models take: windows of eight positions stand on maps of an eighth, of four on hyper latents.
STRIDE = 256


@dataclass(frozen=True)
class SliceParts(Parts):
    """The entropy path of such a model.

    Attributes:
        roles: networks, or lists of them, by what they are of.
        labels: what the model calls them, where it has one name for them.
        read: gives of each slice the earlier ones whose latents its networks read.
        supported: whether residues read what support networks make, or what these read.
    """

    roles: Any = None
    labels: Any = None
    read: Any = None
    supported: bool = True

    @property
    def reads(self) -> tuple[tuple[int, ...], ...]:
        out: tuple[tuple[int, ...], ...] = self.read()
        return out

    @property
    def count(self) -> int:
        """How many slices there are."""
        return len(self.roles["mean"])

    @property
    def modules(self) -> list[nn.Module]:
        return [module for name, module in self.roles.items() if name != "h_a"]

    @property
    def named(self) -> Named:
        labels = self.labels or {}
        return [(labels.get(role, role), module) for role, module in self.roles.items() if role != "h_a"]

    @property
    def kind(self) -> Any:
        return IntegerChannelSlices

    def convert(self, latents: Sequence[Tensor]) -> IntegerChannelSlices:
        return convert_slices(self.slice_networks(), latents)

    def slice_networks(self) -> SliceNetworks:
        """Graphs of copies on the CPU in float32, as conversion takes them.

        Raises:
            ValueError: a part is of a kind that has no integer form.
        """
        graphs: dict[str, Graph] = {}
        for name, module in self.roles.items():
            if name.startswith("hyper."):
                graphs[name] = Graph.of(_copy(module), name)
            elif name not in ("h_a", "bottleneck"):
                graphs |= {f"{name}.{k}": Graph.of(_copy(own), f"{name}.{k}") for k, own in enumerate(module)}
        counts = [
            graphs[f"mean.{k}"].channels(len(graphs[f"mean.{k}"].operations)) for k in range(len(self.roles["mean"]))
        ]
        if None in counts:
            raise ValueError("the mean of a slice comes from no layer")
        slices = tuple(Slice(count or 0, reads) for count, reads in zip(counts, self.reads, strict=True))
        return SliceNetworks(_copy(self.h_a), self.density(), slices, graphs, self.supported)


def looks_sliced(model: Any) -> bool:
    """Whether a module has the attributes of such a model."""
    return all(_found(model, names) for role, names in _NAMES.items() if role not in _OPTIONAL)


def _found(model: Any, names: Sequence[str]) -> str:
    """The first of these names that a module has; "" if there is none."""
    return next((name for name in names if isinstance(getattr(model, name, None), nn.Module)), "")


def slice_parts(model: Any) -> SliceParts:
    """The entropy path of a model that ``looks_sliced``.

    Raises:
        ValueError: its lists are not of one length.
    """
    labels = {role: own for role, names in _NAMES.items() if (own := _found(model, names))}
    roles = {role: getattr(model, own) for role, own in labels.items()}
    lists = [module for name, module in roles.items() if isinstance(module, nn.ModuleList)]
    count = len(roles["mean"]) if isinstance(roles["mean"], nn.ModuleList) else 0
    if not count or any(len(own) != count for own in lists):
        raise ValueError("its slices have not one network each")
    most = getattr(model, "max_support_slices", -1)
    most = count if not isinstance(most, int) or most < 0 else most
    return SliceParts(
        roles["h_a"],
        None,
        roles["bottleneck"],
        roles=roles,
        labels=labels,
        read=lambda: tuple(tuple(range(min(k, most))) for k in range(count)),
        stride=STRIDE,
    )


# ---- CompressAI's main branch: channel groups of one network for means, one for scales, and residues

_HEAD = ("mean_cc", "scale_cc", "mean_support_transform", "scale_support_transform", "emit_mean_support", "side_split")


def codes_slices(codec: Any) -> bool:
    """Whether a latent codec of y is such channel groups: their contexts read the hyper latent's features, too."""
    if not isinstance(codec, ChannelGroupsLatentCodec):
        return False
    heads = list(getattr(codec, "channel_context", {}).values())
    if len(heads) != len(codec.groups):
        return False
    return all(map(reads_dictionary, heads)) or all(hasattr(head, name) for head in heads for name in _HEAD)


def codec_slice_parts(codec: Any) -> SliceParts:
    """The entropy path of a HyperpriorLatentCodec around channel groups that ``codes_slices``.

    Raises:
        ValueError: it is built in a way that this path does not know.
    """
    branch, y = hyper_branch(codec), codec.latent_codec["y"]
    heads = [y.channel_context[f"y{k}"] for k in range(len(y.groups))]
    leaves = [y.latent_codec[f"y{k}"] for k in range(len(y.groups))]
    means, scales = (getattr(branch.h_s, name, None) for name in ("h_mean_s", "h_scale_s"))
    if not isinstance(means, nn.Module) or not isinstance(scales, nn.Module):
        raise ValueError(f"its hyper synthesis is a {type(branch.h_s).__name__}, not one for means and one for scales")
    residues = [getattr(leaf, "lrp_transform", None) for leaf in leaves]
    if any(not isinstance(own, nn.Module) or leaf.lrp_scale != 0.5 for own, leaf in zip(residues, leaves, strict=True)):
        raise ValueError("its slices have no residues of half a tanh")
    roles: dict[str, Any] = {"h_a": branch.h_a, "hyper.mean": means, "hyper.scale": scales}
    roles |= {"bottleneck": branch.bottleneck, "mean": [head.mean_cc for head in heads]}
    roles |= {"scale": [head.scale_cc for head in heads], "residue": residues}
    shared = reads_dictionary(heads[0])
    if shared:
        roles["shared"] = [Looked(head.cross_attention, head._dictionary_provider) for head in heads]
    for name in () if shared else FEATURES:
        supports = [getattr(head, f"{name}_support_transform") for head in heads]
        if not all(isinstance(own, nn.Identity) for own in supports):
            roles[f"{name}_support"] = supports
    features = 2 * sum(y.groups)
    return SliceParts(
        branch.h_a,
        None,
        branch.bottleneck,
        roles={name: own if isinstance(own, nn.Module) else nn.ModuleList(own) for name, own in roles.items()},
        read=lambda: tuple(_groups_read(y, k, features) for k in range(len(heads))),
        supported=heads[0].emit_mean_support != "pre" and heads[0].emit_mean_support is not True,
        stride=STRIDE,
    )


def _groups_read(y: Any, k: int, features: int) -> tuple[int, ...]:
    """Earlier groups that group ``k`` reads, tried out."""
    chosen = context_reads(y, k, features)
    if chosen[:features] != list(range(features)) or params_of(y, k, 1, features) != [0]:
        raise ValueError("a slice's context does not begin with the features of the hyper latent")
    rest, reads = [c - features for c in chosen[features:]], []
    starts = list(accumulate(y.groups, initial=0))
    while rest:
        i = starts.index(rest[0]) if rest[0] in starts else len(starts)
        if i >= k or rest[: y.groups[i]] != list(range(starts[i], starts[i + 1])):
            raise ValueError("a slice reads parts of an earlier one")
        reads.append(i)
        rest = rest[y.groups[i] :]
    return tuple(reads)


# ---- trials


def same_latents(found: Tensor, expected: Tensor) -> bool:
    """Whether two latents are one but for halves, which may fall to either side and move what follows."""
    return found.shape == expected.shape and float(((found - expected).abs() > 1e-2).float().mean()) <= 0.01


FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)


def _photo() -> Tensor:
    """A part of the demonstration photo, [1, 3, STRIDE, STRIDE]."""
    return default_calibration()[0][None, :, :STRIDE, :STRIDE].float()


@torch.no_grad()
def check_codec(codec: Any, analysis: nn.Module) -> None:
    """Raise ValueError unless the latent codec's own ``compress`` does what the reading of it does."""
    twin: Any = _copy(codec)
    networks = codec_slice_parts(twin).slice_networks()

    def decoded(y: Tensor) -> Tensor:
        return networks.decoded(y, lambda name, given: networks.graphs[name].run(given))

    check_coded(twin, analysis, decoded)


def check_coded(twin: Any, analysis: nn.Module, decoded: Callable[[Tensor], Tensor]) -> None:
    """Raise ValueError unless a latent codec's ``compress`` makes of a photo what ``decoded`` makes of its latent."""
    y = _copy(analysis)(_photo())
    try:
        expected = twin.compress(y)["y_hat"]
    except FAILURES as error:
        raise ValueError(f"its own compress does not run on a latent of {list(y.shape)}: {error}") from error
    if not same_latents(decoded(y), expected):
        raise ValueError("its slices are coded in another way than the usual one")


@torch.no_grad()
def check_stages(model: Any, h_a: nn.Module) -> None:
    """Raise ValueError unless stages, run one by one, give what the model hands to this hyper analysis of its own."""
    twin: Any = _copy(model)
    seen: list[Tensor] = []
    (name,) = (name for name, module in model.named_modules() if module is h_a)
    hook = twin.get_submodule(name).register_forward_pre_hook(lambda own, given: seen.append(given[0]))
    try:
        twin.compress(_photo())
        found = analysis_of(twin)(_photo())
    except FAILURES as error:
        raise ValueError(f"its stages do not run on a photo: {error}") from error
    finally:
        hook.remove()
    if len(seen) != 1 or not torch.equal(found, seen[0]):
        raise ValueError("its stages are called in another way than the usual one")


class Trial(NamedTuple):
    """What a model with a loop of its own makes of a part of the demonstration photo.

    Attributes:
        coded: by its own ``compress``.
        y: [1, M, h, w], by its analysis transform.
        latent: of the same shape, what its ``decompress`` synthesises.
    """

    coded: dict[str, Any]
    y: Tensor
    latent: Tensor


def tried(twin: Any, extra: Sequence[str] = ()) -> Trial:
    """A copy of such a model, tried out.

    Args:
        extra: what its results may have beside "strings" and "shape", and "x_hat".

    Raises:
        ValueError: it does not run, gives more, or does more to the picture than its synthesis transform.
    """
    analysis, synthesis = analysis_of(twin), synthesis_of(twin)
    if analysis is None or synthesis is None:
        raise ValueError("it has neither g_a and g_s nor stages of the usual names")
    x = _photo()
    seen: list[Tensor] = []
    hook = watch_synthesis(twin, seen.append)
    try:
        coded = twin.compress(x)
        decoded = twin.decompress(coded["strings"], coded["shape"])
        y, picture = analysis(x), synthesis(seen[0])
    except FAILURES as error:
        raise ValueError(f"its own compress and decompress do not run on {list(x.shape)}: {error}") from error
    finally:
        hook.remove()
    more = set(coded) - {"strings", "shape", *extra} | set(decoded) - {"x_hat", *extra}
    if more or len(coded["strings"]) != 2 or len(seen) != 2:  # by itself, and here
        raise ValueError("its compress and decompress give more than strings, a shape and a picture")
    if not torch.equal(decoded["x_hat"], picture.clamp(0, 1)):
        raise ValueError("its decompress does more than to run its synthesis on the latent")
    return Trial(coded, y, seen[0])


@torch.no_grad()
def check_loop(model: Any) -> None:
    """Raise ValueError unless the model's own ``compress`` and ``decompress`` do what the reading of it does."""
    twin: Any = _copy(model)
    networks = slice_parts(twin).slice_networks()
    trial = tried(twin)
    found = networks.decoded(trial.y, lambda name, given: networks.graphs[name].run(given))
    if not same_latents(found, trial.latent):
        raise ValueError("its loop over the slices computes something else than the usual one")
