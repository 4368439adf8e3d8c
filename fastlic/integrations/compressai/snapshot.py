"""Whether networks are still those that integers were made of: every byte of their weights is read at every call.

Nothing less would do. Writing through ``.data`` changes neither a tensor's identity nor its version, and averages of
weights are swapped in that way. A checksum runs at the speed of memory, far above that of the networks themselves.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from fastlic.errors import ModelMismatchError
from fastlic.integrations.compressai.swap import Cache, is_specialised, original
from fastlic.ops.checksum import crc32c

Named = Sequence[tuple[str, nn.Module | Tensor]]
# Beside weights, what decides over the outputs of layers.
_SETTINGS = ("negative_slope", "approximate", "upscale_factor")


class Mark(NamedTuple):
    """Checksums of a tensor's values: as float32, and rounded to float16 and to bfloat16."""

    shape: tuple[int, ...]
    single: int
    half: int
    brain: int


@dataclass
class Snapshot:
    """What networks were when they were converted.

    Attributes:
        kinds: of every module, in order.
        marks: of every parameter and buffer, by path.
        firing: patterns of paths of modules that are still called; the forward hooks of all others do not run.
        hooked: paths of those others that have hooks, of which somebody was told.
    """

    kinds: tuple[str, ...]
    marks: dict[str, Mark]
    firing: tuple[str, ...] = ()
    hooked: set[str] = field(default_factory=set)
    cache: Cache = field(default_factory=Cache)

    @classmethod
    def of(cls, named: Named, firing: Sequence[str] = ()) -> Snapshot:
        """Of networks and single tensors, by the names that messages have for them."""
        seen = _Seen.of(named)
        own = cls(tuple(seen.kinds), {path: _mark(tensor) for path, tensor in seen.tensors}, tuple(firing))
        own.cache.values["bytes"] = content([tensor for _, tensor in seen.tensors])
        own.hooked |= own._hooked(seen)
        return own

    def silent(self, named: Named) -> tuple[nn.Module, ...]:
        """Modules that are not called any more."""
        met: set[int] = set()
        below = [pair for name, root in named if isinstance(root, nn.Module) for pair in _below(root, name, met)]
        return tuple(module for path, module in below if not self._fires(path))

    def _fires(self, path: str) -> bool:
        return any(fnmatch(path, pattern) for pattern in self.firing)

    def _hooked(self, seen: _Seen) -> set[str]:
        """Paths of modules with forward hooks that do not run."""
        return {path for path in seen.hooked if not self._fires(path)}

    def change(self, named: Named) -> str:
        """What is no longer as it was, by its path; "" if all is.

        Other precisions and devices are no changes: values may be what they were, or those rounded to a half
        precision. Hooks that came later and do not run are a UserWarning, once.
        """
        seen = _Seen.of(named)
        if new := self._hooked(seen) - self.hooked:
            self.hooked |= new
            warnings.warn(
                f"forward hooks on {', '.join(sorted(new))} do not run: since fastlic.accelerate(model) integers "
                "stand in for these modules",
                stacklevel=2,
            )
        if tuple(seen.kinds) != self.kinds:
            return _first_other(seen.kinds, self.kinds)
        if [path for path, _ in seen.tensors] != list(self.marks):
            return _first_other([path for path, _ in seen.tensors], list(self.marks))
        now = content([tensor for _, tensor in seen.tensors])
        before = self.cache.values.get("bytes") or [None] * len(now)
        for (path, tensor), a, b in zip(seen.tensors, now, before, strict=True):
            if a != b and not _is(tensor, self.marks[path]):
                return path
        self.cache.values["bytes"] = now
        return ""


def check_places(model: nn.Module, places: Sequence[str]) -> None:
    """Whether a model can code.

    Raises:
        ModelMismatchError: another module stands where ``accelerate`` replaced one; its streams, or its pixels, would
            be of another kind.
        ValueError: the model is on the meta device.
    """
    if getattr(next(model.parameters(), None), "is_meta", False):
        raise ValueError(f"the {type(model).__name__} is on the meta device, where weights have no values")
    gone = []
    for path in places:
        module: Any = model
        for name in path.split("."):
            module = module._modules.get(name) if isinstance(module, nn.Module) else None
        if module is None or not is_specialised(module):
            gone.append(path)
    if gone:
        raise ModelMismatchError(
            f"{', '.join(gone)} of this {type(model).__name__} came after fastlic.accelerate(model), which serves what "
            "it found: call it again"
        )


class _Seen(NamedTuple):
    """One walk over networks, each module and tensor once."""

    kinds: list[str]
    tensors: list[tuple[str, Tensor]]
    hooked: list[str]

    @classmethod
    def of(cls, named: Named) -> _Seen:
        seen, met = cls([], [], []), set[int]()
        for name, root in named:
            if isinstance(root, Tensor):
                seen.tensors.append((name, root))
                continue
            for path, module in _below(root, name, met):
                own = vars(module)
                kind = original(type(module))
                settings = [f" {own[key]}" for key in _SETTINGS if key in own]
                settings += [" with a forward of its own"] if "forward" in own else []
                seen.kinds.append(f"{path}: {kind.__module__}.{kind.__qualname__}{''.join(settings)}")
                if module._forward_hooks or module._forward_pre_hooks:
                    seen.hooked.append(path)
                # Tables of entropy models say how plain CompressAI codes; integers have their own.
                buffers = {} if "_quantized_cdf" in module._buffers else module._buffers
                for key, tensor in (*module._parameters.items(), *buffers.items()):
                    if tensor is not None and id(tensor) not in met:
                        met.add(id(tensor))
                        seen.tensors.append((f"{path}.{key}", as_used(module, key, tensor)))
        return seen


def as_used(module: nn.Module, key: str, tensor: Tensor) -> Tensor:
    """A masked convolution's weight without what its mask hides: CompressAI's set that to 0 at each call."""
    mask = module._buffers.get("mask")
    if key != "weight" or mask is None or mask.shape != tensor.shape or tensor.is_meta:
        return tensor
    return tensor.detach() * mask.to(tensor)


def _below(module: nn.Module, path: str, met: set[int]) -> Iterator[tuple[str, nn.Module]]:
    if id(module) in met:
        return
    met.add(id(module))
    yield path, module
    for name, child in module._modules.items():
        if child is not None:
            yield from _below(child, f"{path}.{name}", met)


def _first_other(now: Sequence[str], before: Sequence[str]) -> str:
    for a, b in zip(now, before, strict=False):
        if a != b:
            return a.partition(":")[0]
    return (now[len(before) :] or before[len(now) :])[0].partition(":")[0]


# ---- checksums


def content(tensors: Sequence[Tensor]) -> list[Any]:
    """For each tensor what it is made of and a checksum of its bytes as they lie in memory.

    Raises:
        ValueError: one is on the meta device, and so has no values.
    """
    out: list[Any] = []
    elsewhere: dict[int, Tensor] = {}
    for number, tensor in enumerate(tensors):
        tensor = tensor.detach()
        about = (tensor.dtype, tensor.device, tensor.shape, tensor.stride())
        if tensor.is_cpu:
            out.append((*about, _bytes_sum(_dense(tensor))))
        elif tensor.is_meta:
            raise ValueError("weights on the meta device have no values")
        else:
            elsewhere[number] = device_sum(_dense(tensor))
            out.append(about)
    if elsewhere:  # one wait for the device, not one for each tensor
        sums = torch.stack([value.cpu() if len({v.device for v in elsewhere.values()}) > 1 else value
                            for value in elsewhere.values()]).tolist()  # fmt: skip
        for number, value in zip(elsewhere, sums, strict=True):
            out[number] = (*out[number], value)
    return out


def _dense(tensor: Tensor) -> Tensor:
    """The tensor's values in the order in which they lie in memory, so that none are moved."""
    if tensor.is_contiguous():
        return tensor
    order = sorted(range(tensor.dim()), key=lambda axis: tensor.stride(axis), reverse=True)
    return tensor.permute(order).contiguous()


def _bytes_sum(tensor: Tensor) -> int:
    """CRC-32C of a contiguous tensor on the CPU."""
    if tensor.dtype != torch.float32:  # numpy has not all of them
        tensor = tensor.reshape(-1).view(torch.uint8)
    return crc32c(tensor.numpy().reshape(-1).view(np.uint8))


def device_sum(tensor: Tensor) -> Tensor:
    """A checksum of a contiguous tensor on its own device, int64 [], which no change of one value leaves as it was."""
    flat = tensor.reshape(-1)
    words = flat.view(torch.int32 if tensor.element_size() % 4 == 0 else torch.uint8).int()
    places = torch.arange(len(words), dtype=torch.int32, device=tensor.device)
    return (words * (places * -1640531535 | 1)).sum(dtype=torch.int64)  # wraps at 32 bits; factors are odd


def _mark(tensor: Tensor) -> Mark:
    values = _single(tensor)
    halves = [_bytes_sum(values.to(dtype)) for dtype in (torch.float16, torch.bfloat16)]
    return Mark(tuple(tensor.shape), _bytes_sum(values), *halves)


def _is(tensor: Tensor, mark: Mark) -> bool:
    """Whether its values are those of the mark, or those rounded to a half precision."""
    if tuple(tensor.shape) != mark.shape:
        return False
    values = _single(tensor)
    if _bytes_sum(values) == mark.single:
        return True
    for dtype, known in ((torch.float16, mark.half), (torch.bfloat16, mark.brain)):
        rounded = values.to(dtype)
        if _bytes_sum(rounded) == known and bool((rounded.float() == values).all()):
            return True
    return False


def _single(tensor: Tensor) -> Tensor:
    """Float32 on the CPU, contiguous, as conversion reads it."""
    return tensor.detach().to("cpu", torch.float32).contiguous()
