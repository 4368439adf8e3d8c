"""The integer entropy model of a latent that is coded in groups of channels, each as a checkerboard or whole.

Like fastlic.entropy.model it is made once from trained float networks (fastlic.entropy.groups.convert), saved, and
never recomputed. Maps are int64 [channels, height, width]; latents are in units of 2^-6, activations have 12 bits.

For group k, at every position:

    channel    convolutions over the latents of earlier groups        layers channel.k.0, ...; not for k = 0
    context    one convolution over the anchors of this group         layer context.k; checkerboards only
    parameters scales and means from [context, channel, hyper]        layers parameters.k.0, ...

Anchors know no context yet: it is zero there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.groups.schedule import groups_schedule
from fastlic.entropy.passes import Schedule
from fastlic.entropy.stacked import StackedModel
from fastlic.integers.fixed import Requantiser
from fastlic.integers.functions import Tables
from fastlic.integers.layer import Layer
from fastlic.ops.tables import CdfTables

_WHOLE = 2  # what is stored in place of a parity


@dataclass(frozen=True)
class Group:
    """Channels that are coded together.

    Attributes:
        parity: (row + column) % 2 of the anchors, which are coded first; None: all positions in one pass.
        reads: earlier groups that the channel context reads, in this order.
    """

    channels: int
    parity: int | None
    reads: tuple[int, ...] = ()

    @property
    def passes(self) -> int:
        return 1 if self.parity is None else 2


@dataclass(frozen=True)
class IntegerGroups(StackedModel):
    """Integer parameters of one model.

    Attributes:
        z_tables, y_tables, z_median, thresholds: as of every ``LatentModel``.
        groups: in coding order, which is the order of the latent's channels.
        tables: the normal distribution, for GELU.
        layers: by name; ``hyper.0``, ... is the hyper synthesis, the others see above. ``analysis.0``, ..., where there
            are any, make z of y: decoders need no such thing, encoders get bytes that depend on y alone.
        requantisers: ``z.input`` and ``y.input``, from latents to activations.
    """

    kind = "groups"

    groups: tuple[Group, ...]
    z_tables: CdfTables
    y_tables: CdfTables
    z_median: np.ndarray
    thresholds: np.ndarray
    tables: Tables
    layers: Mapping[str, Layer]
    requantisers: Mapping[str, Requantiser]

    def schedule(self, height: int, width: int) -> Schedule:
        """Passes for a latent of height x width; each is a section of its own."""
        return groups_schedule(self, height, width)

    @property
    def latent_channels(self) -> int:
        """M, channels of y."""
        return sum(group.channels for group in self.groups)

    @property
    def passes(self) -> int:
        """How many sections y has: one for each pass."""
        return sum(group.passes for group in self.groups)

    @property
    def sections(self) -> int:
        """Sections of a stream: z's, and one for each pass over y."""
        return 1 + self.passes

    def counts(self, height: int, width: int) -> list[int]:
        """Symbols of each section; either colour of a checkerboard has half of the positions, rounded up or down."""
        of_z = super().counts(height, width)[0]
        return [of_z, *(height * width // g.passes * g.channels for g in self.groups for _ in range(g.passes))]

    def first_channel(self, index: int) -> int:
        """Where group ``index`` begins in the latent."""
        return sum(group.channels for group in self.groups[:index])

    def known_channels(self, groups: int) -> int:
        """Channels of y in the first ``groups`` groups."""
        return self.first_channel(groups)

    @property
    def analyses(self) -> bool:
        """Whether z comes from these integers too."""
        return "analysis.0" in self.layers

    # ---- networks: activations in, activations out

    def hyper_analysis(self, y: Tensor) -> Tensor:
        """h_a: y int64 [M, h, w] -> z [N, h/4, w/4], both in units of 2^-6."""
        return self.stack("analysis", self.requantisers["y.input"](y.permute(1, 2, 0)).permute(2, 0, 1))

    def latent_input(self, index: int, latent: Tensor) -> Tensor:
        """Latents of group ``index`` [C, h, w] as activations."""
        return self.channels_input(self.first_channel(index), latent)

    def channel(self, index: int, decoded: Sequence[Tensor]) -> Tensor:
        """From the activations of earlier groups."""
        return self.stack(f"channel.{index}", torch.cat([decoded[k] for k in self.groups[index].reads]))

    def context(self, index: int, current: Tensor) -> Tensor:
        """From the group's own activations [C, h, w], zero but at anchors; means something elsewhere only."""
        return self.layers[f"context.{index}"](current, self.tables)

    def context_channels(self, index: int) -> int:
        """Outputs of ``context``; 0 without."""
        return 0 if self.groups[index].parity is None else len(self.layers[f"context.{index}"].bias)

    def parameters(self, index: int, joined: Tensor) -> tuple[Tensor, Tensor]:
        """(scales in units of 2^-10, means of 2^-6) [C, h, w] each, from [context, channel, hyper]."""
        scales, means = self.stack(f"parameters.{index}", joined).chunk(2)
        return scales, means

    # ---- storage

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Every integer of the model under a stable name; what the fingerprint covers."""
        parities = [_WHOLE if group.parity is None else group.parity for group in self.groups]
        arrays = {
            "groups.channels": np.array([group.channels for group in self.groups], np.int32),
            "groups.parity": np.array(parities, np.int32),
            "z.median": self.z_median,
            "y.thresholds": self.thresholds,
            "tables.tail": self.tables.tail,
        }
        arrays |= {f"groups.reads.{k}": np.array(g.reads, np.int32) for k, g in enumerate(self.groups) if k}
        return arrays | self.stored()

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> IntegerGroups:
        """Read what ``to_arrays`` wrote.

        Raises:
            ValueError: arrays are missing.
        """
        try:
            shapes = zip(arrays["groups.channels"].tolist(), arrays["groups.parity"].tolist(), strict=True)
            return cls(
                groups=tuple(
                    Group(channels, None if parity == _WHOLE else parity, reads)
                    for k, (channels, parity) in enumerate(shapes)
                    for reads in [tuple(arrays[f"groups.reads.{k}"].tolist()) if k else ()]
                ),
                z_median=arrays["z.median"],
                thresholds=arrays["y.thresholds"],
                tables=Tables(np.zeros(1, np.int32), arrays["tables.tail"], np.zeros(1, np.int8)),
                **cls.fields_of(arrays),
            )
        except KeyError as error:
            raise ValueError(f"these are no integers of a model of channel groups: {error} is missing") from error
