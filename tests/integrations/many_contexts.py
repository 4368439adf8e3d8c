"""Models of CompressAI's main branch around MLIC's contexts, built small: what their modules hold and compute.

Written from the family's description (docs/mlic.md) on the interface of main_branch.py, apart from fastlic's modules:
these tests hold the two against each other. Slices have eight channels, and heads and hidden layers are as few.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from compressai.entropy_models import EntropyBottleneck
from compressai.models import SimpleVAECompressionModel
from torch import Tensor

from .conftest import image

VARIANTS = ("mlic", "mlic+", "mlic++")
LATENT, OWN, SLICES, HYPER = 24, 8, 3, 8


def gelus(*layers: nn.Module) -> nn.Sequential:
    out: list[nn.Module] = []
    for layer in layers:
        out += [layer, nn.GELU()]
    return nn.Sequential(*out[:-1])


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)


def twice(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv(inputs, 4 * outputs), nn.PixelShuffle(2))


def is_anchor(x: Tensor) -> Tensor:
    rows, columns = x.shape[2:]
    return (torch.arange(rows)[:, None] + torch.arange(columns)) % 2 == 1


def merged(inner: str, network: nn.Sequential) -> nn.Module:
    class Merged(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = getattr(self, inner)(x)
            return out

    own = Merged()
    setattr(own, inner, network)
    return own


class Attention(nn.Module):
    """Queries, keys and values by two convolutions each, and a projection with an MLP behind."""

    def __init__(self, channels: int, heads: int, projected: int, outputs: int, linear: bool) -> None:
        super().__init__()
        self.num_heads, self.linear = heads, linear
        self.keys, self.queries, self.values = (
            nn.Sequential(conv(channels, channels, 1), conv(channels, channels, groups=channels)) for _ in range(3)
        )
        self.reprojection = conv(channels, projected, 5)
        self.mlp = gelus(conv(projected, 12, 1), conv(12, 12, groups=12), conv(12, outputs, 1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, near: Tensor | None = None) -> Tensor:
        """Each [B, C, positions]."""
        q, k, v = (x.unflatten(1, (self.num_heads, -1)) for x in (q, k, v))
        if self.linear:
            mixed = torch.einsum("bhdm,bhem->bhde", k.softmax(3), v)
            return torch.einsum("bhde,bhdn->bhen", mixed, q.softmax(2)).flatten(1, 2)
        scores = torch.einsum("bhdn,bhdm->bhnm", q, k) / q.shape[2] ** 0.5
        if near is not None:
            scores = scores.masked_fill(near, -100.0)
        return torch.einsum("bhnm,bhem->bhen", scores.softmax(3), v).flatten(1, 2)


class Between(Attention):
    def __init__(self, index: int, linear: bool) -> None:
        super().__init__(index * OWN, index, 10, 6, linear)
        self.skip = conv(10, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (net(x).flatten(2) for net in (self.queries, self.keys, self.values))
        x = self.reprojection(self.attend(q, k, v).reshape(x.shape))
        return self.skip(x) + self.mlp(x)


class Within(Attention):
    """From a slice's parameters the slice before it, and the anchors of the slice."""

    def __init__(self, index: int, linear: bool) -> None:
        super().__init__(OWN, 2, 6, 6, linear)
        self.first = 2 * LATENT + (index - 1) * OWN
        if not linear:
            self.local_mask_radius = 2

    def forward(self, side: Tensor, current: Tensor) -> Tensor:
        before, anchor = side[:, self.first : self.first + OWN], is_anchor(current)
        to, at = torch.nonzero(~anchor), torch.nonzero(anchor)
        q = self.queries(before * ~anchor)[:, :, to[:, 0], to[:, 1]]
        k = self.keys(before * anchor)[:, :, at[:, 0], at[:, 1]]
        v = self.values(current)[:, :, at[:, 0], at[:, 1]]
        near = None if self.linear else (to[:, None] - at).abs().amax(2) <= self.local_mask_radius
        x = torch.zeros_like(before)
        x[:, :, to[:, 0], to[:, 1]] = self.attend(q, k, v, near)
        x = self.reprojection(x)
        return x + self.mlp(x)


class Windows(nn.Module):
    """Attention in the 5x5 window of every position; channels enter the two heads in turns."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 2
        self.qkv_proj, self.proj = nn.Linear(OWN, 3 * OWN), nn.Linear(6, 6)
        self.norm1, self.norm2, self.fusion = nn.LayerNorm(OWN), nn.LayerNorm(6), nn.Conv2d(OWN, 6, 5)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(6, 14), nn.Linear(14, 6)
        self.relative_position_table = nn.Parameter(torch.randn(81, 2))
        place = torch.stack(torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij"), -1).reshape(25, 2)
        apart = place[:, None] - place + 4
        self.register_buffer("relative_position_index", apart[..., 0] * 9 + apart[..., 1])

    def forward(self, x: Tensor) -> Tensor:
        images, _, rows, columns = x.shape
        qkv = self.qkv_proj(self.norm1(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        qkv = F.unfold(qkv, 5, padding=2).reshape(images, 3, OWN // 2, 2, 25, -1)
        q, k, v = qkv.unbind(1)  # [images, channels of a head, heads, tokens, positions]
        scores = torch.einsum("bdhsp,bdhtp->bphst", q, k) / (OWN // 2) ** 0.5
        scores = scores + self.relative_position_table[self.relative_position_index].permute(2, 0, 1)
        anchor = F.unfold(is_anchor(x)[None, None].float(), 5, padding=2)[0].T > 0
        scores = scores - 100.0 * ~(anchor[:, None, :, None] & anchor[:, None, None])
        out = torch.einsum("bphst,bdhtp->bphds", scores.softmax(4), v).reshape(-1, OWN, 5, 5)
        out = self.proj(self.fusion(out).reshape(images, rows, columns, 6))
        out = out + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(out))))
        return out.permute(0, 3, 1, 2)


class Prior(nn.Module):
    """Hands on the hyper latent's parameters and earlier slices, with what it finds in the latter behind them."""

    def __init__(self, index: int, variant: str) -> None:
        super().__init__()
        self.channel_part = self.global_inter_part = None
        if index:
            self.channel_part = merged("fushion", gelus(conv(index * OWN, 12), conv(12, 10), conv(10, 8)))
            self.global_inter_part = None if variant == "mlic" else Between(index, variant == "mlic++")

    def forward(self, x: Tensor) -> Tensor:
        earlier = x[:, 2 * LATENT :]
        return torch.cat([x, *(p(earlier) for p in (self.global_inter_part, self.channel_part) if p is not None)], 1)


class Parameters(nn.Module):
    """Scales and means of a slice; ``near``: whether of positions that know its anchors."""

    def __init__(self, index: int, variant: str, near: bool) -> None:
        super().__init__()
        self.index, self.near = index, near
        past = 0 if index == 0 else 8 if variant == "mlic" else 14
        inputs = 2 * LATENT + past + near * (12 if index else 6)
        self.fusion = gelus(conv(inputs, 16, 1), conv(16, 12, 1), conv(12, 10, 1), conv(10, 2 * OWN, 1))

    def forward(self, x: Tensor) -> Tensor:
        local, x = (x[:, :6], x[:, 6:]) if self.near else (x[:, :0], x)
        intra, x = (x[:, -6:], x[:, :-6]) if self.near and self.index else (x[:, :0], x)
        past = x[:, 2 * LATENT + self.index * OWN :]
        return self.fusion(torch.cat([local, intra, past, x[:, : 2 * LATENT]], 1))


class Residue(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        self.lrp_transform = gelus(conv(LATENT + (index + 1) * OWN, 12), conv(12, 8), conv(8, OWN))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.lrp_transform(x)) / 2


class Builder:
    """What residues read of a slice's parameters: means of the hyper latent, earlier slices, and the slice so far."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, side: Tensor, _params: Tensor, y_hat: Tensor) -> Tensor:
        return torch.cat([side[:, LATENT : 2 * LATENT + self.index * OWN], y_hat], 1)


def leaf(index: int, variant: str, codecs: Any) -> Any:
    local = merged("context", gelus(conv(OWN, OWN, 5), conv(OWN, OWN, 5), conv(OWN, 6, 5)))
    return codecs.MultiContextCheckerboardLatentCodec(
        entropy_parameters_anchor=Parameters(index, variant, near=False),
        entropy_parameters_nonanchor=Parameters(index, variant, near=True),
        spatial_context_nonanchor=local if variant == "mlic" else Windows(),
        intra_channel_context_nonanchor=Within(index, variant == "mlic++") if index else None,
        lrp_anchor=Residue(index),
        lrp_nonanchor=Residue(index),
        lrp_input_builder=Builder(index),
        lrp_activation=None,
        lrp_scale=1.0,
        anchor_parity="odd",
    )


def latent_codec(variant: str, codecs: Any) -> Any:
    """A HyperpriorLatentCodec of 24 channels in three slices, its z with eight."""

    class SideContext(codecs.ChannelGroupsLatentCodec):
        def _get_ctx_params(self, k: int, side_params: Tensor, y_hat_: Any) -> Tensor:
            earlier = [y_hat_[i] for i in self.support_slices[k]]
            return self.channel_context[f"y{k}"](self.merge_params(side_params, *earlier))

    y = SideContext(
        {f"y{k}": leaf(k, variant, codecs) for k in range(SLICES)},
        {f"y{k}": Prior(k, variant) for k in range(SLICES)},
        groups=[OWN] * SLICES,
        support_slices=[list(range(k)) for k in range(SLICES)],
    )
    wide = LATENT * 3 // 2
    layers = (conv(HYPER, LATENT), twice(LATENT, LATENT), conv(LATENT, wide), twice(wide, wide), conv(wide, 2 * LATENT))
    z = codecs.EntropyBottleneckLatentCodec(EntropyBottleneck(HYPER), quantizer="ste")
    h_a = nn.Conv2d(LATENT, HYPER, 5, 4, 2)
    return codecs.HyperpriorLatentCodec({"y": y, "z": z}, h_a=h_a, h_s=merged("increase", gelus(*layers)))


@torch.no_grad()
def contextual(variant: str, codecs: Any) -> Any:
    """A model with transforms of two layers, whose contexts matter and whose scales follow its latent."""

    class Contextual(SimpleVAECompressionModel):
        def __init__(self) -> None:
            super().__init__()
            self.g_a = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU(), nn.Conv2d(8, LATENT, 5, 4, 2))
            self.g_s = nn.Sequential(nn.ConvTranspose2d(LATENT, 8, 4, 4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 4))
            self.latent_codec = latent_codec(variant, codecs)

    torch.manual_seed(2)
    model = Contextual().eval()
    model.g_a[2].weight.mul_(30)
    own, y = model.latent_codec, model.g_a(image(1))
    own.h_a.weight.mul_(4)
    own.h_s.increase[-1].weight.mul_(6)
    deviations = y.std((0, 2, 3)).split(OWN)
    for k in range(SLICES):
        leaf = own.y.latent_codec[f"y{k}"]
        for network in (leaf.entropy_parameters_anchor, leaf.entropy_parameters_nonanchor):
            network.fusion[-1].weight.mul_(6)
            network.fusion[-1].bias[:OWN] = deviations[k]
        for network in (leaf.lrp_anchor, leaf.lrp_nonanchor):
            network.lrp_transform[-1].weight.mul_(6)
    model.update()
    return model
