"""The integer entropy model of the MLIC family: every context of a slice, on integers.

Like fastlic.entropy.model it is made once from a trained float model (fastlic.entropy.mlic.convert), saved with the
weights and never recomputed. Maps are int64 [channels, height, width]; latents are in units of 2^-6, activations have
12 bits. docs/mlic.md lists what is rounded where.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.entropy.arrays import reading
from fastlic.entropy.mlic.schedule import mlic_schedule
from fastlic.entropy.passes import Schedule
from fastlic.entropy.stacked import StackedModel
from fastlic.integers.fixed import Requantiser
from fastlic.integers.functions import (
    RECIPROCAL_TOKENS,
    Tables,
    mean_of_few,
    mean_of_many,
    normalise,
)
from fastlic.integers.layer import Layer
from fastlic.models.mlic.attention import HEADS_INTRA, LOCAL_REACH
from fastlic.models.mlic.checkerboard import anchor_mask, positions
from fastlic.models.mlic.local import HEADS, TOKENS, WINDOW, relative_position_index
from fastlic.ops.tables import CdfTables

FAMILIES = ("mlic", "mlic+", "mlic++")
_HIGHEST = (1 << 15) - 1  # scores are clipped to 16 bits
_WINDOWS = 4096  # local windows worked on at once
_BLOCK_SCORES = 1 << 20  # scores of softmax attention worked on at once


@dataclass(frozen=True)
class IntegerMLIC(StackedModel):
    """Integer parameters of one model of the family.

    Attributes:
        family: "mlic", "mlic+" or "mlic++".
        slices: number of slices.
        z_tables, y_tables: the coder's tables, by channel for z and by scale index for y.
        tables: exp, the normal distribution, tanh.
        layers: by name, such as ``channel.3.0``; ``layer`` finds them.
        requantisers: by name, such as ``y.input``.
        numbers: ``z.median`` int32 [N] in units of 2^-6; ``y.thresholds`` int32 [63] in units of 2^-10;
            ``local.<slice>.bias`` int32 [2, 81] in units of 2^-8; ``local.<slice>.epsilon`` int32 [2].
    """

    kind = "slices"

    family: str
    slices: int
    z_tables: CdfTables
    y_tables: CdfTables
    tables: Tables
    layers: Mapping[str, Layer]
    requantisers: Mapping[str, Requantiser]
    numbers: Mapping[str, np.ndarray]

    def schedule(self, height: int, width: int) -> Schedule:
        """Passes for a latent of height x width, 2 or more positions."""
        return mlic_schedule(self, height, width)

    # ---- sizes

    @property
    def z_median(self) -> np.ndarray:
        """int32 [N] in units of 2^-6."""
        return self.numbers["z.median"]

    @property
    def thresholds(self) -> np.ndarray:
        """int32 [63] in units of 2^-10."""
        return self.numbers["y.thresholds"]

    @property
    def latent_channels(self) -> int:
        """M, channels of y."""
        return len(self.requantisers["y.input"].shift)

    @property
    def slice_channels(self) -> int:
        """Channels of one slice."""
        return self.latent_channels // self.slices

    def known_channels(self, groups: int) -> int:
        """Channels of y in the first ``groups`` slices."""
        return min(groups, self.slices) * self.slice_channels

    @property
    def linear(self) -> bool:
        """Whether attention normalises queries and keys apart (MLIC++)."""
        return self.family == "mlic++"

    @property
    def early(self) -> bool:
        """Whether the first slice's anchors in odd rows know those in even rows."""
        return "early.0" in self.layers

    def _requantise(self, name: str, x: Tensor) -> Tensor:
        """[C, ...] through a requantiser by channel."""
        return self.requantisers[name](x.movedim(0, -1)).movedim(-1, 0)

    # ---- contexts: activations in, activations out

    def latent_input(self, index: int, latent: Tensor) -> Tensor:
        """Latents of slice ``index`` [C, h, w] as activations."""
        return self.channels_input(index * self.slice_channels, latent)

    def channel(self, index: int, decoded: Tensor) -> Tensor:
        """From all earlier slices [C * index, h, w]."""
        return self.stack(f"channel.{index}", decoded)

    def early_context(self, current: Tensor) -> Tensor:
        """From the first slice's anchors in even rows [C, h, w], zero elsewhere."""
        return self.stack("early", current)

    def inter(self, index: int, decoded: Tensor) -> Tensor:
        """Attention over all earlier slices [C * index, h, w]."""
        name, shape = f"inter.{index}", decoded.shape
        q, k, v = (self.stack(f"{name}.{part}", decoded).flatten(1) for part in ("query", "key", "value"))
        x = self._attend(name, q, k, v, index).reshape(shape)
        x = self.layers[f"{name}.reprojection"](x, self.tables)
        return self._limit(self.layers[f"{name}.skip"](x, self.tables) + self.stack(f"{name}.mlp", x), name)

    def intra(self, index: int, previous: Tensor, current: Tensor) -> Tensor:
        """Attention inside a slice: ``previous`` [C, h, w] whole, ``current`` with zeros but at its anchors."""
        name, (c, h, w) = f"intra.{index}", previous.shape
        anchor = anchor_mask(previous)
        to, at = (positions(h, w, parity, previous.device) for parity in (0, 1))
        q = self.stack(f"{name}.query", previous * (1 - anchor)).flatten(1)[:, to]
        k = self.stack(f"{name}.key", previous * anchor).flatten(1)[:, at]
        v = self.stack(f"{name}.value", current).flatten(1)[:, at]
        scattered = torch.zeros_like(previous).flatten(1)
        scattered[:, to] = self._attend(name, q, k, v, HEADS_INTRA, None if self.linear else (to, at, w))
        x = self.layers[f"{name}.reprojection"](scattered.reshape(c, h, w), self.tables)
        return self._limit(self._requantise(f"{name}.residual", x) + self.stack(f"{name}.mlp", x), name)

    def _limit(self, x: Tensor, name: str) -> Tensor:
        """Sums of two activations of 16 bits, clipped to 12."""
        limit = self.requantisers[f"{name}.attended"].limit
        return x.clamp(-limit, limit)

    def _attend(
        self, name: str, q: Tensor, k: Tensor, v: Tensor, heads: int, near: tuple[Tensor, Tensor, int] | None = None
    ) -> Tensor:
        """q [d, n], k and v [d, m] -> attended activations [d, n].

        Args:
            near: (raster positions of queries, of keys, width), for attention that leaves out keys close by.
        """
        d, n = q.shape
        q, k, v = (t.reshape(heads, d // heads, -1) for t in (q, k, v))
        mean = self._linear(q, k, v) if self.linear else self._softmax(name, q, k, v, near)
        return self._requantise(f"{name}.attended", mean.reshape(d, n))

    def _linear(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Scores q, k and values v [heads, d, positions] -> means [heads, d, n] in units of 2^-8 of the values'."""
        weights = self.tables.weights(k, 2)
        sums = (weights.double() @ v.double().transpose(1, 2)).long()  # [heads, d of k, d of v]
        context = mean_of_many(sums, weights.sum(2, keepdim=True))
        weights = self.tables.weights(q, 1)
        sums = (context.double().transpose(1, 2) @ weights.double()).long()  # already in units of 2^-8
        totals = weights.sum(1, keepdim=True)
        if q.shape[1] > RECIPROCAL_TOKENS:
            return torch.div((sums << 1) + totals, totals << 1, rounding_mode="floor")
        # The product of the shifted sum would leave int64: the reciprocal alone carries the fraction here.
        inverse = torch.div(torch.full_like(totals, 1 << 40), totals, rounding_mode="floor")
        return (sums * inverse + (1 << 39)) >> 40

    def _softmax(self, name: str, q: Tensor, k: Tensor, v: Tensor, near: tuple[Tensor, Tensor, int] | None) -> Tensor:
        """As ``_linear`` with weights exp(q k / sqrt d); block by block of queries."""
        heads, d, n = q.shape
        m = k.shape[2]
        out = torch.empty(heads, d, n, dtype=torch.int64, device=q.device)
        keys, values = k.double(), v.double().transpose(1, 2)
        block = max(_BLOCK_SCORES // (heads * m), 1)
        for first in range(0, n, block):
            part = slice(first, first + block)
            products = (q[:, :, part].double().transpose(1, 2) @ keys).long()  # [heads, block, m]
            scores = self._requantise(f"{name}.score", products)
            allowed = None
            if near is not None:
                to, at, width = near
                rows = (to[part, None] // width - at // width).abs()
                columns = (to[part, None] % width - at % width).abs()
                allowed = torch.maximum(rows, columns) > LOCAL_REACH
                allowed |= ~allowed.any(1, keepdim=True)  # all masked alike is none masked
            weights = self.tables.weights(scores, 2, allowed)
            sums = (weights.double() @ values).long()
            out[:, :, part] = mean_of_many(sums, weights.sum(2, keepdim=True)).transpose(1, 2)
        return out

    def local(self, index: int, latent: Tensor, current: Tensor) -> Tensor:
        """Local context of slice ``index``; only its values at positions that are no anchors mean anything.

        Args:
            latent: int64 [C, h, w] in units of 2^-6, zero but at anchors; for the layer norm.
            current: the same as activations; for stacked convolutions (MLIC).
        """
        if self.family == "mlic":
            return self.stack(f"local.{index}", current)
        name, (c, h, w) = f"local.{index}", latent.shape
        epsilon = self.numbers[f"{name}.epsilon"]
        normal = normalise(latent.flatten(1).T, int(epsilon[0]))  # [h * w, C]
        qkv = self.layers[f"{name}.qkv"].rows(normal, self.tables)
        planes = torch.cat([qkv.T, anchor_mask(latent).reshape(1, -1)]).reshape(1, -1, h, w).double()
        to = positions(h, w, 0, latent.device)
        out = torch.zeros(len(self.layers[f"{name}.proj"].bias), h * w, dtype=torch.int64, device=latent.device)
        for first in range(0, len(to), _WINDOWS):
            some = to[first : first + _WINDOWS]
            # Windows of a few rows of the map at a time.
            top, bottom = int(some[0]) // w, int(some[-1]) // w + 1
            reach = WINDOW // 2
            rows = F.pad(planes, (0, 0, reach, reach))[:, :, top : bottom + 2 * reach]
            windows = F.unfold(rows, WINDOW, padding=(0, reach))[0].long().reshape(3 * c + 1, TOKENS, -1)
            windows = windows[:, :, some - top * w]
            attended = self._windows(name, windows[: 3 * c], windows[-1] > 0)  # [C, 25, n]
            fused = attended.permute(2, 0, 1).reshape(-1, c * TOKENS)
            out[:, some] = self._fuse(name, fused, int(epsilon[1])).T
        return out.reshape(-1, h, w)

    def _windows(self, name: str, qkv: Tensor, is_anchor: Tensor) -> Tensor:
        """Attention inside windows: q, k, v [3 C, 25, n] and anchors [25, n] -> activations [C, 25, n]."""
        c, n = qkv.shape[0] // 3, qkv.shape[2]
        # Channels enter the heads interleaved and leave them one head after the other.
        q, k, v = qkv.reshape(3, c // HEADS, HEADS, TOKENS, n).permute(0, 4, 2, 3, 1)  # [n, heads, 25, C / heads]
        products = (q.double() @ k.double().transpose(2, 3)).long()
        scores = self.requantisers[f"{name}.score"](products.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        bias = torch.from_numpy(self.numbers[f"{name}.bias"].astype(np.int64)).to(qkv.device)
        scores = scores + bias[:, relative_position_index().to(qkv.device)]
        keys = is_anchor.T[:, None, :].expand(n, TOKENS, TOKENS)
        allowed = keys | ~is_anchor.T[:, :, None]  # an anchor sees anchors; every other query sees all
        weights = self.tables.weights(scores, 3, allowed[:, None])
        sums = (weights.double() @ v.double()).long()
        mean = mean_of_few(sums, weights.sum(3, keepdim=True))  # [n, heads, 25, C / heads]
        return self._requantise(f"{name}.attended", mean.permute(1, 3, 2, 0).reshape(c, TOKENS, n))

    def _fuse(self, name: str, windows: Tensor, epsilon: int) -> Tensor:
        """Windows [n, C * 25] -> local context [n, out]."""
        fusion = self.layers[f"{name}.fusion"]
        weight = torch.from_numpy(fusion.weight.reshape(len(fusion.bias), -1)).to(windows.device, torch.float64)
        bias = torch.from_numpy(fusion.bias.astype(np.int64)).to(windows.device)
        x = fusion.requantiser((windows.double() @ weight.T).long() + bias)
        x = self.layers[f"{name}.proj"].rows(x, self.tables)
        hidden = self.layers[f"{name}.mlp.0"].rows(normalise(x, epsilon), self.tables)
        return self.requantisers[f"{name}.output"](x + self.layers[f"{name}.mlp.1"].rows(hidden, self.tables))

    # ---- answers

    def parameters(self, which: str, index: int, joined: Tensor) -> tuple[Tensor, Tensor]:
        """(scales in units of 2^-10, means of 2^-6) [n, C] each, from joined contexts [n, c].

        Args:
            which: "a" for anchors, "n" for the others, "e" for the first slice's anchors behind the early context.
        """
        name, depth = f"parameters.{which}.{index}", 0
        while f"{name}.{depth}" in self.layers:
            joined = self.layers[f"{name}.{depth}"].rows(joined, self.tables)
            depth += 1
        scales, means = joined.chunk(2, dim=1)
        return scales, means

    def residue(self, which: str, index: int, joined: Tensor) -> Tensor:
        """What rounding took away, in units of 2^-6 [C, h, w], from [hyper means, slices, current]."""
        return self.tables.residue(self.stack(f"residual.{which}.{index}", joined))

    # ---- storage

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Every integer of the model under a stable name; what the fingerprint covers."""
        arrays = {"shape": np.array([FAMILIES.index(self.family), self.slices], np.int32), **self.numbers}
        return arrays | self.stored() | self.tables.to_arrays()

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> IntegerMLIC:
        """Read what ``to_arrays`` wrote.

        Raises:
            ValueError: an array is missing or of no use; ``engine`` checks the rest.
        """
        with reading("the integers of the entropy model"):
            family, slices = (int(v) for v in arrays["shape"])
            return cls(
                family=FAMILIES[family],
                slices=slices,
                tables=Tables.from_arrays(arrays),
                **cls.fields_of(arrays),
                numbers={
                    k: v
                    for k, v in arrays.items()
                    if k in ("z.median", "y.thresholds")
                    or (k.startswith("local.") and k.endswith((".bias", ".epsilon")))
                },
            )
