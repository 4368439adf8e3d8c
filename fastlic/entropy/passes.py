"""Passes: how a latent is coded, written once for both directions.

A schedule is a generator of passes. A pass says which symbols come next and how each is distributed; whoever drives it
answers with the symbols' values (an encoder from its latent, a decoder from its stream), and the next pass may depend
on them. Since both directions run this same code, they cannot drift apart. There are two orders: the wavefront
(fastlic.entropy.wavefront) and the board of channel groups and slices (fastlic.entropy.groups, .mlic).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.fingerprint import of_arrays
from fastlic.errors import BackendUnavailable
from fastlic.forks import cached_property
from fastlic.integers.engines import Way
from fastlic.ops.device_board import DeviceBoard
from fastlic.ops.device_engine import DeviceEngine
from fastlic.ops.latents import HYPER_STRIDE, Kind, LatentEngine
from fastlic.ops.tables import CdfTables

_LARGEST = (1 << 20) - 1  # height or width of a latent


@dataclass(frozen=True)
class Pass:
    """Symbols that can be coded together, position by position.

    Attributes:
        section: 0 for the hyper latent z, 1 and up for the latent y.
        where: int64 [n], raster positions row * width + column in that section's map.
        channels: (first, behind the last) channel.
        indexes: uint8 [n, channels], table of each symbol.
        means: int64 [n, channels] in units of 2^-6, what the symbol is a difference from; None for z.
    """

    section: int
    where: Tensor
    channels: tuple[int, int]
    indexes: Tensor
    means: Tensor | None


@dataclass(frozen=True)
class Latents:
    """What a schedule ends with, integers.

    Attributes:
        z: symbols [N, hz, wz].
        y: [M, h, w] in units of 2^-6.
        symbols: those of y, [M, h, w], where residual prediction stands between them and y; else None.
    """

    z: Tensor
    y: Tensor
    symbols: Tensor | None = None

    def named(self) -> dict[str, Tensor]:
        """What there is, int64 by name."""
        return {name: value.long() for name, value in vars(self).items() if value is not None}


Schedule = Generator[Pass, Tensor, Latents]


def drive(schedule: Schedule, answer: Callable[[Pass], Tensor]) -> Latents:
    """Run a schedule to its end.

    Args:
        answer: the int64 symbols of a pass, in the shape of its ``indexes``.
    """
    step = next(schedule)
    while True:
        try:
            step = schedule.send(answer(step))
        except StopIteration as end:
            return cast(Latents, end.value)


def hyper_size(height: int, width: int) -> tuple[int, int]:
    """Size of z for a latent of height x width: whole 4x4 cells. Raises ValueError for what is no size."""
    if not (1 <= height <= _LARGEST and 1 <= width <= _LARGEST):
        raise ValueError(f"height and width of a latent must be 1 to {_LARGEST}, got {height} x {width}")
    return -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)


def hyper_pass(channels: int, height: int, width: int) -> Generator[Pass, Tensor, Tensor]:
    """The pass that every schedule begins with: z int64 [channels, hz, wz] of a latent of height x width.

    Raises:
        ValueError: other than 1 to 256 channels, each of which has a row of z's tables.
    """
    if not 1 <= channels <= 256:
        raise ValueError(f"z has 1 to 256 channels, a row of its tables each, got {channels}")
    rows, columns = hyper_size(height, width)
    by_channel = torch.arange(channels, dtype=torch.uint8).expand(rows * columns, channels)
    answer = yield Pass(0, torch.arange(rows * columns), (0, channels), by_channel, None)
    return answer.reshape(rows, columns, channels).permute(2, 0, 1)


class LatentModel(ABC):
    """What drivers ask of an integer entropy model of a hyper latent z and a latent y, whatever its contexts.

    Attributes:
        kind: which engine runs it.
        z_tables, y_tables: the coder's tables, by channel for z and by scale index for y.
        z_median: int32 [N] in units of 2^-6.
        thresholds: int32 [63] in units of 2^-10, between scale indexes.
        hyper_channels, latent_channels: N and M, of z and y.
    """

    kind: ClassVar[Kind]

    if TYPE_CHECKING:  # fields of some models, properties of others

        @property
        def z_tables(self) -> CdfTables: ...
        @property
        def y_tables(self) -> CdfTables: ...
        @property
        def z_median(self) -> np.ndarray: ...
        @property
        def thresholds(self) -> np.ndarray: ...
        @property
        def latent_channels(self) -> int: ...

    @property
    def hyper_channels(self) -> int:
        """N, channels of z."""
        return len(self.z_median)

    @abstractmethod
    def schedule(self, height: int, width: int) -> Schedule:
        """Passes for a latent of height x width."""

    @abstractmethod
    def to_arrays(self) -> dict[str, np.ndarray]:
        """Every integer of the model under a stable name; what the fingerprint covers."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> LatentModel:
        """Read what ``to_arrays`` wrote.

        Raises:
            ValueError: an array is missing or of no use; ``engine`` checks the rest.
        """

    def scale_indexes(self, scales: Tensor) -> Tensor:
        """Fixed-point scales int64 -> scale indexes uint8, same shape."""
        thresholds = torch.from_numpy(self.thresholds.astype(np.int64)).to(scales.device)
        return torch.searchsorted(thresholds, scales.contiguous()).to(torch.uint8)

    @cached_property
    def _fingerprint(self) -> bytes:
        return of_arrays(self.to_arrays())

    def fingerprint(self) -> bytes:
        """8 bytes that name these integers in every stream: fastlic.entropy.fingerprint."""
        return self._fingerprint

    @property
    def sections(self) -> int:
        """Sections of a stream: z's, and those of y."""
        return 2

    def counts(self, height: int, width: int) -> list[int]:
        """Symbols of each section for a latent of height x width, or a few less."""
        rows, columns = hyper_size(height, width)
        return [rows * columns * self.hyper_channels, height * width * self.latent_channels]

    def known_channels(self, groups: int) -> int:
        """Channels of y in the first ``groups`` groups or slices, which a preview reads."""
        return self.latent_channels if groups else 0

    @property
    def analyses(self) -> bool:
        """Whether z comes from these integers too."""
        return False

    def hyper_analysis(self, y: Tensor) -> Tensor:
        """h_a, where ``analyses``: y int64 [M, h, w] -> z [N, h/4, w/4], both in units of 2^-6."""
        raise NotImplementedError

    @cached_property
    def engine(self) -> LatentEngine:
        """The fused C++ twin of this model, validated and packed at first use."""
        return LatentEngine(self.kind, self.to_arrays(), self.z_tables, self.y_tables)

    def on_engines(self, threads: int, way: Way = "cpp") -> LatentModel | None:
        """This model for the plain drivers, with each network on an engine; None where one engine fuses all of it.

        Args:
            way: ``cpp``, or ``triton`` for networks on the current GPU.
        """
        return None

    def __getstate__(self) -> dict[str, Any]:
        """Copies pack their own twin on a device, and pickles are read where there is none."""
        return {name: value for name, value in vars(self).items() if name != "device_engine"}

    @property
    def device_engine(self) -> DeviceEngine | DeviceBoard:
        """Its twin in Triton kernels on the current GPU.

        Raises:
            BackendUnavailable: there is no GPU, or there are no kernels for this kind of model.
        """
        raise BackendUnavailable(f"backend 'triton' has no kernels for {type(self).__name__}")
