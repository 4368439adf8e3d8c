"""The integer entropy model of a latent that is coded slice by slice of its channels, each slice in one pass.

Minnen and Singh 2020, "Channel-wise autoregressive entropy models", and the models that follow it. Every network is a
transform of integers (fastlic.integers.network) over a whole map:

    hyper.mean, hyper.scale                z to features, [F, h, w] each
    mean_support.k, scale_support.k        what slice k knows, brought into form; where a model has them
    shared.k                               where a model has it, what means, scales and residues know beside that
    mean.k, scale.k                        from what slice k knows to means and scales
    residue.k                              from what its means know and its own latent to the argument of tanh, half of
                                           which is added to the latent

What slice k knows are features and, behind them, the latents of earlier slices: the features of means for means and
residues, those of scales for scales; or, before ``shared.k``, of both for all, and what that gives behind them. Maps
are int32; between two networks they count the units that calibration chose for features, 2^-6 for latents and means,
2^-10 for scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.arrays import below, tables_of
from fastlic.entropy.passes import LatentModel, Latents, Pass, Schedule, hyper_pass
from fastlic.forks import cached_property
from fastlic.integers.engines import Engines, Way
from fastlic.integers.fixed import reconstruct
from fastlic.integers.functions import Tables
from fastlic.integers.network import Network
from fastlic.ops.tables import CdfTables

FEATURES = ("mean", "scale")
_PREFIX = "networks."
# Arguments of tanh that the table has.
_REACH = 2047


@dataclass(frozen=True)
class Slice:
    """Channels that are coded together.

    Attributes:
        reads: earlier slices whose latents its networks read, in this order.
    """

    channels: int
    reads: tuple[int, ...] = ()


@dataclass(frozen=True)
class IntegerChannelSlices(LatentModel):
    """Integer parameters of one model.

    Attributes:
        z_tables, y_tables, z_median, thresholds: as of every ``LatentModel``.
        slices: in coding order, which is the order of the latent's channels.
        tables: tanh.
        networks: by the names above.
        supported: whether residues read what support networks make, or what these read.
        threads: with how many networks run on their engines; 0: as the plain reference.
        way: which engines: the coder and what is between networks stay on the CPU either way.
    """

    slices: tuple[Slice, ...]
    z_tables: CdfTables
    y_tables: CdfTables
    z_median: np.ndarray
    thresholds: np.ndarray
    tables: Tables
    networks: Mapping[str, Network]
    supported: bool = True
    threads: int = 0
    way: Way = "cpp"

    @property
    def latent_channels(self) -> int:
        """M, channels of y."""
        return sum(own.channels for own in self.slices)

    def known_channels(self, groups: int) -> int:
        """Channels of y in the first ``groups`` slices."""
        return sum(own.channels for own in self.slices[:groups])

    @cached_property
    def engine(self) -> Engines:  # type: ignore[override]
        """The engines of all networks, validated and packed at first use."""
        return Engines(self.networks)

    def on_engines(self, threads: int, way: Way = "cpp") -> IntegerChannelSlices:
        """This model with its networks on their engines."""
        return replace(self, threads=threads, way=way)._sharing(self)

    def _sharing(self, other: IntegerChannelSlices) -> IntegerChannelSlices:
        vars(self)["engine"] = other.engine
        return self

    def run(self, name: str, x: Tensor) -> Tensor:
        """A network over integers [C, h, w]: int64 [C', h', w'].

        Maps that a network's windows do not fill go on below and to the right, as zeros.
        """
        network = self.networks[name]

        def by_engine(x: Tensor) -> Tensor:
            if self.way == "triton":
                return self.engine.run(name, x.to(torch.int32)[None], way=self.way)[0].cpu().long()
            # Channels last in memory, which the engine reads without a copy.
            given = x.to(torch.int32).permute(1, 2, 0).contiguous().permute(2, 0, 1)
            return self.engine.run(name, given, self.threads).long()

        return network.on_whole_windows(x, by_engine if self.threads else lambda x: network(x.long()))

    def schedule(self, height: int, width: int) -> Schedule:
        """Passes for a latent of height x width: z, then a pass for each slice, all of one section."""
        z = yield from hyper_pass(self.hyper_channels, height, width)
        median = torch.from_numpy(self.z_median.astype(np.int64))
        known_z = reconstruct(z.permute(1, 2, 0), median).permute(2, 0, 1)
        features = [self.run(f"hyper.{name}", known_z)[:, :height, :width] for name in FEATURES]
        y = torch.zeros(self.latent_channels, height, width, dtype=torch.int64)
        symbols = torch.zeros_like(y)
        decoded: list[Tensor] = []
        for index, own in enumerate(self.slices):
            channels = (self.known_channels(index), self.known_channels(index + 1))
            earlier = [decoded[k] for k in own.reads]
            mean_known, scale_known, beside = self._known(index, features, earlier)
            means = self.run(f"mean.{index}", mean_known).flatten(1).T
            scales = self.run(f"scale.{index}", scale_known).flatten(1).T
            coded = yield Pass(1, torch.arange(height * width), channels, self.scale_indexes(scales), means)
            latent = reconstruct(coded, means).T.reshape(own.channels, height, width)
            if (name := f"residue.{index}") in self.networks:
                argument = self.run(name, torch.cat([beside, latent]))
                latent = latent + self.tables.residue(argument.clamp(-_REACH, _REACH))
            symbols[slice(*channels)] = coded.T.reshape(latent.shape)
            y[slice(*channels)] = latent
            decoded.append(latent)
        return Latents(z, y, symbols)

    def _known(self, index: int, features: list[Tensor], earlier: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What a slice's means, scales and residues read."""
        if (name := f"shared.{index}") in self.networks:
            whole = torch.cat([*features, *earlier])
            whole = torch.cat([whole, self.run(name, whole)])
            return whole, whole, whole
        bare = [torch.cat([feature, *earlier]) for feature in features]
        known = list(bare)
        for i, name in enumerate(FEATURES):
            if (support := f"{name}_support.{index}") in self.networks:
                known[i] = self.run(support, bare[i])
        return known[0], known[1], known[0] if self.supported else bare[0]

    # ---- storage

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Every integer of the model under a stable name; what the fingerprint covers."""
        arrays = {f"z.tables.{k}": v for k, v in self.z_tables.to_arrays().items()}
        arrays |= {f"y.tables.{k}": v for k, v in self.y_tables.to_arrays().items()}
        arrays |= {f"slices.reads.{k}": np.array(own.reads, np.int32) for k, own in enumerate(self.slices) if own.reads}
        for name, network in self.networks.items():
            own = replace(network, units=()).to_arrays(name)
            arrays |= {f"{_PREFIX}{key}": array for key, array in own.items()}
        return arrays | {
            "slices.channels": np.array([own.channels for own in self.slices], np.int32),
            "slices.supported": np.array([self.supported], np.uint8),
            "z.median": self.z_median,
            "y.thresholds": self.thresholds,
            "tables.tanh": self.tables.tanh,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> IntegerChannelSlices:
        """Read what ``to_arrays`` wrote.

        Raises:
            ValueError: arrays are missing, or networks do not fit each other.
        """
        try:
            own = below(arrays, _PREFIX)
            names = sorted({key.partition(".0.step")[0] for key in own if key.endswith(".0.step")})
            none = np.zeros(0, np.int32)
            return cls(
                slices=tuple(
                    Slice(int(channels), tuple(arrays.get(f"slices.reads.{k}", none).tolist()))
                    for k, channels in enumerate(arrays["slices.channels"])
                ),
                z_tables=tables_of(arrays, "z"),
                y_tables=tables_of(arrays, "y"),
                z_median=arrays["z.median"],
                thresholds=arrays["y.thresholds"],
                tables=Tables(none, none, arrays["tables.tanh"]),
                networks={name: Network.from_arrays(own, name) for name in names},
                supported=bool(arrays["slices.supported"].all()),
            ).checked()
        except KeyError as error:
            raise ValueError(f"these are no integers of channel slices: {error} is missing") from error

    def checked(self) -> IntegerChannelSlices:
        """This model. Raises ValueError unless its networks fit each other."""
        shapes = {name: (network.shapes[0].channels, network.shapes[-1]) for name, network in self.networks.items()}

        def outputs(name: str, inputs: int, sizes: int = 0) -> int:
            if name not in shapes:
                raise ValueError(f"the network {name} is missing")
            reads, out = shapes[name]
            if reads != inputs or sum(out.sizes) != sizes or self.networks[name].entry is None:
                raise ValueError(f"the network {name} reads {reads} channels where {inputs} are, or changes their size")
            return out.channels

        if not self.slices or min(own.channels for own in self.slices) < 1:
            raise ValueError("slices have channels")
        if self.thresholds.dtype != np.int32 or self.thresholds.ndim != 1 or bool((np.diff(self.thresholds) < 0).any()):
            raise ValueError("thresholds are int32, rising")
        if len(self.y_tables.offsets) <= len(self.thresholds) or len(self.z_tables.offsets) != len(self.z_median):
            raise ValueError("tables have a row for each scale index, and one for each channel of z")
        if self.tables.tanh.shape != (2 * (_REACH + 1),) or self.tables.tanh.dtype != np.int8:
            raise ValueError("the table of tanh is int8 [4096]")
        features = [outputs(f"hyper.{name}", self.hyper_channels, 2) for name in FEATURES]
        for k, own in enumerate(self.slices):
            if any(not 0 <= r < k for r in own.reads):
                raise ValueError(f"slice {k} reads slices before it, not {list(own.reads)}")
            earlier = sum(self.slices[r].channels for r in own.reads)
            both = sum(features) + earlier
            whole = both + outputs(shared, both) if (shared := f"shared.{k}") in shapes else 0
            for name, count in zip(FEATURES, features, strict=True):
                bare = known = whole or count + earlier
                if (support := f"{name}_support.{k}") in shapes:
                    known = outputs(support, known)
                if outputs(f"{name}.{k}", known) != own.channels:
                    raise ValueError(f"the network {name}.{k} has another number of outputs than its slice")
                residue = f"residue.{k}" if name == "mean" else ""
                beside = known if self.supported else bare
                if residue in shapes and outputs(residue, beside + own.channels) != own.channels:
                    raise ValueError(f"the network {residue} has another number of outputs than its slice")
        return self
