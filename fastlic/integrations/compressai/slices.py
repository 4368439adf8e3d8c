"""Models that code their latent slice by slice of its channels in loops of their own: WACNN, STF, TCM and their kind.

They share no class, but names of attributes and what their loops compute. A model is recognised by its names, and then
tried: it codes a part of a photo, and what its decoder gets has to be what the reading of it computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.codec.calibration import default_calibration
from fastlic.entropy.channel_slices.convert import SliceNetworks, convert_slices
from fastlic.entropy.channel_slices.model import IntegerChannelSlices, Slice
from fastlic.integers.graph import Graph
from fastlic.integrations.compressai import traces  # noqa: F401  (adds CompressAI's layers to the table)
from fastlic.integrations.compressai.integers import Parts, _copy

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
# Height and width of the photo's part that is coded to try a reading out.
_TRIAL = 256


@dataclass(frozen=True)
class SliceParts(Parts):
    """The entropy path of such a model.

    Attributes:
        named: networks, or lists of them, by what they are of.
        reads: of each slice the earlier ones whose latents its networks read.
    """

    named: Any = None
    reads: tuple[tuple[int, ...], ...] = ()

    @property
    def modules(self) -> list[nn.Module]:
        return [module for name, module in self.named.items() if name != "h_a"]

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
        for name, module in self.named.items():
            if name.startswith("hyper."):
                graphs[name] = Graph.of(_copy(module), name)
            elif name not in ("h_a", "bottleneck"):
                graphs |= {f"{name}.{k}": Graph.of(_copy(own), f"{name}.{k}") for k, own in enumerate(module)}
        counts = [graphs[f"mean.{k}"].channels(len(graphs[f"mean.{k}"].operations)) for k in range(len(self.reads))]
        if None in counts:
            raise ValueError("the mean of a slice comes from no layer")
        slices = tuple(Slice(count or 0, reads) for count, reads in zip(counts, self.reads, strict=True))
        bottleneck = self.density()
        return SliceNetworks(_copy(self.h_a), bottleneck, slices, graphs)


def looks_sliced(model: Any) -> bool:
    """Whether a module has the attributes of such a model."""
    return all(_found(model, names) is not None for name, names in _NAMES.items() if name not in _OPTIONAL)


def _found(model: Any, names: Sequence[str]) -> Any:
    own = (getattr(model, name, None) for name in names)
    return next((module for module in own if isinstance(module, nn.Module)), None)


def slice_parts(model: Any) -> SliceParts:
    """The entropy path of a model that ``looks_sliced``.

    Raises:
        ValueError: its lists are not of one length.
    """
    named = {name: module for name, names in _NAMES.items() if (module := _found(model, names)) is not None}
    lists = [module for name, module in named.items() if isinstance(module, nn.ModuleList)]
    count = len(named["mean"]) if isinstance(named["mean"], nn.ModuleList) else 0
    if not count or any(len(own) != count for own in lists):
        raise ValueError("its slices have not one network each")
    most = getattr(model, "max_support_slices", -1)
    most = count if not isinstance(most, int) or most < 0 else most
    reads = tuple(tuple(range(min(k, most))) for k in range(count))
    return SliceParts(named["h_a"], None, named["bottleneck"], named=named, reads=reads)


@torch.no_grad()
def check_loop(model: Any, parts: SliceParts) -> None:
    """Raise ValueError unless the model's own ``compress`` and ``decompress`` do what the reading of it does."""
    twin: Any = _copy(model)
    own = slice_parts(twin)
    networks = own.slice_networks()
    x = default_calibration()[0][None, :, :_TRIAL, :_TRIAL].float()
    seen: list[Tensor] = []
    hook = twin.g_s.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    try:
        coded = twin.compress(x)
        decoded = twin.decompress(coded["strings"], coded["shape"])
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"its own compress and decompress do not run on {list(x.shape)}: {error}") from error
    finally:
        hook.remove()
    if set(coded) != {"strings", "shape"} or set(decoded) != {"x_hat"} or len(coded["strings"]) != 2 or len(seen) != 1:
        raise ValueError("its compress and decompress give more than strings, a shape and a picture")
    found = networks.decoded(twin.g_a(x), lambda name, given: networks.graphs[name].run(given))
    if found.shape != seen[0].shape or not torch.equal(decoded["x_hat"], twin.g_s(seen[0]).clamp(0, 1)):
        raise ValueError("its decompress does more than to run g_s on the latent")
    # Halves may fall to either side, and move what follows.
    if float(((found - seen[0]).abs() > 1e-2).float().mean()) > 0.01:
        raise ValueError("its loop over the slices computes something else than the usual one")
