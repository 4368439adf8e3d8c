"""Analysis, synthesis and hyper networks of MLIC++; their keys are those of the official checkpoints.

All convolutions have a bias, 3x3 ones a padding of 1; GELU is the exact one.
"""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from fastlic.models.inference import Gelu
from fastlic.models.layers import GDN, conv, deconv


def conv3(cin: int, cout: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution that divides height and width by ``stride``."""
    return nn.Conv2d(cin, cout, 3, stride, 1)


def subpel(cin: int, cout: int) -> nn.Sequential:
    """3x3 convolution and pixel shuffle: doubles height and width."""
    return nn.Sequential(conv3(cin, 4 * cout), nn.PixelShuffle(2))


class ResidualBlock(nn.Module):
    """GELU(conv(GELU(conv x))) + x, with a 1x1 convolution on the way past if the channels differ."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv1 = conv3(cin, cout)
        self.conv2 = conv3(cout, cout)
        self.act = Gelu()
        self.skip = nn.Conv2d(cin, cout, 1) if cin != cout else None

    def forward(self, x: Tensor) -> Tensor:  # [N, cin, h, w] -> [N, cout, h, w]
        out: Tensor = self.act(self.conv2(self.act(self.conv1(x))))
        return out + (x if self.skip is None else self.skip(x))


class ResidualBlockWithStride(nn.Module):
    """GDN(conv(GELU(conv/2 x))) + conv1x1/2 x: halves height and width."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv1 = conv3(cin, cout, 2)
        self.act = Gelu()
        self.conv2 = conv3(cout, cout)
        self.gdn = GDN(cout)
        self.skip = nn.Conv2d(cin, cout, 1, 2)

    def forward(self, x: Tensor) -> Tensor:  # [N, cin, h, w] -> [N, cout, h/2, w/2]
        out: Tensor = self.gdn(self.conv2(self.act(self.conv1(x))))
        return out + self.skip(x)


class ResidualBlockUpsample(nn.Module):
    """IGDN(conv(GELU(subpel x))) + subpel' x: doubles height and width."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.subpel_conv = subpel(cin, cout)
        self.act = Gelu()
        self.conv = conv3(cout, cout)
        self.igdn = GDN(cout, inverse=True)
        self.upsample = subpel(cin, cout)

    def forward(self, x: Tensor) -> Tensor:  # [N, cin, h, w] -> [N, cout, 2h, 2w]
        out: Tensor = self.igdn(self.conv(self.act(self.subpel_conv(x))))
        return out + self.upsample(x)


class RefinedGDN(GDN):
    """GDN or IGDN with ``blocks`` residual blocks behind it, each of which begins as the identity."""

    def __init__(self, channels: int, inverse: bool, blocks: int) -> None:
        super().__init__(channels, inverse)
        self.blocks = nn.Sequential(*(ResidualBlock(channels, channels) for _ in range(blocks)))
        for block in self.blocks:
            nn.init.zeros_(block.conv2.weight)  # type: ignore[union-attr, arg-type]
            nn.init.zeros_(block.conv2.bias)  # type: ignore[union-attr, arg-type]

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, H, W]
        out: Tensor = self.blocks(super().forward(x))
        return out


def narrow_analysis(widths: tuple[int, int, int], latent_channels: int, blocks: int) -> nn.Sequential:
    """JAHP's g_a with residual blocks behind each GDN; keys beyond theirs are ``<GDN>.blocks.<block>``."""
    a, b, c = widths
    stages = ((3, a), (a, b), (b, c))
    layers = [layer for cin, cout in stages for layer in (conv(cin, cout), RefinedGDN(cout, False, blocks))]
    return nn.Sequential(*layers, conv(c, latent_channels))


def narrow_synthesis(widths: tuple[int, int, int], latent_channels: int, blocks: int) -> nn.Sequential:
    """JAHP's g_s with residual blocks behind each IGDN; ``widths`` as given to the analysis transform."""
    a, b, c = widths
    stages = ((latent_channels, c), (c, b), (b, a))
    layers = [layer for cin, cout in stages for layer in (deconv(cin, cout), RefinedGDN(cout, True, blocks))]
    return nn.Sequential(*layers, deconv(a, 3))


class AnalysisTransform(nn.Module):
    """g_a: [N, 3, H, W] to the latent [N, M, H/16, W/16]."""

    def __init__(self, N: int, M: int) -> None:
        super().__init__()
        self.analysis_transform = nn.Sequential(
            ResidualBlockWithStride(3, N),
            ResidualBlock(N, N),
            ResidualBlockWithStride(N, N),
            ResidualBlock(N, N),
            ResidualBlockWithStride(N, N),
            ResidualBlock(N, N),
            conv3(N, M, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.analysis_transform(x)
        return y


class SynthesisTransform(nn.Module):
    """g_s: the latent [N, M, h, w] to [N, 3, 16h, 16w].

    Args:
        first: channels of the first block: M in the checkpoints of 2024, N in those of 2023.
    """

    def __init__(self, N: int, M: int, first: int) -> None:
        super().__init__()
        self.synthesis_transform = nn.Sequential(
            ResidualBlock(M, first),
            ResidualBlockUpsample(first, N),
            ResidualBlock(N, N),
            ResidualBlockUpsample(N, N),
            ResidualBlock(N, N),
            ResidualBlockUpsample(N, N),
            ResidualBlock(N, N),
            subpel(N, 3),
        )

    def forward(self, y: Tensor) -> Tensor:
        x: Tensor = self.synthesis_transform(y)
        return x


class HyperAnalysis(nn.Module):
    """h_a: the latent [N, M, h, w] to the hyper latent [N, C, h/4, w/4]."""

    def __init__(self, M: int, N: int) -> None:
        super().__init__()
        self.reduction = nn.Sequential(
            conv3(M, N),
            Gelu(),
            conv3(N, N),
            Gelu(),
            conv3(N, N, 2),
            Gelu(),
            conv3(N, N),
            Gelu(),
            conv3(N, N, 2),
        )

    def forward(self, y: Tensor) -> Tensor:
        z: Tensor = self.reduction(y)
        return z


class HyperSynthesis(nn.Module):
    """h_s: the hyper latent [N, C, h/4, w/4] to [N, 2M, h, w]; the second half serves as means."""

    def __init__(self, M: int, N: int) -> None:
        super().__init__()
        wide = M * 3 // 2
        self.increase = nn.Sequential(
            conv3(N, M),
            Gelu(),
            subpel(M, M),
            Gelu(),
            conv3(M, wide),
            Gelu(),
            subpel(wide, wide),
            Gelu(),
            conv3(wide, 2 * M),
        )

    def forward(self, z: Tensor) -> Tensor:
        features: Tensor = self.increase(z)
        return features
