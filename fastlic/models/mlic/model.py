"""MLIC, MLIC+ and MLIC++ (Jiang et al. 2023): multi-reference entropy models over slices of a checkerboarded latent.

Each slice of channels is coded in two passes: anchors from the hyperprior and the earlier slices, then the others,
which also see those anchors, near (local context) and far (intra context). Each pass ends with a prediction of what
rounding took away.

MLIC++ is checked against the authors' code and loads their checkpoints. For MLIC and MLIC+ neither code nor weights
were ever published; they are built after the papers, as CompressAI's reproduction reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from typing_extensions import Self

from fastlic.errors import CodecFileError
from fastlic.models.hyperprior import Hyperprior
from fastlic.models.layers import hyper_analysis, hyper_synthesis
from fastlic.models.mlic import transforms
from fastlic.models.mlic.attention import GlobalInterContext, GlobalIntraContext
from fastlic.models.mlic.blocks import (
    ChannelContext,
    EntropyParameters,
    LatentResidualPrediction,
    residual_sizes_2023,
)
from fastlic.models.mlic.checkerboard import anchors, even_rows, others
from fastlic.models.mlic.checkpoint import normalise
from fastlic.models.mlic.local import LocalContext, StackedLocalContext
from fastlic.models.state_files import MALFORMED, read_checkpoint

SLICE_CHANNELS = 32
_EARLY = "early_context.fushion.0.weight"  # of models with that context
_OLD = "lrp_anchor.0.lrp_transform.6.weight"  # of the checkpoints of 2023


@dataclass(frozen=True)
class Sizes:
    """Channels inside the entropy model; the defaults are the published ones.

    Attributes:
        channel: the three layers of the channel context.
        inter: after the 5x5 projection, inside the MLP, at the output of the inter context.
        intra, local: inside the MLP, at the output.
        parameters: hidden layers of the entropy-parameter network.
        residual: hidden layers of the residual prediction.
    """

    channel: tuple[int, int, int] = (192, 128, 128)
    inter: tuple[int, int, int] = (96, 128, 64)
    intra: tuple[int, int] = (128, 64)
    local: tuple[int, int] = (128, 64)
    parameters: tuple[int, int, int] = (320, 256, 128)
    residual: tuple[int, int] = (224, 128)

    @classmethod
    def of(cls, given: Sizes | Mapping[str, Any]) -> Sizes:
        """From a mapping of names to sequences, as configurations store it."""
        if isinstance(given, Sizes):
            return given
        unknown = set(given) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"sizes know {', '.join(field.name for field in fields(cls))}; got {', '.join(unknown)}")
        return cls(**{name: tuple(value) for name, value in given.items()})

    @classmethod
    def inferred(cls, state: Mapping[str, Tensor], slices: int) -> Sizes:
        """Read off the shapes of the entropy model's weights; defaults for what a model of so many slices lacks.

        Raises:
            ValueError: a key that every such model has is missing.
        """
        default, found = cls(), dict[str, tuple[int, ...]]()
        if slices > 1 or _EARLY in state:
            source = "channel_context.1" if slices > 1 else "early_context"
            found["channel"] = tuple(_width(state, f"{source}.fushion.{i}.weight") for i in (0, 2, 4))
        if slices > 1:
            found["intra"] = tuple(_width(state, f"global_intra_context.1.mlp.{i}.weight") for i in (0, 4))
        if "global_inter_context.1.skip.weight" in state:
            parts = ("reprojection", "mlp.0", "mlp.4")
            found["inter"] = tuple(_width(state, f"global_inter_context.1.{part}.weight") for part in parts)
        if "local_context.0.proj.weight" in state:
            found["local"] = tuple(_width(state, f"local_context.0.{name}.weight") for name in ("mlp.fc1", "proj"))
        else:
            found["local"] = (default.local[0], _width(state, "local_context.0.4.weight"))
        if _OLD not in state:
            found["residual"] = tuple(_width(state, f"lrp_anchor.0.lrp_transform.{i}.weight") for i in (0, 2))
        found["parameters"] = tuple(_width(state, f"entropy_parameters_anchor.0.fusion.{i}.weight") for i in (0, 2, 4))
        return replace(default, **found)  # type: ignore[arg-type]


def _width(state: Mapping[str, Tensor], key: str) -> int:
    """Outputs of a layer of a state dict."""
    if key not in state:
        raise ValueError(f"not a state dict of this model: {key} missing; got {len(state)} keys")
    return state[key].shape[0]


# Beside narrow transforms: some 3 million parameters where the published sizes have 60.
COMPACT = Sizes((64, 64, 64), (32, 64, 32), (64, 32), (64, 32), (128, 96, 64), (64, 32))


class MLICPlusPlus(Hyperprior):
    """MLIC++: linear attention within and between slices.

    Args:
        N: channels of the hyper latent, and of the published transforms.
        M: channels of the latent, a multiple of ``slices``.
        widths: None for the published transforms; three widths for JAHP's narrow ones (g_a, g_s, h_a, h_s are then
            those of :class:`fastlic.models.JAHP`, keys included).
        qualities: number of trained qualities served by gain vectors; 0 builds the plain fixed-rate model.
        slices: default one per 32 channels.
        sizes: channels inside the entropy model; default the published ones, or ``COMPACT`` beside ``widths``.
        generation: 2024, or 2023 for the first checkpoints, whose synthesis and residual prediction differ.
        blocks: residual blocks behind each normalisation of narrow transforms, as the published ones have them.
        early: the first slice's anchors are coded in two passes, those of even rows first, so that half of them know
            more than the hyperprior. No published model does that.

    ``MLICPlusPlus(192, 320)`` is the published model.
    """

    family = "mlic++"
    linear = True
    has_inter = True

    def __init__(
        self,
        N: int,
        M: int,
        widths: tuple[int, int, int] | None = None,
        qualities: int = 0,
        slices: int | None = None,
        sizes: Sizes | Mapping[str, Any] | None = None,
        generation: int = 2024,
        blocks: int = 0,
        early: bool = False,
    ) -> None:
        self.slices = slices if slices is not None else max(M // SLICE_CHANNELS, 1)
        if M % (2 * self.slices):
            raise ValueError(f"M must be a multiple of twice the number of slices, got M={M} and {self.slices} slices")
        if generation not in (2023, 2024):
            raise ValueError(f"generation must be 2023 or 2024, got {generation}")
        if blocks and widths is None:
            raise ValueError(
                "blocks are for narrow transforms: the published ones have theirs; give widths or leave out"
            )
        self.generation, self.blocks, self.early = generation, blocks, early
        given = Sizes.of(sizes) if sizes is not None else (COMPACT if widths is not None else Sizes())
        self.sizes = replace(given, **self._unused_sizes(given))  # type: ignore[arg-type]
        self.narrow = widths is not None
        super().__init__(N, M, widths, qualities)
        if not self.narrow:
            self.g_a = transforms.AnalysisTransform(N, M)  # type: ignore[assignment]
            first = M if generation == 2024 else N
            self.g_s = transforms.SynthesisTransform(N, M, first)  # type: ignore[assignment]
        elif blocks:
            self.g_a = transforms.narrow_analysis(self.widths, M, blocks)
            self.g_s = transforms.narrow_synthesis(self.widths, M, blocks)
        self._build_entropy_model()

    def _hyper_networks(self) -> tuple[nn.Module, nn.Module]:  # type: ignore[override]
        if self.narrow:
            return hyper_analysis(self.M, self.N), hyper_synthesis(self.M, self.N)
        return transforms.HyperAnalysis(self.M, self.N), transforms.HyperSynthesis(self.M, self.N)

    def _build_entropy_model(self) -> None:
        c, m, sizes = self.slice_channels, self.M, self.sizes

        def later(make: Any) -> nn.ModuleList:
            """One module for every slice but the first; None keeps the official indexes."""
            return nn.ModuleList([None, *(make(i) for i in range(1, self.slices))])  # type: ignore[list-item]

        def residual(i: int) -> LatentResidualPrediction:
            channels = m + c * (i + 1)
            hidden = sizes.residual if self.generation == 2024 else residual_sizes_2023(channels, c)
            return LatentResidualPrediction(channels, hidden, c)

        past = sizes.channel[-1] + (sizes.inter[-1] if self.has_inter else 0)  # what is known of earlier slices
        here = sizes.local[-1] + sizes.intra[-1]
        self.local_context = nn.ModuleList(self._local() for _ in range(self.slices))
        self.channel_context = later(lambda i: ChannelContext(c * i, sizes.channel))
        if self.has_inter:
            self.global_inter_context = later(lambda i: GlobalInterContext(c * i, i, sizes.inter, self.linear))
        self.global_intra_context = later(lambda i: GlobalIntraContext(c, sizes.intra, self.linear))
        self.entropy_parameters_anchor = nn.ModuleList(
            EntropyParameters(2 * m + (past if i else 0), sizes.parameters, 2 * c) for i in range(self.slices)
        )
        self.entropy_parameters_nonanchor = nn.ModuleList(
            EntropyParameters(2 * m + (past + here if i else sizes.local[-1]), sizes.parameters, 2 * c)
            for i in range(self.slices)
        )
        if self.early:
            self.early_context = ChannelContext(c, sizes.channel)
            self.entropy_parameters_early = EntropyParameters(2 * m + sizes.channel[-1], sizes.parameters, 2 * c)
            self.start_early()
        self.lrp_anchor = nn.ModuleList(residual(i) for i in range(self.slices))
        self.lrp_nonanchor = nn.ModuleList(residual(i) for i in range(self.slices))

    @torch.no_grad()
    def start_early(self) -> None:
        """The second pass of the first slice's anchors begins as the first: it does not look at its context yet."""
        old, new = self.entropy_parameters_anchor[0], self.entropy_parameters_early
        state = dict(old.state_dict())  # type: ignore[union-attr]
        first = next(iter(state))
        state[first] = torch.cat(
            [torch.zeros_like(new.state_dict()[first][:, : self.sizes.channel[-1]]), state[first]], 1
        )
        new.load_state_dict(state)

    def _local(self) -> nn.Module:
        return LocalContext(self.slice_channels, self.sizes.local)

    def _unused_sizes(self, given: Sizes) -> dict[str, tuple[int, ...]]:
        """Default values for sizes that this model has no use for, so that equal models have equal configurations."""
        default = Sizes()
        unused: dict[str, tuple[int, ...]] = {}
        if self.slices == 1:
            unused |= {"intra": default.intra} if self.early else {"channel": default.channel, "intra": default.intra}
        if self.slices == 1 or not self.has_inter:
            unused["inter"] = default.inter
        if self.generation == 2023:
            unused["residual"] = default.residual
        return unused

    @property
    def slice_channels(self) -> int:
        """Channels of one slice."""
        return self.M // self.slices

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as they travel in a saved codec."""
        return {
            "N": self.N,
            "M": self.M,
            "widths": list(self.widths) if self.narrow else None,
            "qualities": self.qualities,
            "slices": self.slices,
            "sizes": {name: list(value) for name, value in asdict(self.sizes).items()},
            "generation": self.generation,
            "blocks": self.blocks,
            "early": self.early,
        }

    @staticmethod
    def infer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Constructor arguments read off the shapes of a state dict.

        Raises:
            ValueError: a key that every such model has is missing.
        """
        slices = sum(k.startswith("lrp_anchor.") and k.endswith("lrp_transform.0.weight") for k in state)
        narrow = "g_a.0.weight" in state
        gain = state.get("gain.log_gain")
        return {
            "N": _width(state, "h_a.0.weight" if narrow else "h_a.reduction.0.weight"),
            "M": _width(state, "g_a.6.weight" if narrow else "g_a.analysis_transform.6.weight"),
            "widths": tuple(_width(state, f"g_a.{i}.weight") for i in (0, 2, 4)) if narrow else None,
            "qualities": 0 if gain is None else gain.shape[0],
            "slices": slices,
            "sizes": asdict(Sizes.inferred(state, slices)),
            "generation": 2023 if _OLD in state else 2024,
            "blocks": sum(k.startswith("g_a.1.blocks.") and k.endswith(".conv1.weight") for k in state),
            "early": _EARLY in state,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """A model of the right size with the given weights.

        Args:
            state: a state dict, or a published checkpoint of MLIC++, of 2023 or 2024, with whatever it holds besides.

        Raises:
            ValueError: keys are missing, unknown, or of the wrong shape; the message lists them.
        """
        return super().from_state_dict(normalise(state))

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Self:
        """A model from a checkpoint file.

        Raises:
            FileNotFoundError: no such file.
            CodecFileError: no checkpoint of such a model; nothing in a file is executed.
        """
        content = read_checkpoint(Path(path))
        try:
            return cls.from_state_dict(content)
        except MALFORMED as error:
            raise CodecFileError(f"{path}: {error}") from error

    def past_contexts(self, index: int, decoded: list[Tensor]) -> list[Tensor]:
        """What earlier slices tell about slice ``index``, for both of its passes, in the order of the weights."""
        if index == 0:
            return []
        joined = torch.cat(decoded, 1)
        channel = self.channel_context[index](joined)
        return [self.global_inter_context[index](joined), channel] if self.has_inter else [channel]

    def near_contexts(self, index: int, decoded: list[Tensor], slice_anchors: Tensor) -> list[Tensor]:
        """What the anchors of slice ``index`` tell about its other positions, in the order of the weights."""
        local = self.local_context[index](slice_anchors)
        if index == 0:
            return [local]
        return [local, self.global_intra_context[index](decoded[-1], slice_anchors)]

    def refined_anchors(self, head: Tensor, coded: Tensor, hyper: Tensor) -> Tensor:
        """What is known of the first slice's anchors, those of odd rows from those of even rows as well.

        Args:
            head: [B, 2 C, h, w], scales and means from the hyperprior.
            coded: [B, C, h, w], of which anchors in even rows are looked at, before residual prediction.
        """
        even = even_rows(coded)
        context = self.early_context(anchors(coded) * even)
        refined: Tensor = self.entropy_parameters_early(torch.cat([context, hyper], 1))
        return torch.where(even > 0, head, refined)

    def code_latent(
        self, y: Tensor, z_hat: Tensor, worth: Tensor | float | None = None, slices: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """(y_hat, likelihoods of y); rounding passes gradients straight through, noise is for the likelihood alone.

        Args:
            slices: only so many, the first ones; both results have their channels alone.
        """
        code = self.gaussian_conditional
        hyper = self.h_s(z_hat)[:, :, : y.shape[2], : y.shape[3]]
        hyper_means = hyper.chunk(2, 1)[1]
        decoded: list[Tensor] = []
        likelihoods = []
        for index, target in enumerate(y.chunk(self.slices, 1)[:slices]):
            past = [*self.past_contexts(index, decoded), hyper]
            head = self.entropy_parameters_anchor[index](torch.cat(past, 1))
            scales_a, means_a = head.chunk(2, 1)
            if self.early and index == 0:
                coded = code.rounded(target, scales_a, means_a, worth)
                scales_a, means_a = self.refined_anchors(head, coded, hyper).chunk(2, 1)
            first = anchors(code.rounded(target, scales_a, means_a, worth))
            residue = self.lrp_anchor[index](torch.cat([hyper_means, *decoded, first], 1))
            first = first + anchors(residue)
            near = self.near_contexts(index, decoded, first)
            scales_n, means_n = self.entropy_parameters_nonanchor[index](torch.cat([*near, *past], 1)).chunk(2, 1)
            whole = first + others(code.rounded(target, scales_n, means_n, worth))
            residue = self.lrp_nonanchor[index](torch.cat([hyper_means, *decoded, whole], 1))
            scales = anchors(scales_a) + others(scales_n)
            means = anchors(means_a) + others(means_n)
            likelihoods.append(code(target, scales, means, worth)[1])
            decoded.append(whole + others(residue))
        return torch.cat(decoded, 1), torch.cat(likelihoods, 1)


class MLICPlus(MLICPlusPlus):
    """MLIC+: as MLIC++ with softmax attention. Arguments as for :class:`MLICPlusPlus`."""

    family = "mlic+"
    linear = False


class MLIC(MLICPlusPlus):
    """MLIC: stacked convolutions as local context, no inter context, softmax attention within a slice.

    Arguments as for :class:`MLICPlusPlus`; ``MLIC(192, 192)`` is the published size.
    """

    family = "mlic"
    linear = False
    has_inter = False

    def _local(self) -> nn.Module:
        return StackedLocalContext(self.slice_channels, self.sizes.local[-1])

    def _unused_sizes(self, given: Sizes) -> dict[str, tuple[int, ...]]:
        return {**super()._unused_sizes(given), "local": (Sizes().local[0], given.local[-1])}
