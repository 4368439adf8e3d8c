"""Blocks with attention within windows, as models write them in classes of their own: read, proven, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

compressai_layers = pytest.importorskip("compressai.layers")

import fastlic  # noqa: E402
from fastlic.integers.conversion import Precision, calibrated, convert  # noqa: E402
from fastlic.integers.graph import Graph, WindowAttention  # noqa: E402
from fastlic.integrations.compressai import traces  # noqa: E402, F401
from fastlic.ops.transforms import TransformEngine  # noqa: E402

from .branch_blocks import GatedMlp, Mixing, Pooled, Scale  # noqa: E402
from .conftest import check_same_everywhere, image, settings, spread  # noqa: E402
from .sliced import sliced  # noqa: E402

SIZE, HEADS, DIM = 4, 3, 12


def behind(size: int) -> tuple[Tensor, Tensor]:
    """By how many rows and columns each position of a window lies behind each, from 0."""
    at = torch.arange(size * size)
    row, column = at // size, at % size
    return row[:, None] - row + size - 1, column[:, None] - column + size - 1


def areas(height: int, width: int, size: int, shift: int) -> Tensor:
    """Of each window [windows, positions, positions], where a query and a key come from different edges."""
    area = torch.zeros(height, width)
    area[-shift:] += 1
    area[:, -shift:] += 2
    own = area.view(height // size, size, width // size, size).transpose(1, 2).reshape(-1, size * size)
    return own[:, :, None] != own[:, None]


def cut(x: Tensor, size: int) -> Tensor:
    """[1, h, w, C] -> [windows, positions, C]"""
    _, h, w, c = x.shape
    return x.view(h // size, size, w // size, size, c).transpose(1, 2).reshape(-1, size * size, c)


def paste(x: Tensor, size: int, h: int, w: int) -> Tensor:
    return x.view(h // size, w // size, size, size, -1).transpose(1, 2).reshape(1, h, w, -1)


class TableAttention(nn.Module):
    """Over windows, with a table [(2 p - 1)^2, heads]: what STF has, and timm."""

    def __init__(self, dim: int = DIM, bias: bool = True) -> None:
        super().__init__()
        self.window_size, self.num_heads, self.scale = (SIZE, SIZE), HEADS, (dim // HEADS) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.randn((2 * SIZE - 1) ** 2, HEADS))
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=bias), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        row, column = behind(SIZE)
        scores = self.scale * q @ k.mT + self.relative_position_bias_table[row * (2 * SIZE - 1) + column].movedim(2, 0)
        if mask is not None:
            scores = scores - 100.0 * mask[:, None]
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Shifting(nn.Module):
    """Maps [1, h, w, C] in windows, by ``shift_size``, and one more layer."""

    def __init__(self, shift: int, more: bool = True) -> None:
        super().__init__()
        self.shift_size, self.attn = shift, TableAttention()
        self.output_proj = nn.Linear(DIM, DIM) if more else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h, w, s = x.shape[1], x.shape[2], self.shift_size
        mask = areas(h, w, SIZE, s) if s else None
        own = paste(self.attn(cut(x.roll((-s, -s), (1, 2)), SIZE), mask), SIZE, h, w)
        return self.output_proj(own.roll((s, s), (1, 2)))


class Beside(nn.Module):
    """Attention beside its input, of maps [1, C, h, w]: ``attn`` is over windows and ``shift_size`` the block's."""

    def __init__(self, shift: int = 2) -> None:
        super().__init__()
        self.shift_size, self.attn, self.drop_path = shift, TableAttention(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h, w, s = *x.shape[2:], self.shift_size
        own = cut(x.permute(0, 2, 3, 1).roll((-s, -s), (1, 2)), SIZE)
        own = paste(self.attn(own, areas(h, w, SIZE, s) if s else None), SIZE, h, w)
        return x + self.drop_path(own.roll((s, s), (1, 2)).permute(0, 3, 1, 2))


class BesideShifting(nn.Module):
    """The same around a module that shifts."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = Shifting(2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attn(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class HeadAttention(nn.Module):
    """Maps [1, h, w, C] in windows, with parameters [heads, 2 p - 1, 2 p - 1]; ``type`` says if they are shifted."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.type, self.window_size, self.scale = kind, SIZE, (DIM // HEADS) ** -0.5
        self.relative_position_params = nn.Parameter(torch.randn(HEADS, 2 * SIZE - 1, 2 * SIZE - 1))
        self.embedding_layer, self.linear = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        h, w, s = x.shape[1], x.shape[2], SIZE // 2 if self.type == "SW" else 0
        q, k, v = self.embedding_layer(cut(x.roll((-s, -s), (1, 2)), SIZE)).chunk(3, -1)
        q, k, v = (a.unflatten(-1, (HEADS, -1)).transpose(1, 2) for a in (q, k, v))
        row, column = behind(SIZE)
        scores = q @ k.mT * self.scale + self.relative_position_params[:, row, column]
        if s:
            scores = scores.masked_fill(areas(h, w, SIZE, s)[:, None], float("-inf"))
        own = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return paste(self.linear(own), SIZE, h, w).roll((s, s), (1, 2))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.drop1 = nn.Linear(DIM, 4 * DIM), nn.GELU(), nn.Dropout(0.1)
        self.norm, self.fc2 = nn.Identity(), nn.Linear(4 * DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.norm(self.drop1(self.act(self.fc1(x)))))


class Block(nn.Module):
    """A transformer's block over [1, h, w, C], its parts under either names."""

    def __init__(self, kind: str, later: bool = False) -> None:
        super().__init__()
        norms = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        if later:
            self.norm1, self.norm2 = norms
            self.msa: nn.Module = Shifting(SIZE // 2 if kind == "SW" else 0)
            self.mlp: nn.Module = Mlp()
            self.residual_proj = nn.Linear(DIM, DIM)
        else:
            self.ln1, self.ln2 = norms
            self.msa = HeadAttention(kind)
            self.mlp = nn.Sequential(nn.Linear(DIM, 4 * DIM), nn.GELU(), nn.Linear(4 * DIM, DIM))
        self.later = later

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.norm1, self.norm2) if self.later else (self.ln1, self.ln2)
        x = x + self.msa(first(x))
        return (self.residual_proj(x) if self.later else x) + self.mlp(second(x))


class Pair(nn.Module):
    def __init__(self, later: bool = False) -> None:
        super().__init__()
        self.block_1, self.block_2 = Block("W", later), Block("SW", later)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.block_1(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class Mixed(nn.Module):
    def __init__(self, kind: str = "SW", later: bool = False) -> None:
        super().__init__()
        self.trans_block = Block(kind, later)
        self.conv1_1, self.conv1_2 = nn.Conv2d(DIM + 8, DIM + 8, 1), nn.Conv2d(DIM + 8, DIM + 8, 1)
        self.conv_block = compressai_layers.ResidualBlock(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.conv1_1(x).split((8, DIM), 1)
        two = self.trans_block(two.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + self.conv1_2(torch.cat((self.conv_block(one) + one, two), 1))


class Unit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        half = DIM // 2
        self.conv = nn.Sequential(
            nn.Conv2d(DIM, half, 1), nn.GELU(), nn.Conv2d(half, half, 3, padding=1), nn.GELU(), nn.Conv2d(half, DIM, 1)
        )
        self.relu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x) + x)


class Gated(nn.Module):
    """Two branches, one of which begins with attention and gates the other."""

    def __init__(self, first: Callable[[], nn.Module] = Beside) -> None:
        super().__init__()
        self.conv_a = nn.Sequential(Unit(), Unit())
        self.conv_b = nn.Sequential(first(), Unit(), nn.Conv2d(DIM, DIM, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_a(x) * self.conv_b(x).sigmoid()


class Between(compressai_layers.AttentionBlock):  # type: ignore[misc, name-defined]
    """CompressAI's attention with two blocks in front of its gate, between two layers."""

    def __init__(self) -> None:
        super().__init__(DIM)
        self.non_local_block = Pair()
        self.in_conv, self.out_conv = nn.Conv2d(20, DIM, 1), nn.Conv2d(DIM, 20, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.in_conv(x)
        return self.out_conv(x + self.conv_a(x) * self.conv_b(self.non_local_block(x)).sigmoid())


class ScaledBlock(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.ln1, self.ln2, self.msa, self.mlp = (
            nn.LayerNorm(DIM),
            nn.LayerNorm(DIM),
            HeadAttention(kind),
            GatedMlp(DIM, 10),
        )
        self.res_scale_1, self.res_scale_2 = Scale(DIM), Scale(DIM)

    def forward(self, x: Tensor) -> Tensor:
        x = self.res_scale_1(x) + self.msa(self.ln1(x))
        return self.res_scale_2(x) + self.mlp(self.ln2(x))


class Stack(nn.Module):
    """Blocks and a layer beside their input, as DCAE has them; maps that windows do not fill are padded."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([ScaledBlock("W"), ScaledBlock("SW")])
        self.conv = nn.Conv2d(DIM, DIM, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        below, right = (-n % SIZE for n in x.shape[2:])
        padded = F.pad(x, (0, right, 0, below))
        y = padded.permute(0, 2, 3, 1)
        for layer in self.layers:
            y = layer(y)
        y = self.conv(y.permute(0, 3, 1, 2)) + padded
        return y[..., : x.shape[2], : x.shape[3]] if below or right else y


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "beside its input": Beside,
    "without a shift": lambda: Beside(0),
    "shifted by one": lambda: Beside(1),
    "beside its input, wrapped": BesideShifting,
    "gating": Gated,
    "gating, wrapped": lambda: Gated(BesideShifting),
    "a pair": Pair,
    "a pair, later": lambda: Pair(True),
    "mixed": Mixed,
    "mixed, without a shift": lambda: Mixed("W"),
    "mixed, later": lambda: Mixed(later=True),
    "between layers": Between,
    "a stack of gated units": Stack,
    "pooled": lambda: Pooled(DIM),
    "mixing": lambda: Mixing(DIM),
}


def made(name: str) -> tuple[Any, int]:
    torch.manual_seed(5)
    block = BLOCKS[name]().eval()
    with torch.no_grad():
        for part in block.modules():
            if isinstance(part, nn.LayerNorm):
                part.weight.mul_(torch.rand(DIM) + 0.5)
                part.bias.add_(0.3 * torch.randn(DIM))
    return block, 20 if name.startswith(("mixed", "between")) else DIM


@torch.no_grad()
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_read_by_what_they_hold_and_integers_follow_them(name):
    block, channels = made(name)
    graph = Graph.of(nn.Sequential(nn.Conv2d(3, channels, 1), block), "m")
    windows = any(isinstance(operation, WindowAttention) for operation in graph.operations)
    assert windows != isinstance(block, (Pooled, Mixing))
    whole = Graph.of(block, "m")
    for size in ((8, 8), (12, 8), (8, 20)):
        x = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(size[1]))
        want = block(x)
        assert (whole.run(x) - want).abs().max() < 1e-5 * want.abs().max()
    graph.end(channels)
    x = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    x = (F.interpolate(x, (16, 24), mode="bicubic").clamp(0, 1) * 255).round()
    network = convert(graph, calibrated(graph, [x / 255]), Precision(), finest=None, pixels_out=False, outputs=2.0**-10)
    got, want = network(x[0].long()), graph.run(x / 255)[0]
    assert (got * 2.0**-10 - want).square().mean().sqrt() < 4e-3 * want.std()
    engine, pixels = TransformEngine("n", network.to_arrays("n")), x[0].to(torch.uint8).numpy()
    for _ in settings():
        assert torch.equal(torch.from_numpy(engine.run(pixels, band=3)).long(), got)


class Doubled(Beside):
    """Whose attention counts twice."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x) - x


class After(Pair):
    """With a norm where none is expected."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(super().forward(x), x.shape[1:])


class Elsewhere(Pair):
    """Whose forward wants two maps."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward(x) + y


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (Doubled, r"m\.1 is a Doubled, which has the parts of a block with windows but does not compute"),
        (After, r"m\.1 is a After, which has the parts"),
        (Elsewhere, r"m\.1 is a Elsewhere, which does not run on a map"),
    ],
)
def test_blocks_that_compute_something_else_are_refused_in_words(block, why):
    torch.manual_seed(6)
    with pytest.raises(ValueError, match=why):
        Graph.of(nn.Sequential(nn.Conv2d(3, DIM, 1), block().eval()), "m")


def test_blocks_that_hold_what_has_no_integer_form_name_it():
    block = Gated().eval()
    block.conv_a[1].conv[1] = nn.Tanh()
    with pytest.raises(ValueError, match=r"m\.conv_a\.1\.conv\.1 is a Tanh"):
        Graph.of(block, "m")
    lacks = Beside().eval()
    lacks.attn.relative_position_bias_table = nn.Parameter(torch.zeros(48, HEADS))
    with pytest.raises(ValueError, match=r"m is a Beside, which has no integer form"):
        Graph.of(lacks, "m")


def test_models_with_such_blocks_run_on_integers():
    """Streams and pixels of an accelerated model are the same on every instruction set."""
    from compressai.models import ScaleHyperprior

    torch.manual_seed(7)
    model = ScaleHyperprior(DIM, DIM).eval()
    model.g_a.insert(2, Gated().eval())
    model.g_s.insert(2, Pair().eval())
    model.update(force=True)
    x = torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(8))
    x = F.interpolate(x, scale_factor=8, mode="bicubic").clamp(0, 1)
    with torch.no_grad():
        spread(model.g_a, lambda: model.g_a(x), 3.0)
        spread(model.g_s, lambda: model.g_s(model.g_a(x)), 0.2, 0.5)
        y = model.g_a((x * 255).round() / 255)
        want = model.g_s(y.round()).clamp(0, 1)
        report = fastlic.accelerate(model, calibration=[x[0]], transforms="integer")
        rows = {row.part: row for row in report.rows}
        assert all(rows[f"transform {name}"].by == "integers" for name in ("g_a", "h_a", "g_s"))
        assert (model.g_a(x) - y).square().mean().sqrt() < 0.02
        assert (model.g_s(y.round()) - want).square().mean().sqrt() < 0.003
        check_same_everywhere(x, model)
        with pytest.raises(ValueError, match=r"multiples of 4, it is .* pad images to multiples of 8 "):
            model.compress(x[..., :-4])
        with pytest.raises(ValueError, match=r"multiples of 4, it is [^:]*$"):
            model.g_s(torch.zeros(1, DIM, 1, 3))


@torch.no_grad()
def test_entropy_networks_go_on_where_windows_do_not_fill_their_maps():
    model, x = sliced(n=DIM), image(1, 64, 192)
    torch.manual_seed(4)
    model.h_mean_s.insert(1, Pair().eval())  # on maps of 2 x 6
    report = fastlic.accelerate(model, calibration=[image(1)[0]])
    assert any(row.by == "integers, 3 slices" for row in report.rows)
    integers = vars(model)["_fastlic"].coder.integers
    assert integers.networks["hyper.mean"].multiple == 2 and integers.networks["hyper.scale"].multiple == 1
    coded = model.compress(x)
    assert model.decompress(coded["strings"], coded["shape"])["x_hat"].shape == x.shape
    vars(model)["_fastlic"].coder.settings.backend = "reference"
    assert model.compress(x) == coded


@torch.no_grad()
def test_hyper_latents_go_on_where_windows_do_not_fill_maps():
    """Of images that the model takes: the integers of its h_a are as large, and everywhere the same."""
    model, x = sliced(n=DIM), image(1, 64, 192)
    torch.manual_seed(4)
    model.h_a.insert(2, Stack().eval())  # on maps of 2 x 6
    plain_z = model.h_a(model.g_a(x))
    report = fastlic.accelerate(model, calibration=[image(1)[0]], transforms="integer")
    assert {row.by for row in report.rows if row.part == "transform h_a"} == {"integers"}
    y = model.g_a(x)
    z = model.h_a(y)
    assert z.shape == plain_z.shape == (1, DIM, 1, 3)
    assert torch.equal(z, model.h_a(F.pad(y, (0, 4, 0, 4)))[:, :, :1, :3])
    coded = model.compress(x)
    pixels = model.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert pixels.shape == x.shape
    for _ in settings():
        assert model.compress(x) == coded
    vars(model)["_fastlic"].coder.settings.backend = "reference"
    assert torch.equal(model.h_a(y), z) and model.compress(x) == coded
